"""A run from start to end: train an experiment, judge it on the test part, and leave a folder behind.

A run begins in a new folder, or resumes in its own. A resumed run continues bit for bit as if it had not stopped; with
more epochs than before, it is extended.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from jaxseq.checkpoint import records
from jaxseq.common import files, lock
from jaxseq.common.console import terminal
from jaxseq.common.errors import EXIT_INTERRUPTED, Interrupted, UsageError
from jaxseq.train import devices, domains, loop, processes, run_folder
from jaxseq.train.experiments import from_config
from jaxseq.train.experiments.base import Experiment
from jaxseq.train.experiments.config import ROWS
from jaxseq.train.job import Job, check_rows, initial_state, on_local_devices, run_config
from jaxseq.train.loop import Run

MAY_CHANGE = ("epochs", "patience", "on_nonfinite")
"""Fields that may differ when a run resumes: how long it trains, and what it does where it stopped. With any other
change it would be another run."""


def train(
    experiment: Experiment,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    console: Console | None = None,
    classical: bool = False,
) -> Path:
    """Train an experiment, judge it on the test part, and return the run's folder.

    A new run is written to `out`, or to the next number in `runs/`. With `resume`, the run in that folder continues up
    to the experiment's epochs. `classical` adds classical baselines to the judgement of forecasts.

    Raises `UsageError` for an invalid request, before anything is written wherever it can be known, and if another
    process works in the folder. Raises `Interrupted` on Ctrl-C or SIGTERM, after the last finished epoch is saved.
    """
    # Processes with different recipes would wait for each other in different collective operations.
    processes.check_same(f"{experiment} {resume is None}", "have different recipes: all of them need the same command")
    domain = domains.of(experiment)
    if console is None:
        console = terminal()
    # Otherwise every line would appear once for each process.
    if not processes.is_first():
        console.quiet = True

    with ExitStack() as locks:
        if resume is None:
            out_folder = None if out is None else Path(out)
            processes.from_first(lambda: run_folder.check_writable(out_folder))
            job = _prepare(domain, experiment, console)
            run = _begin(job, out_folder, locks)
        else:
            folder = Path(resume)
            check_resumable(folder, experiment)
            processes.from_first(lambda: locks.enter_context(lock.hold(folder)))
            job = _prepare(domain, experiment, console)
            run = _resume(job, folder, console)
        _fit_and_judge(run, domain, console, classical)
    return run.folder


def _prepare(domain: domains.Domain, experiment: Experiment, console: Console) -> Job:
    job = domain.prepare(experiment)
    for note in job.notes:
        console.print(note, highlight=False, markup=False)
    return job


# A new run -------------------------------------------------------------------------------------------------------------


def _begin(job: Job, out: Path | None, locks: ExitStack) -> Run:
    """Draw the first state and make the run's folder, which stays locked."""
    # First, because a model that does not fit into memory should leave no folder behind.
    state = initial_state(job)
    folder = processes.from_first(lambda: str(_new_folder(job, out, locks)))
    return Run(Path(folder), job, state, rows=[])


def _new_folder(job: Job, out: Path | None, locks: ExitStack) -> Path:
    folder = run_folder.create(job.experiment.name, out)
    locks.enter_context(lock.hold(folder))
    # Another process may have begun and ended a run here before this one held the lock.
    run_folder.check_empty(folder)
    run_folder.remove_leftovers(folder)

    # The config makes the folder a run, so it is written before everything else.
    run_folder.write_config(folder, run_config(job))
    files.write_json(folder / run_folder.ENVIRONMENT, run_folder.environment(devices.describe(job.mesh)))
    return folder


# A run that resumes ----------------------------------------------------------------------------------------------------


def _resume(job: Job, folder: Path, console: Console) -> Run:
    """Restore the run's newest intact epoch, and write its config with the fields that were allowed to change."""

    def update_config() -> None:
        run_folder.remove_leftovers(folder)
        run_folder.write_config(folder, run_config(job))

    check_rows(job, folder)
    run = loop.resume(job, folder, console)
    processes.from_first(update_config)
    return run


