"""Recipes of chorales: the book's network of notes, a network of chords, both on either edition."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import optax
from jaxtyping import Int

from jaxseq import cells
from jaxseq.cells.norm import Norm
from jaxseq.common.checks import at_least, one_of, share
from jaxseq.common.errors import UsageError
from jaxseq.music import tokens
from jaxseq.music.corpora.chorales import Chorales
from jaxseq.music.corpora.jsb import Jsb
from jaxseq.music.networks import chord_net, fill_net, inputs, note_net, objectives
from jaxseq.music.networks import layers as composers
from jaxseq.music.networks.inputs import Rows
from jaxseq.nn import objectives as tasks
from jaxseq.train.experiments.base import NormName, Recipe, Schedule, adam

Scoring = Literal["windows", "pieces"]


@dataclass(frozen=True)
class Notes:
    """Reads the voices one after another: embedding, causal convolutions, recurrent layers, softmax (Géron 2019)."""

    cell: str = "lstm"
    """The recurrent cell: rnn, lstm or gru."""
    hidden: int = 256
    """Units in each recurrent layer."""
    layers: int = 1
    """Recurrent layers, one on the other."""
    convolutions: tuple[int, ...] = (32, 48, 64, 96)
    """Channels of each causal convolution of two taps, 1, 2, 4, ... notes apart; none leaves the recurrent layers alone."""
    embedding: int = 5
    """Numbers that stand for a note."""
    places: bool = False
    """Tell the network which voice comes next, and where in the bar."""
    norm: NormName = "none"
    """Normalisation in the recurrent layers."""
    norm_convolutions: bool = True
    """Batch norm after each convolution."""
    dropout: float = 0.0
    """Share of the values before and after each recurrent layer that a training step leaves out."""
    recurrent_dropout: float = 0.0
    """Share of the state that does not recur in a training step, one draw a sequence (Gal & Ghahramani 2016)."""

    columns: ClassVar[tuple[int, ...]] = inputs.NOTE_COLUMNS
    per_step: ClassVar[int] = len(composers.VOICES)

    def __post_init__(self) -> None:
        _check(self)
        for number, channels in enumerate(self.convolutions, 1):
            at_least(1, where=f"convolution {number}", channels=channels)

    def rows(self, tokens: Int[np.ndarray, "t 4"], positions: Int[np.ndarray, "t"], cold: bool = False) -> Rows:
        """A row a note."""
        return inputs.notes(tokens, positions, cold)

    def build(self, started: bool) -> note_net.NoteNet:
        """The Flax module; `started` where pieces begin with a start symbol."""
        return note_net.NoteNet(
            cells.named(self.cell),
            self.hidden,
            self.layers,
            self.convolutions,
            self.embedding,
            tokens.VOCABULARY + (1 if started else 0),
            self.places,
            _norm(self.norm),
            self.norm_convolutions,
            self.dropout,
            self.recurrent_dropout,
        )


@dataclass(frozen=True)
class ByChord:
    """What networks that read a row a sixteenth have in common."""

    cell: str = "gru"
    """The recurrent cell: rnn, lstm or gru."""
    hidden: int = 256
    """Units in each recurrent layer; of a network that fills gaps, either way."""
    layers: int = 1
    """Recurrent layers, one on the other."""
    embedding: int = 32
    """Numbers that stand for a note."""
    voice_hidden: int = 256
    """Units of the dense layer of each voice."""
    norm: NormName = "none"
    """Normalisation in the recurrent layers."""
    dropout: float = 0.4
    """Share of the values that a training step leaves out, before each layer but the first."""
    recurrent_dropout: float = 0.0
    """Share of the state that does not recur in a training step, one draw a sequence (Gal & Ghahramani 2016)."""

    per_step: ClassVar[int] = 1
    net: ClassVar[type[chord_net.ChordNet] | type[fill_net.FillNet]]

    def __post_init__(self) -> None:
        _check(self)
        at_least(1, voice_hidden=self.voice_hidden)
        if self.embedding % 2:
            raise UsageError(f"embedding must be even; it is {self.embedding}")

    def build(self, started: bool) -> chord_net.ChordNet | fill_net.FillNet:
        """The Flax module."""
        return self.net(
            cells.named(self.cell),
            self.hidden,
            self.layers,
            self.embedding,
            self.voice_hidden,
            _norm(self.norm),
            self.dropout,
            self.recurrent_dropout,
        )


@dataclass(frozen=True)
class Chords(ByChord):
    """Recurs once a sixteenth over whole chords, and within one predicts each voice knowing those above it."""

    dropout: float = 0.5
    """Share of the values that a training step leaves out, before each layer but the first."""
    recurrent_dropout: float = 0.2
    """Share of the state that does not recur in a training step, one draw a sequence (Gal & Ghahramani 2016)."""
    relative: bool = True
    """Score notes by their intervals, too: from the voice's last note and from the voices above."""
    voice_dropout: float = 0.3
    """Share of what a voice is told of the step before and of the voices above that a training step leaves out."""

    columns: ClassVar[tuple[int, ...]] = inputs.CHORD_COLUMNS
    net = chord_net.ChordNet

    def __post_init__(self) -> None:
        super().__post_init__()
        share(voice_dropout=self.voice_dropout)

    def rows(self, tokens: Int[np.ndarray, "t 4"], positions: Int[np.ndarray, "t"], cold: bool = False) -> Rows:
        """A row a sixteenth."""
        return inputs.chords(tokens, positions, cold)

    def build(self, started: bool) -> chord_net.ChordNet:
        """The Flax module."""
        plain = super().build(started)
        assert isinstance(plain, chord_net.ChordNet)
        return plain.clone(relative=self.relative, voice_dropout=self.voice_dropout)


