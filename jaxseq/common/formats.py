"""The number of the layout of a run's files.

`config.json` and every record of the checkpoints carry the number; without one, a record has format 0. All formats up
to `FORMAT` are read alike: the later ones only add optional fields, and from format 3 on every file that is read back is
sealed (`sealed.SINCE`). To change the layout so that this no longer holds, raise `FORMAT`, convert older records in
`unstamped`, and keep a run of the old format in `tests/fixtures/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxseq.common.errors import UsageError

FORMAT = 3
Record = dict[str, Any]


def stamped(record: Mapping[str, Any]) -> Record:
    """Return a record with the number of the current format in front."""
    return {"format": FORMAT, **record}


def unstamped(record: Mapping[str, Any], where: str) -> Record:
    """Return a record of any format up to the current one without its number.

    Raises `UsageError` for a newer format and for anything that is no format number; `where` names the record.
    """
    number = record.get("format", 0)
    # `isinstance` would accept True and False.
    if type(number) is not int or number < 0:
        raise UsageError("not a format number", where=where, got=number, needed=f"a number from 0 to {FORMAT}")
    if number > FORMAT:
        raise UsageError(
            "the format is newer than this version of jaxseq", where=where, got=number, needed=f"at most {FORMAT}"
        )
    return {name: value for name, value in record.items() if name != "format"}
