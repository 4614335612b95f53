"""Rows that came after the end of a panel's series, placed at the steps of a forecast from that end."""

from __future__ import annotations

import dataclasses
import difflib
import itertools
from collections.abc import Collection
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from jaxseq.common.errors import UsageError
from jaxseq.common.text import counted, shown
from jaxseq.data.categories import merge
from jaxseq.data.covariates import Plan
from jaxseq.data.frequency import continue_, irregular, steps_between
from jaxseq.data.panel import Panel
from jaxseq.data.tables.checks import check_goes_on, check_known
from jaxseq.data.tables.order import check_order
from jaxseq.data.tables.rows import Rows
from jaxseq.data.windows import called

ROUNDING = 1e-6
"""Relative difference of a value from the same row of the run's data up to which it is the same, but for rounding."""
SIMILAR = 4.0
"""Deviations of the known values that the mean of later ones may have moved without a note."""


class Later(NamedTuple):
    """Values that came after the end of each series of a panel, by the steps of a forecast.

    actual  NaN where no row has come, or its value is missing
    times   of the rows that have come, and of others as the frequency goes on
    notes   rows that are missing, rows that are not judged, and values of another level, a sentence each
    """

    actual: Float[np.ndarray, "n k"]
    times: Shaped[np.ndarray, "n k"]
    notes: tuple[str, ...]


def follow(panel: Panel, rows: Rows, horizon: int, missing: str, left_out: Collection[str] = ()) -> Later:
    """Place the rows of a table that follow each series of a panel at the steps of a forecast from its end.

    Rows up to the end of a series must be those of the panel. Rows without times follow the end, unless the first ones
    of a series are all of the panel's.

    missing   "error", "drop" or "fill", as the panel was read: absent times are refused, skipped or unknown values
    left_out  further series that are known, and not judged

    Raises `UsageError`, which names file, row and series, for an unknown series, for rows that differ from the panel's,
    for times that do not go on from its end, and where no row has come at all.
    """
    _check_kind(panel, rows)
    if rows.pick.time is not None:
        check_order(rows, rows.pick.time)
    number_of = {name: number for number, name in enumerate(panel.names)}
    dtype = np.promote_types(rows.times.dtype, panel.series[0].times.dtype)
    actual = np.full((len(panel.names), horizon), np.nan)
    times = np.empty(actual.shape, dtype)
    for number, series in enumerate(panel.series):
        times[number] = continue_(series.times[-1], panel.frequency, horizon)

    judged_rows = np.zeros(len(panel.names), int)
    beyond = 0
    bounds = np.append(np.flatnonzero(rows.starts), len(rows.times))
    for place, (first, last) in enumerate(itertools.pairwise(bounds.tolist())):
        name = _name(panel, rows, place)
        if name in left_out:
            continue
        if name not in number_of:
            raise _unknown_series(panel, rows, first, name)
        number = number_of[name]
        new = _new_rows(panel, number, rows, np.arange(first, last), missing)
        steps = new.steps[new.steps < horizon]
        actual[number, steps] = new.values[: len(steps)]
        times[number, steps] = new.times[: len(steps)]
        judged_rows[number] = np.count_nonzero(np.isfinite(actual[number]))
        beyond += len(new.steps) - len(steps)

    if not np.any(judged_rows):
        raise UsageError(
            f"{rows.file.source}: no row is later than the end of the run's data",
            got=f"rows up to {rows.times.max()}",
            needed=f"rows from {times.min()} on",
        )
    return Later(actual, times, (*_count_notes(panel, judged_rows, horizon, beyond), *_level_notes(panel, actual)))


