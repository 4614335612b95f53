"""Series in chronological order, split into training, validation and test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, get_args

import numpy as np
from jaxtyping import Float

from jaxseq.common.arrays import Splits
from jaxseq.common.checks import at_least, one_of
from jaxseq.common.errors import UsageError
from jaxseq.data.dataset import Background, Dataset
from jaxseq.data.folds import Fold, folds
from jaxseq.data.frequency import Frequency
from jaxseq.data.scaling import Kind, Scaling, check_reach, fit_scaling
from jaxseq.data.windows import Series, Windows, WindowSplits, called, cut, join, summarise_failures


@dataclass(frozen=True)
class Panel:
    """One series or many, each split by itself: the latest rows are for the test, those before them for validation.

    names       of the series
    covariates  known beside each value, "n c"; an empty tuple where there are none
    source      opens every message: the file; may be empty
    frequency   of the times of all series, with the time steps of a season
    notes       what the user should know about how the data were read
    """

    names: tuple[str, ...]
    series: tuple[Series, ...]
    frequency: Frequency
    covariates: tuple[Float[np.ndarray, "_ c"], ...] = ()
    notes: tuple[str, ...] = ()
    source: str = ""

    def load(self, target: Kind, window: int, horizon: int, count: int = 1, fold: int = 1) -> Dataset:
        """Split the series into the three parts of one of `count` folds, cut their windows and fit their scaling.

        Raises `UsageError`, which names the series, if a part is too short for a window, if the last value is exact in
        the whole test part (no forecast can be compared with it), and as `fit_scaling` and `check_reach` do.
        """
        rows = self._split(window, horizon, count, fold)
        training = [series.values[slice(*parts.train)] for series, parts in zip(self.series, rows, strict=True)]
        return Dataset(
            windows=self._windows(rows, window, horizon),
            scaling=self._scaling(target, training, rows),
            background=Background(
                names=self.names,
                period=self.frequency.period,
                series=self.series,
                # Training takes a series from its first row on, in every fold.
                training_rows=tuple(len(values) for values in training),
                notes=self.notes,
            ),
        )

    @property
    def _opening(self) -> str:
        return f"{self.source}: " if self.source else ""

    def _split(self, window: int, horizon: int, count: int, fold: int) -> list[Fold]:
        """Return the rows of the three parts, for each series."""
        splits = []
        failures = []
        for name, series in zip(self.names, self.series, strict=True):
            n = len(series.values)
            try:
                splits.append(folds(n, count, window, horizon, source=called(name))[fold - 1])
            except UsageError as error:
                failures.append((f"{name} ({n} rows)", error))

        if failures:
            raise UsageError(self._opening + summarise_failures("too short", failures, len(self.names)))
        return splits

    def _windows(self, rows: Sequence[Fold], window: int, horizon: int) -> WindowSplits:
        covariates = self.covariates or [None] * len(self.series)
        parts = []
        for part in Splits._fields:
            cuts = []
            for number, series in enumerate(self.series):
                first, last = getattr(rows[number], part)
                cuts.append(cut(series, window, horizon, first, last, number=number, covariates=covariates[number]))
            parts.append(join(cuts))

        self._check_moves(parts)
        return Splits(*parts)

    def _check_moves(self, parts: Sequence[Windows]) -> None:
        still = [bool(np.all(part.targets == part.inputs[:, -1:])) for part in parts]
        if all(still):
            value = parts[0].inputs[0, 0]
            raise UsageError(f"{self._opening}all rows are constant ({value:g}): nothing can be learnt")
        if still[-1]:
            raise UsageError(
                f"{self._opening}none of the {len(parts[-1].targets)} test windows moves from its last value: the naive "
                "forecast is exact, and no other can be compared with it; leave out the constant rows at the end"
            )

    def _scaling(self, target: Kind, training: Sequence[Float[np.ndarray, "_"]], rows: Sequence[Fold]) -> Scaling:
        # A panel without covariates has an empty tuple, not an empty array for each series.
        covariates = [values[slice(*parts.train)] for values, parts in zip(self.covariates, rows, strict=False)]
        try:
            scaling = fit_scaling(target, training, self.names, covariates)
            check_reach(scaling, self.series, self.names)
        except UsageError as error:
            raise UsageError(f"{self._opening}{error}") from error
        return scaling


def check_fold(source: str, count: int, fold: int) -> None:
    """Raise `UsageError` unless `fold` is one of `count`."""
    at_least(1, where=source, folds=count, fold=fold)
    if fold > count:
        raise UsageError(f"{source}: fold is {fold}; there are {count}")


@dataclass(frozen=True)
class PanelData:
    """Base of the data sets that are read as a `Panel`, and can be forecast beyond their end."""

    window: int = 50
    """Time steps of the model's input."""
    target: Kind = "change"
    """Values the model sees and forecasts: change from the last value, log-return, or level."""
    folds: int = 1
    """Folds of a backtest over the last 15 % of the rows."""
    fold: int = 1
    """Fold to train and test, from 1; training takes the rows before its test block."""

    unit: ClassVar[str] = ""
    """Unit of the values; empty where it is not known."""

    def __post_init__(self) -> None:
        """Raise `UsageError` for an invalid field."""
        at_least(2, where=self.name, window=self.window)
        one_of(get_args(Kind), where=self.name, target=self.target)
        check_fold(self.name, self.folds, self.fold)

    @property
    def name(self) -> str:
        """Name of the data set, for titles and messages."""
        raise NotImplementedError

    def panel(self) -> Panel:
        """Read the series. Raises `UsageError` where they cannot be used."""
        raise NotImplementedError

    def load(self, horizon: int) -> Dataset:
        """Read the series and cut them into windows with `horizon` targets each.

        Raises `UsageError` for series that cannot be read, split or scaled.
        """
        return self.panel().load(self.target, self.window, horizon, self.folds, self.fold)
