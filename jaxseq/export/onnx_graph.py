"""A trained forecaster as an ONNX graph: scaling, recurrent layers, dense head and inverse scaling.

Opset 17. ONNX's `RNN`, `LSTM` and `GRU` scan over "t b d".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from jaxtyping import Shaped
from onnx import TensorProto, helper, numpy_helper

from jaxseq import cells
from jaxseq.cells import convert
from jaxseq.common.arrays import Tree
from jaxseq.common.errors import UsageError
from jaxseq.export.program import Program
from jaxseq.nn import fields
from jaxseq.nn.heads import LEVELS
from jaxseq.train.forecaster import Trained

OPSET = 17
TYPES = {np.dtype(np.float64): TensorProto.DOUBLE, np.dtype(np.int32): TensorProto.INT32}
OPERATORS = {"rnn": "RNN", "lstm": "LSTM", "gru": "GRU"}
"""ONNX's operator by the name of the cell."""
TARGETS = ("level", "change", "log-return")
"""Targets whose scaling and its inverse the graph has."""
CENTRES = {"point": 0, "quantile": len(LEVELS) // 2, "gaussian": 0, "student-t": 0}
"""Number, of those that the network gives for each step, that is the forecast, by the name of the head."""


class Graph:
    """Nodes and constants of a graph, in the order in which they are computed."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}

    def constant(self, name: str, value: Shaped[np.ndarray, "..."]) -> str:
        """Add an array, and return its name."""
        self.constants[name] = value
        return name

    def add(self, operator: str, *inputs: str, output: str | Sequence[str], **attributes: Any) -> str:
        """Add an operation, and return the name of its first result."""
        outputs = [output] if isinstance(output, str) else list(output)
        self.nodes.append(helper.make_node(operator, list(inputs), outputs, **attributes))
        return outputs[0]


def check_exportable(trained: Trained) -> None:
    """Raise `UsageError` for a forecaster that has no counterpart among ONNX's operators."""
    experiment, model = trained.experiment, trained.experiment.model
    way_out = "--to stablehlo, which holds every network"
    if model.cell not in OPERATORS:
        raise UsageError("ONNX has no such cell", where="--model.cell", got=model.cell, needed=way_out)
    if trained.scaling.kind not in TARGETS:
        raise UsageError(
            "the graph has no such target", where="--data.target", got=trained.scaling.kind, needed=way_out
        )
    if experiment.head.name not in CENTRES:
        raise UsageError("the graph has no such head", where="--model.head", got=experiment.head.name, needed=way_out)
    if model.norm != "none":
        raise UsageError("ONNX has no norm inside its layers", where="--model.norm", got=model.norm, needed=way_out)
    if experiment.task == "iterated" and experiment.horizon > 1:
        raise UsageError("the graph has no loop", where="--task", got="iterated", needed=way_out)


def model_of(trained: Trained, program: Program) -> onnx.ModelProto:
    """Return the graph of a forecaster, with the inputs of its program and the output `forecast` "n k", checked by onnx."""
    check_exportable(trained)
    graph = Graph()
    # In the order of the computation: a node may only read what stands before it.
    scale, shift = _scale_and_shift(graph, trained)
    steps = _scaled_inputs(graph, trained, scale, shift)
    states = _recurrent_layers(graph, trained, steps)
    outputs = _head(graph, trained, states)
    _unscaled(graph, trained, outputs, scale, shift)

    inputs = [
        helper.make_tensor_value_info(name, TYPES[program.dtypes[name]], ["n", *shape])
        for name, shape in program.shapes.items()
    ]
    forecast = helper.make_tensor_value_info("forecast", TensorProto.DOUBLE, ["n", trained.experiment.horizon])
    constants = [numpy_helper.from_array(np.asarray(value, order="C"), name) for name, value in graph.constants.items()]
    whole = helper.make_graph(graph.nodes, "forecaster", inputs, [forecast], initializer=constants)
    model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="jaxseq")
    # The oldest version that has these operators: runtimes refuse a newer one than they know.
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    return model


# Scaling --------------------------------------------------------------------------------------------------------------


def _scale_and_shift(graph: Graph, trained: Trained) -> tuple[str, str]:
    """Add scale and shift of each row, "n 1", or of all rows, "1 1"."""
    scaling = trained.scaling
    names = []
    for name, numbers in {"scale": scaling.scale, "shift": scaling.shift}.items():
        # Columns, which broadcast over the time steps of each row.
        column = np.asarray(numbers, np.float64)[:, None]
        constant = graph.constant(name, column)
        if len(numbers) > 1:
            constant = graph.add(
                "Gather",
                constant,
                "series",
                output=f"{name}_of_row",
                axis=0,
            )
        names.append(constant)
    return names[0], names[1]


