"""Train runs as jobs of a SLURM cluster.

Finished runs are skipped. A job that runs out of time is queued again and resumes from its run's last checkpoint; so does
a preempted job where the cluster requeues those. Jobs do not need the command that submitted them: given the same folder
again, it finds them by their numbers and submits only runs that are neither finished nor under way. All nodes must see
the runs' folders and this environment.
"""

from __future__ import annotations

import contextlib
import getpass
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, NoReturn

from jaxseq.common import files, sealed, signals
from jaxseq.common.errors import Detached, Interrupted, Stopped, UsageError
from jaxseq.common.text import cut, first_line, printable
from jaxseq.sweep import pool
from jaxseq.sweep.listed import train_listed
from jaxseq.sweep.places import POLL_SECONDS, Place
from jaxseq.sweep.planned import PRUNED, PlannedRun, is_finished

if TYPE_CHECKING:
    import submitit
    from rich.console import Console
    from submitit.helpers import DelayedSubmission

JOBS = "jobs"
"""Folder, in that of the sweep, for scripts, logs and results of the jobs."""
FAILURE = "failure"
"""Key of the result of a job: why its run failed, or an empty text."""
LOG_END = 4096
"""Bytes at the end of a log in which its last line is looked for."""
NUMBERS = "jobs.json"
"""File in it with the jobs' numbers, by the name of the run's folder."""
PLACE = "submitted in"
"""Key, in this file, of the folder that the jobs write into; no run has a space in its name."""
MINUTES = 60
"""Default time limit of a job."""
MAX_REQUEUES = 1000
"""Times that a job is queued again when its time is up."""
ARRAY = 1000
"""Jobs in one array; SLURM's default bound is 1001."""
SHARED_PARAMETERS = ("timeout_min", "mem_gb", "cpus_per_task", "gpus_per_node", "name")
"""Parameters that submitit knows for every kind of cluster; it prefixes all others with the name of the kind."""
SINGLE_PROCESS = ("nodes", "tasks_per_node", "ntasks_per_node")
"""Parameters that would make more than one process of a job."""
LOOK = 10.0
"""Seconds between two queries of the queue."""
GRACE = 30.0
"""Seconds that the result of a job which has left the queue may take to appear on a shared disk."""

NO_SUBMITIT = 'submitit is not installed: pip install "jaxseq[slurm]"'
"""Rule of the error where the extra is missing."""

Kind = Literal["slurm", "local"]


class Cluster(NamedTuple):
    """Cluster to run jobs on.

    kind       "slurm", or "local" for processes of this machine, all at once, as tests use it
    resources  of each job, by submitit's names without "slurm_": timeout_min, partition, gpus_per_node, ...
    at_once    jobs that may run at the same time; None leaves that to the queue
    """

    kind: Kind
    resources: Mapping[str, object]
    at_once: int | None = None


class Job:
    """The work of a job; submitit pickles it and calls `checkpoint` when the job has to be queued again.

    The result goes into a sealed JSON file in the folder `results`. What submitit pickles of it is never loaded: whoever
    can write into that folder could run code in the command that watches the jobs.
    """

    def __init__(self, run: PlannedRun, results: Path) -> None:
        self.run = run
        self.results = results

    def __call__(self) -> None:
        """Train or resume the run, and write why it failed, or an empty text."""
        import submitit

        try:
            failure = pool.train_run(self.run)
            number = submitit.JobEnvironment().job_id
            sealed.write(_result_file(self.results, number), {FAILURE: failure})
        except Interrupted as stop:
            # Without a result the job may be queued again; a result would mark it as ended.
            print(stop, file=sys.stderr)
            sys.exit(stop.status)

    def checkpoint(self) -> DelayedSubmission:
        """Return the job that resumes: the same one, as the run's folder holds its state."""
        import submitit.helpers

        return submitit.helpers.DelayedSubmission(self)


def train_all(
    runs: Sequence[PlannedRun],
    cluster: Cluster,
    folder: Path,
    console: Console,
    command: str,
) -> None:
    """Train all runs that are not finished on the cluster and show their progress; `folder` keeps the jobs' numbers.

    Raises as `place` does and, after all runs have ended, `UsageError` if some of them failed.
    """
    pending = [run for run in runs if not is_finished(run)]
    if not pending:
        return
    # All of them are submitted at once, so that they do not need this command; the queue keeps to `cluster.at_once`.
    with place(cluster, folder, command) as jobs:
        train_listed(
            runs,
            pending,
            jobs,
            at_once=len(pending),
            shown=min(cluster.at_once or len(pending), len(pending)),
            console=console,
        )


