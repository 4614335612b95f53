"""Preparation, judging and summary of runs, for each domain of experiments."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from jaxseq.train.experiments.base import Experiment

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from jaxseq.train.job import Job


class Member(NamedTuple):
    """One run of a study."""

    fold: int
    seed: int
    experiment: Any
    folder: Path


@runtime_checkable
class Domain(Protocol):
    """A module of this package."""

    def prepare(self, experiment: Any) -> Job:
        """Load the data, build the model, lay both over the devices. Raises `UsageError` where they do not fit."""
        ...

    def judge(self, job: Job, folder: Path, console: Console, classical: bool = False) -> None:
        """Judge the best epoch on the test part, on the screen and in the folder."""
        ...

    def check(self, experiment: Any) -> None:
        """Raise `UsageError` for data that no run could be made of, before anything is written."""
        ...

    def row(self, member: Member) -> dict[str, Any]:
        """What a study's table says of a finished run."""
        ...

    def summary(self, experiment: Any, runs: Sequence[Member], table: pd.DataFrame) -> str:
        """A study in Markdown: the mean over its runs, and the spread; `table` has a row for each of them."""
        ...


def of(experiment: Experiment) -> Domain:
    """The domain of an experiment, imported when it is needed."""
    found: Any = importlib.import_module(f"{__name__}.{experiment.domain}")
    return found


def measured(value: float, spread: float = math.nan, digits: int = 4) -> str:
    """A number with its spread, where there is one, for a table; a dash for none."""
    if math.isnan(value):
        return "\N{EN DASH}"
    return f"{value:.{digits}f}" if math.isnan(spread) else f"{value:.{digits}f} ± {spread:.{digits}f}"
