"""Forecasts beside what they are of: the test part, and what comes after the last value."""

from __future__ import annotations

import re

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from jaxseq.common.figures import ACTUAL, FORECAST, NAIVE, PLAIN, first_step, headline, short, wrapped

PANELS = 6
"""Series that are shown of many."""
ZOOM = 40
"""Test rows in the zoom: few enough that one day's delay can be seen."""


def forecast(frame: pd.DataFrame, unit: str, title: str) -> Figure:
    """The test part of a forecast (a frame with actual, forecast, naive): all of it, a zoom, and change against change.

    In the zoom a forecast that only copies lies on the naive one; in the last panel it is a flat band. Of several steps
    and series the first is shown, and the title says so; `low_80%` to `high_80%`, where the frame has both, is shaded.
    """
    time, first, notes = frame.columns[0], first_step(frame), []
    if "series" in frame and (count := frame["series"].nunique()) > 1:
        name = frame["series"].iloc[0]
        first = first[first["series"] == name]
        notes.append(f"{short(name)}, the first of {count} series")
    if "step" in frame:
        notes.append(f"the first of {frame['step'].max()} steps")
    if notes:
        title = f"{title}\n{'; '.join(notes)}"
    with matplotlib.rc_context(PLAIN):
        figure = Figure(figsize=(10, 7), layout="constrained")
        grid = figure.add_gridspec(2, 5)
        whole, zoom = figure.add_subplot(grid[0, :]), figure.add_subplot(grid[1, :3])
        _curves(whole, first, time, unit, marked=time != "date")
        whole.set_title(wrapped(title))
        figure.legend(*whole.get_legend_handles_labels(), loc="outside lower center", ncols=4)
        _curves(zoom, first.tail(ZOOM), time, unit, marked=True)
        zoom.set_title(f"The last {min(ZOOM, len(first))} test {'dates' if time == 'date' else 'rows'}")
        if time == "date":
            zoom.xaxis.set_major_formatter(ConciseDateFormatter(AutoDateLocator()))
        _changes(figure.add_subplot(grid[1, 3:]), first, unit)
    return figure


def _curves(axes: Axes, frame: pd.DataFrame, time: str, unit: str, marked: bool) -> None:
    """Curves over dates; rows that are not in time have no line between them."""
    line = "-" if time == "date" else ""
    marker, size = ("." if marked else ""), 4
    x = frame[time].to_numpy()
    if 80 in _levels(frame):
        low, high = frame["low_80%"].to_numpy(), frame["high_80%"].to_numpy()
        if line:
            axes.fill_between(x, low, high, color=FORECAST, alpha=0.2, lw=0, label="80 % interval")
        else:
            axes.vlines(x, low, high, colors=FORECAST, alpha=0.3, lw=1.5, label="80 % interval")
    axes.plot(
        x,
        frame["naive"],
        ls=":" if line else "",
        color=NAIVE,
        lw=1.2,
        label="naive (last value)",
        marker=marker,
        ms=size,
    )
    axes.plot(x, frame["forecast"], ls=line, color=FORECAST, lw=1.1, label="forecast", marker=marker, ms=size)
    axes.plot(x, frame["actual"], ls=line, color=ACTUAL, lw=1.1, label="actual", marker=marker, ms=size)
    axes.set_ylabel(unit or "value")
    axes.set_xlabel("" if time == "date" else "test row")


def _changes(axes: Axes, frame: pd.DataFrame, unit: str) -> None:
    """Forecast change against actual change, both from the last value, on one scale."""
    actual, predicted = frame["actual"] - frame["naive"], frame["forecast"] - frame["naive"]
    limit = 1.05 * float(np.abs(np.concatenate([actual, predicted])).max())
    axes.plot([-limit, limit], [-limit, limit], color=ACTUAL, ls="--", lw=1, label="perfect")
    axes.axhline(0, color=NAIVE, ls=":", lw=1.2, label="naive")
    axes.plot(actual, predicted, ".", color=FORECAST, ms=3, alpha=0.6)
    suffix = f", {unit}" if unit else ""
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), title="Change from the last value", aspect="equal")
    axes.set(xlabel=f"actual{suffix}", ylabel=f"forecast{suffix}")
    axes.legend(loc="upper left")


def fan(history: pd.DataFrame, forecast: pd.DataFrame, unit: str, title: str) -> Figure:
    """The end of a history and the forecast beyond it with its intervals: a panel for each of the first `PANELS` series.

    history    date (or row), series if there are several, actual
    forecast   date (or row) that each value is for, series, forecast, and low_80%, high_80% for each level there is

    The fan opens from the last known value, so that a single step can be seen as well.
    """
    names = list(dict.fromkeys(forecast["series"])) if "series" in forecast else [None]
    if len(names) > PANELS:
        title = f"{title}\nfirst {PANELS} of {len(names)} series"
    shown, columns = names[:PANELS], 1 if len(names) == 1 else 2
    rows = -(-len(shown) // columns)
    with matplotlib.rc_context(PLAIN):
        figure = Figure(figsize=(10, 1.6 + 2.4 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, name in zip(panels, shown, strict=False):
            _fan(axes, _of_series(history, name), _of_series(forecast, name), unit)
            axes.set_title("" if name is None else short(name))
        for axes in panels[len(shown) :]:
            axes.remove()
        headline(figure, title)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return figure


def _of_series(frame: pd.DataFrame, name: object) -> pd.DataFrame:
    return frame if name is None else frame[frame["series"] == name]


def _fan(axes: Axes, history: pd.DataFrame, forecast: pd.DataFrame, unit: str) -> None:
    time = "date" if "date" in forecast else "row"
    past = history.tail(max(ZOOM, 3 * len(forecast)))
    last = past.tail(1)
    x = np.concatenate([last[time], forecast[time]])

    def beyond(column: str) -> np.ndarray:
        return np.concatenate([last["actual"], forecast[column]])

    for depth, level in enumerate(_levels(forecast), start=1):
        low, high = beyond(f"low_{level}%"), beyond(f"high_{level}%")
        axes.fill_between(x, low, high, color=_shade(depth), lw=0, label=f"{level} % interval")
    marks = slice(len(last), None)
    axes.plot(x, beyond("forecast"), ".-", color=FORECAST, lw=1.3, ms=4, markevery=marks, label="forecast")
    axes.plot(past[time].to_numpy(), past["actual"], color=ACTUAL, lw=1.1, label="actual")
    axes.set(xlabel="" if time == "date" else "row", ylabel=unit or "value")
    if time == "date":
        axes.xaxis.set_major_formatter(ConciseDateFormatter(axes.xaxis.get_major_locator()))


def _shade(depth: int) -> np.ndarray:
    """The forecast's colour, the darker the deeper; opaque, so that the legend shows what is drawn."""
    return 1 - (1 - np.array(to_rgb(FORECAST))) * (1 - 0.8**depth)


def _levels(frame: pd.DataFrame) -> list[int]:
    """Levels in percent of the intervals that a frame has both ends of, the widest first."""
    low_ends = [re.fullmatch(r"low_(\d+)%", str(name)) for name in frame]
    return sorted((int(end[1]) for end in low_ends if end and f"high_{end[1]}%" in frame), reverse=True)
