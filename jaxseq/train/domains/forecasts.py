"""A forecast of series: judged against naive forecasts on its test part."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from jaxseq.common import console as common_console
from jaxseq.common import figures
from jaxseq.common import files as common_files
from jaxseq.common.arrays import Batch, Splits
from jaxseq.common.errors import UsageError
from jaxseq.data.scaling import Scaling, batch
from jaxseq.data.windows import Windows
from jaxseq.forecasting import diagnostics, evaluate, plots, verdict
from jaxseq.forecasting.evaluate import Judgement
from jaxseq.train import forecaster, run_folder
from jaxseq.train import plots as training_plots
from jaxseq.train.domains import Member
from jaxseq.train.experiments.forecasts import ForecastExperiment
from jaxseq.train.job import Job, build_job, restore_best

__all__ = ["check", "judge", "prepare", "report", "row", "summary"]


def judge(job: Job, folder: Path, console: Console, classical: bool = False) -> None:
    """Judge the best epoch on the test part: table and verdict on the screen, report, pictures, predictions.

    `classical` also fits exponential smoothing and theta to every test window.
    """
    experiment = job.experiment
    data = experiment.data
    metric = f"valid_{job.setup.objective.select}"
    rows = run_folder.read_metrics(folder)
    best, state = restore_best(job, folder)
    name = f"{experiment.model.cell} (epoch {best})"
    windows = job.material.windows
    test = forecaster.forecast(job, state, windows.test)
    valid = forecaster.forecast(job, state, windows.valid)
    with common_console.counter(console, "exponential smoothing, theta") as progress:
        found = evaluate.judge(
            name,
            job.material,
            test=test,
            valid=valid,
            seed=experiment.seed,
            progress=progress if classical else None,
        )
    added = evaluate.margins(valid, windows.valid, job.material.scaling)
    common_files.write_json(folder / run_folder.INTERVALS, added._asdict())
    common_files.write_table(folder / run_folder.PREDICTIONS, found.predictions)
    common_files.write_table(folder / run_folder.SCORES, found.scores)
    naive = (
        evaluate.naive_loss(windows.valid, job.material.scaling, experiment.steps_out)
        if metric == "valid_mse"
        else None
    )
    figures.save(training_plots.loss(rows, metric, best, naive, f"{data.name}: {name}"), folder / run_folder.LOSS_PLOT)
    title = f"{data.name}, test part: {len(windows.test.inputs)} forecasts by {name}"
    before = evaluate.before_test(windows)
    figures.save(plots.forecast(found.predictions, data.unit, title, before), folder / run_folder.FORECAST_PLOT)
    errors = diagnostics.errors(found.scores, found.predictions, found.coverage, data.unit, title)
    figures.save(errors, folder / run_folder.ERRORS_PLOT)
    common_files.write_text(folder / run_folder.REPORT, report(job, found, best, rows))
    console.print(verdict.score_table(found.rows, data.unit, f"{data.name}, test part"))
    console.print(found.verdict, style="bold", highlight=False, markup=False)
    for text in (found.copying, *_coverage_words(found), *found.notes):
        console.print(text, highlight=False, markup=False)
    files = ", ".join(
        (run_folder.REPORT, run_folder.SCORES, run_folder.LOSS_PLOT, run_folder.FORECAST_PLOT, run_folder.ERRORS_PLOT)
    )
    console.print(f"{folder}: {files}, checkpoints", highlight=False)


def _coverage_words(found: Judgement) -> list[str]:
    """The intervals' measured coverage in a line, or none."""
    overall = [row for row in found.coverage if row.step is None]
    if not overall:
        return []
    words = "; ".join(f"{row.level:.0%} intervals cover {row.measured:.1%}" for row in overall)
    return [f"on the test part, {words}"]


def report(job: Job, found: Judgement, best: int, rows: list[run_folder.Row]) -> str:
    """The run's report in Markdown."""
    experiment = job.experiment
    data = experiment.data
    parts = ", ".join(f"{len(part.x)} {name}" for name, part in job.batches._asdict().items())
    times = job.material.windows.test.times
    first, last = (np.datetime_as_string(t, "D") if t.dtype.kind == "M" else t for t in (times.min(), times.max()))
    said = "\n".join(f"{text}.\n" for text in (*_coverage_words(found), *found.notes, *job.notes))
    return f"""# {experiment.name}: {data.name}, {experiment.model.cell}, {experiment.model.hidden} units, {experiment.task}

{found.verdict}.

{found.copying}.

{verdict.markdown(found.rows, data.unit)}

{said}
Test part: {len(times)} forecasts, {first} to {last}. Skill is 1 - MSE / MSE of the last value; its 95 % interval
is a block bootstrap over time, and p is that of the Diebold-Mariano test against the last value. The baselines and the
scaling saw the training part alone; epoch {best} of {len(rows)} and the width of the intervals were chosen on the
validation part; the test part was used once, for this table. Every step of the horizon by itself: `{run_folder.SCORES}`.

![Forecast, test part]({run_folder.FORECAST_PLOT})

![Errors and intervals, test part]({run_folder.ERRORS_PLOT})

![Loss by epoch]({run_folder.LOSS_PLOT})

Windows: {parts}, of {data.window} values each, horizon {experiment.horizon}. The recipe is in `{run_folder.CONFIG}`, the
versions are in `{run_folder.ENVIRONMENT}`. See the weights with `python -m jaxseq.checkpoint show RUN`.
"""


