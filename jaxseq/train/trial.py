"""Trials: the first steps of a run, kept in memory, and the loss of its best epoch on the validation part.

The test part is neither forecast nor read.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import numpy as np

from jaxseq.common.errors import UsageError
from jaxseq.forecasting import evaluate
from jaxseq.forecasting.intervals import above_floor
from jaxseq.forecasting.losses import row_losses
from jaxseq.train import epoch, feed, forecaster, nonfinite
from jaxseq.train.domains.forecasts import ForecastJob, judged_loss
from jaxseq.train.epoch import TrainState
from jaxseq.train.job import initial_state, predicting

STEPS = 1_000
"""Optimiser steps of a trial, rounded up to whole epochs: half of those that an automatic number of epochs is for."""


class Trial(NamedTuple):
    """Result of a trial: its loss, the epoch that has it, and the number of epochs that were trained."""

    loss: float
    best_epoch: int
    epochs: int


def run(job: ForecastJob) -> Trial:
    """Train the first epochs of a run as the run would, and judge the best of them on the validation part.

    Raises `UsageError` for a step that is not finite.
    """
    best_epoch, epochs, state = _train(job)
    return Trial(_loss(job, state), best_epoch, epochs)


def _train(job: ForecastJob) -> tuple[int, int, TrainState]:
    """Return the best epoch, the number of those that were trained, and the state after the best one, to predict with."""
    experiment = job.experiment
    setup = job.setup._replace(skip_nonfinite=experiment.on_nonfinite == "skip")
    metric = job.setup.objective.select
    steps_per_epoch = feed.feed_of(job.batches.train).steps(experiment.batch)
    epochs = min(experiment.most_epochs, math.ceil(STEPS / steps_per_epoch))

    state = initial_state(job)
    best_state = state
    best_epoch = 0
    best_value = math.inf
    number = 0
    trained = epoch.epochs(
        setup,
        state,
        train=job.data.train,
        valid=job.data.valid,
        batch=experiment.batch,
        numbers=range(1, epochs + 1),
    )
    for finished in trained:
        number = finished.number
        if nonfinite.failing_step(finished, setup.skip_nonfinite) is not None:
            raise UsageError(f"a loss or a gradient of epoch {number} is not finite")
        if finished.valid[metric] < best_value:
            best_epoch = number
            best_value = finished.valid[metric]
            # The next epoch takes the arrays of this one.
            best_state = jax.tree.map(jax.numpy.copy, finished.state)
        if experiment.patience is not None and number - best_epoch >= experiment.patience:
            break
    return best_epoch, number, predicting(best_state)


def _loss(job: ForecastJob, state: TrainState) -> float:
    """Return the mean loss of the forecasts of the validation part, in the series' units, or by their scales in a panel.

    It is the one by which the verdict compares forecasts, so that any two preparations of the same rows can be compared.
    """
    dataset = job.material
    part = dataset.windows.valid
    loss = judged_loss(job.experiment)
    numbers = forecaster.forecast(job, state, part).centre
    forecasts = above_floor(dataset.scaling.invert(numbers, part), dataset.background.floor)
    losses = row_losses(part.targets, forecasts, loss)

    scales, _ = evaluate.series_scales(dataset.background)
    # A single series needs no common unit.
    if scales is not None and len(dataset.background.names) > 1:
        losses = losses / scales.of(loss)[part.series]
    return float(np.nanmean(losses))
