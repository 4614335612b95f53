"""Runs that are wanted, trained as jobs of a cluster; those that are finished already are taken as they are.

A job whose time is up is queued again and goes on with what its run has saved; so is one that is preempted, where the
cluster queues those again. Jobs do not need the command that submitted them: typed again it finds them by their numbers,
and submits only what is neither finished nor under way. All nodes must see the runs' folders and this environment.
"""

from __future__ import annotations

import contextlib
import getpass
import math
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from jaxseq.common import files, signals
from jaxseq.common.errors import Detached, Interrupted, UsageError
from jaxseq.common.text import cut, first_line
from jaxseq.sweep import pool
from jaxseq.sweep.pool import Wanted
from jaxseq.train.experiments.base import Experiment

if TYPE_CHECKING:
    from rich.console import Console

JOBS, NUMBERS = "jobs", "jobs.json"
"""A folder for what the cluster is given and says, and the jobs' numbers in it."""
MINUTES, TIMES = 60, 1000
"""A job's time unless another is asked for, and how often it is queued again when that is up."""
ARRAY = 1000
"""Jobs of one array; SLURM's own default bound is 1001."""
GENERAL = ("timeout_min", "mem_gb", "cpus_per_task", "gpus_per_node", "name")
"""What submitit has for every cluster; all else bears the cluster's name."""
ONE = ("nodes", "tasks_per_node", "ntasks_per_node")
"""A job is one process."""
LOOK, GRACE = 10.0, 30.0
"""Seconds from one look at the queue to the next; and that the result of a job which has left it may be on its way."""


Where = Literal["slurm", "local"]


class Asked(NamedTuple):
    """Where jobs run (local: as processes of this machine, all at once, for tests), what each gets, how many at a time."""

    where: Where
    resources: Mapping[str, Any]
    """As submitit names them, without "slurm_": timeout_min, partition, gpus_per_node, ..."""
    at_once: int | None = None


class Job:
    """What a job does; submitit asks for the `checkpoint` when it has to be queued again."""

    def __init__(self, experiment: Experiment, folder: Path) -> None:
        self.experiment, self.folder = experiment, folder

    def __call__(self) -> str:
        """What went wrong, in words; empty if nothing did. Stopped by a signal, the job ends without a result: it may be
        queued again."""
        try:
            return pool.train(self.experiment, self.folder)
        except Interrupted as stop:
            print(stop, file=sys.stderr)
            sys.exit(stop.status)

    def checkpoint(self) -> Any:
        """The job that goes on: the run itself knows where."""
        import submitit.helpers

        return submitit.helpers.DelayedSubmission(self)


def fill(wanted: Sequence[Wanted], asked: Asked, folder: Path, console: Console, again: str) -> None:
    """Have all that is not finished trained by the cluster, and show how far they are; `folder` keeps the jobs' numbers.

    On Ctrl-C or SIGTERM raises `Detached`, which says that `again` looks at the jobs again; they go on. Raises `UsageError`
    for what the cluster does not take, and, once all the others are through, if runs failed.
    """
    waiting = [run for run in wanted if not pool.finished(run)]
    if not waiting:
        return
    executor, stopped = _executor(asked, folder / JOBS), []
    with signals.caught(stopped.append):
        queue = _Queue(asked.where)
        jobs = _submitted(waiting, executor, queue, asked, folder / JOBS / NUMBERS)
        display = pool.Display(wanted, waiting, min(asked.at_once or len(waiting), len(waiting)), console)
        failed, left = {}, dict(jobs)
        with display:
            display.note(f"jobs of {asked.where}: {cut(', '.join(job.job_id for job in jobs.values()), 100)}")
            while left and not stopped:
                time.sleep(pool.GLANCE)
                display.look()
                for run in [run for run, job in left.items() if queue.ended(job)]:
                    if complaint := _complaint(left.pop(run)):
                        failed[run] = complaint
                    display.end(run, failed.get(run))
        if left:
            raise Detached([job.job_id for job in left.values()], stopped[0], again)
    pool.check(failed, wanted)


