"""The scaling of a forecaster as nodes of ONNX: from values to the network's inputs, and from its numbers to units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from jaxseq.data.scaling import LEAST_SHARE
from jaxseq.export.graphs.builder import Graph, Value, join
from jaxseq.train.forecaster import Trained

TARGETS = ("level", "change", "season", "seasons", "log-return")
"""Targets whose scaling and its inverse the graph has."""


class Units(NamedTuple):
    """Arrays by which a number is turned into the series' unit.

    values        all values that are given, "n t"
    window        the last ones, which the network reads
    scale, shift  of each row, "n 1", or of all rows, "1 1"
    """

    trained: Trained
    values: Value
    window: Value
    scale: Value
    shift: Value


def of_each_row(graph: Graph, numbers: Sequence[float]) -> Value:
    """Add the number of each row's series, "n 1", or "1 1" if there is one series."""
    # A column, which broadcasts over the time steps of each row.
    column = graph.constant(np.asarray(numbers, np.float64)[:, None])
    if len(numbers) == 1:
        return column
    return column.rows_of(graph.input("series"))


def of_window(trained: Trained, window: Value, shift: Value, scale: Value) -> tuple[Value, Value]:
    """Add shift and scale of each row, given those of its series: its window's own, where the run has them."""
    scaling = trained.scaling
    if not scaling.by_window:
        return shift, scale

    steps = trained.experiment.data.window
    own_shift = shift
    if scaling.kind == "level" or scaling.transform.seasonal:
        mean = _mean(window, steps)
        deviations = window - mean
        # ONNX has no standard deviation.
        own_scale = _mean(deviations * deviations, steps).apply("Sqrt")
        if scaling.kind == "level":
            own_shift = mean
    else:
        values = path(trained, window)
        changes = values.cut(scaling.lag) - values.cut(0, -scaling.lag)
        own_scale = _mean(changes.apply("Abs"), steps - scaling.lag)
    return own_shift, own_scale.maximum(scale * np.float64(LEAST_SHARE))


def _mean(values: Value, count: int) -> Value:
    """Add the mean of the `count` entries of each row, "n 1"."""
    return values.total(axis=1) / np.float64(count)


def inputs(units: Units) -> Value:
    """Add the network's inputs "t n d" in float32: values, covariates and masks."""
    scaling = units.trained.scaling
    scaled = _centred(units) / units.scale
    values = scaled.expand(2)
    columns = [values]
    # Changes over a season do not show its course.
    if scaling.transform.seasonal:
        from_last = (units.window - last_value(units)) / units.scale
        columns.append(from_last.expand(2))

    if scaling.covariate_shift:
        mean = np.asarray(scaling.covariate_shift)
        deviation = np.asarray(scaling.covariate_scale)
        covariates = units.values.graph.input("covariates")
        columns.append((covariates - mean) / deviation)
    if scaling.masks:
        # Nothing is missing in what the graph is given.
        columns.append(values * np.zeros((1, 1, len(scaling.masks))))

    together = join(*columns, axis=2)
    return together.cast(np.float32).turn(1, 0, 2)


def _centred(units: Units) -> Value:
    """Add the values of the window without their level: less the shift, or less each value's predecessor."""
    if units.trained.scaling.kind == "level":
        return units.window - units.shift

    values = path(units.trained, units.window)
    earlier = units.trained.scaling.earlier
    # The first values stand for those before them, so that their change is 0.
    steps = units.trained.experiment.data.window
    before = values.take([*range(earlier.lag), *range(steps - earlier.lag)], axis=1)
    changes = values - before
    if not earlier.longer:
        return changes
    # The longer season has no change of the first values either, as the first change of all is 0.
    places = [0] * earlier.reach + [*range(earlier.lag, steps - earlier.longer)]
    change_before = changes.take(places, axis=1)
    return changes - change_before * earlier.share


def path(trained: Trained, values: Value) -> Value:
    """Add what changes are taken of: the values, or their logarithms."""
    if trained.scaling.kind != "log-return":
        return values
    return values.apply("Log")


def in_units(units: Units, numbers: Value) -> Value:
    """Add numbers "n k" of the model's scale in the series' unit, not below the least possible value."""
    fitted = units.trained.intervals
    # In float32 the change of a high price would lose its digits.
    spread = numbers.cast(np.float64) * units.scale

    if units.trained.scaling.kind == "level":
        values = spread + units.shift
    elif units.trained.scaling.kind != "log-return":
        values = _known(units) + spread
    else:
        growth = spread.apply("Exp")
        values = last_value(units) * growth

    if fitted is None or fitted.floor is None:
        return values
    return values.maximum(np.float64(fitted.floor))


def _known(units: Units) -> Value:
    """Add the known value that each step of the horizon is compared with, "n k" or "n 1"; see `Scaling.known`."""
    scaling = units.trained.scaling
    if not scaling.transform.seasonal:
        return last_value(units)
    experiment = units.trained.experiment

    def values_ago(ages: Int[np.ndarray, " k"]) -> Value:
        return units.window.take((experiment.data.window - ages).tolist(), axis=1)

    return scaling.earlier.ahead(values_ago, experiment.horizon)


def last_value(units: Units) -> Value:
    """Add the last value of each row, "n 1"."""
    steps = units.trained.experiment.data.window
    return units.window.take([steps - 1], axis=1)
