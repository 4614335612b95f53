"""Runs that are wanted, trained as jobs of a cluster; those that are finished already are taken as they are.

A job whose time is up, or that is preempted, is queued again and goes on with what its run has saved. Jobs do not need the
command that submitted them: typed again it finds them by their numbers, and submits only what is neither finished nor under
way. The cluster's nodes must see the runs' folders and this environment.
"""

from __future__ import annotations

import contextlib
import getpass
import math
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from jaxseq import pool, runlog
from jaxseq.errors import EXIT_INTERRUPTED, EXIT_TERMINATED, Detached, UsageError, cut, first_line
from jaxseq.experiments.base import Recipe
from jaxseq.pool import Wanted

if TYPE_CHECKING:
    from rich.console import Console

JOBS, NUMBERS = "jobs", "jobs.json"
"""A folder for what the cluster is given and says, and the jobs' numbers in it."""
MINUTES, TIMES = 60, 1000
"""A job's time unless another is asked for, and how often it is queued again when that is up."""
ARRAY = 1000
"""Jobs of one array; SLURM's own default bound is 1001."""
GENERAL = ("timeout_min", "mem_gb", "nodes", "cpus_per_task", "gpus_per_node", "tasks_per_node", "name")
"""What every cluster has; all else bears the cluster's name."""
LOOK, GRACE = 10.0, 30.0
"""Seconds from one look at the queue to the next; and that the result of a job which has left it may be on its way."""


Where = Literal["slurm", "local"]


class Asked(NamedTuple):
    """Where jobs run (local: as processes of this machine, to try things), what each is given, and how many at a time."""

    where: Where
    resources: Mapping[str, Any]
    """As submitit names them, without "slurm_": timeout_min, partition, gpus_per_node, ..."""
    at_once: int | None = None


class Job:
    """What a job does; submitit asks for the `checkpoint` when it has to be queued again."""

    def __init__(self, experiment: Recipe, folder: Path) -> None:
        self.experiment, self.folder = experiment, folder

    def __call__(self) -> str:
        """What went wrong, in words; empty if nothing did."""
        return pool.train(self.experiment, self.folder)

    def checkpoint(self) -> Any:
        """The job that goes on: the run itself knows where."""
        import submitit.helpers

        return submitit.helpers.DelayedSubmission(self)


def fill(wanted: Sequence[Wanted], asked: Asked, folder: Path, console: Console) -> None:
    """Have all that is not finished trained by the cluster, and show how far they are; `folder` keeps the jobs' numbers.

    On Ctrl-C or SIGTERM raises `Detached`, and the jobs go on. Raises `UsageError` for what the cluster does not take, and,
    once all the others are through, if runs failed.
    """
    waiting = [run for run in wanted if not pool.finished(run)]
    if not waiting:
        return
    executor = _executor(asked, folder / JOBS)
    with _signals() as stopped:
        queue = _Queue(asked.where)
        jobs = _submitted(waiting, executor, queue, folder / JOBS / NUMBERS)
        display = pool.Display(wanted, waiting, min(asked.at_once or len(waiting), len(waiting)), console)
        failed, left = {}, dict(jobs)
        with display:
            display.note(f"jobs of {asked.where}: {cut(', '.join(job.job_id for job in jobs.values()), 100)}")
            while left and not stopped():
                time.sleep(pool.GLANCE)
                display.look()
                for run in [run for run, job in left.items() if queue.ended(job)]:
                    if complaint := _complaint(left.pop(run)):
                        failed[run] = complaint
                    display.end(run, failed.get(run))
        if left:
            raise Detached([job.job_id for job in left.values()], stopped())
    pool.check(failed, wanted)


