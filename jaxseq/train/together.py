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
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
from rich.console import Console

from jaxseq.checkpoint import run_seal
from jaxseq.common import files, lock
from jaxseq.common.errors import EXIT_INTERRUPTED, Stopped, UsageError
from jaxseq.data.buckets import Buckets
from jaxseq.train import domains, lanes, loop, progress, run
from jaxseq.train.callbacks import Callback
from jaxseq.train.domains.base import Extras
from jaxseq.train.epoch import Epoch, Setup, TrainState
from jaxseq.train.experiments.base import Experiment, Network
from jaxseq.train.job import Job, check_memory_of_lanes, check_rows, initial_state, most_lanes
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
FREE_FIELDS = {
    "seed": 0,
    "epochs": 1,
    "patience": None,
    "min_gain": None,
    "gain_epochs": 30,
    "min_epochs": 100,
    "optimiser": "adam",
    "lr": 1e-3,
    "schedule": "constant",
    "clip": None,
    "decay": 0.0,
    "momentum": 0.0,
    "warmup": None,
    "factor": None,
    "plateau": None,
}
"""Fields of an experiment that its program has as arrays, or by way of its optimiser, and values that fit together."""


@runtime_checkable
class Planned(Protocol):
    """A run to train: of a study, or of a grid."""

    @property
    def name(self) -> str:
        """The run's name in messages."""
        ...

    @property
    def experiment(self) -> Experiment:
        """The recipe."""
        ...

    @property
    def folder(self) -> Path:
        """The run's folder, which may not exist yet."""
        ...


Planned_ = TypeVar("Planned_", bound=Planned)


class Lane(NamedTuple):
    """A lane of the compiled epoch.

    name       the run's name in messages
    state      the state that it starts from
    run        the run that is trained in it; None if that is finished, and the lane keeps the number of lanes the same
    callbacks  those of the run
    """

    name: str
    state: TrainState
    run: Run | None
    callbacks: Sequence[Callback] = ()


def groups(runs: Sequence[Planned_]) -> list[list[Planned_]]:
    """Divide runs into groups that one program each can train: of one shape, on the same rows, as many as memory holds.

    The runs of a group differ in `FREE_FIELDS` alone; a group may be a single run.
    """
    groups_of_one_shape: list[tuple[object, list[Planned_]]] = []
    for run_ in runs:
        shape = _shape(run_.experiment)
        for other_shape, group in groups_of_one_shape:
            if other_shape == shape:
                group.append(run_)
                break
        else:
            groups_of_one_shape.append((shape, [run_]))

    divided = []
    for _, group in groups_of_one_shape:
        size = _most_lanes(group)
        divided.extend(group[first : first + size] for first in range(0, len(group), size))
    return divided


def _most_lanes(group: Sequence[Planned]) -> int:
    """Return how many runs of one shape fit into one program."""
    if len(group) == 1:
        return 1
    experiment = group[0].experiment
    try:
        job = domains.of(experiment).prepare(experiment)
    # That of the data or the memory: the training of the group has the same, and raises it.
    except UsageError:
        return len(group)
    # Each lane draws another bucket, and a program of several lanes would compute all buckets for each of them.
    if isinstance(job.batches.train, Buckets):
        return 1
    return most_lanes(job, len(group))


def _shape(experiment: Experiment) -> tuple[Experiment, object]:
    """Return what is equal for two experiments that one program trains."""
    # One object for all settings of an optimiser that differ in numbers alone.
    transformation = experiment.build_optimiser(steps_per_epoch=1).transformation
    return dataclasses.replace(experiment, **FREE_FIELDS), transformation


def train(
    members: Sequence[Planned_],
    unfinished: Sequence[Planned_],
    console: Console,
    extras: Extras,
    again: str,
    make_callbacks: Callable[[], Sequence[Callback]] = tuple,
) -> dict[str, UsageError]:
    """Train the unfinished runs of a group together, new ones and those that resume, then judge one after the other.

    members         all runs of the group, which differ in `FREE_FIELDS` alone; each has a lane
    again           the command that resumes them, for the message of a stop
    make_callbacks  makes the callbacks of a run; a callback that stops its training stops that run alone

    Returns the errors of runs that failed, by name: each ended alone. Raises `UsageError` if they cannot be trained in
    one program, before one of them begins. Raises `Stopped` on Ctrl-C or SIGTERM, and whatever else a callback raises,
    after the last finished epoch of each is saved.
    """
    jobs = _prepare(members, console)
    with ExitStack() as locks:
        group = []
        for member, job in zip(members, jobs, strict=True):
            if member in unfinished:
                member_run = _open(member, job, console, locks)
                group.append(Lane(member.name, member_run.state, member_run, make_callbacks()))
            else:
                group.append(Lane(member.name, initial_state(job), None))

        try:
            failures = fit_epochs(group, console, again)
            for lane in group:
                if lane.run is not None and lane.name not in failures:
                    console.rule(f"{lane.run.folder}")
                    judge = partial(run.judge_by_domain, console=console, extras=extras)
                    run.judge_and_seal(lane.run, judge)
        except KeyboardInterrupt:
            raise Stopped(EXIT_INTERRUPTED, again) from None
    return failures


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


