"""A user's own table, CSV or Parquet, as series in time that are complete, in order and of one frequency.

Nothing is guessed in silence: what was chosen, left out or filled in is in `Table.notes`, and what cannot be read is one
line that names the row. Rows are counted as an editor counts lines, the header being row 1 and a field with line breaks
as many lines as it has; a Parquet file has no lines, so there the first record is row 1.
"""

from __future__ import annotations

import csv
import difflib
import functools
import gzip
import io
import itertools
import math
import re
import stat
import zlib
from codecs import BOM_UTF8, getincrementaldecoder
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast, get_args

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int, Shaped, UInt8

from jaxseq.data.frequency import (
    Dates,
    Frequency,
    coarsest,
    forms,
    guess,
    irregular,
    microseconds,
    missing_days,
    parse,
    regular,
)
from jaxseq.data.windows import Series, check_at_least, check_choice
from jaxseq.errors import UsageError

MAX_BYTES = 2 * 2**30
"""Of a file, and of what a compressed one unpacks to."""
MAX_ROWS = 50_000_000
MAX_RECORD = 100_000
"""Bytes of one row."""
MAX_VALUE = 1e100
"""Magnitude of a value: its square, and sums of such squares, stay finite in float64."""
LONGEST_GAP = 5
"""Values in a row that are interpolated unless the caller says otherwise."""
ROWS = "rows"
"""As `time`: no column, the rows are counted."""
TIME_NAMES = ("date", "time", "timestamp", "ds", "datetime")
MISSING_VALUES = ("", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "-nan", "null", "NULL", "None", "NaT", ".")
"""What stands for no value in a column of numbers."""
SUFFIXES = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz", ".parquet")
Missing = Literal["error", "drop", "interpolate"]

_BLOCK = 4 * 2**20  # bytes looked at together
_CHUNK = 250_000  # rows read together
_LINE_FEED, _RETURN, _QUOTE = b'\n\r"'
_OPEN = "the quotation mark that opens here is never closed"
_SWAP = str.maketrans(",.", ".,")
_NUMBER = re.compile(r"\s*[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf(inity)?)\s*", re.ASCII | re.IGNORECASE)
# pandas rounds every number correctly from 3.1 on, before that only if it is asked to
_EXACT = {} if tuple(map(int, pd.__version__.split(".")[:2])) >= (3, 1) else {"float_precision": "round_trip"}
_READING: dict[str, Any] = {
    "header": 0,
    "index_col": False,
    "keep_default_na": False,
    "skip_blank_lines": False,  # or rows could not be counted
    "skipinitialspace": True,
    "encoding": "utf-8",
    "low_memory": False,  # or a column could have several types within one piece
}


class Table(NamedTuple):
    """Series that can be trained on, and how they came about."""

    series: tuple[Series, ...]
    """Times (datetime64, or int64 where there are no dates) and float64 values of each, in order."""
    names: tuple[str, ...]
    """One for each series, by first appearance in the file; the column's, if there is only one."""
    covariates: tuple[Float[np.ndarray, "n c"], ...]
    """For each series as many rows as it has, and c columns; c may be 0."""
    covariate_names: tuple[str, ...]
    frequency: Frequency
    """Of all the series; if they have no dates, that of integers."""
    notes: tuple[str, ...]
    """One line each: what was chosen, inferred, dropped, interpolated."""


