"""Forecasts of series, judged against naive forecasts on the test part."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple, get_args

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float
from rich.console import Console

from jaxseq.checkpoint import run_seal
from jaxseq.common import csv_tables, figures, files
from jaxseq.common.arrays import Batch, Variables
from jaxseq.common.console import counter
from jaxseq.common.errors import UsageError
from jaxseq.data.buckets import Buckets
from jaxseq.data.dataset import Dataset
from jaxseq.data.gathered import Gathered, RowsOfModel, can_gather, first_row, gathered, pieces
from jaxseq.data.laid_out import batch
from jaxseq.data.transforms import TRANSFORMS
from jaxseq.data.uncut import UncutWindows
from jaxseq.data.windows import check_memory
from jaxseq.forecasting import beside_classical, classical, evaluate, predictions, quantities, ridge
from jaxseq.forecasting.beside_classical import Beside
from jaxseq.forecasting.evaluate import Entry, Judgement
from jaxseq.forecasting.ridge import Ridge
from jaxseq.nn import heads
from jaxseq.train import auto_record, explain, forecaster, overrides, processes, run_folder, stateful, trained_series
from jaxseq.train.domains.base import NO_EXTRAS, Extras, RunRow
from jaxseq.train.domains.forecast_report import (
    ForecastJob,
    judged_loss,
    page,
    print_beside,
    print_judgement,
    report,
    shown_scores,
)
from jaxseq.train.domains.forecast_study import summary
from jaxseq.train.epoch import TrainState
from jaxseq.train.experiments.base import Experiment
from jaxseq.train.experiments.config import RIDGE
from jaxseq.train.experiments.forecasts import ForecastExperiment
from jaxseq.train.explain import Explanation
from jaxseq.train.feed import Course, RowSplits, Segments
from jaxseq.train.forecaster import Trained, restore
from jaxseq.train.job import Start, build_job, restore_best
from jaxseq.train.plots import judgement_figures, loss_figure

NUMBERS_AT_ONCE = 2**22
"""Numbers of the inputs that are laid out while targets are read."""

__all__ = ["Trained", "check", "judge", "prepare", "report", "restore", "summary"]


def prepare(experiment: ForecastExperiment) -> ForecastJob:
    """Load the series and lay their windows out as rows. Raises `UsageError` where data and experiment do not fit."""
    dataset = experiment.load()
    covariates = dataset.windows.test.take(slice(1)).covariates.shape[2]
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
    return _starting_from(_without_test_inputs(job), linear)


def _without_test_inputs(job: ForecastJob) -> ForecastJob:
    """Return a job without the inputs of its test rows, unless a state is carried through them.

    Forecasts are made from the windows; the rows have their part in the fingerprint alone.
    """
    test = job.batches.test
    if not isinstance(test, Batch):
        return job
    batches = job.batches._replace(test=test._replace(x=test.x[:0]))
    on_devices = job.data.test
    assert isinstance(on_devices, Batch), "it has the form of the part in host memory"
    data = job.data._replace(test=Batch(on_devices.x[:0], on_devices.y))
    return dataclasses.replace(job, batches=batches, data=data)


def _ridge(experiment: ForecastExperiment, dataset: Dataset, batches: RowSplits) -> Ridge | None:
    """Fit the ridge regression that the network begins as; None where its weights are drawn."""
    # A class from outside the package may build a network without a linear map.
    if not experiment.starts_from_ridge or "build" in overrides.of(experiment):
        return None
    train = batches.train
    valid = batches.valid
    assert not isinstance(train, Segments | Buckets), "a carried state forecasts at every step"
    assert not isinstance(valid, Course | Buckets), "a carried state forecasts at every step"
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
    panel = panel.select(numbers).encoded(dataset.scaling.categories)
    windows = panel.all_windows(experiment.data.window, experiment.horizon)
    whole = dataset._replace(windows=dataset.windows._replace(train=windows))
    fitted = {**job.fitted, **facts}
    batches = _independent_rows(experiment, whole)
    again = build_job(experiment, batches, whole, job.notes, fitted, judged_by=("mse",))
    chosen = job.fitted.get(RIDGE)
    if not isinstance(chosen, Mapping):
        return again
    assert not isinstance(batches.train, Segments | Buckets), "the rows are independent, and of one length"
    return _starting_from(again, ridge.fit_to(batches.train, **chosen))


def _independent_rows(experiment: ForecastExperiment, dataset: Dataset) -> RowSplits:
    """Lay the windows of each part out as rows in any order."""
    every_step = experiment.predicts_every_step
    batches = []
    for name, part in dataset.windows._asdict().items():
        known = part.known_until(experiment.steps_out)
        if isinstance(known, UncutWindows) and can_gather(dataset.scaling):
            rows = gathered(known, dataset.scaling, every_step, experiment.steps_out)
        else:
            if isinstance(known, UncutWindows):
                # Other targets are laid out, however many there are.
                columns = 1 + known.rows.covariates.shape[1]
                steps = known.steps + known.horizon
                check_memory(len(known.origins), steps, columns=columns, where="--data.window")
            rows = batch(known, dataset.scaling, every_step, experiment.steps_out)
        if experiment.data.masks_targets:
            rows = _with_known_targets(rows, name)
        batches.append(rows)
    return RowSplits(*batches)


def _check_support(experiment: ForecastExperiment, target: str) -> None:
    """Raise `UsageError` for a head that is made for other targets than the data have."""
    support = TRANSFORMS[target].support
    if experiment.head.support == support:
        _check_quantity(experiment, target)
        return
    heads_that_fit = [name for name in get_args(heads.HeadName) if heads.named(name).support == support]
    targets_that_fit = [name for name, other in TRANSFORMS.items() if other.support == experiment.head.support]
    raise UsageError(
        f"--model.head {experiment.head.name} forecasts other values",
        where="--data.target",
        got=target,
        needed=f"{' or '.join(targets_that_fit)} (or --model.head {' or '.join(heads_that_fit)})",
    )


def _check_quantity(experiment: ForecastExperiment, target: str) -> None:
    """Raise `UsageError` for a target that does not tell what the head forecasts."""
    quantity = quantities.of(experiment.head)
    # A change from the value one season before, say, tells nothing of a rise over the last one.
    if quantity.needs(TRANSFORMS[target]):
        return
    targets_that_fit = [name for name, other in TRANSFORMS.items() if quantity.needs(other)]
    raise UsageError(
        f"--model.head {experiment.head.name} needs changes from the last known value",
        where="--data.target",
        got=target,
        needed=" or ".join(targets_that_fit),
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


def _with_known_targets(rows: RowsOfModel, part: str) -> RowsOfModel:
    """Return the rows with at least one known target; a batch of rows without one would have no mean loss.

    Raises `UsageError`, which names the part, if none is left.
    """
    # The inputs of a piece are laid out as well.
    size = max(1, NUMBERS_AT_ONCE // math.prod(first_row(rows).x.shape))
    has_target = np.concatenate([_has_target(np.asarray(piece.y)) for piece in pieces(rows, size)])
    if not np.any(has_target):
        raise UsageError(f"all targets of the {part} part are missing")
    if np.all(has_target):
        return rows
    if isinstance(rows, Gathered):
        return rows.choose(np.flatnonzero(has_target))
    return Batch(rows.x[has_target], rows.y[has_target])


def _has_target(y: Float[np.ndarray, "n *k"]) -> Bool[np.ndarray, " n"]:
    return np.any(np.isfinite(y).reshape(len(y), -1), axis=1)


def judge(job: ForecastJob, folder: Path, console: Console, extras: Extras = NO_EXTRAS) -> RunRow:
    """Judge the best epoch on the test part: table and verdict on the console, report, figures and predictions.

    With `extras.classical`, classical forecasts are fitted to a sample of windows, and the one that does best on validation
    may be the reference. What a run was judged with before, it has again without being asked for: an explanation, and
    classical forecasts, whose verdict is the run's.
    """
    extras = extras._replace(
        classical=extras.classical or run_folder.judged_with(folder, (run_seal.CLASSICAL,)),
        explain=extras.explain or run_folder.judged_with(folder, run_seal.EXPLANATION),
    )
    check_extras(job.experiment, extras)
    judged = judge_quietly(job, folder, console, extras)
    _draw(job, judged, folder)
    sections = []
    if judged.beside is not None:
        sections.append(beside_classical.markdown(judged.beside, job.experiment.data.unit))
    explanation = None
    if extras.explain:
        explanation = _explain(job, judged, folder, console)
        sections.append(explain.markdown(explanation, job.experiment.data.unit))
    metrics = run_folder.read_metrics(folder)
    record = auto_record.read(folder)
    if record is not None and auto_record.is_of(record, job.experiment):
        job = dataclasses.replace(job, notes=(*job.notes, auto_record.sentence(record)))
    text = report(job, judged.judgement, judged.epoch, metrics, "\n".join(sections))
    files.write_text(folder / run_seal.REPORT, text)
    files.write_text(folder / run_seal.PAGE, page(job, judged.judgement, text, folder))

    if judged.beside is not None:
        print_beside(judged.beside, console)
    print_judgement(job, judged.judgement, folder, console, _written(judged, explanation))
    return row(job.experiment, folder)


def check_extras(experiment: Experiment, extras: Extras) -> None:
    """Raise `UsageError` for parts of a judgement that an experiment cannot have, or that need another package."""
    if extras.classical:
        if isinstance(experiment, ForecastExperiment):
            quantities.check_values(experiment.head, "--classical")
        classical.check()
    if extras.explain:
        explain.check(experiment)


class JudgedEpoch(NamedTuple):
    """The best epoch of a run with its judgement.

    name    of the model with its epoch
    beside  comparison with classical forecasts; None where it was not asked for
    """

    epoch: int
    name: str
    judgement: Judgement
    state: TrainState
    beside: Beside | None = None


def judge_quietly(job: ForecastJob, folder: Path, console: Console, extras: Extras = NO_EXTRAS) -> JudgedEpoch:
    """Judge the best epoch on the test part; write its intervals, predictions and scores, without report or pictures."""
    experiment = job.experiment
    windows = job.material.windows
    best_epoch, state = restore_best(job, folder)
    name = f"{overrides.network_name(experiment)} (epoch {best_epoch})"

    test = forecaster.forecast(job, state, windows.test)
    # The errors of the validation part set the width of the intervals.
    valid = forecaster.forecast(job, state, windows.valid)
    quantity = quantities.of(experiment.head)
    calibrated = quantity.calibrate(job.material, valid, experiment.intervals)
    loss = judged_loss(experiment)
    entry = Entry(test, calibrated)
    judgement = quantity.judge(name, job.material, entry, members=evaluate.NO_MEMBERS, seed=experiment.seed, loss=loss)
    beside = None
    if extras.classical:
        with counter(console, "classical forecasts") as progress:
            beside = beside_classical.judge(
                name, job.material, test, seed=experiment.seed, loss=loss, progress=progress
            )
        judgement = _decided(judgement, beside)

    files.write_json(folder / run_seal.INTERVALS, calibrated.intervals._asdict())
    # Exact, since a study pools its runs from these files.
    predictions.write(folder / run_seal.PREDICTIONS, judgement.predictions)
    csv_tables.write(folder / run_seal.SCORES, judgement.scores)
    # One of an earlier judgement would be of other numbers.
    files.remove(folder / run_seal.CLASSICAL)
    if beside is not None:
        csv_tables.write(folder / run_seal.CLASSICAL, beside.scores)
    return JudgedEpoch(best_epoch, name, judgement, state, beside)


def _decided(judgement: Judgement, beside: Beside) -> Judgement:
    """Return a judgement whose verdict is that beside the classical forecasts, where one of them is the reference."""
    notes = (*judgement.notes, *beside.notes)
    if not beside.decides:
        return judgement._replace(notes=notes)
    remarks = (judgement.verdict, *judgement.remarks)
    return judgement._replace(answer=beside.answer, verdict=beside.verdict, remarks=remarks, notes=notes)


def _explain(job: ForecastJob, judged: JudgedEpoch, folder: Path, console: Console) -> Explanation:
    """Explain the epoch that was judged, and write the tables and pictures."""
    explanation = explain.explain(job, judged.state, judged.name, judged.judgement, console)
    explain.write(explanation, folder)
    return explanation


def _written(judged: JudgedEpoch, explanation: Explanation | None) -> tuple[str, ...]:
    """Return the names of the files that the console lists."""
    pictures = (run_seal.LOSS_PLOT, run_seal.FORECAST_PLOT, run_seal.ERRORS_PLOT)
    scores = [run_seal.SCORES]
    if judged.beside is not None:
        scores.append(run_seal.CLASSICAL)
    explained: tuple[str, ...] = ()
    if explanation is not None:
        explained = run_seal.EXPLANATION
    return (run_seal.PAGE, run_seal.REPORT, *scores, *pictures, *explained, run_seal.CHECKPOINTS)


def _draw(job: ForecastJob, judged: JudgedEpoch, folder: Path) -> None:
    """Draw the learning curve, the forecasts of the test part, and their errors."""
    best_epoch, name, judgement, *_ = judged
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

    title = f"{data.name}, test part: {len(windows.test.origins)} forecasts by {name}"
    quantity = quantities.of(job.experiment.head)
    drawn = quantity.figures(judgement, windows, shown_scores(judgement), data.unit, title)
    for file, figure in judgement_figures(drawn):
        figures.save(figure, folder / file)


def check(experiment: ForecastExperiment) -> None:
    """Raise `UsageError` for series that cannot be used."""
    experiment.load()


def row(experiment: ForecastExperiment, folder: Path) -> RunRow:
    """Return a run's errors on its test block, relative to the simplest forecast, and its validation."""
    scores = csv_tables.read(folder / run_seal.SCORES)
    over_all_steps = scores[scores["step"] == "all"]
    # The simplest forecast stands first in the table, the model last.
    naive = over_all_steps.iloc[0]
    model = over_all_steps.iloc[-1]
    metrics = run_folder.read_metrics(folder)
    best = run_folder.best_row(metrics, f"valid_{experiment.objective().select}")
    return {
        "epoch": best["epoch"],
        "epochs": len(metrics),
        "valid_mse": best["valid_mse"],
        "valid_mse_last_epoch": metrics[-1]["valid_mse"],
        **quantities.of(experiment.head).run_numbers(model, naive),
        "seconds": sum(metric["seconds"] for metric in metrics),
    }
