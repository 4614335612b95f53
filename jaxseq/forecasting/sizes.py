"""Sizes that forecast errors grow with: one number for each row, known when its forecast is made.

Conformal scores are errors divided by a size, and the interval of a new row is a quantile of the scores times the size
of that row (Lei, G'Sell, Rinaldo, Tibshirani & Wasserman 2018, "Distribution-free predictive inference for regression",
JASA 113(523), section 5.2). Coverage then holds for any size; a size that the errors do grow with makes the intervals
narrow where errors are small. All sizes are in the model's own scale, see `jaxseq.data.scaling.Scaling`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float

from jaxseq.data.scaling import Scaling
from jaxseq.data.windows import Series, Windows, rows_by_series

Size = Literal["split", "scaled", "volatility"]
"""Size of a row: 1; the last value, or in a panel the mean absolute error of its series; the recent volatility."""
DECAY = 0.94
"""Weight of a squared change relative to the next one: RiskMetrics' for daily data (J.P. Morgan 1996, section 5.3)."""


def last_value(
    windows: Windows,
    scaling: Scaling,
) -> Float[np.ndarray, " n"]:
    """Return the absolute last value of each window; for targets that are relative to it already, 1."""
    if scaling.transform.relative:
        return np.ones(len(windows.inputs))
    return np.abs(windows.inputs[:, -1]) / np.asarray(scaling.scale)[windows.series]


def volatility(
    windows: Windows,
    scaling: Scaling,
    series: Sequence[Series] = (),
) -> Float[np.ndarray, " n"]:
    """Return the root of the exponentially weighted mean of the squared one-step changes before each forecast.

    σ² = Σ λ^i c²_{-i} / Σ λ^i over the known changes c_{-i}, the latest with i = 0, and λ = `DECAY`. They are those of
    the series' rows before each window's origin, or of the window's inputs where `series` is empty. A change next to an
    unknown value is unknown. NaN where no change is known.
    """
    if not series:
        return _window_volatility(windows, scaling)

    scale = np.asarray(scaling.scale)
    sizes = np.full(len(windows.inputs), np.nan)
    for number, rows in rows_by_series(windows.series).items():
        values = series[number].values[None]
        changes = _changes(values, scaling)[0] / scale[number]
        after_each_change = _running_volatility(changes)
        # The change to the last known value, at origin - 1, has the index origin - 2.
        latest = windows.origins[rows] - 2
        volatilities = after_each_change[np.maximum(latest, 0)]
        sizes[rows] = np.where(latest >= 0, volatilities, np.nan)
    return sizes


def _window_volatility(
    windows: Windows,
    scaling: Scaling,
) -> Float[np.ndarray, " n"]:
    """Return the volatility of each window's inputs alone."""
    scale = np.asarray(scaling.scale)[windows.series]
    changes = _changes(windows.inputs, scaling) / scale[:, None]
    ages = np.arange(changes.shape[1])[::-1]
    weights = np.where(np.isnan(changes), 0, DECAY**ages)

    sums = np.nansum(weights * changes**2, axis=1)
    weight_sums = weights.sum(axis=1)
    # Windows without a known change stay NaN, without a warning about 0 / 0.
    means = np.full(len(sums), np.nan)
    np.divide(sums, weight_sums, out=means, where=weight_sums > 0)
    return np.sqrt(means)


def _changes(
    values: Float[np.ndarray, "n t"],
    scaling: Scaling,
) -> Float[np.ndarray, "n _"]:
    """Return one-step changes of what the forecast errors grow with, such as log-returns."""
    return np.diff(scaling.transform.path(values), axis=1)


def _running_volatility(changes: Float[np.ndarray, " t"]) -> Float[np.ndarray, " t"]:
    """Return the volatility after each change, from the changes up to and including it."""
    # `adjust` divides by the sum of the weights, `ignore_na` lets an unknown change leave the estimate unchanged.
    squares = pd.Series(changes**2)
    means = squares.ewm(alpha=1 - DECAY, adjust=True, ignore_na=True).mean()
    return np.sqrt(means.to_numpy())


def mean_absolute_errors(
    errors: Float[np.ndarray, "n k"],
    windows: Windows,
    series: int,
) -> Float[np.ndarray, " s"]:
    """Return the mean absolute error of each of `series` series, drawn towards that of all rows.

    The mean of all rows counts as one further row of each series, so that few rows give no extreme size, and a series
    without rows has the size of all. NaN where no error is known.
    """
    absolute = np.abs(errors)
    known_steps = np.isfinite(absolute)
    step_counts = known_steps.sum(axis=1)
    has_error = step_counts > 0
    if not np.any(has_error):
        return np.full(series, np.nan)

    # Rows count once whatever their horizon: their steps are not independent.
    sums = np.where(known_steps, absolute, 0).sum(axis=1)
    row_means = sums[has_error] / step_counts[has_error]
    row_series = windows.series[has_error]

    overall = row_means.mean()
    totals = np.bincount(row_series, weights=row_means, minlength=series)
    row_counts = np.bincount(row_series, minlength=series)
    return (totals + overall) / (row_counts + 1)
