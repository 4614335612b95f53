"""Relations that hold for every cell in CELLS, and the hand-written adjoint against two other ways to the gradient."""

import functools
import pickle

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.test_util import check_grads
from problems import draw, loss

from jaxseq import recurrence
from jaxseq.cells import CELLS

SCANS = (recurrence.scan, recurrence.scan_by_autodiff)
every_cell = pytest.mark.parametrize("name", CELLS)


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def close(a, b, tolerance=1e-12):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance), a, b)


@every_cell
def test_one_step_is_a_scan_of_length_one(name):
    p = draw(name, t=1)
    last, outputs = recurrence.scan(p.cell, p.params, p.x, p.start)
    stepped = recurrence.step(p.cell, p.params, p.x[0], p.start)
    close(last, stepped)
    close(outputs[0], stepped.h)


@every_cell
def test_a_scan_goes_on_where_another_stopped(name):
    p = draw(name)
    whole = recurrence.scan(p.cell, p.params, p.x, p.start)
    middle, first = recurrence.scan(p.cell, p.params, p.x[:3], p.start)
    last, second = recurrence.scan(p.cell, p.params, p.x[3:], middle)
    close(whole, (last, jnp.concatenate([first, second])))


@every_cell
def test_the_last_carry_is_the_last_output(name):
    p = draw(name)
    last, outputs = recurrence.scan(p.cell, p.params, p.x, p.start)
    close(last.h, outputs[-1], 0)


@every_cell
def test_no_output_depends_on_a_later_input_and_each_on_all_before(name):
    p = draw(name, b=1)
    jacobian = jax.jacrev(lambda x: recurrence.scan(p.cell, p.params, x, p.start)[1][:, 0])(p.x)  # t h t 1 d
    reach = np.abs(jacobian).max(axis=(1, 3, 4))
    later = np.triu(np.ones_like(reach), 1) == 1
    assert (reach[later] == 0).all()
    assert (reach[~later] > 0).all()


@every_cell
def test_rows_of_a_batch_do_not_see_each_other(name):
    p = draw(name)
    order = jnp.asarray([2, 0, 1])
    start = jax.tree.map(lambda s: s[order], p.start)
    last, outputs = recurrence.scan(p.cell, p.params, p.x, p.start)
    permuted = recurrence.scan(p.cell, p.params, p.x[:, order], start)
    close((jax.tree.map(lambda s: s[order], last), outputs[:, order]), permuted)


@every_cell
def test_hidden_units_may_be_renamed(name):
    p = draw(name)
    h = p.sizes["h"]
    order = jnp.asarray([3, 1, 0, 2])
    gates = (jnp.arange(p.cell.gate_count)[:, None] * h + order).ravel()
    renamed = jax.tree.map(lambda leaf: leaf[..., gates], p.params)
    renamed = renamed._replace(recurrent_kernel=renamed.recurrent_kernel[order])
    start = jax.tree.map(lambda s: s[:, order], p.start)
    last, outputs = recurrence.scan(p.cell, p.params, p.x, p.start)
    expected = jax.tree.map(lambda s: s[:, order], last), outputs[..., order]
    close(recurrence.scan(p.cell, renamed, p.x, start), expected)


@every_cell
def test_jit_is_eager(name):
    p = draw(name)
    jitted = jax.jit(recurrence.scan, static_argnums=0)
    with jax.disable_jit():
        eager = recurrence.scan(p.cell, p.params, p.x, p.start)
    close(jitted(p.cell, p.params, p.x, p.start), eager)


@every_cell
def test_vmap_over_models_is_one_by_one(name):
    problems = [draw(name, seed) for seed in range(3)]
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[(p.params, p.x, p.start) for p in problems])
    grads = jax.grad(loss(recurrence.scan, problems[0]), argnums=(0, 1, 2))
    close(
        jax.vmap(grads)(*stack),
        jax.tree.map(lambda *g: jnp.stack(g), *[grads(p.params, p.x, p.start) for p in problems]),
    )


