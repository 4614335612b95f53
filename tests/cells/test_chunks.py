"""Chunks of time steps: the same values and gradients in less memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import EVALUATED, GATED, SLOTS, Size, close, inputs, measure

from jaxseq.cells import CELLS, chunks, recurrence
from jaxseq.cells.recurrence import Traversal
from jaxseq.nn.recurrent import Recurrent
from jaxseq.train.experiments.forecasts import Model

MIB = 2**20
LENGTHS = (7, 0, 4)


CASES = [
    (name, slot, reverse, chunk)
    for name in GATED
    for slot in SLOTS
    for reverse in (False, True)
    # Of seven steps: chunks that fit but for one step, and for three.
    for chunk in (2, 4)
]
# Every cell, every norm and both directions.
QUICK_CASES = {
    ("rnn", "batch", False, 2),
    ("lstm", "layer", True, 4),
    ("gru", "layer-sum", False, 4),
    ("gru", "none", True, 2),
    ("lstm", EVALUATED, False, 2),
}


@pytest.mark.usefixtures("double", "compiled_quickly")
@pytest.mark.parametrize(
    ("name", "slot", "reverse", "chunk"),
    [pytest.param(*case, marks=() if case in QUICK_CASES else pytest.mark.slow) for case in CASES],
)
def test_chunks_change_neither_values_nor_gradients(name, slot, reverse, chunk):
    i = inputs(name, slot, Size(7, 3, 2, 4), 1, LENGTHS)
    close(measure(i, name, slot, reverse=reverse, chunk=chunk), measure(i, name, slot, reverse=reverse), 1e-11)


@pytest.mark.usefixtures("double", "compiled_quickly")
@pytest.mark.parametrize(
    "name",
    # One that is computed step by step and one that is parallel in time; the others are slow.
    [pytest.param(n, marks=() if n in ("indrnn", "rglru") else pytest.mark.slow) for n in CELLS if n not in GATED],
)
def test_every_other_cell_can_be_computed_in_chunks(name):
    i = inputs(name, "none", Size(7, 3, 2, 4, gated=False), 1, LENGTHS)
    close(measure(i, name, "none", chunk=3), measure(i, name, "none"), 1e-11)


def gradient(cell, traversal, t, b, d, h):
    """The compiled gradient of a layer's last output."""

    def loss(params, x):
        last, _ = recurrence.scan(cell, params, x, cell.start((b, h)), traversal=traversal)
        return jnp.sum(last.h)

    params = jax.eval_shape(lambda key: cell.init(key, d, h), jax.random.key(0))
    x = jax.ShapeDtypeStruct((t, b, d), jnp.float32)
    return jax.jit(jax.grad(loss)).lower(params, x).compile()


def planned_mib(cell, traversal, t, b, d, h):
    """Temporary memory of that gradient, without the arguments and results."""
    return gradient(cell, traversal, t, b, d, h).memory_analysis().temp_size_in_bytes / MIB


@pytest.mark.parametrize("name", ["lstm", pytest.param("gru", marks=pytest.mark.slow)])
def test_a_long_sequence_takes_a_fraction_of_the_memory(name):
    cell = CELLS[name]
    whole, in_chunks = (planned_mib(cell, Traversal(chunk=chunk), 4096, 8, 3, 16) for chunk in (None, 64))
    assert whole > 5 * in_chunks

    # By itself, where the whole scan would take gigabytes.
    assert planned_mib(cell, Traversal(), 100_000, 8, 3, 64) < 64


@pytest.mark.slow
def test_a_hundred_thousand_steps_train_below_200_mib():
    cell = CELLS["gru"]
    t, b, d, h = 100_000, 8, 3, 64
    program = gradient(cell, Traversal(), t, b, d, h)
    planned = program.memory_analysis()
    assert planned.temp_size_in_bytes + planned.argument_size_in_bytes + planned.output_size_in_bytes < 200 * MIB

    params = cell.init(jax.random.key(0), d, h)
    by_params = program(params, jnp.ones((t, b, d)))
    assert all(np.isfinite(leaf).all() and np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(by_params))


def test_auto_takes_chunks_for_much_memory_alone():
    cell = CELLS["lstm"]

    def chosen(steps, units=128):
        return chunks.automatic(cell, jnp.zeros((steps, 32, 1)), cell.start((32, units)))

    assert chosen(60) is None
    assert chosen(10_000) == 100
    for units, most in ((128, chunks.LARGE), (256, chunks.LARGE_IF_WIDE)):
        limit = most // chunks.planned_bytes(cell, jnp.zeros((1, 32, 1)), cell.start((32, units)))
        assert chosen(limit - 1, units) is None and chosen(limit + 1, units)


def test_a_truncated_layer_has_one_loop_whatever_its_length():
    layer = Recurrent(CELLS["gru"], 4, truncate=8)
    x = jnp.ones((2, 800, 3))
    params = layer.init(jax.random.key(0), x)
    lowered = jax.jit(jax.grad(lambda p: layer.apply(p, x)[1].sum())).lower(params)
    assert len(lowered.as_text()) < 150_000


@pytest.mark.usefixtures("unannotated")
@pytest.mark.parametrize("chunk", [0, -3, 1.5, True, "many"])
def test_another_chunk_is_refused(chunk):
    with pytest.raises(ValueError, match="chunk"):
        Model(chunk=chunk)
    with pytest.raises(ValueError, match="chunk"):
        Recurrent(CELLS["gru"], 4, chunk=chunk).init(jax.random.key(0), jnp.ones((1, 3, 2)))
