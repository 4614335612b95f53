"""The rule that chooses the best epoch of a run: for checkpoints and for metrics alike."""

from __future__ import annotations

import math
from collections.abc import Mapping


def best_epoch(values: Mapping[int, float]) -> int | None:
    """Return the epoch with the smallest value; None if there are no epochs.

    NaN is worse than every number. Of several epochs with the same value, the newest one is chosen.
    """

    def rank(epoch: int) -> tuple[float, int]:
        value = values[epoch]
        # NaN compares false with everything, so that `min` would depend on the order.
        return (math.inf if math.isnan(value) else value, -epoch)

    return min(values, key=rank, default=None)
