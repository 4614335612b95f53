"""Peers in turn: every peer is warmed up and calibrated, then measured once a round."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

TURN_SECONDS = 0.03
"""Length of a turn, long against the clock and the wait for the device."""
MOST_CALLS = 400
LEAST_ROUNDS = 3
MOST_ROUNDS = 7
ROUND_SECONDS = 2.5
"""Time for the rounds of one row, unless `LEAST_ROUNDS` take longer."""


class Turn(NamedTuple):
    """A peer that is ready to be timed.

    call       start one call of several repetitions, without waiting for the device
    wait       wait until the device has finished
    check      numbers of the first call by which peers are compared: the losses of its first and its last training step,
               or the norm of the first input gradient
    compile_s  seconds to compile the call, None where nothing is compiled ahead
    """

    call: Callable[[], None]
    wait: Callable[[], None]
    check: list[float]
    compile_s: float | None = None


class Times(NamedTuple):
    """Milliseconds of one repetition in each round, and the calls of a turn."""

    milliseconds: list[float]
    calls: int


def seconds(turn: Turn, calls: int, clock: Callable[[], float]) -> float:
    """Time a number of calls, up to the end of the last one on the device."""
    start = clock()
    for _ in range(calls):
        turn.call()
    turn.wait()
    return clock() - start


def measure(turns: Mapping[str, Turn], steps: int, clock: Callable[[], float]) -> dict[str, Times]:
    """Time all peers, one turn each in a round; `steps` are the repetitions of a call."""
    calls = {}
    round_seconds = 0.0
    for name, turn in turns.items():
        # The first call, which loaded code and allocated memory, was that of the check.
        one_call = max(seconds(turn, 1, clock), 1e-6)
        calls[name] = min(MOST_CALLS, math.ceil(TURN_SECONDS / one_call))
        # A slow peer's turn is a single call, however long.
        round_seconds += calls[name] * one_call

    rounds = MOST_ROUNDS
    if round_seconds:
        rounds = int(np.clip(ROUND_SECONDS / round_seconds, LEAST_ROUNDS, MOST_ROUNDS))
    milliseconds: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(rounds):
        for name, turn in turns.items():
            total = seconds(turn, calls[name], clock)
            milliseconds[name].append(total / (calls[name] * steps) * 1e3)
    return {name: Times(milliseconds[name], calls[name]) for name in turns}
