"""Runs that are wanted, trained by so many processes at a time; those that are finished already are taken as they are.

Each run is what `training.train` makes of its recipe, in a process of its own that has one thread where there are
several: small models gain nothing from a second one. A run that was interrupted is gone on with, bit for bit.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context, parent_process
from multiprocessing.synchronize import Event
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxseq.common import signals
from jaxseq.common.errors import EXIT_TERMINATED, Interrupted, Stopped, UsageError
from jaxseq.train import experiments, run_folder
from jaxseq.train.experiments.base import Experiment

if TYPE_CHECKING:
    from rich.console import Console

ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
LOG = ".log"
"""What a run of a pool says goes into a file beside its folder, with this ending."""
GLANCE, ORPHANED = 0.5, 30.0
"""Seconds from one look at the runs to the next; and that a worker without a parent has to save its epoch."""


class Wanted(NamedTuple):
    """A run that is to be there: what a person calls it, its recipe, the folder that it has or gets."""

    name: str
    experiment: Experiment
    folder: Path


def accelerated() -> bool:
    """Whether JAX finds a GPU or TPU; this process does not take hold of it."""
    return each(_backend, [()], 1)[0] != "cpu"


def _backend(nothing: tuple[()]) -> str:
    import jax

    return jax.default_backend()


def finished(run: Wanted) -> bool:
    """Whether the run is there, trained and judged. Raises `UsageError` if another recipe's run is in its place."""
    if not (run.folder / run_folder.CONFIG).is_file():
        return False
    source = str(run.folder / run_folder.CONFIG)
    if experiments.from_config(run_folder.read_config(run.folder), source) != run.experiment:
        raise UsageError(f"{source} is of another recipe than {run.name}: name another --out")
    return (run.folder / run_folder.REPORT).is_file()


def fill(wanted: Sequence[Wanted], workers: int, console: Console, again: str = "the same command") -> None:
    """Train all that is not finished, `workers` at a time, and show how far they are.

    On Ctrl-C or SIGTERM the runs finish their epoch and are saved, then `Stopped` is raised, which says that `again` goes
    on. Raises `UsageError`, once all the others are through, if runs failed.
    """
    waiting = [run for run in wanted if not finished(run)]
    if not waiting:
        return
    display = Display(wanted, waiting, workers, console)
    with display, _processes(workers) as (pool, stop), _signals(pool, stop) as stopped:
        futures = {pool.submit(_work, run.experiment, run.folder): run for run in waiting}
        failed, left = {}, set(futures)
        while left and not stopped():
            done, left = wait(left, timeout=GLANCE, return_when=FIRST_COMPLETED)
            display.look()
            for future in done:
                if complaint := _complaint(future):
                    failed[futures[future]] = complaint
                display.end(futures[future], failed.get(futures[future]))
        if status := stopped():
            display.note("stopping after the epochs that are being trained (Ctrl-C again to stop at once)")
            pool.shutdown(cancel_futures=True)
            raise Stopped(status, again)
    check(failed, wanted)


def check(failed: Mapping[Wanted, str], wanted: Sequence[Wanted]) -> None:
    """Raise `UsageError`, which names the first, for runs that failed; each comes with what it said."""
    if failed:
        first, said = next(iter(failed.items()))
        log = first.folder.with_suffix(LOG)
        raise UsageError(f"{len(failed)} of {len(wanted)} runs failed, first {first.name}: {said} (see {log})")


def _complaint(future: Future[str]) -> str:
    """Why a run failed; empty if it did not."""
    error = future.exception()
    return future.result() if error is None else f"{type(error).__name__}: {error}".splitlines()[0]


class _Worker:
    """What a worker process knows of itself."""

    busy = False
    stop: Event


def _work(experiment: Experiment, folder: Path) -> str:
    """`train`, in a worker."""
    if _Worker.stop.is_set():
        return "not begun"
    try:
        _Worker.busy = True
        return train(experiment, folder)
    except Interrupted as stop:
        return str(stop)
    finally:
        _Worker.busy = False


def train(experiment: Experiment, folder: Path) -> str:
    """Train a run or go on with it, here; what it says goes into its log, what went wrong comes back in words.

    Raises `Interrupted` on Ctrl-C or SIGTERM, once the epoch is saved.
    """
    from rich.console import Console

    from jaxseq.train import run as training

    folder.parent.mkdir(parents=True, exist_ok=True)
    begun = (folder / run_folder.CONFIG).is_file()
    where: dict[str, Any] = {"resume": folder} if begun else {"out": folder}
    with folder.with_suffix(LOG).open("a", encoding="utf-8") as file:
        try:
            training.train(experiment, console=Console(file=file, width=120), **where)
        except Interrupted as stop:
            print(stop, file=file)
            raise
        except UsageError as error:
            print(error, file=file)
            return str(error)
        except KeyboardInterrupt:
            return "stopped before the training began"
    return ""


