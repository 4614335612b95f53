"""Rows that have a forecast, with all that is known about their series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float

from jaxseq.data.scaling import Scaling, ShiftAndScale
from jaxseq.data.uncut import PartWindows
from jaxseq.data.windows import Series
from jaxseq.forecasting import sizes


@dataclass(frozen=True)
class Part:
    """Windows of a part and their scaling, of which shifts, scales and volatilities are computed once for all forecasts.

    series  all rows of each series; empty where every window is a series of its own
    """

    windows: PartWindows
    scaling: Scaling
    series: Sequence[Series] = ()

    @cached_property
    def shift_and_scale(self) -> ShiftAndScale:
        """Shift and scale of each window."""
        return self.scaling.of_rows(self.windows)

    @property
    def scale(self) -> Float[np.ndarray, "n 1"]:
        """Scale of each window."""
        return self.shift_and_scale[1]

    @cached_property
    def volatility(self) -> Float[np.ndarray, " n"]:
        """Volatility before each forecast; see `sizes.volatility`."""
        return sizes.volatility(self.windows, self.scaling, self.series, self.scale)

    @property
    def last_value(self) -> Float[np.ndarray, " n"]:
        """Absolute last value of each window; see `sizes.last_value`."""
        return sizes.last_value(self.windows, self.scaling, self.scale)

    @property
    def targets(self) -> Float[np.ndarray, "n k"]:
        """Targets of the model, NaN where they are not known."""
        return self.scaled(self.windows.targets)

    def scaled(self, values: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
        """Return values in the series' units as targets of the model."""
        return self.scaling.scaled(values, self.windows, self.shift_and_scale)

    def invert(self, numbers: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
        """Return numbers of the model in the series' units."""
        return self.scaling.invert(numbers, self.windows, self.shift_and_scale)

    def choose(self, rows: Bool[np.ndarray, " n"]) -> Part:
        """Return some of the rows."""
        return Part(self.windows.choose(rows), self.scaling, self.series)
