"""Forecasts of series, judged against naive forecasts on the test part."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeAlias, get_args

import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Float
from rich.console import Console

from jaxseq.checkpoint import run_seal
from jaxseq.common import csv_tables, figures, files, html_page
from jaxseq.common.arrays import Batch, Variables
from jaxseq.common.console import counter
from jaxseq.common.errors import UsageError
from jaxseq.common.text import counted
from jaxseq.data.dataset import Dataset
from jaxseq.data.scaling import batch
from jaxseq.data.transforms import TRANSFORMS
from jaxseq.data.windows import known_until
from jaxseq.forecasting import baselines, chart, coverage, distributions, evaluate, ridge, verdict
from jaxseq.forecasting.evaluate import Entry, Judgement
from jaxseq.forecasting.ridge import Ridge
from jaxseq.forecasting.significance import IN_ORDER, MIN_BLOCKS, MIN_SERIES, Loss, Rows
from jaxseq.nn import heads
from jaxseq.train import auto_record, feed, forecaster, overrides, processes, run_folder, stateful, trained_series
from jaxseq.train.domains.base import Member, RunRow
from jaxseq.train.experiments.config import RIDGE
from jaxseq.train.experiments.forecasts import ForecastExperiment
from jaxseq.train.feed import RowSplits
from jaxseq.train.forecaster import Trained, restore
from jaxseq.train.job import Job, Start, build_job, restore_best
from jaxseq.train.plots import judgement_figures, loss_figure

__all__ = ["Trained", "check", "judge", "prepare", "report", "restore", "summary"]

BEST_OF_FOLDS = "the best baseline of each fold"
"""Name of the reference of a study whose folds have different ones."""

ForecastJob: TypeAlias = Job[ForecastExperiment, Dataset]
"""A forecast with its data: windows in the series' own units, their scaling and background."""


def prepare(experiment: ForecastExperiment) -> ForecastJob:
    """Load the series and lay their windows out as rows. Raises `UsageError` where data and experiment do not fit."""
    dataset = experiment.load()
    covariates = dataset.windows.train.covariates.shape[2]
    if experiment.task == "iterated" and covariates:
        raise UsageError(
            "covariates are not known beyond the data", where="--task", got="iterated", needed="direct or every-step"
        )

    _check_support(experiment, dataset.scaling.kind)
    # Saved, so that a restored run forecasts in the series' units without the data it was trained on.
    fitted: dict[str, object] = {
        "scaling": dataclasses.asdict(dataset.scaling),
        "series": list(dataset.background.names),
        trained_series.CONFIG_KEY: trained_series.describe(dataset.background),
    }
    if experiment.stateful:
        segmented = stateful.segment(dataset, experiment.batch)
        batches = segmented.splits
        fitted[stateful.START] = segmented.carried_from
    else:
        batches = _independent_rows(experiment, dataset)
    linear = _ridge(experiment, dataset, batches)
    notes = [*dataset.background.notes, *_selection_note(experiment)]
    if linear is not None:
        fitted[RIDGE] = {"penalty": linear.penalty, "decay": linear.decay}
        notes.append(_ridge_note(linear))
    elif experiment.starts_from_ridge:
        notes.append("the weights are drawn: there is no ridge regression on so many inputs, or without known targets")
    job = build_job(experiment, batches, dataset, tuple(notes), fitted, judged_by=("mse",))
    return _starting_from(job, linear)


def _ridge(experiment: ForecastExperiment, dataset: Dataset, batches: RowSplits) -> Ridge | None:
    """Fit the ridge regression that the network begins as; None where its weights are drawn."""
    # A class from outside the package may build a network without a linear map.
    if not experiment.starts_from_ridge or "build" in overrides.of(experiment):
        return None
    train = batches.train
    valid = batches.valid
    assert isinstance(train, Batch) and isinstance(valid, Batch), "a carried state forecasts at every step"
    return ridge.fit(train, valid, ridge.ages(dataset.windows.train.series, experiment.horizon))


def _ridge_note(linear: Ridge) -> str:
    memory = "all lags alike"
    if linear.decay:
        memory = f"growing with the lag to the power of {2 * linear.decay}"
    return f"the network begins as a ridge regression on the window: penalty {linear.penalty:.3g}, {memory}"


