"""Forecasts beside the actual values: the test part, and the time after the last value."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from jaxseq.common.figures import ACTUAL, FORECAST, NAIVE, PLAIN, first_step, headline, short, wrapped
from jaxseq.forecasting.predictions import interval_levels

BEFORE = "#8a8a8a"
"""Colour of the actual values before the test part, and of the gaps between parts."""
NAMED_SHARE = 0.08
"""Least share of the rows drawn for a part to be named."""
PANELS = 6
"""Most series that a figure shows."""
ZOOM = 40
"""Test rows in the zoom: few enough that one day's delay can be seen."""
MOST_POINTS = 20_000
"""Most points of a curve: far more than a figure has pixels across, and few enough to be drawn in seconds."""


class _Look(NamedTuple):
    """Look of one curve."""

    label: str
    color: str
    stroke: str = "-"
    width: float = 1.1
    shape: str = "."


def forecast(
    frame: pd.DataFrame,
    unit: str,
    title: str,
    before: pd.DataFrame | None = None,
    reference: str = "",
) -> Figure:
    """Draw the test part of a forecast: all of it, a zoom, and forecast change against actual change.

    frame      date (or row), actual, forecast, naive; the band from `low_80%` to `high_80%` is drawn if both are there
    before     date, part, actual of the parts before the test part, in order; its last rows are drawn, half as many again
               as the test part has, with a bar over the gap between two parts
    reference  name of the forecast in the column `reference`, which is drawn in the place of the last value

    A forecast that only copies the last value is a flat band in the last panel. Of several steps
    and series the first is drawn, as the title then states.
    """
    time = frame.columns[0]
    first, notes = _first_series_and_step(frame)
    drawn = thinned(first)
    if len(drawn) < len(first):
        notes.append(f"one of every {-(-len(first) // MOST_POINTS)} of {len(first):,} rows")
    if notes:
        title = f"{title}\n{'; '.join(notes)}"

    with matplotlib.rc_context(PLAIN):
        figure = Figure(figsize=(10, 7), layout="constrained")
        grid = figure.add_gridspec(2, 5)
        whole = figure.add_subplot(grid[0, :])
        zoom = figure.add_subplot(grid[1, :3])
        changes = figure.add_subplot(grid[1, 3:])

        if before is not None and len(before):
            _draw_before(whole, thinned(before.tail(3 * len(first) // 2)), drawn)
        simple = _simple_look(reference, in_time=time == "date")
        _draw_curves(whole, drawn, unit, simple, marked=time != "date")
        # The names of the parts stand between the panel and its title.
        pad = None
        if before is not None:
            pad = 16
        whole.set_title(wrapped(title), pad=pad)
        figure.legend(*whole.get_legend_handles_labels(), loc="outside lower center", ncols=5)

        _draw_curves(zoom, first.tail(ZOOM), unit, simple, marked=True)
        zoom.set_title(f"The last {min(ZOOM, len(first))} test rows")
        if time == "date":
            zoom.set_title(f"The last {min(ZOOM, len(first))} test dates")
            zoom.xaxis.set_major_formatter(ConciseDateFormatter(AutoDateLocator()))
        _draw_changes(changes, drawn, unit)
    return figure


def thinned(frame: pd.DataFrame) -> pd.DataFrame:
    """Return at most `MOST_POINTS` rows at equal distances, the first among them; all rows of a shorter frame."""
    return frame.iloc[:: max(1, -(-len(frame) // MOST_POINTS))]


def _first_series_and_step(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows of the first series and step, and notes on what is left out; all steps of a single forecast."""
    notes = []
    of_series = frame
    if "series" in frame and frame["series"].nunique() > 1:
        name = frame["series"].iloc[0]
        of_series = frame[frame["series"] == name]
        count = frame["series"].nunique()
        notes.append(f"{short(name)}, the first of {count} series")

    rows = first_step(of_series)
    if "step" in frame and len(rows) == 1:
        # A test part as long as the horizon: a curve of one point would show nothing.
        rows = of_series
        notes.append(f"all {len(rows)} steps of its one forecast")
    elif "step" in frame:
        notes.append(f"the first of {frame['step'].max()} steps")
    return rows, notes


def _draw_before(
    axes: Axes,
    before: pd.DataFrame,
    test: pd.DataFrame,
) -> None:
    """Draw the parts before the test part, each by itself so that a gap between two of them shows, and name all parts."""
    parts = [(str(name), rows) for name, rows in before.groupby("part", sort=False)]
    label = "actual, before the test part"
    for _, rows in parts:
        axes.plot(rows["date"], rows["actual"], color=BEFORE, lw=1, label=label)
        # The legend has a single entry for all of them.
        label = None

    parts.append(("test", test))
    for (_, earlier), (_, later) in pairwise(parts):
        gap_start = earlier["date"].iloc[-1]
        gap_end = later["date"].iloc[0]
        axes.axvspan(gap_start, gap_end, color=BEFORE, alpha=0.35, lw=0.8)

    drawn_rows = sum(len(rows) for _, rows in parts)
    for name, rows in parts:
        # In a narrower part its name would run into the next one.
        if len(rows) > NAMED_SHARE * drawn_rows:
            middle = rows["date"].iloc[len(rows) // 2]
            position = {"xytext": (0, 3), "textcoords": "offset points", "ha": "center"}
            axes.annotate(name, (middle, 1), xycoords=("data", "axes fraction"), color=BEFORE, **position)


class _Simple(NamedTuple):
    """Column of the simple forecast that is drawn, and its look."""

    column: str
    look: _Look


def _simple_look(reference: str, in_time: bool) -> _Simple:
    """Return the look of the reference; of the last value where no reference is named."""
    column = "reference"
    label = short(reference)
    if not reference:
        column = "naive"
        label = "naive (last value)"
    # Rows that are not in time are points, told apart by shape.
    shape = "x"
    if in_time:
        shape = "."
    return _Simple(column, _Look(label, NAIVE, stroke=":", width=1.2, shape=shape))


def _draw_curves(
    axes: Axes,
    frame: pd.DataFrame,
    unit: str,
    simple: _Simple,
    marked: bool,
) -> None:
    """Draw the curves over time; rows that are not in time are points, told apart by shape too."""
    time = frame.columns[0]
    in_time = time == "date"
    x = frame[time].to_numpy()
    if 80 in interval_levels(frame):
        low = frame["low_80%"].to_numpy()
        high = frame["high_80%"].to_numpy()
        # Between rows that are not in time there is nothing to fill.
        if in_time:
            axes.fill_between(x, low, high, color=FORECAST, alpha=0.2, lw=0, label="80 % interval")
        else:
            axes.vlines(x, low, high, colors=FORECAST, alpha=0.3, lw=1.5, label="80 % interval")

    # The actual values come last and lie on top.
    looks = {
        simple.column: simple.look,
        "forecast": _Look("forecast", FORECAST),
        "actual": _Look("actual", ACTUAL),
    }
    for column, look in looks.items():
        stroke = ""
        if in_time:
            stroke = look.stroke
        marker = ""
        if marked:
            marker = look.shape
        axes.plot(
            x,
            frame[column],
            ls=stroke,
            color=look.color,
            lw=look.width,
            label=look.label,
            marker=marker,
            ms=4,
        )
    axes.set_ylabel(unit or "value")
    if not in_time:
        axes.set_xlabel("test row")


def _draw_changes(
    axes: Axes,
    frame: pd.DataFrame,
    unit: str,
) -> None:
    """Draw forecast change against actual change, both from the last value, on one scale."""
    actual = frame["actual"] - frame["naive"]
    predicted = frame["forecast"] - frame["naive"]
    # Unknown values are in no range.
    limit = 1.05 * float(np.nanmax(np.abs(np.concatenate([actual, predicted]))))
    axes.plot([-limit, limit], [-limit, limit], color=ACTUAL, ls="--", lw=1, label="perfect")
    axes.axhline(0, color=NAIVE, ls=":", lw=1.2, label="naive")
    axes.plot(actual, predicted, ".", color=FORECAST, ms=3, alpha=0.6)

    suffix = ""
    if unit:
        suffix = f", {unit}"
    limits = (-limit, limit)
    axes.set(xlim=limits, ylim=limits, title="Change from the last value", aspect="equal")
    axes.set(xlabel=f"actual{suffix}", ylabel=f"forecast{suffix}")
    axes.legend(loc="upper left")


def fan(
    history: pd.DataFrame,
    forecast: pd.DataFrame,
    unit: str,
    title: str,
) -> Figure:
    """Draw the end of a history and the forecast beyond it with its intervals; a panel for each of the first series.

    history    date (or row), series if there are several, actual
    forecast   date (or row) that each value is for, series, forecast, and low_80%, high_80% for each level there is

    A line marks the last known value, if the history has one. The fan opens from there, so that a single step can be seen
    as well. At most `PANELS` series are drawn.
    """
    names: list[object] = [None]
    if "series" in forecast:
        names = list(dict.fromkeys(forecast["series"]))
    if len(names) > PANELS:
        title = f"{title}\nfirst {PANELS} of {len(names)} series"
    drawn_names = names[:PANELS]
    columns = min(2, len(names))
    rows = -(-len(drawn_names) // columns)

    with matplotlib.rc_context(PLAIN):
        figure = Figure(figsize=(10, 1.6 + 2.4 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, name in zip(panels, drawn_names, strict=False):
            _draw_fan(axes, _of_series(history, name), _of_series(forecast, name), unit)
            if name is not None:
                axes.set_title(short(name))
        for axes in panels[len(drawn_names) :]:
            axes.remove()
        headline(figure, title)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    return figure


def _of_series(
    frame: pd.DataFrame,
    name: object,
) -> pd.DataFrame:
    # A single series has no column of names.
    if name is None:
        return frame
    return frame[frame["series"] == name]


def _draw_fan(
    axes: Axes,
    history: pd.DataFrame,
    forecast: pd.DataFrame,
    unit: str,
) -> None:
    time = "row"
    if "date" in forecast:
        time = "date"
    past = history.tail(max(ZOOM, 3 * len(forecast)))
    last = past.tail(1)
    x = np.concatenate([last[time], forecast[time]])

    def from_last_value(column: str) -> np.ndarray:
        return np.concatenate([last["actual"], forecast[column]])

    for depth, level in enumerate(interval_levels(forecast), start=1):
        low = from_last_value(f"low_{level}%")
        high = from_last_value(f"high_{level}%")
        axes.fill_between(x, low, high, color=_shade(depth), lw=0, label=f"{level} % interval")

    forecast_marks = slice(len(last), None)
    axes.plot(
        x, from_last_value("forecast"), ".-", color=FORECAST, lw=1.3, ms=4, markevery=forecast_marks, label="forecast"
    )
    if len(last):
        axes.plot(past[time].to_numpy(), past["actual"], color=ACTUAL, lw=1.1, label="actual")
        axes.axvline(last[time].iloc[0], color=BEFORE, ls="--", lw=1, zorder=1, label="last known value")

    axes.set_ylabel(unit or "value")
    if time == "date":
        axes.xaxis.set_major_formatter(ConciseDateFormatter(axes.xaxis.get_major_locator()))
    else:
        axes.set_xlabel("row")


def _shade(depth: int) -> np.ndarray:
    """Return the forecast's colour, the darker the deeper."""
    # Opaque, so that the legend shows the colour that is drawn.
    return 1 - (1 - np.array(to_rgb(FORECAST))) * (1 - 0.8**depth)
