"""A network that reads chorales chord by chord."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxseq.cells.base import AnyCell
from jaxseq.cells.norm import Norm
from jaxseq.music import conditions
from jaxseq.music.networks import reprise
from jaxseq.music.networks.inputs import CHORD_WIDTH, LONGEST
from jaxseq.music.networks.interval_features import FromAnchors, Heard
from jaxseq.music.networks.layers import (
    RANK,
    VOICE_COUNT,
    Stack,
    flatten_voices,
    valid_columns,
)
from jaxseq.music.piece import BAR
from jaxseq.music.tokens import MASKED, VOCABULARY


class ChordNet(nn.Module):
    """Recurrent layers over chords, one a sixteenth; each voice is predicted from the voices above it.

    x is "b t d", from `inputs.chords`: the previous chord (S, A, T, B), this chord, the steps that each voice of the
    previous chord has lasted (1 to 16), the position in the bar, and the columns of conditions and of reprises, for a
    network that has them. A voice reads only those notes of this chord that are above it, so that
    p(chord | past) = p(S) p(A | S) p(T | S, A) p(B | S, A, T).

    relative       let voices read the motion of the voices above and their distance, and add scores by the interval from
                   the voice's last note and from the voices above: the same in every key
    voice_dropout  dropout rate of what a voice reads
    conditions     read what is known of the piece (`conditions`), and add scores by the interval from its tonic
    reprises       let a voice read what followed the passage just heard where it was heard before, as long as the voices
                   above follow that, and add scores by the interval from that note
    """

    cell: AnyCell
    hidden: int = 256
    layers: int = 1
    embedding: int = 32
    voice_hidden: int = 256
    norm: Norm | None = None
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    relative: bool = False
    voice_dropout: float = 0.0
    conditions: bool = False
    reprises: bool = False

    @property
    def draws(self) -> bool:
        """Whether a training step draws random numbers."""
        return bool(self.dropout or self.recurrent_dropout or self.voice_dropout)

    def setup(self) -> None:
        """Create the layers that `read` and `voice` share."""
        self.notes = nn.Embed(MASKED + 1, self.embedding)
        self.lasting = nn.Embed(LONGEST + 1, self.embedding // 2)
        self.places = nn.Embed(BAR, self.embedding // 2)
        self.stack = Stack(
            self.cell,
            self.hidden,
            self.layers,
            norm=self.norm,
            dropout=self.dropout,
            recurrent_dropout=self.recurrent_dropout,
        )

        self.voices = [nn.Dense(self.voice_hidden, name=f"voice_{number}") for number in range(VOICE_COUNT)]
        self.heads = [nn.Dense(VOCABULARY, name=f"head_{number}") for number in range(VOICE_COUNT)]
        self.drop = nn.Dropout(self.dropout)
        self.drop_seen = nn.Dropout(self.voice_dropout)
        if self.relative:
            self.heard = Heard(self.embedding // 2)
            # The anchors are the voice's own last note and one for each voice above.
            self.from_anchors = [
                FromAnchors(RANK, 1 + number, name=f"from_anchors_{number}") for number in range(VOICE_COUNT)
            ]
        if self.conditions:
            self.known = [
                nn.Embed(size, self.embedding, name=f"known_{number}") for number, size in enumerate(conditions.SIZES)
            ]
            self.from_tonic = [FromAnchors(RANK, 1, name=f"from_tonic_{number}") for number in range(VOICE_COUNT)]
        if self.reprises:
            self.passages = nn.Embed(len(reprise.PASSAGES) * (reprise.LONGEST + 1), self.embedding // 2)
            self.from_reprises = [
                FromAnchors(RANK, len(reprise.PASSAGES), name=f"from_reprises_{number}")
                for number in range(VOICE_COUNT)
            ]

    def __call__(
        self,
        x: Int[Array, "b t d"],
        lengths: Int[Array, "b"] | None = None,
        train: bool = False,
        carries: Any = None,
        first: int | Int[Array, ""] = 0,
    ) -> tuple[Any, Float[Array, "b t 4 v"]]:
        """Return the last carries and the logits of every voice at every step.

        lengths  rows of length 0 are padding
        train    draw dropout, and normalise by the moments of this batch
        carries  last carries of an earlier call, from which this one resumes
        first    number of time steps that `carries` have seen
        """
        carries, context = self.read(x, lengths, train, carries, first)

        symbols = jnp.maximum(x, 0)
        before = symbols[..., :4]
        chord = symbols[..., 4:8]
        further = symbols[..., CHORD_WIDTH:]
        logits = []
        for number in range(VOICE_COUNT):
            above = chord[..., :number]
            logits.append(self.voice(context, before, above, number, train, further=further))
        return carries, jnp.stack(logits, axis=-2)

    def read(
        self,
        x: Int[Array, "b t d"],
        lengths: Array | None,
        train: bool,
        carries: Any,
        first: int | Int[Array, ""],
    ) -> tuple[Any, Float[Array, "b t _"]]:
        """Return the last carries and, for every step, the context that all of its voices read."""
        # Padding is negative; no embedding has a row for it.
        symbols = jnp.maximum(x, 0)
        before = flatten_voices(self.notes(symbols[..., :4]))
        lasting = flatten_voices(self.lasting(symbols[..., 8:12]))
        place = self.places(symbols[..., 12])
        parts = [before, lasting, place]
        if self.conditions:
            known = symbols[..., CHORD_WIDTH : CHORD_WIDTH + conditions.WIDTH]
            parts.append(self._known(known))
        seen = jnp.concatenate(parts, axis=-1)

        step_counts = jnp.sum(valid_columns(x[..., 0], lengths), axis=1)
        carries, states = self.stack(seen, step_counts, train, carries, first)
        return carries, jnp.concatenate([self._dropped(states, train), seen], axis=-1)

    def voice(
        self,
        context: Array,
        before: Int[Array, "*b 4"],
        above: Int[Array, "*b n"],
        number: int,
        train: bool = False,
        further: Int[Array, "*b _"] | None = None,
    ) -> Float[Array, "*b v"]:
        """Return the logits of voice `number`, given the previous chord and this chord's notes above the voice.

        further  columns of conditions and of reprises, for a network that reads them
        """
        parts = [context]
        # The soprano has no voice above it.
        if number > 0:
            parts.append(flatten_voices(self.notes(above)))
            if self.relative:
                parts.append(flatten_voices(self.heard(before[..., :number], above, before[..., number])))
        seen = jnp.concatenate(parts, axis=-1)
        if self.voice_dropout:
            seen = self.drop_seen(seen, deterministic=not train)

        followed = None
        if self.reprises:
            assert further is not None, "a network with reprises reads their columns"
            followed, lengths = self._reprises_of(further[..., -reprise.COLUMNS :], above, number)
            # Not dropped: a copy is certain or it is none.
            seen = jnp.concatenate(
                [seen, flatten_voices(self.notes(followed)), flatten_voices(self.passages(lengths))], axis=-1
            )

        z = self._dropped(nn.relu(self.voices[number](seen)), train)
        logits = self.heads[number](z)
        if followed is not None:
            logits = logits + self.from_reprises[number](z, followed)
        if self.conditions:
            assert further is not None, "a network with conditions reads their columns"
            logits = logits + self.from_tonic[number](z, conditions.tonic_symbol(further)[..., None])
        if not self.relative:
            return logits
        anchors = jnp.concatenate([before[..., number : number + 1], above], axis=-1)
        return logits + self.from_anchors[number](z, anchors)

    def _known(self, columns: Int[Array, "*b 7"]) -> Float[Array, "*b e"]:
        """Return the sum of what the columns of conditions tell."""
        by_column = [embed(columns[..., number]) for number, embed in enumerate(self.known)]
        return jnp.sum(jnp.stack(by_column), axis=0)

    def _reprises_of(
        self, columns: Int[Array, "*b _"], above: Int[Array, "*b n"], number: int
    ) -> tuple[Int[Array, "*b 2"], Int[Array, "*b 2"]]:
        """Return a voice's note in each reprise, and the codes of the lengths of the passages.

        A reprise that the voices above have left is none.
        """
        is_guide = reprise.followed(columns, above)
        notes = columns[..., number :: reprise.WIDTH]
        lengths = columns[..., reprise.WIDTH - 1 :: reprise.WIDTH]
        codes = jnp.where(is_guide, lengths, 0) + (reprise.LONGEST + 1) * jnp.arange(len(reprise.PASSAGES))
        return jnp.where(is_guide, notes, MASKED), codes

    def _dropped(self, x: Float[Array, "*b h"], train: bool) -> Float[Array, "*b h"]:
        if not self.dropout:
            return x
        return self.drop(x, deterministic=not train)