@contextlib.contextmanager
def place(cluster: Cluster, folder: Path, command: str) -> Iterator[Place]:
    """Within, runs are trained as jobs of a cluster; `folder` keeps their numbers.

    On Ctrl-C or SIGTERM raises `Detached`, whose message names `command` as the way to find the jobs again; they continue.
    Raises `UsageError` for parameters that the cluster refuses.
    """
    executor = _executor(cluster, folder / JOBS)
    exit_statuses: list[int] = []
    with signals.caught(exit_statuses.append):
        yield _Jobs(executor, cluster, folder / JOBS / NUMBERS, exit_statuses, command)


class _Jobs:
    """Jobs of a cluster as a place."""

    def __init__(
        self,
        executor: submitit.AutoExecutor,
        cluster: Cluster,
        numbers: Path,
        exit_statuses: Sequence[int],
        command: str,
    ) -> None:
        self._executor = executor
        self._cluster = cluster
        self._numbers = numbers
        self._exit_statuses = exit_statuses
        self._command = command
        self._queue = _Queue(cluster.kind)
        self._running: dict[PlannedRun, submitit.Job[None]] = {}

    def start(self, runs: Sequence[PlannedRun], note: Callable[[str], None]) -> None:
        """Submit runs, or find their jobs again."""
        jobs = _submit(runs, self._executor, self._queue, self._cluster, self._numbers)
        self._running |= jobs
        numbers = ", ".join(job.job_id for job in jobs.values())
        note(f"jobs of {self._cluster.kind}: {cut(numbers, 100)}")

    def ended(self) -> Mapping[PlannedRun, str]:
        """Wait a moment, and return the runs whose jobs have ended."""
        time.sleep(POLL_SECONDS)
        # Those that remain have to be named.
        if self.is_stopping():
            return {}
        runs = [run for run, job in self._running.items() if self._queue.has_ended(job)]
        return {run: _failure(self._running.pop(run)) for run in runs}

    def is_stopping(self) -> bool:
        """Return whether a signal has asked to stop."""
        return bool(self._exit_statuses)

    def leave(self, note: Callable[[str], None]) -> NoReturn:
        """Raise `Detached`, or `Stopped` if no job is under way."""
        if not self._running:
            raise Stopped(self._exit_statuses[0], self._command)
        raise Detached([job.job_id for job in self._running.values()], self._exit_statuses[0], self._command)


def _executor(cluster: Cluster, folder: Path) -> submitit.AutoExecutor:
    """Return submitit's executor. Raises `UsageError` without the cluster's commands, or for an unknown parameter."""
    kind = cluster.kind
    # submitit writes there through links, and makes some of its own within the folder.
    files.check_links(folder)
    try:
        import submitit
    except ImportError as error:
        raise UsageError(NO_SUBMITIT, where=f"--on {kind}") from error

    for name in SINGLE_PROCESS:
        if name in cluster.resources:
            raise UsageError(f"a job is one process on one node: leave out {name}", where=f"--on {kind}")

    parameters: dict[str, object] = {}
    for name, value in {"timeout_min": MINUTES, "name": "jaxseq", **cluster.resources}.items():
        parameters[name if name in SHARED_PARAMETERS else f"{kind}_{name}"] = value
    try:
        executor = submitit.AutoExecutor(folder.absolute(), kind, **{f"{kind}_max_num_timeout": MAX_REQUEUES})
        executor.update_parameters(**parameters)
    except (RuntimeError, NameError, AssertionError, ValueError, TypeError) as error:
        # submitit has no exception class for wrong parameters.
        raise UsageError(first_line(error), where=f"--on {kind}") from error
    return executor


