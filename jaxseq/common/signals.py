"""Answers to Ctrl-C and SIGTERM by work that has something to finish first."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from jaxseq.common.errors import EXIT_INTERRUPTED, EXIT_TERMINATED


@contextmanager
def caught(answer: Callable[[int], object]) -> Iterator[None]:
    """Within, Ctrl-C and SIGTERM call `answer` with the exit status they ask for, instead of their former handlers.

    Outside of the main thread nothing is changed.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        answer(EXIT_INTERRUPTED if number == signal.SIGINT else EXIT_TERMINATED)

    former = {}
    # Python allows handlers to be set in the main thread only, and raises `ValueError` elsewhere.
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            former[number] = signal.signal(number, handle)
    except ValueError:
        former = {}

    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