def _prepare(members: Sequence[Planned], console: Console) -> list[Job[Experiment, object]]:
    """Prepare the runs, which share the rows on the device. Raises `UsageError` if one program cannot train them."""
    jobs: list[Job[Experiment, object]] = []
    for member in members:
        job = domains.of(member.experiment).prepare(member.experiment)
        # Each lane would compute all buckets at every step.
        if isinstance(job.batches.train, Buckets):
            raise UsageError(
                "rows of several lengths are trained one run after the other", where=OPTION, needed="--buckets 1"
            )
        # The lane of a finished run is empty, but its rows are those of all.
        if (member.folder / run_seal.CONFIG).is_file():
            check_rows(job, member.folder)
        if jobs:
            _check_same_shape(members[0].name, jobs[0], member.name, job)
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


def _check_same_shape(first_name: str, first: Job, name: str, job: Job) -> None:
    """Raise `UsageError` unless one program trains both: equal networks, losses, optimisers and rows."""
    for part in first.setup._fields:
        if getattr(first.setup, part) != getattr(job.setup, part):
            raise UsageError(
                f"the {part} of {name} is not equal to that of {first_name}, so that they cannot be trained in one "
                "program; leave it out",
                where=OPTION,
            )
    if first.rows_sha256 != job.rows_sha256:
        raise UsageError(
            f"{name} has other rows than {first_name}; leave it out",
            where=OPTION,
            got=f"sha256 {job.rows_sha256[:12]}",
            needed=f"sha256 {first.rows_sha256[:12]}",
        )


def _open(member: Planned, job: Job, console: Console, locks: ExitStack) -> Run:
    """Begin the run of a member, or resume it; its folder stays locked until `locks` are closed."""
    files.refuse_link(member.folder)
    if not (member.folder / run_seal.CONFIG).is_file():
        return run.begin(job, member.folder, locks)

    check_resumable(member.folder, member.experiment)
    locks.enter_context(lock.hold(member.folder))
    return run.resume_run(job, member.folder, None, console)


# Training --------------------------------------------------------------------------------------------------------------


def fit_epochs(group: Sequence[Lane], console: Console, again: str) -> dict[str, UsageError]:
    """Train the runs of all lanes, each to its end, as `loop.fit_epochs` trains one; return the errors by name.

    The row of an epoch has an equal share of its seconds for each run that is still trained. Raises `Stopped`.
    """
    runs = [lane.run for lane in group if lane.run is not None]
    if not runs:
        return {}

    first = runs[0]
    setup = loop.training_setup(first)
    rows_before = [_mean_row(rows) for rows in zip(*(member.rows for member in runs), strict=False)]
    with ExitStack() as stack:
        writers = {member.folder: stack.enter_context(loop.checkpoint_writer(member, console)) for member in runs}
        epochs = max(member.job.experiment.most_epochs for member in runs)
        display = stack.enter_context(progress.display_of(console, rows_before, epochs))
        stop_status = stack.enter_context(loop.stop_signals(display.note))
        group_in_training = _GroupInTraining(display.note)
        for number, lane in enumerate(group):
            if lane.run is not None:
                recorder = Recorder(lane.run, setup, writers[lane.run.folder], display.note, len(group))
                attendance = stack.enter_context(ExitStack())
                group_in_training.add(number, _AttendedRun(lane.name, recorder, attendance, lane.callbacks))

        if not group_in_training.members:
            return {}
        display.show_compiling()
        started = time.perf_counter()
        for finished in _epochs(group, first.job, setup):
            group_in_training.record(finished, time.perf_counter() - started)
            if group_in_training.members:
                display.show(group_in_training.mean_row(), first.metric, group_in_training.has_new_best())

            stop_reasons = group_in_training.call_callbacks()
            status = stop_status()
            if status:
                group_in_training.wait()
                raise Stopped(status, again)
            group_in_training.end_finished(finished, stop_reasons)
            # Before the next epoch, which would be nobody's.
            if not group_in_training.members:
                break
            started = time.perf_counter()
    return group_in_training.failures


