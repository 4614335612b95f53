"""The rows of a table, series after series: their order, their frequency, and their missing values."""

from __future__ import annotations

import itertools
from contextlib import closing
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int, Shaped

from jaxseq.common.errors import UsageError
from jaxseq.common.text import counted, shown
from jaxseq.data.categories import Texts
from jaxseq.data.frequency import Frequency, continue_, guess, irregular, missing_days, regular, steps_between
from jaxseq.data.tables import formats
from jaxseq.data.tables.formats import Source
from jaxseq.data.transforms import Transform
from jaxseq.data.windows import Series, called

MAX_VALUE = 1e100
"""Magnitude of a value: its square, and sums of such squares, stay finite in float64."""
INSPECTED_ROWS = 5000
"""First rows in which names of series are looked for, if the times do not increase."""
MOST_KEYS = 10
"""Columns among which they are looked for."""
ROWS = "rows"
"""As `time`: no column, the rows are counted."""
ALL = "*"
"""As `column`: a series in each column that is neither the dates nor a covariate."""


class Pick(NamedTuple):
    """Columns by number.

    values  the one to forecast, or those of all series, then the covariates
    time    None if the rows are counted
    series  those that name a series together; empty for a single series
    notes   how columns were inferred, one line each
    wide    number of columns with a series each, the first of `values`; 0 where one column has the values
    ahead   whether rows beyond the last value of a series are its own, as covariates are known in them
    texts   those of the covariates that have texts
    """

    values: tuple[int, ...]
    time: int | None
    series: tuple[int, ...]
    notes: tuple[str, ...]
    wide: int = 0
    ahead: bool = False
    texts: tuple[int, ...] = ()


class Rows(NamedTuple):
    """All rows, series after series, each in the order of the file.

    series   number of the series of each row; `names` has one name for each number
    values   the value, then the covariates; NaN where one is missing, until it is filled
    order    number of the row in the file, from 0; a time stamp that is absent from the file has that of the row after it
    missing  which of the values are filled in
    notes    how times were read, one line each
    keys     of each series, the text of each column that names it
    texts    of the covariates that have some: their values are places in these
    """

    file: Source
    pick: Pick
    names: tuple[str, ...]
    series: Int[np.ndarray, " n"]
    times: Shaped[np.ndarray, " n"]
    values: Float[np.ndarray, "n c"]
    order: Int[np.ndarray, " n"]
    missing: Bool[np.ndarray, "n c"]
    notes: tuple[str, ...]
    keys: tuple[tuple[str, ...], ...] = ()
    texts: tuple[Texts, ...] = ()

    @property
    def starts(self) -> Bool[np.ndarray, " n"]:
        """Whether a row is the first of its series."""
        return np.diff(self.series, prepend=-1) != 0

    def where(self, column: int, row: int) -> str:
        """Name a cell of these rows, counted from 0, for messages."""
        return self.file.where(column, int(self.order[row]))

    def column(self, row: int, value: int) -> int:
        """Return the column of the file that a row's value (0) or covariate (from 1 on) is from."""
        wide = self.pick.wide
        if wide and value == 0:
            return self.pick.values[int(self.series[row])]
        # The covariates come after the columns of all series.
        return self.pick.values[value + max(wide - 1, 0)]

    def where_value(self, row: int, value: int) -> str:
        """Name the cell of a row's value (0) or covariate (from 1 on), for messages."""
        return self.where(self.column(row, value), row)

    def written(self, row: int, value: int) -> float | str:
        """Return a row's value (0) or covariate (from 1 on) as the file has it, for messages."""
        number = float(self.values[row, value])
        name = self.file.names[self.column(row, value)]
        for column in self.texts:
            if column.name != name or np.isnan(number):
                continue
            return column.texts[int(number)]
        return number

    def take(self, rows: Int[np.ndarray, " m"]) -> Rows:
        """Return some of the rows, in the given order."""
        return self._replace(
            series=self.series[rows],
            times=self.times[rows],
            values=self.values[rows],
            order=self.order[rows],
            missing=self.missing[rows],
        )


