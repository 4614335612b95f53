"""Simple exponential smoothing of series."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

WEIGHTS = tuple(round(0.05 * number, 2) for number in range(1, 21))
"""Weights of the newest value among which simple exponential smoothing chooses."""


def smoothed(
    values: Float[np.ndarray, "m t"],
    weight: float,
) -> Float[np.ndarray, "m t"]:
    """Return the levels l_t = weight · y_t + (1 - weight) · l_(t-1) of simple exponential smoothing, with l_1 = y_1."""
    # scipy.signal takes most of a second to import.
    from scipy.signal import lfilter

    # The filter's state before the first value is chosen so that the first level is that value.
    state = (1 - weight) * values[:, :1]
    levels, _ = lfilter([weight], [1, weight - 1], values, axis=1, zi=state)
    return levels


def best_weight(values: Float[np.ndarray, "m t"]) -> float:
    """Return the weight in `WEIGHTS` with the smallest squared error one step ahead."""
    squared_errors = []
    for weight in WEIGHTS:
        levels = smoothed(values, weight)
        errors = values[:, 1:] - levels[:, :-1]
        squared_errors.append(np.mean(errors**2))
    return WEIGHTS[int(np.argmin(squared_errors))]
