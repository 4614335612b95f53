"""A trained forecaster as an ONNX graph: scaling, recurrent layers, dense head, intervals and inverse scaling.

Opset 17. ONNX's `RNN`, `LSTM` and `GRU` scan over "t b d".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from jaxtyping import Shaped
from onnx import TensorProto, helper, numpy_helper
from scipy.special import ndtri

from jaxseq import cells
from jaxseq.cells import convert
from jaxseq.common.arrays import Tree
from jaxseq.common.errors import UsageError
from jaxseq.export import forecasts
from jaxseq.export.program import Program
from jaxseq.forecasting import intervals, sizes
from jaxseq.forecasting.intervals import Intervals
from jaxseq.nn import fields
from jaxseq.nn.heads import LEAST, LEVELS
from jaxseq.train.domains.base import RestoredRun
from jaxseq.train.forecaster import Trained

OPSET = 17
TYPES = {
    np.dtype(np.float64): TensorProto.DOUBLE,
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.int32): TensorProto.INT32,
}
WAY_OUT = "--to stablehlo, which holds every network"
OPERATORS = {"rnn": "RNN", "lstm": "LSTM", "gru": "GRU"}
"""ONNX's operator by the name of the cell."""
TARGETS = ("level", "change", "log-return")
"""Targets whose scaling and its inverse the graph has."""
CENTRES = {"point": 0, "quantile": len(LEVELS) // 2, "gaussian": 0, "student-t": 0}
"""Number, of those that the network gives for each step, that is the forecast, by the name of the head."""


LAST = np.iinfo(np.int64).max
"""End of a slice that goes to the last column."""
QUANTILES = ("quantile", "gaussian")
"""Heads whose quantiles the graph has."""


class Graph:
    """Nodes and constants of a graph, in the order in which they are computed."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}

    def constant(self, name: str, value: Shaped[np.ndarray, "..."]) -> str:
        """Add an array, and return its name."""
        self.constants[name] = value
        return name

    def has(self, name: str) -> bool:
        """Return whether an operation has this result."""
        return any(name in node.output for node in self.nodes)

    def add(self, operator: str, *inputs: str, output: str | Sequence[str], **attributes: Any) -> str:
        """Add an operation, and return the name of its first result."""
        outputs = [output] if isinstance(output, str) else list(output)
        self.nodes.append(helper.make_node(operator, list(inputs), outputs, **attributes))
        return outputs[0]

    def take(self, name: str, array: str, index: int | Sequence[int]) -> str:
        """Add the entries at a place, or at several, of an array's last axis, "n k p", and return their name."""
        self.constant(f"{name}_index", np.asarray(index, np.int64))
        return self.add(
            "Gather",
            array,
            f"{name}_index",
            output=name,
            axis=2,
        )

    def cut(self, name: str, array: str, first: int, end: int = LAST) -> str:
        """Add the columns from `first` up to `end` of an array "n t", and return their name; negative ones count back."""
        for bound, value in {"first": first, "end": end, "axis": 1}.items():
            self.constant(f"{name}_{bound}", np.asarray([value], np.int64))
        return self.add("Slice", array, f"{name}_first", f"{name}_end", f"{name}_axis", output=name)


def check_layers(cell: str, norm: str) -> None:
    """Raise `UsageError` for recurrent layers that ONNX does not have."""
    if cell not in OPERATORS:
        raise UsageError("ONNX has no such cell", where="--model.cell", got=cell, needed=WAY_OUT)
    if norm != "none":
        raise UsageError("ONNX has no norm inside its layers", where="--model.norm", got=norm, needed=WAY_OUT)


def check_exportable(trained: Trained) -> None:
    """Raise `UsageError` for a forecaster that has no counterpart among ONNX's operators."""
    experiment = trained.experiment
    way_out = WAY_OUT
    check_layers(experiment.model.cell, experiment.model.norm)
    if trained.scaling.kind not in TARGETS:
        raise UsageError(
            "the graph has no such target", where="--data.target", got=trained.scaling.kind, needed=way_out
        )
    if experiment.head.name not in CENTRES:
        raise UsageError("the graph has no such head", where="--model.head", got=experiment.head.name, needed=way_out)
    if experiment.task == "iterated" and experiment.horizon > 1:
        raise UsageError("the graph has no loop", where="--task", got="iterated", needed=way_out)


def forecaster(run: RestoredRun, program: Program) -> onnx.ModelProto:
    """Return the graph of a forecaster, checked by onnx, with the inputs and outputs of its program.

    It lacks the quantiles of the head, and the intervals of one for whose quantiles there is no operator.
    """
    trained = forecasts.of(run)
    check_exportable(trained)
    graph = Graph()
    # In the order of the computation: a node may only read what stands before it.
    scale, shift = _scale_and_shift(graph, trained)
    history = forecasts.reads_history(forecasts.intervals_of(trained))
    window = _last_values(graph, trained, history)
    steps = _scaled_inputs(graph, trained, window, scale, shift)
    states = _recurrent_layers(graph, trained, steps)
    raw = _raw_by_step(graph, trained, states)
    units = _Units(trained, window, scale, shift)
    forecast = graph.take("centre", raw, CENTRES[trained.experiment.head.name])
    outputs = [_in_units(graph, units, forecast, "forecast")]
    outputs += _intervals(graph, units, raw)

    horizon = trained.experiment.horizon
    results = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, ["n", horizon]) for name in outputs]
    return model_of(graph, program, results)


