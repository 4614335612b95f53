"""Figure of a model's errors: how large they are, what is left in them, and whether the intervals cover."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxseq.common.figures import ACTUAL, FORECAST, NAIVE, PLAIN, annotate_empty, first_step, headline, legend, wrapped
from jaxseq.forecasting.coverage import STRETCH, Coverage, rolling_shares
from jaxseq.forecasting.plots import thinned
from jaxseq.forecasting.predictions import interval_levels

REFERENCE = NAIVE
"""Colour of the forecast that the model is judged against: the last value, unless another one did better in validation."""
BASELINE = "#8a8a8a"
"""Colour of every other forecast but the model: they are named, and no colour stands for one of them."""
STROKES = ("--", "-.", (0, (6, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 1)))
MARKERS = ("s", "^", "D", "v", "P")
"""Strokes and markers that tell the curves of these forecasts apart."""
MODEL_LOOK: dict[str, Any] = {"color": FORECAST, "ls": "-", "lw": 2.6, "zorder": 4}
"""Look of the model's curve: bold, and above all others."""
CHANCE = "#b8b8b8"
"""Colour of a band that chance alone would fill."""
WIDE = 8
"""Ratio of the largest error to the smallest above which errors are drawn on a logarithmic axis."""
NAME_WIDTH = 20
"""Letters of a forecast's name on one line beside its bar."""


def errors(
    scores: pd.DataFrame,
    predictions: pd.DataFrame,
    coverage: list[Coverage],
    unit: str,
    title: str,
) -> Figure:
    """Draw errors by step, what is left in the residuals, and whether the intervals cover as often as they claim.

    scores        forecast, role, step ("all" or from 1), rmse and, of a panel, rmsse; naive first, the model last
    predictions   the model's, of the test part: date (or row), series and step if there are several, actual, forecast,
                  and low_80%, high_80% for each level there is
    coverage      of the model's intervals; the list may be empty

    With a single step, the histogram of its residuals takes the place of the coverage by step.
    """
    # An unknown value has no error and lies in no interval.
    predictions = predictions[predictions["actual"].notna()]
    first = first_step(predictions)
    residuals = first["actual"] - first["forecast"]

    with matplotlib.rc_context(PLAIN):
        figure = Figure(figsize=(10, 12.5), layout="constrained")
        headline(figure, title)
        panels = figure.subplots(3, 2)
        of_steps = scores[scores["step"] != "all"]
        label = f"RMSE, {unit}" if unit else "RMSE"
        error = of_steps["rmse"]
        # In a panel the largest series would hide all others; the verdict is about scaled errors, too.
        if "series" in predictions and "rmsse" in of_steps and of_steps["rmsse"].notna().all():
            label = "RMSSE"
            error = of_steps["rmsse"]
        _draw_error(panels[0, 0], of_steps.assign(error=error), label)
        _draw_residual_autocorrelation(panels[0, 1], first, residuals)
        _draw_calibration(panels[1, 0], [row for row in coverage if row.step is None], len(first))
        if "step" in predictions:
            _draw_coverage_by_step(panels[1, 1], [row for row in coverage if row.step is not None], len(first))
        else:
            _draw_residual_histogram(panels[1, 1], residuals.to_numpy(), unit)
        _draw_pit(panels[2, 0], predictions, len(first))
        if "series" in predictions:
            _draw_coverage_by_series(panels[2, 1], predictions)
        else:
            _draw_rolling_coverage(panels[2, 1], predictions)
    return figure


# Errors and residuals.


def _draw_error(
    axes: Axes,
    scores: pd.DataFrame,
    label: str,
) -> None:
    """Draw the column `error` as bars for one step, as lines for several."""
    names = list(dict.fromkeys(scores["forecast"]))
    reference = names.index(scores.loc[scores["role"] == "reference", "forecast"].iloc[0])

    # A line through one step would be a point.
    if len(scores) == len(names):
        _draw_bars(axes, names, scores["error"], reference)
        axes.set(xlabel=label, title="Error on the test part")
        return
    for number, name in enumerate(names):
        of_forecast = scores[scores["forecast"] == name]
        if number == len(names) - 1:
            axes.plot(of_forecast["step"].astype(int), of_forecast["error"], label=name, **MODEL_LOOK)
        else:
            _draw_line(axes, of_forecast, name, number, reference)
    axes.set(xlabel="step of the horizon", ylabel=label, title="Error by step of the horizon")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(axes, columns=2)


