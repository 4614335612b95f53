"""Which column is what, and each as numbers, times or names."""

from __future__ import annotations

import difflib
import functools
import itertools
import math
import re
from collections.abc import Callable, Sequence
from contextlib import closing
from decimal import Decimal

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from jaxseq.common.errors import UsageError
from jaxseq.common.text import counted, shown
from jaxseq.data.dates import Dates, forms, parse, settle, timestamps
from jaxseq.data.tables import formats
from jaxseq.data.tables.formats import MISSING_VALUES, Source
from jaxseq.data.tables.rows import ROWS, Pick, Rows

TIME_NAMES = ("date", "time", "timestamp", "ds", "datetime")
_SWAP = str.maketrans(",.", ".,")
_NUMBER = re.compile(r"\s*[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf(inity)?)\s*", re.ASCII | re.IGNORECASE)


class NotANumber(UsageError):
    """Perhaps because of the decimal mark: `row` tells which mark got farther."""

    def __init__(self, message: str, row: int) -> None:
        super().__init__(message)
        self.row = row


def pick_columns(
    file: Source, column: str | None, time: str | None, series: str | None, covariates: tuple[str, ...]
) -> Pick:
    """The columns that were asked for, or that can be taken for them. Raises `UsageError`."""
    asked = [name for name in (column, time, series, *covariates) if name not in (None, ROWS)]
    if twice := next((name for name in asked if asked.count(name) > 1), None):
        raise UsageError(
            f"{file.source}: column {shown(twice)} is asked for {asked.count(twice)} times; each has one role"
        )
    find = functools.partial(_find, file)
    others = tuple(map(find, covariates))
    group = None if series is None else find(series)
    taken = {*others, *([] if group is None else [group]), *([] if column is None else [find(column)])}
    clock, notes = _find_time(file, time, taken)
    if column is not None:
        return Pick((find(column), *others), clock, group, notes)
    value = _only_numbers(file, taken | ({clock} if clock is not None else set()))
    note = f"{shown(file.names[value])} is forecast, as the only column that can be"
    return Pick((value, *others), clock, group, (note, *notes))


def _find(file: Source, name: str) -> int:
    if name and name in file.names:
        return file.names.index(name)
    short = [known for known in file.names[:1000] if 0 < len(known) <= 100]  # the look for a like name takes its time
    close = difflib.get_close_matches(name[:100], short, 1)
    hint = f"did you mean {shown(close[0])}? " if close else ""
    raise UsageError(f"{file.source}: there is no column {shown(name)}; {hint}{_listed(file.names)}")


def _listed(names: Sequence[str]) -> str:
    known = [shown(name, 40) for name in names if name]
    rest = f" and {len(known) - 20} more" if len(known) > 20 else ""
    return f"the columns are {', '.join(known[:20])}{rest}"


def _find_time(file: Source, time: str | None, taken: set[int]) -> tuple[int | None, tuple[str, ...]]:
    if time is not None and (time != ROWS or ROWS in file.names):
        return _find(file, time), ()
    found = [
        number
        for number, name in enumerate(file.names)
        if name.lower() in TIME_NAMES and number not in taken and not time
    ]
    if len(found) > 1:
        both = " and ".join(shown(file.names[number]) for number in found[:2])
        raise UsageError(f"{file.source}: {both} may both hold the dates; say which with time")
    if found:
        return found[0], (f"{shown(file.names[found[0]])} holds the dates, by its name",)
    return None, ("rows are counted from 0 in the place of dates",)


def _only_numbers(file: Source, taken: set[int]) -> int:
    """The column that alone has no other role, or alone has numbers in the first rows. Raises `UsageError` if none is."""
    free = [number for number, name in enumerate(file.names) if name and number not in taken]
    found = set(free) if len(free) == 1 else set()
    for decimal in file.decimals if len(free) > 1 else ():
        with closing(file.frames([], free, decimal)) as frames:
            for frame in itertools.islice(frames, 1):
                found |= {number for number in free if _has_numbers(frame[number].head(1000), decimal)}
    if len(found) == 1:
        return found.pop()
    rule = f"{counted(len(found), 'column')} may hold the values, say with column which one does"
    raise UsageError(f"{file.source}: {rule}; {_listed(file.names)}")


def _has_numbers(column: pd.Series, decimal: str) -> bool:
    """Whether there is any: a text among numbers is a mistake to be told of, not a reason to take another column."""
    known = (None if isinstance(value, bool) else _number(value, decimal) for value in column.astype(object))
    return any(value is not None and not math.isnan(value) for value in known)


def collect(file: Source, pick: Pick) -> Rows:
    """Raises `UsageError` for too many values, or the error of the decimal mark that got farthest, if none can be."""
    if (cells := file.rows * (len(pick.values) + 2)) > formats.MAX_CELLS:
        asked = f"{file.rows:,} rows of {counted(len(pick.values), 'column')}"
        raise UsageError(
            f"{file.source}: {asked} are {cells:,} values with their times and places; {formats.MAX_CELLS:,} are the most "
            "that is read: take fewer rows or covariates"
        )
    failures = []
    for decimal in file.decimals:
        try:
            return _collect_with(file, pick, decimal)
        except NotANumber as error:
            failures.append(error)
    raise max(failures, key=lambda error: error.row)


