"""The number of the layout of a run's files.

`config.json` and every record of the checkpoints carry the number; without one, a record has format 0. The records of all
formats up to `FORMAT` are read alike: the later ones only add optional fields, and from format 3 on every file that is
read back is sealed (`sealed.SINCE`). The arrays of formats before 4 have other paths, `jaxseq.checkpoint.migration`. To
change the layout again, raise `FORMAT`, convert older records in `unstamped` or older arrays there, and keep a run of the
old format in `tests/fixtures/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxseq.common.errors import UsageError

FORMAT = 4
KEY = "format"
"""Key of the number in a record."""
Record = dict[str, Any]


def stamped(record: Mapping[str, object]) -> Record:
    """Return a record with the number of the current format in front."""
    return {KEY: FORMAT, **record}


def number_of(record: Mapping[str, object]) -> Any:
    """Return the number of a record, 0 if it has none; what it is, `unstamped` checks."""
    return record.get(KEY, 0)


def unstamped(record: Mapping[str, object], where: str) -> Record:
    """Return a record of any format up to the current one without its number.

    Raises `UsageError` for a newer format and for anything that is no format number; `where` names the record.
    """
    number = number_of(record)
    # `isinstance` would accept True and False.
    if type(number) is not int or number < 0:
        raise UsageError("not a format number", where=where, got=number, needed=f"a number from 0 to {FORMAT}")
    if number > FORMAT:
        raise UsageError(
            "the format is newer than this version of jaxseq", where=where, got=number, needed=f"at most {FORMAT}"
        )
    return {name: value for name, value in record.items() if name != KEY}
