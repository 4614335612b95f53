"""The runs of a study as one forecaster: the mean or the median of their forecasts, with intervals of its own.

The ensemble is judged as a run is, its members beside it, into the folder of the study. What it forecasts with is the epoch
of each member that was judged, or the refits of all. Runs of chorales are judged as one, too, by the mean of their
probabilities.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, get_args

from rich.console import Console

from jaxseq.checkpoint import ensemble_seal, run_seal
from jaxseq.checkpoint.ensemble_seal import Record
from jaxseq.common import csv_tables, figures, files, lock, written
from jaxseq.common.checks import one_of
from jaxseq.common.console import terminal
from jaxseq.common.errors import EXIT_INTERRUPTED, Interrupted, Stopped, UsageError
from jaxseq.common.sealed import DamagedError
from jaxseq.forecasting import predictions, quantities, saved_intervals
from jaxseq.forecasting.evaluate import Entry, Judgement
from jaxseq.forecasting.intervals import Forecast
from jaxseq.forecasting.mixture import Combination
from jaxseq.train import forecaster, overrides, refit, run_folder
from jaxseq.train import saved_experiment as saved_experiments
from jaxseq.train.domains import forecast_report, forecasts
from jaxseq.train.domains.forecast_report import ForecastJob, judged_loss
from jaxseq.train.experiments.base import Experiment
from jaxseq.train.experiments.chorales import ChoraleExperiment
from jaxseq.train.experiments.config import ROWS
from jaxseq.train.experiments.forecasts import ForecastExperiment
from jaxseq.train.forecaster import Trained
from jaxseq.train.job import restore_best
from jaxseq.train.options import ENSEMBLE
from jaxseq.train.plots import judgement_figures


def check(experiment: Experiment, seeds: int, folds: int) -> None:
    """Raise `UsageError` for runs that are not combined: of one seed, of several folds, or of another domain."""
    if not isinstance(experiment, ForecastExperiment | ChoraleExperiment):
        raise UsageError(
            "combines forecasts and models of chorales",
            where=ENSEMBLE,
            got=experiment.name,
            needed="an experiment that forecasts, or one of chorales",
        )
    if seeds < 2:
        raise UsageError("combines several seeds", where=ENSEMBLE, got=f"--seeds {seeds}", needed="--seeds 2 or more")
    # Chorales have a fixed split.
    has_folds = isinstance(experiment, ForecastExperiment) and experiment.data.folds > 1
    if folds > 1 or has_folds:
        raise UsageError("combines the runs of one split", where=ENSEMBLE, got="several folds", needed="no --backtest")


# To make one -----------------------------------------------------------------------------------------------------------


def combine(
    folder: str | Path,
    combination: Combination = "mean",
    *,
    with_refit: bool = False,
    console: Console | None = None,
) -> Path:
    """Judge the runs of a finished study as one forecaster, and return the study's folder.

    With `with_refit` each member is then trained again on all rows, as `refit.refit` does. An ensemble that is there as it
    was judged is kept. Raises `UsageError` for runs that cannot be combined, and that are not finished or damaged, and
    `Stopped` on Ctrl-C: the same call goes on.
    """
    folder = files.user_path(folder)
    one_of(get_args(Combination), ensemble=combination)
    if console is None:
        console = terminal()
    again = f"the same command with --out {folder}"
    try:
        with lock.hold(folder):
            runs = _member_folders(folder)
            if not _is_sound(folder, combination, runs):
                _judge(folder, combination, runs, console)
        if with_refit:
            for run in runs:
                refit.refit(run, console)
    except KeyboardInterrupt:
        raise Stopped(EXIT_INTERRUPTED, again) from None
    except Interrupted as stop:
        raise Stopped(stop.status, again) from None
    return folder


def _member_folders(folder: Path) -> list[Path]:
    """Return the runs of a study, in the order of their seeds. Raises `UsageError` for a folder that is none."""
    runs = [path.parent for path in folder.glob(f"*/{run_seal.CONFIG}")]
    if len(runs) < 2:
        raise UsageError("no study of several seeds", where=folder, got=f"{len(runs)} runs", needed="at least 2")
    return sorted(runs, key=lambda run: saved_experiments.saved_experiment(run).seed)


def _experiment_of(run: Path) -> ForecastExperiment:
    return saved_experiments.saved_experiment_of(run, ForecastExperiment, "which forecasts nothing")


def _chorales_of(run: Path) -> ChoraleExperiment:
    return saved_experiments.saved_experiment_of(run, ChoraleExperiment, "which knows no chorales")


def _is_sound(folder: Path, combination: str, runs: Sequence[Path]) -> bool:
    """Return whether an ensemble of these runs is there as it was judged."""
    if not ensemble_seal.is_ensemble(folder) or ensemble_seal.damage(folder):
        return False
    record = ensemble_seal.read(folder)
    return record.combination == combination and [member.name for member in record.members] == [
        run.name for run in runs
    ]


class _Combined(NamedTuple):
    """The ensemble's own entry to its judgement, and those of its members by their names."""

    ensemble: Entry
    members: dict[str, Entry]


