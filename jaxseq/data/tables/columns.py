"""Choose the columns of a table, and read each as numbers, times or names."""

from __future__ import annotations

import difflib
import functools
import itertools
import math
import os
import re
from collections.abc import Callable, Sequence
from contextlib import closing
from decimal import Decimal
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from jaxseq.common.errors import UsageError
from jaxseq.common.text import EXPANDED, counted, shown
from jaxseq.data.categories import Texts
from jaxseq.data.dates import INTEGER, NUMBERS, Dates, forms, parse, settle, timestamps
from jaxseq.data.tables import formats
from jaxseq.data.tables.formats import MISSING_VALUES, Source
from jaxseq.data.tables.rows import ALL, ROWS, Pick, Rows

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

_SWAP = str.maketrans(",.", ".,")
_NUMBER = re.compile(r"\s*[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf(inity)?)\s*", re.ASCII | re.IGNORECASE)


class NotANumber(UsageError):
    """A text among numbers; the one in the highest `row` belongs to the decimal mark that fits best."""

    def __init__(self, message: str, row: int) -> None:
        super().__init__(message)
        self.row = row


# Choosing columns ------------------------------------------------------------------------------------------------------


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

    numbers, words = _words(column)
    first_text = words[numbers[0]]
    # Trying all forms is slow, and most columns have decimals or no digit at all.
    if not re.search(r"\d", first_text) or (_NUMBER.fullmatch(first_text) and not first_text.isdigit()):
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
        number = _number(value, decimal)
        if number is not None and not math.isnan(number):
            return True
    return False


# Reading columns -------------------------------------------------------------------------------------------------------


def collect(file: Source, pick: Pick) -> Rows:
    """Read the columns. Raises `UsageError` for too many values, or the error of the decimal mark that fits best."""
    cells = file.rows * (len(pick.values) + 2)
    if pick.wide:
        # Each series has its own times, places and covariates.
        cells = file.rows * pick.wide * (len(pick.values) - pick.wide + 3)
    if cells > formats.MAX_CELLS:
        size = f"{file.rows:,} rows of {counted(len(pick.values), 'column')}"
        raise UsageError(
            f"{file.source}: {size} are {cells:,} values with their times and places; {formats.MAX_CELLS:,} are the most "
            "that is read: take fewer rows or covariates"
        )
    # Only a file with semicolons may have a decimal comma.
    if len(file.decimals) > 1:
        _check_decimal_mark(file, pick)

    failures = []
    for decimal in file.decimals:
        try:
            return _collect_with(file, pick, decimal)
        except NotANumber as error:
            failures.append(error)
    # The mark that fits more rows is the one that was meant, so its error is the useful one.
    raise max(failures, key=lambda error: error.row)


class _Marked(NamedTuple):
    """The first number with a mark, for the message about it."""

    text: str
    mark: str
    column: int
    row: int


def _check_decimal_mark(file: Source, pick: Pick) -> None:
    """Raise `UsageError` if a mark may be that of decimals or of thousands, as in 995, 998, 1.001.

    A mark that is followed by three digits in every number is ambiguous. A decimal comma is usual beside semicolons, so
    that it is only doubtful where some numbers have no mark at all.
    """
    first: _Marked | None = None
    has_unmarked = False
    start = 0
    columns = _numeric(pick)
    for frame in file.frames(columns, [], file.decimals[0]):
        for column in columns:
            numbers, words = _words(frame[column])
            is_marked = np.asarray(words.str.contains("[.,]"), bool)
            is_like_thousands = np.asarray(words.str.fullmatch(r"[+-]?[1-9]\d{0,2}[.,]\d{3}"), bool)
            # One number that cannot have a mark for thousands settles it for the whole file.
            if np.any(is_marked & ~is_like_thousands):
                return
            has_unmarked |= bool(np.any(np.asarray(words.str.fullmatch(r"[+-]?[1-9]\d*"), bool)))
            if first is None and np.any(is_marked):
                row = int(np.argmax(is_marked[numbers]))
                text = words[numbers[row]]
                first = _Marked(text, re.sub("[^.,]", "", text), column, start + row)
        start += len(frame)

    if first is None or (first.mark == "," and not has_unmarked):
        return
    digits = first.text.replace(first.mark, "")
    kind = {".": "point", ",": "comma"}[first.mark]
    raise UsageError(
        f"{file.where(first.column, first.row)}: {shown(first.text)} is {digits} with a {kind} for thousands or "
        f"{first.text.replace(first.mark, '.')} with a decimal {kind}, and no row tells which; write {digits}, or "
        f"{first.text}0 with four decimals"
    )


def text_columns(file: Source, columns: Sequence[int]) -> tuple[int, ...]:
    """Return those of some columns whose first rows have texts and no number, whatever the decimal mark."""
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
        number = _number(value, decimal)
        if number is None and isinstance(value, str):
            has_text = True
        elif number is None or not math.isnan(number):
            return False
    return has_text