def _scaled_inputs(graph: Graph, trained: Trained, scale: str, shift: str) -> str:
    """Add the network's inputs "t n d" in float32: values, covariates and masks."""
    scaling = trained.scaling
    window = trained.experiment.data.window
    if scaling.kind == "level":
        centred = graph.add("Sub", "values", shift, output="centred")
    else:
        path = "values"
        if scaling.kind == "log-return":
            path = graph.add("Log", "values", output="logs")
        # Each value's predecessor; the first is its own, so that its change is 0.
        index = np.concatenate([[0], np.arange(window - 1)]).astype(np.int64)
        graph.constant("predecessors", index)
        previous = graph.add(
            "Gather",
            path,
            "predecessors",
            output="previous",
            axis=1,
        )
        centred = graph.add("Sub", path, previous, output="changes")
    scaled = graph.add("Div", centred, scale, output="scaled")

    graph.constant("last_axis", np.asarray([2], np.int64))
    columns = [graph.add("Unsqueeze", scaled, "last_axis", output="scaled_column")]
    if scaling.covariate_shift:
        graph.constant("covariate_mean", np.asarray(scaling.covariate_shift, np.float64))
        graph.constant("covariate_deviation", np.asarray(scaling.covariate_scale, np.float64))
        centred = graph.add("Sub", "covariates", "covariate_mean", output="centred_covariates")
        columns.append(graph.add("Div", centred, "covariate_deviation", output="scaled_covariates"))
    if scaling.masks:
        # Nothing is missing in what the graph is given.
        graph.constant("no_masks", np.zeros((1, 1, len(scaling.masks))))
        columns.append(graph.add("Mul", columns[0], "no_masks", output="masks"))
    together = graph.add(
        "Concat",
        *columns,
        output="inputs",
        axis=2,
    )
    narrow = graph.add(
        "Cast",
        together,
        output="inputs_float32",
        to=int(TensorProto.FLOAT),
    )
    return graph.add(
        "Transpose",
        narrow,
        output="steps",
        perm=[1, 0, 2],
    )


def _unscaled(graph: Graph, trained: Trained, outputs: str, scale: str, shift: str) -> None:
    """Add the forecast in the series' unit."""
    scaling = trained.scaling
    # In float64, as the run does: in float32 the change of a high price would lose its digits.
    wide = graph.add(
        "Cast",
        outputs,
        output="outputs_float64",
        to=int(TensorProto.DOUBLE),
    )
    spread = graph.add("Mul", wide, scale, output="spread")
    if scaling.kind == "level":
        graph.add("Add", spread, shift, output="forecast")
        return

    graph.constant("last_step", np.asarray([trained.experiment.data.window - 1], np.int64))
    last = graph.add(
        "Gather",
        "values",
        "last_step",
        output="last_value",
        axis=1,
    )
    if scaling.kind == "change":
        graph.add("Add", last, spread, output="forecast")
    else:
        growth = graph.add("Exp", spread, output="growth")
        graph.add("Mul", last, growth, output="forecast")


# The network ----------------------------------------------------------------------------------------------------------


def _recurrent_layers(graph: Graph, trained: Trained, steps: str) -> str:
    """Add the stack of layers over "t n d", and return the states that the head reads, "n h"."""
    experiment = trained.experiment
    model = experiment.model
    # In ONNX, 0 keeps a dimension.
    graph.constant("merge_directions", np.asarray([0, 0, -1], np.int64))
    graph.constant("merge_last", np.asarray([0, -1], np.int64))
    last_carry = ""
    for number in range(model.layers):
        layer = trained.state.params[f"recurrent_{number}"]
        directions = [layer]
        if model.bidirectional:
            directions = [layer["forward"], layer["backward"]]
        names = _layer_weights(graph, model.cell, number, [direction["cell"] for direction in directions])

        attributes: dict[str, Any] = {"hidden_size": model.hidden}
        if model.bidirectional:
            attributes["direction"] = "bidirectional"
        if model.cell == "gru":
            # The reset gate acts after the recurrent product, which is not ONNX's default.
            attributes["linear_before_reset"] = 1
        results = (f"outputs_{number}", f"last_{number}")
        outputs = graph.add(OPERATORS[model.cell], steps, *names, output=results, **attributes)
        # From "t k n h", with k directions.
        turned = graph.add(
            "Transpose",
            outputs,
            output=f"turned_{number}",
            perm=[0, 2, 1, 3],
        )
        steps = graph.add("Reshape", turned, "merge_directions", output=f"steps_{number}")
        last_carry = results[1]

    if experiment.task == "every-step":
        graph.constant("final_step", np.asarray(experiment.data.window - 1, np.int64))
        return graph.add(
            "Gather",
            steps,
            "final_step",
            output="states",
            axis=0,
        )
    turned = graph.add(
        "Transpose",
        last_carry,
        output="turned_last",
        perm=[1, 0, 2],
    )
    return graph.add("Reshape", turned, "merge_last", output="states")


def _layer_weights(graph: Graph, cell: str, number: int, directions: Sequence[Tree]) -> list[str]:
    """Add W, R and B of a layer, its directions stacked, and return their names."""
    by_direction = [convert.to_onnx(cell, fields.cell_params(cells.named(cell), arrays)) for arrays in directions]
    return [
        graph.constant(f"{name}_{number}", np.concatenate([weights[name] for weights in by_direction]))
        for name in ("W", "R", "B")
    ]


def _head(graph: Graph, trained: Trained, states: str) -> str:
    """Add the dense head, and return the centre of each step's forecast, "n k"."""
    head = trained.experiment.head
    dense = trained.state.params["head"]
    graph.constant("head_kernel", np.asarray(dense["kernel"]))
    graph.constant("head_bias", np.asarray(dense["bias"]))
    product = graph.add("MatMul", states, "head_kernel", output="products")
    raw = graph.add("Add", product, "head_bias", output="raw")
    if head.width == 1:
        return raw

    graph.constant("by_step", np.asarray([0, trained.experiment.horizon, head.width], np.int64))
    graph.constant("centre", np.asarray(CENTRES[head.name], np.int64))
    by_step = graph.add("Reshape", raw, "by_step", output="raw_by_step")
    return graph.add(
        "Gather",
        by_step,
        "centre",
        output="centres",
        axis=2,
    )