def read(
    path: str | Path,
    column: str | None = None,
    time: str | None = None,
    series: str | None = None,
    covariates: tuple[str, ...] = (),
    missing: str = "error",
    period: int | None = None,
    longest_gap: int = LONGEST_GAP,
) -> Table:
    """Reads and checks a table in UTF-8 with a header, or a Parquet file; see `SUFFIXES`.

    `column` holds the values, and may be left out if only one column has numbers; `time` the dates or integers, by
    default the column with one of `TIME_NAMES`, else the rows are counted from 0 in each series (also with "rows");
    `series` the name of the series that a row belongs to, in any order; `covariates` numbers known beside the values.

    The separator is the comma, semicolon or tab of the header; with a semicolon a decimal comma is read too. Dates are
    ISO 8601, quarters as 2020Q1, or with the month in letters or the day and month in an order that the file shows to
    be the only one possible. A clock with an offset from UTC is kept as it is, if the offset never changes or all times
    are midnights, else it is turned to UTC. Numbers have a decimal point and no mark for thousands; true and false are
    1 and 0. Blank lines are skipped, but within a table of one column they are missing values.

    A value is missing if it is one of `MISSING_VALUES` or infinite. `missing` "drop" leaves out the rows where any
    value or covariate is; what comes after then follows what came before. "interpolate" draws a straight line over at
    most `longest_gap` rows between two that are there, in one series. The frequency is that of the dates before rows
    were dropped. `period` takes the place of its seasonal period.

    Raises `UsageError` for what cannot be read or used, with the row and the column.
    """
    source = _printable(str(path))
    check_choice(get_args(Missing), source, missing=missing)
    check_at_least(1, source, longest_gap=longest_gap, **({} if period is None else {"period": period}))
    file = _open(Path(path), source)
    pick = _pick(file, column, time, series, covariates)
    rows = _collect(file, pick)
    _check_magnitude(rows)
    frequency, notes = _frequency(rows, period)
    rows, filled = _complete(rows, missing, longest_gap)
    names = rows.names or (file.names[pick.values[0]],)
    first = np.flatnonzero(rows.starts)
    lengths, bounds = np.diff(first, append=len(rows.times)), first[1:]
    each = f"{lengths.min():,} to {lengths.max():,} rows"
    many = () if pick.series is None else (f"{len(names):,} series by {file.names[pick.series]!r}, of {each}",)
    values = np.split(np.ascontiguousarray(rows.values[:, 0]), bounds)
    return Table(
        series=tuple(map(Series, np.split(rows.times, bounds), values)),
        names=names,
        covariates=tuple(np.split(rows.values[:, 1:], bounds)),
        covariate_names=covariates,
        frequency=frequency,
        notes=(*file.notes, *pick.notes, *rows.notes, *many, *notes, *filled),
    )


class _File(NamedTuple):
    """What every format gives: the columns, and rows in pieces."""

    source: str
    """Its path, for messages."""
    names: tuple[str, ...]
    rows: int
    line: Callable[[int], int]
    """The row as the user counts it, of each row of data, which are counted from 0."""
    frames: Callable[[Sequence[int], Sequence[int], str], Generator[pd.DataFrame, None, None]]
    """Columns by number, some as text and some as numbers with this decimal mark."""
    decimals: tuple[str, ...] = (".",)
    notes: tuple[str, ...] = ()

    def where(self, column: int, row: int) -> str:
        """A cell, for messages: `row` is one of data, from 0."""
        return f"{self.source}: row {self.line(row)}, column {self.names[column]!r}"


class _Pick(NamedTuple):
    """Columns by number."""

    values: tuple[int, ...]
    """The one to forecast, then the covariates."""
    time: int | None
    series: int | None
    notes: tuple[str, ...]


class _Rows(NamedTuple):
    """All rows, series after series, each in the order of the file."""

    file: _File
    pick: _Pick
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


class _NotANumber(UsageError):
    """Perhaps because of the decimal mark: `row` tells which mark got farther."""

    def __init__(self, message: str, row: int) -> None:
        super().__init__(message)
        self.row = row


# Opening a file: what it is, its columns, and where its rows are


def _open(path: Path, source: str) -> _File:
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        raise UsageError(f"{source}: {getattr(error, 'strerror', None) or error}") from error
    if not stat.S_ISREG(found.st_mode):
        raise UsageError(
            f"{source}: is {'a directory' if stat.S_ISDIR(found.st_mode) else 'no regular file'}; name a file"
        )
    suffix = next((end for end in sorted(SUFFIXES, key=len, reverse=True) if path.name.lower().endswith(end)), None)
    if suffix is None:
        raise UsageError(f"{source}: the suffix {path.suffix!r} is unknown; it must be one of {', '.join(SUFFIXES)}")
    if not found.st_size:
        raise UsageError(f"{source}: the file is empty (0 bytes)")
    if found.st_size > MAX_BYTES:
        raise UsageError(
            f"{source}: the file has {_size(found.st_size)}, at most {_size(MAX_BYTES)} are read; split it"
        )
    file = _open_parquet(path, source) if suffix == ".parquet" else _open_text(path, source, suffix)
    named = [name for name in file.names if name]  # a column without a name is allowed, it cannot be asked for
    if twice := next((name for name in named if named.count(name) > 1), None):
        raise UsageError(f"{source}: row 1: column {twice!r} is there {named.count(twice)} times; names must differ")
    return file