def _executor(asked: Asked, folder: Path) -> Any:
    """What submits jobs. Raises `UsageError` where there is no such cluster, or for a resource that it does not know."""
    try:
        import submitit
    except ImportError as error:
        raise UsageError(f'--on {asked.where} needs submitit: pip install "jaxseq[slurm]"') from error
    resources: dict[str, Any] = {"timeout_min": MINUTES, "name": "jaxseq", **asked.resources}
    if asked.where == "slurm" and asked.at_once is not None:
        resources["array_parallelism"] = asked.at_once
    named = {key if key in GENERAL else f"{asked.where}_{key}": value for key, value in resources.items()}
    try:
        executor = submitit.AutoExecutor(folder.absolute(), asked.where, **{f"{asked.where}_max_num_timeout": TIMES})
        executor.update_parameters(**named)
    except (RuntimeError, NameError, AssertionError, ValueError, TypeError) as error:
        raise UsageError(f"--on {asked.where}: {first_line(error)}") from error
    return executor


class _Queue:
    """Which jobs are under way: those that wait, run, or wait again. SLURM's records of the past may be switched off, its
    queue is always there."""

    def __init__(self, where: Where) -> None:
        self.where, self._looked, self._there = where, -math.inf, frozenset()
        self._gone: dict[str, float] = {}

    def holds(self, job: Any) -> bool:
        """Whether a job is under way, as far as the last look tells."""
        if self.where == "local":
            return job.state == "RUNNING"
        if time.monotonic() - self._looked > LOOK:
            words = ["squeue", "--noheader", "--array", "--format=%i", f"--user={getpass.getuser()}"]
            with contextlib.suppress(OSError, subprocess.SubprocessError):  # busy: what it said last stands
                found = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
                self._there = frozenset(found.stdout.split())
            self._looked = time.monotonic()
        return job.job_id in self._there

    def ended(self, job: Any) -> bool:
        """Whether there is a result, or none can come any more."""
        if job.paths.result_pickle.exists():
            return True
        if self.holds(job):
            self._gone.pop(job.job_id, None)
            return False
        grace = GRACE if self.where == "slurm" else 0.0
        return time.monotonic() - self._gone.setdefault(job.job_id, time.monotonic()) >= grace


def _submitted(waiting: Sequence[Wanted], executor: Any, queue: _Queue, numbers: Path) -> dict[Wanted, Any]:
    """A job for each run: that which has it in hand already, or a new one."""
    record = runlog.read_json(numbers) if numbers.is_file() else {}
    known = record.get("jobs", {}) if record.get("where") == queue.where else {}
    found: dict[Wanted, Any] = {}
    for run in waiting:
        if isinstance(number := known.get(run.folder.name), str):
            job = executor.job_class(folder=executor.folder, job_id=number)
            if queue.holds(job):
                found[run] = job
    new = [run for run in waiting if run not in found]
    for first in range(0, len(new), ARRAY):
        runs = new[first : first + ARRAY]
        try:
            with executor.batch():
                jobs = [executor.submit(Job(run.experiment, run.folder.absolute())) for run in runs]
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            raise UsageError(f"--on {queue.where}: the jobs were refused: {first_line(error)}") from error
        found |= dict(zip(runs, jobs, strict=True))
        known = {**known, **{run.folder.name: job.job_id for run, job in found.items()}}
        runlog.write_json(numbers, {"where": queue.where, "jobs": known})
    return found


def _complaint(job: Any) -> str:
    """Why a job's run failed; empty if it did not."""
    import submitit

    with contextlib.suppress(submitit.core.utils.UncompletedJobError, submitit.core.utils.FailedJobError):
        if job.paths.result_pickle.exists():
            return job.result()
    lines = (job.stderr() or "").strip().splitlines()
    said = f": {cut(lines[-1], 200)}" if lines else ""
    return f"job {job.job_id} ended without a result{said}"


@contextlib.contextmanager
def _signals() -> Iterator[Callable[[], int]]:
    """Within, Ctrl-C and SIGTERM are noted: the function given says with which status to end, or 0."""
    status = 0

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal status
        status = EXIT_INTERRUPTED if number == signal.SIGINT else EXIT_TERMINATED

    before = {}
    with contextlib.suppress(ValueError):  # not the main thread
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, note)
    try:
        yield lambda: status
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
