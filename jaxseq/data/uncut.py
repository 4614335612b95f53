"""Windows of many series that are cut when they are read: as arrays they would take as many times the series as a window
has time steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from jaxseq.data.windows import Series, Windows, check_ages, check_length

MOST_NUMBERS = 2**23
"""Most numbers of a part whose windows are arrays: 64 MiB in float64."""


class SeriesRows(NamedTuple):
    """All rows of several series, one series after the other.

    starts      row that each series begins with, and the end of the last one
    known       values, NaN where they are missing and `values` are filled in; the same array where nothing is missing
    covariates  known up to each value
    missing     which value, and each covariate, is filled in; q is 0 where nothing is missing
    ahead       covariates that are known ahead
    """

    times: Shaped[np.ndarray, " m"]
    values: Float[np.ndarray, " m"]
    starts: Int[np.ndarray, " _"]
    known: Float[np.ndarray, " m"]
    covariates: Float[np.ndarray, "m c"]
    missing: Bool[np.ndarray, "m q"]
    ahead: Float[np.ndarray, "m s"]


def join_series(
    series: Sequence[Series],
    covariates: Sequence[Float[np.ndarray, "_ c"]],
    missing: Sequence[Bool[np.ndarray, "_ q"]],
    ahead: Sequence[Float[np.ndarray, "_ s"]],
) -> SeriesRows:
    """Lay the rows of series one after the other; a sequence that is empty stands for no column."""
    values = np.concatenate([of_series.values for of_series in series])
    lengths = [len(of_series.values) for of_series in series]
    known_values = values
    is_missing = np.zeros((len(values), 0), bool)
    if missing:
        is_missing = np.concatenate(missing)
        known_values = np.where(is_missing[:, 0], np.nan, values)

    no_column = np.zeros((len(values), 0))
    return SeriesRows(
        times=np.concatenate([of_series.times for of_series in series]),
        values=values,
        starts=np.concatenate([[0], np.cumsum(lengths)]),
        known=known_values,
        covariates=np.concatenate(covariates or [no_column]),
        missing=is_missing,
        ahead=np.concatenate(ahead or [no_column]),
    )


class UncutWindows:
    """Windows of several series, with the fields of `Windows`; what has a time axis is laid out at each access.

    rows         of the series
    firsts       row that each window begins with
    series       number of each window's series
    steps        time steps of a window
    horizon      targets of a window
    known_steps  targets of which the covariates known ahead are read
    """

    def __init__(
        self,
        rows: SeriesRows,
        firsts: Int[np.ndarray, " n"],
        series: Int[np.ndarray, " n"],
        *,
        steps: int,
        horizon: int,
        known_steps: int | None = None,
    ) -> None:
        self.rows = rows
        self.firsts = firsts
        self.series = series
        self.steps = steps
        self.horizon = horizon
        if known_steps is None:
            known_steps = horizon
        self.known_steps: int = known_steps

    @cached_property
    def origins(self) -> Int[np.ndarray, " n"]:
        """Row of the first target in its series."""
        return self.firsts + self.steps - self.rows.starts[self.series]

    @property
    def times(self) -> Shaped[np.ndarray, " n"]:
        """Time of the first target."""
        return self.rows.times[self.firsts + self.steps]

    @property
    def inputs(self) -> Float[np.ndarray, "n t"]:
        """Values of the windows."""
        return np.lib.stride_tricks.sliding_window_view(self.rows.values, self.steps)[self.firsts]

    @property
    def targets(self) -> Float[np.ndarray, "n k"]:
        """Values that follow each window."""
        first_targets = self.firsts + self.steps
        return np.lib.stride_tricks.sliding_window_view(self.rows.known, self.horizon)[first_targets]

    @property
    def covariates(self) -> Float[np.ndarray, "n t c"]:
        """Covariates of the windows' values."""
        return self.rows.covariates[self._rows_from_first(self.steps)]

    @property
    def filled(self) -> Bool[np.ndarray, "n t m"]:
        """Which values and covariates are filled in."""
        return self.rows.missing[self._rows_from_first(self.steps)]

    @property
    def known(self) -> Float[np.ndarray, "n u s"]:
        """Covariates that are known ahead."""
        return self.rows.ahead[self._rows_from_first(self.steps + self.known_steps)]

    def values_ago(self, ages: Int[np.ndarray, " c"]) -> Float[np.ndarray, "n c"]:
        """Return the values 1 to `steps` time steps before the first target; 1 is the last value of the window.

        Raises `ValueError` for any other age.
        """
        check_ages(ages, self.steps)
        return self.rows.values[(self.firsts + self.steps)[:, None] - ages]

    def _rows_from_first(self, count: int) -> Int[np.ndarray, "n u"]:
        return self.firsts[:, None] + np.arange(count)

    def choose(self, rows: Int[np.ndarray, "_"] | Bool[np.ndarray, " n"] | slice) -> UncutWindows:
        """Return some of the rows, uncut as well."""
        return UncutWindows(
            self.rows,
            self.firsts[rows],
            self.series[rows],
            steps=self.steps,
            horizon=self.horizon,
            known_steps=self.known_steps,
        )

    def take(self, rows: Int[np.ndarray, "_"] | Bool[np.ndarray, " n"] | slice) -> Windows:
        """Return some of the rows as arrays."""
        chosen = self.choose(rows)
        return Windows(
            inputs=chosen.inputs,
            targets=chosen.targets,
            times=chosen.times,
            series=chosen.series,
            covariates=chosen.covariates,
            origins=chosen.origins,
            filled=chosen.filled,
            known=chosen.known,
        )

    def pieces(self, size: int) -> Iterator[Windows]:
        """Yield the rows in their order as arrays, `size` of them at a time; an empty piece where there is none."""
        for first in range(0, max(1, len(self.series)), size):
            yield self.take(slice(first, first + size))

    def known_until(self, steps: int) -> UncutWindows:
        """Return windows in which covariates are known ahead for the first `steps` targets alone."""
        whole = self.choose(slice(None))
        whole.known_steps = min(steps, self.known_steps)
        return whole