def model_of(graph: Graph, program: Program, results: Sequence[onnx.ValueInfoProto]) -> onnx.ModelProto:
    """Return a graph with the inputs of its program and these results as a model, checked by onnx."""
    inputs = [
        helper.make_tensor_value_info(name, TYPES[program.dtypes[name]], ["n", *shape])
        for name, shape in program.shapes.items()
    ]
    # Runtimes warn of a constant that no operation reads.
    read = {name for node in graph.nodes for name in node.input}
    constants = [
        numpy_helper.from_array(np.asarray(value, order="C"), name)
        for name, value in graph.constants.items()
        if name in read
    ]
    whole = helper.make_graph(graph.nodes, program.result, inputs, results, initializer=constants)
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


def _last_values(graph: Graph, trained: Trained, history: bool) -> str:
    """Return the name of the window, which with a history is the end of the values."""
    if not history:
        return "values"
    return graph.cut("window", "values", -trained.experiment.data.window)


def _scaled_inputs(graph: Graph, trained: Trained, values: str, scale: str, shift: str) -> str:
    """Add the network's inputs "t n d" in float32: values, covariates and masks."""
    scaling = trained.scaling
    window = trained.experiment.data.window
    if scaling.kind == "level":
        centred = graph.add("Sub", values, shift, output="centred")
    else:
        path = _path(graph, trained, values, "logs")
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


def _path(graph: Graph, trained: Trained, values: str, output: str) -> str:
    """Add what changes are taken of: the values, or their logarithms."""
    if trained.scaling.kind != "log-return":
        return values
    return graph.add("Log", values, output=output)


class _Units(NamedTuple):
    """Names of what a number is turned into the series' unit with: the window, "n t", scale and shift of each row."""

    trained: Trained
    values: str
    scale: str
    shift: str


def _in_units(graph: Graph, units: _Units, numbers: str, output: str) -> str:
    """Add numbers "n k" of the model's scale in the series' unit, not below the least possible value."""
    trained, values, scale, shift = units
    fitted = trained.intervals
    floor = None if fitted is None else fitted.floor
    unbounded = output if floor is None else f"{output}_unbounded"
    wide = _wide(graph, numbers)
    spread = graph.add("Mul", wide, scale, output=f"{output}_spread")

    if trained.scaling.kind == "level":
        graph.add("Add", spread, shift, output=unbounded)
    else:
        last = _last_value(graph, trained, values)
        if trained.scaling.kind == "change":
            graph.add("Add", last, spread, output=unbounded)
        else:
            growth = graph.add("Exp", spread, output=f"{output}_growth")
            graph.add("Mul", last, growth, output=unbounded)

    if floor is not None:
        graph.constant("floor", np.asarray(floor, np.float64))
        graph.add("Max", unbounded, "floor", output=output)
    return output


def _wide(graph: Graph, numbers: str) -> str:
    """Add numbers in float64, as the run has them: in float32 the change of a high price would lose its digits."""
    if numbers.endswith("_float64"):
        return numbers
    name = f"{numbers}_float64"
    if graph.has(name):
        return name
    return graph.add(
        "Cast",
        numbers,
        output=name,
        to=int(TensorProto.DOUBLE),
    )


def _last_value(graph: Graph, trained: Trained, values: str) -> str:
    """Add the last value of each row, "n 1"."""
    if graph.has("last_value"):
        return "last_value"
    graph.constant("last_step", np.asarray([trained.experiment.data.window - 1], np.int64))
    return graph.add(
        "Gather",
        values,
        "last_step",
        output="last_value",
        axis=1,
    )


# Intervals ------------------------------------------------------------------------------------------------------------