def _judge(folder: Path, combination: Combination, runs: Sequence[Path], console: Console) -> None:
    """Judge the ensemble and write its files, the record last."""
    members = [ensemble_seal.member_of(run) for run in runs]
    first = saved_experiments.saved_experiment(runs[0])
    check(first, len(runs), 1)
    epochs = [member.epoch for member in members]
    if isinstance(first, ChoraleExperiment):
        judgement = _of_chorales(combination, runs, console)
    else:
        judgement = _of_forecasts(combination, runs, epochs)

    # Until all of its files are written again, there is no ensemble.
    ensemble_seal.remove(folder)
    report = partial(console.print, highlight=False, markup=False, soft_wrap=True)
    outputs = written.Outputs(folder, report)
    for file, content in judgement.contents.items():
        outputs.write(file, content)
    ensemble_seal.write(folder, combination, members, judgement.contents)
    judgement.show(folder, console)


class _Judged(NamedTuple):
    """Files of a judgement by their name, and what shows it on the console."""

    contents: dict[str, bytes]
    show: Callable[[Path, Console], None]


def _of_chorales(combination: Combination, runs: Sequence[Path], console: Console) -> _Judged:
    """Judge runs of chorales as one."""
    # Imported here, so that forecasts do not wait for the networks of music.
    from jaxseq.train.domains import chorale_ensemble

    experiments = [_chorales_of(run) for run in runs]
    _check_alike(runs, experiments)
    contents = chorale_ensemble.judged(runs, experiments, combination, console)

    def show(folder: Path, console: Console) -> None:
        console.print(f"{folder}: {', '.join(contents)}", highlight=False)

    return _Judged(contents, show)


def _of_forecasts(combination: Combination, runs: Sequence[Path], epochs: Sequence[int]) -> _Judged:
    """Judge forecasters as one."""
    experiments = [_experiment_of(run) for run in runs]
    _check_alike(runs, experiments)
    job = forecasts.prepare(experiments[0])
    entries = _entries(job, combination, runs, experiments)
    network = overrides.network_name(experiments[0])
    name = f"{network} ({combination} of {len(runs)} seeds)"
    judgement = quantities.of(experiments[0].head).judge(
        name,
        job.material,
        entries.ensemble,
        members=entries.members,
        seed=experiments[0].seed,
        loss=judged_loss(experiments[0]),
    )
    contents = _contents(job, judgement, entries, name, epochs)

    def show(folder: Path, console: Console) -> None:
        forecast_report.print_judgement(job, judgement, folder, console, list(contents))

    return _Judged(contents, show)


def _check_alike(runs: Sequence[Path], experiments: Sequence[Experiment]) -> None:
    """Raise `UsageError`, which names the run, for recipes that differ in more than their seed, and for other rows."""
    first_rows = run_folder.read_config(runs[0]).get(ROWS)
    for run, experiment in zip(runs[1:], experiments[1:], strict=True):
        first = dataclasses.replace(experiments[0], seed=experiment.seed)
        if experiment != first:
            fields = [
                field.name
                for field in dataclasses.fields(experiment)
                if getattr(experiment, field.name) != getattr(first, field.name)
            ]
            raise UsageError(f"is of another config than {runs[0].name}: {', '.join(fields)} differ", where=run)
        if run_folder.read_config(run).get(ROWS) != first_rows:
            raise UsageError(f"was trained on other rows than {runs[0].name}", where=run)


def _entries(
    job: ForecastJob,
    combination: Combination,
    runs: Sequence[Path],
    experiments: Sequence[ForecastExperiment],
) -> _Combined:
    """Forecast the validation and the test part by each member, and by all of them."""
    windows = job.material.windows
    scaling = job.material.scaling
    floor = job.material.background.floor
    quantity = quantities.of(job.experiment.head)
    valid: list[Forecast] = []
    test: list[Forecast] = []
    members = {}
    for run, experiment in zip(runs, experiments, strict=True):
        # The rows are those of all members; the seed draws the paths of an iterated distribution.
        member_job = dataclasses.replace(job, experiment=experiment)
        epoch, state = restore_best(member_job, run)
        valid.append(forecaster.forecast(member_job, state, windows.valid))
        test.append(forecaster.forecast(member_job, state, windows.test))
        calibrated = quantity.calibrate(job.material, valid[-1], experiment.intervals)
        name = f"{overrides.network_name(experiment)}, seed {experiment.seed} (epoch {epoch})"
        members[name] = Entry(test[-1], calibrated)

    # Values are averaged in the series' units, probabilities as they are.
    combined = partial(forecaster.combined, how=combination, scaling=scaling, floor=floor, quantity=quantity)
    all_valid = combined(valid, part=windows.valid)
    all_test = combined(test, part=windows.test)
    # The margins are those of the ensemble's own errors: they are smaller than a member's.
    calibrated = quantity.calibrate(job.material, all_valid, experiments[0].intervals)
    return _Combined(Entry(all_test, calibrated), members)