def long_form(rows: Rows) -> tuple[Rows, tuple[str, ...]]:
    """Return the rows of a file with a series in each column as series after series, and notes.

    Each series begins with its first value and ends with its last one: empty cells before and after are no missing values.
    Covariates are those of every series. Raises `UsageError` for a column without a value.
    """
    wide = rows.pick.wide
    columns = rows.values[:, :wide].T
    has_value = ~np.isnan(columns)
    is_empty = ~has_value.any(axis=1)
    if np.any(is_empty):
        name = rows.names[int(np.argmax(is_empty))]
        raise UsageError(
            f"{rows.file.source}: column {shown(name)} has no value in any row, as {np.count_nonzero(is_empty)} of {wide} "
            "columns of series; leave it out, and name the others with --data.column"
        )

    last = columns.shape[1] - 1
    first_value = np.argmax(has_value, axis=1)
    last_value = last - np.argmax(has_value[:, ::-1], axis=1)
    # Beyond the last value they have what is known ahead.
    if rows.pick.ahead:
        last_value = np.full(wide, last)
    numbers = np.arange(last + 1)
    is_own = (numbers >= first_value[:, None]) & (numbers <= last_value[:, None])
    series, row = np.nonzero(is_own)
    values = np.concatenate([columns[is_own][:, None], rows.values[row, wide:]], axis=1)

    notes = ()
    partial = np.count_nonzero((first_value > 0) | (last_value < last))
    if partial:
        notes = (
            f"{partial:,} of {wide:,} series begin after the first row or end before the last one: their empty cells there "
            "are no missing values",
        )
    own_rows = rows._replace(
        series=series.astype(np.int32),
        times=rows.times[row],
        values=values,
        order=rows.order[row],
        missing=np.zeros(values.shape, bool),
    )
    return own_rows, notes


class Parted(NamedTuple):
    """Rows of each series up to its last value, and those beyond it."""

    until_end: Rows
    beyond: Rows


def part_at_end(rows: Rows) -> Parted:
    """Part the rows at the last value of each series. Raises `UsageError` for a series without a value."""
    # An infinite value is a mistake within the series, not its end.
    has_value = ~np.isnan(rows.values[:, 0])
    numbers = np.arange(len(has_value))
    last_value = np.full(int(rows.series.max()) + 1, -1)
    np.maximum.at(last_value, rows.series[has_value], numbers[has_value])
    is_empty = last_value[rows.series] < 0
    if np.any(is_empty):
        row, _ = _first(rows, is_empty[:, None])
        raise UsageError("no row of the series has a value", where=place(rows, row, 0))
    is_beyond = numbers > last_value[rows.series]
    return Parted(rows.take(np.flatnonzero(~is_beyond)), rows.take(np.flatnonzero(is_beyond)))


def check_known(rows: Rows, columns: slice) -> None:
    """Raise `UsageError` for the first cell without a number in some columns of rows beyond the end of their series."""
    is_unknown = np.zeros(rows.values.shape, bool)
    is_unknown[:, columns] = ~np.isfinite(rows.values[:, columns])
    if np.any(is_unknown):
        row, column = _first(rows, is_unknown)
        raise UsageError(
            "beyond the last value of its series, a row needs each covariate that is known ahead",
            where=place(rows, row, column),
            got=float(rows.values[row, column]),
        )


def check_static(rows: Rows, columns: slice) -> None:
    """Raise `UsageError`, with both rows and values, for a series in which one of some columns changes."""
    # Of each row, the first one of its series.
    first_rows = np.flatnonzero(rows.starts)[np.cumsum(rows.starts) - 1]
    differs = np.zeros(rows.values.shape, bool)
    differs[:, columns] = rows.values[:, columns] != rows.values[first_rows][:, columns]
    if np.any(differs):
        row, column = _first(rows, differs)
        first = int(first_rows[row])
        first_value = rows.written(first, column)
        if not isinstance(first_value, str):
            first_value = f"{first_value:g}"
        raise UsageError(
            "a static covariate has one value in each series",
            where=place(rows, row, column),
            got=rows.written(row, column),
            needed=f"{first_value}, as in row {rows.file.line(int(rows.order[first]))}",
        )


def check_goes_on(rows: Rows, of_series: Int[np.ndarray, " m"], series: Series, frequency: Frequency) -> None:
    """Raise `UsageError` for the first of some rows whose time is not the next one after the end of their series."""
    # Counted rows follow by themselves.
    if rows.pick.time is None:
        return
    times = rows.times[of_series]
    differs = times != continue_(series.times[-1], frequency, len(times))
    if np.any(differs):
        step = int(np.argmax(differs))
        row = int(of_series[step])
        cell = _in_series(rows, row, rows.where(rows.pick.time, row))
        before = np.concatenate([series.times[-1:], times[:step]])
        raise UsageError(irregular(before, times[step], frequency, cell, "the rows before"))


