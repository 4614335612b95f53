"""Interface of a domain: `Domain` for its module, `RestoredRun` for its trained models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias, TypeVar, runtime_checkable

from jaxseq.checkpoint import run_seal
from jaxseq.train import overrides
from jaxseq.train.experiments.base import Experiment

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from jaxseq.train.epoch import TrainState
    from jaxseq.train.job import Job

AnyExperiment = TypeVar("AnyExperiment", bound=Experiment)
Material = TypeVar("Material")


RunRow: TypeAlias = dict[str, int | float]
"""A run in the table of a study or a sweep: numbers by column."""


class Extras(NamedTuple):
    """Parts of a judgement that take longer than the rest, and are made where they are asked for.

    classical  classical forecasts beside those of the model
    explain    importance of the inputs, residuals, and pictures of the worst forecasts
    """

    classical: bool = False
    explain: bool = False

    @property
    def files(self) -> tuple[str, ...]:
        """Files in a run's folder that these parts make, besides pictures."""
        of_classical = (run_seal.CLASSICAL,) if self.classical else ()
        of_explanation = (run_seal.IMPORTANCE, run_seal.RESIDUALS) if self.explain else ()
        return (*of_classical, *of_explanation)


NO_EXTRAS = Extras()


class Member(NamedTuple):
    """One run of a study."""

    fold: int
    seed: int
    experiment: Experiment
    folder: Path

    @property
    def name(self) -> str:
        """The run's name in messages about runs of one fold."""
        return f"seed {self.seed}"


@runtime_checkable
class RestoredRun(Protocol):
    """A trained model, restored from its run; each domain adds the methods to use it."""

    @property
    def experiment(self) -> Experiment:
        """The experiment of the run."""
        ...

    @property
    def epoch(self) -> int:
        """The epoch that is restored."""
        ...

    @property
    def state(self) -> TrainState:
        """Parameters, statistics and the rest of the training state after that epoch."""
        ...

    @property
    def folder(self) -> Path | None:
        """The folder of the run; None if it is not known any more."""
        ...


@runtime_checkable
class Domain(Protocol[AnyExperiment, Material]):
    """A module of this package, which provides these functions in this order.

    `AnyExperiment` is the domain's subclass of `Experiment`; its field `domain` names the module. `Material` is the type
    of the data from which `prepare` lays out rows, and by which `judge` scores the run.
    """

    def prepare(self, experiment: AnyExperiment) -> Job[AnyExperiment, Material]:
        """Load the data, lay them out as rows x "n t d" with targets y "n *k" for each part, and build the model.

        `job.build_job` makes a job of the rows. Raises `UsageError` where data and experiment do not fit.
        """
        ...

    def restore(
        self, folder: str | Path, epoch: int | None = None, experiment: Experiment | None = None
    ) -> RestoredRun:
        """Restore the best epoch of a run, or the given one, without its data; `experiment` as `from_config` has it.

        Raises `UsageError` if there is no such run or epoch, or it is of another domain, and `records.DamagedError` if
        an array is not the one that was saved.
        """
        ...

    def judge(
        self, job: Job[AnyExperiment, Material], folder: Path, console: Console, extras: Extras = NO_EXTRAS
    ) -> RunRow:
        """Judge the best epoch on the test part: tables on the console, reports and figures in the folder.

        Returns the run as a row of its study's table: numbers by the name of their column.
        """
        ...

    def check(self, experiment: AnyExperiment) -> None:
        """Raise `UsageError` for data that cannot be used, before anything is written."""
        ...

    def summary(self, experiment: AnyExperiment, runs: Sequence[Member], table: pd.DataFrame) -> str:
        """Summarise a study in Markdown: the mean over its runs and its spread; `table` has a row a run."""
        ...


def one_line(run: RestoredRun) -> str:
    """Return a restored run as its `repr`: experiment, epoch and network, and none of its arrays."""
    network = overrides.network_words(run.experiment)
    return f"{type(run).__name__}({run.experiment.name}, epoch {run.epoch}, {network})"


def measured(value: float, spread: float = math.nan, digits: int = 4) -> str:
    """Format a number and its spread for a table; a dash if there is no number."""
    if math.isnan(value):
        return "\N{EN DASH}"
    # pandas gives NaN for the standard deviation of a single run.
    if math.isnan(spread):
        return f"{value:.{digits}f}"
    return f"{value:.{digits}f} ± {spread:.{digits}f}"
