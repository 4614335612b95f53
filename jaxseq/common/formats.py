"""The number of the layout of what a run leaves on disk, and how what an older jaxseq wrote is read: all migration is here.

`config.json` and every record of the checkpoints bear the number; what bears none was written before there were numbers,
and is of format 0. To change a layout: raise `FORMAT`, add to each chain the function that makes the new record of the
one before, and keep a run of the old format in `tests/fixtures/`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from jaxseq.common.errors import UsageError
from jaxseq.common.text import shown

FORMAT = 2
Record = dict[str, Any]
Kind = Literal["run", "checkpoint"]
"""What a record is: a run's `config.json`, or what is sealed beside the arrays of a checkpoint."""


def _numbered(record: Record) -> Record:
    """From 0 to 1: the number itself."""
    return record


def _hashed(record: Record) -> Record:
    """From 1 to 2: a config may hold the sha256 of the rows; without it, it is not known on which a run was trained."""
    return record


STEPS = (_numbered, _hashed)
CHAINS: dict[Kind, tuple[Callable[[Record], Record], ...]] = {"run": STEPS, "checkpoint": STEPS}
"""For each kind, the functions that take a record from format n to n + 1, from n = 0 on."""


def stamped(record: Mapping[str, Any]) -> Record:
    """The record with the number of today's format in front."""
    return {"format": FORMAT, **record}


def migrated(kind: Kind, record: Mapping[str, Any], what: str) -> Record:
    """A record of any format up to today's as today's would be, without its number.

    Raises `UsageError`, which opens with `what` and names both numbers, for a newer one or for what is no number.
    """
    number, rest = record.get("format", 0), {key: value for key, value in record.items() if key != "format"}
    if type(number) is not int or number < 0:
        raise UsageError(f"{what} has format {shown(number)}; a format is a number from 0 to {FORMAT}")
    if number > FORMAT:
        raise UsageError(f"{what} has format {shown(number)}, this version of jaxseq reads up to format {FORMAT}")
    for step in CHAINS[kind][number:FORMAT]:
        rest = step(rest)
    return rest
