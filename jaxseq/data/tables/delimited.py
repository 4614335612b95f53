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

SEPARATORS = MappingProxyType({"\t": "tabs", ";": "semicolons", "|": "vertical bars"})
"""Separators of columns beside the comma, with their names."""
NUMBER = re.compile(r"[+-]?\d*[.,]?\d+(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
"""A number with either decimal mark."""
MAX_RECORD = 100_000
"""Bytes of one row."""
_BLOCK = 4 * 2**20  # bytes looked at together
_LINE_FEED, _RETURN, _QUOTE = b'\n\r"'
_OPEN = "the quotation mark that opens here is never closed"
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


def open_text(path: Path, source: str, suffix: str) -> Source:
    """A text with separators, read once to see that it is sound. Raises `UsageError`."""
    with _stream(path, source) as stream:
        start = stream.read(MAX_RECORD)
    if not start:
        raise UsageError(f"{source}: the file is empty (0 bytes)")
    if start.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        raise UsageError(f"{source}: row 1: the file begins like one in UTF-16; save it as text in UTF-8")
    head = start.decode("utf-8-sig", errors="replace")
    separator = "\t" if suffix.startswith(".tsv") else _separator(head)
    with _stream(path, source) as stream:
        survey = survey_text(stream, ord(separator), source)
    names = tuple(name.strip() for name in _first_rows(head, separator)[0])
    _check_header(source, names)
    rows = survey.records - 1 - len(survey.blank)
    if len(names) > formats.MAX_COLUMNS:
        raise UsageError(f"{source}: row 1: there are {len(names):,} columns; {formats.MAX_COLUMNS:,} are the most")
    if not rows:
        raise UsageError(f"{source}: there is only a header; at least one row must follow it")
    frames = functools.partial(_text_frames, path, source, separator, survey)
    decimals = (".",)
    if separator == ";":
        decimals = (",", ".")
    notes = ()
    if separator in SEPARATORS:
        notes = (f"columns are separated by {SEPARATORS[separator]}",)
    return Source(source, names, rows, survey.line, frames, decimals, notes)


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
    fields = {separator: tuple(map(len, _first_rows(head, separator))) for separator in ";\t|,"}
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
    together: int
    """Records that are read together without much more than 64 MiB of text."""

    def line(self, row: int) -> int:
        """The line on which a row of data begins: `row` counts from 0, lines from 1."""
        skipped = np.searchsorted(self.blank - 1 - np.arange(len(self.blank)), row, side="right")
        return _line(1 + row + int(skipped), self.breaks)


def _line(record: int, breaks: Int[np.ndarray, " q"]) -> int:
    return record + 1 + int(np.searchsorted(breaks, record))


def survey_text(stream: io.BufferedReader, separator: int, source: str) -> _Survey:
    """Reads a text once to see that it is one: UTF-8, quotation marks that match, equally many fields in every row.

    pandas fills or cuts a row of another length without a word, and cannot say where a row stands. Raises `UsageError`.
    """
    width, records, rest = 0, 0, b""
    blank, breaks = np.zeros(0, np.int64), np.zeros(0, np.int64)
    fewest = MAX_RECORD
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
        fewest = min(fewest, len(scan.ends)) if len(data) == _BLOCK else fewest
        if records > formats.MAX_ROWS + 1:
            raise UsageError(f"{source}: there are more than {formats.MAX_ROWS:,} rows, which is the most that is read")
        rest = rest[scan.ends[-1] + 1 :] if len(scan.ends) else rest
    if rest:
        raise UsageError(f"{source}: row {_line(records, breaks)}: {_OPEN}")
    if width == 1:  # then a blank line is a missing value, unless it stands at the end
        blank = blank[blank == records - np.arange(len(blank), 0, -1)]
    return _Survey(width, records, blank, breaks, 16 * max(fewest, 1))


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
        if size > formats.MAX_BYTES:
            raise UsageError(
                f"{source}: the file unpacks to more than {size_of(formats.MAX_BYTES)}, the most that is read"
            )


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
        return first, f"{counted(int(scan.fields[first]), 'field')}, but the header has {width}"
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
            with pd.read_csv(
                stream, chunksize=min(formats.chunk_of(survey.width), survey.together), **_READING, **options
            ) as frames:
                for frame in frames:
                    data = frame[~np.isin(record + np.arange(len(frame)), survey.blank)]
                    record += len(frame)
                    if len(data):
                        yield data
        except (ValueError, OverflowError) as error:
            raise UsageError(f"{source}: pandas cannot read it: {first_line(error)}") from error
