"""A forecaster as an ONNX graph: scaling, recurrent layers, dense head, intervals and inverse scaling."""

from __future__ import annotations

import numpy as np
import onnx

from jaxseq.common.errors import UsageError
from jaxseq.export.graphs import builder, intervals, layers, scaling
from jaxseq.export.graphs.builder import Graph, Value
from jaxseq.export.graphs.scaling import Units
from jaxseq.export.kinds import forecasts
from jaxseq.export.program import Program
from jaxseq.nn.heads import Head
from jaxseq.train.forecaster import Trained

HEADS = ("point", "quantile", "gaussian", "student-t")
"""Heads whose forecast is one of the numbers that the network gives for each step."""


def model_of(trained: Trained, program: Program) -> onnx.ModelProto:
    """Return the graph of a forecaster, checked by onnx, with the inputs and outputs of its program.

    It lacks the quantiles of the head, and the intervals of one for whose quantiles there is no operator. Raises
    `UsageError` for a forecaster that has no counterpart among ONNX's operators.
    """
    _check_exportable(trained)
    graph = Graph()
    units = _units(graph, trained)
    steps = scaling.inputs(units)
    states = _recurrent_layers(trained, steps)
    raw = _raw_by_step(trained, states, steps)
    forecast = raw.take(_centre(trained.experiment.head))

    names = [scaling.in_units(units, forecast).output("forecast")]
    for name, end in intervals.ends(units, raw, forecast).items():
        names.append(scaling.in_units(units, end).output(name))
    shape = ["n", trained.experiment.horizon]
    return builder.model(graph, program, dict.fromkeys(names, shape), np.float64)


def _centre(head: Head) -> int:
    """Return which of the numbers of a step is the forecast."""
    # The others have their location first.
    if head.name != "quantile":
        return 0
    return len(head.levels) // 2


def _check_exportable(trained: Trained) -> None:
    """Raise `UsageError` for a forecaster that has no counterpart among ONNX's operators."""
    experiment = trained.experiment
    target = trained.scaling.kind
    head = experiment.head.name
    way_out = layers.WAY_OUT
    forecasts.refuse_kinds(trained)
    layers.check_recurrent(experiment.model.cell, experiment.model.norm)
    if target not in scaling.TARGETS:
        raise UsageError("the graph has no such target", where="--data.target", got=target, needed=way_out)
    if head not in HEADS:
        raise UsageError("the graph has no such head", where="--model.head", got=head, needed=way_out)
    if experiment.task == "iterated" and experiment.horizon > 1:
        raise UsageError("the graph has no loop", where="--task", got="iterated", needed=way_out)


def _units(graph: Graph, trained: Trained) -> Units:
    """Return the window, the end of the values where intervals need more, with scale and shift of each row."""
    values = graph.input("values")
    window = values
    if forecasts.reads_history(forecasts.intervals_of(trained)):
        window = values.cut(-trained.experiment.data.window)
    scale = scaling.of_each_row(graph, trained.scaling.scale)
    shift = scaling.of_each_row(graph, trained.scaling.shift)
    own_shift, own_scale = scaling.of_window(trained, window, shift, scale)
    return Units(trained, values, window, own_scale, own_shift)


def _recurrent_layers(trained: Trained, steps: Value) -> Value:
    """Add the stack of layers over "t n d", and return the states that the head reads, "n h"."""
    experiment = trained.experiment
    stack = layers.stack_of(experiment.model, trained.state.params)
    states = layers.recurrent(stack, steps)

    if experiment.task == "every-step":
        return states.steps.take(experiment.data.window - 1, axis=0)
    return states.last.turn(1, 0, 2).shape(0, -1)


def _raw_by_step(trained: Trained, states: Value, steps: Value) -> Value:
    """Add the dense head and the skip, and return their numbers for each step of the horizon, "n k p"."""
    raw = layers.dense(trained.state.params["head"], states)
    if "skip" in trained.state.params:
        # The recurrent layers have time steps first, the skip has all inputs of a row.
        window = steps.turn(1, 0, 2).shape(0, -1)
        raw = raw + window @ np.asarray(trained.state.params["skip"]["kernel"])
    return raw.shape(0, trained.experiment.horizon, trained.experiment.head.width)
