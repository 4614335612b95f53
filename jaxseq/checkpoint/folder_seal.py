"""The seal of a folder that a command writes once, such as composed pieces: one record has the sha256 of every other file.

A folder from before format 3 has a record without a seal; it is read as it is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxseq.common import sealed
from jaxseq.common.errors import UsageError
from jaxseq.common.sealed import DamagedError

SAMPLES = "samples.json"
"""Name of the record of composed pieces."""
TABLE = "coherence.csv"
"""Name of the table beside it."""
FILES = "sha256_by_file"
"""Key of the hash of each file beside the record, by its name."""


def write(record: Path, facts: Mapping[str, object]) -> None:
    """Write a record with `facts` that seals all files beside it. Raises `UsageError` if it cannot be written."""
    paths = sorted(path for path in record.parent.iterdir() if path.is_file() and path != record)
    sealed.write(record, {**facts, FILES: {path.name: sealed.digest_of_file(path) for path in paths}})


def is_sealed(folder: Path) -> bool:
    """Return whether a folder holds composed pieces, be it that their record is gone."""
    return any(os.path.lexists(folder / name) for name in (SAMPLES, TABLE))


def read(record: Path) -> dict[str, Any]:
    """Return a record, after a check of every file that it seals.

    Raises `DamagedError` if a file was changed, `UsageError` for a record that cannot be read.
    """
    content = sealed.read(record)
    changes = _changes(content, record)
    if changes:
        path, change = next(iter(changes.items()))
        raise DamagedError(str(path), [f"not what {record.name} says: {change}"])
    return content


def damage(record: Path) -> list[str]:
    """Return a line for each file that is not as it was written; empty if the folder is sound."""
    try:
        changes = _changes(sealed.read(record), record)
    except UsageError as error:
        return [str(error)]
    return [f"{path}: not what {record.name} says: {change}" for path, change in changes.items()]


def _changes(content: Mapping[str, object], record: Path) -> dict[Path, str]:
    """Return how each file that was changed differs. Raises `DamagedError` for names outside of the record's folder."""
    digests = content.get(FILES, {})
    if not isinstance(digests, dict) or any(name != Path(name).name for name in digests):
        raise DamagedError(str(record), ["it has other fields than a record of files"])
    changes = {record.with_name(name): sealed.change_of_file(record.with_name(name), digests[name]) for name in digests}
    return {path: change for path, change in changes.items() if change is not None}
