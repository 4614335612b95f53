"""The order of the rows of a table, and the frequency of their times."""

from __future__ import annotations

import itertools
from contextlib import closing

import numpy as np
import pandas as pd
from jaxtyping import Bool

from jaxseq.common.errors import UsageError
from jaxseq.common.text import counted, shown
from jaxseq.data.frequency import Frequency, guess, irregular, missing_days, regular, steps_between
from jaxseq.data.tables.rows import ROWS, Rows, first_bad, in_series

INSPECTED_ROWS = 5000
"""First rows in which names of series are looked for, if the times do not increase."""
MOST_KEYS = 10
"""Columns among which they are looked for."""

CLOCK_CHANGE = (
    "This looks like a clock change (daylight saving time): write times in UTC or with their offset from it, "
    "as 2020-10-25T02:00+01:00"
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
    row, _ = first_bad(rows, ~is_regular[:, None])
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


def check_order(rows: Rows, time: int) -> None:
    """Raise `UsageError` for a time that is not later than the one before it in its series."""
    is_late = np.append(False, rows.times[1:] <= rows.times[:-1]) & ~rows.starts
    if not np.any(is_late):
        return

    row, _ = first_bad(rows, is_late[:, None])
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
        where = in_series(rows, row, where)

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
