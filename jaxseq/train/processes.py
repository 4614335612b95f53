"""Several processes, on one host or on many, that do the same run together, each with its own devices in the one mesh.

All of them load the data and do every step. The first alone writes, saves, judges and prints; what it decides, it tells the
others (`from_first`), so that nobody waits in a sum which the others will not come to.
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
from jaxseq.common.text import first_line, shown

HEARTBEAT, PARTING = 10, 3
"""Seconds after which a process that gives no sign of life is lost; and that the first stays after a failure, so that
the others, whom its end would end, can say what they have to."""
LOST = re.compile(
    r"gloo|nccl|heartbeat|coordination|unavailable|deadline.exceeded|connection (reset|closed|refused)|peer",
    re.IGNORECASE,
)
"""What JAX says in its many ways when another process is gone."""
ENVIRONMENT = ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID", "JAX_COORDINATOR_ADDRESS")
"""Where a launcher of the user's own may say it all."""
T_ = TypeVar("T_")


@dataclass(frozen=True)
class Processes:
    """Which of how many processes this is."""

    processes: int | Literal["auto"] = 1
    """Processes that train one run together, each started by this same command; auto asks SLURM, Open MPI, Kubernetes, or
    JAX_NUM_PROCESSES, JAX_PROCESS_ID and JAX_COORDINATOR_ADDRESS in the environment."""
    process: int | None = None
    """The number of this one, from 0. The first writes the run and the screen; all need to see its folder."""
    coordinator: str | None = None
    """Where the first waits for the others, an address and a free port: 10.0.0.1:12345."""
    wait: int = 300
    """Seconds to wait for the others at the start."""

    def __post_init__(self) -> None:
        given = [f"--mesh.{name}" for name in ("process", "coordinator") if getattr(self, name) is not None]
        if self.wait < 1:
            raise UsageError(f"mesh.wait must be at least 1 second; it is {self.wait}")
        if self.processes in (1, "auto"):
            if given:
                raise UsageError(f"{given[0]} is for --mesh.processes of 2 and more, not of {self.processes}")
            return
        if int(self.processes) < 1:
            raise UsageError(f"mesh.processes must be at least 1, or auto; it is {self.processes}")
        if self.process is None or self.coordinator is None:
            lacks = "process" if self.process is None else "coordinator"
            raise UsageError(f"--mesh.processes {self.processes} needs --mesh.{lacks}, or take --mesh.processes auto")
        if not 0 <= self.process < int(self.processes):
            last = int(self.processes) - 1
            raise UsageError(
                f"mesh.process must be from 0 to {last}, for {self.processes} processes; it is {self.process}"
            )
        port = re.fullmatch(r"[^\s:]+:(\d{1,5})|\[[0-9a-fA-F:.]+\]:(\d{1,5})", self.coordinator)
        if port is None or not 0 < int(port[1] or port[2]) < 2**16:
            raise UsageError(
                f"mesh.coordinator must be an address and a port, as 10.0.0.1:12345; it is {self.coordinator}"
            )


def from_environment(asked: Processes, environment: Mapping[str, str]) -> Processes:
    """What `auto` stands for where the environment says it; the processes as they are otherwise. Raises `UsageError`."""
    said = {name: environment[name] for name in ENVIRONMENT if name in environment}
    if asked.processes != "auto" or ENVIRONMENT[0] not in said:
        return asked
    if lacking := [name for name in ENVIRONMENT if name not in said]:
        raise UsageError(f"{', '.join(said)} in the environment: {', '.join(lacking)} must be there, too")
    count, number, coordinator = said.values()
    if not (count.isdecimal() and number.isdecimal()):
        raise UsageError(f"{', '.join(f'{name}={shown(value)}' for name, value in said.items())}: numbers are needed")
    if int(count) == 1:
        return Processes(wait=asked.wait)
    return Processes(int(count), int(number), coordinator, asked.wait)


@contextlib.contextmanager
def joined(asked: Processes, program: str) -> Iterator[None]:
    """Become one of several processes, as `join` does, and be one within.

    Raises `Lost` where another is found to be gone. An error that is nobody's is printed, and ends this process here and
    now: on its way out, JAX would wait for the others, and then abort them all.
    """
    join(asked, program)
    try:
        yield
    except (UsageError, Ended, MemoryError):
        raise
    except Exception as error:
        if not several() or "RESOURCE_EXHAUSTED" in str(error):
            raise
        if isinstance(error, (RuntimeError, ValueError)) and LOST.search(str(error)):
            raise Lost(first_line(error)) from error
        traceback.print_exc()
        leave(EXIT_LOST)
        raise