@dataclass(frozen=True)
class Fills(ByChord):
    """Reads past and future, and predicts the notes that are hidden (Coconet, Huang et al. 2017)."""

    hidden: int = 192
    """Units in each recurrent layer, either way."""
    voice_hidden: int = 192
    """Units of the dense layer of each voice."""
    dropout: float = 0.2
    """Share of the values that a training step leaves out, before each layer but the first."""

    columns: ClassVar[tuple[int, ...]] = inputs.FILL_COLUMNS
    net = fill_net.FillNet

    def rows(self, tokens: Int[np.ndarray, "t 4"], positions: Int[np.ndarray, "t"], cold: bool = False) -> Rows:
        """A row a sixteenth, with nothing hidden."""
        return inputs.fills(tokens, positions)


def _check(model: Any) -> None:
    cells.named(model.cell)
    at_least(1, hidden=model.hidden, layers=model.layers, embedding=model.embedding)
    one_of(get_args(NormName)[:-1], norm=model.norm)
    share(dropout=model.dropout, recurrent_dropout=model.recurrent_dropout)


def _norm(name: str) -> Norm | None:
    return None if name == "none" else Norm(name)


@dataclass(frozen=True, kw_only=True)
class Music(Recipe):
    """A model of chorales. Raises `UsageError` for a field that cannot be."""

    data: Any
    """The edition: `Chorales`, `Jsb`."""
    model: Any
    protocol: Scoring = "windows"
    """What is trained on and scored: the book's windows of 33 chords, each begun without memory; or whole pieces from a
    start symbol, the state carried through, every note scored (trained on stretches of them)."""
    stretch: int = 128
    """Sixteenths of a training row, for pieces."""
    hop: int = 64
    """Sixteenths from one training row to the next, for pieces."""
    transpose: int = 0
    """Semitones, at the most, that a training row is transposed by, either way, drawn anew each time."""
    decay: float = 0.0
    """Weight decay of AdamW."""

    domain: ClassVar[str] = "chorales"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(get_args(Scoring), protocol=self.protocol)
        at_least(1, stretch=self.stretch, hop=self.hop)
        at_least(0, transpose=self.transpose)
        share(decay=self.decay)
        if self.hop > self.stretch:
            raise UsageError(
                f"hop {self.hop} is more than stretch {self.stretch}: what lies between is never trained on"
            )

    @property
    def started(self) -> bool:
        """Whether pieces begin with a start symbol."""
        return self.protocol == "pieces"

    def objective(self) -> tasks.Objective:
        """Cross entropy in nats a note, and accuracy."""
        highest = tokens.VOCABULARY - 1
        return objectives.next_symbol(self.model.columns, self.transpose, 1, highest)

    def build(self) -> Any:
        """The Flax module."""
        return self.model.build(self.started)

    def optimiser(self, steps_per_epoch: int) -> optax.GradientTransformation:
        """AdamW by this recipe; one object for one recipe."""
        steps = self.epochs * steps_per_epoch if self.schedule == "cosine" else None
        return adam(self.lr, self.clip, steps, self.decay)


