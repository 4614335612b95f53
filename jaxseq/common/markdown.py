"""Text within Markdown: names of the user are shown as they are."""

from __future__ import annotations

import re

SPECIAL = re.compile(r"[\\`*\[\]<>|~&$#]|(?<!\w)_|_(?!\w)|^[+-](?=\s|$)|(?<=^\d)[.)](?=\s)")
"""Characters that Markdown would not show as they are; an underscore within a word is harmless."""


def escaped(text: str) -> str:
    """Return a text, such as a name from the user, so that Markdown shows it as it is, on one line, also in a cell."""
    return SPECIAL.sub(r"\\\g<0>", one_line(text))


def one_line(text: str) -> str:
    """Reduce every run of white space to one space."""
    return " ".join(text.split())
