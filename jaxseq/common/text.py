"""Text for messages: one line, printable, of bounded length."""

from __future__ import annotations

import numpy as np

EXPANDED = "a shell writes names of files in the place of an asterisk: put it in quotation marks, '*'"
"""Hint where names of files stand in place of an option's value."""


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message, or the name of its class if it has no message."""
    lines = str(error).splitlines() or [""]
    return printable(lines[0][:200] or type(error).__name__)


def printable(text: str) -> str:
    """Return a text on one line, with unprintable characters escaped as Python escapes them."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def printable_lines(text: str) -> str:
    """Return a text with its lines, in which all other unprintable characters are escaped."""
    if text.isprintable():
        return text
    return "\n".join(map(printable, text.split("\n")))


def shown(value: object, most: int = 60) -> str:
    """Return a value on one line of at most `most` characters, a string in quotation marks.

    Messages quote what files contain, which may be of any length.
    """
    # `repr` would show a NumPy number with its type and a path with its class.
    if isinstance(value, str):
        return cut(repr(value), most)
    return cut(printable(str(value)), most)


def cut(text: str, most: int) -> str:
    """Return a text, shortened to `most` characters if it is longer."""
    if len(text) <= most:
        return text
    return f"{text[: most - 1]}…"


def plural(noun: str, count: int | float | np.number) -> str:
    """Return a noun, with an s unless there is exactly one: row, rows."""
    return noun if count == 1 else f"{noun}s"


def counted(count: int | np.integer, noun: str) -> str:
    """Return a count with its noun: 1 row, 2,000 rows."""
    return f"{count:,} {plural(noun, count)}"


def size_of(count: int) -> str:
    """Return a number of bytes, in GiB from one GiB on."""
    if count >= 2**30:
        return f"{count / 2**30:.3g} GiB"
    return f"{count:,} bytes"
