"""Rules for the values of a table's rows, beyond what each column's reader checks."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from jaxseq.common.errors import UsageError
from jaxseq.data.frequency import Frequency, continue_, irregular
from jaxseq.data.tables.rows import Rows, first_bad, in_series, place
from jaxseq.data.transforms import Transform
from jaxseq.data.windows import Series

MAX_VALUE = 1e100
"""Magnitude of a value: its square, and sums of such squares, stay finite in float64."""


def check_known(rows: Rows, columns: slice) -> None:
    """Raise `UsageError` for the first cell without a number in some columns of rows beyond the end of their series."""
    is_unknown = np.zeros(rows.values.shape, bool)
    is_unknown[:, columns] = ~np.isfinite(rows.values[:, columns])
    if np.any(is_unknown):
        row, column = first_bad(rows, is_unknown)
        raise UsageError(
            "beyond the last value of its series, a row needs each covariate that is known ahead",
            where=place(rows, row, column),
            got=float(rows.values[row, column]),
        )


def check_static(rows: Rows, columns: slice) -> None:
    """Raise `UsageError`, with both rows and values, for a series in which one of some columns changes."""
    # Of each row, the first one of its series.
    first_rows = np.flatnonzero(rows.starts)[np.cumsum(rows.starts) - 1]
    differs = np.zeros(rows.values.shape, bool)
    differs[:, columns] = rows.values[:, columns] != rows.values[first_rows][:, columns]
    if np.any(differs):
        row, column = first_bad(rows, differs)
        first = int(first_rows[row])
        first_value = rows.written(first, column)
        if not isinstance(first_value, str):
            first_value = f"{first_value:g}"
        raise UsageError(
            "a static covariate has one value in each series",
            where=place(rows, row, column),
            got=rows.written(row, column),
            needed=f"{first_value}, as in row {rows.file.line(int(rows.order[first]))}",
        )


def check_goes_on(rows: Rows, of_series: Int[np.ndarray, " m"], series: Series, frequency: Frequency) -> None:
    """Raise `UsageError` for the first of some rows whose time is not the next one after the end of their series."""
    # Counted rows follow by themselves.
    if rows.pick.time is None:
        return
    times = rows.times[of_series]
    differs = times != continue_(series.times[-1], frequency, len(times))
    if np.any(differs):
        step = int(np.argmax(differs))
        row = int(of_series[step])
        cell = in_series(rows, row, rows.where(rows.pick.time, row))
        before = np.concatenate([series.times[-1:], times[:step]])
        raise UsageError(irregular(before, times[step], frequency, cell, "the rows before"))


def check_magnitude(rows: Rows) -> None:
    """Raise `UsageError` for the first value beyond `MAX_VALUE`."""
    is_too_large = (np.abs(rows.values) > MAX_VALUE) & np.isfinite(rows.values)
    if np.any(is_too_large):
        # The first in the file, not in the order of the series, as the user sees the file.
        row, column = first_bad(rows, is_too_large)
        raise UsageError(
            f"{rows.where_value(row, column)}: {rows.values[row, column]:g} is beyond {MAX_VALUE:g} "
            "in magnitude, so its square may be infinite; correct it or take another unit"
        )


def check_readable(rows: Rows, transform: Transform) -> None:
    """Raise `UsageError` for the first value in the file that a target refuses, such as one below 0 among counts."""
    refused = transform.refused(rows.values[:, :1])
    if np.any(refused):
        row, column = first_bad(rows, refused)
        raise UsageError(
            f"{transform.rule}; {transform.way_out}",
            where=rows.where_value(row, column),
            got=float(rows.values[row, column]),
        )
