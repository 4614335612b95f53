"""The rows of a table, series after series, and how messages name their cells."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from jaxseq.common.errors import UsageError
from jaxseq.common.text import shown
from jaxseq.data.categories import Texts
from jaxseq.data.tables.formats import Source
from jaxseq.data.windows import called

ROWS = "rows"
"""As `time`: no column, the rows are counted."""
ALL = "*"
"""As `column`: a series in each column that is neither the dates nor a covariate."""


class Pick(NamedTuple):
    """Columns by number.

    values  the one to forecast, or those of all series, then the covariates
    time    None if the rows are counted
    series  those that name a series together; empty for a single series
    notes   how columns were inferred, one line each
    wide    number of columns with a series each, the first of `values`; 0 where one column has the values
    ahead   whether rows beyond the last value of a series are its own, as covariates are known in them
    texts   those of the covariates that have texts
    """

    values: tuple[int, ...]
    time: int | None
    series: tuple[int, ...]
    notes: tuple[str, ...]
    wide: int = 0
    ahead: bool = False
    texts: tuple[int, ...] = ()


class Rows(NamedTuple):
    """All rows, series after series, each in the order of the file.

    series   number of the series of each row; `names` has one name for each number
    values   the value, then the covariates; NaN where one is missing, until it is filled
    order    number of the row in the file, from 0; a time stamp that is absent from the file has that of the row after it
    missing  which of the values are filled in
    notes    how times were read, one line each
    keys     of each series, the text of each column that names it
    texts    of the covariates that have some: their values are places in these
    """

    file: Source
    pick: Pick
    names: tuple[str, ...]
    series: Int[np.ndarray, " n"]
    times: Shaped[np.ndarray, " n"]
    values: Float[np.ndarray, "n c"]
    order: Int[np.ndarray, " n"]
    missing: Bool[np.ndarray, "n c"]
    notes: tuple[str, ...]
    keys: tuple[tuple[str, ...], ...] = ()
    texts: tuple[Texts, ...] = ()

    @property
    def starts(self) -> Bool[np.ndarray, " n"]:
        """Whether a row is the first of its series."""
        return np.diff(self.series, prepend=-1) != 0

    def where(self, column: int, row: int) -> str:
        """Name a cell of these rows, counted from 0, for messages."""
        return self.file.where(column, int(self.order[row]))

    def column(self, row: int, value: int) -> int:
        """Return the column of the file that a row's value (0) or covariate (from 1 on) is from."""
        wide = self.pick.wide
        if wide and value == 0:
            return self.pick.values[int(self.series[row])]
        # The covariates come after the columns of all series.
        return self.pick.values[value + max(wide - 1, 0)]

    def where_value(self, row: int, value: int) -> str:
        """Name the cell of a row's value (0) or covariate (from 1 on), for messages."""
        return self.where(self.column(row, value), row)

    def written(self, row: int, value: int) -> float | str:
        """Return a row's value (0) or covariate (from 1 on) as the file has it, for messages."""
        number = float(self.values[row, value])
        name = self.file.names[self.column(row, value)]
        for column in self.texts:
            if column.name != name or np.isnan(number):
                continue
            return column.texts[int(number)]
        return number

    def take(self, rows: Int[np.ndarray, " m"]) -> Rows:
        """Return some of the rows, in the given order."""
        return self._replace(
            series=self.series[rows],
            times=self.times[rows],
            values=self.values[rows],
            order=self.order[rows],
            missing=self.missing[rows],
        )


def long_form(rows: Rows) -> tuple[Rows, tuple[str, ...]]:
    """Return the rows of a file with a series in each column as series after series, and notes.

    Each series begins with its first value and ends with its last one: empty cells before and after are no missing values.
    Covariates are those of every series. Raises `UsageError` for a column without a value.
    """
    wide = rows.pick.wide
    columns = rows.values[:, :wide].T
    has_value = ~np.isnan(columns)
    is_empty = ~has_value.any(axis=1)
    if np.any(is_empty):
        name = rows.names[int(np.argmax(is_empty))]
        raise UsageError(
            f"{rows.file.source}: column {shown(name)} has no value in any row, as {np.count_nonzero(is_empty)} of {wide} "
            "columns of series; leave it out, and name the others with --data.column"
        )

    last = columns.shape[1] - 1
    first_value = np.argmax(has_value, axis=1)
    last_value = last - np.argmax(has_value[:, ::-1], axis=1)
    # Beyond the last value they have what is known ahead.
    if rows.pick.ahead:
        last_value = np.full(wide, last)
    numbers = np.arange(last + 1)
    is_own = (numbers >= first_value[:, None]) & (numbers <= last_value[:, None])
    series, row = np.nonzero(is_own)
    values = np.concatenate([columns[is_own][:, None], rows.values[row, wide:]], axis=1)

    notes = ()
    partial = np.count_nonzero((first_value > 0) | (last_value < last))
    if partial:
        notes = (
            f"{partial:,} of {wide:,} series begin after the first row or end before the last one: their empty cells there "
            "are no missing values",
        )
    own_rows = rows._replace(
        series=series.astype(np.int32),
        times=rows.times[row],
        values=values,
        order=rows.order[row],
        missing=np.zeros(values.shape, bool),
    )
    return own_rows, notes


class Parted(NamedTuple):
    """Rows of each series up to its last value, and those beyond it."""

    until_end: Rows
    beyond: Rows


def part_at_end(rows: Rows) -> Parted:
    """Part the rows at the last value of each series. Raises `UsageError` for a series without a value."""
    # An infinite value is a mistake within the series, not its end.
    has_value = ~np.isnan(rows.values[:, 0])
    numbers = np.arange(len(has_value))
    last_value = np.full(int(rows.series.max()) + 1, -1)
    np.maximum.at(last_value, rows.series[has_value], numbers[has_value])
    is_empty = last_value[rows.series] < 0
    if np.any(is_empty):
        row, _ = first_bad(rows, is_empty[:, None])
        raise UsageError("no row of the series has a value", where=place(rows, row, 0))
    is_beyond = numbers > last_value[rows.series]
    return Parted(rows.take(np.flatnonzero(~is_beyond)), rows.take(np.flatnonzero(is_beyond)))


def place(rows: Rows, row: int, value: int) -> str:
    """Name the cell of a row's value (0) or covariate (from 1 on) with its series, if that has a name."""
    return in_series(rows, row, rows.where_value(row, value))


def in_series(rows: Rows, row: int, cell: str) -> str:
    """Add the series of a row to the name of one of its cells, if the series has a name."""
    if not rows.names:
        return cell
    return f"{cell}, {called(rows.names[int(rows.series[row])])}"


def first_place(rows: Rows, row: int, column: int) -> str:
    """Name the first of several cells, for notes."""
    name = rows.file.names[rows.column(row, column)]
    return f"the first in row {rows.file.line(int(rows.order[row]))}, column {shown(name)}"


def first_bad(rows: Rows, bad: Bool[np.ndarray, "n c"]) -> tuple[int, int]:
    """Return the row and the column of the first bad value in the order of the file."""
    bad_rows = np.flatnonzero(bad.any(axis=1))
    row = int(bad_rows[np.argmin(rows.order[bad_rows])])
    return row, int(np.argmax(bad[row]))
