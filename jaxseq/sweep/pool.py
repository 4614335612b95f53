"""Train a list of runs in parallel worker processes.

Finished runs are skipped and interrupted ones resume, bit for bit, from their last checkpoint. Each of several workers
computes on one thread: models this small do not gain from a second.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from types import FrameType
from typing import TYPE_CHECKING, NamedTuple, NoReturn, TypeVar

from jaxseq.checkpoint import run_seal
from jaxseq.common import files, memory, signals
from jaxseq.common.errors import (
    EXIT_TERMINATED,
    Interrupted,
    Stopped,
    UsageError,
    WorkerKilled,
    is_out_of_memory,
)
from jaxseq.common.text import counted, first_line
from jaxseq.sweep.listed import train_listed
from jaxseq.sweep.places import POLL_SECONDS, Place
from jaxseq.sweep.planned import PRUNED, PlannedRun, PrunedError, is_finished, log_of

if TYPE_CHECKING:
    from rich.console import Console

ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
"""XLA flags of a worker that is not alone."""
ORPHAN_SECONDS = 30.0
"""Time that a worker without a parent has to save its epoch, between two signals."""
SAME_COMMAND = "the same command"

Item = TypeVar("Item")
Result = TypeVar("Result")


def has_accelerator() -> bool:
    """Return whether JAX finds a GPU or TPU. A worker asks, so that this process does not take hold of it."""
    return map_in_workers(_backend, [None], 1)[0] != "cpu"


def _backend(_: None) -> str:
    import jax

    return jax.default_backend()


def train_all(
    runs: Sequence[PlannedRun],
    workers: int,
    console: Console,
    command: str = SAME_COMMAND,
) -> None:
    """Train all runs that are not finished, `workers` at a time, and show their progress.

    Raises as `place` does, and `UsageError` after all runs have ended if some of them failed.
    """
    pending = [run for run in runs if not is_finished(run)]
    if not pending:
        return
    count = min(workers, len(pending))
    with place(count, command) as workers_place:
        train_listed(runs, pending, workers_place, at_once=count, shown=count, console=console)


@contextlib.contextmanager
def place(count: int, command: str = SAME_COMMAND) -> Iterator[Place]:
    """Within, runs are trained by `count` worker processes.

    On Ctrl-C or SIGTERM the runs in training finish and save their epoch; then `Stopped` is raised, whose message names
    `command` as the way to resume; if a worker is killed, `WorkerKilled`.
    """
    with _workers(count, command) as pool, _forwarded_signals(pool) as exit_status:
        yield _Workers(pool, exit_status, command)


class _Workers:
    """Worker processes as a place."""

    def __init__(self, pool: _Pool, exit_status: Callable[[], int], command: str) -> None:
        self._pool = pool
        self._exit_status = exit_status
        self._command = command
        self._running: dict[Future[str], PlannedRun] = {}

    def start(self, runs: Sequence[PlannedRun], note: Callable[[str], None]) -> None:
        """Hand runs to the workers."""
        for run in runs:
            self._running[self._pool.executor.submit(_train_in_worker, run)] = run

    def ended(self) -> Mapping[PlannedRun, str]:
        """Wait until a run has ended, but not for long."""
        futures, _ = wait(self._running, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
        # Those that a signal has stopped have not failed.
        if self.is_stopping():
            return {}
        return {self._running.pop(future): _failure(future) for future in futures}

    def is_stopping(self) -> bool:
        """Return whether a signal has asked to stop."""
        return self._exit_status() != 0

    def leave(self, note: Callable[[str], None]) -> NoReturn:
        """Raise `Stopped` when the runs have saved their epochs."""
        note("stopping after the epochs that are being trained (Ctrl-C again to stop at once)")
        self._pool.executor.shutdown(cancel_futures=True)
        raise Stopped(self._exit_status(), self._command)


def _failure(future: Future[str]) -> str:
    """Return why a run failed; empty if it did not. Raises `BrokenProcessPool` if a worker was killed."""
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, BrokenProcessPool):
        raise error
    return _reason(error)


def _reason(error: BaseException) -> str:
    """Return a run's exception in one line."""
    if is_out_of_memory(error):
        return f"not enough memory ({first_line(error)})"
    return f"{type(error).__name__}: {first_line(error)}"


def map_in_workers(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    command: str = SAME_COMMAND,
) -> list[Result]:
    """Apply `work` to each item in worker processes; results are in the items' order.

    `work`, items and results are pickled. Raises the first exception that `work` raises, and `WorkerKilled`, which names
    `command`, if a worker is killed.
    """
    with _workers(min(workers, max(1, len(items))), command) as pool:
        futures = [pool.executor.submit(_apply, work, item) for item in items]
        return [future.result() for future in futures]


def _apply(work: Callable[[Item], Result], item: Item) -> Result:
    """Apply `work`, and raise only what the process that waits can unpickle: anything else would break its pool."""
    try:
        return work(item)
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            raise RuntimeError(_reason(error)) from error
        raise


