"""Earlier values that the values of a series are compared with: the last one, that one season before, or those of two."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self, TypeVar

import numpy as np
from jaxtyping import Int

from jaxseq.common.arrays import namespace
from jaxseq.data.transforms import Values

if TYPE_CHECKING:

    class Numbers(Protocol):
        """An array that is added and weighed, or a node of a graph that becomes one."""

        def __add__(self, other: Self, /) -> Self: ...
        def __sub__(self, other: Self, /) -> Self: ...
        def __mul__(self, other: float, /) -> Self: ...

    N = TypeVar("N", bound=Numbers)
else:  # A check while a program runs does not see that an array is one.
    N = TypeVar("N")


class Earlier(NamedTuple):
    """The earlier values that a value is compared with, of a season of m time steps and of a longer one of M.

    With v_t the values of a series and s the share of the longer season:

        v_{t-m} + s (v_{t-M} - v_{t-M-m})

    Without a longer season (M = 0) it is the seasonal naive forecast, and with m = 1 the last value. With s = 1 the change
    from it is that of a double seasonal difference, (1 - B^m)(1 - B^M) v_t (Taylor 2003, JORS 54(8)). A smaller share adds
    less of the longer season's noise.

    lag     m, in time steps
    longer  M, in time steps; 0 is none
    share   s; a power of two, so that its product is exact in every namespace of arrays
    """

    lag: int = 1
    longer: int = 0
    share: float = 0.0

    @property
    def reach(self) -> int:
        """Time steps from a value back to the earliest one that it is compared with."""
        return self.lag + self.longer if self.longer else self.lag

    def reaches(self, horizon: int) -> Int[np.ndarray, "3 k"]:
        """Return how far back of each step of a horizon its earlier values lie, in the order of the formula.

        Each is as many seasons back as make it one that is known before the first step. Without a longer season, only the
        first row means anything.
        """
        steps = np.arange(horizon)
        naive = self.lag * (steps // self.lag + 1)
        if not self.longer:
            return np.stack([naive, naive, naive])
        longer = self.longer * (steps // self.longer + 1)
        # The change that the longer season tells of is over the same time as it was from the latest value known then.
        change = self.lag * (steps % self.longer // self.lag + 1)
        return np.stack([naive, longer, longer + change])

    def ahead(self, values_ago: Callable[[Int[np.ndarray, " k"]], N], horizon: int) -> N:
        """Return the numbers that the steps of a horizon are compared with, given values by their age at its first one."""
        naive, longer, before = self.reaches(horizon) - np.arange(horizon)
        compared = values_ago(naive)
        if not self.longer:
            return compared
        return compared + (values_ago(longer) - values_ago(before)) * self.share

    def inside(self, values: Values) -> Values:
        """Return the numbers that the values of windows "n t" are compared with; the first ones have less before them."""
        arrays = namespace(values)
        # The first values have none before them: their change is 0.
        before = arrays.concatenate([values[:, : self.lag], values[:, : -self.lag]], axis=1)
        if not self.longer:
            return before

        steps = values.shape[1] - self.reach
        longer_before = values[:, self.lag : self.lag + steps] - values[:, :steps]
        change = arrays.concatenate([arrays.zeros_like(values[:, : self.reach]), longer_before * self.share], axis=1)
        return before + change
