"""Sizes that forecast errors grow with: one number for each row, known when its forecast is made.

Conformal scores are errors divided by a size, and the interval of a new row is a quantile of the scores times the size
of that row (Lei, G'Sell, Rinaldo, Tibshirani & Wasserman 2018, "Distribution-free predictive inference for regression",
JASA 113(523), section 5.2). Coverage then holds for any size; a size that the errors do grow with makes the intervals
narrow where errors are small. All sizes are in the model's own scale, see `jaxseq.data.scaling.Scaling`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float

from jaxseq.common.arrays import Arrays, namespace
from jaxseq.data.powers import NONE
from jaxseq.data.scaling import Scaling, rows_at_once
from jaxseq.data.transforms import Transform
from jaxseq.data.uncut import PartWindows
from jaxseq.data.windows import LAST_VALUE, Series, Windows, rows_by_series

Size = Literal["split", "scaled", "volatility"]
"""Size of a row: 1; the last value, or in a panel the mean absolute error of its series; the recent volatility."""
VALUES_AT_ONCE = 2**20
"""Most values of several series whose volatility is computed together."""
DECAY = 0.94
"""Weight of a squared change relative to the next one: RiskMetrics' for daily data (J.P. Morgan 1996, section 5.3)."""


def of_values(size: Size, values: Arrays, transform: Transform, scale: Arrays) -> Arrays:
    """Return the size of each row, "n", by its last values "n t" and the scale of its series, "n 1" or "1 1".

    The volatility is NaN where no change is known. Sizes of series are not among them.
    """
    if size == "volatility":
        changes = namespace(values).divide(_changes(values, transform), scale)
        return _volatility_of(changes)
    last = values[:, -1]
    # Targets that are relative to the last value are so already.
    if size == "split" or transform.relative:
        return namespace(values).ones_like(last)
    return namespace(values).abs(last) / scale[:, 0]


def last_value(
    windows: PartWindows,
    scaling: Scaling,
    scale: Float[np.ndarray, "n 1"],
) -> Float[np.ndarray, " n"]:
    """Return the absolute last value of each window; for targets that are relative to it already, 1."""
    # Errors of a power do not grow with the level.
    if scaling.power != NONE:
        return np.ones(len(windows.origins))
    return of_values("scaled", windows.values_ago(LAST_VALUE), scaling.transform, scale)


def volatility(
    windows: PartWindows,
    scaling: Scaling,
    series: Sequence[Series],
    scale: Float[np.ndarray, "n 1"],
) -> Float[np.ndarray, " n"]:
    """Return the root of the exponentially weighted mean of the squared one-step changes before each forecast.

    σ² = Σ λ^i c²_{-i} / Σ λ^i over the known changes c_{-i}, the latest with i = 0, and λ = `DECAY`. They are those of
    the series' rows before each window's origin, or of the window's inputs where `series` is empty. A change next
    to an unknown value is unknown. NaN where no change is known. `scale` is that of each window.
    """
    if not series:
        pieces = windows.pieces(rows_at_once(windows, scaling))
        return np.concatenate([_volatility_of_inputs(piece, scaling) for piece in pieces])

    of_series = np.asarray(scaling.scale)
    sizes = np.full(len(windows.origins), np.nan)
    rows_of = rows_by_series(windows.series)
    for numbers in _in_blocks({number: len(series[number].values) for number in rows_of}):
        changes = []
        for number in numbers:
            values = scaling.bent(series[number].values[None], np.array([number]))
            changes.append(_changes(values, scaling.transform)[0] / of_series[number])
        for number, after_each_change in zip(numbers, _running_volatilities(changes), strict=True):
            rows = rows_of[number]
            # The change to the last known value, at origin - 1, has the index origin - 2.
            latest = windows.origins[rows] - 2
            volatilities = after_each_change[np.maximum(latest, 0)]
            sizes[rows] = np.where(latest >= 0, volatilities, np.nan)
    # A window with a scale of its own is divided by that, once its volatility is known.
    return sizes / (scale[:, 0] / of_series[windows.series])


def _in_blocks(lengths: Mapping[int, int]) -> Iterator[list[int]]:
    """Yield the numbers of series in blocks that have at most `VALUES_AT_ONCE` values when they are filled up."""
    block: list[int] = []
    longest = 0
    for number, length in lengths.items():
        longest = max(longest, length)
        if block and longest * (len(block) + 1) > VALUES_AT_ONCE:
            yield block
            block = []
            longest = length
        block.append(number)
    if block:
        yield block


def _volatility_of_inputs(windows: Windows, scaling: Scaling) -> Float[np.ndarray, " n"]:
    values = scaling.bent(windows.inputs, windows.series)
    return of_values("volatility", values, scaling.transform, scaling.of_rows(windows)[1])


def _volatility_of(changes: Arrays) -> Arrays:
    """Return the volatility by the changes "n t" of each row alone."""
    arrays = namespace(changes)
    is_known = ~arrays.isnan(changes)
    ages = arrays.arange(changes.shape[1], dtype=changes.dtype)[::-1]
    weights = arrays.where(is_known, DECAY**ages, 0.0)
    squares = arrays.where(is_known, changes, 0.0) ** 2

    sums = (weights * squares).sum(axis=1)
    weight_sums = weights.sum(axis=1)
    # Rows without a known change are NaN, without a warning about 0 / 0.
    has_change = weight_sums > 0
    means = sums / arrays.where(has_change, weight_sums, 1.0)
    return arrays.where(has_change, arrays.sqrt(means), arrays.nan)


def _changes(values: Arrays, transform: Transform) -> Arrays:
    """Return one-step changes "n t-1" of what the forecast errors grow with, such as log-returns."""
    path = transform.path(values)
    return namespace(values).asarray(path[:, 1:] - path[:, :-1])


def _running_volatilities(changes: Sequence[Float[np.ndarray, "_"]]) -> Iterator[Float[np.ndarray, "_"]]:
    """Yield the volatility of each series after each change, from the changes up to and including it."""
    longest = max(len(of_series) for of_series in changes)
    # Filled up at their beginning, where unknown changes leave no trace.
    squares = np.full((longest, len(changes)), np.nan)
    for column, of_series in enumerate(changes):
        squares[longest - len(of_series) :, column] = of_series**2
    # `adjust` divides by the sum of the weights, `ignore_na` lets an unknown change leave the estimate unchanged.
    means = pd.DataFrame(squares).ewm(alpha=1 - DECAY, adjust=True, ignore_na=True).mean()
    roots = np.sqrt(means.to_numpy())
    for column, of_series in enumerate(changes):
        yield roots[longest - len(of_series) :, column]


def mean_absolute_errors(
    errors: Float[np.ndarray, "n k"],
    windows: PartWindows,
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
