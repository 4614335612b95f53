"""A judged forecaster explained: the importance of its inputs, its residuals, and the series that it did worst in.

All of it is about the test part. Nothing is trained, so that a finished run can be explained at any time.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float
from rich.console import Console

from jaxseq.checkpoint import run_seal
from jaxseq.common import csv_tables, figures
from jaxseq.common.arrays import Tree
from jaxseq.common.console import counter
from jaxseq.common.errors import UsageError
from jaxseq.data.categories import Categories, encoded_name
from jaxseq.data.dataset import Dataset
from jaxseq.data.panel_data import PanelData
from jaxseq.data.windows import Windows
from jaxseq.forecasting import evaluate, importance, predictions, quantities, residuals, rollout, verdict, worst
from jaxseq.forecasting.evaluate import Judgement
from jaxseq.forecasting.importance import Group, Importance, Layout, Targets
from jaxseq.forecasting.intervals import above_floor
from jaxseq.forecasting.losses import Loss
from jaxseq.forecasting.metrics import Values
from jaxseq.forecasting.rollout import Inputs
from jaxseq.forecasting.worst import Scene
from jaxseq.nn import apply
from jaxseq.train import devices, forecaster
from jaxseq.train.epoch import Setup, TrainState
from jaxseq.train.experiments.base import Experiment
from jaxseq.train.experiments.forecasts import ForecastExperiment
from jaxseq.train.forecaster import Network
from jaxseq.train.job import Job

OPTION = "--explain"
MOST_WINDOWS = 4096
"""Most test windows in which inputs are exchanged, at equal distances."""
MOST_GRADIENTS = 256
"""Most test windows over which gradients are averaged, at equal distances."""


class Explanation(NamedTuple):
    """An explanation of a judged forecaster.

    importance  of its groups of inputs
    windows     of the test part in which inputs were exchanged
    residuals   in groups, as `residuals.table` returns them
    loss        name of the mean loss that grows with exchanged inputs
    pictures    by the name of their file
    """

    importance: list[Importance]
    windows: int
    residuals: pd.DataFrame
    loss: str
    pictures: dict[str, figures.Figure]


def check(experiment: Experiment) -> None:
    """Raise `UsageError` for an experiment whose runs cannot be explained."""
    if not isinstance(experiment, ForecastExperiment):
        raise UsageError(
            "explains forecasts of series", where=OPTION, got=experiment.name, needed="aapl, table or waves"
        )
    quantities.check_values(experiment.head, OPTION)
    if experiment.stateful:
        raise UsageError(
            "exchanges inputs between windows, which a carried state ties together",
            where=OPTION,
            got="--data.stateful",
            needed="a run without it",
        )


def explain(
    job: Job[ForecastExperiment, Dataset], state: TrainState, name: str, judgement: Judgement, console: Console
) -> Explanation:
    """Explain the forecasts of the test part that were judged, by the model of this name.

    Raises `UsageError` as `check` does.
    """
    check(job.experiment)
    dataset = job.material
    loss = verdict.mean_loss(judgement.comparison.scaled, judgement.comparison.loss)
    stride = -(-len(dataset.windows.test.origins) // MOST_WINDOWS)
    part = dataset.windows.test.take(slice(None, None, stride))
    with counter(console, "importance of the inputs") as progress:
        measured = _importance(job, state, part, loss=judgement.comparison.loss, stride=stride, progress=progress)

    title = f"{job.experiment.data.name}, test part: {name}"
    tables = residuals_of(job, judgement)
    drawn = {
        run_seal.IMPORTANCE_PLOT: importance.figure(measured, loss, title),
        run_seal.WORST_PLOT: _draw_worst(job, judgement, title),
    }
    return Explanation(measured, len(part.origins), tables, loss, drawn)


def write(explanation: Explanation, folder: Path) -> None:
    """Write the tables and pictures of an explanation into the folder of its run."""
    csv_tables.write(folder / run_seal.IMPORTANCE, importance.table(explanation.importance))
    csv_tables.write(folder / run_seal.RESIDUALS, explanation.residuals)
    for file, figure in explanation.pictures.items():
        figures.save(figure, folder / file)


# Importance ------------------------------------------------------------------------------------------------------------


def _importance(
    job: Job[ForecastExperiment, Dataset],
    state: TrainState,
    part: Windows,
    *,
    loss: Loss,
    stride: int,
    progress: importance.Progress,
) -> list[Importance]:
    """Measure the importance of each group of inputs on the windows of a part, one of `stride` of the test part."""
    experiment = job.experiment
    background = job.material.background
    network = forecaster.network_of(job, state)
    inputs = forecaster.inputs_of(network, part)
    groups = importance.groups(_layout(job))

    def forecast(changed: Inputs) -> Values:
        x, ahead = (devices.replicate(job.mesh, array) for array in changed)
        centre = forecaster.centres(network, Inputs(x, ahead), experiment.horizon)
        return above_floor(network.scaling.invert(centre, part), background.floor)

    times = predictions.target_times(part, background.known_series)
    scales, _ = evaluate.series_scales(background)
    # Fewer of the windows that are left share targets.
    thinned = background._replace(test_stride=background.test_stride * stride)
    targets = Targets(
        actual=part.targets,
        rows=evaluate.locate_rows(times, part.series, background=thinned, scales=scales),
        loss=loss,
        seed=experiment.seed,
    )
    gradients = _gradients(network, inputs, groups)
    return importance.measure(forecast, inputs, targets, groups, gradients=gradients, progress=progress)


def _layout(job: Job[ForecastExperiment, Dataset]) -> Layout:
    """Return the columns of the network's input, with the names of the covariates."""
    data = job.experiment.data
    scaling = job.material.scaling
    covariates = job.material.windows.test.take(slice(1)).covariates.shape[2]
    past: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    if isinstance(data, PanelData):
        panel = data.panel().encoded(scaling.categories)
        past = _sources(panel.past, scaling.categories)
        labels = panel.known.labels(panel.series[0], panel.frequency)
        known = _sources(labels, scaling.categories)
    # Nobody may have named them.
    if len(past) != covariates:
        past = tuple(f"covariate {number}" for number in range(1, covariates + 1))
    return Layout(
        window=data.window,
        values=1 + scaling.transform.seasonal + scaling.scale_input,
        past=past,
        masks=scaling.masks,
        known=known,
        period=job.material.background.period,
    )


