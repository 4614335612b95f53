"""Adaptive conformal inference: levels that follow the coverage of the forecasts whose values have arrived.

Gibbs & Candès (2021), "Adaptive conformal inference under distribution shift", NeurIPS 34, equation 2: the interval of
time t is the calibration scores' quantile at 1 - α_t, and α_{t+1} = α_t + γ (α - err_t), where err_t is 1 if the value
lay outside. Over T forecasts the share outside differs from α by at most (max(α, 1 - α) + γ) / (γ T), for any series
(proposition 4.1), where α_t stays inside of [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from jaxseq.data.windows import Windows
from jaxseq.forecasting.sizes import rows_by_series

GAMMA = 0.01
"""Step size γ: about 100 forecasts until a shift is forgotten."""
KEPT_SCORES = 200
"""Order statistics of the calibration scores that a run keeps for each level and step."""


def thin(scores: Float[np.ndarray, " m"]) -> tuple[float, ...]:
    """Return `KEPT_SCORES` order statistics of the known scores, at equal shares of them."""
    ordered = np.sort(scores[~np.isnan(scores)])
    ranks = np.ceil(np.arange(1, KEPT_SCORES + 1) * (len(ordered) + 1) / (KEPT_SCORES + 1))
    return tuple(ordered[np.minimum(ranks.astype(int), len(ordered)) - 1].tolist())


def walk(
    scores: Float[np.ndarray, "n k l"],
    *,
    windows: Windows,
    levels: Sequence[float],
    order_statistics: Float[np.ndarray, "l k m"],
) -> Float[np.ndarray, "n k l"]:
    """Return the margin of each row, step and level, walking through the rows of each series in time order.

    scores            of the rows; NaN where the target is unknown, which changes nothing
    order_statistics  of the calibration scores, increasing

    The score of a step h is known h rows later: the forecast made at origin o + h is the first that it changes.
    """
    rows_at = _rows_at(windows)
    count, horizon, _ = scores.shape
    margins = np.empty_like(scores)
    # The further row, -1, stands for one that is missing.
    outside = np.full((count + 1, *scores.shape[1:]), np.nan)

    nominal = 1 - np.asarray(levels)
    alpha = np.broadcast_to(nominal, (len(rows_at), horizon, len(levels))).copy()
    for position in range(rows_at.shape[1]):
        steps = np.arange(min(horizon, position))
        arrived = rows_at[:, position - 1 - steps]
        surprise = nominal - outside[arrived, steps]
        # An unknown target has neither covered nor missed.
        alpha[:, steps] += GAMMA * np.where(np.isnan(surprise), 0, surprise)
        # Beyond 0 and 1 no interval changes any more, and the way back would be longer.
        np.clip(alpha, 0, 1, out=alpha)

        present = rows_at[:, position] >= 0
        rows = rows_at[present, position]
        margins[rows] = _quantiles(order_statistics, alpha[present])
        missed = (scores[rows] > margins[rows]).astype(np.float64)
        outside[rows] = np.where(np.isnan(scores[rows]), np.nan, missed)
    return margins


def _rows_at(windows: Windows) -> Int[np.ndarray, "s t"]:
    """Return the row of each series at each time step from its first forecast on; -1 where there is none."""
    series_rows = rows_by_series(windows.series).values()
    positions = [windows.origins[rows] - windows.origins[rows].min() for rows in series_rows]
    last = max(int(steps.max()) for steps in positions)
    rows_at = np.full((len(positions), last + 1), -1)
    for number, (rows, steps) in enumerate(zip(series_rows, positions, strict=True)):
        rows_at[number, steps] = rows
    return rows_at


def _quantiles(
    order_statistics: Float[np.ndarray, "l k m"],
    alpha: Float[np.ndarray, "r k l"],
) -> Float[np.ndarray, "r k l"]:
    """Return the score of rank ⌈(m + 1)(1 - α)⌉ for each α; the smallest or largest where there is none."""
    m = order_statistics.shape[-1]
    # Rounded, so that 201 · 0.05 is read as a decimal.
    ranks = np.ceil(np.round((m + 1) * (1 - alpha), 9)).astype(int)
    ranks = np.clip(ranks, 1, m) - 1
    steps = np.arange(order_statistics.shape[1])[:, None]
    levels = np.arange(len(order_statistics))
    return order_statistics[levels, steps, ranks]
