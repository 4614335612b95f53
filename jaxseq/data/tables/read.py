"""Read a table, CSV, Parquet or a frame in memory, as series in time that are complete, in order and of one frequency.

No choice is silent: columns that were inferred and values that were left out or filled are in `Table.notes`, and a table
that cannot be used raises one line that names the row. Rows are counted as an editor counts lines: the header is row 1,
and a field with line breaks has several. A Parquet file has no lines; its first record is row 1. The rows of a frame are
counted from 0, as by `iloc`.
"""

from __future__ import annotations

import stat
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from jaxseq.common.checks import count, one_of
from jaxseq.common.errors import UsageError
from jaxseq.common.files import user_path
from jaxseq.common.text import printable, shown, size_of
from jaxseq.data import calendar
from jaxseq.data.categories import Texts
from jaxseq.data.covariates import NOTHING_KNOWN, Known, Plan
from jaxseq.data.frequency import Frequency
from jaxseq.data.keys import NO_KEYS, Keys
from jaxseq.data.tables import formats, frame
from jaxseq.data.tables.cells import NotANumber
from jaxseq.data.tables.checks import check_goes_on, check_known, check_magnitude, check_readable, check_static
from jaxseq.data.tables.collect import collect
from jaxseq.data.tables.columns import pick_columns, text_columns
from jaxseq.data.tables.delimited import open_text
from jaxseq.data.tables.formats import Source
from jaxseq.data.tables.frame import Frame
from jaxseq.data.tables.missing import complete
from jaxseq.data.tables.order import frequency_of
from jaxseq.data.tables.parquet import open_parquet
from jaxseq.data.tables.rows import Pick, Rows, long_form, part_at_end, place
from jaxseq.data.transforms import TRANSFORMS
from jaxseq.data.windows import Series, rows_by_series

LONGEST_GAP = 5
"""Default number of missing values in a row that may be filled."""
SUFFIXES = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz", ".parquet")
LARGEST_COUNT = 2.0**53
"""Largest number up to which float64 tells integers from fractions."""
MISSING = ("error", "drop", "fill")
"""Treatments of missing values."""


class Table(NamedTuple):
    """Series that can be trained on, and how they were read.

    series      times (datetime64, or int64 where there are no dates) and float64 values of each, in order
    names       one for each series, by first appearance in the file; the column's name if there is only one
    covariates  of each series, a row for each of its values; c may be 0
    frequency   of all series; that of integers where there are no dates
    missing     which values (column 0) and covariates are filled in; an empty tuple if none is
    floor       least possible value, given or inferred; None where there is no bound
    notes       choices, inferences, and values that were dropped or filled, one line each
    known       covariates that are known ahead
    keys        of the series, where several columns name them
    texts       of the covariates that have some
    """

    series: tuple[Series, ...]
    names: tuple[str, ...]
    covariates: tuple[Float[np.ndarray, "n c"], ...]
    frequency: Frequency
    missing: tuple[Bool[np.ndarray, "n m"], ...]
    floor: float | None
    notes: tuple[str, ...]
    known: Known = NOTHING_KNOWN
    keys: Keys = NO_KEYS
    texts: tuple[Texts, ...] = ()


class Options(NamedTuple):
    """Columns of a table by name, and how it is read.

    column       values; None if only one column has numbers; of a wide file, with a series in each column, their names as
                 "north,south", or `rows.ALL`
    time         dates or integers; None for the column with one of `TIME_NAMES`, or the only one with dates in it; where
                 there is none, and with "rows", the rows are counted from 0 in each series
    series       name of the series that a row belongs to, in any order; several columns as "store,item"; None for a
                 single series, or a wide file
    covariates   numbers known beside the values, of a wide file beside those of every series
    missing      one of `MISSING`: stop at a missing value, drop its row, or fill it with the last known value
    period       time steps of a season; None infers them from the dates
    longest_gap  missing values in a row that may be filled
    floor        least possible value; None infers 0 for non-negative integers
    target       name of the target that every value has to be readable for; empty checks none
    calendar     entries of `jaxseq.data.calendar`
    future       numbers that are known ahead, in rows beyond the last value of a series
    static       numbers that are the same in all rows of a series
    """

    column: str | None = None
    time: str | None = None
    series: str | None = None
    covariates: tuple[str, ...] = ()
    missing: str = "error"
    period: int | None = None
    longest_gap: int = LONGEST_GAP
    floor: float | None = None
    target: str = ""
    calendar: tuple[str, ...] = ()
    future: tuple[str, ...] = ()
    static: tuple[str, ...] = ()

    @property
    def ahead(self) -> slice:
        """Columns of the rows' values that are known ahead: those of `future`, then those of `static`."""
        return slice(1 + len(self.covariates), None)


