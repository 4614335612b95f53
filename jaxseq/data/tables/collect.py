"""Read the chosen columns of a table as rows, series after series."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Int

from jaxseq.common.errors import UsageError
from jaxseq.common.text import counted, shown
from jaxseq.data.categories import Texts
from jaxseq.data.dates import Dates, settle
from jaxseq.data.tables import formats
from jaxseq.data.tables.cells import NotANumber, read_numbers, read_texts, read_times, words_of
from jaxseq.data.tables.formats import Source
from jaxseq.data.tables.rows import Pick, Rows


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
            numbers, words = words_of(frame[column])
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
            readings = read_times(frame[pick.time], readings, functools.partial(_where, file, pick.time, start))
        if pick.series:
            series.append(_read_names(frame, names, file, pick.series, start))
        columns = []
        for column in pick.values:
            # Of a text, the place among those that came before it in the file.
            if column in texts:
                columns.append(read_texts(frame[column], texts[column]))
            else:
                columns.append(read_numbers(frame[column], decimal, file, column, start))
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


def _read_names(
    frame: pd.DataFrame,
    names: dict[tuple[str, ...], int],
    file: Source,
    columns: Sequence[int],
    start: int,
) -> Int[np.ndarray, " n"]:
    """Return the number of each row's series, and add new ones to `names`."""
    codes = np.zeros(len(frame), np.int64)
    texts = []
    for column in columns:
        numbers, words = words_of(frame[column])
        _check_names(numbers, words, functools.partial(_where, file, column, start))
        codes = codes * len(words) + numbers
        texts.append(words[numbers])

    # In order of first appearance, as the series are numbered.
    number_of_row, distinct = pd.factorize(codes)
    first_rows = np.unique(number_of_row, return_index=True)[1]
    keys = [tuple(words[row] for words in texts) for row in first_rows]
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
