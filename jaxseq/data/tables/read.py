"""A user's own table, CSV or Parquet, as series in time that are complete, in order and of one frequency.

Nothing is guessed in silence: what was chosen, left out or filled in is in `Table.notes`, and what cannot be read is one
line that names the row. Rows are counted as an editor counts lines, the header being row 1 and a field with line breaks
as many lines as it has; a Parquet file has no lines, so there the first record is row 1.
"""

from __future__ import annotations

import stat
from collections import Counter
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float

from jaxseq.common.checks import at_least, one_of
from jaxseq.common.errors import UsageError
from jaxseq.common.text import printable, shown, size_of
from jaxseq.data.frequency import Frequency
from jaxseq.data.tables import formats
from jaxseq.data.tables.columns import collect, pick_columns
from jaxseq.data.tables.delimited import open_text
from jaxseq.data.tables.formats import Source
from jaxseq.data.tables.parquet import open_parquet
from jaxseq.data.tables.rows import check_magnitude, complete, frequency_of
from jaxseq.data.windows import Series

LONGEST_GAP = 5
"""Values in a row that are interpolated unless the caller says otherwise."""
SUFFIXES = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz", ".parquet")
Missing = Literal["error", "drop", "interpolate"]


class Table(NamedTuple):
    """Series that can be trained on, and how they came about."""

    series: tuple[Series, ...]
    """Times (datetime64, or int64 where there are no dates) and float64 values of each, in order."""
    names: tuple[str, ...]
    """One for each series, by first appearance in the file; the column's, if there is only one."""
    covariates: tuple[Float[np.ndarray, "n c"], ...]
    """For each series as many rows as it has, and c columns; c may be 0."""
    frequency: Frequency
    """Of all the series; if they have no dates, that of integers."""
    notes: tuple[str, ...]
    """One line each: what was chosen, inferred, dropped, interpolated."""


class Options(NamedTuple):
    """Columns of a table by name, and how it is read.

    column       values; None if only one column has numbers
    time         dates or integers; None for the column with one of `TIME_NAMES`, else, and with "rows", the rows are
                 counted from 0 in each series
    series       name of the series that a row belongs to, in any order; None for a single series
    covariates   numbers known beside the values
    missing      stop at a missing value, drop its row, or interpolate
    period       time steps of a season; None infers them from the dates
    longest_gap  missing values in a row that may be interpolated
    """

    column: str | None = None
    time: str | None = None
    series: str | None = None
    covariates: tuple[str, ...] = ()
    missing: str = "error"
    period: int | None = None
    longest_gap: int = LONGEST_GAP


DEFAULTS = Options()
"""Options of a table whose columns are found by themselves."""


def read(path: str | Path, options: Options = DEFAULTS) -> Table:
    """Read and check a table in UTF-8 with a header, or a Parquet file; see `SUFFIXES`.

    The separator is the comma, semicolon or tab of the header; with a semicolon a decimal comma is read too. Dates are
    ISO 8601, quarters as 2020Q1, or with the month in letters or the day and month in an order that the file shows to
    be the only one possible. A clock with an offset from UTC is kept as it is, if the offset never changes or all times
    are midnights, else it is turned to UTC. Numbers have a decimal point and no mark for thousands; true and false are
    1 and 0. Blank lines are skipped, but within a table of one column they are missing values.

    A value is missing if it is one of `MISSING_VALUES` or infinite. With `missing` "drop", rows with a missing value or
    covariate are left out, and their neighbours then follow each other. "interpolate" draws a straight line over at
    most `longest_gap` rows between two known values of one series. The frequency is that of the dates before rows are
    dropped.

    Raises `UsageError`, with the row and the column, for a table that cannot be read or used.
    """
    source = printable(str(path))
    one_of(get_args(Missing), where=source, missing=options.missing)
    at_least(1, where=source, longest_gap=options.longest_gap)
    if options.period is not None:
        at_least(1, where=source, period=options.period)

    file = _open(Path(path), source)
    pick = pick_columns(file, options.column, options.time, options.series, options.covariates)
    rows = collect(file, pick)
    check_magnitude(rows)
    frequency, notes = frequency_of(rows, options.period)
    rows, filled = complete(rows, options.missing, options.longest_gap)
    names = rows.names or (file.names[pick.values[0]],)
    first = np.flatnonzero(rows.starts)
    lengths, bounds = np.diff(first, append=len(rows.times)), first[1:]
    each = f"{lengths.min():,}" if lengths.min() == lengths.max() else f"{lengths.min():,} to {lengths.max():,}"
    many = (
        () if pick.series is None else (f"{len(names):,} series by {shown(file.names[pick.series])}, of {each} rows",)
    )
    values = np.split(np.ascontiguousarray(rows.values[:, 0]), bounds)
    return Table(
        series=tuple(map(Series, np.split(rows.times, bounds), values)),
        names=names,
        covariates=tuple(np.split(rows.values[:, 1:], bounds)),
        frequency=frequency,
        notes=(*file.notes, *pick.notes, *rows.notes, *many, *notes, *filled),
    )


def _open(path: Path, source: str) -> Source:
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
        raise UsageError(
            f"{source}: the suffix {shown(path.suffix)} is unknown; it must be one of {', '.join(SUFFIXES)}"
        )
    if not found.st_size:
        raise UsageError(f"{source}: the file is empty (0 bytes)")
    if found.st_size > formats.MAX_BYTES:
        raise UsageError(
            f"{source}: the file has {size_of(found.st_size)}, at most {size_of(formats.MAX_BYTES)} are read; split it"
        )
    file = open_parquet(path, source) if suffix == ".parquet" else open_text(path, source, suffix)
    named = Counter(filter(None, file.names))  # a column without a name is allowed, it cannot be asked for
    if twice := next((name for name, count in named.items() if count > 1), None):
        raise UsageError(f"{source}: row 1: column {shown(twice)} is there {named[twice]} times; names must differ")
    return file