DEFAULTS = Options()
"""Options of a table whose columns are all inferred."""


def read(path: str | Path, options: Options = DEFAULTS) -> Table:
    """Read and check a table in UTF-8 with a header, or a Parquet file, see `SUFFIXES`; or a `Frame` in place of a path.

    The separator is the comma, semicolon, vertical bar or tab of the header; with a semicolon a decimal comma is read
    too. Dates are ISO 8601, months as 202001, weeks as 2020-W05, quarters as 2020Q1, seconds or milliseconds since
    1970, or with the month in letters or the day and month in an order that the file shows to be the only one possible. A
    clock with an offset from UTC is kept if the offset never changes or all times are
    midnights, else it is turned to UTC. Numbers have a decimal point and no mark for thousands; true and false are 1
    and 0. Blank lines are skipped, but within a table of one column they are missing values.

    A value is missing if it is one of `MISSING_VALUES`. With `missing` "drop", rows with a missing or infinite value or
    covariate are left out, and their neighbours then follow each other. With "fill", a missing value becomes the last
    known one of its series, so that no value depends on a later one; time stamps that are absent between two others are
    added as missing values, rows before the first known value are left out, and an infinite value is refused. The
    frequency is that of the dates before rows are dropped.

    Raises `UsageError`, with the row and the column, for a table that cannot be read or used.
    """
    source = printable(frame.label(str(path)))
    rows, wide_notes = _rows_and_notes(path, options)
    file = rows.file
    pick = rows.pick
    calendar.check(options.calendar)
    # Before rows are dropped, which would make the dates irregular.
    frequency, frequency_notes = frequency_of(rows, options.period, may_have_holes=options.missing == "fill")
    calendar.check_rows(options.calendar, rows.times, frequency, source)
    beyond = rows.take(np.zeros(0, int))
    if options.future:
        rows, beyond = part_at_end(rows)
        check_known(beyond, options.ahead)
    completed, missing_notes = complete(rows, frequency, options.missing, options.longest_gap)
    # After filling, so that no missing value takes part.
    floor, floor_notes = _floor(source, completed, options.floor)

    known = _known(completed, beyond, frequency, options)
    names = completed.names or (file.names[pick.values[0]],)
    notes = (
        *file.notes,
        *pick.notes,
        *rows.notes,
        *_series_notes(completed, names),
        *wide_notes,
        *frequency_notes,
        *missing_notes,
        *floor_notes,
        *known.notes,
        *_text_notes(rows),
    )
    table = Table(
        series=(),
        names=names,
        covariates=(),
        frequency=frequency,
        missing=(),
        floor=floor,
        notes=notes,
        known=known,
        keys=_keys(rows),
        texts=rows.texts,
    )
    return _with_series(table, completed, options)


def _with_series(table: Table, rows: Rows, options: Options) -> Table:
    """Return a table with complete rows as its series, their covariates and what was missing of both."""
    # The first row of each series but the first is where the one before it ends.
    bounds = np.flatnonzero(rows.starts)[1:]
    times = np.split(rows.times, bounds)
    values = np.split(np.ascontiguousarray(rows.values[:, 0]), bounds)
    missing = ()
    if rows.missing.any():
        # What is known ahead has no mask: in the rows of the horizon it cannot be missing.
        missing = tuple(np.split(rows.missing[:, : options.ahead.start], bounds))
    return table._replace(
        series=tuple(map(Series, times, values)),
        covariates=tuple(np.split(rows.values[:, 1 : options.ahead.start], bounds)),
        missing=missing,
    )


def _text_notes(rows: Rows) -> tuple[str, ...]:
    """Say which covariates have texts, and how many."""
    # Most tables have numbers alone.
    if not rows.texts:
        return ()
    listed = ", ".join(f"{shown(column.name)} ({len(column.texts):,})" for column in rows.texts)
    return (f"covariates with texts, an input of the network for each text of the training rows: {listed}",)


def _keys(rows: Rows) -> Keys:
    """Return the keys of the series, if several columns name them."""
    columns = tuple(rows.file.names[column] for column in rows.pick.series)
    if len(columns) < 2:
        return NO_KEYS
    return Keys(columns, rows.keys)