def _sources(names: tuple[str, ...], categories: Categories) -> tuple[str, ...]:
    """Return the covariate of each column: those of the texts of one stand for it."""
    source_of = {}
    for column, text in zip(categories.columns, categories.texts, strict=True):
        source_of[encoded_name(column, text)] = column
    return tuple(source_of.get(name, name) for name in names)


def _gradients(network: Network, inputs: Inputs, groups: list[Group]) -> list[float]:
    """Return the gradient of the forecast by each group of inputs, over at most `MOST_GRADIENTS` windows."""
    # A gradient costs a pass through the network for each step of the horizon.
    stride = -(-len(inputs.x) // MOST_GRADIENTS)
    x, ahead = (jnp.asarray(array[::stride]) for array in inputs)
    by_x, by_ahead = _absolute_gradients(
        network.setup,
        _reader(network),
        params=network.state.params,
        stats=network.state.stats,
        x=x,
        ahead=ahead,
    )
    return importance.gradient_shares(groups, inputs, np.asarray(by_x), np.asarray(by_ahead))


class _Reader(NamedTuple):
    """How a network's output is read: by its head, whether it is fed back, and whether its steps are added up."""

    feedback: rollout.Feedback
    horizon: int
    iterated: bool
    adds_up: bool


def _reader(network: Network) -> _Reader:
    transform = network.scaling.transform
    return _Reader(
        feedback=network.feedback,
        horizon=network.experiment.horizon,
        iterated=network.experiment.task == "iterated",
        adds_up=transform.adds_up,
    )


@partial(jax.jit, static_argnames=("setup", "reader"))
def _absolute_gradients(
    setup: Setup,
    reader: _Reader,
    params: Tree,
    stats: Tree,
    x: Float[Array, "b t d"],
    ahead: Float[Array, "b v s"],
) -> tuple[Float[Array, "t d"], Float[Array, "v s"]]:
    """Return the absolute gradients of the forecast's centre, in the scale of the model."""

    def forecast(x: Float[Array, "b t d"], ahead: Float[Array, "b v s"]) -> Float[Array, "b k"]:
        if reader.iterated:
            steps = rollout.rollout(
                setup.model,
                reader.feedback,
                params=params,
                stats=stats,
                x=Inputs(x, ahead),
                horizon=reader.horizon,
            )
            # Changes of single steps add up to the forecast.
            if reader.adds_up:
                return jnp.cumsum(steps, axis=1)
            return steps
        # A model with an output at every time step forecasts by the last one.
        raw = setup.objective.at_end(apply.apply(setup.model, params, stats, x))
        head = reader.feedback.head
        return head.centre(raw.reshape(len(raw), -1, head.width))

    return importance.absolute_gradients(forecast, x, ahead)


# Residuals and the worst -----------------------------------------------------------------------------------------------


def residuals_of(job: Job[ForecastExperiment, Dataset], judgement: Judgement) -> pd.DataFrame:
    """Return the residuals of the test part in groups, as `residuals.table` does."""
    data = job.experiment.data
    background = job.material.background
    part = job.material.windows.test
    season = None
    # Windows that are series of their own have no calendar.
    if isinstance(data, PanelData) and background.series:
        times = predictions.target_times(part, background.known_series)
        season = residuals.places(times, data.panel().frequency)
    scales = None
    # The residuals of one series have its unit.
    if judgement.comparison.scaled:
        scales, _ = evaluate.series_scales(background)
    judged = predictions.judged(judgement.predictions, part.horizon)
    return residuals.table(judged, part, background.names, scales, season)


def _draw_worst(job: Job[ForecastExperiment, Dataset], judgement: Judgement, title: str) -> figures.Figure:
    """Draw the windows that did worst beside the reference."""
    background = job.material.background
    part = job.material.windows.test
    judged = predictions.judged(judgement.predictions, part.horizon)
    scene = Scene(
        judged=judged,
        part=part,
        names=background.names,
        series=background.series,
        times=predictions.target_times(part, background.known_series),
        unit=job.experiment.data.unit,
    )
    reference = verdict.phrase(judgement.comparison.reference.name)
    return worst.figure(worst.worst(judged, part), scene, f"{title}, the worst beside {reference}")


# Report ----------------------------------------------------------------------------------------------------------------


def markdown(explanation: Explanation, unit: str) -> str:
    """Return the sections of a report on an explanation."""
    return f"""## Importance of the inputs

{importance.markdown(explanation.importance, explanation.loss)}

How much the {explanation.loss} grows on {explanation.windows:,} test windows when an input has the values of other
windows, the mean of {importance.REPEATS} permutations; its interval is made as that of the skill. An input that says what
others say, too, may cost little. Gradient: share of the mean absolute gradient of the forecast by each input, times the
input's standard deviation. All of them: `{run_seal.IMPORTANCE}`.

![Importance of the inputs]({run_seal.IMPORTANCE_PLOT})

## Residuals

{residuals.markdown(explanation.residuals, unit)}

Residuals are actual - forecast: a bias above 0 is a forecast that was too low. Their shares below and above each interval:
`{run_seal.RESIDUALS}`.

![The worst forecasts beside the reference]({run_seal.WORST_PLOT})
"""
