"""Series in order of time, taken apart into training, validation and test: what every recipe of prices or tables shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, get_args

import numpy as np
from jaxtyping import Float

from jaxseq.common.arrays import Splits
from jaxseq.common.checks import check_at_least, check_choice
from jaxseq.common.errors import UsageError
from jaxseq.data.folds import Fold, folds
from jaxseq.data.frequency import Frequency
from jaxseq.data.scaling import Kind, Scaling, check_reach, fit_scaling
from jaxseq.data.windows import Series, Windows, WindowSplits, called, cut, join, some_of


class Known(NamedTuple):
    """What is known of series beside their windows: names, steps of a season, training rows, how they were read."""

    names: tuple[str, ...]
    period: int
    training: list[Float[np.ndarray, "_"]]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Panel:
    """One series or many, each split by itself: the latest rows are for the test, those before them for validation.

    names       of the series
    covariates  what is known beside each value, "n c"; an empty tuple where there is none
    source      what messages open with: the file; may be empty
    frequency   how their times follow each other, and the steps of a season
    notes       what the user should know about how the data were read
    """

    names: tuple[str, ...]
    series: tuple[Series, ...]
    frequency: Frequency
    covariates: tuple[Float[np.ndarray, "_ c"], ...] = ()
    notes: tuple[str, ...] = ()
    source: str = ""

    @property
    def _opening(self) -> str:
        return f"{self.source}: " if self.source else ""

    def folds(self, window: int, horizon: int, count: int, fold: int) -> list[Fold]:
        """The rows of each series' three parts in one fold. Raises `UsageError`, which names the series that are short."""
        found, short = [], []
        for name, series in zip(self.names, self.series, strict=True):
            try:
                found.append(folds(len(series.values), count, window, horizon, source=called(name))[fold - 1])
            except UsageError as error:
                short.append((f"{name} ({len(series.values)} rows)", error))
        if short:
            raise UsageError(self._opening + some_of("too short", short, len(self.names)))
        return found

    def windows(self, window: int, horizon: int, count: int = 1, fold: int = 1) -> WindowSplits:
        """All windows by the part their targets are in; see `folds`.

        Raises `UsageError` as well if the last value is exact in the whole test part: nothing can be judged by it.
        """
        rows = self.folds(window, horizon, count, fold)
        beside = self.covariates or [None] * len(self.series)
        parts = []
        for part in Splits._fields:
            cuts = []
            for number, (series, known, row) in enumerate(zip(self.series, beside, rows, strict=True)):
                first, last = getattr(row, part)
                cuts.append(cut(series, window, horizon, first, last, number, known))
            parts.append(join(cuts))
        _check_moves(parts, self._opening)
        return Splits(*parts)

    def scaling(self, kind: Kind, window: int, horizon: int, count: int = 1, fold: int = 1) -> Scaling:
        """The scaling of each series' training rows. Raises `UsageError` as `fit_scaling` and `check_reach` do."""
        rows = self.folds(window, horizon, count, fold)
        beside = [c[: row.train[1]] for c, row in zip(self.covariates, rows, strict=False)]
        try:
            found = fit_scaling(kind, self._training(window, horizon, count, fold), self.names, beside)
            check_reach(found, self.series, self.names)
        except UsageError as error:
            raise UsageError(f"{self._opening}{error}") from error
        return found

    def known(self, window: int, horizon: int, count: int = 1, fold: int = 1) -> Known:
        """What is known of the series beside their windows."""
        return Known(self.names, self.frequency.period, self._training(window, horizon, count, fold), self.notes)

    def _training(self, window: int, horizon: int, count: int, fold: int) -> list[Float[np.ndarray, "_"]]:
        rows = self.folds(window, horizon, count, fold)
        return [series.values[: row.train[1]] for series, row in zip(self.series, rows, strict=True)]


def _check_moves(parts: list[Windows], opening: str) -> None:
    still = [bool(np.all(part.targets == part.inputs[:, -1:])) for part in parts]
    if all(still):
        raise UsageError(f"{opening}all rows are constant ({parts[0].inputs[0, 0]:g}): nothing can be learnt")
    if still[-1]:
        raise UsageError(
            f"{opening}none of the {len(parts[-1].targets)} test windows moves from its last value: the naive forecast "
            "is exact, and no other can be compared with it; leave out the constant rows at the end"
        )


def check_fold(source: str, count: int, fold: int) -> None:
    """Raise `UsageError` unless `fold` is one of `count`."""
    check_at_least(1, source, folds=count, fold=fold)
    if fold > count:
        raise UsageError(f"{source}: fold is {fold}; there are {count}")


@dataclass(frozen=True)
class Split:
    """What both have: how the series is cut into windows, and what the model is asked for."""

    window: int = 50
    """Steps that the model is given."""
    target: Kind = "change"
    """What it is asked for: the change from the last value, the log-return, or the level itself."""
    folds: int = 1
    """Folds of a backtest that the last 15 % of the rows are cut into."""
    fold: int = 1
    """Which of them: the model is trained on what comes before it."""

    def __post_init__(self) -> None:
        """Raises `UsageError` for a field that cannot be."""
        check_at_least(2, self.name, window=self.window)
        check_choice(get_args(Kind), self.name, target=self.target)
        check_fold(self.name, self.folds, self.fold)

    @property
    def name(self) -> str:
        """What the data are called."""
        raise NotImplementedError

    def panel(self) -> Panel:
        """The series themselves."""
        raise NotImplementedError

    def windows(self, horizon: int) -> WindowSplits:
        """Inputs, targets and times of the three parts. Raises `UsageError` if a part is too short for one."""
        return self.panel().windows(self.window, horizon, self.folds, self.fold)

    def known(self, horizon: int) -> Known:
        """What is known of the series beside their windows."""
        return self.panel().known(self.window, horizon, self.folds, self.fold)

    def scaling(self, horizon: int) -> Scaling:
        """The scaling of `target`, fitted on the training rows alone."""
        return self.panel().scaling(self.target, self.window, horizon, self.folds, self.fold)
