"""A model of piano rolls as an ONNX graph: causal convolutions, recurrent layers, and a dense head."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from jaxseq.common.arrays import Tree
from jaxseq.export import pianoroll
from jaxseq.export.onnx_graph import Graph, Stack, add_stack, check_layers, model_of
from jaxseq.export.program import Program
from jaxseq.train.domains.base import RestoredRun


def rolls(run: RestoredRun, program: Program) -> onnx.ModelProto:
    """Return the graph of a model of piano rolls, checked by onnx. Raises `UsageError` for layers that ONNX lacks."""
    restored = pianoroll.of(run)
    model = restored.experiment.model
    params = restored.state.params
    graph = Graph()
    # Time first, as ONNX's recurrent layers have it.
    steps = graph.add(
        "Transpose",
        "frames",
        output="time_first",
        perm=[1, 0, 2],
    )
    graph.constant("silent", np.asarray(0, np.float32))
    steps = graph.add("Max", steps, "silent", output="keys")

    for number in range(len(model.convolutions)):
        steps = _convolution(graph, params, number, steps)
    if model.layers:
        check_layers(model.cell, model.norm)
        layers = [[params["stack"][f"recurrent_{number}"]] for number in range(model.layers)]
        steps = add_stack(graph, Stack(model.cell, model.hidden, layers), steps).steps

    logits = _dense(graph, params["head"], steps, "logits")
    graph.add(
        "Transpose",
        logits,
        output=program.result,
        perm=[1, 0, 2],
    )
    result = helper.make_tensor_value_info(program.result, TensorProto.FLOAT, ["n", *program.shapes["frames"]])
    return model_of(graph, program, [result])


def _convolution(graph: Graph, params: Tree, number: int, steps: str) -> str:
    """Add a causal convolution of two taps over "t n d", with its skip, and return the name of its result."""
    name = f"convolution_{number}"
    dilation = 2**number
    # Zeros stand before the first frame, and the last ones are cut off.
    graph.constant(f"{name}_padding", np.asarray([dilation, 0, 0, 0, 0, 0], np.int64))
    graph.constant(f"{name}_first", np.asarray([0], np.int64))
    graph.constant(f"{name}_end", np.asarray([-dilation], np.int64))
    padded = graph.add("Pad", steps, f"{name}_padding", output=f"{name}_padded")
    bounds = (f"{name}_first", f"{name}_end", f"{name}_first")
    before = graph.add("Slice", padded, *bounds, output=f"{name}_before")
    taps = graph.add(
        "Concat",
        before,
        steps,
        output=f"{name}_taps",
        axis=2,
    )
    outputs = _dense(graph, params[name]["taps"], taps, f"{name}_outputs")
    outputs = graph.add("Relu", outputs, output=f"{name}_relu")

    # A skip of as many features as there are outputs has no parameters.
    skip = steps
    if f"skip_{number}" in params:
        skip = _dense(graph, params[f"skip_{number}"], steps, f"skip_{number}")
    return graph.add("Add", skip, outputs, output=name)


def _dense(graph: Graph, params: Tree, steps: str, name: str) -> str:
    """Add a dense layer over "t n d", and return the name of its result."""
    graph.constant(f"{name}_kernel", np.asarray(params["kernel"]))
    graph.constant(f"{name}_bias", np.asarray(params["bias"]))
    product = graph.add("MatMul", steps, f"{name}_kernel", output=f"{name}_products")
    return graph.add("Add", product, f"{name}_bias", output=name)
