"""Choose the columns of a table by their names or their contents."""

from __future__ import annotations

import difflib
import itertools
import math
import os
import re
from collections.abc import Sequence
from contextlib import closing

import numpy as np
import pandas as pd

from jaxseq.common.errors import UsageError
from jaxseq.common.text import EXPANDED, counted, shown
from jaxseq.data.dates import INTEGER, NUMBERS, forms, parse, timestamps
from jaxseq.data.tables.cells import NUMBER, number_of, words_of
from jaxseq.data.tables.formats import Source
from jaxseq.data.tables.rows import ALL, ROWS, Pick

TIME_NAMES = ("date", "time", "timestamp", "ds", "datetime")
"""Names of a column that holds the dates, whatever is in it."""
HINTS = re.compile(
    r"(year|calendar)?[ _-]?(month|week|quarter|day|hour)|ym|yyyymm(dd)?|datum|period|ts|t|(unix|epoch)[ _]?(time)?"
    r"([ _]?m?s)?|time(stamp)?[ _]?m?s|utc",
    re.IGNORECASE,
)
"""Names of a column that holds the dates if it has numbers that may be dates, such as 202001 or seconds since 1970."""
INSPECTED_ROWS = 1000
"""First rows by whose contents a column is chosen."""
INSPECTED_COLUMNS = 100
"""First columns that are inspected for dates."""


def pick_columns(
    file: Source,
    column: str | None,
    time: str | None,
    series: str | None,
    covariates: tuple[str, ...],
) -> Pick:
    """Return the columns that are named, and infer those that are not. Raises `UsageError`."""
    # A name with a comma in it may be that of one column.
    keys = _split_names(file, series)
    is_wide = _is_wide(file, column)
    value_names = _split_names(file, column) if column != ALL or not is_wide else ()
    if is_wide and keys:
        raise UsageError(
            f"{file.source}: a series in each column (--data.column {column}) has no column of names as well "
            f"(--data.series {series})"
        )
    names = [name for name in (*value_names, time, *keys, *covariates) if name not in (None, ROWS)]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(
                f"{file.source}: column {shown(name)} is asked for {names.count(name)} times; each has one role"
            )

    others = tuple(_find(file, name) for name in covariates)
    groups = tuple(_find(file, name) for name in keys)
    values = tuple(_find(file, name) for name in value_names)
    taken = {*others, *groups, *values}
    clock, time_notes = _find_time(file, time, taken, is_panel=bool(groups))
    if is_wide and not values:
        values = _columns_of_series(file, {*others, clock})
    if values:
        wide = len(values) if is_wide else 0
        return Pick(values=(*values, *others), time=clock, series=groups, notes=time_notes, wide=wide)

    if clock is not None:
        taken.add(clock)
    value = _only_numbers(file, taken, may_be_wide=not groups)
    note = f"{shown(file.names[value])} is forecast, as the only column that can be"
    return Pick(values=(value, *others), time=clock, series=groups, notes=(note, *time_notes))


def _split_names(file: Source, text: str | None) -> tuple[str, ...]:
    """Return the names of several columns: "store,item" are two, unless that is one column's name."""
    if text is None:
        return ()
    if text in file.names or "," not in text:
        return (text,)
    return tuple(name.strip() for name in text.split(","))


def _is_wide(file: Source, column: str | None) -> bool:
    """Return whether several columns have a series each; a column's own name comes first."""
    if column is None or column in file.names:
        return False
    return column == ALL or "," in column


def _columns_of_series(file: Source, others: set[int | None]) -> tuple[int, ...]:
    """Return all columns with a name that have no other role. Raises `UsageError` where there is none."""
    columns = tuple(number for number, name in enumerate(file.names) if name and number not in others)
    if not columns:
        raise UsageError(f"{file.source}: no column is left for a series; {_listed(file.names)}")
    return columns


def _find(file: Source, name: str) -> int:
    """Return the number of a column. Raises `UsageError` with a similar name if there is none."""
    if name and name in file.names:
        return file.names.index(name)
    # The search for a similar name is slow, so it is limited.
    candidates = [candidate for candidate in file.names[:1000] if 0 < len(candidate) <= 100]
    similar = difflib.get_close_matches(name[:100], candidates, 1)
    hint = ""
    if os.path.lexists(name):
        hint = f"{EXPANDED}; "
    elif similar:
        hint = f"did you mean {shown(similar[0])}? "
    raise UsageError(f"{file.source}: there is no column {shown(name)}; {hint}{_listed(file.names)}")


def _listed(names: Sequence[str]) -> str:
    quoted = [shown(name, 40) for name in names if name]
    rest = ""
    if len(quoted) > 20:
        rest = f" and {len(quoted) - 20} more"
    return f"the columns are {', '.join(quoted[:20])}{rest}"


