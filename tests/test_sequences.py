"""Sequences as they come: padding, direction, dropout and truncation, for every cell."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import draw, loss

from jaxseq import padding, recurrence
from jaxseq.cells import CELLS

every_cell = pytest.mark.parametrize("name", CELLS)
lengths_of_five_rows = st.lists(st.integers(0, 6), min_size=5, max_size=5)


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def close(a, b, tolerance=1e-12):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance), a, b)


@functools.cache
def compiled(name, reverse):
    """Outputs, and gradients by the adjoint and by autodiff, of five padded rows of six steps."""
    p = draw(name, t=6, b=5)
    drop = 2.0 * jax.random.bernoulli(jax.random.key(3), 0.5, p.start.h.shape).astype(p.x.dtype)

    def gradients(scan, x, lengths, drop):
        def value(params, x, start, drop):
            return loss(lambda c, *a: scan(c, *a, lengths=lengths, reverse=reverse, drop=drop), p)(params, x, start)

        return jax.grad(value, argnums=(0, 1, 2, 3))(p.params, x, p.start, drop)

    @jax.jit
    def both(x, lengths):
        out = recurrence.scan(p.cell, p.params, x, p.start, lengths, reverse)
        ways = [gradients(scan, x, lengths, drop) for scan in (recurrence.scan, recurrence.scan_by_autodiff)]
        return out, ways

    return p, both


@every_cell
@pytest.mark.parametrize("reverse", [False, True])
@given(lengths=lengths_of_five_rows, junk=st.sampled_from([0.0, 1e30, np.nan, np.inf]))
def test_what_lies_in_the_padding_changes_nothing(name, reverse, lengths, junk):
    p, both = compiled(name, reverse)
    inside = np.arange(6)[:, None] < np.asarray(lengths)
    clean = both(jnp.where(inside[..., None], p.x, 0.0), jnp.asarray(lengths))
    junked = both(jnp.where(inside[..., None], p.x, junk), jnp.asarray(lengths))
    close(junked, clean, 0)
    (_, outputs), (ours, autodiff) = junked
    assert not np.asarray(outputs)[~inside].any()
    assert not np.asarray(ours[1])[~inside].any()
    close(ours, autodiff)


@every_cell
@pytest.mark.parametrize("reverse", [False, True])
def test_a_padded_row_is_the_row_by_itself(name, reverse):
    p, both = compiled(name, reverse)
    lengths = [6, 0, 1, 4, 3]
    (last, outputs), _ = both(p.x, jnp.asarray(lengths))
    for row, length in enumerate(lengths):
        start = jax.tree.map(lambda s, row=row: s[row : row + 1], p.start)
        mine = jax.tree.map(lambda s, row=row: s[row : row + 1], last)
        if not length:
            close(mine, start, 0)
            continue
        alone = recurrence.scan(p.cell, p.params, p.x[:length, row : row + 1], start, reverse=reverse)
        close((mine, outputs[:length, row : row + 1]), alone)


@every_cell
def test_backwards_is_forwards_on_the_turned_sequence(name):
    p = draw(name)
    last, outputs = recurrence.scan(p.cell, p.params, p.x, p.start, reverse=True)
    turned = recurrence.scan(p.cell, p.params, p.x[::-1], p.start)
    close((last, outputs), (turned[0], turned[1][::-1]))


@given(lengths=lengths_of_five_rows)
def test_turning_a_row_twice_leaves_it_and_its_padding(lengths):
    x = jnp.arange(30.0).reshape(6, 5, 1)
    once = padding.turn(x, jnp.asarray(lengths))
    close(padding.turn(once, jnp.asarray(lengths)), x, 0)
    for row, length in enumerate(lengths):
        close(once[:length, row], x[:length, row][::-1], 0)
        close(once[length:, row], x[length:, row], 0)


@every_cell
def test_recurrent_dropout_is_one_mask_on_the_state_that_recurs(name):
    p = draw(name)
    kept = jnp.asarray([[0.0, 2.0, 0.0, 2.0]] * 3)
    pruned = p.params._replace(recurrent_kernel=p.params.recurrent_kernel * kept[0][:, None])
    dropped = recurrence.scan(p.cell, p.params, p.x, p.start, drop=kept)
    close(dropped, recurrence.scan(p.cell, pruned, p.x, p.start))


@every_cell
def test_truncation_leaves_values_and_stops_gradients_between_chunks(name):
    p = draw(name)
    whole = recurrence.scan(p.cell, p.params, p.x, p.start)
    close(recurrence.scan(p.cell, p.params, p.x, p.start, truncate=3), whole)

    def last(x):
        return jnp.sum(recurrence.scan(p.cell, p.params, x, p.start, truncate=3)[1][-1])

    reach = np.abs(np.asarray(jax.grad(last)(p.x))).max(axis=(1, 2))
    assert (reach[:6] == 0).all() and reach[6] > 0  # seven steps are chunks of 3, 3 and 1


@every_cell
def test_a_truncated_gradient_is_that_of_the_chunks_by_themselves(name):
    p = draw(name)

    def truncated(params):
        return jnp.sum(recurrence.scan(p.cell, params, p.x, p.start, truncate=4)[1] * p.mix)

    middle, _ = recurrence.scan(p.cell, p.params, p.x[:4], p.start)

    def chunks(params):
        first = recurrence.scan(p.cell, params, p.x[:4], p.start)[1]
        second = recurrence.scan(p.cell, params, p.x[4:], middle)[1]
        return jnp.sum(first * p.mix[:4]) + jnp.sum(second * p.mix[4:])

    close(jax.grad(truncated)(p.params), jax.grad(chunks)(p.params))


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


def test_the_scan_refuses_them_too():
    p = draw("gru")
    with pytest.raises(ValueError, match=r"lengths\[1\] is 8; expected 0 to 7"):
        recurrence.scan(p.cell, p.params, p.x, p.start, jnp.asarray([1, 8, 0]))


def test_a_truncation_or_a_mask_that_cannot_be_is_refused():
    p = draw("gru")
    with pytest.raises(ValueError, match="truncate is 0; expected at least 1"):
        recurrence.scan(p.cell, p.params, p.x, p.start, truncate=0)
    with pytest.raises(ValueError, match="drop has the dtype float32; expected float64"):
        recurrence.scan(p.cell, p.params, p.x, p.start, drop=jnp.ones((3, 4), jnp.float32))
