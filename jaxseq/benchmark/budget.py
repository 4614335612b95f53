"""A time budget: what fits into the rest of it, by the cost of what has been done."""

from __future__ import annotations

from collections.abc import Callable

FIRST_GUESS = {"row": 15.0, "parity": 10.0, "generation": 10.0, "workload": 1.0}
"""Seconds that an item of each kind takes, until one has been measured; the weight of a workload is in seconds."""


class Budget:
    """Seconds to spend, from the moment of construction; `clock` gives the time in seconds."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._start = clock()
        self._seconds = seconds
        self._costs: dict[str, list[float]] = {}

    def used(self) -> float:
        """Return the seconds since construction."""
        return self._clock() - self._start

    def left(self) -> float:
        """Return the seconds that remain; negative after the end."""
        return self._seconds - self.used()

    def estimate(self, kind: str, weight: float) -> float:
        """Return the expected seconds of an item, from the mean cost of earlier ones of its kind at weight 1."""
        costs = self._costs.get(kind)
        # The first item of a kind has no predecessor.
        if not costs:
            return FIRST_GUESS[kind] * weight
        return weight * sum(costs) / len(costs)

    def spent(self, kind: str, weight: float, seconds: float) -> None:
        """Record the cost of a finished item."""
        # At weight 1, so that items of other sizes are estimated from it.
        self._costs.setdefault(kind, []).append(seconds / weight)
