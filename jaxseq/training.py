"""One run from end to end: train, judge on the test part, leave a folder behind."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxseq import runlog
from jaxseq.errors import EXIT_INTERRUPTED, Interrupted, UsageError
from jaxseq.experiments import Experiment, from_config

if TYPE_CHECKING:
    from rich.console import Console

    from jaxseq.judge import Judgement
    from jaxseq.run import Job

MAY_CHANGE = ("epochs", "patience")
"""What a resumed run may have other than it had: how far to go. All else would be another run."""


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
    written, and `Interrupted` on Ctrl-C or SIGTERM, after the last finished epoch is saved.
    """
    # Here, so that --help and a mistyped field answer before Orbax and its like are loaded.
    from jaxseq import loop, run, screen
    from jaxseq.checkpoint import records

    console = screen.terminal() if console is None else console
    if resume is None:
        runlog.check_writable(None if out is None else Path(out))
    else:
        check_resumable(Path(resume), experiment)
    job = run.prepare(experiment)
    for text in job.known.notes:
        console.print(text, highlight=False, markup=False)
    if resume is None:
        state, rows = run.initial_state(job), []
        folder = runlog.create(experiment.name, None if out is None else Path(out))
        runlog.write_json(folder / runlog.ENVIRONMENT, runlog.environment(run.mesh.describe(job.mesh)))
    else:
        folder = Path(resume)
        state, rows = loop.take_up(job, folder, console)
    runlog.write_json(folder / runlog.CONFIG, run.config(job))
    try:
        loop.fit_epochs(job, state, rows, folder, console)
        judge(job, folder, console, classical)
    except KeyboardInterrupt:
        last = records.latest_step(folder / runlog.CHECKPOINTS)
        raise Interrupted(folder, last, EXIT_INTERRUPTED) from None
    return folder


def check_resumable(folder: Path, experiment: Experiment) -> None:
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


def judge(job: Job, folder: Path, console: Console, classical: bool = False) -> None:
    """Judge the best epoch on the test part: table and verdict on the screen, report, pictures, predictions.

    `classical` also fits exponential smoothing and theta to every test window.
    """
    from jaxseq import judge as judging
    from jaxseq import plots, run, screen
    from jaxseq.checkpoint import records, store

    experiment, data, metric = job.experiment, job.experiment.data, f"valid_{job.setup.task.select}"
    rows = runlog.read_metrics(folder)
    kept = folder / runlog.CHECKPOINTS
    best, state = store.restore(kept, run.abstract_state(job), records.best_step(kept))
    name = f"{experiment.model.cell} (epoch {best})"
    test, valid = (run.forecast(job, state, part) for part in (job.windows.test, job.windows.valid))
    known = job.known
    with screen.counter(console, "exponential smoothing, theta") as progress:
        found = judging.judge(
            name,
            job.windows,
            job.scaling,
            test,
            valid,
            known,
            experiment.seed,
            progress if classical else None,
        )
    added = judging.margins(valid, job.windows.valid, job.scaling)
    runlog.write_json(folder / runlog.INTERVALS, added._asdict())
    runlog.write_table(folder / runlog.PREDICTIONS, found.predictions)
    runlog.write_table(folder / runlog.SCORES, found.scores)
    naive = judging.naive_loss(job.windows.valid, job.scaling, experiment.steps_out) if metric == "valid_mse" else None
    plots.save(plots.loss(rows, metric, best, naive, f"{data.name}: {name}"), folder / runlog.LOSS_PLOT)
    title = f"{data.name}, test part: {len(job.windows.test.inputs)} forecasts by {name}"
    plots.save(plots.forecast(found.predictions, data.unit, title), folder / runlog.FORECAST_PLOT)
    errors = plots.errors(found.scores, found.predictions, found.coverage, data.unit, title)
    plots.save(errors, folder / runlog.ERRORS_PLOT)
    runlog.write_text(folder / runlog.REPORT, report(job, found, best, rows))
    console.print(screen.score_table(found.rows, data.unit, f"{data.name}, test part"))
    console.print(found.verdict, style="bold", highlight=False, markup=False)
    for text in (found.copying, *_coverage_words(found), *found.notes):
        console.print(text, highlight=False, markup=False)
    files = ", ".join((runlog.REPORT, runlog.SCORES, runlog.LOSS_PLOT, runlog.FORECAST_PLOT, runlog.ERRORS_PLOT))
    console.print(f"{folder}: {files}, checkpoints", highlight=False)


def _coverage_words(found: Judgement) -> list[str]:
    """The intervals' measured coverage in a line, or none."""
    overall = [row for row in found.coverage if row.step is None]
    if not overall:
        return []
    words = "; ".join(f"{row.level:.0%} intervals cover {row.measured:.1%}" for row in overall)
    return [f"on the test part, {words}"]


def report(job: Job, found: Judgement, best: int, rows: list[runlog.Row]) -> str:
    """The run's report in Markdown."""
    from jaxseq.forecasting import verdict

    experiment, data = job.experiment, job.experiment.data
    parts = ", ".join(f"{len(part.x)} {name}" for name, part in job.batches._asdict().items())
    times = job.windows.test.times
    first, last = (np.datetime_as_string(t, "D") if t.dtype.kind == "M" else t for t in (times.min(), times.max()))
    said = "\n".join(f"{text}.\n" for text in (*_coverage_words(found), *found.notes, *job.known.notes))
    return f"""# {experiment.name}: {data.name}, {experiment.model.cell}, {experiment.model.hidden} units, {experiment.task}

{found.verdict}.

{found.copying}.

{verdict.markdown(found.rows, data.unit)}

{said}
Test part: {len(times)} forecasts, {first} to {last}. Skill is 1 - MSE / MSE of the last value; its 95 % interval
is a block bootstrap over time, and p is that of the Diebold-Mariano test against the last value. The baselines and the
scaling saw the training part alone; epoch {best} of {len(rows)} and the width of the intervals were chosen on the
validation part; the test part was used once, for this table. Every step of the horizon by itself: `{runlog.SCORES}`.

![Forecast, test part]({runlog.FORECAST_PLOT})

![Errors and intervals, test part]({runlog.ERRORS_PLOT})

![Loss by epoch]({runlog.LOSS_PLOT})

Windows: {parts}, of {data.window} values each, horizon {experiment.horizon}. The recipe is in `{runlog.CONFIG}`, the
versions are in `{runlog.ENVIRONMENT}`. See the weights with `python -m jaxseq.checkpoint show RUN`.
"""
