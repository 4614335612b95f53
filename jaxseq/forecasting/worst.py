"""The forecasts that did worst beside the reference, as pictures: history, forecast, intervals, and what came."""

from __future__ import annotations

from typing import NamedTuple

import matplotlib
import numpy as np
from jaxtyping import Float, Int, Shaped
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxseq.common.figures import ACTUAL, FORECAST, NAIVE, PLAIN, headline, short
from jaxseq.data.uncut import PartWindows
from jaxseq.data.windows import Series, rows_by_series
from jaxseq.forecasting import residuals
from jaxseq.forecasting.plots import BEFORE
from jaxseq.forecasting.predictions import Judged, follow_each_other

PICTURES = 10
"""Most panels of the figure."""
STRETCH = 30
"""Forecasts of a single step in one panel."""


class Worst(NamedTuple):
    """A window, or a stretch of windows that forecast one step each, and how its error compares.

    rows   of the test part, in order of time
    ratio  mean absolute error of its series (of its rows, where there is but one series) over that of the reference
    """

    rows: Int[np.ndarray, " w"]
    ratio: float


def worst(judged: Judged, part: PartWindows) -> list[Worst]:
    """Return the worst window of each of the worst series, or the worst windows of a single one, the worst first.

    Series are in the order of their error relative to that of the reference, so that none is bad for its unit, or because
    it cannot be foretold. Windows of one series share no target; those that are series of their own stand by themselves.
    """
    error = residuals.absolute_sums(judged.actual, judged.forecast)
    of_reference = residuals.absolute_sums(judged.actual, judged.reference)
    by_series = rows_by_series(part.series)
    if len(by_series) == 1:
        return _separate(error, of_reference, part)

    chosen = []
    in_order = residuals.ratios(judged, part.series)
    panel_rows = _panel_rows(part)
    for number in list(in_order)[:PICTURES]:
        rows = by_series[number]
        # The window in which the series went wrong most, by its own unit.
        excess = error[rows] - of_reference[rows]
        stretch = _around(rows, int(np.argmax(excess)), panel_rows)
        chosen.append(Worst(stretch, in_order[number]))
    return chosen


def _separate(error: Float[np.ndarray, " n"], of_reference: Float[np.ndarray, " n"], part: PartWindows) -> list[Worst]:
    """Return the windows whose errors exceed the reference's most, none of which share a target.

    They are of one series, or each is a series of its own.
    """
    rows = np.arange(len(error))
    horizon = part.horizon
    panel_rows = _panel_rows(part)
    are_of_one_series = follow_each_other(part)
    if not are_of_one_series:
        panel_rows = 1
    is_taken = np.zeros(len(error), bool)
    chosen: list[Worst] = []
    for place in np.argsort(of_reference - error, kind="stable").tolist():
        stretch = _around(rows, place, panel_rows)
        if len(chosen) == PICTURES or is_taken[stretch].any():
            continue
        ratio = residuals.ratio(error[stretch], of_reference[stretch])
        chosen.append(Worst(stretch, ratio))
        is_taken[stretch] = True
        if are_of_one_series:
            distance = np.abs(part.origins - part.origins[place])
            is_taken[distance < horizon] = True
    return chosen


def _panel_rows(part: PartWindows) -> int:
    """Return the rows of one series in a panel: a single step would be but a point."""
    if part.horizon > 1:
        return 1
    return STRETCH


def _around(rows: Int[np.ndarray, " r"], place: int, count: int) -> Int[np.ndarray, " w"]:
    """Return at most `count` rows around the one at a place."""
    first = max(0, min(place - count // 2, len(rows) - count))
    return rows[first : first + count]


class Scene(NamedTuple):
    """The test part that pictures are taken of.

    names   of the series, by number
    series  all rows of each; empty where every window is a series of its own
    times   of every target
    unit    of the values; may be empty
    """

    judged: Judged
    part: PartWindows
    names: tuple[str, ...]
    series: tuple[Series, ...]
    times: Shaped[np.ndarray, "n k"]
    unit: str = ""


def figure(chosen: list[Worst], scene: Scene, title: str) -> Figure:
    """Draw the chosen windows, a panel each: values before, forecast with its intervals, reference, and what came."""
    columns = min(2, len(chosen))
    rows = -(-len(chosen) // columns)
    with matplotlib.rc_context(PLAIN):
        picture = Figure(figsize=(10, 1.4 + 2.2 * rows), layout="constrained")
        panels = picture.subplots(rows, columns, squeeze=False).ravel()
        for axes, item in zip(panels, chosen, strict=False):
            _draw(axes, scene, item.rows)
            axes.set_title(_panel_title(item, scene))
            axes.set_ylabel(scene.unit)
        for axes in panels[len(chosen) :]:
            axes.remove()
        headline(picture, title)
        handles = panels[0].get_legend_handles_labels()
        picture.legend(*handles, loc="outside lower center", ncols=6)
    return picture


def _panel_title(item: Worst, scene: Scene) -> str:
    words = f"{item.ratio:.2f} of the reference's error"
    # A single series needs no name.
    if len(scene.names) == 1:
        return words
    number = int(scene.part.series[item.rows[0]])
    return f"{short(scene.names[number], 36)}: {words}"


class _Past(NamedTuple):
    """Values before a forecast and their times; without times they are counted backwards from it."""

    times: Shaped[np.ndarray, " t"] | None
    values: Float[np.ndarray, " t"]


def _past(scene: Scene, row: int) -> _Past:
    values = scene.part.take(slice(row, row + 1)).inputs[0]
    if not scene.series:
        return _Past(None, values)
    origin = int(scene.part.origins[row])
    number = int(scene.part.series[row])
    times = scene.series[number].times
    return _Past(times[origin - len(values) : origin], values)


def _draw(axes: Axes, scene: Scene, rows: Int[np.ndarray, " w"]) -> None:
    """Draw the windows of some rows, and the values before the first of them."""
    past = _past(scene, int(rows[0]))
    x = scene.times[rows].ravel()
    before = past.times
    # Without times, rows are counted from the forecast.
    if before is None:
        x = np.arange(len(x))
        before = np.arange(-len(past.values), 0)

    # A single step is joined to the value before it: a point would be no line.
    joined = 0
    if len(x) == 1:
        joined = 1
    forecast_times = np.concatenate([before[len(before) - joined :], x])

    def curve(values: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " t"]:
        return np.concatenate([past.values[len(past.values) - joined :], values[rows].ravel()])

    judged = scene.judged
    for level, (low, high) in judged.ends.items():
        axes.fill_between(
            forecast_times,
            curve(low),
            curve(high),
            color=FORECAST,
            alpha=0.12,
            lw=0,
            label=f"{round(100 * level)} % interval",
        )
    # What came joins the values before it.
    actual_times = np.concatenate([before, x])
    actual = np.concatenate([past.values, judged.actual[rows].ravel()])
    axes.plot(
        forecast_times,
        curve(judged.reference),
        ":",
        color=NAIVE,
        lw=1.3,
        label="reference",
    )
    axes.plot(
        forecast_times,
        curve(judged.forecast),
        ".-",
        color=FORECAST,
        lw=1.3,
        ms=3,
        label="forecast",
    )
    axes.plot(actual_times, actual, color=ACTUAL, lw=1, label="actual")
    axes.axvline(before[-1], color=BEFORE, ls="--", lw=0.8)
    # A panel of half a figure's width has room for a few.
    if x.dtype.kind == "M":
        locator = AutoDateLocator(maxticks=6)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
