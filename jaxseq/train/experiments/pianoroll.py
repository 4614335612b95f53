"""Experiments on piano rolls: which keys sound in the next quarter. A new one is an entry of `EXPERIMENTS`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, get_args

from jaxseq import cells
from jaxseq.common.checks import count, one_of, share
from jaxseq.common.errors import UsageError
from jaxseq.music.corpora.pianoroll import PianoRoll
from jaxseq.music.networks import objectives
from jaxseq.music.networks.roll_net import RollNet
from jaxseq.nn.objectives import Objective
from jaxseq.train.experiments.base import CellName, Experiment, NormName, check_convolutions, norm_inside

MOST_BUCKETS = 8
"""Maximum number of groups of pieces, each of which is compiled by itself."""


@dataclass(frozen=True)
class Roll:
    """Causal convolutions, recurrent layers, or both, and a sigmoid for each of the 88 keys."""

    cell: CellName = "lstm"
    """Recurrent cell, a name of `jaxseq.cells.CELLS`."""
    hidden: int = 300
    """Units in each recurrent layer."""
    layers: int = 1
    """Number of stacked recurrent layers; 0 for convolutions alone."""
    convolutions: tuple[int, ...] = ()
    """Channels of each causal convolution (two taps, dilation 1, 2, 4, ..., residual)."""
    norm: NormName = "none"
    """Layer norm of both projections (layer) or of their sum (layer-sum), or batch norm (batch)."""
    dropout: float = 0.5
    """Dropout rate before the output layer and after each convolution."""
    input_dropout: float = 0.2
    """Dropout rate of the input keys."""
    recurrent_dropout: float = 0.3
    """Dropout rate of the recurrent state, one mask for a whole sequence (Gal & Ghahramani 2016)."""

    def __post_init__(self) -> None:
        cells.check_options(self.cell, self.norm != "none", self.recurrent_dropout)
        count(1, hidden=self.hidden)
        count(0, layers=self.layers)
        if not self.layers and not self.convolutions:
            raise UsageError(
                "a network without recurrent layers needs convolutions", where="--model.layers", got=0, needed="1"
            )
        check_convolutions(self.convolutions)
        one_of(get_args(NormName)[:-1], norm=self.norm)
        share(dropout=self.dropout, input_dropout=self.input_dropout, recurrent_dropout=self.recurrent_dropout)

    def build(self) -> RollNet:
        """Build the Flax module."""
        return RollNet(
            cell=cells.named(self.cell),
            hidden=self.hidden,
            layers=self.layers,
            convolutions=self.convolutions,
            norm=norm_inside(self.norm),
            dropout=self.dropout,
            input_dropout=self.input_dropout,
            recurrent_dropout=self.recurrent_dropout,
        )


@dataclass(frozen=True, kw_only=True)
class PianorollExperiment(Experiment):
    """A model of piano rolls. Raises `UsageError` for an invalid field."""

    data: PianoRoll = field(default_factory=PianoRoll)
    """The piano rolls."""
    model: Roll = field(default_factory=Roll)
    """The network."""
    decay: float = 0.01
    """Weight decay of AdamW; 0 is Adam."""
    buckets: int = 1
    """Maximum number of groups of pieces of similar length, each padded to its longest; 1 pads all to the longest."""

    domain: ClassVar[str] = "pianoroll"

    def __post_init__(self) -> None:
        super().__post_init__()
        count(1, most=MOST_BUCKETS, buckets=self.buckets)

    def objective(self) -> Objective:
        """Return cross entropy in nats a frame."""
        return objectives.frames()

    def build(self) -> RollNet:
        """Build the Flax module."""
        return self.model.build()


EXPERIMENTS = (
    PianorollExperiment(
        name="pianoroll",
        about="""
            The piano rolls of the literature: Bach's chorales as 88 keys in quarters, transposed to C.

            python -m jaxseq.train pianoroll --model.cell gru

            python -m jaxseq.train pianoroll --model.layers 0 \\
                --model.convolutions 300 300 300 300 --model.dropout 0.4 --lr 2e-3

            Nats a frame by the protocol of Bai et al. (2018), who report 8.91 (RNN), 8.45 (LSTM), 8.43 (GRU) and 8.10
            (convolutions). Expect 8.43 for the LSTM after five minutes and 8.06 for the convolutions after eight.
            """,
        batch=16,
        lr=3e-3,
        schedule="cosine",
        clip=1.0,
    ),
)
"""The experiments of this domain, in the order of --help."""
