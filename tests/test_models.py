"""The Flax shells: shapes, stacks, and that they are nothing but the recurrence."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq import models, recurrence
from jaxseq.cells import CELLS
from jaxseq.cells.norm import Norm

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


def test_two_layers_both_ways_are_torchs_order_forward_then_backward():
    layer = models.Recurrent(CELLS["lstm"], 4)
    both = models.Bidirectional(layer)
    variables = both.init(jax.random.key(0), X)
    lengths = jnp.asarray([6, 1, 3, 0, 5])
    carry, outputs = both.apply(variables, X, lengths)
    chex.assert_shape((outputs, carry.h, carry.c), ((5, 6, 8), (5, 8), (5, 8)))
    for way, part, reverse in (("forward", slice(0, 4), False), ("backward", slice(4, 8), True)):
        alone = layer.clone(reverse=reverse).apply({"params": variables["params"][way]}, X, None, lengths)
        chex.assert_trees_all_equal((carry.h[:, part], outputs[..., part]), (alone[0].h, alone[1]))


def test_a_learnt_start_is_where_every_row_begins_and_has_a_gradient():
    layer = models.Recurrent(CELLS["lstm"], 4, learn_start=True)
    params = layer.init(jax.random.key(0), X)["params"]
    moved = {**params, "start": jax.tree.map(lambda s: s + 0.5, params["start"])}
    start = CELLS["lstm"].start((5, 4), jnp.float32)
    given = jax.tree.map(lambda s: s + 0.5, start)
    plain = layer.clone(learn_start=False).apply({"params": {"cell": params["cell"]}}, X, given)
    chex.assert_trees_all_equal(layer.apply({"params": moved}, X), plain)
    gradient = jax.grad(lambda p: jnp.sum(layer.apply({"params": p}, X)[1]))(params)
    assert all(float(jnp.abs(leaf).min()) > 0 for leaf in gradient["start"])


def test_batch_norm_learns_its_moments_in_training_alone():
    model = models.Forecaster(CELLS["gru"], 4, 2, 1, norm=Norm("batch"), norm_between=Norm("batch-between"))
    params, stats = models.init(model, jax.random.key(0), X)
    key, ones = jax.random.key(1), jnp.ones(5)
    _, after = models.apply_train(model, params, stats, X, ones, key)
    assert jax.tree.structure(after) == jax.tree.structure(stats)
    assert all((a != b).any() for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(stats), strict=True))
    _, masked = models.apply_train(model, params, stats, X, jnp.asarray([1.0, 1.0, 1.0, 0.0, 0.0]), key)
    _, alone = models.apply_train(model, params, stats, X[:3], jnp.ones(3), key)
    chex.assert_trees_all_close(masked, alone, atol=1e-6)


def test_dropout_draws_in_training_from_the_key_alone():
    model = models.Forecaster(CELLS["gru"], 16, 2, 1, dropout=0.5, recurrent_dropout=0.5)
    params, stats = models.init(model, jax.random.key(0), X)
    one, again, other = (
        models.apply_train(model, params, stats, X, jnp.ones(5), jax.random.key(k))[0] for k in (1, 1, 2)
    )
    chex.assert_trees_all_equal(one, again)
    assert (one != other).all() and (models.apply(model, params, stats, X) != one).all()


@pytest.mark.parametrize("norm", [None, Norm("layer"), Norm("layer-sum")], ids=str)
def test_truncation_reaches_the_layer(norm):
    layer = models.Recurrent(CELLS["gru"], 4, norm=norm, truncate=2)
    variables = layer.init(jax.random.key(0), X)
    gradient = jax.grad(lambda x: jnp.sum(layer.apply(variables, x)[1][:, -1] ** 2))(X)
    assert not gradient[:, :4].any() and gradient[:, 4:].all()


def test_batch_norm_counts_its_steps_from_the_first_and_is_not_truncated():
    layer = models.Recurrent(CELLS["gru"], 4, norm=Norm("batch"), truncate=2)
    with pytest.raises(ValueError, match=r"truncate is 2; batch norm, .* expects None"):
        layer.init(jax.random.key(0), X)