def _counted(count: int | np.integer, noun: str) -> str:
    """One row, or 2 rows."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _size(count: int) -> str:
    """Bytes, or GiB if they are many."""
    return f"{count / 2**30:.3g} GiB" if count >= 2**30 else f"{count:,} bytes"


def _open_text(path: Path, source: str, suffix: str) -> _File:
    """A text with separators, read once to see that it is sound. Raises `UsageError`."""
    with _stream(path, source) as stream:
        head = stream.read(MAX_RECORD).decode("utf-8-sig", errors="replace")
    if not head:
        raise UsageError(f"{source}: the file is empty (0 bytes)")
    separator = "\t" if suffix.startswith(".tsv") else _separator(head)
    with _stream(path, source) as stream:
        survey = _survey(stream, ord(separator), source)
    names = tuple(name.strip() for name in _first_rows(head, separator)[0])
    rows = survey.records - 1 - len(survey.blank)
    if not rows:
        raise UsageError(f"{source}: there is only a header; at least one row must follow it")
    frames = functools.partial(_text_frames, path, source, separator, survey)
    note = () if separator == "," else (f"columns are separated by {'tabs' if separator == chr(9) else 'semicolons'}",)
    return _File(source, names, rows, survey.line, frames, (",", ".") if separator == ";" else (".",), note)


@contextmanager
def _stream(path: Path, source: str) -> Iterator[io.BufferedReader]:
    try:
        zipped = path.name.lower().endswith(".gz")
        with io.BufferedReader(gzip.open(path)) if zipped else path.open("rb") as stream:
            yield cast(io.BufferedReader, stream)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UsageError(f"{source}: the gzip file is damaged: {error}; compress it again") from error
    except OSError as error:
        raise UsageError(f"{source}: {error.strerror or error}") from error


def _first_rows(head: str, separator: str) -> tuple[list[str], list[str]]:
    rows = csv.reader(io.StringIO(head, newline=""), delimiter=separator, skipinitialspace=True)
    return next(rows, []), next(rows, [])


def _separator(head: str) -> str:
    """The one that divides the first two rows into equally many fields; if several do, that with the most fields."""
    fields = {separator: tuple(map(len, _first_rows(head, separator))) for separator in ";\t,"}
    best = max(fields, key=lambda separator: (len(set(fields[separator])) == 1, fields[separator]))
    return best if fields[best][0] > 1 else ","


class _Survey(NamedTuple):
    """Where the rows are. A record is a row that may have line breaks within quotation marks; record 0 is the header."""

    width: int
    records: int
    blank: Int[np.ndarray, " b"]
    """Which records are blank lines, so no data."""
    breaks: Int[np.ndarray, " q"]
    """The record of each line break within quotation marks."""

    def line(self, row: int) -> int:
        """The line on which a row of data begins: `row` counts from 0, lines from 1."""
        skipped = np.searchsorted(self.blank - 1 - np.arange(len(self.blank)), row, side="right")
        return _line(1 + row + int(skipped), self.breaks)


def _line(record: int, breaks: Int[np.ndarray, " q"]) -> int:
    return record + 1 + int(np.searchsorted(breaks, record))


def _survey(stream: io.BufferedReader, separator: int, source: str) -> _Survey:
    """Reads a text once to see that it is one: UTF-8, quotation marks that match, equally many fields in every row.

    pandas fills or cuts a row of another length without a word, and cannot say where a row stands. Raises `UsageError`.
    """
    width, records, rest = 0, 0, b""
    blank, breaks = np.zeros(0, np.int64), np.zeros(0, np.int64)
    for data in _checked(stream, source):
        rest += data
        scan = _scan(rest, separator)
        if not records and np.any(scan.blank[:1]):
            raise UsageError(f"{source}: row 1 is blank; the names of the columns must stand there")
        width = width or int(scan.fields[:1].sum())
        breaks = np.append(breaks, records + scan.inner)
        if problem := _problem(scan, width, rest):
            raise UsageError(f"{source}: row {_line(records + problem[0], breaks)}: {problem[1]}")
        blank = np.append(blank, records + np.flatnonzero(scan.blank))
        records += len(scan.ends)
        if records > MAX_ROWS + 1:
            raise UsageError(f"{source}: there are more than {MAX_ROWS:,} rows, which is the most that is read")
        rest = rest[scan.ends[-1] + 1 :] if len(scan.ends) else rest
    if rest:
        raise UsageError(f"{source}: row {_line(records, breaks)}: {_OPEN}")
    if width == 1:  # then a blank line is a missing value, unless it stands at the end
        blank = blank[blank == records - np.arange(len(blank), 0, -1)]
    return _Survey(width, records, blank, breaks)


def _checked(stream: io.BufferedReader, source: str) -> Iterator[bytes]:
    """The text in blocks, with a line end at the end and no byte order mark. Raises `UsageError` if it is no text."""
    decoder = getincrementaldecoder("utf-8")()
    size, lines = 0, 1
    for data in _blocks(stream):
        at, problem = data.find(0), "NUL"
        try:
            decoder.decode(data)
        except UnicodeDecodeError as error:
            problem = f"0x{error.object[error.start]:02x}, which is not UTF-8"
            at = error.start - len(error.object) + len(data)  # below 0 if it is in the block before
        if problem != "NUL" or at >= 0:
            row = lines + data[: max(at, 0)].count(b"\n")
            raise UsageError(
                f"{source}: row {row}: byte {size + at + 1:,} of the file is {problem}; save the file as text in UTF-8"
            )
        yield data if size else data.removeprefix(BOM_UTF8)
        size, lines = size + len(data), lines + data.count(b"\n")
        if size > MAX_BYTES:
            raise UsageError(f"{source}: the file unpacks to more than {_size(MAX_BYTES)}, the most that is read")


def _blocks(stream: io.BufferedReader) -> Iterator[bytes]:
    last = b"\n"
    while data := stream.read(_BLOCK):
        last = data[-1:]
        yield data
    if last != b"\n":
        yield b"\n"


class _Scan(NamedTuple):
    """The records that are whole in a block of text."""

    ends: Int[np.ndarray, " r"]
    """The place of the line end of each."""
    fields: Int[np.ndarray, " r"]
    blank: Bool[np.ndarray, " r"]
    misquoted: Bool[np.ndarray, " r"]
    """Whether a quotation mark stands where none may."""
    inner: Int[np.ndarray, " q"]
    """The record of each line break within quotation marks."""


def _scan(block: bytes, separator: int) -> _Scan:
    data = np.frombuffer(block, np.uint8)
    end, mark = data == _LINE_FEED, data == separator
    if b"\r" in block:  # a line end too, but as the first half of one; the last byte is decided with the next block
        end |= (data == _RETURN) & (np.append(data[1:], _LINE_FEED) != _LINE_FEED)
    quoted = np.zeros(0, bool)
    inner = wrong = np.zeros(0, np.int64)
    if b'"' in block:
        quoted = np.bitwise_xor.accumulate((data == _QUOTE).view(np.uint8)).view(bool)
        inner = np.flatnonzero(end & quoted)
        end, mark = end & ~quoted, mark & ~quoted
    places = np.flatnonzero(mark | end)
    closing = np.flatnonzero(end[places])
    ends, fields = places[closing], np.diff(closing, prepend=-1)
    whole = int(ends[-1]) + 1 if len(ends) else 0
    if len(quoted):
        wrong = _misquoted(data[:whole], quoted[:whole], separator)
    blank = fields == 1
    if np.any(blank):
        blank &= ~np.logical_or.reduceat(data[:whole] > ord(" "), np.append(0, ends[:-1] + 1))
    misquoted = np.bincount(np.searchsorted(ends, wrong), minlength=len(ends)) > 0
    return _Scan(ends, fields, blank, misquoted, np.searchsorted(ends, inner[inner < whole]))


def _misquoted(data: UInt8[np.ndarray, " n"], quoted: Bool[np.ndarray, " n"], separator: int) -> Int[np.ndarray, " m"]:
    """The places of quotation marks that neither open or close a whole field nor are one of a doubled pair in it."""
    at = np.flatnonzero(data == _QUOTE)
    before = np.where(at == 0, _LINE_FEED, data[at - 1])
    if np.any(before == ord(" ")):  # spaces before a field do not count
        last = np.maximum.accumulate(np.where(data == ord(" "), -1, np.arange(len(data))))[at - 1]
        before = np.where((at == 0) | (last < 0), _LINE_FEED, data[last])
    good = np.where(quoted[at], before, data[(at + 1) % len(data)])
    return at[~np.isin(good, [separator, _LINE_FEED, _RETURN, _QUOTE])]


def _problem(scan: _Scan, width: int, block: bytes) -> tuple[int, str] | None:
    """The first record that cannot be, and why."""
    ragged = (scan.fields != width) & ~scan.blank
    lengths = np.diff(scan.ends, prepend=-1)
    bad = np.flatnonzero(ragged | scan.misquoted | (lengths > MAX_RECORD))
    if not len(bad):
        rest = block[int(scan.ends[-1]) + 1 if len(scan.ends) else 0 :]
        too_long = f"more than {MAX_RECORD:,} bytes, the most that a row may have"
        return (len(scan.ends), _OPEN if rest.count(b'"') % 2 else too_long) if len(rest) > MAX_RECORD else None
    first = int(bad[0])
    if scan.misquoted[first]:
        return first, "a quotation mark within a field; put the whole field into marks and double those in it"
    if ragged[first]:
        return first, f"{_counted(int(scan.fields[first]), 'field')}, but the header has {width}"
    return first, f"{lengths[first]:,} bytes, a row may have at most {MAX_RECORD:,}"


def _text_frames(
    path: Path, source: str, separator: str, survey: _Survey, texts: Sequence[int], numbers: Sequence[int], decimal: str
) -> Generator[pd.DataFrame, None, None]:
    options: dict[str, Any] = {
        "sep": separator,
        "decimal": decimal,
        "names": list(range(survey.width)),
        "usecols": sorted({*texts, *numbers}),
        "dtype": dict.fromkeys(texts, object),
        "na_values": dict.fromkeys(numbers, MISSING_VALUES),
        **_EXACT,
    }
    record = 1
    with _stream(path, source) as stream:
        try:
            with pd.read_csv(stream, chunksize=_CHUNK, **_READING, **options) as frames:
                for frame in frames:
                    data = frame[~np.isin(record + np.arange(len(frame)), survey.blank)]
                    record += len(frame)
                    if len(data):
                        yield data
        except (ValueError, OverflowError) as error:
            raise UsageError(f"{source}: pandas cannot read it: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    """What a library says, as far as it fits into a message of one line."""
    return _printable(next(iter(str(error).splitlines()), "") or type(error).__name__)


def _printable(text: str) -> str:
    """Any text on one line: what cannot be printed is written as Python would write it."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def _open_parquet(path: Path, source: str) -> _File:
    """A Parquet file, of which nothing is read but its size and its columns. Raises `UsageError`."""
    with _parquet(path, source) as file:
        rows, schema = file.metadata.num_rows, file.schema_arrow
        # a list or a struct cannot be asked for, as a column without a name
        names = tuple("" if field.type.num_fields else field.name for field in schema)
        size = sum(file.metadata.row_group(group).total_byte_size for group in range(file.metadata.num_row_groups))
    if rows > MAX_ROWS:
        raise UsageError(f"{source}: there are {rows:,} rows; at most {MAX_ROWS:,} are read")
    if size > MAX_BYTES:
        raise UsageError(f"{source}: the file unpacks to {_size(size)}; at most {_size(MAX_BYTES)} are read")
    if not rows:
        raise UsageError(f"{source}: the file has columns and no row; at least one is needed")
    return _File(source, names, rows, _from_one, functools.partial(_parquet_frames, path, source, names))


