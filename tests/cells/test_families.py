"""Step cells and linear cells: a scan is its steps, in every order of the sums, and what a cell declares is so.

Cells with gates have `tests/cells/test_properties.py`; lengths, directions and resets of all are in `test_resets.py`.
"""

import itertools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pairwise import slow_except
from problems import GATED, SIZES, close, draw, normal, quickly

from jaxseq import cells
from jaxseq.cells import CELLS, linear, recurrence
from jaxseq.cells.adjoint import Layer, Restarts, Sequence, Trainable
from jaxseq.cells.norm import Norm
from jaxseq.cells.recurrence import Rows
from jaxseq.cells.strategy import States
from jaxseq.common.errors import UsageError
from jaxseq.nn.forecaster import Forecaster
from jaxseq.nn.recurrent import Recurrent

OTHERS = [name for name in CELLS if name not in GATED]
LINEAR = [name for name in CELLS if CELLS[name].linear is not None]
DOCS = Path(__file__).parents[2] / "docs"
T = SIZES["t"]
pytestmark = pytest.mark.usefixtures("compiled_quickly")
every_other = pytest.mark.parametrize("name", OTHERS)
every_linear = pytest.mark.parametrize("name", LINEAR)


@pytest.mark.usefixtures("double")
@every_other
def test_a_scan_is_its_steps(name):
    p = draw(name)

    def steps(params, x, carry):
        outputs = []
        for features in x:
            carry = recurrence.step(p.cell, params, features, carry)
            outputs.append(carry.h)
        return carry, jnp.stack(outputs)

    ours, theirs = (
        quickly(scan)(p.params, p.x, p.start)
        for scan in (lambda *given: recurrence.scan(p.cell, *given), steps)
    )  # fmt: skip
    close(ours, theirs)
    close(ours[0].h, ours[1][-1], 0)


def in_order(states, size):
    """Scan a linear cell with lengths and resets, and differentiate."""

    def differentiated(cell, params, x, start, restart, given):
        def loss(params, x, start, restart):
            anew = Restarts(given["resets"], restart)
            sequence = Sequence(x, start, given["valid"], None, anew)
            last, outputs = linear.scan_by(Layer(cell), Trainable(params), sequence, states=states, size=size)
            total = jnp.sum(outputs * given["mix"]) + sum(jnp.sum(jnp.sin(state)) for state in last)
            return total, (last, outputs)

        return jax.grad(loss, argnums=(0, 1, 2, 3), has_aux=True)(params, x, start, restart)

    return quickly(differentiated, "cell")


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", slow_except({"mingru", "lru", "rglru"}, list(LINEAR)))
def test_the_states_are_the_same_in_every_order(name):
    p, source = draw(name), np.random.default_rng(1)
    valid = np.arange(T)[:, None] < np.asarray([T, 3, 0])
    given = {"mix": p.mix, "valid": valid, "resets": (source.random(valid.shape) < 0.3) & valid}
    arguments = (p.cell, p.params, p.x, p.start, normal(source, p.start), given)

    expected = in_order(States.STEP_BY_STEP, T)(*arguments)
    close(in_order(States.IN_PARALLEL, T)(*arguments), expected, 1e-10)
    # Seven steps are no multiple of three.
    close(in_order(States.IN_PARALLEL, 3)(*arguments), expected, 1e-10)


@pytest.mark.parametrize("states", States)
def test_memory_does_not_grow_with_the_states_of_every_step(states):
    """8,192 steps of 32 rows and 64 units have 64 MiB of states, and the gradient of the whole scan takes 441 MiB."""
    cell = CELLS["mingru"]
    shapes = jax.eval_shape(lambda: (cell.init(jax.random.key(0), 1, 64), cell.start((32, 64))))

    def loss(params, start, x):
        sequence = Sequence(x, start)
        return linear.scan_by(Layer(cell), Trainable(params), sequence, states=states, size=512)[1].sum()

    x = jax.ShapeDtypeStruct((8192, 32, 1), jnp.float32)
    compiled = jax.jit(jax.grad(loss)).lower(*shapes, x).compile()
    # The outputs are 64 MiB, and their cotangents too.
    assert compiled.memory_analysis().temp_size_in_bytes < 200 * 2**20


@every_linear
def test_recurrent_dropout_of_a_linear_cell_is_refused(name):
    layer = Recurrent(CELLS[name], 4, recurrent_dropout=0.5)
    x = jnp.ones((2, 3, 2))
    variables = jax.eval_shape(layer.init, jax.random.key(0), x)
    with pytest.raises(UsageError) as error:
        jax.eval_shape(lambda v: layer.apply(v, x, train=True, rngs={"dropout": jax.random.key(0)}), variables)
    assert error.value.where == f"cell {name}: recurrent_dropout"
    with pytest.raises(UsageError) as error:
        cells.check_options(name, recurrent_dropout=0.5)
    assert error.value.got == name


@every_other
def test_a_norm_inside_a_cell_without_gates_is_refused(name):
    with pytest.raises(UsageError) as error:
        jax.eval_shape(Recurrent(CELLS[name], 4, norm=Norm("layer")).init, jax.random.key(0), jnp.ones((2, 3, 2)))
    assert error.value.where == f"cell {name}: norm"
    with pytest.raises(UsageError) as error:
        cells.check_options(name, normalised=True)
    assert error.value.got == name


