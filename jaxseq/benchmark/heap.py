"""The heap of the process: whether glibc gives large buffers back to Linux after each use.

By default it maps a buffer above 32 MiB anew for each use, and every page of it costs a fault: a step of a wide layer takes
half as long again. All libraries of a comparison therefore get one heap, from before anything is allocated. A program of
one's own has the same by the environment (`ENVIRONMENT`).
"""

from __future__ import annotations

import ctypes
from types import MappingProxyType
from typing import Literal, TypeAlias

Heap: TypeAlias = Literal["kept", "default"]

# Numbers of the settings in glibc's malloc.h.
M_TRIM_THRESHOLD = -1
M_TOP_PAD = -2
M_MMAP_THRESHOLD = -3
NEVER = 2**30
"""Bytes of a buffer that is mapped by itself, or of free memory that is given back: more than any program here has."""
PAD = 64 * 2**20
"""Bytes by which the heap grows at a time."""
SETTINGS = MappingProxyType({M_MMAP_THRESHOLD: NEVER, M_TRIM_THRESHOLD: NEVER, M_TOP_PAD: PAD})
ENVIRONMENT = MappingProxyType(
    {
        "MALLOC_MMAP_THRESHOLD_": str(NEVER),
        "MALLOC_TRIM_THRESHOLD_": str(NEVER),
        "MALLOC_TOP_PAD_": str(PAD),
    }
)
"""The same settings as variables that glibc reads when a program starts."""


def settle(heap: Heap) -> Heap:
    """Set the heap of this process, and return the one that it has: "default" where the C library has no such settings."""
    if heap == "default" or not has_settings():
        return "default"
    library = ctypes.CDLL(None)
    # It returns 0 for a value that it does not take.
    if not all(library.mallopt(setting, value) for setting, value in SETTINGS.items()):
        return "default"
    return "kept"


def has_settings() -> bool:
    """Return whether the C library is one with such settings, as glibc is."""
    return hasattr(ctypes.CDLL(None), "mallopt")


def words(heap: Heap) -> str:
    """Describe a heap in a line of the output."""
    if heap == "kept":
        return "heap kept by the process (mallopt: no buffer is mapped by itself, none given back)"
    return "the C library's default heap, which maps buffers above 32 MiB anew at each use"
