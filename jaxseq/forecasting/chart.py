"""A chart of the test part whose reader chooses series and window: a section of a run's page, with its script."""

from __future__ import annotations

from html import escape
from pathlib import Path
from string import Template
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Shaped

from jaxseq.common import html_page
from jaxseq.data.uncut import PartWindows
from jaxseq.forecasting import predictions, residuals
from jaxseq.forecasting.predictions import Judged, interval_levels

TEMPLATE = Path(__file__).with_name("chart.html")
STYLE = Path(__file__).with_name("chart.css")
SCRIPT = Path(__file__).with_name("chart.js")
TOOLS = Path(__file__).with_name("chart_tools.js")

MOST_SERIES = 40
"""Most series to choose from: the worst and the best quarter of them, and others at equal distances between."""
MOST_WINDOWS = 24
"""Most windows of a series, at equal distances."""
STRETCH = 120
"""Test rows in one view of forecasts of a single step."""
MOST_PAST = 200
"""Most values before the forecast."""
DIGITS = 6
"""Significant digits of a value: more than a screen has pixels."""


class Curves(NamedTuple):
    """The predictions, and how they are shown.

    time_format    of dates; empty where times are numbers of rows
    are_stretches  whether forecasts of a single step are shown as stretches of those that follow each other
    """

    times: Shaped[np.ndarray, "n k"]
    time_format: str
    judged: Judged
    are_stretches: bool


def section(
    frame: pd.DataFrame,
    windows: PartWindows,
    reference: str,
    unit: str = "",
) -> str:
    """Return the chart as HTML, which is well-formed XML too.

    frame      `predictions.frame` of the test part
    windows    the test part itself, whose inputs are the values before a forecast
    reference  name of the forecast in the column `reference`
    """
    horizon = windows.horizon
    curves = Curves(
        times=frame.iloc[:, 0].to_numpy().reshape(-1, horizon),
        time_format=_time_format(frame.iloc[:, 0]),
        judged=predictions.judged(frame, horizon),
        are_stretches=horizon == 1 and predictions.follow_each_other(windows),
    )
    views = "window"
    if curves.are_stretches:
        views = "test rows"

    levels = interval_levels(frame)
    names = _names(frame, windows)
    ratios = residuals.ratios(curves.judged, windows.series)
    chosen = _chosen(ratios)
    series = [_series(names[number], ratios[number], curves, windows, number) for number in chosen]

    data = html_page.script_data({"series": series, "levels": levels, "reference": reference})
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        style=STYLE.read_text(encoding="utf-8"),
        windows=views,
        reference=escape(reference),
        bands="".join(_band(depth, level) for depth, level in enumerate(levels, start=1)),
        remark=escape(_remark(len(names), len(chosen), reference, unit, f"predictions{predictions.suffix_of(frame)}")),
        data=data,
        tools=TOOLS.read_text(encoding="utf-8"),
        script=SCRIPT.read_text(encoding="utf-8"),
    )


def shown_series(frame: pd.DataFrame, windows: PartWindows) -> list[str]:
    """Return the names of the series that the chart shows, in its order; that of a single one is empty."""
    names = _names(frame, windows)
    judged = predictions.judged(frame, windows.horizon)
    return [names[number] for number in _chosen(residuals.ratios(judged, windows.series))]


def _band(depth: int, level: int) -> str:
    """Return the legend of an interval, under which lie those that are wider."""
    fill = '<path class="chart-band" d="M0 0H30V10H0Z" />' * depth
    return f'<li><svg viewBox="0 0 30 10" aria-hidden="true">{fill}</svg>{level} % interval</li>\n'


def _time_format(times: pd.Series) -> str:
    """Return the format of dates, with their hour if one of them has an hour; an empty one for numbers of rows."""
    if not pd.api.types.is_datetime64_any_dtype(times):
        return ""
    if (times != times.dt.normalize()).any():
        return "%Y-%m-%d %H:%M"
    return "%Y-%m-%d"


