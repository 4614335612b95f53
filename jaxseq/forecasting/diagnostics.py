"""How wrong forecasts are, what is left in their residuals, and whether their intervals cover what they say."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxseq.common.figures import ACTUAL, FORECAST, NAIVE, PLAIN, annotate_empty, first_step, headline, legend, wrapped
from jaxseq.forecasting.coverage import Coverage

BASELINE = "#8a8a8a"
"""Colour of every forecast between the naive one and the model: they are named, and no colour stands for one of them."""
STROKES = ("--", "-.", (0, (6, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 1)))
MARKERS = ("s", "^", "D", "v", "P")
"""Strokes and markers that tell the curves of these forecasts apart."""
CHANCE = "#b8b8b8"
"""Colour of a band that chance alone would fill."""
NAME_WIDTH = 20
"""Letters of a forecast's name on one line beside its bar."""


def errors(scores: pd.DataFrame, predictions: pd.DataFrame, coverage: list[Coverage], unit: str, title: str) -> Figure:
    """Errors by step, what is left in the residuals, and whether the intervals cover as often as they say.

    scores        forecast, step ("all" or from 1), rmse: the naive forecast first, the model last
    predictions   the model's, of the test part: date (or row), series and step if there are several, actual, forecast
    coverage      of the model's intervals; the list may be empty

    With a single step, its residuals' histogram stands where the coverage by step would.
    """
    first = first_step(predictions)
    residuals = first["actual"] - first["forecast"]
    with matplotlib.rc_context(PLAIN):
        figure = Figure(figsize=(10, 8.5), layout="constrained")
        (by_step, autocorrelation), (calibration, last) = figure.subplots(2, 2)
        headline(figure, title)
        _rmse(by_step, scores[scores["step"] != "all"], unit)
        _residual_autocorrelation(autocorrelation, first, residuals)
        _calibration(calibration, [row for row in coverage if row.step is None], len(first))
        if "step" in predictions:
            _coverage_by_step(last, [row for row in coverage if row.step is not None], len(first))
        else:
            _residual_histogram(last, residuals.to_numpy(), unit)
    return figure


def _rmse(axes: Axes, scores: pd.DataFrame, unit: str) -> None:
    """Bars for one step, lines for several."""
    names = list(dict.fromkeys(scores["forecast"]))
    label = f"RMSE, {unit}" if unit else "RMSE"
    if len(scores) == len(names):
        _bars(axes, names, scores["rmse"])
        axes.set(xlabel=label, title="Error on the test part")
    else:
        for number, name in enumerate(names):
            _line(axes, scores[scores["forecast"] == name], name, number, last=len(names) - 1)
        axes.set(xlabel="step of the horizon", ylabel=label, title="Error by step of the horizon")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        legend(axes, columns=2)


def _bars(axes: Axes, names: list[str], rmse: pd.Series) -> None:
    colors = [NAIVE, *[BASELINE] * (len(names) - 2), FORECAST]
    axes.bar_label(axes.barh(range(len(names)), rmse, color=colors), fmt="%.4g", padding=3)
    axes.set_yticks(range(len(names)), [wrapped(name, NAME_WIDTH) for name in names])
    axes.get_yticklabels()[-1].set_fontweight("bold")
    axes.margins(x=0.15)
    axes.invert_yaxis()


def _line(axes: Axes, scores: pd.DataFrame, name: str, number: int, last: int) -> None:
    """The model, the last one, is bold; the naive forecast, the first, is dotted and above those that coincide with it."""
    if number == last:
        look: dict[str, Any] = {"color": FORECAST, "ls": "-", "lw": 2.6, "zorder": 4}
    elif number == 0:
        look = {"color": NAIVE, "ls": ":", "lw": 1.8, "zorder": 3}
    else:
        stroke = STROKES[(number - 1) % len(STROKES)]
        marker = MARKERS[(number - 1) % len(MARKERS)]
        look = {"color": BASELINE, "ls": stroke, "lw": 1.2, "zorder": 2, "marker": marker, "ms": 4}
    axes.plot(scores["step"].astype(int), scores["rmse"], label=name, **look)