def join(asked: Processes, program: str) -> None:
    """Become one of several processes; nothing for one. Comes before all else that asks JAX for its devices.

    Ends the process with a line and status 2 if the others do not come: JAX would abort it. Raises `UsageError` if it
    cannot even begin.
    """
    asked = from_environment(asked, os.environ)
    if asked.processes == 1:
        return
    before = None
    with contextlib.suppress(ValueError):  # not the main thread
        before = signal.signal(signal.SIGINT, signal.SIG_DFL)  # or nobody would hear a Ctrl-C while JAX waits
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", False)  # SIGTERM is `loop.stop_signals`'
    watch = threading.Timer(asked.wait, _give_up, [asked, program])
    watch.daemon = True
    watch.start()
    try:
        jax.distributed.initialize(
            asked.coordinator,
            None if asked.processes == "auto" else asked.processes,
            asked.process,
            initialization_timeout=asked.wait + 60,
            heartbeat_timeout_seconds=HEARTBEAT,
            shutdown_timeout_seconds=HEARTBEAT,
            cluster_detection_method=None if asked.processes == "auto" else "deactivate",
        )
    except (RuntimeError, ValueError) as error:
        where = (
            "finds no job of SLURM, Open MPI or Kubernetes" if asked.processes == "auto" else "cannot join processes"
        )
        raise UsageError(f"{_who(asked)}: JAX {where} here ({first_line(error)})") from error
    finally:
        watch.cancel()
        if before is not None:
            signal.signal(signal.SIGINT, before)
    devices = Counter(device.process_index for device in jax.devices())  # the same for all, so that all of them end
    if len(set(devices.values())) > 1:
        counts = ", ".join(str(devices[number]) for number in sorted(devices)[:10])
        raise UsageError(f"{_who(asked)}: the processes have {counts} devices; all must have as many")


def _give_up(asked: Processes, program: str) -> None:
    why = "the others did not all come" if asked.process == 0 else "no first process answered, or others did not come"
    print(f"{program}: {_who(asked)}: {why} within {asked.wait} s", file=sys.stderr, flush=True)
    os._exit(EXIT_USAGE)


def _who(asked: Processes) -> str:
    if asked.processes == "auto":
        return "--mesh.processes auto"
    return f"process {asked.process} of {asked.processes}, at {asked.coordinator}"


def several() -> bool:
    """Whether this is one of several processes."""
    return jax.distributed.is_initialized()


def is_first() -> bool:
    """Whether this process writes, saves, judges and prints."""
    return not several() or jax.process_index() == 0


def from_first(call: Callable[[], T_]) -> T_:
    """What a call gives in the first process, as JSON has it, in all of them; the others do not call, but wait.

    Its `UsageError` is raised in all of them.
    """
    if not several():
        return call()
    told: dict[str, T_ | str] = {}
    if is_first():
        try:
            told = {"value": call()}
        except UsageError as error:
            told = {"error": str(error)}
    said = json.loads(_spread(json.dumps(told).encode()))
    if "error" in said:
        raise UsageError(said["error"])
    return said["value"]


def _spread(text: bytes) -> bytes:
    """The first process's text, in all of them; filled up to a power of two, so that few lengths are compiled."""
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
    filled = np.zeros(1 << max(length - 1, 63).bit_length(), np.uint8)
    if is_first():
        filled[:length] = np.frombuffer(text, np.uint8)
    return bytes(np.asarray(multihost_utils.broadcast_one_to_all(filled), np.uint8)[:length])


def check_same(text: str, why: str) -> None:
    """Raise `UsageError` with `why` in all of the processes unless each has the text that the first has."""
    if several() and largest(from_first(lambda: text) != text):
        raise UsageError(f"the processes {why}")


def largest(number: int) -> int:
    """The largest of the numbers, one from each process."""
    return int(np.max(multihost_utils.process_allgather(np.int32(number)))) if several() else number


def leave(status: int) -> int:
    """The exit status; one of several that failed ends here and now, since JAX would have it wait for all the others."""
    if not several() or not status:
        return status
    if is_first():
        time.sleep(PARTING)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
