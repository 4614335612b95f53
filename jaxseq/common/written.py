"""Files that a command may write again: a sealed record beside them tells whether they are still what it wrote.

Only such files are replaced unasked. A file that somebody has edited since, or that was there before, is theirs: `check`
refuses it before any work is done; `Outputs`, for results of hours, sets it aside.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from jaxseq.common import files, sealed
from jaxseq.common.errors import UsageError

RECORD = "written.json"
"""Name of the record in a folder of `Outputs`."""
FILES = "files"
"""Key of the sha256 of each file, by its name."""
REPLACED = "replaced"
"""Key of the sha256 of earlier files with another content: one stays where a process is killed between writes."""


def check(record: Path, names: Iterable[str]) -> None:
    """Raise `UsageError` unless each of the named files beside a record is absent or what was written by its last call.

    Writes nothing.
    """
    own_digests = _known(record)
    for name in names:
        path = record.with_name(name)
        if os.path.lexists(path) and _digest(path) not in own_digests.get(name, ()):
            raise UsageError(
                "it was edited since it was written, or is a file of somebody else",
                where=path,
                needed="another --out, or --overwrite to replace it",
            )


def unchanged(record: Path) -> dict[str, str]:
    """Return the sha256 of each file beside a record that is still what was written, by its name."""
    digests = {name: (own_digests, _digest(record.with_name(name))) for name, own_digests in _known(record).items()}
    return {name: digest for name, (own_digests, digest) in digests.items() if digest in own_digests}


def write(record: Path, contents: Mapping[str, bytes], **facts: object) -> None:
    """Write files beside a record, which names them and `facts`. Raises `UsageError` if one cannot be written."""
    present = {name: _digest(record.with_name(name)) for name in contents}
    new = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    # Files that this call does not write again stay its command's own.
    new |= {name: digest for name, digest in unchanged(record).items() if name not in contents}
    # Equal contents are left out: a repeated call then makes the record of the first one, byte for byte.
    replaced = {name: old for name, old in present.items() if old not in ("", new[name])}
    # Before the files: a process that is killed then leaves none that the record does not know.
    sealed.write(record, {**facts, FILES: new, REPLACED: replaced})
    for name, content in contents.items():
        files.write(record.with_name(name), content)
    if replaced:
        # None of the earlier files is left.
        sealed.write(record, {**facts, FILES: new, REPLACED: {}})
    _remove_leftovers(record.parent, [record.name, *contents])


def obstacles(folder: Path) -> list[str]:
    """Return a line for each folder in the place of a file that a command would write into `folder` again."""
    names = [RECORD, *_known(folder / RECORD)]
    return [f"{folder / name}: a folder in the place of a file" for name in names if (folder / name).is_dir()]


class Outputs:
    """Files of a folder that a command writes one after the other, and writes again when it is repeated.

    folder  of the files, and of the record `RECORD`
    report  called with a line about each file of somebody else, which is renamed before another one takes its name
    """

    def __init__(self, folder: Path, report: Callable[[str], object]) -> None:
        self.folder = folder
        self._record = folder / RECORD
        self._report = report
        self._known = _known(self._record)
        self._files: dict[str, str] = {}

    def begin(self) -> None:
        """Mark a new folder as one of this command's. Raises `UsageError` if it cannot be written."""
        if not os.path.lexists(self._record):
            sealed.write(self._record, {FILES: {}, REPLACED: {}})

    def write(self, name: str, content: bytes) -> Path:
        """Write a file and return its path. Raises `UsageError` if it cannot be written, and for a folder in its place."""
        path = self.folder / name
        digest = hashlib.sha256(content).hexdigest()
        own_digests = self._known.setdefault(name, set())
        if os.path.lexists(path) and not path.is_dir() and _digest(path) not in {*own_digests, digest}:
            self._set_aside(path)

        is_changed = bool(own_digests - {digest})
        own_digests.add(digest)
        self._files[name] = digest
        # Before the file: a process that is killed then leaves none that the record does not know.
        self._write_record()
        files.write(path, content)
        self._known[name] = {digest}
        if is_changed:
            # The earlier file is gone.
            self._write_record()
        _remove_leftovers(self.folder, [RECORD, name])
        return path

    def _write_record(self) -> None:
        """Write the record: the files of this process, and which other contents each name may still have."""
        # Equal contents are left out: a repeated command then makes the record of the first one, byte for byte.
        replaced: dict[str, list[str]] = {}
        for name, digests in self._known.items():
            others = digests - {self._files.get(name, "")}
            if others:
                replaced[name] = sorted(others)
        sealed.write(self._record, {FILES: self._files, REPLACED: replaced})

    def _set_aside(self, path: Path) -> None:
        """Rename a file, or a link, to a name such as `sweep.edited-1.md`."""
        number = 1
        while os.path.lexists(path.with_name(f"{path.stem}.edited-{number}{path.suffix}")):
            number += 1
        aside = path.with_name(f"{path.stem}.edited-{number}{path.suffix}")
        try:
            path.rename(aside)
        except OSError as error:
            raise files.cannot_write(aside, error) from error
        self._report(f"{path} was edited since it was written, or is a file of somebody else: kept as {aside.name}")


def _remove_leftovers(folder: Path, names: Iterable[str]) -> None:
    """Remove the temporary files that killed processes have left of files of these names."""
    starts = tuple(files.temporary_name(name).rpartition("-")[0] for name in names)
    # They do no harm, so failing to remove them is not an error.
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if files.TEMPORARY.fullmatch(path.name) and path.name.startswith(starts):
                path.unlink(missing_ok=True)


def _known(record: Path) -> dict[str, set[str]]:
    """Return the sha256 that each file may have, by its name; empty without a sound record."""
    try:
        content = sealed.read(record)
        tables = [dict(content[FILES]), dict(content[REPLACED])]
    except (UsageError, KeyError, TypeError, ValueError):
        return {}

    digests_by_name: dict[str, set[str]] = {}
    for table in tables:
        for name, digests in table.items():
            # One digest, or several of a file that was written again before a kill.
            listed = digests if isinstance(digests, list) else [digests]
            digests_by_name.setdefault(name, set()).update(map(str, listed))
    return digests_by_name


def _digest(path: Path) -> str:
    """Return the sha256 of a plain file; empty where there is none."""
    try:
        if not path.is_file():
            return ""
        return sealed.digest_of_file(path)
    except OSError:
        return ""