def _residual_autocorrelation(axes: Axes, first: pd.DataFrame, residuals: pd.Series) -> None:
    """Autocorrelation of the residuals of the first step; the mean over the series that are not shorter than most."""
    axes.set_title("Residuals of the first step: autocorrelation")
    if "date" not in first:
        return annotate_empty(axes, "not in time: these rows have no dates")
    names = first["series"] if "series" in first else np.zeros(len(first))
    residuals_by_series = [values.to_numpy() for _, values in residuals.groupby(names, sort=False)]
    n = int(np.median([len(values) for values in residuals_by_series]))
    lags = np.arange(1, min(20, n // 4) + 1)
    long_enough = [v for v in residuals_by_series if len(v) >= n and np.std(v) > 1e-12 * np.abs(v).max()]
    if not long_enough or not len(lags):
        return annotate_empty(axes, "the residuals are constant" if len(lags) else f"{n} rows; at least 4 are needed")
    autocorrelation = np.mean([_autocorrelation(values, len(lags)) for values in long_enough], axis=0)
    band, of = 1.96 / np.sqrt(n), "" if len(residuals_by_series) == 1 else " of each series"
    axes.axhspan(-band, band, color=CHANCE, alpha=0.4, lw=0, label=f"±1.96/√n, n = {n}{of}")
    axes.bar(
        lags,
        autocorrelation,
        0.5,
        color=FORECAST,
        label=f"mean of {len(long_enough)} of {len(residuals_by_series)} series" if of else None,
    )
    axes.axhline(0, color=ACTUAL, lw=0.8)
    axes.set(xlabel="lag, rows", ylabel="autocorrelation")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(axes)


def _autocorrelation(values: np.ndarray, lags: int) -> np.ndarray:
    """Σ c_t c_{t-j} / Σ c_t² for j = 1 … `lags`, c the deviations from the mean: Box & Jenkins (1970), section 2.1."""
    c = values - np.mean(values)
    return np.array([c[lag:] @ c[:-lag] for lag in range(1, lags + 1)]) / (c @ c)


def _calibration(axes: Axes, coverage: list[Coverage], n: int) -> None:
    axes.set_title("Coverage of the intervals, over all steps")
    if not coverage:
        return annotate_empty(axes, "no intervals")
    nominal = np.linspace(0.001, 0.999, 500)
    label = f"95 % binomial, n = {n}"
    axes.fill_between(100 * nominal, *_chance(nominal, n), color=CHANCE, alpha=0.4, lw=0, label=label)
    axes.plot([0, 100], [0, 100], "--", color=ACTUAL, lw=1, label="nominal")
    nominal, measured = [100 * row.level for row in coverage], [100 * row.measured for row in coverage]
    axes.plot(nominal, measured, "o-", color=FORECAST, ms=5, label="measured")
    axes.set(xlabel="nominal coverage, %", ylabel="measured coverage, %", xlim=(-3, 103), ylim=(-3, 103))
    legend(axes)


def _coverage_by_step(axes: Axes, coverage: list[Coverage], n: int) -> None:
    """Of the 80 % intervals, or of the widest there are."""
    if not coverage:
        axes.set_title("Coverage by step of the horizon")
        return annotate_empty(axes, "no intervals")
    levels = {row.level for row in coverage}
    level = 0.8 if 0.8 in levels else max(levels)
    measured = {row.step: 100 * row.measured for row in coverage if row.level == level and row.step is not None}
    axes.axhspan(*_chance(level, n), color=CHANCE, alpha=0.4, lw=0, label=f"95 % binomial, n = {n}")
    axes.axhline(100 * level, color=ACTUAL, ls="--", lw=1, label="nominal")
    axes.plot(list(measured), list(measured.values()), "o-", color=FORECAST, label="measured")
    axes.set(xlabel="step of the horizon", ylabel="measured coverage, %")
    axes.set_title(f"Coverage of the {level:.0%} intervals by step of the horizon")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(axes)


def _chance(level: float | np.ndarray, n: int) -> np.ndarray:
    """Low and high end, in percent, of the coverage of n independent forecasts in 95 % of all cases: binomial."""
    from scipy.stats import binom  # here: scipy.stats takes most of a second to import

    return np.stack([binom.ppf(tail, n, level) for tail in (0.025, 0.975)]) * 100 / n


def _residual_histogram(axes: Axes, residuals: np.ndarray, unit: str) -> None:
    mean = float(np.mean(residuals))
    suffix = f" {unit}" if unit else ""
    axes.hist(residuals, bins=int(np.clip(np.sqrt(len(residuals)), 5, 50)), color=FORECAST, alpha=0.7)
    axes.axvline(0, color=BASELINE, lw=1)
    axes.axvline(mean, color=ACTUAL, ls="--", lw=1.5, label=f"mean {mean:+.3g}{suffix}")
    axes.set(xlabel=f"actual - forecast,{suffix}" if unit else "actual - forecast", ylabel="forecasts")
    axes.set_title("Residuals")
    legend(axes)
