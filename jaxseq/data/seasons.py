"""Candidate seasons of a series: those of its dates, and those that its training values show."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from jaxseq.data.earlier import Earlier

LONGER_SEASON = {24: 168, 48: 336, 96: 672, 1440: 10_080, 7: 365}
"""Second season of a series by its first, in time steps: a day's course repeats by the week, a week's by the year."""
MAX_LAG = 400
"""Longest season that is looked for in the values."""
MIN_AUTOCORRELATION = 0.3
"""Smallest autocorrelation at a season, and smallest rise of the autocorrelation towards it."""
SHARES = (1.0, 0.5, 0.25)
"""Shares of a longer season that are tried."""
INSPECTED_SERIES = 20
"""Series of a panel whose values are inspected."""


def plausible(by_dates: int, training: Sequence[Float[np.ndarray, "_"]]) -> tuple[int, ...]:
    """Return the seasons, in time steps, that fit at least twice into the training rows of each series, shortest first.

    by_dates  season of the dates; 1 where they have none
    """
    if not training:
        return ()

    longer = LONGER_SEASON.get(by_dates, 1)
    by_values = detect(training[:INSPECTED_SERIES])

    # A season of 1 time step is none.
    longest = min(map(len, training)) // 2
    fitting = [period for period in {by_dates, longer, by_values} if 1 < period <= longest]
    return tuple(sorted(fitting))


def pairs(periods: Sequence[int], window: int) -> list[Earlier]:
    """Return the pairs of seasons whose values a window has, each with every share of the longer one."""
    of_two = [(lag, longer) for lag, longer in itertools.combinations(periods, 2) if lag + longer <= window]
    return [Earlier(lag, longer, share) for lag, longer in of_two for share in SHARES]


def best(candidates: Sequence[Earlier], training: Sequence[Float[np.ndarray, "_"]], horizon: int) -> Earlier:
    """Return the candidate whose naive forecast is best on the training rows; a lag of 1 is the last value.

    Each is compared by its mean absolute error over the horizon, relative to that of the last value in each series; the
    mean of these ratios over the series counts. The first one where no series has a ratio.
    """
    last_value = [_naive_error(values, Earlier(), horizon) for values in training]
    ratios = {candidates[0]: math.inf}
    for earlier in candidates:
        seasonal = [_naive_error(values, earlier, horizon) for values in training]
        of_series = [one / other for one, other in zip(seasonal, last_value, strict=True) if other > 0]
        # Nothing to compare where no value is known.
        if of_series:
            ratios[earlier] = float(np.mean(of_series))
    return min(ratios, key=ratios.__getitem__)


def _naive_error(values: Float[np.ndarray, " n"], earlier: Earlier, horizon: int) -> float:
    """Return the mean absolute error of the forecast `Earlier.ahead` over the steps of the horizon; 0 if none is known."""
    errors = []
    rows = len(values)
    # Steps whose earlier values lie as far back have the same errors.
    distances, counts = np.unique(earlier.reaches(horizon), axis=1, return_counts=True)
    for (naive, longer, before), count in zip(distances.T, counts, strict=True):
        first = max(naive, before) if earlier.longer else naive
        if first >= rows:
            continue
        changes = values[first:] - values[first - naive : rows - naive]
        if earlier.longer:
            change_before = values[first - longer : rows - longer] - values[first - before : rows - before]
            changes = changes - earlier.share * change_before
        changes = np.abs(changes[np.isfinite(changes)])
        if len(changes):
            errors.append((count, changes.mean()))
    if not errors:
        return 0.0
    weights, means = zip(*errors, strict=True)
    return float(np.average(means, weights=weights))


def detect(training: Sequence[Float[np.ndarray, "_"]]) -> int:
    """Return the lag, in time steps, after which the series are most like themselves; 1 if there is none.

    It is the shortest peak of the mean autocorrelation, without linear trends, that comes near the highest one. A peak
    counts where the autocorrelation has risen to it, which that of a random walk seldom does.
    """
    shortest = min(len(values) for values in training)
    lags = min(shortest // 3, MAX_LAG)
    # A peak has a neighbour on either side.
    if lags < 3:
        return 1

    correlations = np.mean([_autocorrelation(values, lags) for values in training], axis=0)
    inner = correlations[1:-1]
    is_peak = (inner >= correlations[:-2]) & (inner >= correlations[2:])
    # The autocorrelation of a random walk is high as well, but it seldom rises.
    rise = inner - np.minimum.accumulate(correlations)[:-2]
    is_season = is_peak & (inner > MIN_AUTOCORRELATION) & (rise > MIN_AUTOCORRELATION)
    if not np.any(is_season):
        return 1

    # Twice the season is a peak as well, and chance may make it the higher one.
    highest = inner[is_season].max()
    near_highest = is_season & (inner > 0.9 * highest)
    return int(np.argmax(near_highest)) + 1


def _autocorrelation(
    values: Float[np.ndarray, " n"],
    lags: int,
) -> Float[np.ndarray, " l"]:
    """Return the autocorrelation, without a linear trend, at the lags 0 to `lags`; zeros for constant values."""
    is_known = np.isfinite(values)
    # A line passes through any two values.
    if np.count_nonzero(is_known) < 3:
        return np.zeros(lags + 1)

    steps = np.arange(len(values))
    line = np.polyfit(steps[is_known], values[is_known], 1)
    trend = np.polyval(line, steps)
    # A missing value lies on the line: it adds nothing to any product.
    deviations = np.where(is_known, values - trend, 0.0)
    # Deviations from a straight series are rounding errors.
    if np.max(np.abs(deviations)) <= 1e-9 * np.nanmax(np.abs(values)):
        return np.zeros(lags + 1)

    # Twice the length, or the circular convolution of the transform would join the end to the beginning.
    transform = np.fft.rfft(deviations, 2 * len(deviations))
    spectrum = np.abs(transform) ** 2
    products = np.fft.irfft(spectrum)[: lags + 1]
    return products / products[0]