def _executor(asked: Asked, folder: Path) -> Any:
    """What submits jobs. Raises `UsageError` where there is no such cluster, or for a resource that it does not know."""
    try:
        import submitit
    except ImportError as error:
        raise UsageError(f'--on {asked.where} needs submitit: pip install "jaxseq[slurm]"') from error
    if several := [name for name in ONE if name in asked.resources]:
        raise UsageError(f"--on {asked.where}: a job is one process on one node: leave out {several[0]}")
    resources: dict[str, Any] = {"timeout_min": MINUTES, "name": "jaxseq", **asked.resources}
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
        self.where, self._looked = where, -math.inf
        self._there: frozenset[str] | None = None
        self._gone: dict[str, float] = {}

    def look(self) -> frozenset[str] | None:
        """The numbers of the jobs that are under way, as far as the last look that was answered tells; None without one."""
        if time.monotonic() - self._looked > LOOK:
            with contextlib.suppress(OSError, KeyError, subprocess.SubprocessError):  # busy: what it said last stands
                words = ["squeue", "--noheader", "--array", "--format=%i", f"--user={getpass.getuser()}"]
                found = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
                self._there = frozenset(found.stdout.split())
            self._looked = time.monotonic()
        return self._there

    def holds(self, job: Any) -> bool:
        """Whether a job is under way, or may be."""
        if self.where == "local":
            return job.state == "RUNNING"
        there = self.look()
        return there is None or job.job_id in there

    def ended(self, job: Any) -> bool:
        """Whether there is a result, or none can come any more."""
        if job.paths.result_pickle.exists():
            return True
        if self.holds(job):
            self._gone.pop(job.job_id, None)
            return False
        grace = GRACE if self.where == "slurm" else 0.0
        return time.monotonic() - self._gone.setdefault(job.job_id, time.monotonic()) >= grace


def _submitted(
    waiting: Sequence[Wanted], executor: Any, queue: _Queue, asked: Asked, numbers: Path
) -> dict[Wanted, Any]:
    """A job for each run: that which has it in hand already, or a new one."""
    known = _known(numbers) if asked.where == "slurm" else {}
    found = {run: _found(executor, known[run.folder.name]) for run in waiting if run.folder.name in known}
    if found and queue.look() is None:
        raise UsageError(
            f"squeue does not answer: {len(found)} runs have jobs, which may be under way; try again later"
        )
    found = {run: job for run, job in found.items() if queue.holds(job)}
    new = [run for run in waiting if run not in found]
    arrays = [new[first : first + ARRAY] for first in range(0, len(new), ARRAY)]
    for runs in arrays:
        try:
            if asked.where == "slurm" and asked.at_once is not None:
                executor.update_parameters(slurm_array_parallelism=max(1, asked.at_once // len(arrays)))
            with executor.batch():
                jobs = [executor.submit(Job(run.experiment, run.folder.absolute())) for run in runs]
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            raise UsageError(f"--on {asked.where}: the jobs were refused: {first_line(error)}") from error
        found |= dict(zip(runs, jobs, strict=True))
        known = {**known, **{run.folder.name: job.job_id for run, job in found.items()}}
        files.write_json(numbers, known)
    return found


def _known(numbers: Path) -> dict[str, str]:
    """The numbers that jobs have had, by the name of the run's folder."""
    record = files.read_json(numbers) if numbers.is_file() else {}
    return {name: number for name, number in record.items() if isinstance(number, str)}


def _found(executor: Any, number: str) -> Any:
    import submitit

    return submitit.SlurmJob(folder=executor.folder, job_id=number)


def _complaint(job: Any) -> str:
    """Why a job's run failed; empty if it did not."""
    import submitit

    with contextlib.suppress(submitit.core.utils.UncompletedJobError, submitit.core.utils.FailedJobError):
        if job.paths.result_pickle.exists():
            return job.result()
    lines = (job.stderr() or "").strip().splitlines()
    said = f": {cut(lines[-1], 200)}" if lines else ""
    return f"job {job.job_id} ended without a result{said}"
