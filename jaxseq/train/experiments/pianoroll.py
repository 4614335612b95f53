"""Recipes of piano rolls: which keys sound in the next quarter."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, get_args

import optax

from jaxseq import cells
from jaxseq.cells.norm import Norm
from jaxseq.common.checks import at_least, one_of, share
from jaxseq.common.errors import UsageError
from jaxseq.music.corpora.pianoroll import PianoRoll
from jaxseq.music.networks import objectives
from jaxseq.music.networks.roll_net import RollNet
from jaxseq.nn import objectives as tasks
from jaxseq.train.experiments.base import NormName, Recipe, Schedule, adam


@dataclass(frozen=True)
class Roll:
    """Causal convolutions, recurrent layers, or both, and a sigmoid for each of the 88 keys."""

    cell: str = "lstm"
    """The recurrent cell: rnn, lstm or gru."""
    hidden: int = 300
    """Units in each recurrent layer."""
    layers: int = 1
    """Recurrent layers, one on the other; 0 leaves the convolutions alone."""
    convolutions: tuple[int, ...] = ()
    """Channels of each causal convolution of two taps, 1, 2, 4, ... frames apart, added to what came in."""
    norm: NormName = "none"
    """Normalisation in the recurrent layers."""
    dropout: float = 0.5
    """Share of the values before the last layer, and after each convolution, that a training step leaves out."""
    input_dropout: float = 0.2
    """Share of the keys that a training step does not see."""
    recurrent_dropout: float = 0.3
    """Share of the state that does not recur in a training step, one draw a sequence (Gal & Ghahramani 2016)."""

    def __post_init__(self) -> None:
        cells.named(self.cell)
        at_least(1, hidden=self.hidden)
        at_least(0, layers=self.layers)
        if not self.layers and not self.convolutions:
            raise UsageError("layers is 0 and there are no convolutions: nothing would remember; take one of them")
        for number, channels in enumerate(self.convolutions, 1):
            at_least(1, where=f"convolution {number}", channels=channels)
        one_of(get_args(NormName)[:-1], norm=self.norm)
        share(dropout=self.dropout, input_dropout=self.input_dropout, recurrent_dropout=self.recurrent_dropout)


@dataclass(frozen=True, kw_only=True)
class Rolls(Recipe):
    """The piano rolls of the literature: 88 keys on a grid of quarters, transposed to C.

    python -m jaxseq.train pianoroll [--model.cell lstm|gru]
    python -m jaxseq.train pianoroll --model.layers 0 --model.convolutions 300 300 300 300 --model.dropout 0.4 --lr 2e-3

    Nats a frame, the protocol of Bai et al. 2018, who report 8.91 (RNN), 8.45 (LSTM), 8.43 (GRU) and 8.10 (convolutions).
    Expect 8.45 of the LSTM after five minutes and 8.06 of the convolutions after eight.
    """

    data: PianoRoll = field(default_factory=PianoRoll)
    model: Roll = field(default_factory=Roll)
    epochs: int = 100
    batch: int = 16
    lr: float = 3e-3
    schedule: Schedule = "cosine"
    clip: float | None = 1.0
    decay: float = 0.01
    """Weight decay of AdamW."""

    name: ClassVar[str] = "pianoroll"
    domain: ClassVar[str] = "pianoroll"

    def __post_init__(self) -> None:
        super().__post_init__()
        share(decay=self.decay)

    def objective(self) -> tasks.Objective:
        """Cross entropy in nats a frame."""
        return objectives.frames()

    def build(self) -> RollNet:
        """The Flax module."""
        model = self.model
        norm = None if model.norm == "none" else Norm(model.norm)
        drops = model.dropout, model.input_dropout, model.recurrent_dropout
        return RollNet(cells.named(model.cell), model.hidden, model.layers, model.convolutions, norm, *drops)

    def optimiser(self, steps_per_epoch: int) -> optax.GradientTransformation:
        """AdamW by this recipe; one object for one recipe."""
        steps = self.epochs * steps_per_epoch if self.schedule == "cosine" else None
        return adam(self.lr, self.clip, steps, self.decay)


ALL = (Rolls(),)
"""The recipes of piano rolls."""