@functools.cache
def both_ways(name):
    """Value and gradients of one loss by the adjoint and by autodiff, compiled once for each shape."""

    def gradients(problem):
        ways = [loss(scan, problem._replace(cell=CELLS[name])) for scan in SCANS]
        return [jax.value_and_grad(way, argnums=(0, 1, 2))(problem.params, problem.x, problem.start) for way in ways]

    return jax.jit(gradients)


@every_cell
@given(st.integers(0, 2**20), st.sampled_from([(1, 1, 1, 1), (6, 3, 1, 4), (5, 2, 3, 33), (9, 1, 2, 2)]))
def test_the_adjoint_is_autodiff(name, seed, shape):
    t, b, d, h = shape
    problem = draw(name, seed, t=t, b=b, d=d, h=h)._replace(cell=None)
    ours, autodiff = both_ways(name)(problem)
    close(ours, autodiff, 1e-10)


@every_cell
@pytest.mark.parametrize("d", [1, 2])
def test_the_adjoint_is_finite_differences(name, d):
    p = draw(name, d=d)
    value = loss(recurrence.scan, p)
    check_grads(
        lambda *a: value(*jax.tree.map(jnp.asarray, a)),
        (p.params, p.x, p.start),
        order=1,
        modes=["rev"],
        atol=1e-6,
        rtol=1e-6,
    )


@every_cell
def test_the_gradient_has_a_gradient(name):
    p = draw(name, t=3)

    def slope(scan):
        return lambda params: sum(jnp.sum(g**2) for g in jax.tree.leaves(jax.grad(loss(scan, p))(params, p.x, p.start)))

    ours, autodiff = (jax.grad(slope(scan))(p.params) for scan in SCANS)
    close(ours, autodiff, 1e-10)


@every_cell
def test_one_feature_is_many_features_of_which_the_others_are_zero(name):
    p = draw(name, d=1)
    zeros = jnp.zeros_like(p.params.input_kernel)
    wide = p.params._replace(input_kernel=jnp.concatenate([p.params.input_kernel, zeros]))
    x = jnp.concatenate([p.x, jnp.ones_like(p.x)], axis=-1)
    close(recurrence.scan(p.cell, p.params, p.x, p.start), recurrence.scan(p.cell, wide, x, p.start))


@every_cell
def test_states_stay_bounded_under_huge_inputs(name):
    p = draw(name, t=50)
    last, outputs = recurrence.scan(p.cell, p.params, 1e6 * p.x, jax.tree.map(jnp.zeros_like, p.start))
    chex.assert_tree_all_finite((last, outputs))
    assert float(jnp.abs(outputs).max()) <= 1
    gradient = jax.grad(loss(recurrence.scan, draw(name, t=50)))(p.params, 1e6 * p.x, p.start)
    chex.assert_tree_all_finite(gradient)


@every_cell
def test_a_cell_is_a_constant(name):
    assert pickle.loads(pickle.dumps(CELLS[name])) == CELLS[name]
    assert hash(CELLS[name]) == hash(pickle.loads(pickle.dumps(CELLS[name])))


@every_cell
def test_shapes_that_do_not_fit_are_refused(name):
    p = draw(name)
    with pytest.raises(ValueError, match=r"x has the shape \(7, 3, 1\); expected \(steps, rows, 2\)"):
        recurrence.scan(p.cell, p.params, p.x[..., :1], p.start)
    with pytest.raises(ValueError, match=r"carry.h has the shape \(4, 4\); expected \(3, 4\)"):
        recurrence.scan(p.cell, p.params, p.x, p.cell.start((p.sizes["b"] + 1, p.sizes["h"]), jnp.float64))
    with pytest.raises(ValueError, match="x has the dtype float32; expected float64"):
        recurrence.scan(p.cell, p.params, p.x.astype(jnp.float32), p.start)
    other = CELLS["rnn" if name == "lstm" else "lstm"].start((3, 4), jnp.float64)
    with pytest.raises(ValueError, match=r"carry is a jaxseq.cells.\w+.Carry; expected jaxseq.cells.\w+.Carry"):
        recurrence.scan(p.cell, p.params, p.x, other)
