"""The memory that this process may take: the machine's or its container's, of which each worker has a share."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

from jaxseq.common.errors import UsageError

GIB = 2**30
RUNTIME = 580 * 2**20
"""Bytes of a process that trains the smallest model: Python, JAX and compiled programs."""
_PROCESSES = 1
"""Processes that share the memory, this one among them; `share` sets it."""


def share(processes: int) -> None:
    """Leave this process an equal share of the memory beside other workers of the same machine."""
    global _PROCESSES
    _PROCESSES = processes


def limit() -> int | float:
    """Return the bytes that this process may take; infinite where the system does not say."""
    return min(_machine(), _control_groups()) / _PROCESSES


def peak() -> int | None:
    """Return the most bytes of memory that this process has taken at once; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows has no such module.
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # In bytes there, in KiB elsewhere.
    return most if sys.platform == "darwin" else most * 1024


def check(rule: str, needed: int | float, where: str, most: int | float | None = None) -> None:
    """Raise `UsageError`, with both numbers, if so many bytes are more than there are.

    needed  bytes, an estimate
    most    bytes that there are; by default `limit()`
    """
    sharers = "this machine's memory"
    if _PROCESSES > 1:
        sharers = f"the share of one of {_PROCESSES} workers in this machine's memory"
    if most is None:
        most = limit()
    else:
        sharers = "the memory of the device"
    if needed > most:
        raise UsageError(
            rule,
            where=where,
            # An integer of any size, where a float would overflow.
            got=f"about {_gibibytes(needed)} GiB",
            needed=f"at most {_gibibytes(most)} GiB, {sharers}",
        )


def _gibibytes(count: int | float) -> str:
    if count < 100 * GIB:
        return f"{count / GIB:.1f}"
    return f"{int(count) // GIB:,}"


def _machine() -> int | float:
    """Return the bytes of the machine; infinite where the system does not say, as Windows."""
    with suppress(AttributeError, OSError, ValueError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return float("inf")


def _control_groups(root: Path = Path("/")) -> int | float:
    """Return the smallest limit of this process's control groups, by which containers and clusters bound it.

    Source: the Linux kernel's documentation, `admin-guide/cgroup-v2` and `admin-guide/cgroup-v1/memory`.
    """
    limits: list[int | float] = [float("inf")]
    with suppress(OSError, ValueError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            file = root / "sys/fs/cgroup"
            name = "memory.max"
            # Version 1 has a tree for each controller; the one tree of version 2 names none.
            if controllers == "memory":
                file /= "memory"
                name = "memory.limit_in_bytes"
            elif controllers:
                continue

            # A group is bounded by those around it as well. Within a container the path may be that of the host.
            folder = file / group.lstrip("/")
            for place in [folder, *folder.parents]:
                with suppress(OSError, ValueError):
                    limits.append(int((place / name).read_text()))
    return min(limits)
