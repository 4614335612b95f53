"""Shapes, trees and dtypes that a scan promises, for every cell and norm; and that it is traced once.

Everything is traced and nothing computed, except where traces are counted. Of three parameters, every pair of values is
tried on each change; the full product is `slow`.
"""

import itertools
import math

import chex
import jax
import jax.numpy as jnp
import pytest
from pairwise import choose, grid, pairs_of
from problems import GATED

from jaxseq.cells import CELLS, norm, normalised, recurrence
from jaxseq.cells.norm import NORMS, Norm
from jaxseq.cells.normalised import Normalisation
from jaxseq.cells.recurrence import Rows, Traversal

D = 3
every_cell = pytest.mark.parametrize("cell", GATED.values(), ids=list(GATED))
SLOTS = {str(slot): slot for slot in (None, *NORMS)}
SIZES = {"one step": (1, 2, 1), "many rows": (2, 5, 3), "many steps": (5, 2, 4)}


def arrays(cell, slot, t, b, h, d=D):
    """Parameters, a normalisation or None, inputs and the initial carry."""
    params = cell.init(jax.random.key(0), d, h)
    start = cell.start((b, h))
    normalisation = None
    if slot is not None:
        has_memory = len(start) > 1
        gains = norm.init(Norm(slot), cell.gate_count, has_memory, h)
        running = norm.init_running(cell.gate_count, has_memory, t, h) if slot == "batch" else None
        normalisation = (gains, running)
    return params, normalisation, jnp.ones((t, b, d)), start


def scan(cell, slot, params, normalisation, x, start, rows, traversal):
    """Last carry, outputs and running moments."""
    if slot is None:
        return *recurrence.scan(cell, params, x, start, rows, traversal), None
    gains, running = normalisation
    normalisation = Normalisation(Norm(slot), gains, running, train=True)
    return normalised.scan(cell, normalisation, params, x, start, rows, traversal)


def abstract_scan(cell, slot, values, rows=None, traversal=None):
    """Shapes of a scan's results, and of the gradients of a loss by (params, gains, x, start, drop)."""
    rows, traversal = rows or Rows(), traversal or Traversal()
    params, normalisation, x, start = values
    gains, running = normalisation or (None, None)

    def loss(params, gains, x, start, drop):
        rows_of = rows._replace(drop=drop)
        last, outputs, moments = scan(cell, slot, params, (gains, running), x, start, rows_of, traversal)
        return outputs.sum() + sum(state.sum() for state in last), (last, outputs, moments)

    gradient = jax.grad(loss, argnums=(0, 1, 2, 3, 4), has_aux=True)
    return jax.eval_shape(gradient, params, gains, x, start, rows.drop)


def check_promises(values, gradients, results, drop=None):
    params, normalisation, x, start = values
    gains, running = normalisation or (None, None)
    last, outputs, moments = results
    chex.assert_shape(outputs, (*x.shape[:2], start.h.shape[-1]))
    chex.assert_type(outputs, x.dtype)
    chex.assert_trees_all_equal_shapes_and_dtypes(last, start)
    chex.assert_trees_all_equal_shapes_and_dtypes(gradients, (params, gains, x, start, drop))
    if running is not None:
        chex.assert_trees_all_equal_shapes_and_dtypes(moments, running)


@grid(cell=GATED, slot=SLOTS, size=SIZES)
def test_a_scan_keeps_the_shapes_it_promises(cell, slot, size):
    values = arrays(cell, slot, *size)
    check_promises(values, *abstract_scan(cell, slot, values))


@grid(cell=GATED, slot=SLOTS, d={"one": 1, "two": 2})
def test_few_features_keep_them_too(cell, slot, d):
    values = arrays(cell, slot, 4, 3, 2, d)
    check_promises(values, *abstract_scan(cell, slot, values))


@grid(cell=GATED, slot=SLOTS, reverse={"forwards": False, "backwards": True})
def test_lengths_dropout_and_direction_change_no_shape(cell, slot, reverse):
    values = arrays(cell, slot, 4, 3, 2)
    rows = Rows(jnp.asarray([4, 1, 0]), jnp.ones((3, 2)))
    gradients, results = abstract_scan(cell, slot, values, rows, Traversal(reverse))
    check_promises(values, gradients, results, rows.drop)


@every_cell
@pytest.mark.parametrize("slot", [None, "layer", "layer-sum"])
def test_truncation_changes_no_shape(cell, slot):
    values = arrays(cell, slot, 5, 3, 2)
    check_promises(values, *abstract_scan(cell, slot, values, traversal=Traversal(truncate=2)))


@every_cell
def test_a_step_returns_a_carry_like_its_own(cell):
    params, _, x, start = arrays(cell, None, 1, 3, 2)
    after = jax.eval_shape(lambda x, carry: recurrence.step(cell, params, x, carry), x[0], start)
    chex.assert_trees_all_equal_shapes_and_dtypes(after, start)


@every_cell
@pytest.mark.parametrize("slot", [None, "layer"])
def test_scans_of_the_same_shapes_are_traced_once(cell, slot):
    params, normalisation, x, start = arrays(cell, slot, 3, 2, 2)

    # chex counts by name over all parameters of this test.
    chex.clear_trace_counter()

    # `scan` rebuilds its rows, traversal and norm in each call: equal constants must not retrace.
    @jax.jit
    @chex.assert_max_traces(n=1)
    def outputs(params, x, carry):
        return scan(cell, slot, params, normalisation, x, carry, Rows(), Traversal())[1]

    first = outputs(params, x, start)
    second = outputs(jax.tree.map(jnp.zeros_like, params), 2 * x, start)
    chex.assert_equal_shape([first, second])


def test_gains_of_another_norm_are_refused():
    cell = CELLS["lstm"]
    params, (gains, _), x, start = arrays(cell, "layer-sum", 3, 2, 2)
    with pytest.raises(AssertionError):
        normalised.scan(cell, Normalisation(Norm("layer"), gains), params, x, start)


@pytest.mark.parametrize("name", GATED)
def test_every_cell_has_the_same_names_in_the_same_order(name):
    module = __import__(f"jaxseq.cells.{name}", fromlist=[name])
    names = ["Params", "Carry", "Saved", "Local", "start", "init", "gates", "linearise", "adjoint", "CELL"]
    assert [key for key in vars(module) if key in names] == names


def test_every_pair_of_values_is_tried():
    """Of the combinations of parameters that are not slow."""
    axes = [GATED, SLOTS, SIZES, ["forwards", "backwards"]]
    chosen = choose([list(axis) for axis in axes])
    seen = set().union(*map(pairs_of, chosen))
    for (first, one), (second, other) in itertools.combinations(enumerate(axes), 2):
        for i, j in itertools.product(range(len(one)), range(len(other))):
            assert ((first, i), (second, j)) in seen
    assert len(chosen) < math.prod(map(len, axes)) / 3