class _Queue:
    """Jobs that wait, run, or wait again. SLURM's records of the past may be switched off; its queue always answers."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self._queried = -math.inf
        self._numbers: frozenset[str] | None = None
        self._left: dict[str, float] = {}

    def numbers(self) -> frozenset[str] | None:
        """Return the numbers of the queued and running jobs by the last answer of `squeue`; None before the first."""
        if time.monotonic() - self._queried > LOOK:
            command = ["squeue", "--noheader", "--array", "--format=%i", f"--user={getpass.getuser()}"]
            # A busy controller gives no answer; then the last one holds.
            with contextlib.suppress(OSError, KeyError, subprocess.SubprocessError):
                answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
                self._numbers = frozenset(answer.stdout.split())
            self._queried = time.monotonic()
        return self._numbers

    def holds(self, job: submitit.Job[None]) -> bool:
        """Return whether a job is under way, or may be."""
        if self.kind == "local":
            # One that an earlier command started is known by its number alone, and may have ended unseen.
            has_result = _result_file(job.paths.folder, job.job_id).exists()
            return job.state == "RUNNING" or (not has_result and _is_process(job.job_id))
        numbers = self.numbers()
        return numbers is None or job.job_id in numbers

    def has_ended(self, job: submitit.Job[None]) -> bool:
        """Return whether a job has a result or cannot get one any more."""
        # A process of this machine is waited for, so that none is left behind.
        if self.kind == "local":
            return not self.holds(job)
        # A job that raised an error has only the pickle.
        if _result_file(job.paths.folder, job.job_id).exists() or job.paths.result_pickle.exists():
            return True
        if self.holds(job):
            # Back in the queue: the time without it must start anew.
            self._left.pop(job.job_id, None)
            return False

        now = time.monotonic()
        grace = 0.0
        if self.kind == "slurm":
            grace = GRACE
        return now - self._left.setdefault(job.job_id, now) >= grace


def _submit(
    pending: Sequence[PlannedRun],
    executor: submitit.AutoExecutor,
    queue: _Queue,
    cluster: Cluster,
    path: Path,
) -> dict[PlannedRun, submitit.Job[None]]:
    """Return a job for each run: an earlier one, by the numbers in the file at `path`, or a new one.

    The earlier one is taken if it is under way, or if it has pruned the run, which a new one would do again.
    """
    numbers = _read_numbers(path)
    jobs: dict[PlannedRun, submitit.Job[None]] = {}
    for run in pending:
        if run.folder.name in numbers:
            jobs[run] = _earlier_job(executor, cluster.kind, numbers[run.folder.name])
    # Two jobs in one run's folder would destroy it: submit nothing while the queue is unknown.
    if jobs and cluster.kind == "slurm" and queue.numbers() is None:
        raise UsageError(f"squeue does not answer: {len(jobs)} runs have jobs, which may be under way; try again later")
    jobs = {run: job for run, job in jobs.items() if queue.holds(job) or _failure(job) == PRUNED}

    new_runs = [run for run in pending if run not in jobs]
    arrays = [new_runs[first : first + ARRAY] for first in range(0, len(new_runs), ARRAY)]
    for array in arrays:
        try:
            if cluster.kind == "slurm" and cluster.at_once is not None:
                parallelism = max(1, cluster.at_once // len(arrays))
                executor.update_parameters(slurm_array_parallelism=parallelism)
            with executor.batch():
                submitted = [
                    executor.submit(Job(run._replace(folder=run.folder.absolute()), path.parent.absolute()))
                    for run in array
                ]
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            rule = f"the jobs were refused: {first_line(error)}"
            raise UsageError(rule, where=f"--on {cluster.kind}") from error

        # After every array, so that a kill leaves no submitted job without its number.
        jobs |= dict(zip(array, submitted, strict=True))
        numbers |= {run.folder.name: job.job_id for run, job in jobs.items()}
        files.write_json(path, {PLACE: str(path.parent.absolute()), **numbers})
    return jobs


def _read_numbers(path: Path) -> dict[str, str]:
    """Return the numbers of earlier jobs, by the name of the run's folder; none of those that write into another folder."""
    if not path.is_file():
        return {}
    record = files.read_json(path)
    place = record.pop(PLACE, None)
    # Of a sweep that was copied: its jobs train the runs of the original.
    if isinstance(place, str) and not files.is_same_file(Path(place), path.parent):
        return {}
    return {name: number for name, number in record.items() if isinstance(number, str)}


def _earlier_job(executor: submitit.AutoExecutor, kind: Kind, number: str) -> submitit.Job[None]:
    import submitit

    job_class = submitit.LocalJob if kind == "local" else submitit.SlurmJob
    return job_class(folder=executor.folder, job_id=number)


def _is_process(number: str) -> bool:
    """Return whether a process of this user has a number."""
    try:
        # Signal 0 is none: it asks whether one could be sent.
        os.kill(int(number), 0)
    except (ValueError, OverflowError, OSError):
        return False
    return True


def _result_file(folder: Path, number: str) -> Path:
    """Return the file for the result of a job, beside submitit's own files."""
    return folder / f"{number}_result.json"


def _failure(job: submitit.Job[None]) -> str:
    """Return why a job's run failed; empty if it did not."""
    path = _result_file(job.paths.folder, job.job_id)
    if path.is_file():
        try:
            return printable(str(sealed.read(path)[FAILURE]))
        except (UsageError, KeyError) as error:
            return f"the result of job {job.job_id} cannot be read: {first_line(error)}"

    # A job that was killed has no result; the end of its log tells the most.
    failure = f"job {job.job_id} ended without a result"
    line = _last_line(job.paths.stderr)
    if line:
        failure += f": {cut(line, 200)}"
    return failure


def _last_line(path: Path) -> str:
    """Return the last line of a log; empty if there is none."""
    # A device or a pipe in its place might never end.
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - LOG_END))
        lines = file.read(LOG_END).decode(errors="replace").strip().splitlines()
    return printable(lines[-1]) if lines else ""
