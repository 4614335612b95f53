"""The terminal: text out of files is shown as text, and a progress bar for work in pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from io import StringIO, TextIOWrapper
from typing import Any, TypeAlias

from rich import progress
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.text import Text

from jaxseq.common.text import printable_lines

NARROWEST = 120
"""Columns off a terminal, so that no column of a table is cut."""

Progress: TypeAlias = Callable[[int, int], None]
"""A function of the pieces of a work that are done and of all of them, called after each."""


class Screen(Console):
    """Console that escapes what a terminal would obey: names and texts may come out of anybody's file.

    Nor has it markup such as ``[red]``, emoji codes, or colours for numbers.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Make a `Text` of a string; it is measured as it will be shown, so that tables stay aligned."""
        return super().render_str(printable_lines(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments of anything that is shown, also of a `Text` that was not made by `render_str`."""
        for segment in super().render(renderable, options):
            # Control segments move the cursor of a progress bar.
            if segment.control:
                yield segment
            else:
                yield segment._replace(text=printable_lines(segment.text))

    def on_broken_pipe(self) -> None:
        """Let `command_line.run` decide on the exit status; rich would exit with its own."""
        raise BrokenPipeError


@contextmanager
def counter(console: Console, label: str) -> Iterator[Progress]:
    """Show a progress bar from the first call of the yielded function, (done, total), on; nothing off a terminal."""
    columns = (TextColumn(label), BarColumn(), TextColumn("{task.completed}/{task.total}"), TimeRemainingColumn())
    with progress.Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=None, visible=False)
        yield lambda done, total: bar.update(task, completed=done, total=total, visible=True)


def terminal(file: TextIOWrapper | StringIO | None = None, narrowest: int = NARROWEST) -> Screen:
    """Return the console of stdout or of a file; off a terminal it has `narrowest` columns."""
    screen = Screen(file=file)
    if screen.is_terminal:
        return screen
    return Screen(file=file, width=narrowest)


def say(text: str) -> None:
    """Print a text on stdout, with its lines as they are."""
    print(printable_lines(text), flush=True)
