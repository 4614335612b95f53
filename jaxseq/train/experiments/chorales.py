"""Experiments on Bach's chorales: note by note, chord by chord, or filling gaps. A new one is an entry of `EXPERIMENTS`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Generic, Literal, Protocol, TypeVar, get_args, runtime_checkable

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
from jaxseq.music.networks import inputs, objectives
from jaxseq.music.networks.chord_net import ChordNet
from jaxseq.music.networks.fill_net import FillNet
from jaxseq.music.networks.inputs import Rows
from jaxseq.music.networks.note_net import NoteNet
from jaxseq.music.piece import VOICES
from jaxseq.nn.objectives import Objective
from jaxseq.train.experiments.base import Experiment, NormName, check_convolutions
from jaxseq.train.optimiser import optimiser

Scoring = Literal["windows", "pieces"]
LOWEST, HIGHEST = 1, tokens.VOCABULARY - 1
"""The symbols that have a pitch, and can be transposed."""


@runtime_checkable
class ChoraleNetwork(Protocol):
    """Options of a network that reads chorales.

    columns            columns of its input rows that hold symbols
    per_step           rows for each sixteenth
    whole_pieces_only  whether it can be trained on whole pieces alone
    """

    columns: ClassVar[tuple[int, ...]]
    per_step: ClassVar[int]
    whole_pieces_only: ClassVar[bool]

    @property
    def cell(self) -> str:
        """The recurrent cell: rnn, lstm or gru."""
        ...

    @property
    def hidden(self) -> int:
        """Units in each recurrent layer."""
        ...

    @property
    def layers(self) -> int:
        """Number of stacked recurrent layers."""
        ...

    def rows(self, tokens: Int[np.ndarray, "t 4"], positions: Int[np.ndarray, "t"], cold: bool = False) -> Rows:
        """Lay out a piece as input rows and targets; `cold` if it begins without a start symbol."""
        ...

    def objective(self, transpose: int) -> Objective:
        """Return cross entropy in nats a note; each training row is transposed by up to `transpose` semitones."""
        ...

    def build(self, started: bool) -> NoteNet | ChordNet | FillNet:
        """Build the Flax module; `started` if pieces begin with a start symbol."""
        ...


@dataclass(frozen=True)
class Notes:
    """Reads the voices one after another: embedding, causal convolutions, recurrent layers, softmax (Géron 2019)."""

    cell: str = "lstm"
    """Recurrent cell: rnn, lstm or gru."""
    hidden: int = 256
    """Units in each recurrent layer."""
    layers: int = 1
    """Number of stacked recurrent layers."""
    convolutions: tuple[int, ...] = (32, 48, 64, 96)
    """Channels of each causal convolution (two taps, dilation 1, 2, 4, ...); empty for recurrent layers alone."""
    embedding: int = 5
    """Embedding size of a note."""
    places: bool = False
    """Add the voice and the position in the bar to the input."""
    norm: NormName = "none"
    """Normalisation in the recurrent layers: layer, layer-sum (of the sum of both projections) or batch."""
    norm_convolutions: bool = True
    """Batch norm after each convolution."""
    dropout: float = 0.0
    """Dropout rate before and after each recurrent layer."""
    recurrent_dropout: float = 0.0
    """Dropout rate of the recurrent state, one mask for a whole sequence (Gal & Ghahramani 2016)."""

    columns: ClassVar[tuple[int, ...]] = inputs.NOTE_COLUMNS
    per_step: ClassVar[int] = len(VOICES)
    whole_pieces_only: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_network(self)
        check_convolutions(self.convolutions)

    def rows(self, tokens: Int[np.ndarray, "t 4"], positions: Int[np.ndarray, "t"], cold: bool = False) -> Rows:
        """Lay out a piece with one row a note."""
        return inputs.notes(tokens, positions, cold)

    def objective(self, transpose: int) -> Objective:
        """Return cross entropy in nats a note."""
        return objectives.next_symbol(self.columns, transpose, LOWEST, HIGHEST)

    def build(self, started: bool) -> NoteNet:
        """Build the Flax module; `started` if pieces begin with a start symbol."""
        symbols = tokens.VOCABULARY
        if started:
            symbols += 1

        return NoteNet(
            cell=cells.named(self.cell),
            hidden=self.hidden,
            layers=self.layers,
            convolutions=self.convolutions,
            embedding=self.embedding,
            symbols=symbols,
            places=self.places,
            norm=_norm(self.norm),
            norm_convolutions=self.norm_convolutions,
            dropout=self.dropout,
            recurrent_dropout=self.recurrent_dropout,
        )


@dataclass(frozen=True)
class Chords:
    """Recurs once a sixteenth over whole chords; each voice is predicted from those above it."""

    cell: str = "gru"
    """Recurrent cell: rnn, lstm or gru."""
    hidden: int = 256
    """Units in each recurrent layer."""
    layers: int = 1
    """Number of stacked recurrent layers."""
    embedding: int = 32
    """Embedding size of a note; even."""
    voice_hidden: int = 256
    """Units in the dense layer of each voice."""
    norm: NormName = "none"
    """Normalisation in the recurrent layers: layer, layer-sum (of the sum of both projections) or batch."""
    dropout: float = 0.5
    """Dropout rate before each layer but the first."""
    recurrent_dropout: float = 0.2
    """Dropout rate of the recurrent state, one mask for a whole sequence (Gal & Ghahramani 2016)."""
    relative: bool = True
    """Add scores by interval: from the last note of the voice, and from the voices above."""
    voice_dropout: float = 0.3
    """Dropout rate of what a voice reads: the previous chord and the voices above."""

    columns: ClassVar[tuple[int, ...]] = inputs.CHORD_COLUMNS
    per_step: ClassVar[int] = 1
    whole_pieces_only: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_network(self)
        _check_voices(self)
        share(voice_dropout=self.voice_dropout)

    def rows(self, tokens: Int[np.ndarray, "t 4"], positions: Int[np.ndarray, "t"], cold: bool = False) -> Rows:
        """Lay out a piece with one row a sixteenth."""
        return inputs.chords(tokens, positions, cold)

    def objective(self, transpose: int) -> Objective:
        """Return cross entropy in nats a note."""
        return objectives.next_symbol(self.columns, transpose, LOWEST, HIGHEST)

    def build(self, started: bool) -> ChordNet:
        """Build the Flax module, which is the same with and without a start symbol."""
        return ChordNet(
            cell=cells.named(self.cell),
            hidden=self.hidden,
            layers=self.layers,
            embedding=self.embedding,
            voice_hidden=self.voice_hidden,
            norm=_norm(self.norm),
            dropout=self.dropout,
            recurrent_dropout=self.recurrent_dropout,
            relative=self.relative,
            voice_dropout=self.voice_dropout,
        )


@dataclass(frozen=True)
class Fills:
    """Reads past and future, and predicts hidden notes (Coconet, Huang et al. 2017)."""

    cell: str = "gru"
    """Recurrent cell: rnn, lstm or gru."""
    hidden: int = 192
    """Units in each recurrent layer and direction."""
    layers: int = 1
    """Number of stacked recurrent layers."""
    embedding: int = 32
    """Embedding size of a note; even."""
    voice_hidden: int = 192
    """Units in the dense layer of each voice."""
    norm: NormName = "none"
    """Normalisation in the recurrent layers: layer, layer-sum (of the sum of both projections) or batch."""
    dropout: float = 0.2
    """Dropout rate before each layer but the first."""
    recurrent_dropout: float = 0.0
    """Dropout rate of the recurrent state, one mask for a whole sequence (Gal & Ghahramani 2016)."""

    columns: ClassVar[tuple[int, ...]] = inputs.FILL_COLUMNS
    per_step: ClassVar[int] = 1
    whole_pieces_only: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_network(self)
        _check_voices(self)

    def rows(self, tokens: Int[np.ndarray, "t 4"], positions: Int[np.ndarray, "t"], cold: bool = False) -> Rows:
        """Lay out a piece with one row a sixteenth and no note hidden."""
        return inputs.fills(tokens, positions)

    def objective(self, transpose: int) -> Objective:
        """Return cross entropy in nats a hidden note; each training step hides others."""
        return objectives.hidden_symbols(len(self.columns), tokens.MASKED, transpose, LOWEST, HIGHEST)

    def build(self, started: bool) -> FillNet:
        """Build the Flax module, which reads whole pieces alone."""
        return FillNet(
            cell=cells.named(self.cell),
            hidden=self.hidden,
            layers=self.layers,
            embedding=self.embedding,
            voice_hidden=self.voice_hidden,
            norm=_norm(self.norm),
            dropout=self.dropout,
            recurrent_dropout=self.recurrent_dropout,
        )


def _check_network(model: Notes | Chords | Fills) -> None:
    cells.named(model.cell)
    at_least(1, hidden=model.hidden, layers=model.layers, embedding=model.embedding)
    # Batch norm between two layers is a setting of forecasts alone.
    one_of(get_args(NormName)[:-1], norm=model.norm)
    share(dropout=model.dropout, recurrent_dropout=model.recurrent_dropout)


def _check_voices(model: Chords | Fills) -> None:
    at_least(1, voice_hidden=model.voice_hidden)
    # Embeddings of durations and of bar positions have half that size.
    if model.embedding % 2:
        raise UsageError("not an even number", where="--model.embedding", got=model.embedding)


def _norm(name: NormName) -> Norm | None:
    if name == "none":
        return None
    return Norm(name)


Data = TypeVar("Data", Chorales, Jsb)
NetworkOptions = TypeVar("NetworkOptions", bound=ChoraleNetwork)


@dataclass(frozen=True, kw_only=True)
class ChoraleExperiment(Experiment, Generic[Data, NetworkOptions]):
    """A model of chorales. Raises `UsageError` for an invalid field."""

    data: Data
    """The edition of the chorales."""
    model: NetworkOptions
    """The network."""
    protocol: Scoring = "windows"
    """Rows to train on and to score: the book's windows of 33 chords, or whole pieces from a start symbol."""
    stretch: int = 128
    """Sixteenths in a training row, if the protocol is pieces."""
    hop: int = 64
    """Sixteenths from one training row to the next, if the protocol is pieces."""
    transpose: int = 0
    """Largest random transposition of a training row, in semitones up or down."""
    decay: float = 0.0
    """Weight decay of AdamW; 0 is Adam."""

    domain: ClassVar[str] = "chorales"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(get_args(Scoring), protocol=self.protocol)
        at_least(1, stretch=self.stretch, hop=self.hop)
        at_least(0, transpose=self.transpose)
        share(decay=self.decay)
        if self.hop > self.stretch:
            raise UsageError(
                "notes between two training rows would be left out",
                where="--hop",
                got=self.hop,
                needed=f"at most --stretch {self.stretch}",
            )
        if self.model.whole_pieces_only and not self.started:
            raise UsageError("gaps are filled in whole pieces", where="--protocol", got=self.protocol, needed="pieces")

    @property
    def started(self) -> bool:
        """Whether pieces begin with a start symbol."""
        return self.protocol == "pieces"

    def objective(self) -> Objective:
        """Return cross entropy in nats a note, and accuracy."""
        return self.model.objective(self.transpose)

    def build(self) -> NoteNet | ChordNet | FillNet:
        """Build the Flax module."""
        return self.model.build(self.started)

    def optimiser(self, steps_per_epoch: int) -> optax.GradientTransformation:
        """Build AdamW; equal settings return the same object."""
        steps = self.epochs * steps_per_epoch
        return optimiser(self.lr, self.schedule, steps, clip=self.clip, decay=self.decay)


