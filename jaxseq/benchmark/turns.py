"""Peers in turn: every peer is warmed up, its turn is made long enough, and each round gives every peer one turn."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np

Entry = TypeVar("Entry")


class Pace(NamedTuple):
    """Length and number of the turns of a row.

    turn_seconds   least length of a turn, long against the clock and one-time costs
    round_seconds  time for all rounds of a row, unless `least_rounds` take longer
    most_calls     most calls of a turn
    """

    turn_seconds: float
    round_seconds: float
    least_rounds: int
    most_rounds: int
    most_calls: int = 400


@runtime_checkable
class Ready(Protocol):
    """A compiled program that is ready to be timed."""

    @property
    def call(self) -> Callable[[], object]:
        """Start one call of several repetitions; it may return before they are finished."""
        ...

    @property
    def wait(self) -> Callable[[], object]:
        """Wait until all calls have finished."""
        ...


def _nothing() -> None:
    """Return at once: the call has waited."""


class Work(NamedTuple):
    """A `Ready` whose calls return when they have finished."""

    call: Callable[[], object]
    wait: Callable[[], object] = _nothing


class Times(NamedTuple):
    """Milliseconds of one repetition in each round, and the calls of a turn."""

    milliseconds: list[float]
    calls: int


def seconds(ready: Ready, calls: int, clock: Callable[[], float]) -> float:
    """Time a number of calls, up to the end of the last one."""
    start = clock()
    for _ in range(calls):
        ready.call()
    ready.wait()
    return clock() - start


def measure(
    peers: Mapping[str, Ready],
    steps: int,
    pace: Pace,
    clock: Callable[[], float],
) -> dict[str, Times]:
    """Time all peers; `steps` are the repetitions of a call. The first turn of each is thrown away."""
    calls = {}
    one_round = 0.0
    for name, ready in peers.items():
        # It pays for the pages of memory that are touched for the first time, and may be less than a tick of the clock.
        one_call = max(seconds(ready, 1, clock), 1e-6)
        calls[name] = min(pace.most_calls, math.ceil(pace.turn_seconds / one_call))
        # A slow peer's turn is a single call, however long.
        one_round += calls[name] * one_call

    rounds = pace.most_rounds
    # Without peers a round takes no time.
    if one_round:
        fitting_rounds = pace.round_seconds / one_round
        rounds = int(np.clip(fitting_rounds, pace.least_rounds, pace.most_rounds))
    milliseconds: dict[str, list[float]] = {name: [] for name in peers}
    for number in range(rounds):
        # A peer that always followed the same one would always find the caches that this one leaves.
        for name in _rotated(list(peers), number):
            total = seconds(peers[name], calls[name], clock)
            milliseconds[name].append(total / (calls[name] * steps) * 1e3)
    return {name: Times(milliseconds[name], calls[name]) for name in peers}


def _rotated(entries: list[Entry], places: int) -> list[Entry]:
    first = places % max(len(entries), 1)
    return entries[first:] + entries[:first]