def with_plan(panel: Panel, rows: Rows, *, may_overlap: bool = False) -> Panel:
    """Return a panel with the future-known covariates that a table has of the rows after the end of each series.

    rows         as `read.read_plan` gives them; without names of series, they are those of every series
    may_overlap  whether rows up to the end of a series may stand in the table, too

    Raises `UsageError`, which names file, row, column and series, for such rows where there may be none, for others that do
    not go on from the end, for cells without a number, and for an unknown series.
    """
    _check_kind(panel, rows)
    check_known(rows, slice(None))
    panel, rows = _with_texts(panel, rows)
    if rows.pick.time is not None:
        check_order(rows, rows.pick.time)
    numbers = {name: [number] for number, name in enumerate(panel.names)}
    plans = []
    bounds = np.append(np.flatnonzero(rows.starts), len(rows.times))
    for place_of_series, (first, last) in enumerate(itertools.pairwise(bounds.tolist())):
        chosen = list(range(len(panel.names)))
        if rows.names:
            name = rows.names[place_of_series]
            if name not in numbers:
                raise _unknown_series(panel, rows, first, name)
            chosen = numbers[name]
        # A series without a row keeps what it has; a forecast of it will miss the rest.
        for number in chosen:
            plan = _plan(panel, number, rows, np.arange(first, last), may_overlap=may_overlap)
            if len(plan.future):
                plans.append(plan)
    return dataclasses.replace(panel, known=panel.known.extended(panel.frequency, plans))


def _with_texts(panel: Panel, rows: Rows) -> tuple[Panel, Rows]:
    """Return a panel and the rows of its plan with one numbering of the texts of their covariates.

    Raises `UsageError` for a column that has texts in only one of them.
    """
    names = [rows.file.names[column] for column in rows.pick.values]
    of_panel = {column.name for column in panel.texts}
    of_rows = {column.name for column in rows.texts}
    for place, name in enumerate(names):
        if (name in of_panel) != (name in of_rows):
            kinds = ("numbers", "texts")
            raise UsageError(
                "a covariate is of another kind than in the run's data",
                where=rows.where_value(0, place),
                got=kinds[name in of_rows],
                needed=kinds[name in of_panel],
            )
    texts, places = merge(panel.texts, rows.texts)
    values = rows.values.copy()
    for name, new_places in places.items():
        column = names.index(name)
        # `check_known` has seen that none is missing.
        own_places = values[:, column].astype(np.int64)
        values[:, column] = new_places[own_places]
    return dataclasses.replace(panel, texts=texts), rows._replace(values=values, texts=texts)


def _plan(panel: Panel, number: int, rows: Rows, of_series: Int[np.ndarray, " m"], *, may_overlap: bool) -> Plan:
    """Return the future-known covariates of the rows of one series after its end. Raises `UsageError` as `with_plan`."""
    series = panel.series[number]
    times = rows.times[of_series]
    # Plans without times follow the end, as nothing else says where they belong.
    if rows.pick.time is None:
        step = int(panel.frequency.name)
        times = series.times[-1] + step * np.arange(1, len(of_series) + 1)
    is_past = times <= series.times[-1]
    if np.any(is_past) and not may_overlap:
        row = int(of_series[np.argmax(is_past)])
        raise UsageError(
            "a row of the time that the run's data have already",
            where=_where(rows, row, panel.names[number], time=True),
            got=times[np.argmax(is_past)],
            needed=f"rows later than {series.times[-1]}",
        )
    new = of_series[~is_past]
    if len(new):
        check_goes_on(rows, new, series, panel.frequency)
    end = _where(rows, int(of_series[-1]), panel.names[number])
    return Plan(number, series, rows.values[new], end)


def _name(panel: Panel, rows: Rows, place: int) -> str:
    """Return the name of a series of a table; that of a single one is its column's, unless the panel has one alone, too."""
    if rows.names:
        return rows.names[place]
    if len(panel.names) == 1:
        return panel.names[0]
    return rows.file.names[rows.pick.values[0]]


class _NewRows(NamedTuple):
    """Rows of one series after its end: the steps of the horizon that they are for, from 0, their times and values."""

    steps: Int[np.ndarray, " m"]
    times: Shaped[np.ndarray, " m"]
    values: Float[np.ndarray, " m"]


