"""Measured coverage of forecast intervals: overall, by step of the horizon, over series, and in the worst stretch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from jaxseq.data.windows import Windows
from jaxseq.forecasting import metrics
from jaxseq.forecasting.intervals import Bounds
from jaxseq.forecasting.sizes import rows_by_series

STRETCH = 60
"""Consecutive forecasts of a series over which the worst coverage is taken."""


class Coverage(NamedTuple):
    """Coverage of the intervals of one level, at one step of the horizon or (step None) over all steps.

    level     nominal coverage
    step      steps ahead, from 1
    measured  share of the values within their interval
    width     mean width in the series' unit; an interval that has vanished counts as 0
    score     mean interval score in the series' unit
    """

    level: float
    step: int | None
    measured: float
    width: float
    score: float


class Spread(NamedTuple):
    """Spread of the coverage of one level, over series and over time.

    by_series  10th, 50th and 90th percentile of the coverage of each series; None for a single series
    worst      smallest coverage of `STRETCH` consecutive forecasts of a series, mean over the steps of the horizon; None
               where no series has as many, or where the rows are not in time
    """

    level: float
    by_series: tuple[float, float, float] | None
    worst: float | None


def coverage_table(actual: metrics.Values, intervals: Bounds) -> list[Coverage]:
    """Return coverage, width and score of the intervals of each level: over all steps, then one by one.

    Arrays are "n k", in the series' unit; unknown (NaN) actual values count nowhere. Raises `ValueError` with both
    shapes where they differ.
    """
    rows = []
    for level, (low, high) in intervals.items():
        for step in (None, *range(1, actual.shape[1] + 1)):
            columns = slice(None)
            if step is not None:
                columns = slice(step - 1, step)
            part = (actual[:, columns], low[:, columns], high[:, columns])
            # An inverted interval is empty: the point in its middle scores for it.
            middle = (part[1] + part[2]) / 2
            ordered = (part[0], np.minimum(part[1], middle), np.maximum(part[2], middle))
            row = Coverage(
                level=level,
                step=step,
                measured=metrics.coverage(*part),
                width=metrics.interval_width(*part),
                score=metrics.interval_score(*ordered, level),
            )
            rows.append(row)
    return rows


def spread(windows: Windows, intervals: Bounds, in_time: bool) -> list[Spread]:
    """Return the spread of the coverage of each level; `in_time` says whether consecutive rows follow each other."""
    return [_spread(windows, level, ends, in_time) for level, ends in intervals.items()]


def _spread(
    windows: Windows, level: float, ends: tuple[Float[np.ndarray, "n k"], Float[np.ndarray, "n k"]], in_time: bool
) -> Spread:
    inside = metrics.inside(windows.targets, *ends)
    known_steps = ~np.isnan(inside)
    hits = np.where(known_steps, inside, 0).sum(axis=1)
    counts = known_steps.sum(axis=1)

    shares = []
    worst = []
    for rows in rows_by_series(windows.series).values():
        total = counts[rows].sum()
        if total:
            shares.append(hits[rows].sum() / total)
        if in_time:
            in_order = rows[np.argsort(windows.origins[rows], kind="stable")]
            worst.extend(rolling_shares(hits[in_order], counts[in_order]).tolist())

    by_series = None
    if len(shares) > 1:
        tenth, median, ninetieth = np.percentile(shares, [10, 50, 90])
        by_series = (float(tenth), float(median), float(ninetieth))
    return Spread(level, by_series, min(worst, default=None))


def rolling_shares(hits: Float[np.ndarray, " n"], counts: Shaped[np.ndarray, " n"]) -> Float[np.ndarray, " m"]:
    """Return the share of hits in each stretch of `STRETCH` known rows, in their order; none if there are fewer."""
    # Rows without a known value are no forecasts to count.
    is_known = counts > 0
    if np.count_nonzero(is_known) < STRETCH:
        return np.empty(0)
    return _rolling_sums(hits[is_known]) / _rolling_sums(counts[is_known])


def _rolling_sums(values: Shaped[np.ndarray, " n"]) -> Float[np.ndarray, " m"]:
    sums = np.concatenate([[0.0], np.cumsum(values)])
    return sums[STRETCH:] - sums[:-STRETCH]
