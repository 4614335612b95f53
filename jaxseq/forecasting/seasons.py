"""Candidate seasons of a series: those of its dates, and those that its training values show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from jaxseq.data.dataset import Background

LONGER_SEASON = {24: 168, 48: 336, 96: 672, 1440: 10_080, 7: 365}
"""Second season of a series by its first, in time steps: a day's course repeats by the week, a week's by the year."""
MAX_LAG = 400
"""Longest season that is looked for in the values."""
MIN_AUTOCORRELATION = 0.3
"""Smallest autocorrelation at a season, and smallest rise of the autocorrelation towards it."""
INSPECTED_SERIES = 20
"""Series of a panel whose values are inspected."""


def plausible(background: Background) -> tuple[int, ...]:
    """Return the seasons, in time steps, that fit into every series' training rows at least twice, the shortest first."""
    if not background.training_rows:
        return ()

    by_dates = background.period
    longer = LONGER_SEASON.get(by_dates, 1)
    by_values = detect(background.training[:INSPECTED_SERIES])

    # A season of 1 time step is none.
    longest = min(background.training_rows) // 2
    fitting = [period for period in {by_dates, longer, by_values} if 1 < period <= longest]
    return tuple(sorted(fitting))


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
