"""Rises: whether a value is above the last known one before its forecast, and simple forecasts of their probability.

A tie is no rise. Rises are 1 and 0 "n k", NaN where the value is not known.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from jaxseq.data.uncut import PartWindows
from jaxseq.data.windows import LAST_VALUE, Windows
from jaxseq.forecasting.metrics import Values

SHARE = "share of rises"
REPEATED = "last direction"
"""Simple forecasts, by their names in tables."""


def of(part: PartWindows) -> Values:
    """Return the rises of a part's targets over the last value of each window, which is its last known one."""
    targets = part.targets
    return np.where(np.isnan(targets), np.nan, targets > part.values_ago(LAST_VALUE))


def ties(part: PartWindows) -> int:
    """Return the number of targets that equal the last value of their window."""
    return int(np.count_nonzero(part.targets == part.values_ago(LAST_VALUE)))


class Shares(NamedTuple):
    """Shares of the rises of each series "m" over the steps of the horizon.

    rises     share of rises
    repeated  share of steps with the direction of the last change of the window; None of windows of one value
    """

    rises: Float[np.ndarray, "m k"]
    repeated: Float[np.ndarray, "m k"] | None


def fit(parts: Iterable[Windows], series: int) -> Shares:
    """Count the rises of windows, in any number of parts, of so many series.

    One of either is added to both counts (Laplace 1774): a probability of 0 or 1 would have a loss without bound.
    """
    known_counts: Float[np.ndarray, "m k"] | float = 0.0
    rise_counts: Float[np.ndarray, "m k"] | float = 0.0
    repeated_counts: Float[np.ndarray, "m k"] | None = None
    for part in parts:
        rises = of(part)
        known = np.isfinite(rises)
        known_counts = known_counts + _by_series(known, part, series)
        rise_counts = rise_counts + _by_series(known & (rises == 1), part, series)
        if part.steps > 1:
            repeated = _by_series(known & (rises == _last_rise(part)), part, series)
            repeated_counts = repeated if repeated_counts is None else repeated_counts + repeated

    total = np.asarray(known_counts) + 2
    of_repeated = None
    if repeated_counts is not None:
        of_repeated = (repeated_counts + 1) / total
    return Shares((np.asarray(rise_counts) + 1) / total, of_repeated)


def _by_series(flags: Bool[np.ndarray, "n k"], part: PartWindows, series: int) -> Float[np.ndarray, "m k"]:
    """Count the flags of each series."""
    counts = np.zeros((series, flags.shape[1]))
    np.add.at(counts, part.series, flags)
    return counts


def _last_rise(part: PartWindows) -> Float[np.ndarray, "n 1"]:
    return (part.values_ago(LAST_VALUE) > part.values_ago(LAST_VALUE + 1)).astype(float)


def forecasts(shares: Shares, part: PartWindows) -> dict[str, Values]:
    """Return the probabilities of rises by the simple forecasts, the share of rises first.

    The last direction goes on with the probability with which it did in the training.
    """
    by_name = {SHARE: shares.rises[part.series]}
    if shares.repeated is not None:
        repeated = shares.repeated[part.series]
        by_name[REPEATED] = np.where(_last_rise(part) == 1, repeated, 1 - repeated)
    return by_name
