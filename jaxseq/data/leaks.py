"""Covariates that are the target itself, shifted: what looks like a forecast is then a value that was there already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxseq.common.text import counted, shown
from jaxseq.data.seasons import INSPECTED_SERIES

SAME = 0.999
"""Correlation of changes from which on a covariate is taken for the target."""
FEWEST = 10
"""Least pairs of changes of a series."""
LONGEST_SHIFT = 100
"""Most steps of the horizon that are compared."""


class Beside(NamedTuple):
    """A covariate of several series, "n" of each.

    least  smallest shift at which its likeness to the target is a leak: 1 of a past covariate, 0 of one known ahead
    """

    name: str
    rows: Sequence[Float[np.ndarray, "_"]]
    least: int


def notes(values: Sequence[Float[np.ndarray, "_"]], covariates: Sequence[Beside], horizon: int) -> tuple[str, ...]:
    """Name the covariates that are nearly the value of a row that is forecast, with their correlation and their shift.

    values  training rows of each series, NaN where missing; those of `covariates` are the same rows

    Changes are compared, from one row to the next: two series that grow are alike in their values, whatever they are. The
    correlation is the mean over the series, of a sample of them.
    """
    changes = [np.diff(of_series) for of_series in values[:INSPECTED_SERIES]]
    lines = []
    for covariate in covariates:
        own_changes = [np.diff(rows) for rows in covariate.rows[:INSPECTED_SERIES]]
        for shift in range(covariate.least, min(horizon, LONGEST_SHIFT) + 1):
            correlation = _correlation(own_changes, changes, shift)
            if abs(correlation) > SAME:
                lines.append(_words(covariate.name, correlation, shift))
                break
    return tuple(lines)


def _words(name: str, correlation: float, shift: int) -> str:
    place = "of the same row"
    if shift:
        place = f"{counted(shift, 'time step')} later"
    return (
        f"leak: covariate {shown(name)} is nearly the value {place}, which is to be forecast: their changes correlate "
        f"{correlation:+.4f} in the training rows"
    )


def _correlation(
    covariate: Sequence[Float[np.ndarray, "_"]], values: Sequence[Float[np.ndarray, "_"]], shift: int
) -> float:
    """Return the mean correlation of changes with those of the values `shift` rows later; 0 where there is none."""
    correlations = []
    for own, target in zip(covariate, values, strict=True):
        count = len(target) - shift
        if count < FEWEST:
            continue
        x = own[:count]
        y = target[shift:]
        is_known = np.isfinite(x) & np.isfinite(y)
        # A constant has no correlation, and a straight line says nothing.
        if np.count_nonzero(is_known) < FEWEST or np.ptp(x[is_known]) == 0 or np.ptp(y[is_known]) == 0:
            continue
        correlations.append(np.corrcoef(x[is_known], y[is_known])[0, 1])
    if not correlations:
        return 0.0
    return float(np.mean(correlations))
