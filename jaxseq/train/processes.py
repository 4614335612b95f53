"""Several processes that train one run together, on one host or on many, with all their devices in one mesh.

All of them load the data and compute every step. Only the first one writes, saves, judges and prints. It sends its
decisions to the others (`from_first`), so that no process waits in a collective operation that another never enters.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxseq.common.errors import EXIT_LOST, EXIT_USAGE, Ended, Lost, UsageError
from jaxseq.common.text import first_line

HEARTBEAT = 10
"""Seconds without a sign of life after which a process counts as lost."""
PARTING = 3
"""Seconds that the first process stays after a failure. Its exit ends the others, which need time to report."""
LOST = re.compile(
    r"gloo|nccl|heartbeat|coordination|unavailable|deadline.exceeded|connection (reset|closed|refused)|peer",
    re.IGNORECASE,
)
"""Words in the errors that JAX and its transports raise when another process is gone."""
ENVIRONMENT = ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID", "JAX_COORDINATOR_ADDRESS")
"""Variables by which a launcher may name the number of processes, this process, and the coordinator."""
T_ = TypeVar("T_")


@dataclass(frozen=True)
class Processes:
    """The processes of a run, and which of them this one is. Raises `UsageError` for an impossible combination."""

    processes: int | Literal["auto"] = 1
    # One line, because tyro keeps line breaks and then wraps each line by itself.
    """Number of processes, each started with this command; auto asks SLURM, Open MPI, Kubernetes or JAX_NUM_PROCESSES."""
    process: int | None = None
    """Index of this process, from 0. Process 0 writes and prints; every process must see the run folder."""
    coordinator: str | None = None
    """Address and free port of process 0, to which the others connect, such as 10.0.0.1:12345."""
    wait: int = 300
    """Maximum number of seconds to wait at startup for the other processes to connect."""

    def __post_init__(self) -> None:
        if self.wait < 1:
            raise UsageError("too short", where="--mesh.wait", got=self.wait, needed="at least 1 second")

        if self.processes in (1, "auto"):
            for name in ("process", "coordinator"):
                if getattr(self, name) is not None:
                    where = f"--mesh.{name}"
                    raise UsageError(
                        f"not used with --mesh.processes {self.processes}; it is for 2 and more", where=where
                    )
            return

        count = int(self.processes)
        if count < 1:
            raise UsageError("too few", where="--mesh.processes", got=count, needed="at least 1, or auto")
        for name in ("process", "coordinator"):
            if getattr(self, name) is None:
                raise UsageError(
                    f"--mesh.{name} is missing",
                    where=f"--mesh.processes {count}",
                    needed="it, or --mesh.processes auto",
                )

        assert self.process is not None and self.coordinator is not None
        if not 0 <= self.process < count:
            needed = f"0 to {count - 1}, for {count} processes"
            raise UsageError("no such process", where="--mesh.process", got=self.process, needed=needed)
        if not _is_address(self.coordinator):
            needed = "an address and a port, as 10.0.0.1:12345"
            raise UsageError("not an address", where="--mesh.coordinator", got=self.coordinator, needed=needed)


def _is_address(text: str) -> bool:
    """Return whether a text is a host, or an IPv6 address in brackets, with a port."""
    match = re.fullmatch(r"(?:[^\s:]+|\[[0-9a-fA-F:.]+\]):(\d{1,5})", text)
    return match is not None and 0 < int(match[1]) < 2**16


def from_environment(requested: Processes, environment: Mapping[str, str]) -> Processes:
    """Replace `auto` by the variables in `ENVIRONMENT`, if they are set. Raises `UsageError` for incomplete ones."""
    values = {name: environment[name] for name in ENVIRONMENT if name in environment}
    # The other variables may be set for a cluster that JAX detects itself.
    if requested.processes != "auto" or ENVIRONMENT[0] not in values:
        return requested

    missing = [name for name in ENVIRONMENT if name not in values]
    if missing:
        raise UsageError(f"{', '.join(missing)} is missing", where="environment", got=", ".join(values))
    count, number, coordinator = values.values()
    for name, value in zip(ENVIRONMENT, (count, number), strict=False):
        if not value.isdecimal():
            raise UsageError("not a number", where=name, got=value)
    if int(count) == 1:
        return Processes(wait=requested.wait)
    return Processes(int(count), int(number), coordinator, requested.wait)


@contextlib.contextmanager
def joined(requested: Processes, program: str) -> Iterator[None]:
    """Join the other processes, as `join` does, for the duration of a block.

    Raises `Lost` if another process is found to be gone. An unexpected error is printed and ends this process at once:
    on a normal exit, JAX would wait for the others and then abort them all.
    """
    join(requested, program)
    try:
        yield
    except (UsageError, Ended, MemoryError):
        raise
    except Exception as error:
        # Alone, or out of memory on a device: the command reports these itself.
        if not several() or "RESOURCE_EXHAUSTED" in str(error):
            raise
        if isinstance(error, (RuntimeError, ValueError)) and LOST.search(str(error)):
            raise Lost(first_line(error)) from error
        traceback.print_exc()
        leave(EXIT_LOST)
        raise


def join(requested: Processes, program: str) -> None:
    """Become one of several processes; does nothing for a single one. Must precede the first look at JAX's devices.

    Exits with one line and status 2 if the others do not come, before JAX would abort the process. Raises `UsageError`
    if it cannot start.
    """
    requested = from_environment(requested, os.environ)
    if requested.processes == 1:
        return

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # JAX would take SIGTERM for itself; `loop.stop_signals` handles it.
    jax.config.update("jax_enable_preemption_service", False)

    previous_handler = None
    # Python handles Ctrl-C only between its own instructions, and JAX waits in C++: let the signal end the process.
    # Outside the main thread, signals cannot be set.
    with contextlib.suppress(ValueError):
        previous_handler = signal.signal(signal.SIGINT, signal.SIG_DFL)
    watch = threading.Timer(requested.wait, _give_up, [requested, program])
    watch.daemon = True
    watch.start()
    try:
        _initialize(requested)
    finally:
        watch.cancel()
        if previous_handler is not None:
            signal.signal(signal.SIGINT, previous_handler)

    # All processes see the same counts, so that all of them raise.
    devices = Counter(device.process_index for device in jax.devices())
    if len(set(devices.values())) > 1:
        counts = ", ".join(str(devices[number]) for number in sorted(devices)[:10])
        raise UsageError(f"{_describe(requested)}: the processes have {counts} devices; all must have as many")


def _initialize(requested: Processes) -> None:
    """Start JAX's distributed runtime. Raises `UsageError` if it finds no cluster or cannot join."""
    is_auto = requested.processes == "auto"
    try:
        jax.distributed.initialize(
            coordinator_address=requested.coordinator,
            num_processes=None if is_auto else int(requested.processes),
            process_id=requested.process,
            # Longer than ours: JAX aborts the process, `_give_up` ends it with a message.
            initialization_timeout=requested.wait + 60,
            heartbeat_timeout_seconds=HEARTBEAT,
            shutdown_timeout_seconds=HEARTBEAT,
            cluster_detection_method=None if is_auto else "deactivate",
        )
    except (RuntimeError, ValueError) as error:
        problem = "finds no job of SLURM, Open MPI or Kubernetes" if is_auto else "cannot join processes"
        raise UsageError(f"{_describe(requested)}: JAX {problem} here ({first_line(error)})") from error


