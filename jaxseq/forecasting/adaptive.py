"""Adaptive conformal inference: levels that follow the coverage of the forecasts whose values have arrived.

Gibbs & Candès (2021), "Adaptive conformal inference under distribution shift", NeurIPS 34, equation 2: the interval of
time t is the calibration scores' quantile at 1 - α_t, and α_{t+1} = α_t + γ (α - err_t), where err_t is 1 if the value
lay outside. Over T forecasts the share outside differs from α by at most (max(α, 1 - α) + γ) / (γ T), for any series
(proposition 4.1), where α_t stays inside of [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from jaxseq.data.uncut import PartWindows
from jaxseq.data.windows import rows_by_series

GAMMA = 0.01
"""Step size γ: about 100 forecasts until a shift is forgotten."""
KEPT_SCORES = 200
"""Order statistics of the calibration scores that a run keeps for each level and step."""

MOST_PATHS = 64
"""Most paths of a level, one for each series, step and level, that are walked one by one: more of them gain from arrays,
whose operations take about as long as 64 of single numbers."""


def thin(scores: Float[np.ndarray, " m"]) -> tuple[float, ...]:
    """Return `KEPT_SCORES` order statistics of the known scores, at equal shares of them."""
    ordered = np.sort(scores[~np.isnan(scores)])
    numbers = np.arange(1, KEPT_SCORES + 1)
    ranks = np.ceil(numbers * (len(ordered) + 1) / (KEPT_SCORES + 1)).astype(int)
    # With few scores the last rank may lie beyond the largest.
    ranks = np.minimum(ranks, len(ordered))
    return tuple(ordered[ranks - 1].tolist())


def walk(
    scores: Float[np.ndarray, "n k l"],
    *,
    windows: PartWindows,
    levels: Sequence[float],
    order_statistics: Float[np.ndarray, "l k m"],
) -> Float[np.ndarray, "n k l"]:
    """Return the margin of each row, step and level, walking through the rows of each series in time order.

    scores            of the rows; NaN where the target is unknown, which changes nothing
    order_statistics  of the calibration scores, increasing

    The score of a step h is known h rows later: the forecast made at origin o + h is the first that it changes.
    """
    rows_at = _rows_at(windows)
    series, times = rows_at.shape
    count, horizon, _ = scores.shape
    if series * horizon * len(levels) <= MOST_PATHS:
        return _walk_by_path(scores, rows_at, levels, order_statistics)

    nominal = 1 - np.asarray(levels)

    margins = np.empty_like(scores)
    alpha = np.broadcast_to(nominal, (series, horizon, len(levels))).copy()
    # The further row, -1, stands for one that is missing.
    outside = np.full((count + 1, *scores.shape[1:]), np.nan)
    for time in range(times):
        # Step h of the forecast made h rows ago has arrived by now, for every h.
        steps = np.arange(min(horizon, time))
        arrived = rows_at[:, time - 1 - steps]
        surprise = nominal - outside[arrived, steps]
        # An unknown target has neither covered nor missed.
        alpha[:, steps] += GAMMA * np.where(np.isnan(surprise), 0, surprise)
        # Beyond 0 and 1 no interval changes any more, and the way back would be longer.
        np.clip(alpha, 0, 1, out=alpha)

        has_row = rows_at[:, time] >= 0
        rows = rows_at[has_row, time]
        row_scores = scores[rows]
        row_margins = _quantiles(order_statistics, alpha[has_row])
        margins[rows] = row_margins
        missed = (row_scores > row_margins).astype(np.float64)
        outside[rows] = np.where(np.isnan(row_scores), np.nan, missed)
    return margins


def nominal(
    levels: Sequence[float],
    order_statistics: Float[np.ndarray, "l k m"],
) -> Float[np.ndarray, "l k"]:
    """Return the margin of each level and step before any value has moved the levels."""
    alpha = np.broadcast_to(1 - np.asarray(levels), (1, order_statistics.shape[1], len(levels)))
    return _quantiles(order_statistics, alpha)[0].T


def _walk_by_path(
    scores: Float[np.ndarray, "n k l"],
    rows_at: Int[np.ndarray, "s t"],
    levels: Sequence[float],
    order_statistics: Float[np.ndarray, "l k m"],
) -> Float[np.ndarray, "n k l"]:
    """Return the margins of `walk`, one series, step and level after the other."""
    margins = np.empty_like(scores)
    for rows in rows_at:
        has_row = rows >= 0
        for step in range(scores.shape[1]):
            for number, level in enumerate(levels):
                of_path = np.where(has_row, scores[rows, step, number], np.nan)
                path = _path(of_path.tolist(), step, level, order_statistics[number, step].tolist())
                margins[rows[has_row], step, number] = np.array(path)[has_row]
    return margins


def _path(scores: list[float], step: int, level: float, order_statistics: list[float]) -> list[float]:
    """Return the margin at each time; in Python's own numbers, which are faster than arrays of a single one."""
    nominal = 1 - level
    covered = GAMMA * nominal
    missed = GAMMA * (nominal - 1)
    m = len(order_statistics)

    alpha = nominal
    margins: list[float] = []
    for time in range(len(scores)):
        arrived = time - 1 - step
        # An unknown target has neither covered nor missed.
        if arrived >= 0 and scores[arrived] == scores[arrived]:
            alpha += missed if scores[arrived] > margins[arrived] else covered
            alpha = min(max(alpha, 0.0), 1.0)
        # The rank of `_quantiles`, rounded to nine decimals as there.
        rank = math.ceil(round((m + 1) * (1 - alpha) * 1e9) / 1e9)
        margins.append(order_statistics[min(max(rank, 1), m) - 1])
    return margins


def _rows_at(windows: PartWindows) -> Int[np.ndarray, "s t"]:
    """Return the row of each series at each time step from its first forecast on; -1 where there is none."""
    series_rows = list(rows_by_series(windows.series).values())
    series_times = []
    for rows in series_rows:
        origins = windows.origins[rows]
        series_times.append(origins - origins.min())

    last = max(int(times.max()) for times in series_times)
    rows_at = np.full((len(series_rows), last + 1), -1)
    for number, rows in enumerate(series_rows):
        rows_at[number, series_times[number]] = rows
    return rows_at


def _quantiles(
    order_statistics: Float[np.ndarray, "l k m"],
    alpha: Float[np.ndarray, "r k l"],
) -> Float[np.ndarray, "r k l"]:
    """Return the score of rank ⌈(m + 1)(1 - α)⌉ for each α; the smallest or largest where there is none."""
    m = order_statistics.shape[-1]
    # Rounded, so that 201 · 0.05 is read as a decimal.
    exact_ranks = np.round((m + 1) * (1 - alpha), 9)
    ranks = np.ceil(exact_ranks).astype(int)
    ranks = np.clip(ranks, 1, m)

    # Broadcast against the ranks "r k l", each picks from the scores of its step and level.
    steps = np.arange(order_statistics.shape[1])[:, None]
    levels = np.arange(len(order_statistics))
    return order_statistics[levels, steps, ranks - 1]
