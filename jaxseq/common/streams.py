"""Standard output and error: what cannot be written to them ends a command in one line, and not in a traceback."""

from __future__ import annotations

import errno
import os
import select
import sys
from contextlib import suppress
from typing import TextIO

from jaxseq.common.errors import UsageError

OUTPUT_FAILURES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Errors of a write to an output that has no name, as a full disk gives them."""
LEAST_OPEN_FILES = 64
"""Files that a process must be allowed to have open: a training has 29, and Orbax fails without them."""


def open_missing() -> None:
    """Open the null device in the place of a standard stream that the caller of the command has closed."""
    # A file that is opened later would have the number of the stream, and libraries would write into it.
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor <= 2:
        descriptor = os.open(os.devnull, os.O_RDWR)
    os.close(descriptor)

    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def is_abandoned(stream: TextIO) -> bool:
    """Return whether a stream is a pipe that nobody reads any more, as that of a command before ``head``."""
    # Windows has no `poll`, and a stream of a test no descriptor.
    with suppress(AttributeError, OSError, ValueError):
        poll = select.poll()
        poll.register(stream.fileno(), select.POLLOUT)
        return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))
    return True


def silence(stream: TextIO) -> None:
    """Lead a stream that has failed to the null device: what is buffered would fail again when the interpreter ends."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def check_open_files() -> None:
    """Allow this process to have `LEAST_OPEN_FILES` files open. Raises `UsageError` if it may not have so many."""
    # Windows has no such module, and no such bound.
    try:
        import resource
    except ImportError:
        return

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= LEAST_OPEN_FILES:
        return
    if hard != resource.RLIM_INFINITY and hard < LEAST_OPEN_FILES:
        raise UsageError(
            "too few open files are allowed", where="ulimit -n", got=hard, needed=f"at least {LEAST_OPEN_FILES}"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (LEAST_OPEN_FILES, hard))