def _draw_bars(
    axes: Axes,
    names: list[str],
    errors: pd.Series,
    reference: int,
) -> None:
    """Draw a bar for each forecast, that of the reference in its colour, that of the model, the last, in the model's."""
    colors = [BASELINE] * len(names)
    colors[reference] = REFERENCE
    colors[-1] = FORECAST
    bars = axes.barh(range(len(names)), errors, color=colors)
    axes.bar_label(bars, fmt="%.4g", padding=3)
    labels = [wrapped(name, NAME_WIDTH) for name in names]
    labels[reference] += "\n(reference)"
    axes.set_yticks(range(len(names)), labels)
    axes.get_yticklabels()[-1].set_fontweight("bold")
    # One poor forecast must not hide the differences of the others.
    if errors.max() > WIDE * errors.min() > 0:
        axes.set_xscale("log")
    axes.margins(x=0.15)
    axes.invert_yaxis()


def _draw_line(
    axes: Axes,
    scores: pd.DataFrame,
    name: str,
    number: int,
    reference: int,
) -> None:
    """Draw the steps of a baseline: the reference dotted and above those that coincide with it."""
    if number == reference:
        name = f"{name} (reference)"
        look: dict[str, Any] = {"color": REFERENCE, "ls": ":", "lw": 1.8, "zorder": 3}
    else:
        stroke = STROKES[number % len(STROKES)]
        marker = MARKERS[number % len(MARKERS)]
        look = {"color": BASELINE, "ls": stroke, "lw": 1.2, "zorder": 2, "marker": marker, "ms": 4}
    axes.plot(scores["step"].astype(int), scores["error"], label=name, **look)


