"""A network of notes, one voice after another."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxseq.cells.base import Cell
from jaxseq.cells.norm import Norm
from jaxseq.music.networks.layers import (
    CODES,
    CausalConv,
    batch_norm,
    dense_at_every_step,
    recurrent_stack,
    valid_columns,
)
from jaxseq.music.tokens import VOCABULARY


class NoteNet(nn.Module):
    """Embedding, dilated causal convolutions, recurrent layers, and a softmax over the notes, one note after another.

    x is "b t 2": the note before (a symbol of `music.tokens`, or `PADDING`), and the voice and position in the bar of the
    note to be predicted, as 16 · voice + position, which a model without `places` does not read. `symbols` are 47, or 48
    where pieces begin with a start symbol. With the defaults and an LSTM: 396,810 parameters, running moments included.
    """

    cell: Cell
    hidden: int = 256
    layers: int = 1
    convolutions: tuple[int, ...] = (32, 48, 64, 96)
    embedding: int = 5
    symbols: int = VOCABULARY
    places: bool = False
    norm: Norm | None = None
    norm_convolutions: bool = True
    dropout: float = 0.0
    recurrent_dropout: float = 0.0

    @property
    def draws(self) -> bool:
        """Whether a training step draws random numbers."""
        return bool(self.dropout or self.recurrent_dropout)

    @nn.compact
    def __call__(
        self,
        x: Int[Array, "b t 2"],
        lengths: Int[Array, "b"] | None = None,
        train: bool = False,
        carries: Any = None,
        first: int | Int[Array, ""] = 0,
    ) -> tuple[Any, Float[Array, "b t v"]]:
        """The states to go on from, and the logits of the next note after every note."""
        valid = valid_columns(x[..., 0], lengths)
        buffers, states = (None, None) if carries is None else carries
        steps = jnp.swapaxes(x, 0, 1)
        z = nn.Embed(self.symbols, self.embedding, name="notes")(jnp.maximum(steps[..., 0], 0))
        if self.places:
            z = z + nn.Embed(CODES, self.embedding, name="places")(jnp.maximum(steps[..., 1], 0))
        kept = []
        for number, features in enumerate(self.convolutions):
            before = None if buffers is None else buffers[number]
            after, z = CausalConv(features, 2**number, name=f"convolution_{number}")(z, before)
            kept.append(after)
            z = nn.relu(z)
            if self.norm_convolutions:
                z = batch_norm(f"norm_{number}", train)(z, mask=valid.T[..., None])
        stack = recurrent_stack(self, "stack")
        states, z = stack(jnp.swapaxes(z, 0, 1), jnp.sum(valid, axis=1), train, states, first)
        z = nn.Dropout(self.dropout, deterministic=not train)(z) if self.dropout else z
        logits = dense_at_every_step(nn.Dense(VOCABULARY, name="head"), jnp.swapaxes(z, 0, 1))
        return (tuple(kept), states), jnp.swapaxes(logits, 0, 1)