def _collect_with(file: Source, pick: Pick, decimal: str) -> Rows:
    readings: dict[str, list[Dates]] = {}
    series, values, names, start = [], [], {}, 0
    texts = [column for column in (pick.time, pick.series) if column is not None]
    for frame in file.frames(texts, pick.values, decimal):
        if pick.time is not None:
            readings = _read_times(frame[pick.time], readings, functools.partial(_where, file, pick.time, start))
        if pick.series is not None:
            where = functools.partial(_where, file, pick.series, start)
            series.append(_read_names(frame[pick.series], names, where))
        columns = [_read_numbers(frame[column], decimal, file, column, start) for column in pick.values]
        values.append(np.stack(columns, axis=1))
        start += len(frame)
    if start != file.rows:
        raise UsageError(
            f"{file.source}: {file.rows:,} rows were announced, {start:,} came: damaged, or changed meanwhile"
        )
    group = np.concatenate(series) if series else np.zeros(start, np.int32)
    order = np.argsort(group, kind="stable")
    group = group[order]
    whole = np.concatenate(values)[order]
    if pick.time is None:
        first = np.flatnonzero(np.diff(group, prepend=-1))
        times, notes = np.arange(start) - first[group], ()
    else:
        times, notes = settle(readings, functools.partial(_where, file, pick.time, 0))
        times = times[order]
    return Rows(
        file=file,
        pick=pick,
        names=tuple(names),
        series=group,
        times=times,
        values=whole,
        order=order,
        missing=np.zeros(whole.shape, bool),
        notes=notes,
    )


def _where(file: Source, column: int, start: int, row: int) -> str:
    return file.where(column, start + row)


def _words(column: pd.Series) -> tuple[Int[np.ndarray, " n"], pd.Index]:
    """The texts that occur in a column, and the number of the one in each row; an empty one where there is none."""
    numbers, found = pd.factorize(column.astype(object))
    words = ["" if word is None else str(word).strip() for word in found]
    return np.where(numbers < 0, len(words), numbers), pd.Index([*words, ""], dtype=object)


def _read_names(column: pd.Series, names: dict[str, int], where: Callable[[int], str]) -> Int[np.ndarray, " n"]:
    """The number of each row's series; `names` gets the new ones."""
    numbers, words = _words(column)
    empty = np.asarray(words == "")[numbers]
    if np.any(empty):
        raise UsageError(
            f"{where(int(np.argmax(empty)))}: the name of the series is empty, in {counted(empty.sum(), 'row')} in all"
        )
    long = np.asarray(words.str.len() > formats.LONGEST_NAME, bool)[numbers]
    if np.any(long):
        row = int(np.argmax(long))
        raise UsageError(
            f"{where(row)}: the name of the series has {len(words[numbers[row]]):,} letters; {formats.LONGEST_NAME} at most"
        )
    known = [names.setdefault(word, len(names)) for word in words[:-1]]
    if len(names) > formats.MAX_SERIES:
        raise UsageError(
            f"{where(len(column) - 1)}: there are more than {formats.MAX_SERIES:,} series, the most that is read"
        )
    return np.array([*known, -1], np.int32)[numbers]


def _read_numbers(column: pd.Series, decimal: str, file: Source, number: int, start: int) -> Float[np.ndarray, " n"]:
    if column.dtype.kind in "biuf":
        return column.to_numpy(np.float64)
    result = np.empty(len(column))
    for row, value in enumerate(column.astype(object)):
        found = _number(value, decimal)
        if found is None:
            hint = "; write a decimal point and no mark for thousands" if re.search(r"\d,\d", str(value)) else ""
            raise NotANumber(
                f"{file.where(number, start + row)}: {shown(_plain(value))} is not a number{hint}", start + row
            )
        result[row] = found
    return result


def _plain(value: object) -> str:
    return value if isinstance(value, str) else str(value)


def _number(value: object, decimal: str) -> float | None:
    """A single value of a column that pandas does not take for numbers; None if it is none."""
    if value is None or value is pd.NaT or value is pd.NA:
        return math.nan
    if isinstance(value, str):
        text = value if decimal == "." else value.translate(_SWAP)
        if value.strip() in MISSING_VALUES:  # pandas takes it for one only without spaces
            return math.nan
        return float(text) if _NUMBER.fullmatch(text) else None
    if isinstance(value, int | float | Decimal):
        return float(str(value)) if type(value) is int else float(value)  # a large int is infinite as a text alone
    return None


def _read_times(
    column: pd.Series, readings: dict[str, list[Dates]], where: Callable[[int], str]
) -> dict[str, list[Dates]]:
    """`readings` and this piece of the column, in every form that fits all of both. Raises `UsageError` if none does."""
    if column.dtype.kind == "M":
        made = {"timestamp in whole microseconds, year 2 to 9998": timestamps(column)}
    else:
        numbers, words = _words(column)
        possible = readings or forms(words[numbers[0]])
        made = {form: parse(words, form).take(numbers) for form in possible}
    if fitting := {form: [*readings.get(form, []), dates] for form, dates in made.items() if np.all(dates.read)}:
        return fitting
    row, form = max(((int(np.argmin(dates.read)), form) for form, dates in made.items()), default=(0, ""))
    world = column.dt.tz_convert(None) if isinstance(column.dtype, pd.DatetimeTZDtype) else column
    value = world.to_numpy()[row]
    if pd.isna(value) or not str(value).strip():
        raise UsageError(f"{where(row)}: there is no date; every row needs one")
    rule = f"a time in the form of the first row ({form})" if form else "a date, such as 2020-01-31, or an integer"
    raise UsageError(f"{where(row)}: {shown(_plain(value))} is not {rule}")
