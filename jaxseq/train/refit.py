"""A run's recipe, trained once more on all of its rows for the number of epochs that was chosen: the folder `RUN/refit`.

The judgement stays that of the model that had not seen the test part, and so do scaling and intervals. The learning rate
follows the schedule of the run, over the steps that its epochs have now, up to the epoch that was chosen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from rich.console import Console

from jaxseq.checkpoint import records, run_seal, store
from jaxseq.common import files, lock
from jaxseq.common.console import terminal
from jaxseq.common.errors import EXIT_INTERRUPTED, Interrupted, UsageError
from jaxseq.data.panel_data import PanelData
from jaxseq.train import forecaster, loop, run_folder, warm_start
from jaxseq.train.callbacks import Callback
from jaxseq.train.domains import forecasts
from jaxseq.train.domains.forecast_report import ForecastJob
from jaxseq.train.experiments.base import Experiment
from jaxseq.train.experiments.forecasts import ForecastExperiment
from jaxseq.train.forecaster import Trained
from jaxseq.train.job import check_rows, predicting, state_shapes
from jaxseq.train.run import begin, resume_run
from jaxseq.train.saved_experiment import saved_experiment

KEY = "refit_of"
"""Key of a refit's `config.json`: the epoch of the run that was judged, and the sha256 of its state."""
AGAIN = " --refit"
"""Option that resumes a refit."""


class Origin(NamedTuple):
    """Judged epoch of a run, by whose number the refit is trained."""

    epoch: int
    state_sha256: str


def check(experiment: Experiment) -> None:
    """Raise `UsageError` for an experiment that is not trained again on all rows."""
    needed = "forecasts of aapl, prices or table"
    if not isinstance(experiment, ForecastExperiment) or not isinstance(experiment.data, PanelData):
        raise UsageError(
            "has no series with an end to forecast from", where="--refit", got=experiment.name, needed=needed
        )
    if experiment.stateful:
        raise UsageError("cuts a series into other segments", where="--refit", got="--data.stateful", needed=needed)
    if experiment.data.folds > 1:
        raise UsageError("trains on the rows of all folds", where="--refit", got=f"fold {experiment.data.fold}")


def refit(
    folder: str | Path,
    console: Console | None = None,
    callbacks: Sequence[Callback] = (),
) -> Path:
    """Train a judged run's recipe on all of its rows, up to the epoch that was judged; return the folder `RUN/refit`.

    An interrupted refit resumes bit for bit; one of another epoch than was judged is set aside, under its number. Raises
    `UsageError` for a run that has not been judged, or whose rows have changed, and `Interrupted` as `run.train` does.
    """
    folder = files.user_path(folder)
    if console is None:
        console = terminal()
    experiment = saved_experiment(folder)
    check(experiment)
    assert isinstance(experiment, ForecastExperiment)
    origin = _origin(folder)
    if origin is None:
        raise UsageError(
            "the run has not been judged", where=folder, needed=f"python -m jaxseq.train --resume {folder}{AGAIN}"
        )

    with ExitStack() as locks:
        locks.enter_context(lock.hold(folder))
        job = forecasts.prepare(experiment)
        check_rows(job, folder)
        # The refit of a run that began with the parameters of another one begins with them, too.
        job = warm_start.continued(_job(job, origin), folder, anew=True)
        out = folder / run_seal.REFIT
        _set_other_aside(out, origin)
        if (out / run_seal.CONFIG).is_file():
            locks.enter_context(lock.hold(out))
            run = resume_run(job, out, None, console)
        else:
            run = begin(job, out, locks)

        try:
            loop.fit_epochs(run, console, callbacks)
        except Interrupted as end:
            raise Interrupted(folder, records.latest_epoch(run.checkpoints), end.status, AGAIN) from None
        except KeyboardInterrupt:
            last_epoch = records.latest_epoch(run.checkpoints)
            raise Interrupted(folder, last_epoch, EXIT_INTERRUPTED, AGAIN) from None
    last_epoch = records.latest_epoch(out / run_seal.CHECKPOINTS)
    console.print(f"{out}: {last_epoch} of {origin.epoch} epochs on all rows", highlight=False)
    return out


def _job(job: ForecastJob, origin: Origin) -> ForecastJob:
    """Return the job of a refit: all windows are its training part, and the epoch that was judged is its last."""
    on_all_rows = forecasts.on_all_rows(job, {KEY: origin._asdict()})
    # The optimiser stays that of the whole run, whose schedule ends later than the refit.
    last = dataclasses.replace(job.experiment, epochs=origin.epoch, patience=None, min_gain=None)
    return dataclasses.replace(on_all_rows, experiment=last)


def _origin(folder: Path) -> Origin | None:
    """Return the judged epoch of a run; None if it has not been judged."""
    judged = run_seal.read_judged(folder)
    if judged is None:
        return None
    return Origin(judged.epoch, judged.state_sha256)


def _origin_of(out: Path) -> Origin:
    """Return the epoch of the run by which a refit was trained. Raises `UsageError` if its config is none of a refit."""
    config = run_folder.read_config(out)
    try:
        return Origin(**config[KEY])
    except (KeyError, TypeError):
        raise UsageError("not that of a refit", where=out / run_seal.CONFIG) from None


def _set_other_aside(out: Path, origin: Origin) -> None:
    """Rename a refit of another epoch than was judged, say to `refit-20`. Raises `UsageError` if it cannot be."""
    files.refuse_link(out)
    if not (out / run_seal.CONFIG).is_file():
        return
    other = _origin_of(out)
    if other == origin:
        return
    aside = out.with_name(f"{run_seal.REFIT}-{other.epoch}")
    try:
        out.rename(aside)
    except OSError as error:
        raise files.cannot_write(aside, error) from error


# Use of a refit --------------------------------------------------------------------------------------------------------


def restore(folder: str | Path, epoch: int | None = None, with_refit: bool = True) -> Trained:
    """Restore a forecaster, with the weights of its refit unless an epoch is named; see `applied`."""
    trained = forecaster.restore(folder, epoch)
    if epoch is not None or not with_refit:
        return trained
    return applied(trained)


def applied(trained: Trained) -> Trained:
    """Return a restored forecaster with the weights of its run's refit, and a note; with its own where there is none.

    Scaling and intervals stay those of the judged run. Raises `DamagedError` for a refit whose arrays are not those that
    were saved.
    """
    folder = trained.folder
    if folder is None or not (folder / run_seal.REFIT / run_seal.CONFIG).is_file():
        return trained
    out = folder / run_seal.REFIT
    again = f"python -m jaxseq.train --resume {folder}{AGAIN}"
    origin = _origin_of(out)
    if origin != _origin(folder) or origin.epoch != trained.epoch:
        note = f"the refit is not of epoch {trained.epoch}, whose own weights forecast; {again} trains it anew"
        return trained._replace(weights=note)
    checkpoints = out / run_seal.CHECKPOINTS
    last_epoch = records.latest_epoch(checkpoints) or 0
    if last_epoch < origin.epoch:
        note = f"the refit has {last_epoch} of {origin.epoch} epochs: the judged weights forecast; {again} completes it"
        return trained._replace(weights=note)

    row = jax.ShapeDtypeStruct((1, trained.experiment.input_steps, trained.scaling.features), np.float32)
    shapes = state_shapes(trained.setup, row)
    _, state = store.restore(checkpoints, shapes, origin.epoch, config=run_folder.read_config(out))
    note = f"forecast by the refit, {origin.epoch} epochs on all rows; --no-refit takes the weights that were judged"
    return trained._replace(state=predicting(state), weights=note, is_refit=True)
