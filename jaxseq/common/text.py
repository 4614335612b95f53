"""Text for messages: one line, printable, of a bounded length."""

from __future__ import annotations

import numpy as np


def first_line(error: Exception) -> str:
    """What a library says, as far as it fits into a message of one line."""
    return printable(next(iter(str(error).splitlines()), "")[:200] or type(error).__name__)


def printable(text: str) -> str:
    """Any text on one line: what cannot be printed is written as Python would write it."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def shown(value: object, most: int = 60) -> str:
    """A value as Python writes it, on one line of at most so many letters: what a file says may be of any length."""
    return cut(repr(value), most)


def cut(text: str, most: int) -> str:
    """The text, or as much of it as at most so many letters hold."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def counted(count: int | np.integer, noun: str) -> str:
    """One row, or 2 rows."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def size_of(count: int) -> str:
    """Bytes, or GiB if they are many."""
    return f"{count / 2**30:.3g} GiB" if count >= 2**30 else f"{count:,} bytes"
