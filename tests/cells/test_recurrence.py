"""A cell and its scan: one step, what sees what, the names of units, second derivatives, and what is refused."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pairwise import slow_except
from problems import GATED, Size, close, compiled, differentiate, draw, inputs, loss, measure, quickly

from jaxseq.cells import CELLS, recurrence, strategy
from jaxseq.cells.strategy import Accumulation

WAYS = ("scan", "scan_by_autodiff")
scan = quickly(recurrence.scan, "cell")
pytestmark = pytest.mark.usefixtures("double")
every_cell = pytest.mark.parametrize("name", GATED)


@every_cell
@pytest.mark.parametrize("d", [2, 3])  # features that are projected one by one, and at once
def test_one_step_is_a_scan_of_length_one(name, d):
    p = draw(name, t=1, d=d)
    last, outputs = scan(p.cell, p.params, p.x, p.start)
    stepped = recurrence.step(p.cell, p.params, p.x[0], p.start)
    close(last, stepped)
    close(outputs[0], stepped.h)


@every_cell
def test_the_last_carry_is_the_last_output(name):
    p = draw(name)
    last, outputs = scan(p.cell, p.params, p.x, p.start)
    close(last.h, outputs[-1], 0)


@every_cell
def test_no_output_depends_on_a_later_input_and_each_on_all_before(name):
    p = draw(name, b=1)
    jacobian = quickly(jax.jacrev(lambda x: recurrence.scan(p.cell, p.params, x, p.start)[1][:, 0]))(p.x)  # t h t 1 d
    reach = np.abs(jacobian).max(axis=(1, 3, 4))
    later = np.triu(np.ones_like(reach), 1) == 1
    assert (reach[later] == 0).all()
    assert (reach[~later] > 0).all()


@pytest.mark.exact_versions
@every_cell
def test_hidden_units_may_be_renamed(name):
    p = draw(name)
    h = p.sizes["h"]
    order = jnp.asarray([3, 1, 0, 2])
    gates = (jnp.arange(p.cell.gate_count)[:, None] * h + order).ravel()
    renamed = jax.tree.map(lambda leaf: leaf[..., gates], p.params)
    renamed = renamed._replace(recurrent_kernel=renamed.recurrent_kernel[order])
    start = jax.tree.map(lambda s: s[:, order], p.start)
    last, outputs = scan(p.cell, p.params, p.x, p.start)
    expected = jax.tree.map(lambda s: s[:, order], last), outputs[..., order]
    close(scan(p.cell, renamed, p.x, start), expected)


def optimised_gradients_agree(name, slot, size):
    """The hand-written adjoint, compiled as it is used: XLA has been seen to get one of a few sizes wrong."""
    i = inputs(name, slot, size, 1, [size.t] * size.b)
    ours = jax.jit(differentiate, static_argnums=(1, 2, 3))(i, name, slot, "scan")
    close(ours, compiled(i, name, slot, "scan_by_autodiff"), 1e-9)


@pytest.mark.exact_versions
@every_cell
@pytest.mark.parametrize(("b", "d", "h"), slow_except({(5, 3, 33)}, [(1, 1, 1), (4, 2, 5), (5, 3, 33)]))
def test_the_adjoint_is_autodiff_after_all_optimisations(name, b, d, h):
    optimised_gradients_agree(name, "none", Size(4, b, d, h, gated=False))


@pytest.mark.exact_versions
@every_cell
@pytest.mark.parametrize(
    ("d", "reverse"), slow_except({(2, True), (3, False)}, [(d, reverse) for d in (2, 3) for reverse in (False, True)])
)
def test_with_many_rows_the_adjoint_is_autodiff_whatever_holds_rows_back(name, d, reverse):
    assert strategy.backward(CELLS[name], None, rows=9, units=4).accumulation is Accumulation.IN_LOOP
    i = inputs(name, "none", Size(5, 9, d, 4), 1, [5, 4, 3, 2, 1, 5, 4, 3, 2])  # lengths and recurrent dropout
    close(*(measure(i, name, "none", way, reverse) for way in WAYS), 1e-10)


def test_with_few_rows_the_weight_gradients_are_one_product():
    for name, units, expected in (
        ("lstm", 50, Accumulation.AT_ONCE),
        ("gru", 256, Accumulation.AT_ONCE),
        ("gru", 50, Accumulation.IN_LOOP),
    ):
        assert strategy.backward(CELLS[name], None, rows=32, units=units).accumulation is expected


@pytest.mark.slow
@every_cell
@pytest.mark.parametrize("slot", ["none", "layer", "layer-sum"])
@pytest.mark.parametrize("b", range(1, 9))
def test_it_is_so_at_every_small_size(name, slot, b):
    for h in range(1, 10):
        optimised_gradients_agree(name, slot, Size(4, b, 2, h, gated=False))


@pytest.mark.exact_versions
@pytest.mark.parametrize("name", slow_except({"gru"}, GATED))
def test_the_gradient_has_a_gradient(name):
    p = draw(name, t=3)

    def slope(scan):
        return lambda params: sum(jnp.sum(g**2) for g in jax.tree.leaves(jax.grad(loss(scan, p))(params, p.x, p.start)))

    ours = jax.jit(jax.grad(slope(recurrence.scan)))(p.params)
    close(ours, quickly(jax.grad(slope(recurrence.scan_by_autodiff)))(p.params), 1e-10)


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
