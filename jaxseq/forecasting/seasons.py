"""Seasons that a series may have: those of its dates, and those that its training values show."""

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

    candidates = {background.period, LONGER_SEASON.get(background.period, 1)}
    candidates.add(detect(background.training[:INSPECTED_SERIES]))
    longest = min(background.training_rows) // 2
    return tuple(sorted(period for period in candidates if 1 < period <= longest))


def detect(training: Sequence[Float[np.ndarray, "_"]]) -> int:
    """Return the lag, in time steps, after which the series are most like themselves; 1 if there is none.

    It is the shortest peak of the mean autocorrelation, without linear trends, that comes near the highest one. A peak
    counts where the autocorrelation has risen to it, which that of a random walk seldom does.
    """
    shortest = min(len(values) for values in training)
    lags = min(shortest // 3, MAX_LAG)
    if lags < 3:
        return 1

    correlations = np.mean([_autocorrelation(values, lags) for values in training], axis=0)
    inner = correlations[1:-1]
    lowest_before = np.minimum.accumulate(correlations)[:-2]
    peaks = (inner >= correlations[:-2]) & (inner >= correlations[2:])
    peaks &= (inner > MIN_AUTOCORRELATION) & (inner - lowest_before > MIN_AUTOCORRELATION)
    if not np.any(peaks):
        return 1

    # Twice the season is a peak as well, and chance may make it the higher one.
    near_highest = peaks & (inner > 0.9 * inner[peaks].max())
    return int(np.argmax(near_highest)) + 1


def _autocorrelation(values: Float[np.ndarray, " n"], lags: int) -> Float[np.ndarray, " l"]:
    """Return the autocorrelation, without a linear trend, at the lags 0 to `lags`; zeros for constant values."""
    known = np.isfinite(values)
    steps = np.arange(len(values))
    if np.count_nonzero(known) < 3:
        return np.zeros(lags + 1)
    trend = np.polyval(np.polyfit(steps[known], values[known], 1), steps)
    deviations = np.where(known, values - trend, 0.0)
    if np.max(np.abs(deviations)) <= 1e-9 * np.nanmax(np.abs(values)):
        return np.zeros(lags + 1)

    # Twice the length, or the circular convolution of the transform would join the end to the beginning.
    spectrum = np.abs(np.fft.rfft(deviations, 2 * len(deviations))) ** 2
    products = np.fft.irfft(spectrum)[: lags + 1]
    return products / products[0]
