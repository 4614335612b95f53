"""Sequences as they come: direction, dropout and truncation for every cell, and lengths that cannot be."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import GATED, close, draw, quickly, slots, total

from jaxseq.cells import CELLS, normalised, padding, recurrence
from jaxseq.cells.normalised import Normalisation
from jaxseq.cells.recurrence import Rows, Traversal
from jaxseq.common.errors import UsageError

scan = quickly(recurrence.scan, "cell", "traversal")
pytestmark = pytest.mark.usefixtures("double", "compiled_quickly")
every_cell = pytest.mark.parametrize("name", GATED)
NO_INTEGER = "not an integer"


@every_cell
def test_backwards_is_forwards_on_the_turned_sequence(name):
    p = draw(name)
    last, outputs = scan(p.cell, p.params, p.x, p.start, traversal=Traversal(reverse=True))
    turned = scan(p.cell, p.params, p.x[::-1], p.start)
    close((last, outputs), (turned[0], turned[1][::-1]))


@every_cell
def test_recurrent_dropout_is_one_mask_on_the_state_that_recurs(name):
    p = draw(name)
    kept = jnp.asarray([[0.0, 2.0, 0.0, 2.0]] * 3)
    pruned = p.params._replace(recurrent_kernel=p.params.recurrent_kernel * kept[0][:, None])
    dropped = scan(p.cell, p.params, p.x, p.start, rows=Rows(drop=kept))
    close(dropped, scan(p.cell, pruned, p.x, p.start))


@every_cell
def test_truncation_leaves_values_and_stops_gradients_between_chunks(name):
    p = draw(name)
    whole = scan(p.cell, p.params, p.x, p.start)
    close(scan(p.cell, p.params, p.x, p.start, traversal=Traversal(truncate=3)), whole)

    def last(x):
        return jnp.sum(recurrence.scan(p.cell, p.params, x, p.start, traversal=Traversal(truncate=3))[1][-1])

    reach = np.abs(np.asarray(quickly(jax.grad(last))(p.x))).max(axis=(1, 2))
    assert (reach[:6] == 0).all() and reach[6] > 0  # seven steps are chunks of 3, 3 and 1


@every_cell
def test_a_truncated_gradient_is_that_of_the_chunks_by_themselves(name):
    p = draw(name)

    def truncated(params):
        return jnp.sum(recurrence.scan(p.cell, params, p.x, p.start, traversal=Traversal(truncate=4))[1] * p.mix)

    middle, _ = scan(p.cell, p.params, p.x[:4], p.start)

    def chunks(params):
        first = recurrence.scan(p.cell, params, p.x[:4], p.start)[1]
        second = recurrence.scan(p.cell, params, p.x[4:], middle)[1]
        return jnp.sum(first * p.mix[:4]) + jnp.sum(second * p.mix[4:])

    close(quickly(jax.grad(truncated))(p.params), quickly(jax.grad(chunks))(p.params))


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([1, 8, 0], r"lengths\[1\] is 8; expected 0 to 7"),
        ([1, -1, 0], r"lengths\[1\] is -1; expected 0 to 7"),
        ([1, 2], r"lengths has the shape \(2,\); expected one for each of the 3 rows"),
        ([1.0, 2.0, 3.0], "lengths has the dtype float64; expected integers"),
    ],
)
def test_lengths_that_cannot_be_are_refused(lengths, message):
    with pytest.raises(ValueError, match=message):
        padding.check_lengths(jnp.asarray(lengths), 3, 7)


@pytest.mark.usefixtures("unannotated")
@pytest.mark.parametrize("name", ["x", "lengths", "drop"])
def test_a_list_is_no_array(name):
    p = draw("gru")
    arrays = {"x": p.x, "lengths": jnp.asarray([7, 1, 0]), "drop": p.start.h}
    arrays[name] = arrays[name].tolist()
    with pytest.raises(ValueError, match=f"{name} is a list; expected an array"):
        recurrence.scan(p.cell, p.params, arrays["x"], p.start, Rows(arrays["lengths"], arrays["drop"]))


@every_cell
def test_a_layer_has_at_least_one_feature_and_one_unit(name):
    p = draw(name)
    gates = p.cell.gate_count
    for d, h in [(0, 4), (2, 0)]:
        nothing = p.params._replace(input_kernel=jnp.zeros((d, gates * h)))
        with pytest.raises(ValueError, match=rf"\({d}, {gates * h}\); expected at least 1 feature"):
            recurrence.scan(p.cell, nothing, jnp.zeros((7, 3, d)), p.start)


@pytest.mark.usefixtures("unannotated")
@every_cell
@pytest.mark.parametrize(
    ("field", "size", "rule"), [("d", 0, "too small"), ("h", 0, "too small"), ("h", 2.5, NO_INTEGER)]
)
def test_parameters_are_of_at_least_one_feature_and_one_unit(name, field, size, rule):
    with pytest.raises(UsageError) as error:
        CELLS[name].init(jax.random.key(0), **{"d": 2, "h": 4, field: size})
    assert (error.value.where, error.value.rule) == (field, rule)
    assert (error.value.got, error.value.needed) == (size, "at least 1")


def test_the_scan_refuses_them_too():
    p = draw("gru")
    with pytest.raises(ValueError, match=r"lengths\[1\] is 8; expected 0 to 7"):
        recurrence.scan(p.cell, p.params, p.x, p.start, Rows(jnp.asarray([1, 8, 0])))


@pytest.mark.usefixtures("unannotated")
@pytest.mark.parametrize(("size", "rule"), [(0, "too small"), (-3, "too small"), (1.5, NO_INTEGER), (True, NO_INTEGER)])
def test_a_truncation_that_cannot_be_is_refused(size, rule):
    p = draw("gru")
    with pytest.raises(UsageError) as error:
        recurrence.scan(p.cell, p.params, p.x, p.start, traversal=Traversal(truncate=size))
    assert error.value.where == "truncate"
    assert (error.value.rule, error.value.got, error.value.needed) == (rule, size, "at least 1")


@pytest.mark.usefixtures("unannotated")
def test_a_truncation_may_be_numpys_integer_and_longer_than_the_rows():
    p = draw("gru")
    whole = recurrence.scan(p.cell, p.params, p.x, p.start)
    close(recurrence.scan(p.cell, p.params, p.x, p.start, traversal=Traversal(truncate=np.uint8(200))), whole)


def test_a_mask_that_cannot_be_is_refused():
    p = draw("gru")
    with pytest.raises(ValueError, match="drop has the dtype float32; expected float64"):
        recurrence.scan(p.cell, p.params, p.x, p.start, Rows(drop=jnp.ones((3, 4), jnp.float32)))


DTYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
MANY_STEPS = 300
some_lengths = st.lists(st.integers(-3, 2**31), min_size=4, max_size=4)
compiled_steps = jax.jit(padding.valid_steps, static_argnums=1)
compiled_turn = jax.jit(padding.turn)


@pytest.mark.parametrize("dtype", DTYPES)
@given(some_lengths)
def test_lengths_of_any_dtype_count_alike_and_are_limited_to_the_steps(dtype, lengths):
    limits = np.iinfo(dtype)
    held = np.clip(lengths, limits.min, limits.max)
    limited = np.clip(held, 0, MANY_STEPS)
    x = np.arange(MANY_STEPS * 4, dtype=np.float64).reshape(MANY_STEPS, 4, 1)

    valid = compiled_steps(held.astype(dtype), MANY_STEPS)
    turned = compiled_turn(x, held.astype(dtype))

    expected = x.copy()
    for row, length in enumerate(limited):
        expected[:length, row] = x[:length, row][::-1]
    np.testing.assert_array_equal(np.asarray(valid).sum(axis=0), limited)
    np.testing.assert_array_equal(turned, expected)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_of_many_steps_does_not_depend_on_the_dtype_of_its_lengths(dtype, reverse):
    p = draw("rnn", t=200, b=2)
    lengths = jnp.asarray([50, 100], dtype)

    def gradient(lengths):
        def value(params, x, start):
            results = recurrence.scan(p.cell, params, x, start, Rows(lengths), Traversal(reverse))
            return total(*results, p.mix), results

        return jax.grad(value, argnums=(0, 1, 2), has_aux=True)(p.params, p.x, p.start)

    gradient = quickly(gradient)
    chex.assert_trees_all_equal(gradient(lengths), gradient(lengths.astype(jnp.int32)))


PATHS = {"scan": ("scan", None), "kernel": ("pallas", None), "chunks": ("scan", 4), "chunks of kernels": ("pallas", 4)}
CASES = [
    *(("none", reverse, path) for reverse in (False, True) for path in PATHS),
    *(("layer", True, path) for path in PATHS),
    ("batch", False, "scan"),
    ("batch", True, "scan"),
]
QUICK = [
    ("none", False, "kernel"),
    ("none", True, "chunks of kernels"),
    ("layer", True, "scan"),
    ("batch", True, "scan"),
]


@pytest.mark.parametrize(
    ("slot", "reverse", "path"),
    [pytest.param(*case, marks=[] if case in QUICK else [pytest.mark.slow]) for case in CASES],
)
def test_lengths_that_are_not_known_are_limited_to_the_steps(slot, reverse, path):
    p = draw("gru", dtype=np.float32)
    kernel, truncate = PATHS[path]
    traversal = Traversal(reverse, truncate, kernel)
    normalisation = None if slot == "none" else Normalisation(*slots(p, slot), train=True)

    @quickly
    def gradient(lengths):
        def value(params, x, start):
            rows = Rows(lengths)
            if normalisation is None:
                results = recurrence.scan(p.cell, params, x, start, rows, traversal)
            else:
                results = normalised.scan(p.cell, normalisation, params, x, start, rows, traversal)
            return total(*results[:2], p.mix), results

        return jax.grad(value, argnums=(0, 1, 2), has_aux=True)(p.params, p.x, p.start)

    beyond = gradient(jnp.asarray([8, -1, 2**31 - 1]))
    chex.assert_trees_all_equal(beyond, gradient(jnp.asarray([7, 0, 7])))
    chex.assert_tree_all_finite(beyond)
