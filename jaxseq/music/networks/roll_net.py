"""A Flax model of piano rolls: which of 88 keys sound in the next frame, each key for itself."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxseq.cells.base import Cell
from jaxseq.cells.norm import Norm
from jaxseq.music.networks.inputs import PADDING
from jaxseq.music.networks.layers import CausalConv, Stack


class RollNet(nn.Module):
    """Dilated causal convolutions with skips, recurrent layers, and a sigmoid for each key; either part may be absent.

    x is "b t 88", 0 or 1, `PADDING` beyond the end of a piece. Each convolution, 1, 2, 4, ... frames apart, is added to
    what came into it (Bai et al. 2018).
    """

    cell: Cell
    hidden: int = 200
    layers: int = 1
    convolutions: tuple[int, ...] = ()
    norm: Norm | None = None
    dropout: float = 0.0
    input_dropout: float = 0.0
    recurrent_dropout: float = 0.0
    keys: int = 88

    @property
    def draws(self) -> bool:
        """Whether a training step draws random numbers."""
        return bool(self.dropout or self.input_dropout or self.recurrent_dropout)

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b t d"],
        lengths: Int[Array, "b"] | None = None,
        train: bool = False,
        carries: Any = None,
        first: int = 0,
    ) -> tuple[Any, Float[Array, "b t d"]]:
        """The states to go on from, and the logits of every key of the next frame after every frame."""
        valid = x[..., 0] != PADDING
        valid = valid if lengths is None else valid & (lengths > 0)[:, None]
        buffers, states = (None, None) if carries is None else carries
        z, kept = self._drop(jnp.maximum(x, 0), self.input_dropout, train), []
        for number, features in enumerate(self.convolutions):
            before = None if buffers is None else buffers[number]
            after, y = CausalConv(features, 2**number, name=f"convolution_{number}")(jnp.swapaxes(z, 0, 1), before)
            kept.append(after)
            y = jnp.swapaxes(y, 0, 1)
            skip = z if z.shape[-1] == features else nn.Dense(features, name=f"skip_{number}")(z)
            z = skip + self._drop(nn.relu(y), self.dropout, train)
        last: Any = ()
        if self.layers:
            options = self.norm, self.dropout if self.convolutions else 0.0, self.recurrent_dropout
            stack = Stack(self.cell, self.hidden, self.layers, *options, name="stack")
            last, z = stack(z, jnp.sum(valid, axis=1), train, states, first)
        return (tuple(kept), last), nn.Dense(self.keys, name="head")(self._drop(z, self.dropout, train))

    def _drop(self, x: Array, share: float, train: bool) -> Array:
        return nn.Dropout(share, deterministic=not train)(x) if share else x