def _give_up(requested: Processes, program: str) -> None:
    reason = "no first process answered, or others did not come"
    if requested.process == 0:
        reason = "the others did not all come"
    message = f"{program}: {_describe(requested)}: {reason} within {requested.wait} s"
    print(message, file=sys.stderr, flush=True)
    # The main thread waits inside JAX and cannot be interrupted.
    os._exit(EXIT_USAGE)


def _describe(requested: Processes) -> str:
    if requested.processes == "auto":
        return "--mesh.processes auto"
    return f"process {requested.process} of {requested.processes}, at {requested.coordinator}"


def several() -> bool:
    """Return whether this is one of several processes."""
    return jax.distributed.is_initialized()


def is_first() -> bool:
    """Return whether this process writes, saves, judges and prints."""
    return not several() or jax.process_index() == 0


def from_first(call: Callable[[], T_]) -> T_:
    """Call a function in the first process, and return its result, as JSON represents it, in all of them.

    The other processes wait. A `UsageError` of the call is raised in all of them.
    """
    if not several():
        return call()

    message: dict[str, T_ | str] = {}
    if is_first():
        try:
            message = {"value": call()}
        except UsageError as error:
            message = {"error": str(error)}

    received = json.loads(_broadcast(json.dumps(message).encode()))
    if "error" in received:
        raise UsageError(received["error"])
    return received["value"]


def _broadcast(content: bytes) -> bytes:
    """Return the first process's bytes in all of them."""
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(content))))
    # Padded to a power of two, because every new length compiles the broadcast again.
    padded = np.zeros(1 << max(length - 1, 63).bit_length(), np.uint8)
    if is_first():
        padded[:length] = np.frombuffer(content, np.uint8)
    received = np.asarray(multihost_utils.broadcast_one_to_all(padded), np.uint8)
    return bytes(received[:length])


def check_same(text: str, problem: str) -> None:
    """Raise `UsageError` with `problem` in all processes unless each has the text of the first."""
    if several() and largest(from_first(lambda: text) != text):
        raise UsageError(f"the processes {problem}")


def largest(number: int) -> int:
    """Return the largest of the numbers that the processes pass."""
    if not several():
        return number
    return int(np.max(multihost_utils.process_allgather(np.int32(number))))


def leave(status: int) -> int:
    """Return the exit status. One of several processes that failed exits here: JAX would wait for all the others."""
    if not several() or not status:
        return status

    if is_first():
        time.sleep(PARTING)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
