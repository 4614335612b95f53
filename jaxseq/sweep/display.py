"""Progress of many runs on the screen."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jaxseq.checkpoint import run_seal
from jaxseq.sweep.planned import PlannedRun, read_metrics
from jaxseq.train import experiments

if TYPE_CHECKING:
    from rich.console import Console


class Display:
    """Progress bar over the epochs of all pending runs on a terminal; elsewhere a line for each run that ends."""

    def __init__(
        self,
        runs: Sequence[PlannedRun],
        pending: Sequence[PlannedRun],
        workers: int,
        console: Console,
    ) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        self._pending = list(pending)
        self._count = len(runs)
        self._workers = workers
        self._console = console
        self._ended = 0
        self._began = time.monotonic()

        self._progress = Progress(
            TextColumn("run {task.fields[runs]}"),
            BarColumn(),
            TextColumn("{task.percentage:.0f} %{task.fields[left]}"),
            console=console,
            disable=not console.is_terminal,
        )
        epochs = sum(run.experiment.most_epochs for run in pending)
        self._task = self._progress.add_task("", total=epochs, runs=self._ended_of_all(), left="")

    def __enter__(self) -> Display:
        self._progress.start()
        finished = self._count - len(self._pending)
        self.print(f"{self._count} runs, {finished} of them finished already, {self._workers} at a time")
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def update(self) -> None:
        """Show the epochs that are finished by now."""
        # Without a terminal there is no bar: reading the metrics of all runs would be for nothing.
        if not self._console.is_terminal:
            return
        epochs = sum(len(read_metrics(run)) for run in self._pending)
        self._progress.update(
            self._task,
            completed=epochs,
            runs=self._ended_of_all(),
            left=self._time_left(),
        )

    def end(self, run: PlannedRun, failure: str = "") -> None:
        """Count a run as ended and print its time, or why it failed."""
        self._ended += 1
        seconds = sum(row["seconds"] for row in read_metrics(run))
        outcome = f"{seconds:.0f} s"
        if failure:
            outcome = f"failed: {failure}"
        self.print(f"run {self._ended_of_all()}: {run.name}, {outcome}{self._time_left()}")

    def print(self, text: str) -> None:
        """Print a line above the bar."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _ended_of_all(self) -> str:
        finished = self._count - len(self._pending)
        return f"{finished + self._ended} of {self._count}"

    def _time_left(self) -> str:
        """Estimate the time left, in words; empty before the first epoch.

        An epoch to come costs the mean of the epochs of runs that differ in the seed alone, or that of all epochs. A run
        to come also costs the mean time that ended runs took beside their epochs, to start and to be judged.
        """
        seconds = {run: [row["seconds"] for row in read_metrics(run)] for run in self._pending}
        alike: dict[str, list[float]] = {}
        for run, run_seconds in seconds.items():
            alike.setdefault(_without_seed(run), []).extend(run_seconds)
        measured = [second for run_seconds in seconds.values() for second in run_seconds]
        if not measured:
            return ""

        left = 0.0
        if self._ended:
            elapsed = (time.monotonic() - self._began) * self._workers
            overhead = max(0.0, elapsed - sum(measured)) / self._ended
            left = overhead * (len(self._pending) - self._ended)
        for run, run_seconds in seconds.items():
            # Patience may have ended a run before its last epoch: the report tells, not the count.
            if (run.folder / run_seal.JUDGED).is_file():
                continue
            costs = alike[_without_seed(run)] or measured
            epochs = run.experiment.most_epochs - len(run_seconds)
            left += epochs * sum(costs) / len(costs)

        # Where some kind of run has no epoch yet, its cost is a guess.
        certainty = "about" if all(alike.values()) else "perhaps"
        return f", {certainty} {left / self._workers / 60:.0f} min left"


def _without_seed(run: PlannedRun) -> str:
    """Return the run's recipe as text, alike for runs that differ in the seed alone."""
    return str({**experiments.to_config(run.experiment), "seed": 0})
