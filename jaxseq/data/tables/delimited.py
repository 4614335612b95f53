"""Text with separators: where its rows are, whether it is sound, and its columns in pieces."""

from __future__ import annotations

import csv
import functools
import gzip
import io
import re
import zlib
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE, getincrementaldecoder
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int, UInt8

from jaxseq.common.errors import UsageError
from jaxseq.common.text import counted, first_line, shown, size_of
from jaxseq.data.dates import forms
from jaxseq.data.tables import formats
from jaxseq.data.tables.formats import MISSING_VALUES, Source

SEPARATORS = MappingProxyType({";": "semicolons", "\t": "tabs", "|": "vertical bars"})
"""Separators of columns beside the comma, with their names."""
NUMBER = re.compile(r"[+-]?\d*[.,]?\d+(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
"""A number with either decimal mark."""
MAX_RECORD = 100_000
"""Bytes of one row."""
_BLOCK = 4 * 2**20  # bytes that are scanned together
_LINE_FEED = ord("\n")
_RETURN = ord("\r")
_QUOTE = ord('"')
_OPEN = "the quotation mark that opens here is never closed"
_READING: dict[str, Any] = {
    "header": 0,
    "index_col": False,
    "keep_default_na": False,
    # Rows could not be counted if pandas left some out.
    "skip_blank_lines": False,
    "skipinitialspace": True,
    "encoding": "utf-8",
    # Otherwise a column could have several types within one piece.
    "low_memory": False,
}
# pandas rounds every number correctly from 3.1 on, and before that only on request.
if tuple(map(int, pd.__version__.split(".")[:2])) < (3, 1):
    _READING["float_precision"] = "round_trip"


def open_text(path: Path, source: str, suffix: str) -> Source:
    """Open a text with separators, and read it once to check it. Raises `UsageError`."""
    with _stream(path, source) as stream:
        start = stream.read(MAX_RECORD)
    if not start:
        raise UsageError(f"{source}: the file is empty (0 bytes)")
    if start.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        raise UsageError(f"{source}: row 1: the file begins like one in UTF-16; save it as text in UTF-8")

    head = start.decode("utf-8-sig", errors="replace")
    separator = "\t"
    if not suffix.startswith(".tsv"):
        separator = _separator(head)
    with _stream(path, source) as stream:
        survey = survey_text(stream, ord(separator), source)

    names = tuple(name.strip() for name in _first_rows(head, separator)[0])
    _check_header(source, names)
    rows = survey.records - 1 - len(survey.blank)
    if len(names) > formats.MAX_COLUMNS:
        raise UsageError(f"{source}: row 1: there are {len(names):,} columns; {formats.MAX_COLUMNS:,} are the most")
    if not rows:
        raise UsageError(f"{source}: there is only a header; at least one row must follow it")

    decimals = (".",)
    if separator == ";":
        decimals = (",", ".")
    notes = ()
    if separator in SEPARATORS:
        notes = (f"columns are separated by {SEPARATORS[separator]}",)
    return Source(
        source=source,
        names=names,
        rows=rows,
        line=survey.line,
        frames=functools.partial(_text_frames, _Text(path, source, separator, survey)),
        decimals=decimals,
        notes=notes,
        indexed=not names[0] and len(names) > 1,
    )


def _check_header(source: str, names: Sequence[str]) -> None:
    """Raise `UsageError` if the first row has no names of columns, but values: it would be lost."""
    texts = [name for name in names if name not in MISSING_VALUES]
    if texts and all(NUMBER.fullmatch(text) or forms(text) for text in texts):
        listed = ", ".join(shown(text, 20) for text in texts[:3])
        example = ",".join(["date", *(f"value{number}" for number in range(1, min(len(names), 3)))])
        raise UsageError(
            f"{source}: row 1: {listed} look like values, not like the names of columns; add a header, such as {example}"
        )


@contextmanager
def _stream(path: Path, source: str) -> Iterator[io.BufferedReader]:
    """Open a file, compressed or not, and translate its errors."""
    try:
        with _opened(path) as stream:
            yield stream
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UsageError(f"{source}: the gzip file is damaged: {error}; compress it again") from error
    except OSError as error:
        raise UsageError(f"{source}: {error.strerror or error}") from error


def _opened(path: Path) -> io.BufferedReader:
    if path.name.lower().endswith(".gz"):
        return io.BufferedReader(cast(io.RawIOBase, gzip.GzipFile(path)))
    return path.open("rb")


def _first_rows(head: str, separator: str) -> tuple[list[str], list[str]]:
    rows = csv.reader(io.StringIO(head, newline=""), delimiter=separator, skipinitialspace=True)
    return next(rows, []), next(rows, [])


def _separator(head: str) -> str:
    """Return the separator by which the first two rows have the same number of fields; of several, the most fields."""
    fields = {}
    for separator in (*SEPARATORS, ","):
        header, row = _first_rows(head, separator)
        fields[separator] = (len(header) == len(row), len(header), len(row))
    best = max(fields, key=lambda separator: fields[separator])
    if fields[best][1] <= 1:
        return ","
    return best


class _Survey(NamedTuple):
    """Where the rows are. A record is a row, which may have line breaks within quotation marks; record 0 is the header.

    width     fields of every record
    blank     records that are blank lines, so no data
    breaks    the record of each line break within quotation marks
    together  records that are read together, without much more than 64 MiB of text
    """

    width: int
    records: int
    blank: Int[np.ndarray, " b"]
    breaks: Int[np.ndarray, " q"]
    together: int

    def line(self, row: int) -> int:
        """Return the line on which a row of data begins: `row` counts from 0, lines from 1."""
        blank_before = np.searchsorted(self.blank - 1 - np.arange(len(self.blank)), row, side="right")
        return _line(1 + row + int(blank_before), self.breaks)


class _Text(NamedTuple):
    """A text that has been checked, with its separator."""

    path: Path
    source: str
    separator: str
    survey: _Survey


def _line(record: int, breaks: Int[np.ndarray, " q"]) -> int:
    return record + 1 + int(np.searchsorted(breaks, record))


def survey_text(stream: io.BufferedReader, separator: int, source: str) -> _Survey:
    """Read a text once to check that it is UTF-8, with matching quotation marks and as many fields in every row.

    pandas fills or cuts a row of another length silently, and cannot say where a row is. Raises `UsageError`.
    """
    width = 0
    records = 0
    rest = b""
    blank = np.zeros(0, np.int64)
    breaks = np.zeros(0, np.int64)
    fewest_records = MAX_RECORD
    for data in _checked(stream, source):
        rest += data
        scan = _scan(rest, separator)
        if not records and np.any(scan.blank[:1]):
            raise UsageError(f"{source}: row 1 is blank; the names of the columns must stand there")
        if not width:
            width = int(scan.fields[:1].sum())
        breaks = np.append(breaks, records + scan.inner)
        problem = _problem(scan, width, rest)
        if problem is not None:
            record, reason = problem
            raise UsageError(f"{source}: row {_line(records + record, breaks)}: {reason}")

        blank = np.append(blank, records + np.flatnonzero(scan.blank))
        records += len(scan.ends)
        # The last block may be short, and says nothing about the length of records.
        if len(data) == _BLOCK:
            fewest_records = min(fewest_records, len(scan.ends))
        if records > formats.MAX_ROWS + 1:
            raise UsageError(f"{source}: there are more than {formats.MAX_ROWS:,} rows, which is the most that is read")
        if len(scan.ends):
            rest = rest[scan.ends[-1] + 1 :]

    if rest:
        raise UsageError(f"{source}: row {_line(records, breaks)}: {_OPEN}")
    if width == 1:
        # In a single column a blank line is a missing value, unless it is at the end.
        blank = blank[blank == records - np.arange(len(blank), 0, -1)]
    return _Survey(width, records, blank, breaks, together=16 * max(fewest_records, 1))


def _checked(stream: io.BufferedReader, source: str) -> Iterator[bytes]:
    """Yield the text in blocks, with a line end at the end and no byte order mark. Raises `UsageError` if not UTF-8."""
    decoder = getincrementaldecoder("utf-8")()
    size = 0
    lines = 1
    for data in _blocks(stream):
        position = data.find(0)
        problem = "NUL"
        try:
            decoder.decode(data)
        except UnicodeDecodeError as error:
            problem = f"0x{error.object[error.start]:02x}, which is not UTF-8"
            # Below 0 if the character began in the block before.
            position = error.start - len(error.object) + len(data)
        if problem != "NUL" or position >= 0:
            row = lines + data[: max(position, 0)].count(b"\n")
            place = f"{source}: row {row}: byte {size + position + 1:,} of the file"
            raise UsageError(f"{place} is {problem}; save the file as text in UTF-8")

        if size:
            yield data
        else:
            yield data.removeprefix(BOM_UTF8)
        size += len(data)
        lines += data.count(b"\n")
        if size > formats.MAX_BYTES:
            raise UsageError(
                f"{source}: the file unpacks to more than {size_of(formats.MAX_BYTES)}, the most that is read"
            )


def _blocks(stream: io.BufferedReader) -> Iterator[bytes]:
    last = b"\n"
    data = stream.read(_BLOCK)
    while data:
        last = data[-1:]
        yield data
        data = stream.read(_BLOCK)
    if last != b"\n":
        yield b"\n"


class _Scan(NamedTuple):
    """The whole records in a block of text.

    ends       position of each record's line end
    misquoted  whether a quotation mark stands where none may
    inner      the record of each line break within quotation marks
    """

    ends: Int[np.ndarray, " r"]
    fields: Int[np.ndarray, " r"]
    blank: Bool[np.ndarray, " r"]
    misquoted: Bool[np.ndarray, " r"]
    inner: Int[np.ndarray, " q"]


def _scan(block: bytes, separator: int) -> _Scan:
    """Find the records and fields of a block."""
    data = np.frombuffer(block, np.uint8)
    is_end = data == _LINE_FEED
    is_mark = data == separator
    if b"\r" in block:
        # A return ends a line unless a line feed follows; the last byte is decided with the next block.
        next_byte = np.append(data[1:], _LINE_FEED)
        is_end |= (data == _RETURN) & (next_byte != _LINE_FEED)

    is_quoted = np.zeros(0, bool)
    inner_breaks = np.zeros(0, np.int64)
    if b'"' in block:
        is_quoted = np.bitwise_xor.accumulate((data == _QUOTE).view(np.uint8)).view(bool)
        inner_breaks = np.flatnonzero(is_end & is_quoted)
        is_end &= ~is_quoted
        is_mark &= ~is_quoted

    places = np.flatnonzero(is_mark | is_end)
    last_fields = np.flatnonzero(is_end[places])
    ends = places[last_fields]
    fields = np.diff(last_fields, prepend=-1)
    size = 0
    if len(ends):
        size = int(ends[-1]) + 1

    misplaced = np.zeros(0, np.int64)
    if len(is_quoted):
        misplaced = _misquoted(data[:size], is_quoted[:size], separator)
    is_blank = fields == 1
    if np.any(is_blank):
        is_blank &= ~np.logical_or.reduceat(data[:size] > ord(" "), np.append(0, ends[:-1] + 1))
    return _Scan(
        ends=ends,
        fields=fields,
        blank=is_blank,
        misquoted=np.bincount(np.searchsorted(ends, misplaced), minlength=len(ends)) > 0,
        inner=np.searchsorted(ends, inner_breaks[inner_breaks < size]),
    )


def _misquoted(data: UInt8[np.ndarray, " n"], quoted: Bool[np.ndarray, " n"], separator: int) -> Int[np.ndarray, " m"]:
    """Return the places of quotation marks that neither open or close a whole field nor are doubled within one."""
    places = np.flatnonzero(data == _QUOTE)
    before = np.where(places == 0, _LINE_FEED, data[places - 1])
    if np.any(before == ord(" ")):
        # Spaces before a field do not count.
        last_other = np.maximum.accumulate(np.where(data == ord(" "), -1, np.arange(len(data))))[places - 1]
        before = np.where((places == 0) | (last_other < 0), _LINE_FEED, data[last_other])
    neighbour = np.where(quoted[places], before, data[(places + 1) % len(data)])
    return places[~np.isin(neighbour, [separator, _LINE_FEED, _RETURN, _QUOTE])]


def _problem(scan: _Scan, width: int, block: bytes) -> tuple[int, str] | None:
    """Return the first faulty record, and its fault; None if there is none."""
    is_ragged = (scan.fields != width) & ~scan.blank
    lengths = np.diff(scan.ends, prepend=-1)
    faulty = np.flatnonzero(is_ragged | scan.misquoted | (lengths > MAX_RECORD))
    if not len(faulty):
        return _unfinished(scan, block)

    first = int(faulty[0])
    if scan.misquoted[first]:
        return first, "a quotation mark within a field; put the whole field into marks and double those in it"
    if is_ragged[first]:
        return first, f"{counted(int(scan.fields[first]), 'field')}, but the header has {width}"
    return first, f"{lengths[first]:,} bytes, a row may have at most {MAX_RECORD:,}"


def _unfinished(scan: _Scan, block: bytes) -> tuple[int, str] | None:
    """Return the fault of the record that a block ends in, if it is already too long."""
    start = 0
    if len(scan.ends):
        start = int(scan.ends[-1]) + 1
    rest = block[start:]
    if len(rest) <= MAX_RECORD:
        return None
    if rest.count(b'"') % 2:
        return len(scan.ends), _OPEN
    return len(scan.ends), f"more than {MAX_RECORD:,} bytes, the most that a row may have"


def _text_frames(
    text: _Text, texts: Sequence[int], numbers: Sequence[int], decimal: str
) -> Generator[pd.DataFrame, None, None]:
    """Yield the columns in pieces, without blank lines."""
    survey = text.survey
    options: dict[str, Any] = {
        "sep": text.separator,
        "decimal": decimal,
        "names": list(range(survey.width)),
        "usecols": sorted({*texts, *numbers}),
        "dtype": dict.fromkeys(texts, object),
        "na_values": dict.fromkeys(numbers, MISSING_VALUES),
        "chunksize": min(formats.chunk_of(survey.width), survey.together),
    }
    record = 1
    with _stream(text.path, text.source) as stream:
        try:
            with pd.read_csv(stream, **_READING, **options) as frames:
                for frame in frames:
                    data = frame[~np.isin(record + np.arange(len(frame)), survey.blank)]
                    record += len(frame)
                    if len(data):
                        yield data
        except (ValueError, OverflowError) as error:
            raise UsageError(f"{text.source}: pandas cannot read it: {first_line(error)}") from error