def _intervals(graph: Graph, units: _Units, raw: str) -> list[str]:
    """Add the ends of the intervals, as `intervals.nested` computes them, and return their names."""
    trained = units.trained
    fitted = forecasts.intervals_of(trained)
    head = trained.experiment.head
    if fitted is None or (head.quantiles is not None and head.name not in QUANTILES):
        return []

    quantiles = _quantiles(graph, head.name, raw)
    size = _row_size(graph, units, fitted)
    graph.constant("half", np.asarray(0.5))
    names = []
    inner: tuple[str, str] | None = None
    for level, margin in zip(fitted.levels, intervals.nominal_margins(fitted), strict=True):
        low_name, high_name = intervals.end_names(level)
        low, high = quantiles, quantiles
        if head.quantiles is not None:
            low_number, high_number = intervals.tails(level, LEVELS)
            low = graph.take(f"{low_name}_own", quantiles, low_number)
            high = graph.take(f"{high_name}_own", quantiles, high_number)

        graph.constant(f"{low_name}_margin", margin)
        width = graph.add("Mul", f"{low_name}_margin", size, output=f"{low_name}_width")
        low = graph.add("Sub", low, width, output=f"{low_name}_wide")
        high = graph.add("Add", high, width, output=f"{high_name}_wide")
        total = graph.add("Add", low, high, output=f"{low_name}_sum")
        middle = graph.add("Mul", total, "half", output=f"{low_name}_middle")
        # A negative margin may close an interval, and margins of a distribution may cross.
        lows = [low, middle]
        highs = [high, middle]
        if inner is not None:
            lows.append(inner[0])
            highs.append(inner[1])
        low = graph.add("Min", *lows, output=f"{low_name}_float64")
        high = graph.add("Max", *highs, output=f"{high_name}_float64")
        inner = (low, high)
        names += [_in_units(graph, units, low, low_name), _in_units(graph, units, high, high_name)]
    return names


def _quantiles(graph: Graph, head: str, raw: str) -> str:
    """Add a distribution's quantiles in float64, "n k q", or the point forecast, "n k"."""
    if head == "point":
        return _wide(graph, "centre")
    if head == "gaussian":
        deviations = ndtri(np.asarray(LEVELS)).astype(np.float32)
        graph.constant("deviations", deviations)
        graph.constant("least_scale", np.asarray(LEAST, np.float32))
        location = graph.take("location", raw, [0])
        raw_scale = graph.take("raw_scale", raw, [1])
        softplus = graph.add("Softplus", raw_scale, output="scale_above")
        scale = graph.add("Add", softplus, "least_scale", output="head_scale")
        spread = graph.add("Mul", scale, "deviations", output="head_spread")
        quantiles = graph.add("Add", location, spread, output="quantiles")
        return _wide(graph, quantiles)

    # Steps away from the median on both sides, which cannot cross.
    middle = len(LEVELS) // 2
    graph.constant("quantile_axis", np.asarray(2, np.int64))
    median = graph.take("median", raw, [middle])
    steps = graph.add("Softplus", raw, output="quantile_steps")
    down = graph.take("steps_down", steps, range(middle - 1, -1, -1))
    up = graph.take("steps_up", steps, range(middle + 1, len(LEVELS)))
    depth = graph.add("CumSum", down, "quantile_axis", output="depth")
    height = graph.add("CumSum", up, "quantile_axis", output="height")
    depth = graph.take("depth_in_order", depth, range(middle - 1, -1, -1))
    below = graph.add("Sub", median, depth, output="below")
    above = graph.add("Add", median, height, output="above")
    together = graph.add(
        "Concat",
        below,
        median,
        above,
        output="quantiles",
        axis=2,
    )
    return _wide(graph, together)


def _row_size(graph: Graph, units: _Units, fitted: Intervals) -> str:
    """Add the size of each row that margins are multiplied by, "n 1", or "1 1" if all are alike."""
    trained, values, scale, _ = units
    graph.constant("least_size", np.asarray([[fitted.least]]))
    if fitted.size == "scaled" and fitted.series:
        graph.constant("series_sizes", np.asarray(fitted.series)[:, None])
        size = graph.add(
            "Gather",
            "series_sizes",
            "series",
            output="size_of_row",
            axis=0,
        )
    elif fitted.size == "volatility" and fitted.levels:
        size = _volatility(graph, trained, scale)
    elif fitted.size == "scaled" and not trained.scaling.transform.relative:
        last = graph.add("Abs", _last_value(graph, trained, values), output="absolute_last")
        size = graph.add("Div", last, scale, output="size_of_row")
    else:
        size = graph.constant("size_of_row", np.ones((1, 1)))
    return graph.add("Max", size, "least_size", output="row_size")


