"""Flax models of chorales, all with one face: symbols in, the states to go on from and the logits out.

`NoteNet` reads the four voices one after another and is the network of Géron 2019 (chapter 15, exercise 10); `ChordNet`
recurs once a sixteenth and predicts the four voices of it in order; `FillNet` reads past and future and predicts what is
masked; `RollNet` predicts the next frame of a piano roll.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxseq.cells.base import Cell
from jaxseq.cells.norm import Norm
from jaxseq.music.networks.inputs import LONGEST, PADDING
from jaxseq.music.networks.interval_features import FromAnchors, Heard
from jaxseq.music.piece import BAR, VOICES
from jaxseq.music.tokens import MASKED, VOCABULARY
from jaxseq.nn.apply import Bidirectional, Recurrent

VOICE_COUNT = len(VOICES)
CODES = VOICE_COUNT * BAR
"""Voices times positions in the bar: what the second column of a note's row counts."""
RANK = 24
"""Numbers that an anchor has for the intervals from it."""
BOOK_MOMENTUM, BOOK_EPSILON = 0.99, 1e-3
"""Keras' batch norm."""


class CausalConv(nn.Module):
    """A causal convolution of two taps, y_t = x_{t-dilation} A + x_t B + b, over zeros before the first step.

    `before` are the last `dilation` inputs of an earlier call; those of this one are given back. Time comes first, as in
    the recurrence: an earlier step of all rows is then one stretch of memory.
    """

    features: int
    dilation: int

    @nn.compact
    def __call__(self, x: Float[Array, "t b d"], before: Float[Array, "_ b d"] | None = None) -> tuple[Array, Array]:
        """The last inputs, "dilation b d", and the outputs, "t b features"."""
        if before is None:
            before = jnp.zeros((self.dilation, *x.shape[1:]), x.dtype)
        longer = jnp.concatenate([before, x])
        taps = jnp.concatenate([longer[: x.shape[0]], x], axis=-1)
        return longer[-self.dilation :], _at_every_step(nn.Dense(self.features, name="taps"), taps)


def _at_every_step(dense: nn.Dense, x: Float[Array, "t b d"]) -> Float[Array, "t b k"]:
    """A dense layer as one product over time and batch merged, unless devices share the batch: they would gather it.

    On a CPU the weight gradient of a product over two axes begins with a transposed copy of what came back.
    """
    if jax.sharding.get_abstract_mesh().size > 1:
        return dense(x)
    return dense(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], dense.features)


class Stack(nn.Module):
    """Recurrent layers, with dropout before each."""

    cell: Cell
    hidden: int
    layers: int = 1
    norm: Norm | None = None
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    bidirectional: bool = False

    @nn.compact
    def __call__(
        self, x: Array, lengths: Array, train: bool, carries: Any, first: int | Int[Array, ""]
    ) -> tuple[Any, Array]:
        """The layers' last carries and the outputs of the last one."""
        last = []
        for number in range(self.layers):
            x = nn.Dropout(self.dropout, deterministic=not train)(x) if self.dropout else x
            options = {"norm": self.norm, "recurrent_dropout": self.recurrent_dropout}
            name, start = f"recurrent_{number}", None if carries is None else carries[number]
            if self.bidirectional:
                layer = Recurrent(self.cell, self.hidden, **options, parent=None)
                carry, x = Bidirectional(layer, name=name)(x, lengths, train)
            else:
                carry, x = Recurrent(self.cell, self.hidden, **options, name=name)(x, start, lengths, train, first)
            last.append(carry)
        return tuple(last), x


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
        valid = _valid(x[..., 0], lengths)
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
                z = _batch_norm(f"norm_{number}", train)(z, mask=valid.T[..., None])
        stack = _stack(self, "stack")
        states, z = stack(jnp.swapaxes(z, 0, 1), jnp.sum(valid, axis=1), train, states, first)
        z = nn.Dropout(self.dropout, deterministic=not train)(z) if self.dropout else z
        logits = _at_every_step(nn.Dense(VOCABULARY, name="head"), jnp.swapaxes(z, 0, 1))
        return (tuple(kept), states), jnp.swapaxes(logits, 0, 1)


def _stack(model: Any, name: str, bidirectional: bool = False) -> Stack:
    return Stack(
        model.cell,
        model.hidden,
        model.layers,
        model.norm,
        model.dropout,
        model.recurrent_dropout,
        bidirectional,
        name=name,
        parent=model,
    )


def _batch_norm(name: str, train: bool) -> nn.BatchNorm:
    return nn.BatchNorm(use_running_average=not train, momentum=BOOK_MOMENTUM, epsilon=BOOK_EPSILON, name=name)


def _valid(first_column: Array, lengths: Array | None) -> Bool[Array, "b t"]:
    """The steps that are no padding, of rows that count."""
    valid = first_column != PADDING
    return valid if lengths is None else valid & (lengths > 0)[:, None]


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
        parts = [_flat(before), _flat(self.lasting(known[..., 8:12])), self.places(known[..., 12])]
        seen = jnp.concatenate(parts, axis=-1)
        count = jnp.sum(_valid(x[..., 0], lengths), axis=1)
        carries, h = self.stack(seen, count, train, carries, first)
        return carries, jnp.concatenate([self._dropped(h, train), seen], axis=-1)

    def voice(
        self, context: Array, before: Int[Array, "*b 4"], above: Int[Array, "*b n"], number: int, train: bool = False
    ) -> Float[Array, "*b v"]:
        """The logits of one voice, given the chord before and this chord's notes of the voices above."""
        seen = [context]
        if number:
            seen.append(_flat(self.notes(above)))
            if self.relative:
                seen.append(_flat(self.heard(before[..., :number], above, before[..., number])))
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


def _flat(x: Float[Array, "*b n e"]) -> Float[Array, "*b m"]:
    return x.reshape(*x.shape[:-2], -1)


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
        count = jnp.sum(_valid(x[..., 0], lengths), axis=1)
        notes = _flat(nn.Embed(MASKED + 1, self.embedding, name="notes")(known[..., :VOICE_COUNT]))
        places = nn.Embed(BAR, self.embedding // 2, name="places")(known[..., VOICE_COUNT])
        z = nn.relu(nn.Dense(self.hidden, name="seen")(jnp.concatenate([notes, places], axis=-1)))
        last, h = _stack(self, "stack", bidirectional=True)(z, count, train, None, 0)
        drop = nn.Dropout(self.dropout, deterministic=not train) if self.dropout else lambda value: value
        h, logits = drop(h), []
        for v in range(VOICE_COUNT):
            seen = drop(nn.relu(nn.Dense(self.voice_hidden, name=f"voice_{v}")(h)))
            logits.append(nn.Dense(VOCABULARY, name=f"head_{v}")(seen))
        return last, jnp.stack(logits, axis=-2)