def _known(rows: Rows, beyond: Rows, frequency: Frequency, options: Options) -> Known:
    """Return the covariates that are known ahead, of complete rows and of those `beyond` the end of their series.

    Raises `UsageError` for a static covariate that changes, and for rows that do not go on from the end of their series.
    """
    if not (options.calendar or options.future or options.static):
        return NOTHING_KNOWN
    static = slice(options.ahead.start + len(options.future), None)
    check_static(rows, static)
    of_dates = calendar.columns(options.calendar, rows.times, frequency)
    columns = np.concatenate([of_dates, rows.values[:, options.ahead]], axis=1)
    first_rows = np.flatnonzero(rows.starts)
    known = Known(options.calendar, options.future, options.static, tuple(np.split(columns, first_rows[1:])))
    if not options.future:
        return known

    last_rows = np.append(first_rows[1:], len(rows.times)) - 1
    known = known._replace(ends=tuple(place(rows, row, options.ahead.start) for row in last_rows.tolist()))
    plans = []
    for number, of_series in rows_by_series(beyond.series).items():
        last = int(last_rows[number])
        series = Series(rows.times[first_rows[number] : last + 1], rows.values[first_rows[number] : last + 1, 0])
        check_goes_on(beyond, of_series, series, frequency)
        future = beyond.values[of_series, options.ahead.start : static.start]
        plans.append(Plan(number, series, future, place(beyond, int(of_series[-1]), options.ahead.start)))
    return known.extended(frequency, plans)


def read_plan(path: str | Path, options: Options) -> Rows:
    """Read the future-known covariates of a table as they stand in it: they are its values, in the order of `options`.

    The table need not have any other column but those of the times and of the series' names. Raises `UsageError` for
    options without such covariates, and for a table that cannot be read.
    """
    if not options.future:
        raise UsageError(
            "the run has no covariates that are known ahead in rows of a table",
            where=printable(frame.label(str(path))),
            got="no --data.future",
            needed="--data.path FILE to forecast other rows",
        )
    column, *others = options.future
    bare = DEFAULTS._replace(column=column, time=options.time, series=options.series, covariates=tuple(others))
    return _rows_and_notes(path, bare, are_covariates=True)[0]


def read_rows(path: str | Path, options: Options = DEFAULTS) -> Rows:
    """Read the rows of a table as they stand in it, whatever their frequency; missing values are NaN.

    Raises `UsageError`, with the row and the column, for a table that cannot be read.
    """
    return _rows_and_notes(path, options)[0]


def _rows_and_notes(
    path: str | Path, options: Options, *, are_covariates: bool = False
) -> tuple[Rows, tuple[str, ...]]:
    """Return the rows of a table, series after series, and notes on those of a wide file.

    are_covariates  whether all of its values are covariates, which may be texts
    """
    source = printable(frame.label(str(path)))
    _check_options(source, options)

    opened = None
    if isinstance(path, Frame):
        file = frame.open_frame(path)
    else:
        opened = _Opened.of(user_path(path), source)
        file = _open(user_path(path), source)
    others = (*options.covariates, *options.future, *options.static)
    pick = pick_columns(file, options.column, options.time, options.series, others)
    if options.static and not pick.series:
        raise UsageError(
            "tells series apart, of which there is one a column or one alone",
            where=f"{source}: --data.static",
            got=",".join(options.static),
            needed="--data.series",
        )
    pick = pick._replace(ahead=bool(options.future))
    of_values = 0 if are_covariates else max(pick.wide, 1)
    try:
        rows = _collected(file, pick, of_values)
    finally:
        # It is read more than once: first its lines are counted. A change explains every other error.
        if opened is not None:
            opened.check_same(_Opened.of(user_path(path), source), source)
    wide_notes = ()
    if pick.wide:
        rows, wide_notes = long_form(rows)
    # Before anything is computed with the values, which would overflow.
    check_magnitude(rows)
    if options.target:
        check_readable(rows, TRANSFORMS[options.target])
    return rows, wide_notes


def _collected(file: Source, pick: Pick, of_values: int) -> Rows:
    """Read the columns that were picked; those after the first ones, `of_values` of them, may be texts."""
    try:
        return collect(file, pick)
    except NotANumber:
        # Looked for only now, as that takes a while, and most tables have numbers alone.
        texts = text_columns(file, pick.values[of_values:])
        if not texts:
            raise
        return collect(file, pick._replace(texts=texts))


