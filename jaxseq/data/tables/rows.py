"""The rows of a table, series after series: their values, their order, their frequency, their gaps."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from jaxseq.common.errors import UsageError
from jaxseq.common.text import counted, shown
from jaxseq.data.frequency import Frequency, guess, irregular, missing_days, regular
from jaxseq.data.tables.formats import Source

MAX_VALUE = 1e100
"""Magnitude of a value: its square, and sums of such squares, stay finite in float64."""
ROWS = "rows"
"""As `time`: no column, the rows are counted."""


class Pick(NamedTuple):
    """Columns by number."""

    values: tuple[int, ...]
    """The one to forecast, then the covariates."""
    time: int | None
    series: int | None
    notes: tuple[str, ...]


class Rows(NamedTuple):
    """All rows, series after series, each in the order of the file."""

    file: Source
    pick: Pick
    names: tuple[str, ...]
    series: Int[np.ndarray, " n"]
    times: Shaped[np.ndarray, " n"]
    values: Float[np.ndarray, "n c"]
    order: Int[np.ndarray, " n"]
    """Which row of data it is, from 0."""
    notes: tuple[str, ...]

    @property
    def starts(self) -> Shaped[np.ndarray, " n"]:
        """Whether a row is the first of its series."""
        return np.diff(self.series, prepend=-1) != 0

    def where(self, column: int, row: int) -> str:
        """A cell, for messages: `row` is one of these, from 0."""
        return self.file.where(column, int(self.order[row]))


def check_magnitude(rows: Rows) -> None:
    """Raises `UsageError` for the first value beyond `MAX_VALUE`."""
    high = (np.abs(rows.values) > MAX_VALUE) & np.isfinite(rows.values)
    if np.any(high):
        row, column = _first(rows, high)
        raise UsageError(
            f"{rows.where(rows.pick.values[column], row)}: {rows.values[row, column]:g} is beyond {MAX_VALUE:g} "
            "in magnitude, so its square may be infinite; correct it or take another unit"
        )


def frequency_of(rows: Rows, period: int | None) -> tuple[Frequency, tuple[str, ...]]:
    """That of the longest series, if all have it; raises `UsageError` for times out of order or out of step."""
    starts = rows.starts
    bounds = np.append(np.flatnonzero(starts), len(starts))
    longest = int(np.argmax(np.diff(bounds)))
    if rows.pick.time is not None:
        _check_order(rows, rows.pick.time)
    try:
        found = guess(rows.times[bounds[longest] : bounds[longest + 1]])
    except UsageError as error:
        raise UsageError(f"{rows.file.source}: {error}") from error
    bad = ~regular(rows.times, found, starts)
    if np.any(bad) and rows.pick.time is not None:
        row, _ = _first(rows, bad[:, None])
        begin = bounds[np.searchsorted(bounds, row, "right") - 1]
        good = np.count_nonzero(~bad)
        others = "the others" if 2 * good > len(bad) else f"only {good} of {len(bad)} rows"
        line = irregular(rows.times[begin:row], rows.times[row], found, rows.where(rows.pick.time, row), others)
        raise UsageError(f'{line}; add or correct rows, or count rows in place of dates with time "{ROWS}"')
    season = f"seasonal period {found.period}" if period is None else f"seasonal period {period} as asked for"
    closed = missing_days(rows.times, found, starts)
    days = (f"{counted(closed, 'business day')} without a row, taken for holidays",) if closed else ()
    return found._replace(period=period or found.period), (f"{found}, {season}", *days)


def complete(rows: Rows, missing: str, longest_gap: int) -> tuple[Rows, tuple[str, ...]]:
    """The rows without missing values, and what was done about them."""
    bad = ~np.isfinite(rows.values)
    if not np.any(bad):
        return rows, ()
    row, column = _first(rows, bad)
    number, where = rows.pick.values[column], rows.where(rows.pick.values[column], row)
    if missing == "error":
        raise UsageError(
            f"{where}: {rows.values[row, column]} is the first of {np.count_nonzero(bad[:, column])} missing or infinite "
            f'among {len(bad)} values; fill them in, or set missing to "drop" or "interpolate"'
        )
    first = f"the first in row {rows.file.line(int(rows.order[row]))}, column {shown(rows.file.names[number])}"
    if missing == "interpolate":
        values = np.stack([_interpolated(rows, place, longest_gap) for place in range(bad.shape[1])], axis=1)
        return rows._replace(values=values), (f"{counted(np.count_nonzero(bad), 'value')} interpolated, {first}",)
    keep = ~bad.any(axis=1)
    kept = rows._replace(**{name: getattr(rows, name)[keep] for name in ("series", "times", "values", "order")})
    if lost := sorted({*rows.series.tolist()} - {*kept.series.tolist()}):
        name = f"series {shown(rows.names[lost[0]])}" if rows.names else "the table"
        raise UsageError(f"{where}: {name} has no row left once those with missing or infinite values are dropped")
    return kept, (f"{counted(np.count_nonzero(~keep), 'row')} with missing or infinite values dropped, {first}",)


def _first(rows: Rows, bad: Bool[np.ndarray, "n c"]) -> tuple[int, int]:
    """The row and the column of the first bad value in the order of the file."""
    at = np.flatnonzero(bad.any(axis=1))
    row = int(at[np.argmin(rows.order[at])])
    return row, int(np.argmax(bad[row]))


def _check_order(rows: Rows, time: int) -> None:
    late = np.append(False, rows.times[1:] <= rows.times[:-1]) & ~rows.starts
    if np.any(late):
        row, _ = _first(rows, late[:, None])
        now, before, line = rows.times[row], rows.times[row - 1], rows.file.line(int(rows.order[row - 1]))
        alone = "" if rows.names else ", or name the column that tells several series apart with series"
        rule = f"{'keep one of them' if now == before else 'times must increase, sort the rows'}{alone}"
        found = f"{now} is in row {line} too" if now == before else f"{now} follows {before} in row {line}"
        raise UsageError(f"{rows.where(time, row)}: {found}: {rule}")


def _interpolated(rows: Rows, place: int, longest_gap: int) -> Float[np.ndarray, " n"]:
    """A column with straight lines in its gaps. Raises `UsageError` at a gap that is too long or has but one side."""
    values = rows.values[:, place]
    good = np.isfinite(values)
    gap, there = np.flatnonzero(~good), np.flatnonzero(good)
    after = np.searchsorted(there, gap)
    left, right = (np.append(there, -1)[after - side] for side in (1, 0))  # -1: there is none
    inside = (left >= 0) & (left < gap) & (right > gap)
    inside &= (rows.series[left] == rows.series[gap]) & (rows.series[right] == rows.series[gap])
    bad = np.zeros(len(values), bool)
    bad[gap] = ~inside | (right - left - 1 > longest_gap)
    if np.any(bad):
        row, _ = _first(rows, bad[:, None])
        where, at = rows.where(rows.pick.values[place], row), np.searchsorted(gap, row)
        if not inside[at]:
            raise UsageError(
                f'{where}: a missing value at the end of a series cannot be interpolated; use missing "drop"'
            )
        raise UsageError(
            f"{where}: {right[at] - left[at] - 1} missing values in a row, at most {longest_gap} are interpolated; "
            'raise longest_gap, or use missing "drop"'
        )
    filled = values.copy()
    filled[gap] = values[left] + (values[right] - values[left]) * (gap - left) / (right - left)
    return filled