def _check_kind(panel: Panel, rows: Rows) -> None:
    """Raise `UsageError` where only the panel or only the table has dates."""
    kinds = {"M": "dates", "i": "numbers"}
    of_panel = kinds[panel.series[0].times.dtype.kind]
    of_rows = kinds[rows.times.dtype.kind]
    if of_panel != of_rows:
        raise UsageError(
            "its rows cannot be placed after those of the run", where=rows.file.source, got=of_rows, needed=of_panel
        )


def _unknown_series(panel: Panel, rows: Rows, row: int, name: str) -> UsageError:
    similar = difflib.get_close_matches(name, panel.names[:1000], 1)
    needed = f"one of the {len(panel.names):,} series of the run"
    if similar:
        needed = f"{needed}, such as {shown(similar[0])}"
    where = rows.file.source
    if rows.pick.series:
        where = rows.where(rows.pick.series[0], row)
    return UsageError("the run has no series of this name", where=where, got=name, needed=needed)


def _new_rows(panel: Panel, number: int, rows: Rows, of_series: Int[np.ndarray, " m"], missing: str) -> _NewRows:
    """Return the rows of one series after its end. Raises `UsageError` as `follow` does."""
    series = panel.series[number]
    times = rows.times[of_series]
    if rows.pick.time is None:
        times = _counted_on(panel, number, rows.values[of_series, 0])
    is_past = times <= series.times[-1]
    _check_past(panel, number, rows, of_series[is_past], times[is_past])

    new = of_series[~is_past]
    new_times = times[~is_past]
    values = rows.values[new, 0]
    _check_values(rows, new, values, missing, panel.names[number])
    steps = _steps(panel, number, rows, new=new, times=new_times, missing=missing)
    if missing == "drop":
        # Their neighbours follow each other, as in the training.
        is_known = np.isfinite(values)
        return _NewRows(np.arange(np.count_nonzero(is_known)), new_times[is_known], values[is_known])
    return _NewRows(steps, new_times, values)


def _counted_on(panel: Panel, number: int, values: Float[np.ndarray, " m"]) -> Int[np.ndarray, " m"]:
    """Return the numbers of rows without times: from the start of the series if it is there again, or after its end."""
    known = panel.known_values(number)
    times = panel.series[number].times
    head = values[: len(known)]
    begins_again = len(head) == len(known) and np.allclose(head, known, rtol=ROUNDING, atol=0, equal_nan=True)
    step = int(panel.frequency.name)
    if begins_again:
        return times[0] + step * np.arange(len(values))
    return times[-1] + step * np.arange(1, len(values) + 1)


def _check_past(
    panel: Panel, number: int, rows: Rows, past: Int[np.ndarray, " m"], times: Shaped[np.ndarray, " m"]
) -> None:
    """Raise `UsageError` for a row up to the end of a series that differs from the panel's row of that time."""
    series = panel.series[number]
    places = np.searchsorted(series.times, times)
    # A row of the panel that was dropped, or is before its first known value, is not there to compare with.
    is_there = series.times[np.minimum(places, len(series.times) - 1)] == times
    known = panel.known_values(number)[places[is_there]]
    values = rows.values[past[is_there], 0]
    is_comparable = np.isfinite(known) & np.isfinite(values)
    differs = is_comparable & ~np.isclose(values, known, rtol=ROUNDING, atol=0)
    if np.any(differs):
        place = int(np.argmax(differs))
        raise UsageError(
            "a row up to the end of the run's data has another value there, so one of both was changed or is in another "
            "unit",
            where=_where(rows, int(past[is_there][place]), panel.names[number]),
            got=float(values[place]),
            needed=f"{known[place]}",
        )


