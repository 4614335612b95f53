"""A peer that is ready to be timed on a GPU, and the length of its turns."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from jaxseq.benchmark.turns import Pace

PACE = Pace(turn_seconds=0.03, round_seconds=2.5, least_rounds=3, most_rounds=7)
"""Turns that are long against the wait for the device, in rows that take seconds."""


class Turn(NamedTuple):
    """A peer that is ready to be timed.

    call       start one call of several repetitions, without waiting for the device
    wait       wait until the device has finished
    check      numbers of the first call by which peers are compared: the losses of its first and its last training step,
               or the norm of the first input gradient
    compile_s  seconds to compile the call, None where nothing is compiled ahead
    """

    call: Callable[[], object]
    wait: Callable[[], object]
    check: list[float]
    compile_s: float | None = None
