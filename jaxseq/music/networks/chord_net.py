"""A network of chords."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxseq.cells.base import Cell
from jaxseq.cells.norm import Norm
from jaxseq.music.networks.inputs import LONGEST
from jaxseq.music.networks.interval_features import FromAnchors, Heard
from jaxseq.music.networks.layers import RANK, VOICE_COUNT, Stack, flatten_voices, valid_columns
from jaxseq.music.piece import BAR
from jaxseq.music.tokens import MASKED, VOCABULARY


class ChordNet(nn.Module):
    """Recurs once a sixteenth over whole chords; within one, each voice is predicted knowing those above it.

    x is "b t 13": the chord before (S, A, T, B), this chord (of which a voice is shown those above it), how many steps each
    voice of the chord before has lasted (1 to 16), and this step's position in the bar. The joint distribution is that
    of a note-by-note model: p(chord | past) = p(S) p(A | S) p(T | S, A) p(B | S, A, T).

    With `relative`, a voice is also told how the voices above have moved and how far they stood above it, and its notes
    are scored by their interval from its last note and from theirs, too: voice leading is the same in every key.
    """

    cell: Cell
    hidden: int = 256
    layers: int = 1
    embedding: int = 32
    voice_hidden: int = 256
    norm: Norm | None = None
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    relative: bool = False
    voice_dropout: float = 0.0

    @property
    def draws(self) -> bool:
        """Whether a training step draws random numbers."""
        return bool(self.dropout or self.recurrent_dropout or self.voice_dropout)

    def setup(self) -> None:
        """The parts, which `read` and `voice` share."""
        self.notes = nn.Embed(MASKED + 1, self.embedding)
        self.lasting = nn.Embed(LONGEST + 1, self.embedding // 2)
        self.places = nn.Embed(BAR, self.embedding // 2)
        self.stack = Stack(self.cell, self.hidden, self.layers, self.norm, self.dropout, self.recurrent_dropout)
        self.voices = [nn.Dense(self.voice_hidden, name=f"voice_{v}") for v in range(VOICE_COUNT)]
        self.heads = [nn.Dense(VOCABULARY, name=f"head_{v}") for v in range(VOICE_COUNT)]
        self.drop = nn.Dropout(self.dropout)
        self.drop_seen = nn.Dropout(self.voice_dropout)
        if self.relative:
            self.heard = Heard(self.embedding // 2)
            self.from_anchors = [FromAnchors(RANK, 1 + v, name=f"from_anchors_{v}") for v in range(VOICE_COUNT)]

    def __call__(
        self,
        x: Int[Array, "b t 13"],
        lengths: Int[Array, "b"] | None = None,
        train: bool = False,
        carries: Any = None,
        first: int | Int[Array, ""] = 0,
    ) -> tuple[Any, Float[Array, "b t 4 v"]]:
        """The states to go on from, and the logits of every voice of every step."""
        carries, context = self.read(x, lengths, train, carries, first)
        known = jnp.maximum(x, 0)
        before, chord = known[..., :4], known[..., 4:8]
        logits = [self.voice(context, before, chord[..., :v], v, train) for v in range(VOICE_COUNT)]
        return carries, jnp.stack(logits, axis=-2)

    def read(
        self, x: Int[Array, "b t 13"], lengths: Array | None, train: bool, carries: Any, first: int | Int[Array, ""]
    ) -> tuple[Any, Float[Array, "b t _"]]:
        """The states to go on from, and what the voices of every step are told of what came before it."""
        known = jnp.maximum(x, 0)
        before = self.notes(known[..., :4])
        parts = [flatten_voices(before), flatten_voices(self.lasting(known[..., 8:12])), self.places(known[..., 12])]
        seen = jnp.concatenate(parts, axis=-1)
        count = jnp.sum(valid_columns(x[..., 0], lengths), axis=1)
        carries, h = self.stack(seen, count, train, carries, first)
        return carries, jnp.concatenate([self._dropped(h, train), seen], axis=-1)

    def voice(
        self, context: Array, before: Int[Array, "*b 4"], above: Int[Array, "*b n"], number: int, train: bool = False
    ) -> Float[Array, "*b v"]:
        """The logits of one voice, given the chord before and this chord's notes of the voices above."""
        seen = [context]
        if number:
            seen.append(flatten_voices(self.notes(above)))
            if self.relative:
                seen.append(flatten_voices(self.heard(before[..., :number], above, before[..., number])))
        known = jnp.concatenate(seen, axis=-1)
        known = self.drop_seen(known, deterministic=not train) if self.voice_dropout else known
        z = self._dropped(nn.relu(self.voices[number](known)), train)
        logits = self.heads[number](z)
        if not self.relative:
            return logits
        anchors = jnp.concatenate([before[..., number : number + 1], above], axis=-1)
        return logits + self.from_anchors[number](z, anchors)

    def _dropped(self, x: Array, train: bool) -> Array:
        return self.drop(x, deterministic=not train) if self.dropout else x