@every_other
def test_every_cell_goes_into_a_forecaster_both_ways(name):
    model = Forecaster(CELLS[name], 4, layers=1, outputs=3, every_step=True, bidirectional=True)
    x, lengths = jnp.ones((2, 5, 3)), jnp.asarray([5, 2])

    def loss(variables):
        _, predictions = model.apply(variables, x, lengths)
        return predictions.sum()

    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    gradients = jax.eval_shape(jax.grad(loss), variables)
    assert jax.tree.structure(gradients) == jax.tree.structure(variables)


@pytest.mark.parametrize("name", [name for name in OTHERS if CELLS[name].about.orthogonal])
def test_recurrent_kernels_start_orthogonal_where_a_cell_declares_it(name):
    cell, h = CELLS[name], 6
    params = cell.init(jax.random.key(1), 3, h)
    for kernel in jnp.split(params.recurrent_kernel, cell.gate_count, axis=-1):
        np.testing.assert_allclose(kernel @ kernel.T, np.eye(h), atol=1e-5)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", [name for name in OTHERS if CELLS[name].about.bounded != "no"])
def test_outputs_stay_bounded_where_a_cell_declares_it(name):
    p = draw(name)
    scan = quickly(lambda *given: recurrence.scan(p.cell, *given)[1])
    for power in (0, 3):
        low, high = -1, 1
        if p.cell.about.bounded == "from the start":
            low, high = np.minimum(p.start.h, low), np.maximum(p.start.h, high)
        outputs = scan(p.params, p.x * 10.0**power, p.start)
        assert (low - 1e-12 <= outputs).all() and (outputs <= high + 1e-12).all()


@every_other
def test_weights_start_apart_and_without_bias_but_the_forget_gates(name):
    params = CELLS[name].init(jax.random.key(1), 5, 6)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))
    kernels = jnp.split(params.input_kernel, params.input_kernel.shape[1] // 6, axis=1)
    for first, second in itertools.combinations(kernels, 2):
        assert np.abs(first - second).max() > 0.01
    if hasattr(params, "bias"):
        assert set(np.unique(params.bias)) <= {0.0, 1.0 if "lstm" in name else 0.0}


def test_no_gradient_of_a_cell_is_zero_or_nan_at_the_start():
    """No weight is there for nothing, and no root has an infinite slope."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(6, 3, 2)), jnp.float32)
    for name in OTHERS:
        cell = CELLS[name]
        params = cell.init(jax.random.key(0), 2, 4)
        gradient = jax.jit(
            jax.grad(lambda params, cell=cell: jnp.sum(recurrence.scan(cell, params, x, cell.start((3, 4)))[1] ** 2))
        )(params)
        for field, leaf in gradient._asdict().items():
            assert np.isfinite(leaf).all(), f"{name}: {field}"
            assert np.abs(leaf).max() > 0, f"{name}: {field}"


@pytest.mark.parametrize("name", ["mingru-positive", "minlstm-positive"])
def test_a_positive_cell_has_finite_derivatives_and_no_negative_state_where_its_gates_are_shut(name):
    p = draw(name, dtype=jnp.float32)
    lengths = np.asarray([T, 3, 0])
    rows = Rows(jnp.asarray(lengths, jnp.int32), resets=jnp.asarray(np.arange(T * 3).reshape(T, 3) % 3 == 0))
    start = jax.tree.map(jnp.abs, p.start)

    def loss(params, x):
        outputs = recurrence.scan(p.cell, params, x, start, rows)[1]
        return outputs.sum(), outputs

    differentiated = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))
    for size in (1.0, 1e4, 1e30):
        gradient, outputs = differentiated(p.params, size * p.x)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
        assert np.isfinite(outputs).all() and (outputs >= 0).all()
        assert (outputs > 0).all(axis=-1).any() and not outputs[3:, 1].any()


def test_a_shut_gate_of_an_rglru_has_a_derivative():
    cell = CELLS["rglru"]
    params = cell.init(jax.random.key(0), 1, 2)
    shut = params._replace(gate_bias=jnp.full(4, -200.0))
    gradient = jax.grad(
        lambda p: recurrence.scan(cell, p, jnp.ones((3, 1, 1), jnp.float32), cell.start((1, 2)))[1].sum()
    )(shut)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_the_page_says_of_every_cell_where_it_is_from_and_what_it_is_compared_with():
    rows = dict(re.findall(r"^\| `([\w-]+)` \| (.*) \|$", (DOCS / "cells.md").read_text(), re.MULTILINE))
    assert list(rows) == list(CELLS)
    for name, cell in CELLS.items():
        for words in (cell.about.title, cell.about.source, cell.about.oracle):
            assert words and words in rows[name], f"{name}: {words}"


def test_resets_of_a_step_replace_the_state():
    cell = CELLS["lru"]
    params = cell.init(jax.random.key(0), 2, 4)
    x = jnp.ones((1, 3, 2), jnp.float32)
    far = jax.tree.map(lambda state: state + 9, cell.start((3, 4)))
    _, outputs = recurrence.scan(cell, params, x, far, Rows(resets=jnp.ones((1, 3), bool)))
    np.testing.assert_allclose(outputs[0], recurrence.step(cell, params, x[0], cell.start((3, 4))).h, rtol=1e-5)
