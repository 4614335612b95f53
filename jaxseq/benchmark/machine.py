"""Where it runs and by which clock: one core and CPU time, or a GPU and wall time."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Callable

from jaxseq.common.errors import UsageError

CLOCKS: dict[str, tuple[str, Callable[[], float]]] = {
    "cpu": ("CPU time", time.process_time),
    "gpu": ("wall time, the device waited for", time.perf_counter),
}
"""By device, what a clock measures, and the clock in seconds."""

PEERS = {"cpu": ("autodiff", "flax", "torch"), "gpu": ("autodiff", "flax", "cudnn", "torch")}
"""By device, who is timed beside us."""
PACKAGES = {"autodiff": "jax", "flax": "flax", "torch": "torch", "cudnn": "jax"}


def prepare(device: str, core: int | None) -> int | None:
    """Settle the device; must come before JAX is imported. Returns the core that a CPU run stays on.

    On a CPU the process and XLA keep to one core; on a GPU products are in float32 in full, not in TF32, for everybody.
    Compiled code is never read from a cache, so that its compile time is one. Raises `UsageError` for another core than
    the process may use.
    """
    os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    if device == "gpu":
        os.environ["JAX_DEFAULT_MATMUL_PRECISION"] = "highest"
        return None
    os.environ["JAX_PLATFORMS"] = "cpu"
    allowed = sorted(os.sched_getaffinity(0))
    chosen = allowed[-1] if core is None else core
    if chosen not in allowed:
        raise UsageError(f"--core {chosen}: this process may use {', '.join(map(str, allowed))}")
    os.sched_setaffinity(0, {chosen})
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1".strip()
    return chosen


def check_gpu(backend: str) -> None:
    """Raises `UsageError` if JAX's default backend is not a GPU."""
    if backend != "gpu":
        raise UsageError(f"--device gpu: JAX found no GPU, only {backend}; pip install 'jaxseq[cuda]', or --device cpu")


def absent(peer: str, cell: str, device: str) -> str | None:
    """Why a peer cannot be timed, None if it can."""
    if importlib.util.find_spec(PACKAGES[peer]) is None:
        return "not installed"
    if peer == "cudnn" and cell != "lstm":
        return "LSTM only"
    if peer == "torch" and device == "gpu":
        import torch

        return None if torch.cuda.is_available() else "no CUDA"
    return None


def milliseconds(work: Callable[[], object], steps: int, device: str) -> float:
    """The milliseconds of one of the `steps` that `work` does; `work` returns when all of them are done."""
    _, clock = CLOCKS[device]
    start = clock()
    work()
    return (clock() - start) / steps * 1e3