def _volatility(graph: Graph, trained: Trained, scale: str) -> str:
    """Add the root of the exponentially weighted mean of the squared changes of all values, "n 1"."""
    path = _path(graph, trained, "values", "history_logs")
    later = graph.cut("later", path, 1)
    earlier = graph.cut("earlier", path, 0, -1)
    steps = graph.add("Sub", later, earlier, output="steps_of_values")
    changes = graph.add("Div", steps, scale, output="scaled_changes")

    # The weight of a change is the decay to the power of its age: those of as many as there are, the oldest first.
    graph.constant("decay", np.asarray(sizes.DECAY))
    graph.constant("none_axis", np.asarray([0], np.int64))
    graph.constant("one", np.asarray(1, np.int64))
    graph.constant("before_none", np.asarray(-1, np.int64))
    graph.constant("step_axis", np.asarray([1], np.int64))
    shape = graph.add("Shape", changes, output="shape_of_changes")
    count = graph.add("Gather", shape, "one", output="count_of_changes")
    oldest = graph.add("Sub", count, "one", output="oldest")
    ages = graph.add("Range", oldest, "before_none", "before_none", output="ages")
    ages = _wide(graph, ages)
    weights = graph.add("Pow", "decay", ages, output="weights")
    squares = graph.add("Mul", changes, changes, output="squares")
    weighted = graph.add("Mul", squares, weights, output="weighted")
    total = graph.add(
        "ReduceSum",
        weighted,
        "step_axis",
        output="weighted_sum",
        keepdims=1,
    )
    weight = graph.add(
        "ReduceSum",
        weights,
        "none_axis",
        output="weight_sum",
        keepdims=1,
    )
    # Without a change both are 0, and the least size is taken.
    graph.constant("tiny", np.asarray(np.finfo(np.float64).tiny))
    weight = graph.add("Max", weight, "tiny", output="positive_weight")
    mean = graph.add("Div", total, weight, output="mean_square")
    return graph.add("Sqrt", mean, output="size_of_row")


# The network ----------------------------------------------------------------------------------------------------------


class Stack(NamedTuple):
    """Recurrent layers, each with the parameters of its directions."""

    cell: str
    hidden: int
    layers: list[list[Tree]]


class States(NamedTuple):
    """Names of the states of all steps, "t n h", and of the last carry of the last layer, "k n h" for k directions."""

    steps: str
    last: str


def add_stack(graph: Graph, stack: Stack, steps: str) -> States:
    """Add recurrent layers over "t n d"."""
    # In ONNX, 0 keeps a dimension.
    graph.constant("merge_directions", np.asarray([0, 0, -1], np.int64))
    last_carry = ""
    for number, directions in enumerate(stack.layers):
        names = _layer_weights(graph, stack.cell, number, [direction["cell"] for direction in directions])

        attributes: dict[str, object] = {"hidden_size": stack.hidden}
        if len(directions) > 1:
            attributes["direction"] = "bidirectional"
        if stack.cell == "gru":
            # The reset gate acts after the recurrent product, which is not ONNX's default.
            attributes["linear_before_reset"] = 1
        results = (f"outputs_{number}", f"last_{number}")
        outputs = graph.add(OPERATORS[stack.cell], steps, *names, output=results, **attributes)
        # From "t k n h", with k directions.
        turned = graph.add(
            "Transpose",
            outputs,
            output=f"turned_{number}",
            perm=[0, 2, 1, 3],
        )
        steps = graph.add("Reshape", turned, "merge_directions", output=f"steps_{number}")
        last_carry = results[1]
    return States(steps, last_carry)


def _recurrent_layers(graph: Graph, trained: Trained, steps: str) -> str:
    """Add the stack of layers over "t n d", and return the states that the head reads, "n h"."""
    experiment = trained.experiment
    model = experiment.model
    layers = []
    for number in range(model.layers):
        layer = trained.state.params[f"recurrent_{number}"]
        directions = [layer]
        if model.bidirectional:
            directions = [layer["forward"], layer["backward"]]
        layers.append(directions)
    states = add_stack(graph, Stack(model.cell, model.hidden, layers), steps)

    if experiment.task == "every-step":
        graph.constant("final_step", np.asarray(experiment.data.window - 1, np.int64))
        return graph.add(
            "Gather",
            states.steps,
            "final_step",
            output="states",
            axis=0,
        )
    graph.constant("merge_last", np.asarray([0, -1], np.int64))
    turned = graph.add(
        "Transpose",
        states.last,
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


def _raw_by_step(graph: Graph, trained: Trained, states: str) -> str:
    """Add the dense head, and return its numbers for each step of the horizon, "n k p"."""
    dense = trained.state.params["head"]
    graph.constant("head_kernel", np.asarray(dense["kernel"]))
    graph.constant("head_bias", np.asarray(dense["bias"]))
    product = graph.add("MatMul", states, "head_kernel", output="products")
    raw = graph.add("Add", product, "head_bias", output="raw")
    by_step = [0, trained.experiment.horizon, trained.experiment.head.width]
    graph.constant("by_step", np.asarray(by_step, np.int64))
    return graph.add("Reshape", raw, "by_step", output="raw_by_step")
