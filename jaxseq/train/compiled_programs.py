"""Compiled programs, kept from one process to the next below the user's cache folder.

Compiling takes longer than a short training. JAX finds a program by everything that it depends on: its operations, its
options, the devices, and the version of the compiler.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
from pathlib import Path

import jax

from jaxseq.common.errors import UsageError
from jaxseq.data.cache import cache_folder

FOLDER = "JAX_COMPILATION_CACHE_DIR"
"""JAX's variable for the folder; a user who sets it has chosen."""
SETTINGS: dict[str, str | float | int] = {
    FOLDER: "",
    # Seconds: smaller programs are compiled as fast as they are read.
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": 0.1,
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": -1,
    # Bytes, beyond which the programs that were not used for longest are removed.
    "JAX_COMPILATION_CACHE_MAX_SIZE": 2**30,
}


def keep() -> None:
    """Keep the programs that this process and its children compile, and take those that are kept.

    Does nothing if the user has set `JAX_COMPILATION_CACHE_DIR`, has switched the cache off
    (`JAX_ENABLE_COMPILATION_CACHE=0`), or has no folder that can be written.
    """
    if FOLDER in os.environ or not jax.config.values["jax_enable_compilation_cache"]:
        return
    folder = _writable_folder()
    if folder is None:
        return

    settings = {**SETTINGS, FOLDER: str(folder)}
    for name, value in settings.items():
        # Child processes read the environment, this one has read it already.
        text = os.environ.setdefault(name, str(value))
        jax.config.update(name.lower(), type(value)(text))


def _writable_folder() -> Path | None:
    """Return the folder for programs of this compiler and this processor; None if it cannot be made."""
    version = importlib.metadata.version("jaxlib")
    # A folder that several machines share must not give one of them a program with instructions that it lacks.
    processor = hashlib.sha256(_processor().encode()).hexdigest()[:8]
    try:
        folder = cache_folder("programs") / f"jaxlib-{version}-{processor}"
        folder.mkdir(parents=True, exist_ok=True)
    except (UsageError, OSError):
        return None
    return folder if os.access(folder, os.W_OK | os.X_OK) else None


def _processor() -> str:
    """Return the processor's architecture and, where the system tells, the instructions that it has."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    # "flags" on x86, "Features" on ARM.
    instructions = [line.partition(":")[2] for line in lines if line.lower().startswith(("flags", "features"))]
    return f"{platform.machine()} {' '.join(sorted(set(instructions)))}"
