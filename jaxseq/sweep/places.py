"""Train the runs of a source at a place.

A source knows which run is next: a grid has a list of them, a search draws each from what the earlier ones achieved. A
place trains runs: worker processes of this machine, or jobs of a cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn, Protocol, runtime_checkable

from jaxseq.sweep.planned import PlannedRun

POLL_SECONDS = 0.5
"""Time between two updates of the display."""


@runtime_checkable
class Source(Protocol):
    """Runs to train, and what becomes of them."""

    def next_run(self) -> PlannedRun | None:
        """Return the next run to train; None if there is none any more."""

    def end(self, run: PlannedRun, failure: str) -> None:
        """Count a run as ended; `failure` says why it failed, is `PRUNED`, or is empty."""

    def update(self) -> None:
        """Show the epochs that are finished by now."""

    def print(self, text: str) -> None:
        """Print a line."""


@runtime_checkable
class Place(Protocol):
    """Where runs are trained."""

    def start(self, runs: Sequence[PlannedRun], note: Callable[[str], None]) -> None:
        """Begin to train runs; what the user has to know is given to `note`, a line at a time."""

    def ended(self) -> Mapping[PlannedRun, str]:
        """Wait for `POLL_SECONDS` at most, and return the runs that have ended since the last call, as `Source.end` has
        them; none when a signal asks to stop.
        """

    def is_stopping(self) -> bool:
        """Return whether a signal has asked to stop."""

    def leave(self, note: Callable[[str], None]) -> NoReturn:
        """Raise the `Ended` of the signal when the runs are left as they may be left."""


def train(source: Source, place: Place, at_once: int) -> None:
    """Train the runs of a source until it has none any more, `at_once` of them under way at a time.

    A run is asked for when there is room for it. Raises what `place` raises, after a signal in particular.
    """
    under_way = 0
    is_done = False
    while not place.is_stopping():
        new_runs: list[PlannedRun] = []
        while not is_done and under_way + len(new_runs) < at_once:
            run = source.next_run()
            if run is None:
                is_done = True
            else:
                new_runs.append(run)

        if new_runs:
            place.start(new_runs, source.print)
            under_way += len(new_runs)
        if not under_way:
            return

        outcomes = place.ended()
        source.update()
        for run, failure in outcomes.items():
            source.end(run, failure)
        under_way -= len(outcomes)
    place.leave(source.print)
