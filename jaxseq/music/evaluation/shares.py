"""Counts, shares and means of measures; NaN where there is nothing to measure."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool


def count(mask: Bool[np.ndarray, "..."]) -> int:
    """Count where a mask holds."""
    return int(np.count_nonzero(mask))


def share(part: int, total: int) -> float:
    """Divide, or return NaN for a total of 0."""
    if not total:
        return math.nan
    return part / total


def mean(values: Iterable[float]) -> float:
    """Average the values that are not NaN; NaN without any."""
    # A piece without anything to measure says nothing about the others.
    measured = [value for value in values if not math.isnan(value)]
    if not measured:
        return math.nan
    return float(np.mean(measured))