def _draw_residual_autocorrelation(
    axes: Axes,
    first: pd.DataFrame,
    residuals: pd.Series,
) -> None:
    """Draw the autocorrelation of the first step's residuals; the mean over series that are not shorter than most."""
    axes.set_title("Residuals of the first step: autocorrelation")
    if "date" not in first:
        annotate_empty(axes, "not in time: these rows have no dates")
        return

    by_series = _by_series(first, residuals)
    n = int(np.median([len(values) for values in by_series]))
    lags = np.arange(1, min(20, n // 4) + 1)
    if not len(lags):
        annotate_empty(axes, f"{n} rows; at least 4 are needed")
        return
    long_enough = []
    for values in by_series:
        is_constant = np.std(values) <= 1e-12 * np.abs(values).max()
        # A short series would add noise, a constant one 0 / 0.
        if len(values) >= n and not is_constant:
            long_enough.append(values)
    if not long_enough:
        annotate_empty(axes, "the residuals are constant")
        return

    band = 1.96 / np.sqrt(n)
    band_label = f"±1.96/√n, n = {n}"
    bar_label = None
    if len(by_series) > 1:
        band_label = f"{band_label} of each series"
        bar_label = f"mean of {len(long_enough)} of {len(by_series)} series"
    autocorrelation = np.mean([_autocorrelation(values, len(lags)) for values in long_enough], axis=0)
    axes.axhspan(-band, band, color=CHANCE, alpha=0.4, lw=0, label=band_label)
    axes.bar(lags, autocorrelation, 0.5, color=FORECAST, label=bar_label)
    axes.axhline(0, color=ACTUAL, lw=0.8)
    axes.set(xlabel="lag, rows", ylabel="autocorrelation")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(axes)


def _by_series(
    frame: pd.DataFrame,
    values: pd.Series,
) -> list[np.ndarray]:
    """Return the values of each series, in the order of their rows."""
    if "series" not in frame:
        return [values.to_numpy()]
    return [of_series.to_numpy() for _, of_series in values.groupby(frame["series"], sort=False, observed=True)]


def _autocorrelation(
    values: Float[np.ndarray, " n"],
    lags: int,
) -> Float[np.ndarray, " l"]:
    """Return Σ c_t c_{t-j} / Σ c_t² for j = 1 … `lags`, c the deviations from the mean: Box & Jenkins (1970), 2.1."""
    deviations = values - np.mean(values)
    products = [deviations[lag:] @ deviations[:-lag] for lag in range(1, lags + 1)]
    return np.array(products) / (deviations @ deviations)


def _draw_residual_histogram(
    axes: Axes,
    residuals: Float[np.ndarray, " n"],
    unit: str,
) -> None:
    mean = float(np.mean(residuals))
    mean_label = f"mean {mean:+z.3g}"
    axis_label = "actual - forecast"
    if unit:
        mean_label = f"{mean_label} {unit}"
        axis_label = f"{axis_label}, {unit}"
    axes.hist(residuals, bins=int(np.clip(np.sqrt(len(residuals)), 5, 50)), color=FORECAST, alpha=0.7)
    axes.axvline(0, color=BASELINE, lw=1)
    axes.axvline(mean, color=ACTUAL, ls="--", lw=1.5, label=mean_label)
    axes.set(xlabel=axis_label, ylabel="forecasts", title="Residuals")
    legend(axes)


# Coverage.


def _draw_calibration(
    axes: Axes,
    coverage: list[Coverage],
    n: int,
) -> None:
    axes.set_title("Coverage of the intervals, over all steps")
    if not coverage:
        annotate_empty(axes, "no intervals")
        return
    nominal = np.linspace(0.001, 0.999, 500)
    low, high = 100 * _chance(nominal, n)
    axes.fill_between(100 * nominal, low, high, color=CHANCE, alpha=0.4, lw=0, label=f"95 % binomial, n = {n}")
    axes.plot([0, 100], [0, 100], "--", color=ACTUAL, lw=1, label="nominal")

    levels = [100 * row.level for row in coverage]
    measured = [100 * row.measured for row in coverage]
    axes.plot(levels, measured, "o-", color=FORECAST, ms=5, label="measured")
    axes.set(xlabel="nominal coverage, %", ylabel="measured coverage, %", xlim=(-3, 103), ylim=(-3, 103))
    legend(axes)


def _draw_coverage_by_step(
    axes: Axes,
    coverage: list[Coverage],
    n: int,
) -> None:
    """Draw the coverage of the 80 % intervals, or of the widest there are."""
    if not coverage:
        axes.set_title("Coverage by step of the horizon")
        annotate_empty(axes, "no intervals")
        return
    level = _shown_level([row.level for row in coverage])
    measured = {row.step: 100 * row.measured for row in coverage if row.level == level and row.step is not None}
    low, high = 100 * _chance(level, n)
    axes.axhspan(low, high, color=CHANCE, alpha=0.4, lw=0, label=f"95 % binomial, n = {n}")
    axes.axhline(100 * level, color=ACTUAL, ls="--", lw=1, label="nominal")
    axes.plot(list(measured), list(measured.values()), "o-", color=FORECAST, label="measured")
    axes.set(xlabel="step of the horizon", ylabel="measured coverage, %")
    axes.set_title(f"Coverage of the {level:.0%} intervals by step of the horizon")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(axes)


def _shown_level(levels: Sequence[float]) -> float:
    if 0.8 in levels:
        return 0.8
    return max(levels)


def _chance(
    share: float | np.ndarray,
    n: int,
) -> np.ndarray:
    """Return the low and the high end of the share of n independent forecasts in 95 % of all cases: binomial."""
    # scipy.stats takes most of a second to import.
    from scipy.stats import binom

    return np.stack([binom.ppf(tail, n, share) for tail in (0.025, 0.975)]) / n


def _draw_pit(
    axes: Axes,
    predictions: pd.DataFrame,
    n: int,
) -> None:
    """Draw the histogram of the probability integral transform, a bin between each two quantiles.

    The distribution is that of the intervals, with the forecast as its median. Flat bins are calibrated; high outer bins
    mean intervals that are too narrow (Gneiting, Balabdaoui & Raftery 2007, JRSS B 69(2), section 3.1).
    """
    axes.set_title("PIT histogram, over all steps")
    levels = interval_levels(predictions)
    if not levels or predictions.empty:
        annotate_empty(axes, "no intervals")
        return

    edges, shares = pit_shares(predictions)
    widths = np.diff(edges)
    low, high = _chance(widths, n)
    # Bins have different widths: their area is their share.
    axes.bar(edges[:-1], shares / widths, widths, align="edge", color=FORECAST, alpha=0.7, ec="white", label="measured")
    axes.stairs(high / widths, edges, baseline=low / widths, fill=True, color=CHANCE, alpha=0.4, label=f"95 %, n = {n}")
    axes.axhline(1, color=ACTUAL, ls="--", lw=1, label="calibrated")
    axes.set(xlabel="probability integral transform", ylabel="density", xlim=(0, 1))
    legend(axes)


def pit_shares(predictions: pd.DataFrame) -> tuple[Float[np.ndarray, " e"], Float[np.ndarray, " b"]]:
    """Return the levels between which the intervals' quantiles lie, from 0 to 1, and the share of values in each bin.

    A value on a quantile lies in the bin above it.
    """
    widest_first = interval_levels(predictions)
    columns = [f"low_{level}%" for level in widest_first]
    columns += ["forecast", *(f"high_{level}%" for level in widest_first[::-1])]
    tails = [(1 - level / 100) / 2 for level in widest_first]
    edges = np.array([0, *tails, 0.5, *(1 - tail for tail in tails[::-1]), 1])

    # The centre of a distribution may lie outside of its narrowest interval.
    quantiles = np.sort(predictions[columns].to_numpy(), axis=1)
    bins = np.sum(quantiles <= predictions["actual"].to_numpy()[:, None], axis=1)
    return edges, np.bincount(bins, minlength=len(edges) - 1) / len(predictions)


def _draw_rolling_coverage(
    axes: Axes,
    predictions: pd.DataFrame,
) -> None:
    """Draw the coverage over stretches of consecutive forecasts; the lowest point is the worst stretch."""
    axes.set_title(f"Coverage over {STRETCH} forecasts")
    levels = interval_levels(predictions)
    if not levels:
        annotate_empty(axes, "no intervals")
        return
    steps = 1
    if "step" in predictions:
        steps = int(predictions["step"].max())
    time = predictions.columns[0]
    if time != "date":
        annotate_empty(axes, "not in time: these rows have no dates")
        return

    drawn = False
    for number, level in enumerate(sorted(levels)):
        covered = _covered(predictions, level)
        hits, counts, dates = _by_forecast(predictions, covered, steps)
        # Levels share their rows: where one has no stretch, none has.
        shares = rolling_shares(hits, counts)
        if not len(shares):
            break
        drawn = True
        curve = thinned(pd.DataFrame({"date": dates[STRETCH - 1 :], "share": shares}))
        shade = 1 - 0.3 * (len(levels) - 1 - number)
        axes.plot(
            curve["date"], 100 * curve["share"], color=FORECAST, alpha=shade, lw=1.3, label=f"{level} % intervals"
        )
        axes.axhline(level, color=ACTUAL, ls="--", lw=0.8)
    if not drawn:
        annotate_empty(axes, f"fewer than {STRETCH} forecasts")
        return
    axes.set(ylabel="measured coverage, %", ylim=(None, 103))
    # More ticks than this run into each other in half a page.
    # With the default of at least 5 ticks, no interval fits ranges of some months, or of some years.
    locator = AutoDateLocator(minticks=2, maxticks=6)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    legend(axes)


def _covered(
    predictions: pd.DataFrame,
    level: int,
) -> pd.Series:
    return predictions["actual"].between(predictions[f"low_{level}%"], predictions[f"high_{level}%"])


def _by_forecast(
    predictions: pd.DataFrame,
    covered: pd.Series,
    steps: int,
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"], np.ndarray]:
    """Return the covered and the known steps of each forecast, and the date of its first step there is."""
    if steps == 1:
        return covered.to_numpy(float), np.ones(len(covered)), predictions["date"].to_numpy()
    # Each forecast begins where the step falls.
    number = np.cumsum(np.diff(predictions["step"].to_numpy(), prepend=steps + 1) <= 0)
    groups = covered.groupby(number)
    dates = predictions["date"].groupby(number).first()
    return groups.sum().to_numpy(float), groups.size().to_numpy(float), dates.to_numpy()


def _draw_coverage_by_series(
    axes: Axes,
    predictions: pd.DataFrame,
) -> None:
    """Draw the coverage of each series at each level, from the worst covered series to the best."""
    axes.set_title("Coverage by series")
    levels = interval_levels(predictions)
    if not levels:
        annotate_empty(axes, "no intervals")
        return
    for number, level in enumerate(sorted(levels)):
        shares = (
            _covered(predictions, level).groupby(predictions["series"], observed=True).mean().sort_values().to_numpy()
        )
        shade = 1 - 0.3 * (len(levels) - 1 - number)
        percent = 100 * np.arange(1, len(shares) + 1) / len(shares)
        axes.plot(percent, 100 * shares, ".-", color=FORECAST, alpha=shade, lw=1.3, ms=4, label=f"{level} % intervals")
        axes.axhline(level, color=ACTUAL, ls="--", lw=0.8)
    axes.set(xlabel="share of the series covered at most so often, %", ylabel="measured coverage, %", ylim=(-3, 103))
    legend(axes)
