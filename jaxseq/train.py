"""`python -m jaxseq.train [EXPERIMENT] [--field value ...]`: train, judge on the test part, leave a run folder behind."""

from __future__ import annotations

import dataclasses
import math
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from jaxseq import command, runlog
from jaxseq.errors import UsageError
from jaxseq.experiments import Experiment, from_config

EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
MAY_CHANGE = ("epochs", "patience")
"""What a resumed run may have other than it had: how far to go. All else would be another run."""


class Interrupted(Exception):
    """Training was stopped by a signal; `epoch` is the last one that is saved, None if there is none."""

    def __init__(self, folder: Path, epoch: int | None, status: int) -> None:
        saved = "before an epoch was saved" if epoch is None else f"after epoch {epoch}, which is saved"
        super().__init__(f"stopped {saved}; go on with: python -m jaxseq.train --resume {shlex.quote(str(folder))}")
        self.status = status


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
    from jaxseq import (
        checkpoint,
        run,
    )  # here, so that --help and a mistyped field answer before JAX's libraries are loaded

    console = terminal() if console is None else console
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
        state, rows = _take_up(job, folder, console)
    runlog.write_json(folder / runlog.CONFIG, run.config(job))
    try:
        fit_epochs(job, state, rows, folder, console)
        judge(job, folder, console)
    except KeyboardInterrupt:
        last = checkpoint.latest_step(folder / runlog.CHECKPOINTS)
        raise Interrupted(folder, last, EXIT_INTERRUPTED) from None
    return folder


def terminal() -> Console:
    """The screen; where it is no terminal, wide enough that no column is cut."""
    console = Console()
    return console if console.is_terminal else Console(width=120)


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


def fit_epochs(job: Any, state: Any, rows: list[runlog.Row], folder: Path, console: Console) -> None:
    """Do the epochs that follow those in `rows`, each one logged and saved in the background. Raises as `train` does.

    The row is written before the checkpoint: whatever stops the process between the two, no epoch lacks its row.
    """
    from jaxseq import checkpoint, fit, progress, run

    experiment, metric, done = job.experiment, f"valid_{job.setup.task.select}", len(rows)
    with (
        checkpoint.Writer(folder / runlog.CHECKPOINTS, run.config(job), metric) as writer,
        progress.EpochDisplay(console, done, experiment.epochs) as display,
        stop_signals(display.note) as stopped,
    ):
        started = time.perf_counter()
        numbers = range(done + 1, experiment.epochs + 1)
        finished = () if _impatient(rows, metric, experiment.patience) else numbers
        for epoch in fit.epochs(job.setup, state, job.data.train, job.data.valid, experiment.batch, finished):
            row = _row(epoch, time.perf_counter() - started, len(job.batches.train.x))
            if fault := _not_finite(epoch):
                writer.wait()
                raise UsageError(f"{fault}; {_saved(checkpoint.latest_step(writer.folder))} in {folder}")
            runlog.append_metrics(folder, row)
            rows.append(row)
            writer.save(epoch.number, epoch.state, {key: row[key] for key in row if key.startswith(("train", "valid"))})
            display.show(row, metric, runlog.best_row(rows, metric) is row)
            if status := stopped():
                writer.wait()
                raise Interrupted(folder, epoch.number, status)
            if _impatient(rows, metric, experiment.patience):
                display.note(f"no better validation for {experiment.patience} epochs: stopped after {epoch.number}")
                break
            started = time.perf_counter()


def _take_up(job: Any, folder: Path, console: Console) -> tuple[Any, list[runlog.Row]]:
    """The newest sound state of a run and the rows up to it; later rows are dropped, they will come again."""
    from jaxseq import checkpoint, run

    def report(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True, style="yellow")

    store, epochs = folder / runlog.CHECKPOINTS, job.experiment.epochs
    if checkpoint.steps(store):
        done, state = checkpoint.restore(store, run.abstract_state(job), report=report)
    else:
        done, state = 0, run.initial_state(job)
    if done > epochs:
        raise UsageError(f"{folder} has {done} epochs behind it: it cannot go on to --epochs {epochs}")
    rows = runlog.keep_metrics(folder, done)
    report(f"{folder}: going on after epoch {done} of {epochs}")
    return state, rows


def _impatient(rows: list[runlog.Row], metric: str, patience: int | None) -> bool:
    if patience is None or not rows:
        return False
    return rows[-1]["epoch"] - runlog.best_row(rows, metric)["epoch"] >= patience