def _find_time(file: Source, time: str | None, taken: set[int], is_panel: bool) -> tuple[int | None, tuple[str, ...]]:
    """Return the column of the dates, None if the rows are counted, and a note if it is inferred."""
    counted_note = "rows are counted from 0 in the place of dates"
    if time is not None and (time != ROWS or ROWS in file.names):
        return _find(file, time), ()
    if time == ROWS:
        return None, (counted_note,)

    free = [number for number, name in enumerate(file.names) if name and number not in taken]
    # Dates as an index have no name in a file of pandas.
    if file.indexed:
        free = [0, *free]
    by_name = [number for number in free if file.names[number].lower() in TIME_NAMES]
    if len(by_name) > 1:
        both_names = " and ".join(shown(file.names[number]) for number in by_name[:2])
        raise UsageError(f"{file.source}: {both_names} may both hold the dates; say which with --data.time")
    if by_name:
        return by_name[0], (f"{shown(file.names[by_name[0]])} holds the dates, by its name",)

    by_content = _columns_of_dates(file, free[:INSPECTED_COLUMNS], is_panel)
    if len(by_content) == 1:
        name = file.names[by_content[0]]
        which = shown(name) if name else "the first column"
        return by_content[0], (f"{which} holds the dates, by its contents",)
    if by_content:
        both_names = " and ".join(shown(file.names[number]) for number in by_content[:2])
        return None, (f"{counted_note}: {both_names} may both hold them, say which with --data.time",)
    return None, (counted_note,)


def _columns_of_dates(file: Source, free: Sequence[int], is_panel: bool) -> list[int]:
    """Return the columns whose first rows are dates, increasing if all are of one series."""
    if not free:
        return []
    with closing(file.frames(free, [], file.decimals[-1])) as frames:
        head = next(frames).head(INSPECTED_ROWS)

    columns = []
    typed = []
    for number in free:
        if head[number].dtype.kind == "M":
            typed.append(number)
        times = _dates_in(head[number], may_be_numbers=HINTS.fullmatch(file.names[number]) is not None)
        if times is None:
            continue
        # Dates out of order are no time axis, but a property of each row, such as a day of delivery.
        if is_panel or np.all(times[1:] > times[:-1]):
            columns.append(number)
    # A column of the type of dates is meant as some; its order is then checked row by row.
    if not columns and len(typed) == 1:
        return typed
    return columns


def _dates_in(column: pd.Series, may_be_numbers: bool) -> np.ndarray | None:
    """Return a column's times; None if it has others."""
    if column.dtype.kind == "M":
        dates = timestamps(column)
        return dates.times if np.all(dates.read) else None

    numbers, words = words_of(column)
    first_text = words[numbers[0]]
    # Trying all forms is slow, and most columns have decimals or no digit at all.
    if not re.search(r"\d", first_text) or (NUMBER.fullmatch(first_text) and not first_text.isdigit()):
        return None
    for form in forms(first_text):
        if form == INTEGER or (form in NUMBERS and not may_be_numbers):
            # A bare number is no date: year 2020, or 2020 pieces.
            return None
        dates = parse(words, form).take(numbers)
        if np.all(dates.read):
            return dates.times
    return None


def _only_numbers(file: Source, taken: set[int], may_be_wide: bool) -> int:
    """Return the column that alone has no other role, or alone has numbers in the first rows. Raises `UsageError`."""
    free = [number for number, name in enumerate(file.names) if name and number not in taken]
    if len(free) == 1:
        return free[0]

    candidates: set[int] = set()
    for decimal in file.decimals if free else ():
        with closing(file.frames([], free, decimal)) as frames:
            for frame in itertools.islice(frames, 1):
                head = frame.head(INSPECTED_ROWS)
                candidates |= {number for number in free if _has_numbers(head[number], decimal)}
    if len(candidates) == 1:
        return candidates.pop()
    rule = f"{counted(len(candidates), 'column')} may hold the values, say with --data.column which one does"
    way_out = ""
    if candidates and may_be_wide:
        way_out = f", or '{ALL}' if each is a series"
    raise UsageError(f"{file.source}: {rule}{way_out}; {_listed(file.names)}")


def _has_numbers(column: pd.Series, decimal: str) -> bool:
    """Return whether any value is a number: a text among numbers is a mistake to report, not another kind of column."""
    for value in column.astype(object):
        if isinstance(value, bool):
            continue
        number = number_of(value, decimal)
        if number is not None and not math.isnan(number):
            return True
    return False


def text_columns(file: Source, columns: Sequence[int]) -> tuple[int, ...]:
    """Return those of some columns whose first rows have texts and no number, whatever the decimal mark."""
    # A text with one mark may be a number with the other.
    texts = set(columns)
    for decimal in file.decimals if columns else ():
        with closing(file.frames([], columns, decimal)) as frames:
            for frame in itertools.islice(frames, 1):
                head = frame.head(INSPECTED_ROWS)
                texts &= {number for number in columns if _has_texts_alone(head[number], decimal)}
    return tuple(number for number in columns if number in texts)


def _has_texts_alone(column: pd.Series, decimal: str) -> bool:
    """Return whether there is a text, and each value is one or missing: one number makes texts beside it mistakes."""
    has_text = False
    for value in column.astype(object):
        number = number_of(value, decimal)
        if number is None and isinstance(value, str):
            has_text = True
        elif number is None or not math.isnan(number):
            return False
    return has_text
