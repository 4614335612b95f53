"""A network that reads chorales note by note, one voice after another."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxseq.cells.base import AnyCell
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
    """Embedding, dilated causal convolutions, recurrent layers, and a softmax over the next note (Géron 2019).

    x is "b t 2", from `inputs.notes`: the previous note (a symbol of `music.tokens`, or `PADDING`), and voice and
    position in the bar of the next note, as 16 · voice + position. With the defaults and an LSTM it has 396,810
    parameters, running moments included.

    symbols            size of the embedding: 47, or 48 where pieces begin with a start symbol
    places             add an embedding of voice and position
    norm_convolutions  batch norm after each convolution
    """

    cell: AnyCell
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
        """Return the state after the last step and the logits of the next note after every note.

        lengths  rows of length 0 are padding
        train    draw dropout, and normalise by the moments of this batch
        carries  state of an earlier call, from which this one resumes: last inputs of the convolutions, last carries
        first    number of time steps that `carries` have seen
        """
        valid = valid_columns(x[..., 0], lengths)
        buffers: Any = [None] * len(self.convolutions)
        states = None
        if carries is not None:
            buffers, states = carries

        # Time first: an earlier step of all rows is then contiguous in memory. Padding is negative.
        steps = jnp.swapaxes(x, 0, 1)
        z = nn.Embed(self.symbols, self.embedding, name="notes")(jnp.maximum(steps[..., 0], 0))
        if self.places:
            z = z + nn.Embed(CODES, self.embedding, name="places")(jnp.maximum(steps[..., 1], 0))

        new_buffers = []
        for number, (features, buffer) in enumerate(zip(self.convolutions, buffers, strict=True)):
            new_buffer, z = CausalConv(features, 2**number, name=f"convolution_{number}")(z, buffer)
            new_buffers.append(new_buffer)
            z = nn.relu(z)
            if self.norm_convolutions:
                z = batch_norm(f"norm_{number}", train)(z, mask=valid.T[..., None])

        stack = recurrent_stack(self, "stack")
        states, z = stack(jnp.swapaxes(z, 0, 1), jnp.sum(valid, axis=1), train, states, first)

        if self.dropout:
            z = nn.Dropout(self.dropout, deterministic=not train)(z)
        logits = dense_at_every_step(nn.Dense(VOCABULARY, name="head"), jnp.swapaxes(z, 0, 1))
        return (tuple(new_buffers), states), jnp.swapaxes(logits, 0, 1)
