"""`python -m jaxseq.train [EXPERIMENT] [--field value ...]`: train, judge on the test part, leave a run folder behind."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxseq import command, runlog
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
) -> Path:
    """Train an experiment, judge it on the test part, and return the run's folder.

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
        judge(job, folder, console)
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


def judge(job: Job, folder: Path, console: Console) -> None:
    """Judge the best epoch on the test part: table and verdict on the screen, report, pictures, predictions."""
    from jaxseq import judge as judging
    from jaxseq import plots, run, screen
    from jaxseq.checkpoint import records, store

    data, metric = job.experiment.data, f"valid_{job.setup.task.select}"
    rows = runlog.read_metrics(folder)
    kept = folder / runlog.CHECKPOINTS
    best, state = store.restore(kept, run.abstract_state(job), records.best_step(kept))
    name = f"{job.experiment.model.cell} (epoch {best})"
    prediction = run.predict(job, state, job.batches.test)
    found = judging.judge(name, job.windows, job.batches, job.scaling, prediction, job.experiment.seed)
    naive = judging.naive_loss(job.batches.valid, job.scaling, job.windows.valid)
    runlog.write_predictions(folder, found.predictions)
    plots.save(plots.loss(rows, metric, best, naive, f"{data.name}: {name}"), folder / runlog.LOSS_PLOT)
    title = f"{data.name}, test part: {len(job.batches.test.x)} forecasts by {name}"
    plots.save(plots.forecast(found.predictions, data.unit, title), folder / runlog.FORECAST_PLOT)
    runlog.write_text(folder / runlog.REPORT, report(job, found, best, rows))
    console.print(screen.score_table(found.rows, data.unit, f"{data.name}, test part"))
    console.print(found.verdict, style="bold", highlight=False, markup=False)
    console.print(found.copying, highlight=False, markup=False)
    console.print(
        f"{folder}: {runlog.REPORT}, {runlog.LOSS_PLOT}, {runlog.FORECAST_PLOT}, checkpoints", highlight=False
    )


def report(job: Job, found: Judgement, best: int, rows: list[runlog.Row]) -> str:
    """The run's report in Markdown."""
    from jaxseq.forecasting import verdict

    experiment, data = job.experiment, job.experiment.data
    parts = ", ".join(f"{len(part.x)} {name}" for name, part in job.batches._asdict().items())
    times = job.windows.test.times
    return f"""# {experiment.name}: {data.name}, {experiment.model.cell}, {experiment.model.hidden} units

{found.verdict}.

{found.copying}.

{verdict.markdown(found.rows, data.unit)}

Test part: {len(times)} forecasts, {times[0]} to {times[-1]}. Skill is 1 - MSE / MSE of the last value; its 95 % interval
is a block bootstrap over time. The baselines and the scaling saw the training part alone, epoch {best} of {len(rows)}
was chosen on the validation part, and the test part was used once, for this table.

![Forecast, test part]({runlog.FORECAST_PLOT})

![Loss by epoch]({runlog.LOSS_PLOT})

Windows: {parts}, of {data.window} values each, horizon {data.horizon}. The recipe is in `{runlog.CONFIG}`, the versions
are in `{runlog.ENVIRONMENT}`. See the weights with `python -m jaxseq.checkpoint show RUN`.
"""


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status: 0, 2 for a mistake of the user, 130 if interrupted."""
    try:
        asked = command.parse(sys.argv[1:] if argv is None else argv)
        train(asked.experiment, asked.out, asked.resume)
    except UsageError as error:
        print(f"jaxseq.train: {error}", file=sys.stderr)
        return 2
    except Interrupted as stop:
        print(f"jaxseq.train: {stop}", file=sys.stderr)
        return stop.status
    except KeyboardInterrupt:
        print("jaxseq.train: stopped before the training began", file=sys.stderr)
        return EXIT_INTERRUPTED
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):  # JAX's word for it
            raise
        first = next(iter(str(error).splitlines()), "")
        print(f"jaxseq.train: not enough memory ({first}): take a smaller window, batch or model", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