PartWindows: TypeAlias = Windows | UncutWindows
"""Windows of a part of the data: as arrays, or cut when they are read."""


class WindowSplits(NamedTuple):
    """The windows of the three parts of a data set; `test` is used once, at the end."""

    train: PartWindows
    valid: PartWindows
    test: PartWindows


def windows_of(
    rows: SeriesRows,
    bounds: Sequence[tuple[int, int]],
    *,
    steps: int,
    horizon: int,
    stride: int = 1,
) -> UncutWindows:
    """Return every window of each series whose targets all lie in its rows `first` to `last - 1`, or one of every `stride`.

    Windows without a known target are left out: nothing can be learnt from them, or tested. `bounds` are (first, last) of
    each series; raises `UsageError`, as `windows.cut`, for a series without a window.
    """
    firsts = []
    series = []
    # Numbers alone: no window is cut here.
    for number, (first, last) in enumerate(bounds):
        # Inputs may look back beyond `first`: the past is known when a forecast is made.
        start = max(first - steps, 0)
        check_length(steps, horizon, first=first, last=last, start=start)
        of_series = np.arange(start, last - steps - horizon + 1, stride) + rows.starts[number]
        firsts.append(of_series)
        series.append(np.full(len(of_series), number))
    windows = UncutWindows(rows, np.concatenate(firsts), np.concatenate(series), steps=steps, horizon=horizon)
    if not rows.missing.shape[1]:
        return windows

    # A difference of running counts says how many targets of a window are known.
    known_before = np.concatenate([[0], np.cumsum(np.isfinite(rows.known))])
    first_targets = windows.firsts + steps
    has_target = known_before[first_targets + horizon] > known_before[first_targets]
    return windows.choose(np.flatnonzero(has_target))


def cut_or_not(windows: UncutWindows) -> PartWindows:
    """Return windows as arrays, or as they are where they have more than `MOST_NUMBERS`."""
    # Small ones are read faster as arrays.
    if len(windows.firsts) * (windows.steps + windows.horizon) <= MOST_NUMBERS:
        return windows.take(slice(None))
    return windows