def check_resumable(folder: Path, experiment: Experiment) -> None:
    """Raise `UsageError`, with both values, unless the run in `folder` is this experiment apart from `MAY_CHANGE`.

    The run's recipe is its `config.json`, which must agree with the sealed copy in the checkpoints. If the hash of the
    rows is stored, the path of the data may change: `check_rows` compares the rows themselves.
    """
    config_file = folder / run_folder.CONFIG
    config = run_folder.read_config(folder)
    saved = from_config(config, str(config_file))
    if saved.name != experiment.name:
        raise UsageError("the run has another experiment", where=folder, got=experiment.name, needed=saved.name)

    sealed_config = records.sealed_config(folder / run_folder.CHECKPOINTS)
    has_hash = ROWS in {**config, **sealed_config}
    change = _first_change(saved, experiment, MAY_CHANGE, may_move=has_hash)
    if change is not None:
        raise UsageError(
            f"a resumed run may only change {', '.join(MAY_CHANGE)}", where=folder, got=change.new, needed=change.old
        )

    # A cosine falls to zero at the last epoch, so another number of epochs changes every step from the first.
    has_cosine = saved.schedule == "cosine"
    if has_cosine and saved.epochs != experiment.epochs:
        raise UsageError(
            "a run with a cosine schedule cannot be extended; start a new run",
            where=folder,
            got=f"--epochs {experiment.epochs}",
            needed=f"--epochs {saved.epochs}",
        )

    if sealed_config:
        may_differ = [name for name in MAY_CHANGE if not (has_cosine and name == "epochs")]
        begun = from_config(sealed_config, f"{folder}")
        change = _first_change(begun, saved, may_differ, may_move=has_hash)
        if change is not None:
            raise UsageError(
                "the file was changed since the run began; restore it, or start a new run",
                where=config_file,
                got=change.new,
                needed=change.old,
            )


class _Change(NamedTuple):
    """The old and the new value of a field, as ``--field value``."""

    old: str
    new: str


def _first_change(old: Experiment, new: Experiment, may_change: Sequence[str], may_move: bool) -> _Change | None:
    """Return the first field outside `may_change` in which two experiments differ, None if they agree."""
    old_fields: dict[str, Any] = dataclasses.asdict(old)
    new_fields: dict[str, Any] = dataclasses.asdict(new)
    if may_move:
        old_fields["data"].pop("path", None)
        new_fields["data"].pop("path", None)

    for name, new_value in new_fields.items():
        old_value = old_fields.get(name)
        if name in may_change or new_value == old_value:
            continue
        if isinstance(old_value, Mapping) and isinstance(new_value, Mapping):
            return _nested_change(name, old_value, new_value)
        return _Change(f"--{name} {old_value}", f"--{name} {new_value}")
    return None


def _nested_change(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> _Change:
    """Return the fields of `data` or `model` that differ."""
    names = [field for field in old if old[field] != new.get(field)]
    old_words = [f"--{name}.{field} {old[field]}" for field in names]
    new_words = [f"--{name}.{field} {new.get(field)}" for field in names]
    return _Change(", ".join(old_words), ", ".join(new_words))


# To the end of a run ---------------------------------------------------------------------------------------------------


def _fit_and_judge(run: Run, domain: domains.Domain, console: Console, classical: bool) -> None:
    """Train the remaining epochs, then judge the best one in the first process."""

    def judge() -> None:
        job = on_local_devices(loop.note_skipped_steps(run.job, run.rows))
        domain.judge(job, run.folder, console, classical)

    try:
        loop.fit_epochs(run, console)
        processes.from_first(judge)
    except KeyboardInterrupt:
        last_epoch = records.latest_epoch(run.checkpoints)
        raise Interrupted(run.folder, last_epoch, EXIT_INTERRUPTED) from None
