"""Layers of networks as nodes of ONNX: dense, embedding, batch norm, causal convolution, recurrent stack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxseq import cells
from jaxseq.cells import convert
from jaxseq.common.arrays import Tree, Variables
from jaxseq.common.errors import UsageError
from jaxseq.export.graphs.builder import Graph, Value, join
from jaxseq.nn import fields
from jaxseq.train.experiments.base import Network

WAY_OUT = "--to stablehlo, which holds every network"


class Operator(NamedTuple):
    """A recurrent layer of ONNX, with the attributes by which it is one of ours."""

    name: str
    attributes: Mapping[str, int] = {}


OPERATORS = {
    "rnn": Operator("RNN"),
    "lstm": Operator("LSTM"),
    "lstm-peephole": Operator("LSTM"),
    # The reset gate acts after the recurrent product, which is not ONNX's default.
    "gru": Operator("GRU", {"linear_before_reset": 1}),
    "gru-before": Operator("GRU"),
}
"""ONNX's operator by the name of the cell."""


class Stack(NamedTuple):
    """Recurrent layers, each with the parameters of its directions."""

    cell: str
    hidden: int
    layers: list[list[Tree]]


class States(NamedTuple):
    """States of all steps, "t n h", and the last carry of the last layer, "k n h" for k directions."""

    steps: Value
    last: Value


class Moments(NamedTuple):
    """Parameters of a batch norm, its running moments, and what is added to the variance."""

    params: Variables
    stats: Variables
    epsilon: float


def check_recurrent(cell: str, norm: str) -> None:
    """Raise `UsageError` for recurrent layers that ONNX does not have."""
    if cell not in OPERATORS:
        raise UsageError("ONNX has no such cell", where="--model.cell", got=cell, needed=WAY_OUT)
    if norm != "none":
        raise UsageError("ONNX has no norm inside its layers", where="--model.norm", got=norm, needed=WAY_OUT)


def stack_of(network: Network, params: Variables) -> Stack:
    """Return the recurrent layers of a network with their parameters, of one direction each or of both."""
    layers = []
    for number in range(network.layers):
        layer = params[f"recurrent_{number}"]
        directions = [layer]
        if "forward" in layer:
            directions = [layer["forward"], layer["backward"]]
        layers.append(directions)
    return Stack(network.cell, network.hidden, layers)


def recurrent(stack: Stack, steps: Value) -> States:
    """Add recurrent layers over "t n d"."""
    operator = OPERATORS[stack.cell]
    last = steps
    for directions in stack.layers:
        cell_params = [direction["cell"] for direction in directions]
        weights = _weights(steps.graph, stack.cell, cell_params)
        direction = "forward"
        if len(directions) > 1:
            direction = "bidirectional"

        outputs, last = steps.graph.results(
            2,
            operator.name,
            steps.name,
            *weights,
            direction=direction,
            hidden_size=stack.hidden,
            **operator.attributes,
        )
        # From "t k n h", with k directions.
        steps = outputs.turn(0, 2, 1, 3).shape(0, 0, -1)
    return States(steps, last)


def _weights(
    graph: Graph,
    cell: str,
    directions: Sequence[Variables],
) -> list[str]:
    """Add the weights of a layer, its directions stacked, and return the names of the inputs behind the first."""
    by_direction = []
    for arrays in directions:
        params = fields.cell_params(cells.named(cell), arrays)
        by_direction.append(convert.to_onnx(cell, params))

    inputs = []
    for name in by_direction[0]:
        stacked = np.concatenate([weights[name] for weights in by_direction])
        inputs.append(graph.constant(stacked).name)
    if "P" in by_direction[0]:
        # Lengths and both starts, which are left out, stand before the peepholes.
        inputs[3:3] = ["", "", ""]
    return inputs


def dense(params: Variables, x: Value) -> Value:
    """Add a dense layer over the last axis."""
    kernel = np.asarray(params["kernel"])
    bias = np.asarray(params["bias"])
    return x @ kernel + bias


def embedding(table: Value, symbols: Value) -> Value:
    """Add the rows of a table "v e" at symbols "*n", as "*n e"; below 0 is the first."""
    rows = symbols.maximum(np.int32(0))
    return table.rows_of(rows)


def batch_norm(moments: Moments, x: Value) -> Value:
    """Add batch norm over the last axis."""
    mean = np.asarray(moments.stats["mean"])
    variance = np.asarray(moments.stats["var"])
    scale = np.asarray(moments.params["scale"])
    shift = np.asarray(moments.params["bias"])
    factor = scale / np.sqrt(variance + np.float32(moments.epsilon))
    return (x - mean) * factor + shift


def causal_convolution(
    params: Variables,
    steps: Value,
    dilation: int,
) -> Value:
    """Add a causal convolution of two taps and a rectifier over "t n d"."""
    # Zeros stand before the first step, and the last ones are cut off.
    padded = steps.pad(dilation, axis=0)
    before = padded.cut(0, -dilation, axis=0)
    taps = join(before, steps, axis=2)
    return dense(params["taps"], taps).apply("Relu")
