"""Forecasts as a table: a row for each window and step, with the time that its value is for."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Shaped

from jaxseq.common import csv_tables, files, notebook_page
from jaxseq.common.errors import UsageError
from jaxseq.data.keys import NO_KEYS, Keys
from jaxseq.data.uncut import PartWindows, WindowSplits
from jaxseq.data.windows import Series, rows_by_series
from jaxseq.forecasting.intervals import Bounds, end_names
from jaxseq.forecasting.metrics import Values

LARGE = 1_000_000
"""Most rows of a table that is written as CSV, which takes longer to write and to read than Parquet."""

SHOWN = 14
"""Most rows of a forecast that a notebook shows."""


class Future(NamedTuple):
    """Forecast beyond the end of the series.

    table  a row for each series and step: date (or row), series where there are several, step where there are several,
           forecast, and low_80%, high_80% for each level of the run's intervals
    notes  remarks on the data and the forecast, a sentence each
    """

    table: pd.DataFrame
    notes: tuple[str, ...]

    def _repr_html_(self) -> str:
        """Return the first rows, the notes and a picture of the first series, for notebooks."""
        rows = self.table.head(SHOWN).to_html(index=False, border=0, float_format="{:.6g}".format)
        notes = self.notes
        if len(self.table) > SHOWN:
            notes = (f"the first {SHOWN} of {len(self.table):,} rows", *notes)
        return f"<div>{rows}{notebook_page.sentences(notes)}{self._picture()}</div>"

    def _picture(self) -> str:
        """Return the picture of a forecast of several steps; of a single one the table says all."""
        if "step" not in self.table:
            return ""
        # They draw and judge the tables of this module.
        from jaxseq.common import figures
        from jaxseq.forecasting import quantities

        quantity = next(each for each in quantities.QUANTITIES.values() if each.COLUMN in self.table)
        # What came before the forecast is not in its table.
        history = self.table.head(0).assign(actual=np.zeros(0))
        figure = quantity.future_figure(history, self.table, "", "forecast beyond the end of the data")
        return notebook_page.picture(figures.drawn(figure, "png"), "picture of the forecast")


def target_times(
    part: PartWindows,
    series: Sequence[Series] = (),
) -> Shaped[np.ndarray, "n k"]:
    """Return the time of every target of a part, all of which lie in their series.

    Without `series`, where every window is a series of its own, all targets have the number of their window.
    """
    horizon = part.horizon
    if not series:
        return np.repeat(part.times[:, None], horizon, axis=1)

    rows = part.origins[:, None] + np.arange(horizon)
    times = np.empty(rows.shape, series[0].times.dtype)
    for number, selected in rows_by_series(part.series).items():
        times[selected] = series[number].times[rows[selected]]
    return times


def follow_each_other(part: PartWindows) -> bool:
    """Return whether the windows of a series follow each other; where each is a series of its own, all begin at one row."""
    origins, starts = np.unique(part.origins, return_inverse=True)
    windows = part.series.astype(np.int64) * len(origins) + starts
    return len(np.unique(windows)) == len(windows)


def frame(
    part: PartWindows,
    names: tuple[str, ...],
    columns: Mapping[str, Float[np.ndarray, "n k"]],
    ends: Bounds,
    times: Shaped[np.ndarray, "n k"],
    keys: Keys = NO_KEYS,
) -> pd.DataFrame:
    """Return a table of a row for each window and step, and a column for each forecast.

    Before the forecasts come the date (or row) of the value, `series` and `step` if there are several, and `actual`. The
    columns that name a series together follow `series`, each by itself.

    names    of the series, by number
    columns  forecasts by the name of their column; `actual` among them takes the place of the targets
    ends     of the intervals, which become low_80% and high_80% for each level
    times    of every target
    keys     of the series
    """
    horizon = part.horizon
    time = "row"
    if np.issubdtype(times.dtype, np.datetime64):
        time = "date"

    numbers = {"actual": part.targets, **columns}
    for level, (low, high) in ends.items():
        low_name, high_name = end_names(level)
        numbers[f"{low_name}%"] = low
        numbers[f"{high_name}%"] = high

    table: dict[str, np.ndarray | pd.Categorical] = {time: times.ravel()}
    # A single series, and a single step, need no column.
    if len(names) > 1:
        table["series"] = _texts(names, part.series, horizon)
        for name, texts in keys.as_columns({time, "series", "step", "path", *numbers}).items():
            table[name] = _texts(texts, part.series, horizon)
    if horizon > 1:
        table["step"] = np.tile(np.arange(1, horizon + 1), len(part.origins))
    for name, values in numbers.items():
        # The sum of a negative zero and 0 is a positive one: no table has -0.0.
        table[name] = values.ravel() + 0.0
    # The columns are new arrays: another copy of a large table would take gigabytes.
    return pd.DataFrame(table, copy=False)


def _texts(
    texts: Sequence[str], series: Int[np.ndarray, " n"], horizon: int
) -> Shaped[np.ndarray, " _"] | pd.Categorical:
    """Return the text of the series of each window and step; as categories in a large table, where it would take most."""
    if len(series) * horizon <= LARGE:
        return np.asarray(texts)[np.repeat(series, horizon)]
    numbers, distinct = pd.factorize(np.asarray(texts))
    codes = np.repeat(numbers.astype(np.int32)[series], horizon)
    return pd.Categorical.from_codes(codes, pd.Index(distinct))  # pyrefly: ignore[bad-argument-type]


def interval_levels(frame: pd.DataFrame) -> list[int]:
    """Return the levels in percent of the intervals that a frame has both ends of, the widest first."""
    low_ends = [re.fullmatch(r"low_(\d+)%", str(name)) for name in frame]
    return sorted((int(end[1]) for end in low_ends if end and f"high_{end[1]}%" in frame), reverse=True)


class Judged(NamedTuple):
    """Forecasts of a part in the series' units, a row for each window and a column for each step.

    ends  of the intervals by level, the widest first
    """

    actual: Values
    forecast: Values
    reference: Values
    ends: Bounds


def judged(table: pd.DataFrame, horizon: int) -> Judged:
    """Return the numbers of a table of predictions that has a column `reference`."""

    def of(column: str) -> Values:
        return table[column].to_numpy(np.float64).reshape(-1, horizon)

    ends = {level / 100: (of(f"low_{level}%"), of(f"high_{level}%")) for level in interval_levels(table)}
    return Judged(actual=of("actual"), forecast=of("forecast"), reference=of("reference"), ends=ends)


class Content(NamedTuple):
    """The bytes of a file, and the suffix that says in which format they are."""

    suffix: str
    data: bytes


def suffix_of(table: pd.DataFrame) -> str:
    """Return the suffix of the file of a table: a large one is Parquet, where pyarrow is installed."""
    if len(table) <= LARGE or importlib.util.find_spec("pyarrow") is None:
        return ".csv"
    return ".parquet"


def content(table: pd.DataFrame, digits: int | None = 7) -> Content:
    """Return a table as CSV, with numbers to so many digits; a large one as Parquet, with all of them."""
    suffix = suffix_of(table)
    if suffix == ".csv":
        return Content(suffix, csv_tables.content(table, digits))
    return Content(suffix, table.to_parquet(index=False, engine="pyarrow"))


def write(path: Path, table: pd.DataFrame) -> None:
    """Write a table with every digit, in the format of its size, and remove that of the other format.

    path  of the CSV file. Raises `UsageError` if it cannot be written.
    """
    if suffix_of(table) == ".csv":
        csv_tables.write(path, table, digits=None)
        files.remove(path.with_suffix(".parquet"))
        return

    # Straight to the disk: as bytes it would take as much memory again.
    large = path.with_suffix(".parquet")
    try:
        with files.whole(large) as file:
            table.to_parquet(file, index=False, engine="pyarrow")
    except OSError as error:
        raise files.cannot_write(large, error) from error
    files.remove(path)


def read(path: Path) -> pd.DataFrame:
    """Read a table of predictions that `write` has written; `path` is that of the CSV file. Raises as pandas does."""
    large = path.with_suffix(".parquet")
    if large.is_file():
        if importlib.util.find_spec("pyarrow") is None:
            raise UsageError("pyarrow is not installed", where=large, needed='pip install "jaxseq[parquet]"')
        return pd.read_parquet(large, engine="pyarrow")
    # A series may be named 01 or NA; only actual values may be missing.
    return csv_tables.read(path, dtype={"series": str}, keep_default_na=False, na_values={"actual": [""]})


def before_test(windows: WindowSplits) -> pd.DataFrame | None:
    """Return values that precede the test part in the first series: date, part, actual; None for rows not in time.

    They are the last ones before it, half as many again as it has. A value is the first target of its window: rows that
    no window of a part may forecast are left out.
    """
    if not np.issubdtype(windows.test.times.dtype, np.datetime64):
        return None
    # The figure shows the first series of a panel.
    first_series = windows.test.series[0]
    test_values = np.count_nonzero(windows.test.series == first_series)
    # Of a single forecast all steps are drawn.
    if test_values == 1:
        test_values = windows.test.horizon
    missing = 3 * test_values // 2
    frames = []
    for name, part in (("validation", windows.valid), ("training", windows.train)):
        rows = np.flatnonzero(part.series == first_series)
        # The latest ones; a slice from -0 would be all of them.
        rows = rows[max(0, len(rows) - missing) :]
        missing -= len(rows)
        values = {"date": part.times[rows], "part": name, "actual": part.take(rows).targets[:, 0]}
        frames.append(pd.DataFrame(values))
    return pd.concat(frames[::-1], ignore_index=True)