def _starting_from(job: ForecastJob, linear: Ridge | None) -> ForecastJob:
    """Return a job whose network begins as a ridge regression; unchanged without one."""
    if linear is None:
        return job
    numbers = {"weights": linear.weights.tolist(), "intercept": linear.intercept.tolist()}
    # Each process would round its own solution.
    numbers = processes.from_first(lambda: numbers)
    return dataclasses.replace(job, start=Start(partial(_as_linear, numbers), _ridge_note(linear), RIDGE))


def _as_linear(linear: Mapping[str, list], params: Variables) -> Variables:
    """Return the parameters of a network whose predictions are linear: its states have no weight yet."""
    head = {
        "kernel": jnp.zeros_like(params["head"]["kernel"]),
        "bias": jnp.asarray(linear["intercept"], params["head"]["bias"].dtype),
    }
    skip = {"kernel": jnp.asarray(linear["weights"], params["skip"]["kernel"].dtype)}
    return {**params, "head": head, "skip": skip}


def on_all_rows(job: ForecastJob, facts: Mapping[str, object]) -> ForecastJob:
    """Return a job with the windows of all rows as its training part, for a run that is to be used and not judged.

    Scaling and the other two parts stay as they are; `facts` are added to its config.
    """
    experiment = job.experiment
    dataset = job.material
    # The series that were trained on, if others were left out.
    panel = experiment.data.panel()
    numbers = [panel.names.index(name) for name in dataset.background.names]
    windows = panel.select(numbers).all_windows(experiment.data.window, experiment.horizon)
    whole = dataset._replace(windows=dataset.windows._replace(train=windows))
    fitted = {**job.fitted, **facts}
    batches = _independent_rows(experiment, whole)
    again = build_job(experiment, batches, whole, job.notes, fitted, judged_by=("mse",))
    chosen = job.fitted.get(RIDGE)
    if not isinstance(chosen, Mapping):
        return again
    assert isinstance(batches.train, Batch), "the rows are independent"
    return _starting_from(again, ridge.fit_to(batches.train, **chosen))


def _independent_rows(experiment: ForecastExperiment, dataset: Dataset) -> RowSplits:
    """Lay the windows of each part out as rows in any order."""
    every_step = experiment.task == "every-step"
    batches = []
    for name, part in dataset.windows._asdict().items():
        rows = batch(known_until(part, experiment.steps_out), dataset.scaling, every_step, experiment.steps_out)
        if experiment.data.masks_targets:
            rows = _with_known_targets(rows, name)
        batches.append(rows)
    return RowSplits(*batches)


def _check_support(experiment: ForecastExperiment, target: str) -> None:
    """Raise `UsageError` for a head that is made for other targets than the data have."""
    support = TRANSFORMS[target].support
    if experiment.head.support == support:
        return
    heads_that_fit = [name for name in get_args(heads.HeadName) if heads.named(name).support == support]
    targets_that_fit = [name for name, other in TRANSFORMS.items() if other.support == experiment.head.support]
    raise UsageError(
        f"--model.head {experiment.head.name} forecasts other values",
        where="--data.target",
        got=target,
        needed=f"{' or '.join(targets_that_fit)} (or --model.head {' or '.join(heads_that_fit)})",
    )


def _selection_note(experiment: ForecastExperiment) -> list[str]:
    """Say by which loss the network is trained and its epoch chosen, unless it is the squared error."""
    objective = experiment.objective()
    select = objective.select
    if "objective" in overrides.of(experiment):
        return [
            f"training loss: {overrides.of_objective(objective)}; the network's output is judged as a forecast by the "
            f"{experiment.head.name} head"
        ]
    if select == "mse":
        return []
    trained_by = experiment.loss if experiment.model.head == "point" else f"that of the {experiment.model.head} head"
    return [f"training loss: {trained_by}; its validation value, valid_{select}, chooses the epoch"]


def _with_known_targets(rows: Batch, part: str) -> Batch:
    """Return the rows with at least one known target; a batch of rows without one would have no mean loss.

    Raises `UsageError`, which names the part, if none is left.
    """
    has_target = np.isfinite(rows.y).reshape(len(rows.y), -1).any(axis=1)
    if not np.any(has_target):
        raise UsageError(f"all targets of the {part} part are missing")
    return Batch(rows.x[has_target], rows.y[has_target])


