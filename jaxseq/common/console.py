"""The terminal, and a progress bar for work in pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def counter(console: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar for work in so many pieces, from the first call of what it gives: (done, total); elsewhere nothing."""
    columns = (TextColumn(what), BarColumn(), TextColumn("{task.completed}/{task.total}"), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=None, visible=False)
        yield lambda done, total: bar.update(task, completed=done, total=total, visible=True)


def terminal() -> Console:
    """The screen; where it is no terminal, wide enough that no column is cut."""
    console = Console()
    return console if console.is_terminal else Console(width=120)
