"""The Flax shells: shapes, stacks, and that they are nothing but the recurrence."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq import models, recurrence
from jaxseq.cells import CELLS

every_cell = pytest.mark.parametrize("name", CELLS)
X = jax.random.normal(jax.random.key(7), (5, 6, 2))


@every_cell
def test_the_layer_is_the_recurrence_with_batch_first(name):
    layer = models.Recurrent(CELLS[name], 4)
    params, stats = models.init(layer, jax.random.key(0), X)
    assert stats == {}
    last, outputs = layer.apply({"params": params}, X)
    expected = recurrence.scan(
        CELLS[name], params["cell"], jnp.swapaxes(X, 0, 1), CELLS[name].start((5, 4), jnp.float32)
    )
    chex.assert_trees_all_equal((last, outputs), (expected[0], jnp.swapaxes(expected[1], 0, 1)))


@every_cell
def test_a_given_carry_is_where_the_layer_starts(name):
    layer = models.Recurrent(CELLS[name], 4)
    params, _ = models.init(layer, jax.random.key(0), X)
    whole = layer.apply({"params": params}, X)
    carry, first = layer.apply({"params": params}, X[:, :2])
    last, second = layer.apply({"params": params}, X[:, 2:], carry)
    chex.assert_trees_all_close((last, jnp.concatenate([first, second], axis=1)), whole, atol=1e-6)


@every_cell
def test_the_head_of_every_step_is_at_its_last_step_the_head_of_the_last_state(name):
    last = models.Forecaster(CELLS[name], 4, layers=2, outputs=3)
    every = last.clone(every_step=True)
    params, stats = models.init(last, jax.random.key(0), X)
    predicted, seen = models.apply(last, params, stats, X), models.apply(every, params, stats, X)
    chex.assert_shape((predicted, seen), ((5, 3), (5, 6, 3)))
    np.testing.assert_allclose(seen[:, -1], predicted, atol=1e-6)


def test_layers_are_stacked_and_each_has_its_own_weights():
    model = models.Forecaster(CELLS["lstm"], 4, layers=3, outputs=1)
    params, _ = models.init(model, jax.random.key(0), X)
    assert sorted(params) == ["head", "recurrent_0", "recurrent_1", "recurrent_2"]
    assert params["recurrent_0"]["cell"].input_kernel.shape == (2, 16)
    assert params["recurrent_2"]["cell"].input_kernel.shape == (4, 16)
    first, second = params["recurrent_1"]["cell"], params["recurrent_2"]["cell"]
    assert not np.array_equal(first.input_kernel, second.input_kernel)


@pytest.mark.parametrize(("name", "count"), [("rnn", 2600), ("lstm", 10400), ("gru", 7950)])
def test_parameter_counts_are_those_that_keras_gives(name, count):
    """SimpleRNN(50), LSTM(50) and GRU(50) on one feature, as `model.summary()` counts them."""
    params, _ = models.init(models.Recurrent(CELLS[name], 50), jax.random.key(0), X[..., :1])
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


def test_every_parameter_says_its_axes():
    params, _ = models.init(models.Forecaster(CELLS["gru"], 4, 2, 3), jax.random.key(0), X)
    axes = models.axes(params)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        assert len(axes[jax.tree_util.keystr(path, simple=True, separator="/")].split()) == leaf.ndim


def test_the_table_shows_modules_and_parameters():
    shown = models.table(models.Forecaster(CELLS["gru"], 50, 1, 1), jax.ShapeDtypeStruct((1, 50, 1), jnp.float32))
    assert "recurrent_0" in shown and "7,950" in shown


def test_the_layer_works_in_somebody_elses_flax_model():
    class Tagger(nn.Module):
        @nn.compact
        def __call__(self, tokens):
            x = nn.Embed(11, 8)(tokens)
            _, x = models.Recurrent(CELLS["gru"], 6)(x)
            return nn.Dense(3)(x)

    tokens = jnp.arange(8).reshape(2, 4)
    variables = Tagger().init(jax.random.key(0), tokens)
    gradient = jax.grad(lambda v: jnp.sum(Tagger().apply(v, tokens) ** 2))(variables)
    assert all(float(jnp.abs(leaf).max()) > 0 for leaf in jax.tree.leaves(gradient))
