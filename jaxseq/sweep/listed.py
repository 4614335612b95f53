"""A list of runs as a source: those that are not finished, one after the other, with their progress on the screen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jaxseq.common.errors import UsageError
from jaxseq.sweep.display import Display
from jaxseq.sweep.places import Place, train
from jaxseq.sweep.planned import PlannedRun, log_of

if TYPE_CHECKING:
    from rich.console import Console


class Listed:
    """The runs of a list that are not finished; use `display` in a `with` block."""

    def __init__(self, runs: Sequence[PlannedRun], pending: Sequence[PlannedRun], display: Display) -> None:
        self._count = len(runs)
        self._remaining = iter(pending)
        self._failures: dict[PlannedRun, str] = {}
        self._display = display

    def next_run(self) -> PlannedRun | None:
        """Return the next run; None after the last one."""
        return next(self._remaining, None)

    def end(self, run: PlannedRun, failure: str) -> None:
        """Count a run as ended, and print its time or why it failed."""
        if failure:
            self._failures[run] = failure
        self._display.end(run, failure)

    def update(self) -> None:
        """Show the epochs that are finished by now."""
        self._display.update()

    def print(self, text: str) -> None:
        """Print a line above the bar."""
        self._display.print(text)

    def raise_failures(self) -> None:
        """Raise `UsageError`, which names the first, if any run has failed."""
        if not self._failures:
            return
        first, reason = next(iter(self._failures.items()))
        raise UsageError(
            f"{len(self._failures)} of {self._count} runs failed, first {first.name}: {reason} (see "
            f"{log_of(first.folder)})"
        )


def train_listed(
    runs: Sequence[PlannedRun],
    pending: Sequence[PlannedRun],
    place: Place,
    *,
    at_once: int,
    shown: int,
    console: Console,
) -> None:
    """Train the `pending` ones of a list of runs at a place, and show their progress.

    at_once  runs that the place has at a time
    shown    runs that it trains at a time, by which the time left is estimated

    Raises what the place raises and, after all runs have ended, `UsageError` if some of them failed.
    """
    with Display(runs, pending, shown, console) as display:
        listed = Listed(runs, pending, display)
        train(listed, place, at_once)
    listed.raise_failures()
