"""Sealed records: each carries its own sha256, so that a reader notices a change of what was written.

The seal is no signature. It tells a record from one that a disk, a program or a slip of a hand has changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxseq.common import files, formats
from jaxseq.common.errors import UsageError

SEAL = "sha256"
"""Key of a record's own hash."""
RUN_ID = "run_id"
"""Key of the identity of a run, in its configuration and in each epoch's record: the sha256 of its first configuration."""
SINCE = 3
"""First format in which every file that a run reads back is sealed."""


class DamagedError(UsageError):
    """Stored data that differ from what was saved; `reasons` has one line for each damaged leaf or file."""

    def __init__(self, where: str, reasons: list[str]) -> None:
        more = f"; and {len(reasons) - 1} more" if len(reasons) > 1 else ""
        super().__init__(f"damaged ({reasons[0]}{more})", where=where)
        self.reasons = reasons


def digest(record: Mapping[str, object]) -> str:
    """Return the sha256 of a record as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def digest_of_file(path: Path) -> str:
    """Return the sha256 of a file's content. Raises `OSError`, also for a pipe or device, which may never end."""
    files.check_plain(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def change_of_file(path: Path, digest: str) -> str | None:
    """Return how a file differs from the one that had a sha256, in words; None if it does not."""
    try:
        if digest_of_file(path) != digest:
            return "it was changed since it was written"
    except FileNotFoundError:
        return "it is missing"
    except OSError as error:
        return f"it cannot be read: {error.strerror or error}"
    return None


def seal(**record: object) -> dict[str, Any]:
    """Return a record, as JSON holds it, with the format number and its own sha256."""
    # JSON turns tuples into lists, and the digest has to be that of what is read again.
    sealed = json.loads(json.dumps(formats.stamped(record)))
    return {**sealed, SEAL: digest(sealed)}


def unseal(record: Mapping[str, object], where: str, file: str) -> dict[str, Any]:
    """Return a sealed record without its format number and sha256.

    Raises `DamagedError` for a broken seal, `UsageError` for a newer format; `where` names the record, `file` its file.
    """
    content = dict(record)
    # The seal is checked before the format: the number may be what is damaged.
    if content.pop(SEAL, None) != digest(content):
        raise DamagedError(where, [f"{file}: sha256 differs"])
    return formats.unstamped(content, where)


def write(path: Path, record: Mapping[str, object]) -> None:
    """Write a sealed record as indented JSON. Raises `UsageError` if it cannot be written."""
    files.write_json(path, seal(**record))


def read(path: Path) -> dict[str, Any]:
    """Return the record in a file, without its format number and sha256; formats before `SINCE` may have no seal.

    Raises `DamagedError` for a missing or broken seal, `UsageError` for a file that cannot be read and for a newer format.
    """
    record = files.read_json(path)
    if not is_sealed(record):
        return formats.unstamped(record, str(path))
    return unseal(record, str(path), "changed since it was written")


def is_sealed(record: Mapping[str, object]) -> bool:
    """Return whether a record has to have a seal: it has one, or its format is one that has."""
    number = formats.number_of(record)
    return SEAL in record or (type(number) is int and number >= SINCE)
