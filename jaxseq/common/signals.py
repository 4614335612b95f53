"""Ctrl-C and SIGTERM, while there is something that has to be brought to an end first."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from jaxseq.common.errors import EXIT_INTERRUPTED, EXIT_TERMINATED


@contextmanager
def caught(answer: Callable[[int], object]) -> Iterator[None]:
    """Within, Ctrl-C and SIGTERM call `answer` with the exit status that they ask for, in the place of what they did.

    Outside the main thread they are left alone.
    """

    def ask(number: int, frame: FrameType | None) -> None:
        answer(EXIT_INTERRUPTED if number == signal.SIGINT else EXIT_TERMINATED)

    before = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, ask)
    except ValueError:  # not the main thread
        before = {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
