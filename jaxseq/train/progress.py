"""What a training shows: a bar on a terminal and one plain line an epoch elsewhere, and its scores at the end."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class EpochDisplay:
    """Shows the epochs of one training; use it in a `with` block."""

    def __init__(self, console: Console, done: int, total: int) -> None:
        """`done` epochs of `total` were finished before."""
        self._console, self._total = console, total
        self._bar = Progress(
            TextColumn("epoch {task.completed:.0f}/{task.total:.0f}"),
            BarColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=total, completed=done, numbers="compiling")

    def __enter__(self) -> EpochDisplay:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, row: Mapping[str, Any], metric: str, best: bool) -> None:
        """One finished epoch: a row of metrics.jsonl, and whether it is the best so far."""
        numbers = (
            f"train {row['train_loss']:.5f}  valid {row[metric]:.5f}{' *' if best else '  '}"
            f"{row['windows_per_second']:>8.0f} windows/s"
        )
        if self._console.is_terminal:
            self._bar.update(self._task, completed=row["epoch"], numbers=numbers)
        else:
            left = (self._total - row["epoch"]) * row["seconds"]
            line = f"epoch {row['epoch']:>4}/{self._total}  {numbers}  about {left:.0f} s left"
            self._console.print(line, highlight=False, soft_wrap=True)

    def note(self, text: str) -> None:
        """A line above the bar."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)