def _time_words(times: Shaped[np.ndarray, " n"], time_format: str) -> list[str]:
    """Return dates, or the numbers of rows, as they are shown."""
    # Those of all windows would take gigabytes as texts.
    if not time_format:
        return [str(number) for number in times.tolist()]
    return pd.DatetimeIndex(times).strftime(time_format).tolist()


def _names(frame: pd.DataFrame, windows: PartWindows) -> dict[int, str]:
    """Return the names of the series that have a window, by number."""
    # A single series has no column of names.
    if "series" not in frame:
        return {int(windows.series[0]): ""}
    first_steps = frame["series"].to_numpy()[:: windows.horizon]
    return {int(number): str(name) for number, name in zip(windows.series, first_steps, strict=True)}


def _chosen(ratios: dict[int, float]) -> list[int]:
    """Return the numbers of the series to show, the worst first."""
    numbers = list(ratios)
    if len(numbers) <= MOST_SERIES:
        return numbers
    ends = MOST_SERIES // 4
    between = _spread(len(numbers) - 2 * ends, MOST_SERIES - 2 * ends) + ends
    return [*numbers[:ends], *(numbers[place] for place in between), *numbers[-ends:]]


def _spread(count: int, most: int) -> Int[np.ndarray, " n"]:
    """Return at most so many places of `count`, at equal distances, the last among them."""
    if count <= most:
        return np.arange(count)
    return np.linspace(0, count - 1, most).round().astype(int)


def _series(
    name: str,
    ratio: float,
    curves: Curves,
    windows: PartWindows,
    number: int,
) -> dict[str, object]:
    """Return a series as the script reads it."""
    rows = np.flatnonzero(windows.series == number)
    if curves.are_stretches:
        # The oldest rows that fill no stretch are left out, unless they are all there are.
        starts = [0]
        if len(rows) > STRETCH:
            starts = list(range(len(rows) % STRETCH, len(rows), STRETCH))
        views = [rows[start : start + STRETCH] for start in starts]
    else:
        views = [rows[[place]] for place in range(len(rows))]
    shown = [_view(curves, windows, views[place]) for place in _spread(len(views), MOST_WINDOWS)]
    label = name
    if np.isfinite(ratio):
        label = f"{name}: {ratio:.2f}"
    return {"name": name, "label": label, "windows": shown}


def _view(curves: Curves, windows: PartWindows, rows: Int[np.ndarray, " n"]) -> dict[str, object]:
    """Return one window, or a stretch of forecasts of a single step, with the values before it."""
    judged = curves.judged
    shown_times = curves.times[rows].ravel()
    steps = len(shown_times)
    past = windows.take(rows[:1]).inputs[0][-min(MOST_PAST, max(40, 3 * steps)) :]
    return {
        "past": numbers(past),
        "times": _time_words(shown_times, curves.time_format),
        "actual": numbers(judged.actual[rows]),
        "forecast": numbers(judged.forecast[rows]),
        "reference": numbers(judged.reference[rows]),
        "low": [numbers(low[rows]) for low, _ in judged.ends.values()],
        "high": [numbers(high[rows]) for _, high in judged.ends.values()],
    }


def numbers(array: Float[np.ndarray, "..."]) -> list[float | None]:
    """Return numbers as JSON has them; null where a value is not known."""
    return [float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None for value in array.ravel().tolist()]


def _remark(count: int, shown: int, reference: str, unit: str, file: str) -> str:
    words = []
    if unit:
        words.append(f"Values in {unit}.")
    if count > 1:
        words.append(
            "The number beside a series is the mean absolute error of the forecast over that of the reference,"
        )
        words.append(f"{reference}; the worst comes first.")
    if shown < count:
        words.append(f"{shown} of {count} series: the {shown // 4} worst, the {shown // 4} best and others between.")
    words.append(f"Point at the chart for the numbers, which are all in {file}.")
    return " ".join(words)