def judge(job: ForecastJob, folder: Path, console: Console, classical: bool = False) -> RunRow:
    """Judge the best epoch on the test part: table and verdict on the console, report, figures and predictions.

    `classical` also fits exponential smoothing and theta to every test window.
    """
    judged = judge_quietly(job, folder, console, classical)
    _draw(job, judged, folder)
    metrics = run_folder.read_metrics(folder)
    record = auto_record.read(folder)
    if record is not None and record.chosen is not None:
        job = dataclasses.replace(job, notes=(*job.notes, auto_record.sentence(record)))
    text = report(job, judged.judgement, judged.epoch, metrics)
    files.write_text(folder / run_seal.REPORT, text)
    files.write_text(folder / run_seal.PAGE, page(job, judged.judgement, text, folder))

    written = (
        run_seal.PAGE,
        run_seal.REPORT,
        run_seal.SCORES,
        run_seal.LOSS_PLOT,
        run_seal.FORECAST_PLOT,
        run_seal.ERRORS_PLOT,
        "checkpoints",
    )
    print_judgement(job, judged.judgement, folder, console, written)
    return row(job.experiment, folder)


class JudgedEpoch(NamedTuple):
    """The best epoch of a run with its judgement; `name` is that of the model with its epoch."""

    epoch: int
    name: str
    judgement: Judgement


def judge_quietly(job: ForecastJob, folder: Path, console: Console, classical: bool = False) -> JudgedEpoch:
    """Judge the best epoch on the test part; write its intervals, predictions and scores, without report or pictures."""
    experiment = job.experiment
    windows = job.material.windows
    best_epoch, state = restore_best(job, folder)
    name = f"{overrides.network_name(experiment)} (epoch {best_epoch})"

    test = forecaster.forecast(job, state, windows.test)
    # The errors of the validation part set the width of the intervals.
    valid = forecaster.forecast(job, state, windows.valid)
    calibrated = evaluate.calibrate(job.material, valid, experiment.intervals)
    with counter(console, "exponential smoothing, theta") as progress:
        judgement = evaluate.judge(
            name,
            job.material,
            Entry(test, calibrated),
            seed=experiment.seed,
            loss=judged_loss(experiment),
            progress=progress if classical else None,
        )

    files.write_json(folder / run_seal.INTERVALS, calibrated.intervals._asdict())
    # Exact, since a study pools its runs from these files.
    csv_tables.write(folder / run_seal.PREDICTIONS, judgement.predictions, digits=None)
    csv_tables.write(folder / run_seal.SCORES, judgement.scores)
    return JudgedEpoch(best_epoch, name, judgement)


def _draw(job: ForecastJob, judged: JudgedEpoch, folder: Path) -> None:
    """Draw the learning curve, the forecasts of the test part, and their errors."""
    best_epoch, name, judgement = judged
    data = job.experiment.data
    windows = job.material.windows
    metric = f"valid_{job.setup.objective.select}"
    # The last value has no likelihood to compare with that of a distribution.
    naive = None
    if metric in ("valid_mse", "valid_mae"):
        loss = judged_loss(job.experiment)
        naive = evaluate.naive_loss(windows.valid, job.material.scaling, job.experiment.steps_out, loss)
    metrics = run_folder.read_metrics(folder)
    curve = loss_figure(metrics, metric, best_epoch, naive=naive, title=f"{data.name}: {name}")
    figures.save(curve, folder / run_seal.LOSS_PLOT)

    title = f"{data.name}, test part: {len(windows.test.inputs)} forecasts by {name}"
    for file, figure in judgement_figures(judgement, windows, shown_scores(judgement), data.unit, title):
        figures.save(figure, folder / file)


def print_judgement(
    job: ForecastJob, judgement: Judgement, folder: Path, console: Console, written: Sequence[str]
) -> None:
    """Print the table, the verdict, and the names of the files that were written."""
    data = job.experiment.data
    comparison = judgement.comparison
    title = f"{data.name}, test part; reference: {verdict.phrase(comparison.reference.name)}"
    if data.unit and not comparison.scaled:
        title = f"{title}; errors in {data.unit}"
    columns = verdict.headings("", comparison.scaled, comparison.loss)
    console.print(verdict.score_table(verdict.shown(comparison).rows, columns, title))
    for text in _omission_words(comparison):
        console.print(text, highlight=False, markup=False)
    console.print(judgement.verdict, style="bold", highlight=False, markup=False)
    for text in (*judgement.remarks, *_coverage_words(judgement), *judgement.notes):
        console.print(text, highlight=False, markup=False)

    console.print(f"{folder}: {', '.join(written)}", highlight=False)