def place(rows: Rows, row: int, value: int) -> str:
    """Name the cell of a row's value (0) or covariate (from 1 on) with its series, if that has a name."""
    return _in_series(rows, row, rows.where_value(row, value))


def _in_series(rows: Rows, row: int, cell: str) -> str:
    """Add the series of a row to the name of one of its cells, if the series has a name."""
    if not rows.names:
        return cell
    return f"{cell}, {called(rows.names[int(rows.series[row])])}"


def check_magnitude(rows: Rows) -> None:
    """Raise `UsageError` for the first value beyond `MAX_VALUE`."""
    is_too_large = (np.abs(rows.values) > MAX_VALUE) & np.isfinite(rows.values)
    if np.any(is_too_large):
        # The first in the file, not in the order of the series, as the user sees the file.
        row, column = _first(rows, is_too_large)
        raise UsageError(
            f"{rows.where_value(row, column)}: {rows.values[row, column]:g} is beyond {MAX_VALUE:g} "
            "in magnitude, so its square may be infinite; correct it or take another unit"
        )


def check_readable(rows: Rows, transform: Transform) -> None:
    """Raise `UsageError` for the first value in the file that a target refuses, such as one below 0 among counts."""
    refused = transform.refused(rows.values[:, :1])
    if np.any(refused):
        row, column = _first(rows, refused)
        raise UsageError(
            f"{transform.rule}; {transform.way_out}",
            where=rows.where_value(row, column),
            got=float(rows.values[row, column]),
        )


def frequency_of(rows: Rows, period: int | None, may_have_holes: bool = False) -> tuple[Frequency, tuple[str, ...]]:
    """Return the frequency of the longest series, and notes, if all series have it.

    With `may_have_holes`, time stamps may be absent between two others. Raises `UsageError` for times that are out of
    order or out of step.
    """
    starts = rows.starts
    bounds = np.append(np.flatnonzero(starts), len(starts))
    longest = int(np.argmax(np.diff(bounds)))
    if rows.pick.time is not None:
        check_order(rows, rows.pick.time)

    try:
        # The longest series says most about a frequency that all series have to share.
        frequency = guess(rows.times[bounds[longest] : bounds[longest + 1]])
    except UsageError as error:
        raise UsageError(f"{rows.file.source}: {error}") from error

    is_regular = regular(rows.times, frequency, starts)
    # Times that are off the grid altogether, or most of them apart, are no grid with holes.
    if may_have_holes and 2 * np.count_nonzero(is_regular) > len(is_regular):
        is_regular |= steps_between(rows.times, frequency, starts) > 0
    # Counted rows are regular by themselves.
    if rows.pick.time is not None and not np.all(is_regular):
        _raise_irregular(rows, rows.pick.time, frequency, is_regular)

    season = f"seasonal period {frequency.period}"
    if period is not None:
        season = f"seasonal period {period} as asked for"
    notes = [f"{frequency}, {season}"]
    holidays = missing_days(rows.times, frequency, starts)
    if holidays:
        notes.append(f"{counted(holidays, 'business day')} without a row, taken for holidays")
    return frequency._replace(period=period or frequency.period), tuple(notes)


def _raise_irregular(rows: Rows, time: int, frequency: Frequency, is_regular: Bool[np.ndarray, " n"]) -> None:
    """Raise `UsageError` for the first row of the file that is out of step."""
    row, _ = _first(rows, ~is_regular[:, None])
    start = int(np.flatnonzero(rows.starts[: row + 1])[-1])
    regular_rows = np.count_nonzero(is_regular)
    others = f"only {regular_rows} of {len(is_regular)} rows"
    if 2 * regular_rows > len(is_regular):
        others = "the others"

    line = irregular(rows.times[start:row], rows.times[row], frequency, rows.where(time, row), others)
    if row > start and _is_clock_change(rows.times[row - 1], rows.times[row]):
        line += f". {CLOCK_CHANGE}, or fill the missing hour with --data.missing fill"
        raise UsageError(line)
    raise UsageError(
        f"{line}; add or correct rows, fill absent ones with --data.missing fill, or count rows in place of dates with "
        f"--data.time {ROWS}"
    )


CLOCK_CHANGE = (
    "This looks like a clock change (daylight saving time): write times in UTC or with their offset from it, "
    "as 2020-10-25T02:00+01:00"
)


