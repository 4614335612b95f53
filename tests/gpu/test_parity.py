"""On a GPU, every cell, norm and layer computes in float32 what a CPU computes in float64, and so do its gradients."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import EVALUATED, GATED, SLOTS, Inputs, Measured, Size, inputs, norm_of, total

from jaxseq import cells
from jaxseq.cells import CELLS, normalised, recurrence
from jaxseq.cells.norm import Norm
from jaxseq.cells.normalised import Normalisation
from jaxseq.cells.recurrence import Rows, Traversal
from jaxseq.nn.forecaster import Forecaster
from jaxseq.nn.recurrent import Bidirectional, Recurrent

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]

VALUES, GRADIENTS = 1e-5, 1e-4
"""Largest deviation of a value, absolute or relative, and of a gradient, relative to the largest of its array."""


class Case(NamedTuple):
    """A size, the lengths of its rows (with recurrent dropout where they are unequal), the way through time, and whether
    rows start anew, each at a third of its steps."""

    size: Size
    lengths: list[int]
    traversal: Traversal = Traversal()
    resets: bool = False


# Many rows reach every step, so that batch norm never divides by the deviation of two or three.
LENGTHS = [9, 8, 7, 1] + [9] * 12
CASES = {
    "whole rows": Case(Size(9, 16, 3, 40, "float32", gated=False), [9] * 16),
    "lengths, drop": Case(Size(9, 16, 1, 24, "float32"), LENGTHS),
    "reverse": Case(Size(9, 16, 3, 33, "float32"), LENGTHS, Traversal(reverse=True)),
    "truncate": Case(Size(9, 16, 2, 24, "float32"), LENGTHS, Traversal(truncate=4)),
    "resets": Case(Size(9, 16, 3, 50, "float32"), LENGTHS, resets=True),
    "few wide rows": Case(Size(5, 2, 3, 136, "float32", gated=False), [5] * 2),
}


def differentiate(i, name, slot, traversal, resets=False):
    """Values and gradients of a scan, as `problems.differentiate`, in any traversal."""
    t, b = i.x.shape[:2]
    anew = jnp.arange(t * b).reshape(t, b) % 3 == 1 if resets else None

    def value(*leaves):
        j = Inputs(*leaves, *i[5:])
        rows = Rows(j.lengths, j.drop)
        if resets:
            rows = rows._replace(resets=anew, restart=jax.tree.map(jnp.tanh, j.start))
        if slot == "none":
            values = *recurrence.scan(CELLS[name], j.params, j.x, j.start, rows, traversal), None
        else:
            normalisation = Normalisation(norm_of(slot), j.weights, j.running, train=slot != EVALUATED)
            values = normalised.scan(CELLS[name], normalisation, j.params, j.x, j.start, rows, traversal)
        return total(*values[:2], j.mix), values

    gradients, values = jax.grad(value, argnums=(0, 1, 2, 3, 4), has_aux=True)(*i[:5])
    return Measured(*values, *gradients)


def compute(device, function, *arrays):
    """Results on a device, in numpy's arrays; a CPU compiles without LLVM's optimisations, which take long."""
    options = {"xla_backend_optimization_level": 0} if device.platform == "cpu" else None
    with jax.default_device(device):
        compiled = jax.jit(function, compiler_options=options)
        return jax.tree.map(np.asarray, compiled(*jax.device_put(arrays, device)))


def compute_double(cpu, function, *arrays):
    """Results on a CPU, in float64."""
    with jax.enable_x64(True):
        return compute(cpu, function, *jax.tree.map(double, arrays))


def double(leaf):
    leaf = np.asarray(leaf)
    return leaf.astype(np.float64) if leaf.dtype == np.float32 else leaf


def problem(name, slot, case):
    """Inputs whose recurrent kernel is contracting: else rounding errors would grow from step to step."""
    i = inputs(name, slot, case.size, 1, case.lengths)
    return i.with_params(recurrent_kernel=i.params.recurrent_kernel / np.float32(np.sqrt(case.size.h)))


def close(actual, expected, tolerance, absolute):
    """Every leaf agrees within the tolerance of its largest number, or of 1 if `absolute`; the leaf is named."""
    expected_leaves = jax.tree.leaves_with_path(expected)
    for (path, expected_leaf), leaf in zip(expected_leaves, jax.tree.leaves(actual), strict=True):
        scale = max(np.abs(expected_leaf).max(), 1.0 if absolute else 1e-3)
        error = np.abs(leaf - expected_leaf).max() / scale
        assert error <= tolerance, f"{jax.tree_util.keystr(path)} deviates by {error:.2g}, at most {tolerance}"


def agree(actual, expected):
    """A `Measured` of float32 is that of float64."""
    close(actual[:3], expected[:3], VALUES, absolute=True)
    close(actual[3:], expected[3:], GRADIENTS, absolute=False)


@pytest.mark.parametrize("kernel", ["scan", "auto"])
@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize("slot", SLOTS)
@pytest.mark.parametrize("name", GATED)
def test_a_cell_computes_what_a_cpu_computes_in_float64(device, cpu, name, slot, kind, kernel):
    case = CASES[kind]
    if case.traversal.truncate and slot.startswith("batch"):
        pytest.skip("batch norm refuses truncation")
    if case.size.b < 4 and slot == "batch":
        pytest.skip("moments of two rows are -1 and 1 at any precision")
    if kernel == "auto" and (device.platform == "cpu" or slot.startswith("batch")):
        pytest.skip("it is the scan")

    function = partial(differentiate, name=name, slot=slot, resets=case.resets)
    i = problem(name, slot, case)
    actual = compute(device, partial(function, traversal=case.traversal._replace(kernel=kernel)), i)
    agree(actual, compute_double(cpu, partial(function, traversal=case.traversal), i))


@pytest.mark.parametrize("name", GATED)
def test_in_tf32_a_gpu_deviates_by_more(device, cpu, name):
    if device.platform != "gpu":
        pytest.skip("only a GPU computes in TF32")
    case = Case(Size(9, 64, 64, 128, "float32", gated=False), [9] * 64)
    function = partial(differentiate, name=name, slot="none", traversal=case.traversal)
    i = problem(name, "none", case)
    expected = compute_double(cpu, function, i)

    agree(compute(device, function, i), expected)
    with jax.default_matmul_precision("tensorfloat32"), pytest.raises(AssertionError, match="deviates by"):
        agree(compute(device, function, i), expected)


@pytest.mark.parametrize("name", GATED)
def test_a_step_is_a_scan_of_one(device, name):
    i = problem(name, "none", CASES["whole rows"])
    cell = cells.named(name)
    stepped = compute(device, partial(recurrence.step, cell), i.params, i.x[0], i.start)
    last, outputs = compute(device, partial(recurrence.scan, cell), i.params, i.x[:1], i.start)
    close((last, outputs[0]), (stepped, stepped.h), VALUES, absolute=True)


LAYERS = {
    "recurrent": Recurrent(CELLS["gru"], 20, learn_start=True),
    "recurrent, layer norm, reverse": Recurrent(CELLS["lstm"], 20, norm=Norm("layer"), reverse=True),
    "recurrent, truncated": Recurrent(CELLS["rnn"], 20, truncate=3),
    "bidirectional": Bidirectional(Recurrent(CELLS["lstm"], 20)),
    "forecaster": Forecaster(CELLS["gru"], 20, 2, 1),
    "forecaster, every step, layer-sum": Forecaster(CELLS["lstm"], 20, 2, 3, every_step=True, norm=Norm("layer-sum")),
    "forecaster, bidirectional": Forecaster(CELLS["rnn"], 20, 2, 1, bidirectional=True),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_computes_what_a_cpu_computes_in_float64(device, cpu, kind):
    layer = LAYERS[kind]
    source = np.random.default_rng(0)
    x = source.normal(size=(8, 9, 2)).astype(np.float32)
    lengths = np.asarray([9, 8, 7, 1, 5, 4, 9, 2], np.int32)
    with jax.default_device(cpu):
        variables = jax.tree.map(np.asarray, layer.init(jax.random.key(0), jnp.asarray(x)))
    variables = jax.tree.map(lambda a: a + source.normal(scale=0.1, size=a.shape).astype(np.float32), variables)

    def loss_and_gradient(variables, x, lengths):
        def loss(variables, x):
            carry, outputs = layer.apply(variables, x, lengths=lengths)
            return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves((carry, outputs))), outputs

        return jax.grad(loss, argnums=(0, 1), has_aux=True)(variables, x)

    gradient, outputs = compute(device, loss_and_gradient, variables, x, lengths)
    gradient_64, outputs_64 = compute_double(cpu, loss_and_gradient, variables, x, lengths)
    close(outputs, outputs_64, VALUES, absolute=True)
    close(gradient, gradient_64, GRADIENTS, absolute=False)
