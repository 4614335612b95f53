"""Missing values of a table: refused, left out with their rows, or filled with the last known value."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from jaxseq.common.errors import UsageError
from jaxseq.common.text import counted, shown
from jaxseq.data.frequency import Frequency, continue_, steps_between
from jaxseq.data.tables import formats
from jaxseq.data.tables.rows import Rows, first_bad, first_place


def complete(rows: Rows, frequency: Frequency, missing: str, longest_gap: int) -> tuple[Rows, tuple[str, ...]]:
    """Return the rows without missing values, and notes on what was done about them.

    missing      "error", "drop" or "fill"
    longest_gap  missing values in a row that may be filled

    Raises `UsageError` for values that are missing or infinite where they may not be.
    """
    if missing == "fill":
        return _fill(rows, frequency, longest_gap)

    bad = ~np.isfinite(rows.values)
    if not np.any(bad):
        return rows, ()
    row, column = first_bad(rows, bad)
    where = rows.where_value(row, column)
    if missing == "error":
        raise UsageError(
            f"{where}: {rows.values[row, column]} is the first of {np.count_nonzero(bad[:, column])} missing or infinite "
            f"among {len(bad)} values; correct them, or set --data.missing drop or fill"
        )

    is_complete = ~bad.any(axis=1)
    complete_rows = rows.take(np.flatnonzero(is_complete))
    lost_series = set(rows.series.tolist()) - set(complete_rows.series.tolist())
    if lost_series:
        name = "the table"
        if rows.names:
            name = f"series {shown(rows.names[min(lost_series)])}"
        raise UsageError(f"{where}: {name} has no row left once those with missing or infinite values are dropped")
    dropped = counted(np.count_nonzero(~is_complete), "row")
    return complete_rows, (f"{dropped} with missing or infinite values dropped, {first_place(rows, row, column)}",)


def _fill(rows: Rows, frequency: Frequency, longest_gap: int) -> tuple[Rows, tuple[str, ...]]:
    """Fill missing values with the last known ones of their series."""
    is_infinite = np.isinf(rows.values)
    if np.any(is_infinite):
        row, column = first_bad(rows, is_infinite)
        raise UsageError(
            f"{rows.where_value(row, column)}: {rows.values[row, column]} is infinite, not missing, and is not "
            "filled; correct it, or leave it empty"
        )

    rows, notes = _add_absent_times(rows, frequency, longest_gap)
    is_missing = np.isnan(rows.values)
    if not np.any(is_missing):
        return rows, notes

    # The last known row of each column, as long as it belongs to the same series.
    numbers = np.arange(len(rows.times))
    first_of_series = np.maximum.accumulate(np.where(rows.starts, numbers, 0))
    last_known = np.maximum.accumulate(np.where(is_missing, -1, numbers[:, None]), axis=0)
    has_known = last_known >= first_of_series[:, None]
    _check_gaps(rows, np.where(has_known, numbers[:, None] - last_known, 0), longest_gap)
    filled = np.take_along_axis(rows.values, np.maximum(last_known, 0), axis=0)

    # Nothing is known yet at the beginning of a series, so there is nothing to fill its first rows with.
    is_usable = has_known.all(axis=1)
    lost_series = set(rows.series.tolist()) - set(rows.series[is_usable].tolist())
    if lost_series:
        name = "the table"
        if rows.names:
            name = f"series {shown(rows.names[min(lost_series)])}"
        raise UsageError(f"{rows.file.source}: {name} has no row with a known value")

    filled_rows = rows._replace(values=filled, missing=is_missing).take(np.flatnonzero(is_usable))
    is_filled = np.logical_and(is_missing, np.all(has_known, axis=1, keepdims=True))
    if np.any(is_filled):
        count = np.count_nonzero(is_filled)
        where_first = first_place(rows, *first_bad(rows, is_filled))
        notes += (f"{counted(count, 'missing value')} filled with the last known one, {where_first}",)
    unusable = np.count_nonzero(~is_usable)
    if unusable:
        notes += (f"{counted(unusable, 'row')} before the first known value of a series left out",)
    return filled_rows, notes


def _add_absent_times(rows: Rows, frequency: Frequency, longest_gap: int) -> tuple[Rows, tuple[str, ...]]:
    """Add the time stamps that are absent between two others, as rows of missing values."""
    if rows.pick.time is None:
        return rows, ()
    starts = rows.starts
    steps = np.maximum(steps_between(rows.times, frequency, starts), 1)
    absent = steps - 1
    if not np.any(absent):
        return rows, ()
    _check_gaps(rows, np.repeat(absent[:, None], rows.values.shape[1], axis=1), longest_gap)
    count = len(steps) + int(absent.sum())
    if count * rows.values.shape[1] > formats.MAX_CELLS:
        raise UsageError(
            f"{rows.file.source}: {count:,} rows with those that are absent are more than can be kept; set a smaller "
            "--data.longest-gap"
        )

    # Each row stands behind the absent ones before it, which take their place in the file from it.
    place = np.cumsum(steps) - 1
    source_row = np.searchsorted(place, np.arange(count))
    is_absent = np.ones(count, bool)
    is_absent[place] = False
    expanded = rows.take(source_row)
    values = np.where(is_absent[:, None], np.nan, expanded.values)
    times = expanded.times.copy()
    for row in np.flatnonzero(absent):
        end = int(place[row])
        first = end - int(absent[row])
        times[first:end] = continue_(rows.times[row - 1], frequency, int(absent[row]))

    first_absent = rows.file.line(int(rows.order[np.flatnonzero(absent)].min()))
    note = f"{counted(int(absent.sum()), 'absent time')} added as missing values, the first before row {first_absent}"
    return expanded._replace(times=times, values=values), (note,)


def _check_gaps(rows: Rows, gaps: Int[np.ndarray, "n c"], longest_gap: int) -> None:
    """Raise `UsageError` for a gap that is too long; `gaps` counts the missing values up to each one."""
    if gaps.max() <= longest_gap:
        return
    row, column = first_bad(rows, gaps > longest_gap)
    # The count at its end is the length of the whole gap.
    end = row
    while end + 1 < len(gaps) and gaps[end + 1, column] > gaps[end, column]:
        end += 1
    raise UsageError(
        f"{rows.where_value(row, column)}: too many missing values in a row to fill (raise --data.longest-gap, "
        "or use --data.missing drop)",
        got=int(gaps[end, column]),
        needed=f"at most {longest_gap}",
    )
