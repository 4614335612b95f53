"""One process at a time in a folder, by a file that its owner holds locked and that names the owner.

The lock is the kernel's (`flock`): it ends with its process, however that ends, so that no stale lock remains. Over NFS
it holds between hosts where the server keeps locks, which is the default; a mount with `nolock` or `local_lock` keeps
them within each host. Where a file system has no locks at all, the content of the file decides: an owner on this host is
believed while its process lives, one on another host until its file is deleted.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from jaxseq.common.errors import UsageError
from jaxseq.common.files import cannot_write, write_whole

NAME = ".lock"
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
"""Errors of `flock` on a file system without locks."""
PATIENCE = 0.3
"""Seconds to wait for a lock, which `check` in another process holds for a moment."""
PAUSE = 0.02
"""Seconds between two tries."""


class Owner(NamedTuple):
    """The process that holds a lock; `born` is its start in the kernel's ticks, None where that is not known."""

    pid: int
    host: str
    since: str
    born: int | None


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Keep a folder to this process within the context.

    Raises `UsageError`, which names the owner, if another process holds the folder.
    """
    path = folder / NAME
    try:
        descriptor = _acquire(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        yield
    finally:
        # The folder may be gone or read-only by now; the lock ends with the descriptor all the same.
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)


def check(folder: Path) -> None:
    """Raise the error that `hold` would raise if another process holds the folder; writes nothing."""
    path = folder / NAME
    try:
        descriptor = os.open(path, os.O_RDWR)
    # There is no lock, or it may not be written, which `hold` will report.
    except OSError:
        return

    try:
        _lock(descriptor, path)
    except OSError as error:
        if error.errno in NO_LOCKS:
            _check_content(path)
    finally:
        os.close(descriptor)


def _acquire(path: Path) -> int:
    """Return a descriptor of the locked file, with this process written in it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                _lock(descriptor, path)
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
                _acquire_by_content(path)
                return descriptor
            if _is_at(descriptor, path):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, _content(), 0)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        # Its owner removed the file after we had opened it: what we locked is no longer the lock.
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    """Lock an open file. Raises `UsageError`, which names the owner, if another process holds it for `PATIENCE`."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise _refusal(path, _owner(path)) from None
        time.sleep(PAUSE)


def _is_at(descriptor: int, path: Path) -> bool:
    """Return whether an open file is the one at the path."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _check_content(path: Path) -> None:
    """Raise `UsageError` if the file names a living owner."""
    owner = _owner(path)
    if owner is not None and _lives(owner):
        raise _refusal(path, owner)


def _acquire_by_content(path: Path) -> None:
    """Write this process into the file, unless a living owner is there; of several at once, the last to write wins."""
    _check_content(path)
    write_whole(path, _content())

    # Others that found no owner either write within this time.
    time.sleep(PATIENCE)
    owner = _owner(path)
    if owner is None or (owner.pid, owner.host) != (os.getpid(), platform.node()):
        raise _refusal(path, owner)


def _content() -> bytes:
    owner = Owner(
        pid=os.getpid(),
        host=platform.node(),
        since=datetime.now().astimezone().isoformat(sep=" ", timespec="seconds"),
        born=birth(os.getpid()),
    )
    return json.dumps(owner._asdict()).encode()


def _owner(path: Path) -> Owner | None:
    """Return the owner that a lock names; None if it names none."""
    try:
        record = json.loads(path.read_bytes())
        # A message shows both, on one line.
        host, since = (" ".join(str(record[name]).split())[:100] for name in ("host", "since"))
        return Owner(int(record["pid"]), host, since, record["born"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return None


def _lives(owner: Owner) -> bool:
    """Return whether the owner may still run; a later process with its number is another one."""
    if owner.host != platform.node():
        return True
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return False
    # The process of another user.
    except PermissionError:
        pass
    born = birth(owner.pid)
    return owner.born is None or born is None or owner.born == born


def birth(pid: int) -> int | None:
    """Return when a process started, in the kernel's ticks; None where there is no /proc."""
    try:
        # Field 22 of proc(5); the second field, the name, may contain spaces and ends in a bracket.
        after_name = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2]
        return int(after_name.split()[19])
    except (OSError, ValueError, IndexError):
        return None


def _refusal(path: Path, owner: Owner | None) -> UsageError:
    folder = path.parent
    if owner is None:
        return UsageError("another process works here: wait until it has ended", where=folder)

    held = f"{folder} is held by process {owner.pid} on {owner.host} since {owner.since}"
    if owner.host == platform.node():
        return UsageError(f"{held}: wait until it has ended, or end it")
    return UsageError(f"{held}: wait until it has ended; if it is gone, delete {path}")