def train_run(planned: PlannedRun) -> str:
    """Train or resume a run in this process; returns why it failed, `PRUNED`, or an empty text.

    The run's output goes into a log beside its folder, and the traceback of an exception that is no fault of the user.
    Raises `Interrupted` on Ctrl-C or SIGTERM, after the epoch is saved.
    """
    from jaxseq.common.console import terminal
    from jaxseq.train import run

    folder = planned.folder
    try:
        files.refuse_link(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        output = files.open_to_append(log_of(folder))
    except UsageError as error:
        return str(error)
    except OSError as error:
        return str(files.cannot_write(log_of(folder), error))

    with output as file:
        console = terminal(file)
        try:
            callbacks = planned.callbacks()
            if (folder / run_seal.CONFIG).is_file():
                run.train(planned.experiment, console=console, resume=folder, callbacks=callbacks)
            else:
                run.train(planned.experiment, console=console, out=folder, callbacks=callbacks)
        except Interrupted as stop:
            print(stop, file=file)
            raise
        except PrunedError as error:
            print(error, file=file)
            return PRUNED
        except UsageError as error:
            print(error, file=file)
            return str(error)
        except Exception as error:
            traceback.print_exc(file=file)
            return _reason(error)
        except KeyboardInterrupt:
            # The signal came before the training loop had its handler; nothing is to be saved.
            return "stopped before the training began"
    return ""


class _Worker:
    """State of a worker process."""

    is_training = False
    stop: Event
    """Set when no further run may begin."""


def _train_in_worker(run: PlannedRun) -> str:
    """Train a run unless the workers are stopping; returns why it failed, or an empty text."""
    # The executor hands a worker its next run before it can cancel it.
    if _Worker.stop.is_set():
        return "not begun"
    # Signals count from here on: a worker that waits has nothing to save.
    try:
        _Worker.is_training = True
        return train_run(run)
    except Interrupted as stop:
        return str(stop)
    finally:
        _Worker.is_training = False


class _Pool(NamedTuple):
    """Worker processes and the event that keeps them from beginning further work."""

    executor: ProcessPoolExecutor
    stop: Event


@contextlib.contextmanager
def _workers(count: int, command: str) -> Iterator[_Pool]:
    """Start worker processes; they inherit neither threads nor devices of this one.

    Raises `WorkerKilled`, which names `command`, where the pool breaks because a worker is killed.
    """
    memory.check(f"{counted(count, 'worker')} do not fit into memory", needed=count * memory.RUNTIME, where="--workers")
    context = get_context("spawn")
    stop = context.Event()
    # Nothing is ever sent: workers see the end of the pipe when this process closes it or dies.
    lifeline, held_end = context.Pipe(duplex=False)

    # Spawned processes read the flags from the environment, as XLA takes no others.
    flags = os.environ.get("XLA_FLAGS")
    if count > 1:
        os.environ["XLA_FLAGS"] = f"{flags or ''} {ONE_THREAD}".strip()
    executor = ProcessPoolExecutor(count, context, _prepare_worker, (stop, lifeline, count))
    try:
        yield _Pool(executor, stop)
    except BaseException as error:
        # The executor waits for all workers. Their work is not needed any more, and those without work hear no signal.
        stop.set()
        held_end.close()
        if isinstance(error, BrokenProcessPool):
            raise WorkerKilled(command) from error
        raise
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
        lifeline.close()
        held_end.close()
        if flags is None:
            os.environ.pop("XLA_FLAGS", None)
        else:
            os.environ["XLA_FLAGS"] = flags


def _prepare_worker(stop: Event, lifeline: Connection, count: int) -> None:
    """Make one of `count` workers obey its parent's signals alone, and end when its parent closes the lifeline or ends."""
    memory.share(count)
    # In the parent's session Ctrl-C would arrive twice: from the terminal and from the parent. Windows has no sessions.
    if hasattr(os, "setsid"):
        os.setsid()
    _Worker.stop = stop

    def interrupt(number: int, frame: FrameType | None) -> None:
        # Between epochs the training loop has its own handler, which saves first.
        if _Worker.is_training:
            raise KeyboardInterrupt

    def end_with_parent() -> None:
        with contextlib.suppress(EOFError, OSError):
            lifeline.recv()
        while _Worker.is_training:
            os.kill(os.getpid(), signal.SIGTERM)
            deadline = time.monotonic() + ORPHAN_SECONDS
            while _Worker.is_training and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)
        os._exit(EXIT_TERMINATED)

    signal.signal(signal.SIGTERM, interrupt)
    threading.Thread(target=end_with_parent, daemon=True).start()


@contextlib.contextmanager
def _forwarded_signals(pool: _Pool) -> Iterator[Callable[[], int]]:
    """Forward Ctrl-C and SIGTERM to the workers, which save their epoch; a second signal stops them at once.

    Yields a function that returns the exit status of the signal, 0 before there is one.
    """
    status = 0

    def forward(exit_status: int) -> None:
        nonlocal status
        status = exit_status
        pool.stop.set()
        # The executor has no public way to signal its workers.
        for worker in list((pool.executor._processes or {}).values()):
            worker.terminate()

    with signals.caught(forward):
        yield lambda: status
