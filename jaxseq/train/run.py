"""One run from end to end: train, judge on the test part, leave a folder behind."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxseq.common import files, lock
from jaxseq.common.errors import EXIT_INTERRUPTED, Interrupted, UsageError
from jaxseq.train import processes, run_folder
from jaxseq.train.experiments import from_config
from jaxseq.train.experiments.base import Experiment
from jaxseq.train.experiments.config import ROWS

if TYPE_CHECKING:
    from rich.console import Console

    from jaxseq.train.domains import Domain
    from jaxseq.train.epoch import TrainState
    from jaxseq.train.job import Job

MAY_CHANGE = ("epochs", "patience", "on_nonfinite")
"""What a resumed run may have other than it had: how far to go, and what to do where it stopped. All else would be
another run."""


def train(
    experiment: Experiment,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    console: Console | None = None,
    classical: bool = False,
) -> Path:
    """Train an experiment, judge it on the test part, and return the run's folder; `classical` as in `judge`.

    A new run goes into `out`, or into the next number below `runs/`; with `resume`, that run goes on to the
    experiment's epochs instead. Raises `UsageError` for what cannot work, if it can be known before anything is
    written, or if another process works in that folder, and `Interrupted` on Ctrl-C or SIGTERM, after the last finished
    epoch is saved.
    """
    # Here, so that --help and a mistyped field answer before Orbax and its like are loaded.
    from jaxseq.common import console as common_console
    from jaxseq.train import domains

    processes.check_same(f"{experiment} {resume is None}", "have different recipes: all of them need the same command")
    domain = domains.of(experiment)
    console = common_console.terminal() if console is None else console
    console.quiet = console.quiet or not processes.is_first()
    out, resume = (None if path is None else Path(path) for path in (out, resume))
    if resume is None:
        processes.from_first(lambda: run_folder.check_writable(out))
    else:
        check_resumable(resume, experiment)
    with ExitStack() as held:
        if resume is not None:
            processes.from_first(lambda: held.enter_context(lock.hold(resume)))
        job = domain.prepare(experiment)
        for text in job.notes:
            console.print(text, highlight=False, markup=False)
        if resume is None:
            folder, state = _begin(job, out, held)
            return _go_on(domain, job, state, [], folder, console, classical)
        return _go_on(domain, job, *_take_up(job, resume, console), resume, console, classical)


def _begin(job: Job, out: Path | None, held: ExitStack) -> tuple[Path, TrainState]:
    """A new run's folder, which stays `held`, and its first state."""
    from jaxseq.train.job import initial_state

    state = initial_state(job)
    folder = Path(processes.from_first(lambda: str(_new_folder(job, out, held))))
    return folder, state


def _new_folder(job: Job, out: Path | None, held: ExitStack) -> Path:
    """Its config comes first: it makes the folder a run."""
    from jaxseq.train import devices
    from jaxseq.train.job import run_config

    folder = run_folder.create(job.experiment.name, out)
    held.enter_context(lock.hold(folder))
    run_folder.check_empty(folder)  # by now: another may have begun and ended there
    run_folder.sweep(folder)
    run_folder.write_config(folder, run_config(job))
    files.write_json(folder / run_folder.ENVIRONMENT, run_folder.environment(devices.describe(job.mesh)))
    return folder


def _take_up(job: Job, folder: Path, console: Console) -> tuple[TrainState, list[run_folder.Row]]:
    """The state of a run to go on with, and its rows."""
    from jaxseq.train import loop
    from jaxseq.train.job import check_rows, run_config

    def begin() -> None:
        run_folder.sweep(folder)
        run_folder.write_config(folder, run_config(job))

    check_rows(job, folder)
    state, rows = loop.take_up(job, folder, console)
    processes.from_first(begin)
    return state, rows


def _go_on(
    domain: Domain,
    job: Job,
    state: TrainState,
    rows: list[run_folder.Row],
    folder: Path,
    console: Console,
    classical: bool,
) -> Path:
    """Train from a state on, and judge."""
    from jaxseq.checkpoint import records
    from jaxseq.train import loop
    from jaxseq.train.job import on_local_devices

    def judge() -> None:
        domain.judge(on_local_devices(loop.with_skipped(job, rows)), folder, console, classical)

    try:
        loop.fit_epochs(job, state, rows, folder, console)
        processes.from_first(judge)
    except KeyboardInterrupt:
        last = records.latest_epoch(folder / run_folder.CHECKPOINTS)
        raise Interrupted(folder, last, EXIT_INTERRUPTED) from None
    return folder


def check_resumable(folder: Path, experiment: Experiment) -> None:
    """Raise `UsageError`, with both values, unless the run in `folder` is this experiment but for how far it goes.

    What the run is says its config, which must be as it was: the checkpoints hold a sealed copy. Where it knows the hash
    of its rows, they may have moved to another path; see `job.check_rows`.
    """
    from jaxseq.checkpoint import records

    config = run_folder.read_config(folder)
    saved = from_config(config, str(folder / run_folder.CONFIG))
    if saved.name != experiment.name:
        raise UsageError(f"{folder} is a run of {saved.name}, not of {experiment.name}")
    begun = records.sealed_config(folder / run_folder.CHECKPOINTS)
    hashed = ROWS in {**config, **begun}
    if differ := _difference(saved, experiment, moved=hashed):
        raise UsageError(
            f"{folder} has {differ[0]}, asked for is {differ[1]}: only {', '.join(MAY_CHANGE)} may change in a run"
        )
    if saved.schedule == "cosine" and saved.epochs != experiment.epochs:
        raise UsageError(
            f"{folder} has a cosine schedule over {saved.epochs} epochs; {experiment.epochs} would be another schedule "
            "from the first step on: start a new run"
        )
    free = [name for name in MAY_CHANGE if name != "epochs" or saved.schedule != "cosine"]
    if begun and (differ := _difference(from_config(begun, f"{folder}"), saved, hashed, free)):
        raise UsageError(
            f"{folder / run_folder.CONFIG} was changed: it has {differ[1]}, the run began with {differ[0]}; put that back, "
            "or start a new run"
        )


def _difference(
    old: Experiment, new: Experiment, moved: bool, free: Sequence[str] = MAY_CHANGE
) -> tuple[str, str] | None:
    """The first field in which recipes differ that must not, of both as `--field value`; None if there is none."""
    old_fields, new_fields = dataclasses.asdict(old), dataclasses.asdict(new)
    if moved:
        old_fields["data"].pop("path", None)
        new_fields["data"].pop("path", None)
    for name in new_fields:
        if name not in free and new_fields[name] != old_fields.get(name):
            return _as_words(name, old_fields.get(name), new_fields[name])
    return None


def _as_words(name: str, old: Any, new: Any) -> tuple[str, str]:
    """Two values that differ as `--field value`; of nested recipes, the fields that do."""
    if not isinstance(old, dict):
        return f"--{name} {old}", f"--{name} {new}"
    fields = [key for key in old if old[key] != new.get(key)]
    return tuple(", ".join(f"--{name}.{key} {side.get(key)}" for key in fields) for side in (old, new))  # type: ignore