def _check_values(
    rows: Rows, new: Int[np.ndarray, " m"], values: Float[np.ndarray, " m"], missing: str, name: str
) -> None:
    """Raise `UsageError` for a value that is infinite, or missing where none may be."""
    is_refused = np.isinf(values)
    if missing == "error":
        is_refused = ~np.isfinite(values)
    if missing == "drop":
        is_refused = np.zeros(len(values), bool)
    if np.any(is_refused):
        row = int(new[np.argmax(is_refused)])
        raise UsageError(
            "no finite number; correct it, or set --data.missing drop or fill",
            where=_where(rows, row, name),
            got=float(rows.values[row, 0]),
        )


def _steps(
    panel: Panel,
    number: int,
    rows: Rows,
    *,
    new: Int[np.ndarray, " m"],
    times: Shaped[np.ndarray, " m"],
    missing: str,
) -> Int[np.ndarray, " m"]:
    """Return the steps after the end of a series, from 0, of times that go on from it.

    Raises `UsageError` for the first time that is out of step.
    """
    end = panel.series[number].times[-1:]
    gaps = steps_between(np.concatenate([end, times]), panel.frequency)[1:]
    is_regular = gaps == 1
    if missing != "error":
        is_regular = gaps > 0
    if not np.all(is_regular):
        place = int(np.argmin(is_regular))
        before = np.concatenate([end, times[:place]])
        where = _where(rows, int(new[place]), panel.names[number], time=True)
        raise UsageError(irregular(before, times[place], panel.frequency, where, "the run's rows"))
    return np.cumsum(gaps) - 1


def _where(rows: Rows, row: int, name: str, time: bool = False) -> str:
    """Name a cell with its series, that of the value or of the time."""
    place = rows.where_value(row, 0)
    if time and rows.pick.time is not None:
        place = rows.where(rows.pick.time, row)
    if not rows.names:
        return place
    return f"{place}, {called(name)}"


def _count_notes(panel: Panel, judged_rows: Int[np.ndarray, " n"], horizon: int, beyond: int) -> list[str]:
    """Say which series have fewer values than the horizon, or none, and how many rows are beyond it."""
    notes = []
    absent = np.flatnonzero(judged_rows == 0)
    if len(absent):
        listed = _listed(panel, absent)
        notes.append(f"{len(absent):,} of {len(panel.names):,} series without a later value: {listed}")
    short = np.flatnonzero((judged_rows > 0) & (judged_rows < horizon))
    if len(short):
        values = f"{judged_rows[short].min():,} to {judged_rows[short].max():,}"
        if judged_rows[short].min() == judged_rows[short].max():
            values = f"{judged_rows[short].min():,}"
        notes.append(
            f"{len(short):,} of {len(panel.names):,} series with {values} of the {horizon:,} values of the horizon, by "
            f"which they are judged: {_listed(panel, short)}"
        )
    if beyond:
        notes.append(f"{counted(beyond, 'row')} beyond the horizon of {horizon:,} not judged")
    return notes


def _level_notes(panel: Panel, actual: Float[np.ndarray, "n k"]) -> list[str]:
    """Say of which series the later values are far from all known ones."""
    far = []
    for number in np.flatnonzero(np.isfinite(actual).any(axis=1)).tolist():
        known = panel.known_values(number)
        deviation = float(np.nanstd(known))
        if deviation and abs(np.nanmean(actual[number]) - np.nanmean(known)) > SIMILAR * deviation:
            far.append(number)
    if not far:
        return []
    first = far[0]
    return [
        f"the later values of {len(far):,} series are more than {SIMILAR:g} deviations from the known ones, "
        f"perhaps in another unit: {_listed(panel, np.array(far))}; mean {np.nanmean(actual[first]):.4g} after "
        f"{np.nanmean(panel.known_values(first)):.4g} in the first"
    ]


def _listed(panel: Panel, numbers: Int[np.ndarray, " m"]) -> str:
    """Return the names of the first five series."""
    listed = ", ".join(called(panel.names[number]) for number in numbers[:5])
    if len(numbers) > 5:
        return f"{listed}, …"
    return listed