def _from_one(row: int) -> int:
    return row + 1


@contextmanager
def _parquet(path: Path, source: str, texts: Sequence[str] = ()) -> Iterator[Any]:
    """The file behind pyarrow's reader, with text kept as numbers of the words that occur in it."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UsageError(
            f'{source}: Parquet needs pyarrow, which is not installed: pip install "jaxseq[parquet]"'
        ) from error
    try:
        with parquet.ParquetFile(path, read_dictionary=list(texts)) as file:
            yield file
    except (pyarrow.ArrowException, OSError, OverflowError, ValueError) as error:
        raise UsageError(f"{source}: cannot be read as Parquet: {_first_line(error)}") from error


def _parquet_frames(
    path: Path, source: str, names: Sequence[str], texts: Sequence[int], numbers: Sequence[int], decimal: str
) -> Generator[pd.DataFrame, None, None]:
    del decimal  # numbers are numbers here
    wanted = sorted({*texts, *numbers})
    with _parquet(path, source, [names[column] for column in texts]) as file:
        for batch in file.iter_batches(batch_size=_CHUNK, columns=[names[column] for column in wanted]):
            frame = batch.to_pandas(ignore_metadata=True, date_as_object=False)
            yield frame.set_axis([names.index(name) for name in frame.columns], axis=1)


# Choosing columns


def _pick(file: _File, column: str | None, time: str | None, series: str | None, covariates: tuple[str, ...]) -> _Pick:
    """The columns that were asked for, or that can be taken for them. Raises `UsageError`."""
    asked = [name for name in (column, time, series, *covariates) if name not in (None, ROWS)]
    if twice := next((name for name in asked if asked.count(name) > 1), None):
        raise UsageError(f"{file.source}: column {twice!r} is asked for {asked.count(twice)} times; each has one role")
    find = functools.partial(_find, file)
    others = tuple(map(find, covariates))
    group = None if series is None else find(series)
    taken = {*others, *([] if group is None else [group]), *([] if column is None else [find(column)])}
    clock, notes = _find_time(file, time, taken)
    if column is not None:
        return _Pick((find(column), *others), clock, group, notes)
    value = _only_numbers(file, taken | ({clock} if clock is not None else set()))
    note = f"{file.names[value]!r} is forecast, as the only column that can be"
    return _Pick((value, *others), clock, group, (note, *notes))


def _find(file: _File, name: str) -> int:
    if name and name in file.names:
        return file.names.index(name)
    close = difflib.get_close_matches(name, filter(None, file.names), 1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise UsageError(f"{file.source}: there is no column {name!r}; {hint}{_listed(file.names)}")


def _listed(names: Sequence[str]) -> str:
    known = [repr(name) for name in names if name]
    rest = f" and {len(known) - 20} more" if len(known) > 20 else ""
    return f"the columns are {', '.join(known[:20])}{rest}"


def _find_time(file: _File, time: str | None, taken: set[int]) -> tuple[int | None, tuple[str, ...]]:
    if time is not None and (time != ROWS or ROWS in file.names):
        return _find(file, time), ()
    found = [
        number
        for number, name in enumerate(file.names)
        if name.lower() in TIME_NAMES and number not in taken and not time
    ]
    if len(found) > 1:
        both = " and ".join(repr(file.names[number]) for number in found)
        raise UsageError(f"{file.source}: {both} may both hold the dates; say which with time")
    if found:
        return found[0], (f"{file.names[found[0]]!r} holds the dates, by its name",)
    return None, ("rows are counted from 0 in the place of dates",)


def _only_numbers(file: _File, taken: set[int]) -> int:
    """The column that alone has no other role, or alone has numbers in the first rows. Raises `UsageError` if none is."""
    free = [number for number, name in enumerate(file.names) if name and number not in taken]
    found = set(free) if len(free) == 1 else set()
    for decimal in file.decimals if len(free) > 1 else ():
        with closing(file.frames([], free, decimal)) as frames:
            for frame in itertools.islice(frames, 1):
                found |= {number for number in free if _has_numbers(frame[number].head(1000), decimal)}
    if len(found) == 1:
        return found.pop()
    rule = f"{_counted(len(found), 'column')} may hold the values, say with column which one does"
    raise UsageError(f"{file.source}: {rule}; {_listed(file.names)}")


def _has_numbers(column: pd.Series, decimal: str) -> bool:
    """Whether there is any: a text among numbers is a mistake to be told of, not a reason to take another column."""
    known = (None if isinstance(value, bool) else _number(value, decimal) for value in column.astype(object))
    return any(value is not None and not math.isnan(value) for value in known)


# Reading columns


def _collect(file: _File, pick: _Pick) -> _Rows:
    """Raises the error of the decimal mark that got farthest, if none of them can be."""
    failures = []
    for decimal in file.decimals:
        try:
            return _collect_with(file, pick, decimal)
        except _NotANumber as error:
            failures.append(error)
    raise max(failures, key=lambda error: error.row)


def _collect_with(file: _File, pick: _Pick, decimal: str) -> _Rows:
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
        return _Rows(file, pick, tuple(names), group, np.arange(start) - first[group], whole, order, ())
    times, notes = _settle(readings, functools.partial(_where, file, pick.time, 0))
    return _Rows(file, pick, tuple(names), group, times[order], whole, order, notes)


def _where(file: _File, column: int, start: int, row: int) -> str:
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
            f"{where(int(np.argmax(empty)))}: the name of the series is empty, in {_counted(empty.sum(), 'row')} in all"
        )
    known = [names.setdefault(word, len(names)) for word in words[:-1]]
    return np.array([*known, -1], np.int32)[numbers]


def _read_numbers(column: pd.Series, decimal: str, file: _File, number: int, start: int) -> Float[np.ndarray, " n"]:
    if column.dtype.kind in "biuf":
        return column.to_numpy(np.float64)
    result = np.empty(len(column))
    for row, value in enumerate(column.astype(object)):
        found = _number(value, decimal)
        if found is None:
            hint = "; write a decimal point and no mark for thousands" if re.search(r"\d,\d", str(value)) else ""
            raise _NotANumber(f"{file.where(number, start + row)}: {_shown(value)} is not a number{hint}", start + row)
        result[row] = found
    return result


def _shown(value: object) -> str:
    text = repr(value if isinstance(value, str) else str(value))
    return text if len(text) <= 60 else f"{text[:57]}…"


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
        made = {"timestamp in whole microseconds, year 2 to 9998": _timestamps(column)}
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
    raise UsageError(f"{where(row)}: {_shown(value)} is not {rule}")


def _timestamps(column: pd.Series) -> Dates:
    """A column that has dates and not texts, with a time zone or without one."""
    if not isinstance(column.dtype, pd.DatetimeTZDtype):
        times = microseconds(column.to_numpy())
        return Dates(times, None, ~np.isnat(times))
    world = microseconds(column.dt.tz_convert(None).to_numpy())
    known = ~np.isnat(world)
    local = microseconds(column.where(known).dt.tz_localize(None).to_numpy())
    return Dates(local, local - world, known)


def _settle(
    readings: dict[str, list[Dates]], where: Callable[[int], str]
) -> tuple[Shaped[np.ndarray, " n"], tuple[str, ...]]:
    """The times of all rows; raises `UsageError` if day and month may change places in every one of them."""
    whole = [np.concatenate([part.times for part in parts]) for parts in readings.values()]
    times = whole[0]
    for other in whole[1:]:
        if times.dtype == other.dtype and np.any(differ := times != other):
            row = int(np.argmax(differ))
            both = " or ".join(str(dates[row].astype("datetime64[D]")) for dates in (times, other))
            raise UsageError(
                f"{where(row)}: this is {both}, and no row tells day from month; write dates as 2020-01-31"
            )
    if times.dtype.kind != "M":
        return times, ()
    offsets = [part.offset for part in next(iter(readings.values())) if part.offset is not None]
    if not offsets:
        return coarsest(times), ()
    offset = np.concatenate(offsets)
    if np.all(offset == offset[0]):
        return coarsest(times), (f"times are kept as written, {offset[0] / np.timedelta64(1, 'h'):+g} hours from UTC",)
    if np.all(times == times.astype("datetime64[D]")):
        return coarsest(times), ("days are kept as written, though their offset from UTC changes",)
    return coarsest(times - offset), ("times are turned to UTC, because their offset from it changes",)


# Checking rows


def _check_magnitude(rows: _Rows) -> None:
    """Raises `UsageError` for the first value beyond `MAX_VALUE`."""
    high = (np.abs(rows.values) > MAX_VALUE) & np.isfinite(rows.values)
    if np.any(high):
        row, column = _first(rows, high)
        raise UsageError(
            f"{rows.where(rows.pick.values[column], row)}: {rows.values[row, column]:g} is beyond {MAX_VALUE:g} "
            "in magnitude, so its square may be infinite; correct it or take another unit"
        )


def _first(rows: _Rows, bad: Bool[np.ndarray, "n c"]) -> tuple[int, int]:
    """The row and the column of the first bad value in the order of the file."""
    at = np.flatnonzero(bad.any(axis=1))
    row = int(at[np.argmin(rows.order[at])])
    return row, int(np.argmax(bad[row]))


def _check_order(rows: _Rows, time: int) -> None:
    late = np.append(False, rows.times[1:] <= rows.times[:-1]) & ~rows.starts
    if np.any(late):
        row, _ = _first(rows, late[:, None])
        now, before, line = rows.times[row], rows.times[row - 1], rows.file.line(int(rows.order[row - 1]))
        alone = "" if rows.names else ", or name the column that tells several series apart with series"
        rule = f"keep one of them{alone}" if now == before else "times must increase, sort the rows"
        found = f"{now} is in row {line} too" if now == before else f"{now} follows {before} in row {line}"
        raise UsageError(f"{rows.where(time, row)}: {found}: {rule}")


def _frequency(rows: _Rows, period: int | None) -> tuple[Frequency, tuple[str, ...]]:
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
        line = irregular(rows.times[begin:row], rows.times[row], found, rows.where(rows.pick.time, row))
        raise UsageError(f'{line}; add or correct rows, or count rows in place of dates with time "{ROWS}"')
    season = f"seasonal period {found.period}" if period is None else f"seasonal period {period} as asked for"
    closed = missing_days(rows.times, found, starts)
    days = (f"{_counted(closed, 'business day')} without a row, taken for holidays",) if closed else ()
    return found._replace(period=period or found.period), (f"{found}, {season}", *days)


def _complete(rows: _Rows, missing: str, longest_gap: int) -> tuple[_Rows, tuple[str, ...]]:
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
    first = f"the first in row {rows.file.line(int(rows.order[row]))}, column {rows.file.names[number]!r}"
    if missing == "interpolate":
        values = np.stack([_interpolated(rows, place, longest_gap) for place in range(bad.shape[1])], axis=1)
        return rows._replace(values=values), (f"{_counted(np.count_nonzero(bad), 'value')} interpolated, {first}",)
    keep = ~bad.any(axis=1)
    kept = rows._replace(**{name: getattr(rows, name)[keep] for name in ("series", "times", "values", "order")})
    if lost := sorted({*rows.series.tolist()} - {*kept.series.tolist()}):
        name = f"series {rows.names[lost[0]]!r}" if rows.names else "the table"
        raise UsageError(f"{where}: {name} has no row left once those with missing or infinite values are dropped")
    return kept, (f"{_counted(np.count_nonzero(~keep), 'row')} with missing or infinite values dropped, {first}",)


def _interpolated(rows: _Rows, place: int, longest_gap: int) -> Float[np.ndarray, " n"]:
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