@contextlib.contextmanager
def _processes(workers: int) -> Iterator[tuple[ProcessPoolExecutor, Event]]:
    """Fresh processes, which inherit no thread and no device of this one, and what tells them to begin nothing more."""
    flags, context = os.environ.get("XLA_FLAGS"), get_context("spawn")
    if workers > 1:
        os.environ["XLA_FLAGS"] = f"{flags or ''} {ONE_THREAD}".strip()
    stop = context.Event()
    pool = ProcessPoolExecutor(workers, context, _prepare, (stop,))
    try:
        yield pool, stop
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        if flags is None:
            os.environ.pop("XLA_FLAGS", None)
        else:
            os.environ["XLA_FLAGS"] = flags


def _prepare(stop: Event) -> None:
    """A worker answers to its parent alone, and ends with it."""
    os.setsid()  # or a Ctrl-C would come twice: from the terminal, and from the parent
    _Worker.stop = stop

    def ask(number: int, frame: FrameType | None) -> None:
        if _Worker.busy:  # while epochs are trained, `loop` answers
            raise KeyboardInterrupt

    def watch() -> None:
        parent = parent_process()
        assert parent is not None
        parent.join()
        while _Worker.busy:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(ORPHANED)
        os._exit(EXIT_TERMINATED)

    signal.signal(signal.SIGTERM, ask)
    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def _signals(pool: ProcessPoolExecutor, stop: Event) -> Iterator[Callable[[], int]]:
    """Within, Ctrl-C and SIGTERM are passed on to the workers, who save their epoch: the function given says with which
    status to end, or 0. A second one stops them at once."""
    status = 0

    def ask(asked: int) -> None:
        nonlocal status
        status = asked
        stop.set()
        for worker in list((pool._processes or {}).values()):
            worker.terminate()

    with signals.caught(ask):
        yield lambda: status


class Display:
    """A bar over the epochs of all runs on a terminal; elsewhere a line for each run that ends."""

    def __init__(self, wanted: Sequence[Wanted], waiting: Sequence[Wanted], workers: int, console: Console) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        self._wanted, self._waiting, self._workers, self._console = wanted, list(waiting), workers, console
        self._ended, self._began = 0, time.monotonic()
        columns = (
            TextColumn("run {task.fields[runs]}"),
            BarColumn(),
            TextColumn("{task.percentage:.0f} %{task.fields[left]}"),
        )
        self._bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self._total = sum(run.experiment.epochs for run in waiting)
        self._before = self._epochs()
        self._task = self._bar.add_task("", total=self._total, runs=self._count(), left="")

    def __enter__(self) -> Display:
        self._bar.start()
        there = len(self._wanted) - len(self._waiting)
        self.note(f"{len(self._wanted)} runs, {there} of them there already, {self._workers} at a time")
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def look(self) -> None:
        """Show the epochs that are finished by now."""
        if self._console.is_terminal:
            self._bar.update(self._task, completed=self._epochs(), runs=self._count(), left=self._left())

    def end(self, run: Wanted, failed: str | None) -> None:
        """A run has ended."""
        self._ended += 1
        seconds = sum(row["seconds"] for row in _metrics(run))
        how = f"failed: {failed}" if failed else f"{seconds:.0f} s"
        self.note(f"run {self._count()}: {run.name}, {how}{self._left()}")

    def note(self, text: str) -> None:
        """A line above the bar."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _count(self) -> str:
        return f"{len(self._wanted) - len(self._waiting) + self._ended} of {len(self._wanted)}"

    def _epochs(self) -> int:
        return sum(len(_metrics(run)) for run in self._waiting)

    def _left(self) -> str:
        """The time left. An epoch of a run that has not begun costs what those of its like did, or all did on average."""
        seconds = {run: [row["seconds"] for row in _metrics(run)] for run in self._waiting}
        like: dict[str, list[float]] = {}
        for run, each in seconds.items():
            like.setdefault(_kind(run), []).extend(each)
        known = [value for each in like.values() for value in each]
        if not known:
            return ""
        mean = sum(known) / len(known)
        beside = max(0.0, (time.monotonic() - self._began) * self._workers - sum(known)) / max(1, self._ended)
        left = beside * (len(self._waiting) - self._ended) if self._ended else 0.0
        for run, each in seconds.items():
            if not (run.folder / run_folder.REPORT).is_file():
                costs = like[_kind(run)] or [mean]
                left += (run.experiment.epochs - len(each)) * sum(costs) / len(costs)
        words = "about" if all(like.values()) else "perhaps"
        return f", {words} {left / self._workers / 60:.0f} min left"


def _kind(run: Wanted) -> str:
    """Runs that cost alike: those that differ in the seed alone."""
    return str({**experiments.to_config(run.experiment), "seed": 0})


def _metrics(run: Wanted) -> list[run_folder.Row]:
    return run_folder.read_metrics(run.folder) if (run.folder / run_folder.METRICS).is_file() else []


def each(work: Callable[[Any], Any], items: Sequence[Any], workers: int) -> list[Any]:
    """What `work` makes of each item, in order, in processes like those of `fill`; `work` and its results can be pickled.

    Raises what `work` raised first.
    """
    with _processes(min(workers, max(1, len(items)))) as (pool, stop):
        futures = [pool.submit(work, item) for item in items]
        try:
            return [future.result() for future in futures]
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
