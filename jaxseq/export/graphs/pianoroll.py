"""A model of piano rolls as an ONNX graph: causal convolutions, recurrent layers, and a dense head."""

from __future__ import annotations

import numpy as np
import onnx

from jaxseq.export.graphs import builder, layers
from jaxseq.export.graphs.builder import Graph
from jaxseq.export.program import Program
from jaxseq.train.domains.pianoroll import RollModel


def model_of(rolls: RollModel, program: Program) -> onnx.ModelProto:
    """Return the graph of a model of piano rolls, checked by onnx. Raises `UsageError` for layers that ONNX lacks."""
    options = rolls.experiment.model
    params = rolls.state.params
    graph = Graph()
    # Time first, as ONNX's recurrent layers have it.
    frames = graph.input("frames").turn(1, 0, 2)
    steps = frames.maximum(np.float32(0))

    for number in range(len(options.convolutions)):
        convolution = params[f"convolution_{number}"]
        outputs = layers.causal_convolution(convolution, steps, 2**number)
        # A skip of as many features as there are outputs has no parameters.
        skip = steps
        if f"skip_{number}" in params:
            skip = layers.dense(params[f"skip_{number}"], steps)
        steps = skip + outputs

    if options.layers:
        layers.check_recurrent(options.cell, options.norm)
        stack = layers.stack_of(options, params["stack"])
        steps = layers.recurrent(stack, steps).steps

    logits = layers.dense(params["head"], steps)
    logits.turn(1, 0, 2).output(program.result)
    shape = ["n", *program.shapes["frames"]]
    return builder.model(graph, program, {program.result: shape}, np.float32)
