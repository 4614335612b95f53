"""The option `--auto` and the time that it takes as a value."""

from __future__ import annotations

import re

from jaxseq.common.errors import UsageError

OPTION = "--auto"
TIME = re.compile(r"(?P<number>\d{1,9}(?:\.\d{1,9})?)(?P<unit>s|m|h)?", re.ASCII)
UNITS = {None: 1, "s": 1, "m": 60, "h": 3600}
"""Seconds of a unit of time; a number without one is of seconds."""


def seconds_of(text: str) -> float:
    """Return the seconds of a time such as 300, 90s, 5m or 1h. Raises `UsageError` for any other text."""
    match = TIME.fullmatch(text)
    if match is None:
        raise UsageError("no time", where=OPTION, got=text, needed="seconds, or a number with s, m or h: 5m")
    return float(match["number"]) * UNITS[match["unit"]]
