"""The record of an ensemble, beside its members in the folder of their study: which of their epochs it combines.

It is written last, and has the sha256 of every file of the ensemble's judgement. A member that was trained or judged again
since then is another one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from jaxseq.checkpoint import run_seal
from jaxseq.common import files, sealed
from jaxseq.common.errors import UsageError
from jaxseq.common.sealed import DamagedError

RECORD = "ensemble.json"
AGAIN = "the command of the study with --ensemble makes it anew"


class Member(NamedTuple):
    """A run in the ensemble, by the name of its folder, and the epoch that was judged."""

    name: str
    run_id: str | None
    epoch: int
    state_sha256: str


class Record(NamedTuple):
    """An ensemble: how its members are combined, and the sha256 of each file of its judgement."""

    combination: str
    members: tuple[Member, ...]
    files: Mapping[str, str]


def is_ensemble(folder: Path) -> bool:
    """Return whether a folder has the record of an ensemble, sound or not."""
    return os.path.lexists(folder / RECORD)


def member_of(run: Path) -> Member:
    """Return a judged run as a member. Raises `DamagedError`, which names it, if it is not finished."""
    if not (run / run_seal.CONFIG).is_file():
        raise DamagedError(f"{run}", [f"a member of the ensemble is missing; {AGAIN}"])
    judged = run_seal.read_judged(run)
    if judged is None:
        raise DamagedError(f"{run}", [f"this member of the ensemble has not been judged; {AGAIN}"])
    return Member(run.name, judged.run_id, judged.epoch, judged.state_sha256)


def write(folder: Path, combination: str, members: Iterable[Member], names: Iterable[str]) -> None:
    """Write the record of an ensemble whose judgement has the named files. Raises `UsageError` if it cannot be written."""
    digests = {name: sealed.digest_of_file(folder / name) for name in names}
    listed = [member._asdict() for member in members]
    sealed.write(folder / RECORD, {"combination": combination, "members": listed, "files": digests})


def remove(folder: Path) -> None:
    """Remove the record of an ensemble, whose files are about to be written again."""
    files.remove(folder / RECORD)


def read(folder: Path) -> Record:
    """Return the record of an ensemble, whose members are as it says.

    Raises `DamagedError`, with the file or the member, for a broken seal, and for a member that is missing, not finished,
    another run or in another epoch.
    """
    record = _record(folder)
    for member in record.members:
        present = member_of(folder / member.name)
        if present.run_id != member.run_id:
            raise DamagedError(f"{folder / member.name}", [f"it is another run than the ensemble's member; {AGAIN}"])
        if present != member:
            reason = (
                f"it was judged in epoch {present.epoch} since the ensemble was made of epoch {member.epoch}; {AGAIN}"
            )
            raise DamagedError(f"{folder / member.name}", [reason])
    return record


def check_file(folder: Path, record: Record, name: str) -> None:
    """Raise `DamagedError` unless a file of the ensemble's judgement is as it was written."""
    change = f"{RECORD} does not name it"
    if name in record.files:
        change = sealed.change_of_file(folder / name, record.files[name])
    if change is not None:
        raise DamagedError(f"{folder / name}", [f"{change}; {AGAIN}"])


def damage(folder: Path) -> list[str]:
    """Return a line for each file of an ensemble that is not as it was written, and for the first member that is not."""
    try:
        record = _record(folder)
    except UsageError as error:
        return [str(error)]
    lines = []
    for name in record.files:
        try:
            check_file(folder, record, name)
        except UsageError as error:
            lines.append(str(error))
    try:
        read(folder)
    except UsageError as error:
        lines.append(str(error))
    return lines


def _record(folder: Path) -> Record:
    """Read the record of an ensemble. Raises `DamagedError` for other fields, and for members outside of the folder."""
    path = folder / RECORD
    content = sealed.read(path)
    other_fields = DamagedError(f"{path}", ["it has other fields than an ensemble"])
    try:
        members = tuple(Member(**member) for member in content["members"])
        record = Record(content["combination"], members, dict(content["files"]))
        names = [*(member.name for member in members), *record.files]
        is_whole = len(members) > 1 and all(Path(name).name == name for name in names)
    except (KeyError, TypeError, ValueError):
        raise other_fields from None
    if not is_whole:
        raise other_fields
    return record
