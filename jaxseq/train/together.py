"""Runs of one shape trained together in one compiled epoch, and each written as by itself.

Every run keeps its own folder, metrics, checkpoints, patience and judgement, and can be resumed alone or together. A run
that has ended is written no more; its lane computes on, because the bits of the others depend on the number of lanes.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from rich.console import Console

from jaxseq.checkpoint import run_seal
from jaxseq.common import files, lock
from jaxseq.common.errors import EXIT_INTERRUPTED, Stopped, UsageError
from jaxseq.train import domains, lanes, loop, progress, run
from jaxseq.train.callbacks import Callback
from jaxseq.train.domains.base import Member
from jaxseq.train.epoch import Epoch, Setup, TrainState
from jaxseq.train.experiments.base import Experiment, Network
from jaxseq.train.job import Job, check_memory_of_lanes, initial_state
from jaxseq.train.loop import Recorder, Run
from jaxseq.train.resume import check_resumable
from jaxseq.train.run_folder import Row

OPTION = "--together"
GAINS: Mapping[str, Mapping[int, float]] = MappingProxyType(
    {
        "rnn": {8: 1.71, 20: 1.02, 64: 0.93},
        "lstm": {8: 1.18, 20: 0.92, 64: 0.87},
        "gru": {8: 1.16, 20: 1.03, 64: 0.96},
    }
)
"""CPU seconds of five seeds one after the other / together, by cell and units: `python -m jaxseq.benchmark --together`."""
LEAST_GAIN = 1.1
"""Smallest gain that is worth a longer compilation."""


class Lane(NamedTuple):
    """A lane of the compiled epoch.

    state      the state that it starts from
    run        the run that is trained in it; None if that is finished, and the lane keeps the number of lanes the same
    callbacks  those of the run
    """

    state: TrainState
    run: Run | None
    callbacks: Sequence[Callback] = ()


def train(
    members: Sequence[Member],
    unfinished: Sequence[Member],
    console: Console,
    classical: bool,
    again: str,
    make_callbacks: Callable[[], Sequence[Callback]] = tuple,
) -> None:
    """Train the unfinished runs of a group together, new ones and those that resume, then judge one after the other.

    members         all runs of the group, which differ in their seed alone; each has a lane
    again           the command that resumes them, for the message of a stop
    make_callbacks  makes the callbacks of a run; a callback that stops its training stops that run alone

    Raises `UsageError` if they cannot be trained in one program, before one of them begins. Raises `Stopped` on Ctrl-C or
    SIGTERM, and whatever else a callback raises, after the last finished epoch of each is saved. A run that fails ends
    alone: its `UsageError` is raised when the others are trained and judged.
    """
    jobs = _prepare(members, console)
    with ExitStack() as locks:
        group = []
        for member, job in zip(members, jobs, strict=True):
            if member in unfinished:
                member_run = _open(member, job, console, locks)
                group.append(Lane(member_run.state, member_run, make_callbacks()))
            else:
                group.append(Lane(initial_state(job), None))

        try:
            failures = fit_epochs(group, console, again)
            for lane in group:
                if lane.run is not None and lane.run.folder not in failures:
                    console.rule(f"{lane.run.folder}")
                    judge = partial(run.judge_by_domain, console=console, classical=classical)
                    run.judge_and_seal(lane.run, judge)
        except KeyboardInterrupt:
            raise Stopped(EXIT_INTERRUPTED, again) from None

    for error in failures.values():
        raise error


def slowness(model: Network) -> str | None:
    """Return a line for a network that trains no faster together on a CPU; None if it does, or was not measured."""
    gains = GAINS.get(model.cell)
    if gains is None:
        return None
    # That of the next larger network that was measured.
    width = min((units for units in gains if units >= model.hidden), default=max(gains))
    if gains[width] >= LEAST_GAIN:
        return None
    return (
        f"{OPTION}: does not pay for {model.cell} of {model.hidden} units on a CPU: one after the other takes "
        f"{gains[width]:.2f} times as long (docs/training.md)"
    )


# Before the training ---------------------------------------------------------------------------------------------------


def _prepare(members: Sequence[Member], console: Console) -> list[Job[Experiment, object]]:
    """Prepare the runs, which share the rows on the device. Raises `UsageError` if one program cannot train them."""
    jobs: list[Job[Experiment, object]] = []
    for member in members:
        job = domains.of(member.experiment).prepare(member.experiment)
        if jobs:
            _check_same_shape(jobs[0], job)
            # One copy of the rows serves all lanes.
            job = dataclasses.replace(job, batches=jobs[0].batches, data=jobs[0].data)
        jobs.append(job)

    check_memory_of_lanes(jobs[0], len(jobs))
    hint = slowness(jobs[0].experiment.model)
    # Other devices were not measured.
    if hint is not None and jobs[0].mesh.devices.flat[0].platform == "cpu":
        console.print(hint, highlight=False, markup=False, soft_wrap=True, style="yellow")
    for note in jobs[0].notes:
        console.print(note, highlight=False, markup=False)
    return jobs


def _check_same_shape(first: Job, job: Job) -> None:
    """Raise `UsageError` unless one program trains both: equal networks, losses, optimisers and rows."""
    seed = job.experiment.seed
    for name in first.setup._fields:
        if getattr(first.setup, name) != getattr(job.setup, name):
            raise UsageError(
                f"the {name} of seed {seed} is not equal to that of seed {first.experiment.seed}, so that they cannot be "
                "trained in one program; leave it out",
                where=OPTION,
            )
    if first.rows_sha256 != job.rows_sha256:
        raise UsageError(
            f"seed {seed} has other rows than seed {first.experiment.seed}; leave it out",
            where=OPTION,
            got=f"sha256 {job.rows_sha256[:12]}",
            needed=f"sha256 {first.rows_sha256[:12]}",
        )


def _open(member: Member, job: Job, console: Console, locks: ExitStack) -> Run:
    """Begin the run of a member, or resume it; its folder stays locked until `locks` are closed."""
    files.refuse_link(member.folder)
    if not (member.folder / run_seal.CONFIG).is_file():
        return run.begin(job, member.folder, locks)

    check_resumable(member.folder, member.experiment)
    locks.enter_context(lock.hold(member.folder))
    return run.resume_run(job, member.folder, None, console)


# Training --------------------------------------------------------------------------------------------------------------


def fit_epochs(group: Sequence[Lane], console: Console, again: str) -> dict[Path, UsageError]:
    """Train the runs of all lanes, each to its end, as `loop.fit_epochs` trains one; return the errors by folder.

    The row of an epoch has an equal share of its seconds for each run that is still trained. Raises `Stopped`.
    """
    failures: dict[Path, UsageError] = {}
    last_epochs = {number: _last_epoch(lane) for number, lane in enumerate(group)}
    runs = {number: lane.run for number, lane in enumerate(group) if lane.run is not None}
    if not runs:
        return failures

    first = next(iter(runs.values()))
    setup = loop.training_setup(first)
    rows_before = [_mean_row(rows) for rows in zip(*(member.rows for member in runs.values()), strict=False)]
    with ExitStack() as stack:
        writers = {number: stack.enter_context(loop.checkpoint_writer(runs[number], console)) for number in runs}
        display = stack.enter_context(progress.display_of(console, rows_before, first.job.experiment.epochs))
        stop_status = stack.enter_context(loop.stop_signals(display.note))
        members = {
            number: _AttendedRun(
                Recorder(member, setup, writers[number], display.note, len(group)),
                stack.enter_context(ExitStack()),
                group[number].callbacks,
            )
            for number, member in runs.items()
        }
        # Callbacks hear of a run that has nothing left to train, too.
        for number in [number for number in members if not last_epochs[number]]:
            members.pop(number).end()
        if not members:
            return failures

        display.show_compiling()
        started = time.perf_counter()
        for finished in _epochs(group, first.job, setup):
            seconds = (time.perf_counter() - started) / len(members)
            for number, member in list(members.items()):
                try:
                    member.recorder.record(finished[number], seconds)
                except UsageError as error:
                    failures[member.run.folder] = error
                    display.note(f"{error}; the other runs continue")
                    members.pop(number).end(error)
            if not members:
                break
            is_best = any(loop.is_best(member.run) for member in members.values())
            display.show(_mean_row([member.run.rows[-1] for member in members.values()]), first.metric, is_best)

            stop_reasons = {number: member.after_epoch(member.run.rows[-1]) for number, member in members.items()}
            status = stop_status()
            if status:
                for member in members.values():
                    member.recorder.wait()
                raise Stopped(status, again)
            for number, stop_reason in stop_reasons.items():
                member = members[number]
                note = _end_note(member.run, stop_reason)
                if note is not None:
                    display.note(note)
                if note is not None or finished[number].number == last_epochs[number]:
                    members.pop(number).end()
            if not members:
                break
            started = time.perf_counter()
    return failures


class _AttendedRun:
    """A run of a group while it is trained: it is recorded, and its callbacks are called."""

    def __init__(self, recorder: Recorder, attendance: ExitStack, callbacks: Sequence[Callback]) -> None:
        """`attendance` is closed when the run ends, or by an error that ends the group."""
        self.recorder = recorder
        self._attendance = attendance
        self.after_epoch = attendance.enter_context(loop.attended_by(callbacks, recorder.run, recorder.note))

    @property
    def run(self) -> Run:
        """The run as it is by now."""
        return self.recorder.run

    def end(self, error: BaseException | None = None) -> None:
        """Call the callbacks at the end of the run, which an error may have ended."""
        kind = None if error is None else type(error)
        # The error itself is raised later, when the other runs have ended.
        self._attendance.__exit__(kind, error, None)


def _last_epoch(lane: Lane) -> int:
    """Return the last epoch that the run of a lane has to train; 0 if there is none."""
    if lane.run is None:
        return 0
    return max(loop.epochs_left(lane.run), default=0)


def _epochs(group: Sequence[Lane], job: Job, setup: Setup) -> Iterator[tuple[Epoch, ...]]:
    """Train all lanes, on the rows of one of their jobs, without end."""
    return lanes.epochs(
        setup,
        tuple(lane.state for lane in group),
        train=job.data.train,
        valid=job.data.valid,
        batch=job.experiment.batch,
        numbers=[1 if lane.run is None else len(lane.run.rows) + 1 for lane in group],
    )


def _end_note(member: Run, stop_reason: str | None) -> str | None:
    """Return why a run ends before its last epoch, if it does; `stop_reason` is that of a callback."""
    seed = member.job.experiment.seed
    epoch = len(member.rows)
    if stop_reason is not None:
        return f"seed {seed}: stopped after epoch {epoch} by a callback: {stop_reason}"
    if loop.patience_is_over(member):
        patience = member.job.experiment.patience
        return f"seed {seed}: no better validation for {patience} epochs: stopped after epoch {epoch}"
    return None


def _mean_row(rows: Sequence[Row]) -> Row:
    """Return one row for the display: means over the runs, and the seconds of the whole epoch."""
    # Epochs that a run trained alone have no "together".
    names = [name for name in rows[0] if all(name in row for row in rows)]
    mean_row: Row = {name: float(np.mean([row[name] for row in rows])) for name in names}
    mean_row["epoch"] = max(row["epoch"] for row in rows)
    mean_row["seconds"] = sum(row["seconds"] for row in rows)
    return mean_row
