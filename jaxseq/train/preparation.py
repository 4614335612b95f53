"""Preparations of a series that `--auto` chooses among: target, scale, window, and how the network begins.

A preparation is a set of values for fields of an experiment, by their names on the command line.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from jaxseq.common.errors import UsageError
from jaxseq.data.panel_data import PanelData
from jaxseq.data.powers import NONE
from jaxseq.data.seasons import pairs
from jaxseq.data.targets import SEASONS_IN_WINDOW
from jaxseq.data.transforms import TRANSFORMS
from jaxseq.train.experiments.base import Experiment
from jaxseq.train.experiments.config import RIDGE, rebuild
from jaxseq.train.experiments.forecasts import ForecastExperiment

if TYPE_CHECKING:
    from jaxseq.train.domains.forecasts import ForecastJob

TARGET = "data.target"
SCALE = "data.scale"
POWER = "data.transform"
WINDOW = "data.window"
SKIP = "model.skip"
START = "start"
FIELDS = (TARGET, SCALE, POWER, WINDOW, START, SKIP)
"""Fields that a preparation may set, in the order in which they are told."""

Value: TypeAlias = str | int | bool
Preparation: TypeAlias = Mapping[str, Value]
"""Values by field, some of `FIELDS`; those that it leaves out stay as they are."""

LINEAR: Preparation = {START: "auto", SKIP: False}
"""The network begins as a ridge regression, where it can."""
DRAWN: Preparation = {START: "random", SKIP: True}
"""The network's weights are drawn, a linear map of the window among them."""


def check(experiment: Experiment, where: str) -> ForecastExperiment[PanelData]:
    """Return an experiment whose preparation can be chosen. Raises `UsageError` for any other."""
    if not isinstance(experiment, ForecastExperiment) or not isinstance(experiment.data, PanelData):
        raise UsageError(
            "chooses how series are prepared", where=where, got=experiment.name, needed="aapl, prices or table"
        )
    # A season tells nothing of the last value, and the choice is by values.
    if experiment.head.quantity != "value":
        raise UsageError(
            "chooses by forecasts of values",
            where=where,
            got=f"--model.head {experiment.head.name}",
            needed="another head",
        )
    return experiment


def candidates(
    experiment: ForecastExperiment[PanelData], given: Collection[str], periods: Sequence[int]
) -> list[Preparation]:
    """Return the preparations to try, the experiment as it is first, then those that do well more often.

    given    fields that stay as they are
    periods  seasons that fit into the training rows, shortest first

    A preparation that the experiment cannot have, such as a seasonal target of an iterated forecast, is left out.
    """
    listed: list[Preparation] = []
    for preparation in ({}, *_all(experiment.data.window, periods)):
        # What the user has decided is no question any more.
        free = {field: value for field, value in preparation.items() if field not in given}
        if free in listed or not _suits(experiment, free):
            continue
        listed.append(free)
    return listed


def _all(window: int, periods: Sequence[int]) -> Iterator[Preparation]:
    """Yield every preparation, the first ones first."""
    seasonal: Preparation = {TARGET: "season", SCALE: "window"}
    change: Preparation = {TARGET: "change", SCALE: "series"}
    # Those of which a window shows the change over a season.
    fitting = [period for period in periods if SEASONS_IN_WINDOW * period <= window]
    if fitting:
        yield {**seasonal, **LINEAR}
    if pairs(periods, window):
        yield {**seasonal, **LINEAR, TARGET: "seasons"}
    yield {**change, **LINEAR}
    yield {TARGET: "level", SCALE: "window", **LINEAR}
    if fitting:
        yield {TARGET: "season", SCALE: "series", **LINEAR}
    yield {TARGET: "change", SCALE: "window", **LINEAR}

    if fitting:
        yield {**seasonal, **LINEAR, POWER: "log"}
        yield {**seasonal, **LINEAR, POWER: "box-cox"}
    yield {**change, **LINEAR, POWER: "log"}
    yield {TARGET: "level", SCALE: "window", **LINEAR, POWER: "log"}

    if fitting:
        yield {**seasonal, **DRAWN}
    yield {**change, **DRAWN}
    yield {TARGET: "level", SCALE: "window", **DRAWN}

    # Windows of whole seasons: the two shortest ones, and the longest one.
    if fitting and SEASONS_IN_WINDOW * fitting[0] < window:
        yield {**seasonal, **LINEAR, WINDOW: SEASONS_IN_WINDOW * fitting[0]}
    if periods and periods[-1] > window:
        yield {**seasonal, **LINEAR, WINDOW: periods[-1]}
        yield {**seasonal, **DRAWN, WINDOW: periods[-1]}
    # A window that has the values of the two shortest ones.
    if len(periods) > 1 and sum(periods[:2]) > window:
        yield {**seasonal, **LINEAR, TARGET: "seasons", WINDOW: sum(periods[:2])}


def _suits(experiment: ForecastExperiment[PanelData], preparation: Preparation) -> bool:
    """Return whether an experiment can have a preparation, as far as its fields tell."""
    # A head of counts has one target alone.
    target = preparation.get(TARGET)
    if target is not None and TRANSFORMS[str(target)].support != experiment.head.support:
        return False
    try:
        applied(experiment, preparation)
    except UsageError:
        return False
    return True


def applied(experiment: ForecastExperiment[PanelData], preparation: Preparation) -> ForecastExperiment[PanelData]:
    """Return an experiment with a preparation. Raises `UsageError` where they do not go together."""
    parts: dict[str, dict[str, Value]] = {"data": {}, "model": {}, "": {}}
    for field, value in preparation.items():
        part, _, name = field.rpartition(".")
        parts[part][name] = value
    data = rebuild(experiment.data, parts["data"], "data")
    model = rebuild(experiment.model, parts["model"], "model")
    return rebuild(experiment, parts[""], experiment.name, {"data": data, "model": model})


def asked(experiment: ForecastExperiment[PanelData]) -> Preparation:
    """Return the preparation of an experiment as it is asked for, some of which may be left to the rows."""
    data = experiment.data
    return {
        TARGET: data.target,
        SCALE: data.scale,
        POWER: data.transform,
        WINDOW: data.window,
        START: experiment.start,
        SKIP: experiment.model.skip,
    }


def resolved(job: ForecastJob) -> Preparation:
    """Return the preparation that a job has, with nothing that is left to the rows."""
    experiment = job.experiment
    scaling = job.material.scaling
    start = "ridge" if RIDGE in job.fitted else "random"
    # Without a regression, the linear map that it would have had is drawn.
    skip = experiment.model.skip or (experiment.starts_from_ridge and start == "random")
    return {
        TARGET: scaling.kind,
        SCALE: scaling.window_scale or ("window" if scaling.by_window else "series"),
        POWER: scaling.power,
        WINDOW: experiment.data.window,
        START: start,
        SKIP: skip,
    }


def words(preparation: Preparation) -> str:
    """Return a preparation as a note tells it."""
    told: list[str] = []
    for field in FIELDS:
        if field not in preparation:
            continue
        value = preparation[field]
        name = field.rpartition(".")[2]
        # What is off is not told.
        if field == SKIP and value:
            told.append(name)
        if field == SKIP or (field == POWER and value == NONE):
            continue
        told.append(f"{name} {value}")
    return ", ".join(told) or "as it is"
