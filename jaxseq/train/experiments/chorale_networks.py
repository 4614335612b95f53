"""Networks of chorales: note by note, chord by chord, or filling gaps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol, get_args, runtime_checkable

import numpy as np
from jaxtyping import Array, Int

from jaxseq import cells
from jaxseq.common.arrays import namespace
from jaxseq.common.checks import count, one_of, share
from jaxseq.common.errors import UsageError
from jaxseq.music import conditions, tokens
from jaxseq.music.networks import inputs, objectives, reprise
from jaxseq.music.networks.chord_net import ChordNet
from jaxseq.music.networks.fill_net import FillNet
from jaxseq.music.networks.inputs import Rows
from jaxseq.music.networks.note_net import NoteNet
from jaxseq.music.piece import VOICES
from jaxseq.nn.objectives import Objective
from jaxseq.train.experiments.base import CellName, Network, NormName, check_convolutions, norm_inside

LOWEST, HIGHEST = 1, tokens.VOCABULARY - 1
"""The symbols that have a pitch, and can be transposed."""


@runtime_checkable
class ChoraleNetwork(Network, Protocol):
    """Options of a network that reads chorales.

    columns            columns of its input rows that hold symbols
    per_step           rows for each sixteenth
    whole_pieces_only  whether it can be trained on whole pieces alone
    conditions         whether it reads what is known of a piece, see `music.conditions`
    """

    columns: ClassVar[tuple[int, ...]]
    per_step: ClassVar[int]
    whole_pieces_only: ClassVar[bool]

    @property
    def conditions(self) -> bool:
        """Whether it reads what is known of a piece."""
        ...

    def rows(
        self,
        tokens: Int[np.ndarray | Array, "t 4"],
        positions: Int[np.ndarray | Array, "t"],
        cold: bool = False,
        known: Int[np.ndarray | Array, "t _"] | None = None,
    ) -> Rows:
        """Lay out a piece as input rows and targets; `cold` if it begins without a start symbol.

        known  columns of `conditions`, for a network that reads them; None if nothing is known
        """
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

    cell: CellName = "lstm"
    """Recurrent cell, a name of `jaxseq.cells.CELLS`."""
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
    conditions: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_network(self)
        check_convolutions(self.convolutions)

    def rows(
        self,
        tokens: Int[np.ndarray | Array, "t 4"],
        positions: Int[np.ndarray | Array, "t"],
        cold: bool = False,
        known: Int[np.ndarray | Array, "t _"] | None = None,
    ) -> Rows:
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
            norm=norm_inside(self.norm),
            norm_convolutions=self.norm_convolutions,
            dropout=self.dropout,
            recurrent_dropout=self.recurrent_dropout,
        )


@dataclass(frozen=True)
class VoicesAtOnce:
    """Fields of the networks that read a chord at each sixteenth and have an output layer for each voice."""

    cell: CellName = "gru"
    """Recurrent cell, a name of `jaxseq.cells.CELLS`."""
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

    per_step: ClassVar[int] = 1

    def __post_init__(self) -> None:
        _check_network(self)
        count(1, voice_hidden=self.voice_hidden)
        # Embeddings of durations and of bar positions have half that size.
        if self.embedding % 2:
            raise UsageError("not an even number", where="--model.embedding", got=self.embedding)


@dataclass(frozen=True)
class Chords(VoicesAtOnce):
    """Recurs once a sixteenth over whole chords; each voice is predicted from those above it."""

    relative: bool = True
    """Add scores by interval: from the last note of the voice, and from the voices above."""
    voice_dropout: float = 0.3
    """Dropout rate of what a voice reads: the previous chord and the voices above."""
    conditions: bool = False
    """Read what is known of a piece, each hidden in some training rows: its end, fermatas, key and metre."""
    reprises: bool = False
    """Point at the place where the passage just heard was heard before, in all voices and in the soprano alone."""

    columns: ClassVar[tuple[int, ...]] = inputs.CHORD_COLUMNS
    whole_pieces_only: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        share(voice_dropout=self.voice_dropout)

    def rows(
        self,
        tokens: Int[np.ndarray | Array, "t 4"],
        positions: Int[np.ndarray | Array, "t"],
        cold: bool = False,
        known: Int[np.ndarray | Array, "t _"] | None = None,
    ) -> Rows:
        """Lay out a piece with one row a sixteenth."""
        if self.conditions and known is None:
            known = namespace(tokens).full((tokens.shape[0], conditions.WIDTH), conditions.UNKNOWN)
        return inputs.chords(tokens, positions, cold, known if self.conditions else None, self.reprises)

    def objective(self, transpose: int) -> Objective:
        """Return cross entropy in nats a note."""
        first = inputs.CHORD_WIDTH
        columns = self.columns
        tonics: tuple[int, ...] = ()
        groups: tuple[tuple[int, ...], ...] = ()
        if self.conditions:
            tonics = (first + conditions.TONIC,)
            groups = tuple(tuple(first + column for column in group) for group in conditions.COLUMNS.values())
            first += conditions.WIDTH
        if self.reprises:
            columns += tuple(first + column for column in reprise.NOTE_COLUMNS)
        return objectives.next_symbol(
            columns,
            transpose,
            lowest=LOWEST,
            highest=HIGHEST,
            tonics=tonics,
            conditions=groups,
        )

    def build(self, started: bool) -> ChordNet:
        """Build the Flax module, which is the same with and without a start symbol."""
        return ChordNet(
            cell=cells.named(self.cell),
            hidden=self.hidden,
            layers=self.layers,
            embedding=self.embedding,
            voice_hidden=self.voice_hidden,
            norm=norm_inside(self.norm),
            dropout=self.dropout,
            recurrent_dropout=self.recurrent_dropout,
            relative=self.relative,
            voice_dropout=self.voice_dropout,
            conditions=self.conditions,
            reprises=self.reprises,
        )


@dataclass(frozen=True)
class Fills(VoicesAtOnce):
    """Reads past and future, and predicts hidden notes (Coconet, Huang et al. 2017)."""

    hidden: int = 192
    """Units in each recurrent layer and direction."""
    voice_hidden: int = 192
    """Units in the dense layer of each voice."""
    dropout: float = 0.2
    """Dropout rate before each layer but the first."""
    recurrent_dropout: float = 0.0
    """Dropout rate of the recurrent state, one mask for a whole sequence (Gal & Ghahramani 2016)."""

    columns: ClassVar[tuple[int, ...]] = inputs.FILL_COLUMNS
    whole_pieces_only: ClassVar[bool] = True
    conditions: ClassVar[bool] = False

    def rows(
        self,
        tokens: Int[np.ndarray | Array, "t 4"],
        positions: Int[np.ndarray | Array, "t"],
        cold: bool = False,
        known: Int[np.ndarray | Array, "t _"] | None = None,
    ) -> Rows:
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
            norm=norm_inside(self.norm),
            dropout=self.dropout,
            recurrent_dropout=self.recurrent_dropout,
        )


def _check_network(model: Notes | VoicesAtOnce) -> None:
    cells.check_options(model.cell, model.norm != "none", model.recurrent_dropout)
    count(1, hidden=model.hidden, layers=model.layers, embedding=model.embedding)
    # Batch norm between two layers is a setting of forecasts alone.
    one_of(get_args(NormName)[:-1], norm=model.norm)
    share(dropout=model.dropout, recurrent_dropout=model.recurrent_dropout)