@dataclass(frozen=True, kw_only=True)
class OfNotes(Music):
    """The book's network and its windows: how they are trained."""

    model: Notes = field(default_factory=Notes)
    epochs: int = 20
    schedule: Schedule = "cosine"
    lr: float = 2e-3
    clip: float | None = 1.0


@dataclass(frozen=True, kw_only=True)
class BookChorales(OfNotes):
    """Bach's chorales as the music21 corpus on this machine has them, note by note: the book's network.

    python -m jaxseq.train chorales [--model.cell rnn|lstm|gru] [--model.norm layer|batch] [--transpose 6]

    Install the corpus with `pip install "jaxseq[music]"`. Compose with it: python -m jaxseq.sample RUN.
    """

    data: Chorales = field(default_factory=Chorales)
    name: ClassVar[str] = "chorales"


@dataclass(frozen=True, kw_only=True)
class BookJsb(OfNotes):
    """The benchmark edition of the chorales, note by note: Géron's network and protocol.

    python -m jaxseq.train jsb [--data.path jsb_chorales.tgz]

    Géron's notebook reports 0.656 nats and an accuracy of 0.816 on test after 20 epochs.
    """

    data: Jsb = field(default_factory=Jsb)
    name: ClassVar[str] = "jsb"


@dataclass(frozen=True, kw_only=True)
class WholePieces(Music):
    """Whole pieces, a row a sixteenth: how networks of them are trained."""

    protocol: Scoring = "pieces"
    epochs: int = 60
    batch: int = 16
    lr: float = 3e-3
    schedule: Schedule = "cosine"
    clip: float | None = 1.0
    transpose: int = 6
    decay: float = 0.01


@dataclass(frozen=True, kw_only=True)
class OfChords(WholePieces):
    """A recurrence over chords."""

    model: Chords = field(default_factory=Chords)


@dataclass(frozen=True, kw_only=True)
class ChordChorales(OfChords):
    """The music21 corpus with a recurrence over chords, whole pieces: the one to compose with.

    python -m jaxseq.train chords
    """

    data: Chorales = field(default_factory=Chorales)
    name: ClassVar[str] = "chords"


@dataclass(frozen=True, kw_only=True)
class ChordJsb(OfChords):
    """The benchmark edition with a recurrence over chords, whole pieces: the project's headline for music.

    python -m jaxseq.train jsb-chords [--data.path jsb_chorales.tgz]

    60 epochs take 16 minutes of one core. Expect 0.391 nats a note on test, where a 5-gram has 1.128.
    """

    data: Jsb = field(default_factory=Jsb)
    name: ClassVar[str] = "jsb-chords"


@dataclass(frozen=True, kw_only=True)
class OfGaps(WholePieces):
    """Networks that fill gaps: what they are trained on."""

    model: Fills = field(default_factory=Fills)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.protocol != "pieces":
            raise UsageError(f"protocol must be pieces for {self.name}, whose rows are cut from whole ones")

    def objective(self) -> tasks.Objective:
        """Cross entropy of hidden notes, others in each step."""
        return objectives.hidden_symbols(
            len(self.model.columns), tokens.MASKED, self.transpose, 1, tokens.VOCABULARY - 1
        )


@dataclass(frozen=True, kw_only=True)
class FillChorales(OfGaps):
    """Fills gaps: knows the notes before and after, so that it can keep voices or compose bars of a piece anew.

    python -m jaxseq.train fill

    Then: python -m jaxseq.sample RUN --prime bwv269 --keep soprano,bass, or --redo 5-8, or --melody tune.mid. It is
    scored on hidden notes, a random share of each test piece.
    """

    data: Chorales = field(default_factory=Chorales)
    name: ClassVar[str] = "fill"


@dataclass(frozen=True, kw_only=True)
class FillJsb(OfGaps):
    """Fills gaps, trained on the benchmark edition.

    python -m jaxseq.train jsb-fill [--data.path jsb_chorales.tgz]

    Then: python -m jaxseq.sample RUN --prime chorale_305 --keep soprano,bass.
    """

    data: Jsb = field(default_factory=Jsb)
    name: ClassVar[str] = "jsb-fill"


ALL = (BookChorales(), BookJsb(), ChordChorales(), ChordJsb(), FillChorales(), FillJsb())
"""The recipes of chorales."""