def _row(epoch: Any, seconds: float, windows: int) -> runlog.Row:
    return {
        "epoch": epoch.number,
        "step": int(epoch.state.step),
        "train_loss": float(np.mean(epoch.steps.loss)),
        **{f"valid_{name}": value for name, value in epoch.valid.items()},
        "gradient_norm": float(np.mean(epoch.steps.gradient_norm)),
        "seconds": round(seconds, 4),
        "windows_per_second": round(windows / seconds, 1),
    }


def _not_finite(epoch: Any) -> str:
    """Where an epoch has left the finite numbers, with epoch and step; "" if it has not."""
    loss, norm = np.asarray(epoch.steps.loss), np.asarray(epoch.steps.gradient_norm)
    bad = ~(np.isfinite(loss) & np.isfinite(norm))
    if not bad.any() and all(math.isfinite(value) for value in epoch.valid.values()):
        return ""
    at = int(np.argmax(bad)) if bad.any() else len(loss) - 1
    return (
        f"training is no longer finite in epoch {epoch.number}, step {at + 1} of {len(loss)} (loss {loss[at]:g}, "
        f"gradient norm {norm[at]:g}, validation {next(iter(epoch.valid.values())):g}): take a smaller --lr or set --clip"
    )


def _saved(epoch: int | None) -> str:
    return "no epoch was finished" if epoch is None else f"epoch {epoch} is saved"


@contextmanager
def stop_signals(note: Callable[[str], None]) -> Iterator[Callable[[], int]]:
    """Within, the first Ctrl-C or SIGTERM only asks to stop: the function given says with which status, or 0.

    A second Ctrl-C is an ordinary KeyboardInterrupt. Outside the main thread, signals are left alone.
    """
    status = 0

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal status
        if status:
            raise KeyboardInterrupt
        status = EXIT_INTERRUPTED if number == signal.SIGINT else EXIT_TERMINATED
        with suppress(RuntimeError):  # the signal came while another line was being written
            note("stopping after this epoch (Ctrl-C again to stop at once)")

    before = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, ask)
    except ValueError:  # not the main thread
        before = {}
    try:
        yield lambda: status
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def judge(job: Any, folder: Path, console: Console) -> None:
    """Judge the best epoch on the test part: table and verdict on the screen, report, pictures, predictions."""
    from jaxseq import checkpoint, plots, run
    from jaxseq import judge as judging

    data, metric = job.experiment.data, f"valid_{job.setup.task.select}"
    rows = runlog.read_metrics(folder)
    store = folder / runlog.CHECKPOINTS
    best, state = checkpoint.restore(store, run.abstract_state(job), checkpoint.best_step(store))
    name = f"{job.experiment.model.cell} (epoch {best})"
    prediction = run.predict(job, state, job.batches.test)
    found = judging.judge(name, job.windows, job.batches, job.scaling, prediction, job.experiment.seed)
    naive = judging.naive_loss(job.batches.valid, job.scaling, job.windows.valid)
    runlog.write_predictions(folder, found.predictions)
    plots.save(plots.loss(rows, metric, best, naive, f"{data.name}: {name}"), folder / runlog.LOSS_PLOT)
    title = f"{data.name}, test part: {len(job.batches.test.x)} forecasts by {name}"
    plots.save(plots.forecast(found.predictions, data.unit, title), folder / runlog.FORECAST_PLOT)
    runlog.write_text(folder / runlog.REPORT, report(job, found, best, rows))
    console.print(score_table(found.rows, data.unit, f"{data.name}, test part"))
    console.print(found.verdict, style="bold", highlight=False, markup=False)
    console.print(found.copying, highlight=False, markup=False)
    console.print(
        f"{folder}: {runlog.REPORT}, {runlog.LOSS_PLOT}, {runlog.FORECAST_PLOT}, checkpoints", highlight=False
    )


def score_table(rows: list[Any], unit: str, title: str) -> Table:
    """The forecasts' scores as a table for the terminal."""
    suffix = f", {unit}" if unit else ""
    table = Table(title=title, title_justify="left")
    table.add_column("forecast", no_wrap=True)
    for heading in (f"RMSE{suffix}", f"MAE{suffix}", "MSE / naive", "skill", "95 % interval"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        interval = "\N{EN DASH}" if math.isnan(row.low) else f"{row.low:+.4f} to {row.high:+.4f}"
        numbers = [f"{value:.4f}" for value in (row.rmse, row.mae, row.relative_mse)]
        table.add_row(row.name, *numbers, f"{row.skill:+.4f}" if row.skill else "0", interval)
    return table


def report(job: Any, found: Any, best: int, rows: list[runlog.Row]) -> str:
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
