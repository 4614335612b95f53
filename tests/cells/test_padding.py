"""Sequences as they come: direction, dropout and truncation for every cell, and lengths that cannot be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import close, draw, quickly

from jaxseq.cells import CELLS, padding, recurrence
from jaxseq.cells.recurrence import Rows, Traversal

scan = quickly(recurrence.scan, "cell", "traversal")
pytestmark = pytest.mark.usefixtures("double")
every_cell = pytest.mark.parametrize("name", CELLS)


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


def test_the_scan_refuses_them_too():
    p = draw("gru")
    with pytest.raises(ValueError, match=r"lengths\[1\] is 8; expected 0 to 7"):
        recurrence.scan(p.cell, p.params, p.x, p.start, Rows(jnp.asarray([1, 8, 0])))


def test_a_truncation_or_a_mask_that_cannot_be_is_refused():
    p = draw("gru")
    with pytest.raises(ValueError, match="truncate is 0; expected at least 1"):
        recurrence.scan(p.cell, p.params, p.x, p.start, traversal=Traversal(truncate=0))
    with pytest.raises(ValueError, match="drop has the dtype float32; expected float64"):
        recurrence.scan(p.cell, p.params, p.x, p.start, Rows(drop=jnp.ones((3, 4), jnp.float32)))
