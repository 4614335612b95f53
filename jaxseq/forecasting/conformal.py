"""Split conformal intervals, whose coverage holds for any forecast and any distribution.

The width of an interval comes from the residuals of m calibration rows, which the model was neither fitted on nor
chosen by. If the calibration rows and the new one are exchangeable, the interval covers with a probability of at least
`level`, and of ⌈(m + 1) level⌉ / (m + 1) exactly where no two residuals are equal: Vovk, Gammerman & Shafer (2005),
Algorithmic Learning in a Random World; Lei, G'Sell, Rinaldo, Tibshirani & Wasserman (2018), "Distribution-free
predictive inference for regression", JASA 113(523), theorem 2.2. Rows of a time series are not quite exchangeable, and
each step of a horizon is covered by itself, not all of them jointly: so measure the coverage (`coverage_table`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxseq.common.errors import UsageError
from jaxseq.forecasting.metrics import Values, coverage, errors


def conformal_radius(residuals: Float[np.ndarray, "_ _"], level: float) -> Float[np.ndarray, " k"]:
    """Half the width of the interval forecast ± radius, for each step of the horizon, in the series' unit.

    `residuals` are "m k", actual - forecast of the calibration rows; the radius is the ⌈(m + 1) level⌉-th smallest of
    their absolute values. Lei et al., algorithm 2. Raises `UsageError` with both numbers if m is too small for the
    level (there must be level / (1 - level) rows), for a level not between 0 and 1, and for values that are not finite.
    """
    return _quantile(np.abs(np.asarray(residuals, np.float64)), level)


def conformal_margin(actual: Values, low: Values, high: Values, level: float) -> Float[np.ndarray, " k"]:
    """Return the margin of a forecast interval, low - margin to high + margin, for each step of the horizon.

    Conformalised quantile regression: the ⌈(m + 1) level⌉-th smallest of max(low - a, a - high) over the m calibration
    rows "m k". It is below 0 where the intervals were too wide; a narrow one may then vanish (low above high).
    Romano, Patterson & Candès (2019), NeurIPS 32, equations 6 and 7. Raises what `conformal_radius` raises, and
    `ValueError` with both shapes where they differ.
    """
    return _quantile(np.maximum(-errors(actual, low), errors(actual, high)), level)


def _quantile(scores: Float[np.ndarray, "m k"], level: float) -> Float[np.ndarray, " k"]:
    if count := np.count_nonzero(bad := ~np.isfinite(scores)):
        row = int(np.argmax(bad.any(axis=1))) + 1
        raise UsageError(f"{count} of {scores.size} calibration residuals are not finite, the first in row {row}")
    rank = _rank(len(scores), level)
    return np.partition(scores, rank - 1, axis=0)[rank - 1]


def _rank(rows: int, level: float) -> int:
    """⌈(m + 1) level⌉, with the level read as a decimal: 20 · 0.95 is 19, whatever its binary fraction."""
    share = Fraction(str(level)) if math.isfinite(level) else Fraction(0)
    if not 0 < share < 1:
        raise UsageError(f"level {level} must lie between 0 and 1")
    rank = math.ceil((rows + 1) * share)
    if rank > rows:
        least = math.ceil(share / (1 - share))
        raise UsageError(f"level {level} needs at least {least} calibration rows; there are {rows}")
    return rank


class Coverage(NamedTuple):
    """How often the intervals of one level cover, at one step of the horizon or (step None) over all of them."""

    level: float
    """The nominal coverage."""
    step: int | None
    """Steps ahead, from 1."""
    measured: float
    """Share of the values within their interval."""
    width: float
    """Mean width in the series' unit; an interval that has vanished counts as 0."""


def coverage_table(actual: Values, intervals: Mapping[float, tuple[Values, Values]]) -> list[Coverage]:
    """Measured coverage and mean width of the intervals (low, high) of each level: all steps, then one by one.

    Arrays are "n k", in the series' unit. Raises `ValueError` with both shapes where they differ.
    """
    rows = []
    for level, (low, high) in intervals.items():
        for step in (None, *range(1, actual.shape[1] + 1)):
            part = slice(None) if step is None else slice(step - 1, step)
            measured = coverage(actual[:, part], low[:, part], high[:, part])
            width = float(np.mean(np.maximum(errors(high[:, part], low[:, part]), 0)))
            rows.append(Coverage(level, step, measured, width))
    return rows
