"""Pictures of probabilities: by time beside what came, by step beyond the data, and their reliability."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxseq.common.figures import ACTUAL, FORECAST, NAIVE, PLAIN, first_step, headline, short
from jaxseq.forecasting.plots import PANELS, thinned
from jaxseq.forecasting.reliability import Group

EDGE = 0.03
"""Distance of marks of events from the probabilities 0 and 1."""


def test_part(frame: pd.DataFrame, reference: str, title: str) -> Figure:
    """Draw the probabilities of the first series and step, with a mark at 1 for each event that came and at 0 for others.

    frame  date (or row), series and step if there are several, actual (1 or 0), forecast, reference
    """
    first = first_step(frame)
    if "series" in first:
        name = first["series"].iloc[0]
        first = first[first["series"] == name]
        title = f"{title}\nfirst series: {short(name)}"
    drawn = thinned(first)
    times = drawn.iloc[:, 0].to_numpy()
    came = drawn["actual"].to_numpy(float)
    marks = np.full(len(came), np.nan)
    marks[came == 1] = 1 + EDGE
    # What is not known has no mark.
    marks[came == 0] = -EDGE
    with matplotlib.rc_context(PLAIN):
        figure = Figure(figsize=(10, 4.2), layout="constrained")
        axes = figure.add_subplot()
        axes.plot(
            times,
            marks,
            "|",
            color=ACTUAL,
            ms=5,
            label="rise (above) or not (below)",
        )
        axes.plot(
            times,
            drawn["forecast"].to_numpy(),
            ".-",
            color=FORECAST,
            lw=1,
            ms=3,
            label="probability of a rise",
        )
        axes.plot(
            times,
            drawn["reference"].to_numpy(),
            "--",
            color=NAIVE,
            lw=1,
            label=reference,
        )
        axes.set(ylim=(-2 * EDGE, 1 + 2 * EDGE), ylabel="probability")
        headline(figure, title)
        figure.legend(loc="outside lower center", ncols=3)
    return figure


def reliability(groups: Sequence[Group], title: str) -> Figure:
    """Draw the share of events against the mean probability of each group; a mark's area is its number of forecasts."""
    with matplotlib.rc_context(PLAIN):
        figure = Figure(figsize=(6, 5), layout="constrained")
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], "--", color=ACTUAL, lw=1, label="as often as forecast")
        most = max((group.forecasts for group in groups), default=1)
        areas = [10 + 60 * group.forecasts / most for group in groups]
        means = [group.mean for group in groups]
        shares = [group.came for group in groups]
        axes.plot(means, shares, color=FORECAST, lw=1)
        axes.scatter(means, shares, s=areas, color=FORECAST, label="tenths of the forecasts")
        axes.set(
            xlim=(0, 1),
            ylim=(0, 1),
            aspect="equal",
            xlabel="mean probability",
            ylabel="share that came",
        )
        axes.legend(loc="upper left")
        headline(figure, title)
    return figure


def future(forecast: pd.DataFrame, column: str, title: str) -> Figure:
    """Draw the probabilities beyond the end of each of the first series; the line is even odds."""
    names: list[object] = [None]
    if "series" in forecast:
        names = list(dict.fromkeys(forecast["series"]))
    if len(names) > PANELS:
        title = f"{title}\nfirst {PANELS} of {len(names)} series"
    with matplotlib.rc_context(PLAIN):
        figure = Figure(figsize=(10, 4.2), layout="constrained")
        axes = figure.add_subplot()
        for name in names[:PANELS]:
            of_series = forecast
            if name is not None:
                of_series = forecast[forecast["series"] == name]
            _draw_future(axes, of_series, column, name)
        axes.axhline(0.5, color=ACTUAL, ls="--", lw=1)
        axes.set(ylim=(0, 1), ylabel="probability of a rise")
        axes.tick_params(axis="x", rotation=30)
        if names != [None]:
            figure.legend(loc="outside lower center", ncols=3)
        headline(figure, title)
    return figure


def _draw_future(axes: Axes, forecast: pd.DataFrame, column: str, name: object) -> None:
    # A colour for each series where there are several.
    color = None
    label = None
    if name is None:
        color = FORECAST
    else:
        label = short(name)
    times = forecast.iloc[:, 0].to_numpy()
    probabilities = forecast[column].to_numpy()
    axes.plot(times, probabilities, ".-", color=color, label=label)