def _collect_with(file: Source, pick: Pick, decimal: str) -> Rows:
    """Read the columns with one decimal mark."""
    readings: dict[str, list[Dates]] = {}
    names: dict[tuple[str, ...], int] = {}
    texts: dict[int, dict[str, int]] = {column: {} for column in pick.texts}
    series = []
    values = []
    start = 0
    as_texts = [*pick.series, *pick.texts]
    if pick.time is not None:
        as_texts.append(pick.time)

    for frame in file.frames(as_texts, _numeric(pick), decimal):
        if pick.time is not None:
            readings = _read_times(frame[pick.time], readings, functools.partial(_where, file, pick.time, start))
        if pick.series:
            series.append(_read_names(frame, names, file, pick.series, start))
        columns = []
        for column in pick.values:
            # Of a text, the place among those that came before it in the file.
            if column in texts:
                columns.append(_read_texts(frame[column], texts[column]))
            else:
                columns.append(_read_numbers(frame[column], decimal, file, column, start))
        values.append(np.stack(columns, axis=1))
        start += len(frame)
    # The number of rows was counted when the file was checked.
    if start != file.rows:
        raise UsageError(
            f"{file.source}: {file.rows:,} rows were announced, {start:,} came: damaged, or changed meanwhile"
        )

    group = np.zeros(start, np.int32)
    if series:
        group = np.concatenate(series)
    # Stable, so that each series keeps the order of the file.
    order = np.argsort(group, kind="stable")
    group = group[order]
    if pick.time is None:
        first = np.flatnonzero(np.diff(group, prepend=-1))
        times = np.arange(start) - first[group]
        notes = ()
    else:
        times, notes = settle(readings, functools.partial(_where, file, pick.time, 0))
        times = times[order]
    numbers = np.concatenate(values)[order]
    return Rows(
        file=file,
        pick=pick,
        names=_joined(file, pick, tuple(names), group=group, order=order) or _wide_names(file, pick),
        series=group,
        times=times,
        values=numbers,
        order=order,
        missing=np.zeros(numbers.shape, bool),
        notes=notes,
        keys=tuple(names),
        texts=tuple(Texts(file.names[column], tuple(places)) for column, places in texts.items()),
    )


def _numeric(pick: Pick) -> list[int]:
    return [column for column in pick.values if column not in pick.texts]


def _read_texts(column: pd.Series, places: dict[str, int]) -> Float[np.ndarray, " n"]:
    """Return the place of each row's text, NaN where there is none, and add new ones to `places`."""
    numbers, words = _words(column)
    codes = np.full(len(words), math.nan)
    for number, word in enumerate(words):
        # Only an empty cell has no text: NA may be one.
        if word:
            codes[number] = places.setdefault(word, len(places))
    return codes[numbers]


def _wide_names(file: Source, pick: Pick) -> tuple[str, ...]:
    """Return the names of the columns that have a series each. Raises `UsageError` for a very long one."""
    names = tuple(file.names[column] for column in pick.values[: pick.wide])
    for name in names:
        if len(name) > formats.LONGEST_NAME:
            raise UsageError(
                f"{file.source}: column {shown(name)}: the name of the series has {len(name):,} letters; "
                f"{formats.LONGEST_NAME} at most"
            )
    return names


def _joined(
    file: Source,
    pick: Pick,
    keys: tuple[tuple[str, ...], ...],
    *,
    group: Int[np.ndarray, " n"],
    order: Int[np.ndarray, " n"],
) -> tuple[str, ...]:
    """Return one name for each series, which may have several columns. Raises `UsageError` if two are then the same."""
    joined = tuple("/".join(parts) for parts in keys)
    number_of: dict[str, int] = {}
    for number, name in enumerate(joined):
        first = number_of.setdefault(name, number)
        if first != number:
            # A series keeps the order of the file, so its first row is the first one here.
            row = int(order[np.argmax(group == number)])
            first_row = int(order[np.argmax(group == first)])
            raise UsageError(
                f"two series are both called {shown(name)}; rename one, without a slash",
                where=file.where(pick.series[0], row),
                got=" and ".join(shown(part) for part in keys[number]),
                needed=f"another name than that of row {file.line(first_row)}",
            )
    return joined


def _where(file: Source, column: int, start: int, row: int) -> str:
    return file.where(column, start + row)


def _words(column: pd.Series) -> tuple[Int[np.ndarray, " n"], pd.Index]:
    """Return the texts that occur in a column, stripped, and the number of each row's text; "" where there is none."""
    numbers, values = pd.factorize(column.astype(object))
    words = ["" if value is None else str(value).strip() for value in values]
    return np.where(numbers < 0, len(words), numbers), pd.Index([*words, ""], dtype=object)


