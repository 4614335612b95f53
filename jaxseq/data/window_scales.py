"""Scales of a window by itself, beside the one that its target has: by the mean, the median or the last value.

Each is a function of values "n t" to shift and scale "n 1" of each row; the shift counts where values are forecast and no
changes. The scale may be 0, for which `Scaling` has a least one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from jaxtyping import Float

Rows: TypeAlias = Float[np.ndarray, "n t"]
OfRows: TypeAlias = Float[np.ndarray, "n 1"]


def by_mean(values: Rows) -> tuple[OfRows, OfRows]:
    """Return 0 and the mean absolute value (Salinas et al. 2020, IJF 36, "DeepAR", section 3.3)."""
    scale = np.abs(values).mean(axis=-1, keepdims=True)
    return np.zeros_like(scale), scale


def by_median(values: Rows) -> tuple[OfRows, OfRows]:
    """Return the median and the median absolute deviation from it, which no single value moves far."""
    shift = np.median(values, axis=-1, keepdims=True)
    return shift, np.median(np.abs(values - shift), axis=-1, keepdims=True)


def by_last(values: Rows) -> tuple[OfRows, OfRows]:
    """Return the last value and its size: numbers are then shares of it."""
    shift = values[..., -1:]
    return shift, np.abs(shift)


SCALES: Mapping[str, Callable[[Rows], tuple[OfRows, OfRows]]] = MappingProxyType(
    {"window-mean": by_mean, "window-median": by_median, "window-last": by_last}
)
"""Scales by the name that `--data.scale` gives them."""