def check(experiment: ForecastExperiment) -> None:
    """Raise `UsageError` for data that no run could be made of."""
    experiment.data.load(experiment.horizon)


def row(member: Member) -> dict[str, Any]:
    """A run's errors on its test block, relative to the last value, and its validation."""
    scores = pd.read_csv(member.folder / run_folder.SCORES)
    whole = scores[scores["step"] == "all"]
    naive, model = whole.iloc[0], whole.iloc[-1]
    metrics = run_folder.read_metrics(member.folder)
    best = run_folder.best_row(metrics, f"valid_{member.experiment.objective().select}")
    return (
        {"epoch": best["epoch"], "epochs": len(metrics)}
        | {"valid_mse": best["valid_mse"], "valid_mse_last_epoch": metrics[-1]["valid_mse"]}
        | {name: model[name] for name in ("mse", "rmse", "mae")}
        | {"relative_mse": model["mse"] / naive["mse"], "seconds": sum(row["seconds"] for row in metrics)}
    )


def summary(experiment: ForecastExperiment, runs: Sequence[Member], table: pd.DataFrame) -> str:
    """The study in Markdown: naive first, the model's mean over the seeds on all folds together, the spread."""
    name = f"{experiment.model.cell}, mean over {table['seed'].nunique()} seeds"
    truth, forecasts, times = _pooled(runs, name)
    rows = verdict.compare(truth, forecasts, experiment.seed, times)
    by_seed = _ratios(runs)
    spread = f" ± {by_seed.std(ddof=1):.4f} (standard deviation over seeds)" if len(by_seed) > 1 else ""
    valid = table.groupby("seed")[["valid_mse", "valid_mse_last_epoch"]].mean()
    words = [
        f"{label} {valid[column].mean():.5f}" + (f" ± {valid[column].std(ddof=1):.5f}" if len(valid) > 1 else "")
        for label, column in (("best epoch", "valid_mse"), ("last epoch", "valid_mse_last_epoch"))
    ]
    return f"""# {experiment.name}: {experiment.data.name}, {experiment.model.cell}, {len(runs)} runs

{verdict.sentence(rows[-1])}.

{verdict.markdown(rows, experiment.data.unit)}

MSE relative to the last value over all folds, by seed: mean {by_seed.mean():.4f}{spread}; {by_seed.min():.4f} to
{by_seed.max():.4f}. In the model's row each error is the root mean square over the seeds: it is a single run's, not that of
their mean forecast. Validation MSE in the model's own scale: {"; ".join(words)}.

Folds: {table["fold"].nunique()}, each with a model that was trained, chosen and calibrated on what comes before it. One
row a run: `study.csv`.
"""


def _pooled(runs: Sequence[Member], name: str) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray | None]:
    """Actual values of all folds, and forecasts: the naive one, and one whose squared errors are the mean over seeds;
    and, where there are several series, the time of each row."""
    actual, naive, size, times = [], [], [], []
    for fold in sorted({member.fold for member in runs}):
        frames = [_predictions(member) for member in runs if member.fold == fold]
        truth = _by_step(frames[0], "actual")
        actual.append(truth)
        times.append(_by_step(frames[0], str(frames[0].columns[0]))[:, 0])
        naive.append(_by_step(frames[0], "naive"))
        size.append(np.sqrt(np.mean([(truth - _by_step(frame, "forecast")) ** 2 for frame in frames], axis=0)))
    truth = np.concatenate(actual)
    several = "series" in _predictions(runs[0])
    found = {verdict.NAIVE: np.concatenate(naive), name: truth - np.concatenate(size)}
    return truth, found, np.concatenate(times) if several else None


def _ratios(runs: Sequence[Member]) -> np.ndarray:
    """MSE over that of the last value, all folds together, for each seed."""
    found = []
    for seed in sorted({member.seed for member in runs}):
        frame = pd.concat([_predictions(member) for member in runs if member.seed == seed])
        model, naive = (np.mean((frame["actual"] - frame[column]) ** 2) for column in ("forecast", "naive"))
        found.append(model / naive)
    return np.array(found)


def _predictions(member: Member) -> pd.DataFrame:
    return pd.read_csv(member.folder / run_folder.PREDICTIONS)


def _by_step(frame: pd.DataFrame, column: str) -> np.ndarray:
    steps = int(frame["step"].max()) if "step" in frame else 1
    return frame[column].to_numpy().reshape(-1, steps)


def prepare(experiment: ForecastExperiment) -> Job:
    """Load the data, build the model, and lay both over the devices. Raises `UsageError` where they do not fit."""
    dataset = experiment.data.load(experiment.horizon)
    if experiment.task == "iterated" and dataset.windows.train.covariates.shape[2]:
        raise UsageError("covariates are not known beyond the data: take --task direct or every-step, not iterated")

    batches = Splits(*(_batch(experiment, part, dataset.scaling) for part in dataset.windows))
    fitted = {"scaling": dataclasses.asdict(dataset.scaling), "series": list(dataset.background.names)}
    return build_job(experiment, batches, dataset, dataset.background.notes, fitted)


def _batch(experiment: ForecastExperiment, part: Windows, scaling: Scaling) -> Batch:
    return batch(part, scaling, experiment.task == "every-step", experiment.steps_out)
