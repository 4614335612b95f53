"""Experiments on Bach's chorales. A new one is an entry of `EXPERIMENTS`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Generic, Literal, TypeVar, get_args

from jaxseq.common.checks import count, one_of
from jaxseq.common.errors import UsageError
from jaxseq.music.corpora.chorales import Chorales
from jaxseq.music.corpora.jsb import Jsb
from jaxseq.music.networks.chord_net import ChordNet
from jaxseq.music.networks.fill_net import FillNet
from jaxseq.music.networks.note_net import NoteNet
from jaxseq.nn.objectives import Objective
from jaxseq.train.experiments.base import Experiment
from jaxseq.train.experiments.chorale_networks import ChoraleNetwork, Chords, Fills, Notes

Scoring = Literal["windows", "pieces"]


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

    domain: ClassVar[str] = "chorales"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(get_args(Scoring), protocol=self.protocol)
        count(1, stretch=self.stretch, hop=self.hop)
        count(0, transpose=self.transpose)
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

_of_chords = partial(_of_pieces, epochs=40, ema=0.995, model=Chords(conditions=True, reprises=True))

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
    _of_chords(
        name="chords",
        about="""
            Bach's chorales in music21's edition, chord by chord over whole pieces, with keys, phrases and endings.

            python -m jaxseq.train chords

            Install the corpus with: pip install "jaxseq[music]". Compose with: python -m jaxseq.sample RUN.
            """,
        data=Chorales(),
    ),
    _of_chords(
        name="jsb-chords",
        about="""
            Bach's chorales in the benchmark edition, chord by chord over whole pieces: the one to compose with.

            python -m jaxseq.train jsb-chords --data.path jsb_chorales.tgz

            40 epochs take 22 minutes of one core. Expect 0.375 nats a note on test, or 0.358 if key and length are told; a
            5-gram has 1.128. Compose with: python -m jaxseq.sample RUN.
            """,
        data=Jsb(),
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
