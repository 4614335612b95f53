"""Where it runs and by which clock: one core and CPU time, or a GPU and wall time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from jaxseq.benchmark import heap as heaps
from jaxseq.benchmark.heap import Heap
from jaxseq.common.errors import UsageError

CLOCKS: dict[str, tuple[str, Callable[[], float]]] = {
    "cpu": ("CPU time", time.process_time),
    "gpu": ("wall time, the device waited for", time.perf_counter),
}
"""By device, what a clock measures, and the clock in seconds."""


class Place(NamedTuple):
    """The core that a CPU run stays on, None on a GPU; and the heap of the process."""

    core: int | None
    heap: Heap


def prepare(device: str, core: int | None, heap: Heap = "kept") -> Place:
    """Settle heap and device; must come before JAX makes its first array.

    On a CPU the process and XLA keep to one core; on a GPU products are in float32 in full, not in TF32, for everybody.
    Compiled code is never read from a cache, so that its compile time is one. Raises `UsageError` for another core than
    the process may use.
    """
    # Here, as the command prints its help before JAX is imported.
    import jax

    # For processes that are started from here; JAX itself reads these variables when it is imported, and a check of the
    # options may have done so.
    os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    jax.config.update("jax_enable_compilation_cache", False)
    # Keras chooses its backend once, when it is imported.
    os.environ.setdefault("KERAS_BACKEND", "jax")
    if device == "gpu":
        os.environ["JAX_DEFAULT_MATMUL_PRECISION"] = "highest"
        jax.config.update("jax_default_matmul_precision", "highest")
        return Place(None, heaps.settle(heap))

    os.environ["JAX_PLATFORMS"] = "cpu"
    jax.config.update("jax_platforms", "cpu")
    allowed_cores = sorted(os.sched_getaffinity(0))
    if core is None:
        core = allowed_cores[-1]
    if core not in allowed_cores:
        raise UsageError(f"--core {core}: this process may use {', '.join(map(str, allowed_cores))}")
    os.sched_setaffinity(0, {core})
    # XLA would start a thread for each core of the machine.
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1".strip()
    return Place(core, heaps.settle(heap))


def check_gpu(backend: str) -> None:
    """Raise `UsageError` if JAX's default backend is not a GPU."""
    if backend != "gpu":
        raise UsageError(f"--device gpu: JAX found no GPU, only {backend}; pip install 'jaxseq[cuda]', or --device cpu")


def in_process(
    module: str,
    words: Sequence[str],
    environment: Mapping[str, str],
    title: str,
) -> str:
    """Run a module of the benchmark in another process; return the last line of its output.

    Raises `UsageError`, which names the measurement by its `title` and has the last line of the process, if that fails.
    """
    command = [sys.executable, "-m", module, *words]
    process = subprocess.run(command, env=environment, capture_output=True, text=True)
    if process.returncode:
        # Of a traceback this is the line with the reason.
        last_lines = process.stderr.strip().splitlines()[-1:] or [f"status {process.returncode}"]
        raise UsageError(f"{title} could not be measured: {last_lines[0]}")
    # Libraries may have printed something before.
    return process.stdout.splitlines()[-1]


def milliseconds(work: Callable[[], object], steps: int, device: str) -> float:
    """Return the milliseconds of one of the `steps` that `work` does; `work` returns when all of them are done."""
    _, clock = CLOCKS[device]
    start = clock()
    work()
    return (clock() - start) / steps * 1e3