class _AttendedRun:
    """A run of a group while it is trained: it is recorded, and its callbacks are called."""

    def __init__(self, name: str, recorder: Recorder, attendance: ExitStack, callbacks: Sequence[Callback]) -> None:
        """`attendance` is closed when the run ends, or by an error that ends the group."""
        self.name = name
        self.recorder = recorder
        self._attendance = attendance
        self.after_epoch = attendance.enter_context(loop.attended_by(callbacks, recorder.run, recorder.note))

    @property
    def run(self) -> Run:
        """The run as it is by now."""
        return self.recorder.run

    @property
    def last_epoch(self) -> int:
        """The last epoch that is left to train; 0 if there is none."""
        return max(loop.epochs_left(self.run), default=0)

    def end(self, error: BaseException | None = None) -> None:
        """Call the callbacks at the end of the run, which an error may have ended."""
        kind = None if error is None else type(error)
        # The error itself is returned later, when the other runs have ended.
        self._attendance.__exit__(kind, error, None)

    def end_note(self, stop_reason: str | None) -> str | None:
        """Return why the run ends before its last epoch, if it does; `stop_reason` is that of a callback."""
        epoch = len(self.run.rows)
        if stop_reason is not None:
            return f"{self.name}: stopped after epoch {epoch} by a callback: {stop_reason}"
        reason = loop.early_stop(self.run)
        if reason is not None:
            return f"{self.name}: {reason}: stopped after epoch {epoch}"
        return None


class _GroupInTraining:
    """The runs of a group that are still trained, by the number of their lane, and the errors of those that failed."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self.members: dict[int, _AttendedRun] = {}
        self.failures: dict[str, UsageError] = {}
        self._last_epochs: dict[int, int] = {}
        self._note = note

    def add(self, number: int, member: _AttendedRun) -> None:
        """Add a run, unless it has no epoch left; its callbacks hear of it in either case."""
        self._last_epochs[number] = member.last_epoch
        if self._last_epochs[number]:
            self.members[number] = member
        else:
            member.end()

    def record(self, finished: Sequence[Epoch], seconds: float) -> None:
        """Record the epoch of each lane; a run that fails ends."""
        share = seconds / len(self.members)
        for number, member in list(self.members.items()):
            try:
                member.recorder.record(finished[number], share)
            except UsageError as error:
                self.failures[member.name] = error
                self._note(f"{error}; the other runs continue")
                self.members.pop(number).end(error)

    def mean_row(self) -> Row:
        """Return the last row, a mean over the runs."""
        return _mean_row([member.run.rows[-1] for member in self.members.values()])

    def has_new_best(self) -> bool:
        """Return whether the last epoch is the best one of any run."""
        return any(loop.is_best(member.run) for member in self.members.values())

    def call_callbacks(self) -> dict[int, str | None]:
        """Call the callbacks of each run after its epoch; return why one asks to stop, or None."""
        return {number: member.after_epoch(member.run.rows[-1]) for number, member in self.members.items()}

    def wait(self) -> None:
        """Wait until the last epoch of each run is saved."""
        for member in self.members.values():
            member.recorder.wait()

    def end_finished(self, finished: Sequence[Epoch], stop_reasons: Mapping[int, str | None]) -> None:
        """End the runs that a callback or early stopping ends, and those that have trained their last epoch."""
        for number, stop_reason in stop_reasons.items():
            member = self.members[number]
            note = member.end_note(stop_reason)
            if note is not None:
                self._note(note)
            if note is not None or finished[number].number == self._last_epochs[number]:
                self.members.pop(number).end()


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


def _mean_row(rows: Sequence[Row]) -> Row:
    """Return one row for the display: means over the runs, and the seconds of the whole epoch."""
    # Epochs that a run trained alone have no "together".
    names = [name for name in rows[0] if all(name in row for row in rows)]
    mean_row: Row = {name: float(np.mean([row[name] for row in rows])) for name in names}
    mean_row["epoch"] = max(row["epoch"] for row in rows)
    mean_row["seconds"] = sum(row["seconds"] for row in rows)
    return mean_row
