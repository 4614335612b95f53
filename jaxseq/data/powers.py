"""Power transforms of values above 0, by which a spread that grows with the level becomes even.

Box & Cox (1964), "An analysis of transformations", JRSS B 26: (v^λ - 1) / λ, which is log(v) for λ = 0. The exponent of a
series is between 0 and 1, where the inverse takes every number; it is fitted on the training rows alone.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize_scalar

from jaxseq.common import checks

PowerName: TypeAlias = Literal["none", "log", "box-cox"]
"""The values as they are, their logarithm, or a power whose exponent is fitted."""
NONE: PowerName = "none"

LEAST_EXPONENT = 0.05
"""Exponents below are 0: the inverse of a smaller one takes a number to the power of more than 20."""
LEAST_BASE = 1e-6
"""Least 1 + λ x: below it, the inverse keeps its smallest value. No forecast is then 0, which has no logarithm."""


def bend(values: Float[np.ndarray, "n t"], exponents: Float[np.ndarray, "n 1"]) -> Float[np.ndarray, "n t"]:
    """Return the transform of values above 0, by an exponent for each row; NaN stays NaN."""
    logarithms = np.log(values)
    # expm1 keeps the digits of a small exponent.
    divisors = np.where(exponents == 0, 1.0, exponents)
    return np.where(exponents == 0, logarithms, np.expm1(exponents * logarithms) / divisors)


def unbend(numbers: Float[np.ndarray, "*m n t"], exponents: Float[np.ndarray, "n 1"]) -> Float[np.ndarray, "*m n t"]:
    """Return the inverse of `bend`, which never falls; all of its values are above 0."""
    divisors = np.where(exponents == 0, 1.0, exponents)
    base = np.maximum(exponents * numbers, LEAST_BASE - 1)
    logarithms = np.where(exponents == 0, numbers, np.log1p(base) / divisors)
    return np.exp(logarithms)


def fit(power: str, values: Float[np.ndarray, " n"], lag: int | None) -> float:
    """Return the exponent of a series; NaN among its values is a missing one.

    lag  time steps of the changes that are forecast; None for a forecast of the values themselves

    That of "box-cox" has the largest likelihood if the changes, or the values, are normal with one variance.
    """
    if power == "log":
        return 0.0
    fitted = minimize_scalar(lambda exponent: -likelihood(exponent, values, lag), bounds=(0, 1), method="bounded")
    # The search comes near the ends of its range, and does not reach them.
    ends = (float(fitted.x), 0.0, 1.0)
    exponent = max(ends, key=lambda exponent: likelihood(exponent, values, lag))
    return 0.0 if exponent < LEAST_EXPONENT else exponent


def likelihood(exponent: float, values: Float[np.ndarray, " n"], lag: int | None) -> float:
    """Return the profile log-likelihood of an exponent, but for a constant that the exponent does not change."""
    logarithms = np.log(values)
    # Relative to the geometric mean, powers of any unit are near 1.
    relative = np.exp(logarithms - np.nanmean(logarithms))
    numbers = bend(relative[None], np.array([[exponent]]))[0]
    weighed = np.log(relative)
    if lag is not None:
        numbers = numbers[lag:] - numbers[:-lag]
        weighed = weighed[lag:]
    is_known = np.isfinite(numbers)
    spread = np.var(numbers[is_known])
    if spread <= 0:
        return -np.inf
    return float((exponent - 1) * weighed[is_known].sum() - np.count_nonzero(is_known) / 2 * np.log(spread))


def check_positive(
    values: Float[np.ndarray, "..."], power: str, source: str = "", times: np.ndarray | None = None
) -> None:
    """Raise `UsageError`, which begins with `source` and names the first row or time, for a value that is not above 0."""
    checks.none_refused(
        values,
        values <= 0,
        rule=f"transform {power} needs values above 0",
        way_out="train with --data.transform none",
        source=source,
        times=times,
    )
