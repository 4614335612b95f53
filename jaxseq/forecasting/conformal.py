"""Split conformal quantiles, whose coverage holds for any forecast and any distribution.

The width of an interval comes from the residuals of m calibration rows, which the model was neither fitted on nor
chosen by. If the calibration rows and the new one are exchangeable, the interval covers with a probability of at least
`level`, and of ⌈(m + 1) level⌉ / (m + 1) exactly where no two residuals are equal: Vovk, Gammerman & Shafer (2005),
Algorithmic Learning in a Random World; Lei, G'Sell, Rinaldo, Tibshirani & Wasserman (2018), "Distribution-free
predictive inference for regression", JASA 113(523), theorem 2.2. Rows of a time series are not quite exchangeable, and
each step of a horizon is covered by itself, not all of them jointly: so measure the coverage (`coverage.report`).
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from jaxtyping import Float

from jaxseq.common.errors import UsageError
from jaxseq.forecasting.metrics import Values, errors


def conformal_radius(
    residuals: Float[np.ndarray, "_ _"],
    level: float,
) -> Float[np.ndarray, " k"]:
    """Return half the width of the interval forecast ± radius, for each step of the horizon, in the series' unit.

    `residuals` are "m k", actual - forecast of the calibration rows; the radius is the ⌈(m + 1) level⌉-th smallest of
    their absolute values. Lei et al., algorithm 2. Raises `UsageError` as `quantile` does.
    """
    return quantile(np.abs(np.asarray(residuals, np.float64)), level)


def conformal_margin(
    actual: Values,
    low: Values,
    high: Values,
    level: float,
) -> Float[np.ndarray, " k"]:
    """Return the margin of a forecast interval, low - margin to high + margin, for each step of the horizon.

    Conformalised quantile regression: the ⌈(m + 1) level⌉-th smallest of max(low - a, a - high) over the m calibration
    rows "m k". It is below 0 where the intervals were too wide; a narrow one may then vanish (low above high).
    Romano, Patterson & Candès (2019), NeurIPS 32, equations 6 and 7. Raises `UsageError` as `quantile` does, and
    `ValueError` with both shapes where they differ.
    """
    below_low = -errors(actual, low)
    above_high = errors(actual, high)
    return quantile(np.maximum(below_low, above_high), level)


def quantile(
    scores: Float[np.ndarray, "m k"],
    level: float,
) -> Float[np.ndarray, " k"]:
    """Return the ⌈(m + 1) level⌉-th smallest score of each column.

    Raises `UsageError` with both numbers if there are fewer rows than `least_rows`, for a level not between 0 and 1, and
    for scores that are not finite.
    """
    not_finite = ~np.isfinite(scores)
    if np.any(not_finite):
        row = int(np.argmax(not_finite.any(axis=1))) + 1
        raise UsageError(
            f"{np.count_nonzero(not_finite)} of {scores.size} calibration residuals are not finite, "
            f"the first in row {row}"
        )
    rank = _rank(len(scores), level)
    return np.partition(scores, rank - 1, axis=0)[rank - 1]


def least_rows(level: float) -> int:
    """Return the smallest number of calibration rows that an interval of a level needs: ⌈level / (1 - level)⌉.

    Raises `UsageError` for a level not between 0 and 1.
    """
    share = _share(level)
    return math.ceil(share / (1 - share))


def _rank(
    rows: int,
    level: float,
) -> int:
    # One more than the rows: the new value may lie in any gap between the scores.
    rank = math.ceil((rows + 1) * _share(level))
    # Only an interval without ends would cover so often.
    if rank > rows:
        raise UsageError(f"level {level} needs at least {least_rows(level)} calibration rows; there are {rows}")
    return rank


def _share(level: float) -> Fraction:
    """Return the level as a decimal: 20 · 0.95 is 19, whatever its binary fraction."""
    if math.isfinite(level):
        share = Fraction(str(level))
        if 0 < share < 1:
            return share
    raise UsageError(f"level {level} must lie between 0 and 1")
