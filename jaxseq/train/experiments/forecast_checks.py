"""Refusals of forecasts: strategies that data, network or head rule out."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from jaxseq.common.errors import UsageError
from jaxseq.data.dataset import SeriesData
from jaxseq.data.panel_data import PanelData
from jaxseq.data.transforms import TRANSFORMS
from jaxseq.nn import heads, networks

if TYPE_CHECKING:
    from jaxseq.train.experiments.forecasts import ForecastExperiment

Data = TypeVar("Data", bound=SeriesData)


def check_strategy(experiment: ForecastExperiment[Data]) -> None:
    """Raise `UsageError` for a strategy that the horizon, the network or its head rules out."""
    if experiment.task == "one-step" and experiment.horizon > 1:
        raise UsageError(
            "one-step forecasts a single step",
            where="--horizon",
            got=experiment.horizon,
            needed="--task direct, every-step or iterated",
        )
    if experiment.model.bidirectional and experiment.task == "every-step":
        raise UsageError(
            "a bidirectional model would see its targets", where="--task", got=experiment.task, needed="direct"
        )
    if experiment.model.bidirectional and experiment.task == "iterated":
        raise UsageError(
            "a bidirectional model cannot be fed its forecast", where="--task", got=experiment.task, needed="direct"
        )
    # The sum of two medians is not the median of the sum: quantiles need samples to be iterated.
    if experiment.task == "iterated" and experiment.head.quantiles is not None and experiment.head.draw is None:
        raise UsageError(
            "quantiles of one step do not add up over several",
            where="--model.head",
            got=experiment.model.head,
            needed=f"one of {', '.join(name for name, head in heads.HEADS.items() if head.draw)}",
        )
    if experiment.head.quantity != "value":
        _check_probability(experiment)
    _check_kind(experiment)
    _check_whole_window(experiment)
    _check_known_ahead(experiment)
    _check_start(experiment)
    if experiment.stateful:
        _check_stateful(experiment)
    if experiment.loss != "mse" and experiment.model.head != "point":
        raise UsageError(
            f"--model.head {experiment.model.head} has its own loss", where="--loss", got=experiment.loss, needed="mse"
        )


def _check_probability(experiment: ForecastExperiment[Data]) -> None:
    """Raise `UsageError` for a strategy that feeds forecasts back as values, and for intervals around them."""
    got = f"--model.head {experiment.model.head}"
    if experiment.task == "iterated":
        raise UsageError("feeds values back", where="--task iterated", got=got, needed="--task direct or every-step")
    if experiment.intervals != "auto":
        raise UsageError("are of forecasts of values", where="--intervals", got=got, needed="another --model.head")


def _check_kind(experiment: ForecastExperiment[Data]) -> None:
    """Raise `UsageError` for a strategy or an option that has no meaning for the kind of the network."""
    model = experiment.model
    use = networks.Use(
        task=experiment.task,
        layers=model.layers,
        bidirectional=model.bidirectional,
        skip=model.skip,
        norm=model.norm,
        stateful=experiment.stateful,
        draws=experiment.head.draw is not None,
        recurrent_dropout=model.recurrent_dropout,
    )
    networks.named(model.kind).check(use)


def _check_stateful(experiment: ForecastExperiment[Data]) -> None:
    """Raise `UsageError` for a strategy or a network whose state cannot be carried from window to window."""
    if experiment.task != "every-step":
        raise UsageError(
            "forecasts from windows that overlap, whose states do not follow one another",
            where="--task",
            got=experiment.task,
            needed="every-step with --data.stateful",
        )
    # Cooijmans et al. 2017 keep one mean and variance for each time step from the start of a sequence.
    if experiment.model.norm == "batch":
        raise UsageError(
            "has moments of each time step of a window, which a carried state does not start from",
            where="--model.norm",
            got=experiment.model.norm,
            needed="layer, layer-sum, batch-between or none with --data.stateful",
        )


def _check_whole_window(experiment: ForecastExperiment[Data]) -> None:
    """Raise `UsageError` for what needs the whole window, in a strategy that forecasts from a part of it."""
    if not experiment.steps_through_window:
        return
    needed = "--task direct or one-step"
    if experiment.model.skip:
        raise UsageError("reads the whole window", where="--model.skip", got=f"--task {experiment.task}", needed=needed)
    data = experiment.data
    if not isinstance(data, PanelData):
        return
    if data.target in TRANSFORMS and TRANSFORMS[data.target].seasonal:
        raise UsageError(
            f"--task {experiment.task} knows no value of one season before",
            where="--data.target",
            got=data.target,
            needed=needed,
        )
    if data.scale.startswith("window") and experiment.predicts_every_step:
        raise UsageError(
            "the first steps of a window would be scaled by the later ones",
            where="--data.scale",
            got=data.scale,
            needed=needed,
        )


def _check_known_ahead(experiment: ForecastExperiment[Data]) -> None:
    """Raise `UsageError` for covariates that are known ahead, in a strategy that reads those of one row ahead alone."""
    if not experiment.knows_ahead:
        return
    if experiment.stateful or (experiment.task == "every-step" and experiment.horizon > 1):
        raise UsageError(
            "each time step reads what is known of one row ahead, and forecasts others",
            where="--task",
            got=experiment.task,
            needed="direct, iterated or one-step with covariates that are known ahead",
        )


def _check_start(experiment: ForecastExperiment[Data]) -> None:
    """Raise `UsageError` for a ridge regression that the network could not add to."""
    if experiment.start != "ridge" or experiment.takes_ridge:
        return
    if experiment.steps_through_window:
        raise UsageError(
            "reads the whole window",
            where="--start",
            got=f"--task {experiment.task}",
            needed="--task direct or one-step",
        )
    if experiment.model.head != "point":
        raise UsageError(
            "forecasts a point",
            where="--start",
            got=f"--model.head {experiment.model.head}",
            needed="--model.head point",
        )
    if networks.named(experiment.model.kind).decodes:
        raise UsageError(
            "has an intercept for each step of the horizon",
            where="--start",
            got=f"--model.kind {experiment.model.kind}",
            needed="--start random",
        )
    raise UsageError(
        "knows nothing beyond the window",
        where="--start",
        got="ridge",
        needed="random with covariates that are known ahead",
    )
