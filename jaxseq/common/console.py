"""The terminal, and a progress bar for work in pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def counter(console: Console, label: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar from the first call of the yielded function, (done, total), on; nothing off a terminal."""
    columns = (TextColumn(label), BarColumn(), TextColumn("{task.completed}/{task.total}"), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("", total=None, visible=False)
        yield lambda done, total: progress.update(task, completed=done, total=total, visible=True)


def terminal() -> Console:
    """Return the console of stdout, which is 120 characters wide off a terminal, so that no column is cut."""
    console = Console()
    if console.is_terminal:
        return console
    return Console(width=120)
