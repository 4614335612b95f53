"""One process at a time in a folder, by a lock of `filelock` with a note beside it that names the owner.

The lock is the operating system's: it ends with its process, however that ends, so that no stale lock remains. Over NFS
it holds between hosts where the server keeps locks, which is the default; a mount with `nolock` or `local_lock` keeps
them within each host. Where a file system has no locks at all, a marker stands for the lock: its owner is believed while
its process lives on this host, and on another host until the marker is deleted.
"""

from __future__ import annotations

import errno
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from jaxseq.common import files
from jaxseq.common.errors import UsageError
from jaxseq.common.text import printable

NAME = ".lock"
OWNER = ".lock.json"
"""Name of the owner's note. It is a file of its own, because Windows lets nobody else read a file that is locked."""
MARKER = ".lock.soft"
"""Name of the marker on a file system without locks; filelock may leave others that begin with it."""
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
"""Errors of locking on a file system without locks."""
PATIENCE = 0.3
"""Seconds to wait for a lock, which `check` in another process holds for a moment."""
PAUSE = 0.02
"""Seconds between two tries."""


class Owner(NamedTuple):
    """The process that holds a lock, and the time when it took it."""

    pid: int
    host: str
    since: str


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Keep a folder to this process within the context.

    Raises `UsageError`, which names the owner, if another process holds the folder.
    """
    lock = _acquire(folder)
    owner = _this_process()
    try:
        files.write_json(folder / OWNER, owner._asdict())
        yield
    finally:
        # The folder may be another one by now, gone or read-only; the lock ends all the same.
        if _owner(folder) == owner:
            # Before the release, because who waits for a file that was removed tries again. Windows removes no open
            # file; there filelock does it.
            for name in (OWNER, NAME):
                with suppress(OSError):
                    (folder / name).unlink()
        lock.release()


@contextmanager
def wait_for(path: Path, seconds: float) -> Iterator[None]:
    """Keep a file to this process within the context, by a lock beside it; waits for other processes.

    Raises `UsageError` if another one holds it for so many seconds, or if it cannot be locked.
    """
    # Stays there: one that is removed may be held by a process that waited for it.
    file_lock = FileLock(path.with_name(f".{path.name}{NAME}"), fallback_to_soft=False)
    try:
        file_lock.acquire(timeout=seconds, poll_interval=PAUSE)
    except Timeout:
        raise UsageError(f"another process holds it for {seconds:.0f} s", where=path) from None
    except OSError as error:
        raise files.cannot_write(path, error) from error
    try:
        yield
    finally:
        file_lock.release()


def check(folder: Path) -> None:
    """Raise the error that `hold` would raise if another process holds the folder; writes nothing."""
    # Without such a file there is nothing to take; acquiring would make one.
    if os.path.lexists(folder / NAME):
        _acquire(folder).release()


def is_part(name: str) -> bool:
    """Return whether a file of this name belongs to a lock."""
    return name in (NAME, OWNER) or name.startswith(MARKER)


def _acquire(folder: Path) -> BaseFileLock:
    """Return the lock of a folder, held. Raises `UsageError` if another process holds it or no file can be written."""
    path = folder / NAME
    try:
        # filelock would make a folder that is missing.
        os.scandir(folder).close()
        try:
            lock = FileLock(path, thread_local=False, fallback_to_soft=False)
            lock.acquire(timeout=PATIENCE, poll_interval=PAUSE)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            lock = SoftFileLock(folder / MARKER, thread_local=False)
            lock.acquire(timeout=PATIENCE, poll_interval=PAUSE)
    except Timeout as error:
        raise _refusal(folder, Path(error.lock_file)) from None
    except OSError as error:
        raise files.cannot_write(path, error) from error
    return lock


def _this_process() -> Owner:
    since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    return Owner(os.getpid(), platform.node(), since)


def _owner(folder: Path) -> Owner | None:
    """Return the owner that the note names; None if it names none."""
    try:
        record = files.read_json(folder / OWNER)
        # A message shows both, on one line.
        host, since = (printable(str(record[name]))[:100] for name in ("host", "since"))
        return Owner(int(record["pid"]), host, since)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _refusal(folder: Path, path: Path) -> UsageError:
    """Return the error of a lock, at `path`, that another process holds."""
    owner = _owner(folder)
    if owner is None:
        return UsageError("another process works here: wait until it has ended", where=folder)

    held = f"{folder} is held by process {owner.pid} on {owner.host} since {owner.since}"
    if owner.host == platform.node():
        return UsageError(f"{held}: wait until it has ended, or end it")
    return UsageError(f"{held}: wait until it has ended; if it is gone, delete {path}")
