"""Reasons why a peer could not be measured."""

from __future__ import annotations

LONGEST = 300
"""Characters of a reason."""


def reason(error: BaseException) -> str:
    """Return the kind and the first line of an error."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:LONGEST]
