"""The display of a training: a progress bar on a terminal or in a notebook, and a plain line for each epoch elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from jaxseq.train.notebook import NotebookDisplay
from jaxseq.train.run_folder import Row


def display_of(console: Console, rows: Sequence[Row], total: int) -> EpochDisplay | NotebookDisplay:
    """Return the display of a training of `total` epochs, of which some were finished before, for this console."""
    if console.is_jupyter and not console.quiet:
        return NotebookDisplay(console, rows, total)
    return EpochDisplay(console, len(rows), total)


class EpochDisplay:
    """Shows the epochs of one training; use it in a `with` block."""

    def __init__(self, console: Console, done: int, total: int) -> None:
        """`done` of `total` epochs were finished before."""
        self._console = console
        self._total = total
        self._seconds: list[float] = []
        # rich's own estimate of the time left would include the first epoch, which compiles. Off a terminal rich prints
        # the last state of a bar alone, so `show` prints a line for each epoch there.
        self._progress = Progress(
            TextColumn("epoch {task.completed:.0f}/{task.total:.0f}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[numbers]}"),
            _TimeLeft(table_column=Column(no_wrap=True)),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("", total=total, completed=done, numbers="", end=None)

    def __enter__(self) -> EpochDisplay:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show_compiling(self) -> None:
        """Say that the functions of the first epoch are being compiled."""
        if self._console.is_terminal:
            self._progress.update(self._task, numbers="compiling")
        else:
            self.note("compiling")

    def show(self, row: Row, metric: str, best: bool) -> None:
        """Show a finished epoch: its row of `metrics.jsonl`, and a star if it is the best so far."""
        self._seconds.append(row["seconds"])
        numbers = (
            f"train {row['train_loss']:.5f}  valid {row[metric]:.5f} {'*' if best else ' '} "
            f"{row['windows_per_second']:.0f} rows/s"
        )
        seconds_left = self._seconds_left(int(row["epoch"]))

        if self._console.is_terminal:
            end = None if seconds_left is None else time.monotonic() + seconds_left
            self._progress.update(self._task, completed=row["epoch"], numbers=numbers, end=end)
            return
        line = f"epoch {row['epoch']:>4}/{self._total}  {numbers}"
        if seconds_left is not None:
            line += f"  about {seconds_left:.0f} s left"
        self._console.print(line, highlight=False, soft_wrap=True)

    def _seconds_left(self, epoch: int) -> float | None:
        """Estimate the time of the remaining epochs; None while it is not known."""
        # The first epoch of a process compiles, which can take longer than all the others together.
        without_compiling = self._seconds[1:]
        if epoch == self._total:
            return 0.0
        if not without_compiling:
            return None
        return (self._total - epoch) * sum(without_compiling) / len(without_compiling)

    def note(self, text: str) -> None:
        """Print a line above the progress bar."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


class _TimeLeft(ProgressColumn):
    """The time until a task's `end`, on the monotonic clock; it counts down between two epochs."""

    def render(self, task: Task) -> Text:
        end = task.fields["end"]
        if end is None:
            return Text("")
        minutes, seconds = divmod(max(0, round(end - time.monotonic())), 60)
        hours, minutes = divmod(minutes, 60)
        return Text(f"{hours}:{minutes:02}:{seconds:02} left", style="progress.remaining")
