"""One run from end to end: train, judge on the test part, leave a folder behind."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxseq import runlog
from jaxseq.errors import EXIT_INTERRUPTED, Interrupted, UsageError
from jaxseq.experiments import from_config
from jaxseq.experiments.base import Recipe

if TYPE_CHECKING:
    from rich.console import Console

MAY_CHANGE = ("epochs", "patience")
"""What a resumed run may have other than it had: how far to go. All else would be another run."""


def train(
    experiment: Recipe,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    console: Console | None = None,
    classical: bool = False,
) -> Path:
    """Train an experiment, judge it on the test part, and return the run's folder; `classical` as in `judge`.

    A new run goes into `out`, or into the next number below `runs/`; with `resume`, that run goes on to the
    experiment's epochs instead. Raises `UsageError` for what cannot work, if it can be known before anything is
    written, and `Interrupted` on Ctrl-C or SIGTERM, after the last finished epoch is saved.
    """
    # Here, so that --help and a mistyped field answer before Orbax and its like are loaded.
    from jaxseq import job as jobs
    from jaxseq import kinds, loop, screen
    from jaxseq.checkpoint import records

    kind = kinds.of(experiment)
    console = screen.terminal() if console is None else console
    if resume is None:
        runlog.check_writable(None if out is None else Path(out))
    else:
        check_resumable(Path(resume), experiment)
    job = kind.prepare(experiment)
    for text in job.notes:
        console.print(text, highlight=False, markup=False)
    if resume is None:
        state, rows = jobs.initial_state(job), []
        folder = runlog.create(experiment.name, None if out is None else Path(out))
        runlog.write_json(folder / runlog.ENVIRONMENT, runlog.environment(jobs.mesh.describe(job.mesh)))
    else:
        folder = Path(resume)
        state, rows = loop.take_up(job, folder, console)
    runlog.write_json(folder / runlog.CONFIG, jobs.config(job))
    try:
        loop.fit_epochs(job, state, rows, folder, console)
        kind.judge(job, folder, console, classical)
    except KeyboardInterrupt:
        last = records.latest_step(folder / runlog.CHECKPOINTS)
        raise Interrupted(folder, last, EXIT_INTERRUPTED) from None
    return folder


def check_resumable(folder: Path, experiment: Recipe) -> None:
    """Raise `UsageError`, with both values, unless the run in `folder` is this experiment but for how far it goes."""
    saved = from_config(runlog.read_config(folder), str(folder / runlog.CONFIG))
    if saved.name != experiment.name:
        raise UsageError(f"{folder} is a run of {saved.name}, not of {experiment.name}")
    mine, theirs = dataclasses.asdict(experiment), dataclasses.asdict(saved)
    for name in mine:
        if name in MAY_CHANGE or mine[name] == theirs[name]:
            continue
        old, new = _difference(name, theirs[name], mine[name])
        raise UsageError(f"{folder} has {old}, asked for is {new}: only {' and '.join(MAY_CHANGE)} may change in a run")
    if saved.schedule == "cosine" and saved.epochs != experiment.epochs:
        raise UsageError(
            f"{folder} has a cosine schedule over {saved.epochs} epochs; {experiment.epochs} would be another schedule "
            "from the first step on: start a new run"
        )


def _difference(name: str, old: Any, new: Any) -> tuple[str, str]:
    """Two values that differ as `--field value`; of nested recipes, the fields that do."""
    if not isinstance(old, dict):
        return f"--{name} {old}", f"--{name} {new}"
    fields = [key for key in old if old[key] != new.get(key)]
    return tuple(", ".join(f"--{name}.{key} {side.get(key)}" for key in fields) for side in (old, new))  # type: ignore