def judged_loss(experiment: ForecastExperiment) -> Loss:
    """Return the loss of the verdict: that of the training where it aims at the median, else the squared error."""
    return "absolute" if experiment.loss == "mae" else "squared"


def shown_scores(judgement: Judgement) -> pd.DataFrame:
    """Return the scores of the forecasts that tables and figures show."""
    names = [row.name for row in verdict.shown(judgement.comparison).rows]
    return judgement.scores[judgement.scores["forecast"].isin(names)]


def _omission_words(comparison: verdict.Comparison) -> list[str]:
    """Return a line on the baselines that tables do not show; no line if they show all."""
    words = verdict.omission_sentence(comparison, run_seal.SCORES)
    if words is None:
        return []
    return [words]


def _coverage_words(judgement: Judgement) -> list[str]:
    """Return the measured coverage of the intervals as a line; no line if there are no intervals."""
    words = coverage.sentence(judgement.coverage, judgement.spread)
    if not words:
        return []
    return [words]


def report(
    job: ForecastJob,
    judgement: Judgement,
    best_epoch: int,
    metrics: list[run_folder.Row],
) -> str:
    """Write the run's report in Markdown."""
    chosen = f"epoch {best_epoch} of {len(metrics)}\nand the intervals were chosen"
    return report_of(job, judgement, chosen, f"\n![Loss by epoch]({run_seal.LOSS_PLOT})\n")


def report_of(job: ForecastJob, judgement: Judgement, chosen: str, picture: str = "") -> str:
    """Write a report in Markdown; `chosen` says what the validation part chose, and `picture` follows the others."""
    experiment = job.experiment
    data = experiment.data
    rows = {
        "train": feed.feed_of(job.batches.train).rows,
        "valid": len(job.batches.valid.y),
        "test": len(job.batches.test.y),
    }
    parts = ", ".join(f"{count} {name}" for name, count in rows.items())
    times = job.material.windows.test.times
    first = _time_words(times.min())
    last = _time_words(times.max())
    comparison = judgement.comparison
    columns = verdict.headings(data.unit, comparison.scaled, comparison.loss)
    measure = verdict.mean_loss(comparison.scaled, comparison.loss)
    omission = "".join(f"\n{text}.\n" for text in _omission_words(comparison))
    remark_lines = "\n".join(f"{text}.\n" for text in judgement.remarks)
    notes = (*_coverage_words(judgement), *judgement.notes, *job.notes)
    note_lines = "\n".join(f"{text}.\n" for text in notes)
    interval_tables = [
        coverage.markdown(judgement.coverage, judgement.spread, data.unit),
        distributions.markdown(shown_scores(judgement), data.unit, comparison.scaled),
    ]
    interval_section = ""
    if any(interval_tables):
        interval_section = "\n\n".join(["## Intervals", *filter(None, interval_tables), ""])
    return f"""# {experiment.name}: {data.name}, {overrides.network_words(experiment)}, {experiment.task}

{judgement.verdict}.

{remark_lines}
## Errors on the test part

{verdict.markdown(verdict.shown(comparison).rows, columns)}
{omission}
{interval_section}
## How it was judged

{note_lines}
Test part: {len(times)} forecasts, {first} to {last}. Skill is 1 - {measure} / {measure} of the reference, the baseline
that did best on the validation part. Its 95 % interval resamples blocks of time (and series, from {MIN_SERIES} on); with
fewer than {MIN_BLOCKS} blocks it compares their means by Student's t, and with a single block those of the series. p is
that of the Diebold-Mariano test against the reference; those of the baselines are adjusted for their number (Holm).
{_scaled_words(judgement)}The baselines and the scaling saw the training part alone; {chosen} on the validation part; \
the test part was used once, for these tables. The intervals of a
baseline are of the model's kind, fitted to its own errors; scores are those of the quantiles that the intervals stand
for. Every step of the horizon by itself: `{run_seal.SCORES}`.

## Pictures

![Forecast, test part]({run_seal.FORECAST_PLOT})

![Errors and intervals, test part]({run_seal.ERRORS_PLOT})
{picture}

## Recipe

Windows: {parts}, of {data.window} values each, horizon {experiment.horizon}. The experiment is in `{run_seal.CONFIG}`,
the versions are in `{run_seal.ENVIRONMENT}`. See the weights with `python -m jaxseq.checkpoint show RUN`.
"""


