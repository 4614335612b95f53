"""A network that fills gaps in chorales."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxseq.cells.base import AnyCell
from jaxseq.cells.norm import Norm
from jaxseq.music.networks.layers import (
    VOICE_COUNT,
    dropped,
    flatten_voices,
    recurrent_stack,
    valid_columns,
)
from jaxseq.music.piece import BAR
from jaxseq.music.tokens import MASKED, VOCABULARY


class FillNet(nn.Module):
    """Recurrent layers over past and future, which predict every hidden note from all that are not hidden.

    x is "b t 5", from `inputs.fills`: the notes of a step (S, A, T, B; `MASKED` where one is hidden) and its position in
    the bar. Hidden notes are predicted independently of each other, as one step of Gibbs sampling: Coconet (Huang et al.
    2017, "Counterpoint by convolution") with bidirectional layers instead of convolutions.
    """

    cell: AnyCell
    hidden: int = 256
    layers: int = 1
    embedding: int = 32
    voice_hidden: int = 256
    norm: Norm | None = None
    dropout: float = 0.0
    recurrent_dropout: float = 0.0

    @property
    def draws(self) -> bool:
        """Whether a training step draws random numbers."""
        return bool(self.dropout or self.recurrent_dropout)

    @nn.compact
    def __call__(
        self,
        x: Int[Array, "b t 5"],
        lengths: Int[Array, "b"] | None = None,
        train: bool = False,
        carries: Any = None,
        first: int | Int[Array, ""] = 0,
    ) -> tuple[Any, Float[Array, "b t 4 v"]]:
        """Return the last carries, from which no call can resume, and the logits of every note.

        lengths  rows of length 0 are padding
        train    draw dropout, and normalise by the moments of this batch

        `carries` and `first` are ignored: a piece is read whole.
        """
        # Padding is negative; no embedding has a row for it.
        symbols = jnp.maximum(x, 0)
        step_counts = jnp.sum(valid_columns(x[..., 0], lengths), axis=1)

        embed_notes = nn.Embed(MASKED + 1, self.embedding, name="notes")
        embed_place = nn.Embed(BAR, self.embedding // 2, name="places")
        notes = flatten_voices(embed_notes(symbols[..., :VOICE_COUNT]))
        place = embed_place(symbols[..., VOICE_COUNT])
        seen = jnp.concatenate([notes, place], axis=-1)
        z = nn.relu(nn.Dense(self.hidden, name="seen")(seen))

        stack = recurrent_stack(self, "stack", bidirectional=True)
        last_carries, states = stack(z, step_counts, train, None, 0)

        # One module for all its uses: the key of each mask depends on the module's name.
        drop = nn.Dropout(self.dropout, deterministic=not train) if self.dropout else None
        context = dropped(drop, states)
        logits = []
        for number in range(VOICE_COUNT):
            z = nn.relu(nn.Dense(self.voice_hidden, name=f"voice_{number}")(context))
            logits.append(nn.Dense(VOCABULARY, name=f"head_{number}")(dropped(drop, z)))
        return last_carries, jnp.stack(logits, axis=-2)
