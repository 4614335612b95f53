"""The fields that every experiment has: data, network, and how the network is trained."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal, Protocol, TypeAlias, TypeVar, get_args, runtime_checkable

import tyro

from jaxseq.cells import CELLS
from jaxseq.cells.norm import Norm
from jaxseq.common.checks import changed_fields, count, one_of, share
from jaxseq.common.errors import UsageError
from jaxseq.common.precision import Precision
from jaxseq.data.dataset import DataOptions
from jaxseq.nn.apply import Model
from jaxseq.nn.objectives import Objective
from jaxseq.train import optimiser as optimisers
from jaxseq.train.optimiser import Optimiser, Rule, Settings
from jaxseq.train.schedules import PLATEAU, Schedule

NormName = Literal["none", "layer", "layer-sum", "batch", "batch-between"]
OnNonFinite = Literal["stop", "skip"]

AUTO = "auto"
"""The number of epochs that the training rows decide, see `with_epochs_of`."""
Epochs: TypeAlias = int | Literal["auto"]
AUTO_STEPS = 2_000
"""Optimiser steps for which an automatic number of epochs is enough."""
LEAST_EPOCHS = 20
MOST_EPOCHS = 500
"""Range of an automatic number of epochs."""
PATIENCE = 0.25
"""Share of an automatic number of epochs, above the least one, that training waits for a better validation score."""

OWN = "own"
"""Name of trainings from Python, `jaxseq.train.fit`: in `config.json`, and in the names of their folders."""
MOST_LAYERS_AT_ONCE = 8
"""Maximum number of layers that are drawn by one compiled function: 16 take longer to compile than they train."""
CellName = Annotated[str, tyro.conf.arg(help=f"Recurrent cell: {', '.join(CELLS)}.")]
"""A name of `CELLS`, whose help lists them all."""

AnyTraining = TypeVar("AnyTraining", bound="Training")


@runtime_checkable
class Network(Protocol):
    """A network's options: a frozen dataclass with at least a cell and its size, from which the Flax module is built."""

    @property
    def cell(self) -> str:
        """The recurrent cell, a name of `jaxseq.cells.CELLS`."""
        ...

    @property
    def hidden(self) -> int:
        """Units in each recurrent layer."""
        ...

    @property
    def layers(self) -> int:
        """Number of stacked recurrent layers."""
        ...


@dataclass(frozen=True, kw_only=True)
class Training:
    """The passes over the training rows. Raises `UsageError` for an invalid field."""

    name: Annotated[str, tyro.conf.Fixed, tyro.conf.Suppress]
    """The name on the command line, in `config.json` and in the names of run folders."""
    epochs: Epochs = 100
    """Passes over the training set; auto: by its rows, 20 to 500, for about 2,000 steps, with patience."""
    batch: int = 32
    """Training rows in one optimiser step; with --epochs auto, at most all of them."""
    seed: int = 0
    """Seed of every random draw: initial weights, order of the rows, dropout."""
    patience: int | None = None
    """Early stopping: epochs without a better validation score before training stops; None disables it."""
    min_gain: float | None = None
    """Early stopping: least share by which the training loss falls over --gain-epochs, 0.005 say; None disables it.
    Short runs that choose a preparation do not read it."""
    gain_epochs: int = 30
    """Epochs over which --min-gain compares the best training loss so far."""
    min_epochs: int = 100
    """Epochs before --min-gain may stop training."""
    on_nonfinite: OnNonFinite = "stop"
    """Reaction to a loss or gradient that is not finite: stop, or skip that step (up to 10 in a row)."""
    precision: Precision = "float32"
    """Precision of matrix products on a GPU: float32 in full, or the faster tf32 and bfloat16; a CPU ignores it."""

    def __post_init__(self) -> None:
        for name, value in changed_fields(self).items():
            # The only way to set a field of a frozen dataclass.
            object.__setattr__(self, name, value)
        count(1, batch=self.batch)
        if self.epochs != AUTO:
            count(1, epochs=self.epochs)
        # From 2**32 on, JAX's keys repeat.
        count(0, most=2**32 - 1, seed=self.seed)
        if self.patience is not None:
            count(1, patience=self.patience)
        if self.min_gain is not None:
            share(min_gain=self.min_gain)
        count(1, gain_epochs=self.gain_epochs, min_epochs=self.min_epochs)
        one_of(get_args(OnNonFinite), on_nonfinite=self.on_nonfinite)
        one_of(get_args(Precision), precision=self.precision)

    @property
    def draws_by_layer(self) -> bool:
        """Whether the first state is drawn one layer after the other, which deep stacks compile faster."""
        return False

    @property
    def most_epochs(self) -> int:
        """The number of epochs, or the largest one that the training rows may decide."""
        if self.epochs == AUTO:
            return MOST_EPOCHS
        return int(self.epochs)