def page(
    job: ForecastJob,
    judgement: Judgement,
    text: str,
    folder: Path,
    pictures: Mapping[str, bytes] = html_page.NO_FILES,
) -> str:
    """Return the report as one HTML file with its pictures, and a chart of any series and window.

    pictures  content of those that are not in the folder yet, by name
    """
    reference = verdict.phrase(judgement.comparison.reference.name)
    windows = job.material.windows.test
    interactive = chart.section(judgement.predictions, windows, reference, job.experiment.data.unit)
    return html_page.html(text, folder, after_lead=interactive, files=pictures)


def _time_words(time: np.datetime64 | np.number) -> str:
    """Return a day, or the number of a time step if the series has no dates."""
    if isinstance(time, np.datetime64):
        return np.datetime_as_string(time, "D")
    return f"{time}"


def _scaled_words(judgement: Judgement) -> str:
    """Say how the errors of a panel are scaled; nothing for those of a single series."""
    if not judgement.comparison.scaled:
        return ""
    return "Errors are scaled by each series' own seasonal change in training. "


def check(experiment: ForecastExperiment) -> None:
    """Raise `UsageError` for series that cannot be used."""
    experiment.load()


def row(experiment: ForecastExperiment, folder: Path) -> RunRow:
    """Return a run's errors on its test block, relative to the last value, and its validation."""
    scores = csv_tables.read(folder / run_seal.SCORES)
    over_all_steps = scores[scores["step"] == "all"]
    # The last value stands first in the table, the model last.
    naive = over_all_steps.iloc[0]
    model = over_all_steps.iloc[-1]
    metrics = run_folder.read_metrics(folder)
    best = run_folder.best_row(metrics, f"valid_{experiment.objective().select}")
    return {
        "epoch": best["epoch"],
        "epochs": len(metrics),
        "valid_mse": best["valid_mse"],
        "valid_mse_last_epoch": metrics[-1]["valid_mse"],
        "mse": model["mse"],
        "rmse": model["rmse"],
        "mae": model["mae"],
        "relative_mse": model["mse"] / naive["mse"],
        "seconds": sum(metric["seconds"] for metric in metrics),
    }


def summary(experiment: ForecastExperiment, runs: Sequence[Member], table: pd.DataFrame) -> str:
    """Summarise a study: the model's mean over the seeds on all folds together against the references, its spread."""
    name = f"{overrides.network_name(experiment)}, mean over {counted(table['seed'].nunique(), 'seed')}"
    pooled = _pooled(experiment, runs)
    forecasts = {
        pooled.reference_name: pooled.reference,
        baselines.NAIVE: pooled.naive,
        name: pooled.actual - pooled.rms_error,
    }
    comparison = verdict.compare(
        pooled.actual,
        forecasts,
        pooled.reference_name,
        rows=pooled.rows,
        loss=judged_loss(experiment),
        seed=experiment.seed,
    )
    last_value = verdict.compare(
        pooled.actual,
        {baselines.NAIVE: pooled.naive, name: forecasts[name]},
        baselines.NAIVE,
        rows=pooled.rows,
        loss=comparison.loss,
        seed=experiment.seed,
    )
    deciding = verdict.deciding_comparison(comparison, last_value)
    columns = verdict.headings(experiment.data.unit, pooled.rows.scales is not None, comparison.loss)

    by_seed = _relative_mse_by_seed(runs)
    # A single seed has no standard deviation.
    spread = ""
    if len(by_seed) > 1:
        spread = f" ± {by_seed.std(ddof=1):.4f} (standard deviation over seeds)"
    valid = table.groupby("seed")[["valid_mse", "valid_mse_last_epoch"]].mean()
    best_epoch = _mean_and_spread(valid["valid_mse"])
    last_epoch = _mean_and_spread(valid["valid_mse_last_epoch"])
    return f"""# {experiment.name}: {experiment.data.name}, {overrides.network_name(experiment)}, {len(runs)} runs

{verdict.sentence(deciding.model, deciding.reference.name)}.

{verdict.markdown(comparison.rows, columns)}

MSE relative to the last value over all folds, by seed: mean {by_seed.mean():.4f}{spread}; {by_seed.min():.4f} to
{by_seed.max():.4f}. In the model's row each error is the root mean square over the seeds: it is a single run's, not that of
their mean forecast. Validation MSE in the model's own scale: best epoch {best_epoch}; last epoch {last_epoch}.

Folds: {table["fold"].nunique()}, each with a model that was trained, chosen and calibrated on what comes before it, and
with the reference that did best on its own validation part. One row a run: `study.csv`.
"""


