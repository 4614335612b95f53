"""One process at a time in a folder, by a file that its owner holds locked and that says who the owner is.

The lock is the kernel's (`flock`): it goes with its process, however that ends, so there is nothing stale to clear away.
Over NFS it holds between hosts where the server keeps locks, which is the default; a mount with `nolock` or
`local_lock` keeps them within each host. Where a file system has no locks at all, the file's content decides: an owner
on this host is believed while its process lives, one on another host until its file is deleted.
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
"""What `flock` says where a file system has none."""
PATIENCE, PAUSE = 0.3, 0.02
"""Seconds that a lock is asked for, since others look at it for a moment; and between two tries."""


class Owner(NamedTuple):
    """Who holds a lock; `born` is when the process started, as the kernel counts, where it can be told."""

    pid: int
    host: str
    since: str
    born: int | None


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Within, no other process that asks works in `folder`. Raises `UsageError`, which names the owner, if one does."""
    path = folder / NAME
    try:
        descriptor = _take(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        yield
    finally:
        with suppress(OSError):  # the folder is gone, or can be written no more; the lock ends with the descriptor
            path.unlink()
        os.close(descriptor)


def check(folder: Path) -> None:
    """Raise now what `hold` would raise if another process works in `folder`; writes nothing."""
    path = folder / NAME
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:  # no lock; if it may not be written, `hold` will say so
        return
    try:
        _lock(descriptor, path)
    except OSError as error:
        if error.errno in NO_LOCKS and (owner := _read(path)) is not None and _lives(owner):
            raise _refusal(path, owner) from None
    finally:
        os.close(descriptor)


def _take(path: Path) -> int:
    """A descriptor of the locked file, with this process written in it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                _lock(descriptor, path)
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
                _take_by_content(path)
                return descriptor
            if _same(descriptor, path):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, _content(), 0)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its owner removed it after we had opened it: what we hold is no longer the lock


def _lock(descriptor: int, path: Path) -> None:
    """Lock an open file; `UsageError`, which names the owner, if another process holds it for longer than a look."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise _refusal(path, _read(path)) from None
        time.sleep(PAUSE)


def _same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _take_by_content(path: Path) -> None:
    """Put this process into the file, unless one that lives is there. Of several at once, the last to write has it."""
    if (owner := _read(path)) is not None and _lives(owner):
        raise _refusal(path, owner)
    write_whole(path, _content())
    time.sleep(PATIENCE)
    if (owner := _read(path)) is None or (owner.pid, owner.host) != (os.getpid(), platform.node()):
        raise _refusal(path, owner)


def _content() -> bytes:
    since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    return json.dumps(Owner(os.getpid(), platform.node(), since, _born(os.getpid()))._asdict()).encode()


def _read(path: Path) -> Owner | None:
    """The owner that a lock names; None if it names none."""
    try:
        saved = json.loads(path.read_bytes())
        host, since = (" ".join(str(saved[name]).split())[:100] for name in ("host", "since"))
        return Owner(int(saved["pid"]), host, since, saved["born"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return None


def _lives(owner: Owner) -> bool:
    """Whether the owner may still be there; a process that was given its number later is another one."""
    if owner.host != platform.node():
        return True
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's, but there
        pass
    born = _born(owner.pid)
    return owner.born is None or born is None or owner.born == born


def _born(pid: int) -> int | None:
    """When a process started, in the kernel's ticks; None where there is no /proc."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2]
        return int(after_name.split()[19])  # field 22 of proc(5), of which the first two end in the name's bracket
    except (OSError, ValueError, IndexError):
        return None


def _refusal(path: Path, owner: Owner | None) -> UsageError:
    folder = path.parent
    if owner is None:
        return UsageError(f"another process works in {folder}: wait until it has ended")
    text = f"{folder} is held by process {owner.pid} on {owner.host} since {owner.since}"
    if owner.host == platform.node():
        return UsageError(f"{text}: wait until it has ended, or end it")
    return UsageError(f"{text}: wait until it has ended; if it is gone, delete {path}")