def _is_clock_change(before: np.datetime64 | np.integer, now: np.datetime64 | np.integer) -> bool:
    """Return whether an hour is absent, or there twice, in a night from Saturday to Sunday in spring or autumn."""
    if not isinstance(now, np.datetime64):
        return False
    moment = pd.Timestamp(now)
    is_sunday = moment.weekday() == 6
    hours = (moment - pd.Timestamp(before)).total_seconds() / 3600
    is_changed_hour = moment.hour <= 4 and -1 <= hours <= 2
    # The same day twice is no clock change.
    is_clock = hours % 24 != 0 or moment.hour > 0
    return is_sunday and moment.month in (3, 4, 9, 10, 11) and is_changed_hour and is_clock


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
    row, column = _first(rows, bad)
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
    return complete_rows, (f"{dropped} with missing or infinite values dropped, {_place(rows, row, column)}",)


def _fill(rows: Rows, frequency: Frequency, longest_gap: int) -> tuple[Rows, tuple[str, ...]]:
    """Fill missing values with the last known ones of their series."""
    is_infinite = np.isinf(rows.values)
    if np.any(is_infinite):
        row, column = _first(rows, is_infinite)
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
        where_first = _place(rows, *_first(rows, is_filled))
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
    row, column = _first(rows, gaps > longest_gap)
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


def _place(rows: Rows, row: int, column: int) -> str:
    """Name the first of several cells, for notes."""
    name = rows.file.names[rows.column(row, column)]
    return f"the first in row {rows.file.line(int(rows.order[row]))}, column {shown(name)}"


def _first(rows: Rows, bad: Bool[np.ndarray, "n c"]) -> tuple[int, int]:
    """Return the row and the column of the first bad value in the order of the file."""
    bad_rows = np.flatnonzero(bad.any(axis=1))
    row = int(bad_rows[np.argmin(rows.order[bad_rows])])
    return row, int(np.argmax(bad[row]))


def check_order(rows: Rows, time: int) -> None:
    """Raise `UsageError` for a time that is not later than the one before it in its series."""
    is_late = np.append(False, rows.times[1:] <= rows.times[:-1]) & ~rows.starts
    if not np.any(is_late):
        return

    row, _ = _first(rows, is_late[:, None])
    now = rows.times[row]
    before = rows.times[row - 1]
    line_before = rows.file.line(int(rows.order[row - 1]))
    fault = f"{now} follows {before} in row {line_before}"
    rule = "times must increase, sort the rows"
    if now == before:
        fault = f"{now} is in row {line_before} too"
        rule = "keep one of them"
    where = rows.where(time, row)
    # In a wide file a row is of all series.
    if rows.pick.series:
        where = _in_series(rows, row, where)

    keys = _key_columns(rows)
    if keys:
        listed = " and ".join(shown(key) for key in keys)
        raise UsageError(
            f"{where}: {fault}: the rows are of several series, told apart by {listed}; say --data.series {','.join(keys)}"
        )
    if _is_clock_change(before, now):
        raise UsageError(f"{where}: {fault}. {CLOCK_CHANGE}")
    if not rows.names:
        rule += ", or name the column that tells several series apart with --data.series"
    raise UsageError(f"{where}: {fault}: {rule}")


def _key_columns(rows: Rows) -> tuple[str, ...]:
    """Return the fewest columns that name a series so that times increase within each, by the first rows; or none."""
    pick = rows.pick
    # The columns themselves are the series.
    if pick.wide:
        return ()
    roles = {*pick.values, *pick.series, pick.time}
    free = [number for number, name in enumerate(rows.file.names) if name and number not in roles]
    if not free:
        return ()
    with closing(rows.file.frames([*pick.series, *free[:MOST_KEYS]], [], rows.file.decimals[0])) as frames:
        head = next(frames).head(INSPECTED_ROWS)

    times = np.empty_like(rows.times)
    times[rows.order] = rows.times
    times = times[: len(head)]
    # A column of measurements differs in most rows, a name comes back with every date.
    candidates = [number for number in free[:MOST_KEYS] if 1 < head[number].nunique() <= len(head) / 2]
    # One column is a simpler key than two.
    for size in (1, 2, 3):
        for columns in itertools.combinations(candidates, size):
            keys = [*pick.series, *columns]
            group = head.groupby(keys, sort=False).ngroup().to_numpy()
            order = np.argsort(group, kind="stable")
            is_same_series = np.diff(group[order]) == 0
            if np.all((times[order][1:] > times[order][:-1])[is_same_series]):
                return tuple(rows.file.names[number] for number in keys)
    return ()
