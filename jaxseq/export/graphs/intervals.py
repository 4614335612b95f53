"""The intervals of a forecaster as nodes of ONNX, as `forecasting.intervals.nested` computes them."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from jaxseq.export.graphs import scaling
from jaxseq.export.graphs.builder import Value, join
from jaxseq.export.graphs.scaling import Units
from jaxseq.export.kinds import forecasts
from jaxseq.forecasting import intervals, sizes
from jaxseq.forecasting.intervals import Intervals
from jaxseq.nn.heads import LEAST, LEVELS, Head

QUANTILES = ("quantile", "gaussian")
"""Heads whose quantiles the graph has."""


def ends(units: Units, raw: Value, forecast: Value) -> dict[str, Value]:
    """Add the ends of the intervals in the model's scale, by their names.

    raw       the network's numbers for each step, "n k p"
    forecast  the point forecast, "n k"
    """
    fitted = forecasts.intervals_of(units.trained)
    head = units.trained.experiment.head
    if fitted is None or (head.quantiles is not None and head.name not in QUANTILES):
        return {}

    # In float64, as the run computes them.
    quantiles = _quantiles(head, raw, forecast).cast(np.float64)
    size = _row_size(units, fitted)
    margins = intervals.nominal_margins(fitted)
    by_name: dict[str, Value] = {}
    inner: list[Value] = []
    for level, margin in zip(fitted.levels, margins, strict=True):
        low = quantiles
        high = quantiles
        if head.quantiles is not None:
            low_number, high_number = intervals.tails(level, head.levels)
            low = quantiles.take(low_number)
            high = quantiles.take(high_number)

        width = size * np.asarray(margin)
        low = low - width
        high = high + width
        middle = (low + high) * np.float64(0.5)
        # A negative margin may close an interval, and margins of a distribution may cross.
        low = low.minimum(middle, *inner[:1])
        high = high.maximum(middle, *inner[1:])
        inner = [low, high]
        by_name |= dict(zip(intervals.end_names(level), inner, strict=True))
    return by_name


def _quantiles(head: Head, raw: Value, forecast: Value) -> Value:
    """Add a distribution's quantiles, "n k q", or the point forecast, "n k"."""
    if head.name == "point":
        return forecast
    if head.name == "gaussian":
        return _gaussian_quantiles(raw)
    return _stepped_quantiles(raw, head.levels)


def _gaussian_quantiles(raw: Value) -> Value:
    """Add the quantiles of a normal distribution, by its location and its raw scale."""
    location = raw.take([0])
    raw_scale = raw.take([1])
    scale = raw_scale.apply("Softplus") + np.float32(LEAST)
    deviations = ndtri(np.asarray(LEVELS))
    return location + scale * deviations.astype(np.float32)


def _stepped_quantiles(raw: Value, levels: tuple[float, ...]) -> Value:
    """Add quantiles that are steps away from the median on both sides, which cannot cross."""
    middle = len(levels) // 2
    downwards = range(middle - 1, -1, -1)
    upwards = range(middle + 1, len(levels))

    median = raw.take([middle])
    steps = raw.apply("Softplus")
    depth = steps.take(downwards).running_total(axis=2)
    height = steps.take(upwards).running_total(axis=2)
    # From the lowest quantile on.
    below = median - depth.take(downwards)
    above = median + height
    return join(below, median, above, axis=2)


def _row_size(units: Units, fitted: Intervals) -> Value:
    """Add the size of each row that margins are multiplied by, "n 1", or "1 1" if all are alike."""
    graph = units.values.graph
    if fitted.size == "scaled" and fitted.series:
        size = scaling.of_each_row(graph, fitted.series)
    elif fitted.size == "volatility" and fitted.levels:
        size = _volatility(units)
    elif fitted.size == "scaled" and not units.trained.scaling.transform.relative:
        last = scaling.last_value(units)
        size = last.apply("Abs") / units.scale
    else:
        size = graph.constant(np.ones((1, 1)))
    return size.maximum(np.asarray([[fitted.least]]))


def _volatility(units: Units) -> Value:
    """Add the root of the exponentially weighted mean of the squared changes of all values, "n 1"."""
    path = scaling.path(units.trained, units.values)
    changes = (path.cut(1) - path.cut(0, -1)) / units.scale
    weights = _weights_by_age(changes)

    weighted = changes * changes * weights
    total = weighted.total(axis=1)
    weight = weights.total(axis=0)
    # Without a change both are 0, and the least size is taken.
    mean = total / weight.maximum(np.finfo(np.float64).tiny)
    return mean.apply("Sqrt")


def _weights_by_age(changes: Value) -> Value:
    """Add the weight of each change, "t": the decay to the power of its age, the oldest first."""
    graph = changes.graph
    count = changes.apply("Shape").take(1, axis=0)
    oldest = count - np.int64(1)
    back = graph.integers(-1)
    ages = oldest.apply("Range", back, back)
    decay = graph.constant(sizes.DECAY, np.float64)
    return decay.apply("Pow", ages.cast(np.float64))
