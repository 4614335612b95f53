"""A network of piano rolls: which of 88 keys sound in the next frame, each key for itself."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxseq.cells.base import AnyCell
from jaxseq.cells.norm import Norm
from jaxseq.music.networks.layers import CausalConv, Stack, valid_columns


class RollNet(nn.Module):
    """Dilated causal convolutions with skips, recurrent layers, and a sigmoid for each key; either part may be absent.

    x is "b t 88", 0 or 1, and `PADDING` beyond the end of a piece. Convolutions have the dilations 1, 2, 4, ... frames;
    each is added to its input (Bai et al. 2018).
    """

    cell: AnyCell
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
        """Return the state after the last frame and the logits of every key of the next frame after every frame.

        lengths  rows of length 0 are padding
        train    draw dropout, and normalise by the moments of this batch
        carries  state of an earlier call, from which this one resumes: last inputs of the convolutions, last carries
        first    number of frames that `carries` have seen
        """
        valid = valid_columns(x[..., 0], lengths)
        buffers: Any = [None] * len(self.convolutions)
        states = None
        if carries is not None:
            buffers, states = carries

        z = self._dropped(jnp.maximum(x, 0), self.input_dropout, train)
        new_buffers = []
        for number, (features, buffer) in enumerate(zip(self.convolutions, buffers, strict=True)):
            convolution = CausalConv(features, 2**number, name=f"convolution_{number}")
            new_buffer, y = convolution(jnp.swapaxes(z, 0, 1), buffer)
            new_buffers.append(new_buffer)
            y = jnp.swapaxes(y, 0, 1)
            # A skip needs as many features as the convolution gives.
            skip = z
            if z.shape[-1] != features:
                skip = nn.Dense(features, name=f"skip_{number}")(z)
            z = skip + self._dropped(nn.relu(y), self.dropout, train)

        last_carries: Any = ()
        if self.layers:
            # Each convolution ends with dropout already; inputs have a rate of their own.
            stack = Stack(
                self.cell,
                self.hidden,
                self.layers,
                norm=self.norm,
                dropout=self.dropout if self.convolutions else 0.0,
                recurrent_dropout=self.recurrent_dropout,
                name="stack",
            )
            last_carries, z = stack(z, jnp.sum(valid, axis=1), train, states, first)

        logits = nn.Dense(self.keys, name="head")(self._dropped(z, self.dropout, train))
        return (tuple(new_buffers), last_carries), logits

    def _dropped(self, x: Float[Array, "b t _"], rate: float, train: bool) -> Float[Array, "b t _"]:
        if not rate:
            return x
        return nn.Dropout(rate, deterministic=not train)(x)
