"""Forecasts of several models combined: the mean or the median of their centres, and the quantiles of their mixture.

A mixture draws from one of its members, each with the same probability: its distribution function is the mean of theirs.
The function of a member is known at its quantiles alone, between and beyond which Φ⁻¹(F) is linear: a normal distribution
is that in full.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr, ndtri

from jaxseq.forecasting.metrics import Values

Combination = Literal["mean", "median"]
BISECTIONS = 40
"""Halvings of the range between the members' quantiles: to 1e-12 of it."""
CELLS = 50_000
"""Windows times steps that are computed at once."""


def centre(values: Sequence[Values], how: Combination) -> Values:
    """Return the mean or the median of the members' forecasts "n k"."""
    if how == "mean":
        return np.mean(values, axis=0)
    return np.median(values, axis=0)


def quantiles(members: Sequence[Float[np.ndarray, "n k q"]], levels: Sequence[float]) -> Float[np.ndarray, "n k q"]:
    """Return the quantiles of the mixture at the levels of the members' own, which do not fall along the last axis."""
    stacked = np.stack(members)
    rows, steps = stacked.shape[1:3]
    result = np.empty(stacked.shape[1:])
    at_once = max(1, CELLS // steps)
    for first in range(0, rows, at_once):
        part = slice(first, first + at_once)
        result[part] = _quantiles(stacked[:, part], np.asarray(levels))
    return result


def _quantiles(members: Float[np.ndarray, "m n k q"], levels: Float[np.ndarray, " q"]) -> Float[np.ndarray, "n k q"]:
    """Return the least values at which the mean of the distribution functions reaches each level, by bisection."""
    # Below the smallest of the members' quantiles no function reaches the level, at the largest all of them do.
    low = members.min(axis=0)
    high = members.max(axis=0)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        reached = np.mean([distribution(member, levels, middle) for member in members], axis=0) >= levels
        high = np.where(reached, middle, high)
        low = np.where(reached, low, middle)
    return high


def distribution(
    known: Float[np.ndarray, "n k q"], levels: Float[np.ndarray, " q"], values: Float[np.ndarray, "n k v"]
) -> Float[np.ndarray, "n k v"]:
    """Return the distribution function with these quantiles at some values."""
    deviates = ndtri(levels)
    below = np.zeros(values.shape, int)
    for number in range(len(levels)):
        below += known[..., number : number + 1] <= values
    # The piece that a value lies in; the outer pieces go on beyond their ends.
    piece = np.clip(below - 1, 0, len(levels) - 2)
    start = np.take_along_axis(known, piece, axis=-1)
    width = np.take_along_axis(known, piece + 1, axis=-1) - start
    slope = np.diff(deviates)[piece]
    with np.errstate(divide="ignore", invalid="ignore"):
        deviate = deviates[piece] + slope * (values - start) / width
    # Beyond equal outer quantiles, such as those of a series at zero, there is nothing.
    beyond = np.where(below == 0, -np.inf, np.inf)
    return ndtr(np.where(width > 0, deviate, beyond))
