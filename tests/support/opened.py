"""Files that anything opens below a folder while a block runs, as Linux reports them (inotify)."""

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

OPENED = 0x20
OVERFLOWED = 0x4000
HEADER = struct.Struct("iIII")
"""Watch, mask, cookie, and the length of the name that follows."""


@contextmanager
def opened(folder: Path) -> Iterator[set[str]]:
    """Yield a set that holds, after the block, the paths of the files that were opened, relative to the folder.

    Opening counts, by Python or by a library's threads, and whatever for; asking for a size or a type does not. Folders
    that are made within the block are not watched.
    """
    library = ctypes.CDLL(None, use_errno=True)
    queue = library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    assert queue >= 0, os.strerror(ctypes.get_errno())
    found: set[str] = set()
    try:
        parents = {}
        for parent in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
            watch = library.inotify_add_watch(queue, os.fsencode(parent), OPENED)
            assert watch >= 0, os.strerror(ctypes.get_errno())
            parents[watch] = parent.relative_to(folder)
        yield found
        for watch, mask, name in _events(queue):
            assert not mask & OVERFLOWED, "too many events to be counted"
            found.add(str(parents[watch] / name))
    finally:
        os.close(queue)


def _events(queue: int) -> Iterator[tuple[int, int, str]]:
    """Yield the watch, the mask and the file's name of every event that waits."""
    while True:
        try:
            content = os.read(queue, 2**16)
        except BlockingIOError:
            return
        place = 0
        while place < len(content):
            watch, mask, _, length = HEADER.unpack_from(content, place)
            place += HEADER.size
            yield watch, mask, os.fsdecode(content[place : place + length].rstrip(b"\0"))
            place += length