def _check_options(source: str, options: Options) -> None:
    if options.missing == "interpolate":
        raise UsageError(
            "a straight line to the next value puts the future into the past, so that forecasts look better than they are",
            where="--data.missing",
            got=options.missing,
            needed="fill, which takes the last known value",
        )
    one_of(MISSING, where=source, missing=options.missing)
    count(where=source, longest_gap=options.longest_gap)
    if options.period is not None:
        count(where=source, period=options.period)


def _series_notes(rows: Rows, names: tuple[str, ...]) -> tuple[str, ...]:
    """Say how many series there are, and how long they are; no note for a single one without a name."""
    if not rows.names:
        return ()
    lengths = np.diff(np.flatnonzero(rows.starts), append=len(rows.times))
    length = f"{lengths.min():,} to {lengths.max():,}"
    if lengths.min() == lengths.max():
        length = f"{lengths.min():,}"
    if rows.pick.wide:
        return (f"{len(names):,} series, one in each column, of {length} rows",)
    keys = " and ".join(shown(rows.file.names[column]) for column in rows.pick.series)
    return (f"{len(names):,} series by {keys}, of {length} rows",)


def _floor(source: str, rows: Rows, floor: float | None) -> tuple[float | None, tuple[str, ...]]:
    """Return the least possible value, and a note if it is inferred: 0 if all values are non-negative integers."""
    values = rows.values[:, 0]
    least = float(values.min())
    if floor is not None:
        if not least >= floor:
            raise UsageError(
                "a value is below the floor", where=f"{source}: --data.floor", got=floor, needed=f"at most {least}"
            )
        return floor, ()
    # Larger floating-point numbers are integers whatever they measure.
    are_counts = np.all((values == np.floor(values)) & (values <= LARGEST_COUNT))
    if least < 0 or not are_counts:
        return None, ()
    return 0.0, ("all values are non-negative integers, so intervals end at 0 (--data.floor sets another bound)",)


class _Opened(NamedTuple):
    """Size of a file in bytes, and when it was last changed, in nanoseconds: whether it is the same at the next read."""

    size: int
    changed: int

    @staticmethod
    def of(path: Path, source: str) -> _Opened:
        """Ask for a file's size. Raises `UsageError` for one that is not there."""
        try:
            status = path.stat()
        except (OSError, ValueError) as error:
            raise UsageError(f"{source}: {getattr(error, 'strerror', None) or error}") from error
        return _Opened(status.st_size, status.st_mtime_ns)

    def check_same(self, later: _Opened, source: str) -> None:
        """Raise `UsageError` for a file that was changed since."""
        if self == later:
            return
        raise UsageError(
            "the file was changed while it was read: wait until it is written, and start again",
            where=source,
            got=f"{later.size:,} bytes of {np.datetime64(later.changed, 'ns')}",
            needed=f"{self.size:,} bytes of {np.datetime64(self.changed, 'ns')}, as when it was opened",
        )


def _open(path: Path, source: str) -> Source:
    """Open a file by its suffix. Raises `UsageError` for one that cannot be a table."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise UsageError(f"{source}: {getattr(error, 'strerror', None) or error}") from error
    if stat.S_ISDIR(status.st_mode):
        raise UsageError(f"{source}: is a directory; name a file")
    # A pipe may never end.
    if not stat.S_ISREG(status.st_mode):
        raise UsageError(f"{source}: is no regular file; name a file")

    # The longest first, so that ".csv.gz" is not taken for another ".gz".
    by_length = sorted(SUFFIXES, key=len, reverse=True)
    suffix = next((end for end in by_length if path.name.lower().endswith(end)), None)
    if suffix is None:
        raise UsageError(
            f"{source}: the suffix {shown(path.suffix)} is unknown; it must be one of {', '.join(SUFFIXES)}"
        )
    if not status.st_size:
        raise UsageError(f"{source}: the file is empty (0 bytes)")
    if status.st_size > formats.MAX_BYTES:
        raise UsageError(
            f"{source}: the file has {size_of(status.st_size)}, at most {size_of(formats.MAX_BYTES)} are read; split it"
        )

    if suffix == ".parquet":
        file = open_parquet(path, source)
    else:
        file = open_text(path, source, suffix)
    # A column without a name is allowed: no option can name it.
    counts = Counter(filter(None, file.names))
    for name, occurrences in counts.items():
        if occurrences > 1:
            raise UsageError(f"{source}: row 1: column {shown(name)} is there {occurrences} times; names must differ")
    return file