@dataclass(frozen=True, kw_only=True)
class Experiment(Training, ABC):
    """A reproducible training run: data, network and training settings. Raises `UsageError` for an invalid field.

    Each domain has one subclass, which provides `domain`, `objective` and `build`, and gives `data` and `model` the types
    of the domain. An experiment is an instance of it: a value in the table of the domain's module.
    """

    # Another help text does not make another experiment, so it is not compared.
    about: Annotated[str, tyro.conf.Fixed, tyro.conf.Suppress] = field(default="", repr=False, compare=False)
    """The text of its --help: one line for the list of experiments, then command, duration and expected result."""
    data: DataOptions
    """The data set."""
    model: Network
    """The network."""
    optimiser: Rule = "adam"
    """Update rule: adam suits most; sgd, rmsprop take --momentum; adafactor steps relative to the weights."""
    lr: float = 1e-3
    """Learning rate, the largest of the schedule; lion wants a third of Adam's or less, sgd and muon more."""
    schedule: Schedule = "constant"
    """Learning rate over the run: falls to 0 (cosine, warmup-cosine, one-cycle), by --factor, or at each plateau."""
    clip: float | None = None
    """Maximum global gradient norm; None disables clipping."""
    decay: float = 0.0
    """Weight decay, times the learning rate: of adamw (or adam, which becomes it), nadamw, lion and muon."""
    momentum: float = 0.0
    """Share of the last update in the next one, such as 0.9: of sgd and rmsprop."""
    warmup: float | None = None
    """Share of the run in which the rate rises; None: 0.1 of warmup-cosine, 0.3 of one-cycle."""
    factor: float | None = None
    """Factor of the rate: in all if exponential (None: 0.01), at each plateau (None: 0.1)."""
    plateau: int | None = None
    """Epochs without a better validation score before the rate falls; None: 5 of --schedule plateau."""
    ema: float = 0.0
    """Validate and use an average of the weights of all steps, in which each step weighs so much of the next: 0.99, say."""

    domain: ClassVar[str]
    """The module of `jaxseq.train.domains` that prepares and judges runs of this class."""

    def __post_init__(self) -> None:
        super().__post_init__()
        optimisers.check(self._settings)
        plateau = self.plateau or PLATEAU
        if self.schedule == "plateau" and self.patience is not None and self.patience <= plateau:
            raise UsageError(
                "training stops before the learning rate falls",
                where="--patience",
                got=self.patience,
                needed=f"more than --plateau {plateau}",
            )

    @property
    def _settings(self) -> Settings:
        return Settings(
            rule=self.optimiser,
            lr=self.lr,
            schedule=self.schedule,
            clip=self.clip,
            decay=self.decay,
            momentum=self.momentum,
            warmup=self.warmup,
            factor=self.factor,
            plateau=self.plateau,
            ema=self.ema,
        )

    @property
    def draws_by_layer(self) -> bool:
        """Whether the first state is drawn one layer after the other, which deep stacks compile faster."""
        return self.model.layers > MOST_LAYERS_AT_ONCE

    @abstractmethod
    def objective(self) -> Objective:
        """Return the training loss and the validation metrics; equal settings return equal objectives.

        They are functions of predictions "b *k" and targets "b *k" of the same batch.
        """

    @abstractmethod
    def build(self) -> Model:
        """Build the Flax module, from rows "b t d" to predictions "b *k"; equal settings build equal modules.

        Modules and objectives are constants of the compiled functions: unequal ones compile anew.
        """

    def build_optimiser(self, steps_per_epoch: int) -> Optimiser:
        """Build the optimiser; settings that differ in numbers alone have the same transformation."""
        return optimisers.optimiser(self._settings, self.most_epochs * steps_per_epoch)


def with_batch_of(training: AnyTraining, rows: int, devices: int) -> AnyTraining:
    """Return a training with a batch of at most all rows, a multiple of the devices, where its epochs are automatic."""
    largest = -(-rows // devices) * devices
    if training.epochs != AUTO or training.batch <= largest:
        return training
    return dataclasses.replace(training, batch=largest)


def with_epochs_of(training: AnyTraining, steps_per_epoch: int) -> AnyTraining:
    """Return a training with a number of epochs, where it is automatic by the optimiser steps of each.

    Few rows get more epochs than the least number, and then patience, unless there is one already.
    """
    if training.epochs != AUTO:
        return training
    wanted = -(-AUTO_STEPS // steps_per_epoch)
    epochs = min(max(wanted, LEAST_EPOCHS), MOST_EPOCHS)
    patience = training.patience
    if patience is None and epochs > LEAST_EPOCHS:
        patience = max(1, round(PATIENCE * epochs))
    return dataclasses.replace(training, epochs=epochs, patience=patience)


def norm_inside(name: NormName) -> Norm | None:
    """Return the normalisation inside the cells by its name, with its own epsilon and momentum; None for "none"."""
    if name == "none":
        return None
    return Norm(name)


def check_convolutions(channels: tuple[int, ...]) -> None:
    """Raise `UsageError` for a convolution without channels."""
    for number, width in enumerate(channels, 1):
        count(1, where=f"convolution {number}", channels=width)
