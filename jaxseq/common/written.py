"""Files that a command may write again: a sealed record beside them tells whether they are still what it wrote.

Only such files are replaced unasked. A file that somebody has edited since, or that was there before, is theirs.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jaxseq.common import files, sealed
from jaxseq.common.errors import UsageError

FILES = "files"
"""Key of the sha256 of each file, by its name."""
REPLACED = "replaced"
"""Key of the sha256 of the files that were there before: one of them stays where a process is killed between writes."""


def check(record: Path, names: Iterable[str]) -> None:
    """Raise `UsageError` unless each of the named files beside a record is absent or what was written by its last call.

    Writes nothing.
    """
    known = _known(record)
    for name in names:
        path = record.with_name(name)
        if os.path.lexists(path) and _digest(path) not in known.get(name, ()):
            raise UsageError(
                "it was edited since it was written, or is a file of somebody else",
                where=path,
                needed="another --out, or --overwrite to replace it",
            )


def write(record: Path, contents: Mapping[str, bytes], **facts: Any) -> None:
    """Write files beside a record, which names them and `facts`. Raises `UsageError` if one cannot be written."""
    present = {name: _digest(record.with_name(name)) for name in contents}
    new = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    # Before the files: a process that is killed then leaves none that the record does not know.
    sealed.write(record, {**facts, FILES: new, REPLACED: {name: old for name, old in present.items() if old}})
    for name, content in contents.items():
        files.write(record.with_name(name), content)


def _known(record: Path) -> dict[str, set[str]]:
    """Return the sha256 that each file may have, by its name; empty without a sound record."""
    try:
        content = sealed.read(record)
        tables = [dict(content[FILES]), dict(content[REPLACED])]
    except (UsageError, KeyError, TypeError, ValueError):
        return {}

    known: dict[str, set[str]] = {}
    for table in tables:
        for name, digest in table.items():
            known.setdefault(name, set()).add(str(digest))
    return known


def _digest(path: Path) -> str:
    """Return the sha256 of a plain file; empty where there is none."""
    try:
        if not path.is_file():
            return ""
        return sealed.digest_of_file(path)
    except OSError:
        return ""