def _contents(
    job: ForecastJob, judgement: Judgement, entries: _Combined, name: str, epochs: Sequence[int]
) -> dict[str, bytes]:
    """Return the files of the ensemble's judgement by their name, as those of a run."""
    table = predictions.content(judgement.predictions, digits=None)
    fitted = json.dumps(entries.ensemble.calibrated.intervals._asdict(), indent=2) + "\n"
    listed = ", ".join(map(str, epochs))
    chosen = f"epochs {listed}\nof the members and the intervals of the ensemble were chosen"
    data = job.experiment.data
    windows = job.material.windows
    title = f"{data.name}, test part: {len(windows.test.origins)} forecasts by {name}"
    shown = forecast_report.shown_scores(judgement)
    quantity = quantities.of(job.experiment.head)
    drawn = judgement_figures(quantity.figures(judgement, windows, shown, data.unit, title))
    text = forecast_report.report_of(job, judgement, chosen)
    pictures = {file: figures.drawn(figure, "png") for file, figure in drawn}
    return {
        run_seal.INTERVALS: fitted.encode(),
        f"{Path(run_seal.PREDICTIONS).stem}{table.suffix}": table.data,
        run_seal.SCORES: csv_tables.content(judgement.scores),
        **pictures,
        run_seal.REPORT: text.encode(),
        run_seal.PAGE: forecast_report.page(job, judgement, text, Path(), pictures).encode(),
    }


# To use one ------------------------------------------------------------------------------------------------------------


def saved_experiment(folder: str | Path) -> Experiment:
    """Return the experiment of a run, or that of the first member of an ensemble."""
    return saved_experiments.saved_experiment(first_run(files.user_path(folder)))


def first_run(folder: Path) -> Path:
    """Return the folder of a run, or that of the first member of an ensemble."""
    if not ensemble_seal.is_ensemble(folder):
        return folder
    return folder / ensemble_seal.read(folder).members[0].name


def restore(folder: str | Path, epoch: int | None = None, with_refit: bool = True) -> Trained:
    """Restore a forecaster: a single run as `refit.restore` does, or all members of an ensemble.

    Raises `DamagedError`, with the member's folder, for a member that is missing, damaged, or not the one of the judgement.
    """
    folder = files.user_path(folder)
    if not ensemble_seal.is_ensemble(folder):
        return refit.restore(folder, epoch, with_refit)
    if epoch is not None:
        raise UsageError(
            "each member of an ensemble has its own epoch", where="--epoch", got=epoch, needed="a member's folder"
        )
    record = ensemble_seal.read(folder)
    members = [_restored(folder / member.name) for member in record.members]
    _check_alike([folder / member.name for member in record.members], [member.experiment for member in members])
    note = f"forecast by the {record.combination} of {len(members)} members"
    weights = _Weights(members, note)
    if with_refit:
        weights = _refits(members, note)

    first, *others = weights.members
    return first._replace(
        intervals=_intervals(folder, record, first),
        folder=folder,
        weights=weights.note,
        combination=_combination(folder, record),
        others=tuple(others),
    )


def _restored(run: Path) -> Trained:
    """Restore a member. Raises `DamagedError` with its folder."""
    try:
        return forecaster.restore(run)
    except DamagedError as error:
        raise DamagedError(f"{run}", [f"a member of the ensemble is damaged: {error}"]) from None


class _Weights(NamedTuple):
    """The members with the weights that forecast, and a note on them."""

    members: Sequence[Trained]
    note: str


def _refits(members: Sequence[Trained], note: str) -> _Weights:
    """Return the members with the weights of their refits, if all of them have one; a mixture of both is no ensemble."""
    refitted = [refit.applied(member) for member in members]
    count = sum(member.is_refit for member in refitted)
    if count == len(members):
        return _Weights(refitted, f"{note}, trained again on all rows; --no-refit takes those that were judged")
    if count:
        lacking = next(member.folder for member in refitted if not member.is_refit)
        note = f"{note}, as they were judged: {count} of {len(members)} have a refit, and {lacking} has none"
    return _Weights(members, note)


def _combination(folder: Path, record: Record) -> Combination:
    for combination in get_args(Combination):
        if record.combination == combination:
            return combination
    raise UsageError(
        "unknown combination", where=folder / ensemble_seal.RECORD, got=record.combination, needed="mean or median"
    )


def _intervals(folder: Path, record: Record, first: Trained) -> saved_intervals.Intervals:
    """Read the intervals of an ensemble."""
    ensemble_seal.check_file(folder, record, run_seal.INTERVALS)
    return saved_intervals.parse(
        files.read_json(folder / run_seal.INTERVALS),
        source=str(folder / run_seal.INTERVALS),
        horizon=first.experiment.horizon,
        series=len(first.scaling.shift),
        point=first.experiment.head.quantiles is None,
    )
