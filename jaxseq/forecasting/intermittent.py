"""Simple forecasts of intermittent demand: counts that are 0 most of the time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from jaxseq.data.dataset import Background
from jaxseq.data.uncut import PartWindows
from jaxseq.data.windows import rows_by_series
from jaxseq.forecasting.intervals import Bounds
from jaxseq.forecasting.smoothing import smoothed

WEIGHT = 0.1
"""Weight of the newest demand and of the newest time between two, as in Croston (1972)."""
LEAST_INTERVAL = 1.32
"""Mean time steps between two demands from which a series is intermittent (Syntetos, Boylan & Croston 2005, JORS 56)."""


def are_intermittent(training: Sequence[Float[np.ndarray, "_"]]) -> bool:
    """Return whether demands are rare in the training values of all series together; NaN is a missing value."""
    values = np.concatenate([np.zeros(0), *training])
    values = values[np.isfinite(values)]
    demands = int(np.count_nonzero(values))
    return len(values) > LEAST_INTERVAL * demands


def croston(values: Float[np.ndarray, "m t"]) -> Float[np.ndarray, "m t"]:
    """Return the mean demand of a time step after each value: smoothed size over smoothed time between two demands.

    Before the first demand it is 0; a missing value (NaN) is no demand. Croston (1972, Operational Research Quarterly 23).
    """
    return np.stack([_demand_rates(row) for row in values])


def _demand_rates(values: Float[np.ndarray, " t"]) -> Float[np.ndarray, " t"]:
    is_demand = np.nan_to_num(values) > 0
    times = np.flatnonzero(is_demand)
    if not len(times):
        return np.zeros(len(values))
    sizes = smoothed(values[None, times], WEIGHT)
    intervals = smoothed(np.diff(times, prepend=-1)[None].astype(np.float64), WEIGHT)
    rates = np.append(0.0, sizes / intervals)
    return rates[np.cumsum(is_demand)]


def training_bounds(levels: Sequence[float], part: PartWindows, background: Background) -> Bounds:
    """Return intervals between quantiles of each series' training values, which are among these values."""
    bounds = {}
    for level in levels:
        tail = (1 - level) / 2
        low, high = (training_quantile(share, part, background) for share in (tail, 1 - tail))
        bounds[level] = (low, high)
    return bounds


def training_quantile(share: float, part: PartWindows, background: Background) -> Float[np.ndarray, "n k"]:
    """Return the quantile of the training values of each row's series, for every step of the horizon."""
    quantiles = np.empty((len(part.origins), part.horizon))
    for number, rows in rows_by_series(part.series).items():
        values = background.training[number]
        # Between two counts there is no other.
        quantiles[rows] = np.quantile(values[np.isfinite(values)], share, method="inverted_cdf")
    return quantiles
