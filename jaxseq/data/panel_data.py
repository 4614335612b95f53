"""Options of the data sets that are read as a panel."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, TypedDict

from jaxseq.common import checks
from jaxseq.common.errors import UsageError
from jaxseq.data.dataset import Dataset
from jaxseq.data.panel import Panel
from jaxseq.data.powers import PowerName
from jaxseq.data.split import Split
from jaxseq.data.targets import Options, ScaleChoice, TargetChoice


def check_fold(source: str, count: int, fold: int) -> None:
    """Raise `UsageError` unless `fold` is one of `count`."""
    checks.count(1, where=source, folds=count, fold=fold)
    if fold > count:
        raise UsageError(f"{source}: fold is {fold}; there are {count}")


class PanelFields(TypedDict, total=False):
    """The fields of `PanelData`, for functions that take them as keywords: type checkers then know them."""

    window: int
    target: TargetChoice
    scale: ScaleChoice
    transform: PowerName
    scale_input: bool
    folds: int
    fold: int
    stateful: bool
    test_rows: int | None
    valid_rows: int | None
    test_from: str | None
    valid_from: str | None
    test_stride: int


@dataclass(frozen=True)
class PanelData(ABC):
    """Base of the data sets that are read as a `Panel`, and can be forecast beyond their end."""

    window: int = 50
    """Time steps of the model's input."""
    target: TargetChoice = "change"
    """Values the model sees and forecasts: change from the last value, from that of one season or of two,
    log-return, level, count, amount."""
    scale: ScaleChoice = "auto"
    """Scale: the training rows of a series (series), each window by itself (window; auto takes it for season and
    seasons), or a window's mean, median deviation or last value."""
    transform: PowerName = "none"
    """Transform of values above 0 before all else: none, log, or box-cox with an exponent fitted to each series."""
    scale_input: bool = False
    """Let the network read the scale of each window relative to its series, or of each series relative to the others."""
    folds: int = 1
    """Folds of a backtest over the rows of the test part; --backtest trains all of them."""
    fold: int = 1
    """Fold to train and test, from 1; training takes the rows before its test block."""
    stateful: bool = False
    """Read one long series in consecutive windows, and carry the state from each into the next; --task every-step."""
    test_rows: int | None = None
    """Rows at the end of each series for the test; None takes the latest 15 % of its rows."""
    valid_rows: int | None = None
    """Rows before those for validation; None takes as many."""
    test_from: str | None = None
    """First date of the test part in every series, in place of a number of rows: 2023-01-01."""
    valid_from: str | None = None
    """First date of the validation part; None takes as many rows as the test part of the series has."""
    test_stride: int = 1
    """Judge every so many windows of the test part: 24 for one forecast a day of hourly rows."""

    unit: ClassVar[str] = ""
    """Unit of the values; empty where it is not known."""

    def __post_init__(self) -> None:
        """Raise `UsageError` for an invalid field."""
        checks.count(2, where=self.name, window=self.window)
        self._target.check(self.name)
        check_fold(self.name, self.folds, self.fold)
        self.split.check()

    @property
    def _target(self) -> Options:
        """The target as it is asked for."""
        return Options(self.target, self.scale, self.transform, self.scale_input)

    @property
    def split(self) -> Split:
        """The rule for the parts of each series."""
        return Split(
            test_rows=self.test_rows,
            valid_rows=self.valid_rows,
            test_from=self.test_from,
            valid_from=self.valid_from,
            stride=self.test_stride,
        )

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of the data set, for titles and messages."""

    @property
    def masks_targets(self) -> bool:
        """Whether targets may be NaN, not known; those have no weight in training."""
        return False

    @property
    def knows_ahead(self) -> bool:
        """Whether there are covariates that are known ahead."""
        return False

    @abstractmethod
    def panel(self) -> Panel:
        """Read the series. Raises `UsageError` where they cannot be used."""

    def load(self, horizon: int) -> Dataset:
        """Read the series and cut them into windows with `horizon` targets each.

        Raises `UsageError` for series that cannot be read, split or scaled.
        """
        # Before the file is read, which may take a while.
        self.split.check_horizon(horizon, self.folds)
        panel = dataclasses.replace(self.panel(), split=self.split)
        return panel.load(self._target, self.window, horizon, self.folds, self.fold, stateful=self.stateful)
