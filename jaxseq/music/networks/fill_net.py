"""A network that fills gaps in chorales."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxseq.cells.base import Cell
from jaxseq.cells.norm import Norm
from jaxseq.music.networks.layers import VOICE_COUNT, flatten_voices, recurrent_stack, valid_columns
from jaxseq.music.piece import BAR
from jaxseq.music.tokens import MASKED, VOCABULARY


class FillNet(nn.Module):
    """Reads past and future, and predicts every hidden note from all that are not.

    x is "b t 5": the notes of a step (S, A, T, B; `MASKED` where one is hidden) and its position in the bar. The
    distributions of hidden notes do not depend on each other: they are one step of Gibbs sampling, as in Coconet (Huang
    et al. 2017, "Counterpoint by convolution"), with recurrent layers both ways in the place of convolutions.
    """

    cell: Cell
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
        """The last states, from which nobody goes on, and the logits of every note; `carries` are not read."""
        known = jnp.maximum(x, 0)
        count = jnp.sum(valid_columns(x[..., 0], lengths), axis=1)
        notes = flatten_voices(nn.Embed(MASKED + 1, self.embedding, name="notes")(known[..., :VOICE_COUNT]))
        places = nn.Embed(BAR, self.embedding // 2, name="places")(known[..., VOICE_COUNT])
        z = nn.relu(nn.Dense(self.hidden, name="seen")(jnp.concatenate([notes, places], axis=-1)))
        last, h = recurrent_stack(self, "stack", bidirectional=True)(z, count, train, None, 0)
        drop = nn.Dropout(self.dropout, deterministic=not train) if self.dropout else lambda value: value
        h, logits = drop(h), []
        for v in range(VOICE_COUNT):
            seen = drop(nn.relu(nn.Dense(self.voice_hidden, name=f"voice_{v}")(h)))
            logits.append(nn.Dense(VOCABULARY, name=f"head_{v}")(seen))
        return last, jnp.stack(logits, axis=-2)
