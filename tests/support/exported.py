"""Results of exported files, by name, in the programs that they are written for."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnx.reference
import pytest

from jaxseq.export import formats, kinds
from jaxseq.train.epoch import Setup, init


def drawn(experiment, x):
    """A network of an experiment whose parameters are drawn, biases too: a gate in the place of another shows."""
    setup = Setup(experiment.build(), experiment.objective(), experiment.build_optimiser(1).transformation)
    # Their shapes alone: to draw them by their initialisers would compile each.
    state = jax.eval_shape(partial(init, setup), jax.random.key(0), x)
    draw = np.random.default_rng(1)

    def arrays_like(tree, lowest):
        leaves, structure = jax.tree.flatten(tree)
        drawn_leaves = [jnp.asarray(np.maximum(draw.normal(0, 0.4, a.shape), lowest), a.dtype) for a in leaves]
        return jax.tree.unflatten(structure, drawn_leaves)

    # A running variance is positive.
    return setup, state._replace(params=arrays_like(state.params, -np.inf), stats=arrays_like(state.stats, 0.1))


def by_stablehlo(run, inputs):
    """The results of the program in JAX."""
    content = formats.named("stablehlo").files(run)[f"{kinds.program_of(run).result}.jax_export"]
    with jax.enable_x64("values" in inputs):
        outputs = jax.export.deserialize(content).call({name: jnp.asarray(value) for name, value in inputs.items()})
    return {name: np.asarray(value) for name, value in outputs.items()}


def onnx_file(run):
    """The content of a run's ONNX file."""
    return formats.named("onnx").files(run)[f"{kinds.program_of(run).result}.onnx"]


def by_reference(run, inputs):
    """The results of onnx's own implementation, whose logistic function overflows on the way to the right value."""
    model = onnx.load_from_string(onnx_file(run))
    with np.errstate(over="ignore"):
        results = onnx.reference.ReferenceEvaluator(model).run(None, inputs)
    return dict(zip([output.name for output in model.graph.output], results, strict=True))


def by_onnxruntime(run, inputs):
    """The results of onnxruntime; skips the test where it is not installed."""
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(onnx_file(run), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, inputs), strict=True))