def _read_names(
    frame: pd.DataFrame,
    names: dict[tuple[str, ...], int],
    file: Source,
    columns: Sequence[int],
    start: int,
) -> Int[np.ndarray, " n"]:
    """Return the number of each row's series, and add new ones to `names`."""
    codes = np.zeros(len(frame), np.int64)
    words_of = []
    for column in columns:
        numbers, words = _words(frame[column])
        _check_names(numbers, words, functools.partial(_where, file, column, start))
        codes = codes * len(words) + numbers
        words_of.append(words[numbers])

    # In order of first appearance, as the series are numbered.
    number_of_row, distinct = pd.factorize(codes)
    first_rows = np.unique(number_of_row, return_index=True)[1]
    keys = [tuple(words[row] for words in words_of) for row in first_rows]
    series = [names.setdefault(key, len(names)) for key in keys]
    if len(names) > formats.MAX_SERIES:
        where = file.where(columns[0], start + len(frame) - 1)
        raise UsageError(f"{where}: there are more than {formats.MAX_SERIES:,} series, the most that is read")
    assert len(distinct) == len(series), "one key for each code"
    return np.array(series, np.int32)[number_of_row]


def _check_names(numbers: Int[np.ndarray, " n"], words: pd.Index, where: Callable[[int], str]) -> None:
    """Raise `UsageError` for a row whose series has no name, or a very long one."""
    is_empty = np.asarray(words == "")[numbers]
    if np.any(is_empty):
        row = int(np.argmax(is_empty))
        raise UsageError(f"{where(row)}: the name of the series is empty, in {counted(is_empty.sum(), 'row')} in all")
    is_long = np.asarray(words.str.len() > formats.LONGEST_NAME, bool)[numbers]
    if np.any(is_long):
        row = int(np.argmax(is_long))
        raise UsageError(
            f"{where(row)}: the name of the series has {len(words[numbers[row]]):,} letters; {formats.LONGEST_NAME} at most"
        )


def _read_numbers(column: pd.Series, decimal: str, file: Source, number: int, start: int) -> Float[np.ndarray, " n"]:
    """Return the numbers of a column. Raises `NotANumber` for the first other value."""
    # pandas has read the whole piece as numbers, exactly.
    if column.dtype.kind in "biuf":
        return column.to_numpy(np.float64)

    result = np.empty(len(column))
    for row, value in enumerate(column.astype(object)):
        as_number = _number(value, decimal)
        if as_number is None:
            hint = ""
            if re.search(r"\d,\d", str(value)):
                hint = "; write a decimal point and no mark for thousands"
            raise NotANumber(
                f"{file.where(number, start + row)}: {shown(_plain(value))} is not a number{hint}", start + row
            )
        result[row] = as_number
    return result


def _plain(value: object) -> str:
    if isinstance(value, str):
        return value
    return str(value)


def _number(value: object, decimal: str) -> float | None:
    """Return a value of a column that pandas does not take for numbers; None if it is no number."""
    if value is None or value is pd.NaT or value is pd.NA:
        return math.nan
    if isinstance(value, str):
        # pandas recognises a missing value only without spaces.
        if value.strip() in MISSING_VALUES:
            return math.nan
        text = value
        if decimal != ".":
            text = value.translate(_SWAP)
        if not _NUMBER.fullmatch(text):
            return None
        return float(text)
    if type(value) is int:
        # An integer beyond float64 becomes infinite only if it is read as a text.
        return float(str(value))
    if isinstance(value, int | float | Decimal):
        return float(value)
    return None


def _read_times(
    column: pd.Series, readings: dict[str, list[Dates]], where: Callable[[int], str]
) -> dict[str, list[Dates]]:
    """Return `readings` with this piece of the column, in every form that fits all pieces. Raises `UsageError`."""
    if column.dtype.kind == "M":
        pieces = {"timestamp in whole microseconds, year 2 to 9998": timestamps(column)}
    else:
        numbers, words = _words(column)
        possible_forms = readings or forms(words[numbers[0]])
        pieces = {form: parse(words, form).take(numbers) for form in possible_forms}
    fitting = {form: [*readings.get(form, []), dates] for form, dates in pieces.items() if np.all(dates.read)}
    if fitting:
        return fitting

    # The form that gets farthest is the one that was meant.
    row, form = max(((int(np.argmin(dates.read)), form) for form, dates in pieces.items()), default=(0, ""))
    world = column
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        world = column.dt.tz_convert(None)
    value = world.to_numpy()[row]
    if pd.isna(value) or not str(value).strip():
        raise UsageError(f"{where(row)}: there is no date; every row needs one")
    rule = "a date, such as 2020-01-31, or an integer"
    if form:
        rule = f"a time in the form of the first row ({form})"
    raise UsageError(f"{where(row)}: {shown(_plain(value))} is not {rule}")