def _mean_and_spread(values: pd.Series) -> str:
    if len(values) == 1:
        return f"{values.mean():.5f}"
    return f"{values.mean():.5f} ± {values.std(ddof=1):.5f}"


class _Pooled(NamedTuple):
    """Forecasts of all folds together, in the series' units.

    reference       forecast by the reference of each fold
    reference_name  that of the baseline, if it is the same in all folds
    rms_error       root mean square over the seeds of the model's error
    rows            times and series of a panel, and the scales of its losses
    """

    actual: Float[np.ndarray, "n k"]
    naive: Float[np.ndarray, "n k"]
    reference: Float[np.ndarray, "n k"]
    reference_name: str
    rms_error: Float[np.ndarray, "n k"]
    rows: Rows


def _pooled(experiment: ForecastExperiment, runs: Sequence[Member]) -> _Pooled:
    """Read the predictions of all runs of a study."""
    first_of_fold = {}
    rms_error = []
    for fold in sorted({member.fold for member in runs}):
        members = [member for member in runs if member.fold == fold]
        frames = [_predictions(member) for member in members]
        truth = _by_step(frames[0], "actual")
        squared_errors = [(truth - _by_step(frame, "forecast")) ** 2 for frame in frames]
        rms_error.append(np.sqrt(np.mean(squared_errors, axis=0)))

        # The seeds of a fold forecast the same rows, so one of them gives the truth and the simple forecasts.
        first_of_fold[members[0].folder] = frames[0]

    names = {_reference_name(folder) for folder in first_of_fold}
    reference_name = names.pop() if len(names) == 1 else BEST_OF_FOLDS
    frames = list(first_of_fold.values())
    actual, naive, reference = (
        np.concatenate([_by_step(frame, column) for frame in frames]) for column in ("actual", "naive", "reference")
    )
    return _Pooled(
        actual=actual,
        naive=naive,
        reference=reference,
        reference_name=reference_name,
        rms_error=np.concatenate(rms_error),
        rows=_places(experiment, frames),
    )


def _places(experiment: ForecastExperiment, frames: Sequence[pd.DataFrame]) -> Rows:
    """Return the times, series and scales of the rows of a panel; a single series needs none, if each window is judged."""
    time_column = str(frames[0].columns[0])
    times = np.concatenate([_by_step(frame, time_column) for frame in frames])
    if "series" not in frames[0]:
        return IN_ORDER._replace(overlap=evaluate.overlapping_windows(times, experiment.test_stride))
    background = experiment.load().background
    names = np.concatenate([_by_step(frame, "series")[:, 0] for frame in frames])
    number = {name: place for place, name in enumerate(background.names)}
    series = np.array([number[str(name)] for name in names])
    scales, _ = evaluate.series_scales(background)
    return evaluate.locate_rows(times, series, background=background, scales=scales)


def _reference_name(folder: Path) -> str:
    scores = csv_tables.read(folder / run_seal.SCORES)
    return str(scores.loc[scores["role"] == "reference", "forecast"].iloc[0])


def _relative_mse_by_seed(runs: Sequence[Member]) -> Float[np.ndarray, "s"]:
    """Return the MSE relative to that of the last value, all folds together, for each seed."""
    ratios = []
    for seed in sorted({member.seed for member in runs}):
        frame = pd.concat([_predictions(member) for member in runs if member.seed == seed])
        model_error = frame["actual"] - frame["forecast"]
        naive_error = frame["actual"] - frame["naive"]
        # A ratio of means, not a mean of ratios, in which a quiet fold would count as much as a volatile one.
        ratios.append((model_error**2).mean() / (naive_error**2).mean())
    return np.array(ratios)


def _predictions(member: Member) -> pd.DataFrame:
    # A series may be named 01 or NA; only actual values may be missing.
    path = member.folder / run_seal.PREDICTIONS
    return csv_tables.read(path, dtype={"series": str}, keep_default_na=False, na_values={"actual": [""]})


def _by_step(frame: pd.DataFrame, column: str) -> np.ndarray:
    """Return a column of predictions as "n k", a row for each window."""
    # A horizon of a single step has no column for it.
    steps = 1
    if "step" in frame:
        steps = int(frame["step"].max())

    values = frame[column].to_numpy()
    return values.reshape(-1, steps)