_of_windows = partial(ChoraleExperiment, epochs=20, lr=2e-3, schedule="cosine", clip=1.0)
_of_pieces = partial(
    ChoraleExperiment,
    protocol="pieces",
    epochs=60,
    batch=16,
    lr=3e-3,
    schedule="cosine",
    clip=1.0,
    transpose=6,
    decay=0.01,
)

EXPERIMENTS: tuple[ChoraleExperiment, ...] = (
    _of_windows(
        name="chorales",
        about="""
            Bach's chorales in music21's edition, note by note: Géron's network of convolutions and an LSTM.

            python -m jaxseq.train chorales --model.cell gru --model.norm layer --transpose 6

            Install the corpus with: pip install "jaxseq[music]". Compose with: python -m jaxseq.sample RUN.
            """,
        data=Chorales(),
        model=Notes(),
    ),
    _of_windows(
        name="jsb",
        about="""
            Bach's chorales in the benchmark edition, note by note: Géron's network and protocol.

            python -m jaxseq.train jsb --data.path jsb_chorales.tgz

            20 epochs; expect 0.620 nats a note and an accuracy of 0.818 on test. Géron's notebook reports 0.656 and
            0.816.
            """,
        data=Jsb(),
        model=Notes(),
    ),
    _of_pieces(
        name="chords",
        about="""
            Bach's chorales in music21's edition, chord by chord over whole pieces: the one to compose with.

            python -m jaxseq.train chords

            Install the corpus with: pip install "jaxseq[music]". Compose with: python -m jaxseq.sample RUN.
            """,
        data=Chorales(),
        model=Chords(),
    ),
    _of_pieces(
        name="jsb-chords",
        about="""
            Bach's chorales in the benchmark edition, chord by chord over whole pieces: the best result.

            python -m jaxseq.train jsb-chords --data.path jsb_chorales.tgz

            60 epochs take 16 minutes of one core. Expect 0.391 nats a note on test; a 5-gram has 1.128.
            """,
        data=Jsb(),
        model=Chords(),
    ),
    _of_pieces(
        name="fill",
        about="""
            Fill gaps in music21's chorales: reads past and future, keeps some voices or bars and composes the rest.

            python -m jaxseq.train fill

            Then: python -m jaxseq.sample RUN --prime bwv269 --keep soprano,bass (or --redo 5-8, or --melody tune.mid).
            The score is that of hidden notes, a random share of each test piece.
            """,
        data=Chorales(),
        model=Fills(),
    ),
    _of_pieces(
        name="jsb-fill",
        about="""
            Fill gaps in the benchmark edition of the chorales.

            python -m jaxseq.train jsb-fill --data.path jsb_chorales.tgz

            Then: python -m jaxseq.sample RUN --prime chorale_305 --keep soprano,bass.
            """,
        data=Jsb(),
        model=Fills(),
    ),
)
"""The experiments of this domain, in the order of --help."""
