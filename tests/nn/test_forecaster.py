"""The Flax shells: shapes, stacks, and that they are nothing but the recurrence."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pairwise import slow_except
from problems import GATED, quickly

from jaxseq.cells import CELLS, recurrence
from jaxseq.cells.norm import Norm
from jaxseq.common.errors import UsageError
from jaxseq.nn import apply, fields, forecaster, recurrent

pytestmark = pytest.mark.usefixtures("compiled_quickly")

every_cell = pytest.mark.parametrize("name", GATED)
X = np.random.default_rng(7).normal(size=(5, 6, 2)).astype(np.float32)
ONES = np.ones(5, np.float32)

init = quickly(apply.init, "model")
apply_model = quickly(apply.apply, "model")
apply_train = quickly(apply.apply_train, "model")
resume = quickly(apply.resume, "model", "first")
scan = quickly(recurrence.scan, "cell")
run = quickly(lambda module, variables, *inputs: module.apply(variables, *inputs), "module")


def start(name, shape=(5, 4)):
    return jax.tree.map(np.asarray, CELLS[name].start(shape, jnp.float32))


def leaves(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


@every_cell
def test_the_layer_is_the_recurrence_with_batch_first(name):
    layer = recurrent.Recurrent(CELLS[name], 4)
    params, stats = init(layer, jax.random.key(0), X)
    assert stats == {}
    last, outputs = run(layer, {"params": params}, X)
    expected = scan(CELLS[name], fields.cell_params(CELLS[name], params["cell"]), X.swapaxes(0, 1), start(name))
    chex.assert_trees_all_equal((last, np.asarray(outputs)), (expected[0], np.asarray(expected[1]).swapaxes(0, 1)))


@every_cell
def test_a_given_carry_is_where_the_layer_starts(name):
    layer = recurrent.Recurrent(CELLS[name], 4)
    params, _ = init(layer, jax.random.key(0), X)
    whole = run(layer, {"params": params}, X)
    carry, first = run(layer, {"params": params}, X[:, :2])
    last, second = run(layer, {"params": params}, X[:, 2:], carry)
    chex.assert_trees_all_close((last, np.concatenate([first, second], axis=1)), whole, atol=1e-6)


NORMS = {"norm": Norm("batch"), "norm_between": Norm("batch-between")}


@pytest.mark.parametrize(
    ("name", "norms"),
    slow_except({"gru", "batch norm"}, [*((name, {}) for name in GATED), ("lstm", NORMS)], ids=[*GATED, "batch norm"]),
)
def test_a_forecaster_goes_on_from_its_layers_carries(name, norms):
    model = forecaster.Forecaster(CELLS[name], 4, 2, 3, **norms)
    params, stats = init(model, jax.random.key(0), X)
    source = np.random.default_rng(0)  # moments of their own for every step
    stats = jax.tree.map(lambda m: m + source.uniform(0, 1, m.shape).astype(m.dtype), stats)
    whole = jax.tree.map(np.asarray, resume(model, params, stats, X, None, 0))
    carries, _ = resume(model, params, stats, X[:, :4], None, 0)
    chex.assert_trees_all_close(resume(model, params, stats, X[:, 4:], carries, 4), whole, atol=1e-6)
    chex.assert_trees_all_equal(apply_model(model, params, stats, X), whole[1])
    elsewhere = np.asarray(resume(model, params, stats, X[:, 4:], carries, 0)[1])
    assert (np.abs(elsewhere - whole[1]).max() > 1e-3) == bool(norms)  # batch norm has moments for each step


@every_cell
def test_the_head_of_every_step_is_at_its_last_step_the_head_of_the_last_state(name):
    last = forecaster.Forecaster(CELLS[name], 4, layers=2, outputs=3)
    every = last.clone(every_step=True)
    params, stats = init(last, jax.random.key(0), X)
    predicted, seen = apply_model(last, params, stats, X), apply_model(every, params, stats, X)
    chex.assert_shape((predicted, seen), ((5, 3), (5, 6, 3)))
    np.testing.assert_allclose(np.asarray(seen)[:, -1], predicted, atol=1e-6)


def test_layers_are_stacked_and_each_has_its_own_weights():
    model = forecaster.Forecaster(CELLS["lstm"], 4, layers=3, outputs=1)
    params, _ = init(model, jax.random.key(0), X)
    assert sorted(params) == ["head", "recurrent_0", "recurrent_1", "recurrent_2"]
    assert params["recurrent_0"]["cell"]["input_kernel"].shape == (2, 16)
    assert params["recurrent_2"]["cell"]["input_kernel"].shape == (4, 16)
    first, second = params["recurrent_1"]["cell"], params["recurrent_2"]["cell"]
    assert not np.array_equal(first["input_kernel"], second["input_kernel"])


@pytest.mark.parametrize(("name", "count"), [("rnn", 2600), ("lstm", 10400), ("gru", 7950)])
def test_parameter_counts_are_those_that_keras_gives(name, count):
    """SimpleRNN(50), LSTM(50) and GRU(50) on one feature, as `model.summary()` counts them."""
    layer = recurrent.Recurrent(CELLS[name], 50)
    params, _ = jax.eval_shape(lambda: apply.init(layer, jax.random.key(0), jnp.asarray(X[..., :1])))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


def test_every_parameter_says_its_axes():
    model = forecaster.Forecaster(CELLS["gru"], 4, 2, 3)
    params, _ = jax.eval_shape(lambda: apply.init(model, jax.random.key(0), jnp.asarray(X)))
    axes = apply.axes(model, params)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        assert len(axes[jax.tree_util.keystr(path, simple=True, separator="/")].split()) == leaf.ndim


def test_the_table_shows_modules_and_parameters():
    shown = apply.table(forecaster.Forecaster(CELLS["gru"], 50, 1, 1), jax.ShapeDtypeStruct((1, 50, 1), jnp.float32))
    assert "recurrent_0" in shown and "7,950" in shown


def test_the_layer_works_in_somebody_elses_flax_model():
    class Tagger(nn.Module):
        @nn.compact
        def __call__(self, tokens):
            x = nn.Embed(11, 8)(tokens)
            _, x = recurrent.Recurrent(CELLS["gru"], 6)(x)
            return nn.Dense(3)(x)

    tokens = np.arange(8).reshape(2, 4)
    variables = quickly(Tagger().init)(jax.random.key(0), tokens)
    gradient = quickly(jax.grad(lambda v: jnp.sum(Tagger().apply(v, tokens) ** 2)))(variables)
    assert all(np.abs(leaf).max() > 0 for leaf in leaves(gradient))


def test_two_layers_both_ways_are_torchs_order_forward_then_backward():
    layer = recurrent.Recurrent(CELLS["lstm"], 4)
    both = recurrent.Bidirectional(layer)
    variables = quickly(both.init)(jax.random.key(0), X)
    lengths = np.asarray([6, 1, 3, 0, 5])
    carry, outputs = run(both, variables, X, lengths)
    chex.assert_shape((outputs, carry.h, carry.c), ((5, 6, 8), (5, 8), (5, 8)))
    carry, outputs = jax.tree.map(np.asarray, (carry, outputs))
    for way, part, reverse in (("forward", slice(0, 4), False), ("backward", slice(4, 8), True)):
        alone = run(layer.clone(reverse=reverse), {"params": variables["params"][way]}, X, None, lengths)
        chex.assert_trees_all_equal((carry.h[:, part], outputs[..., part]), (alone[0].h, alone[1]))


def test_a_learnt_start_is_where_every_row_begins_and_has_a_gradient():
    layer = recurrent.Recurrent(CELLS["lstm"], 4, learn_start=True)
    params, _ = init(layer, jax.random.key(0), X)
    moved = {**params, "start": jax.tree.map(lambda s: np.asarray(s) + np.float32(0.5), params["start"])}
    given = jax.tree.map(lambda s: s + np.float32(0.5), start("lstm"))
    plain = run(layer.clone(learn_start=False), {"params": {"cell": params["cell"]}}, X, given)
    chex.assert_trees_all_equal(run(layer, {"params": moved}, X), plain)
    gradient = quickly(jax.grad(lambda p, x: jnp.sum(layer.apply({"params": p}, x)[1])))(params, X)
    assert all(np.abs(leaf).min() > 0 for leaf in leaves(gradient["start"]))


def test_batch_norm_learns_its_moments_in_training_alone():
    model = forecaster.Forecaster(CELLS["gru"], 4, 2, 1, **NORMS)
    params, stats = init(model, jax.random.key(0), X)
    key = jax.random.key(1)
    _, after = apply_train(model, params, stats, X, ONES, key)
    assert jax.tree.structure(after) == jax.tree.structure(stats)
    assert all((a != b).any() for a, b in zip(leaves(after), leaves(stats), strict=True))
    _, masked = apply_train(model, params, stats, X, np.float32([1, 1, 1, 0, 0]), key)
    _, alone = apply_train(model, params, stats, X[:3], ONES[:3], key)
    chex.assert_trees_all_close(masked, alone, atol=1e-6)


def test_dropout_draws_in_training_from_the_key_alone():
    model = forecaster.Forecaster(CELLS["gru"], 16, 2, 1, dropout=0.5, recurrent_dropout=0.5)
    params, stats = init(model, jax.random.key(0), X)
    drawn = [apply_train(model, params, stats, X, ONES, jax.random.key(k))[0] for k in (1, 1, 2)]
    one, again, other = map(np.asarray, drawn)
    chex.assert_trees_all_equal(one, again)
    assert (one != other).all() and (np.asarray(apply_model(model, params, stats, X)) != one).all()


@pytest.mark.usefixtures("unannotated")
@pytest.mark.parametrize("dtype", ["int8", "int32", "bool", "complex64"])
def test_inputs_are_floating_point_numbers(dtype):
    x = jnp.ones((3, 7, 2), dtype)
    layer = recurrent.Recurrent(CELLS["gru"], 4)
    for module in (layer, recurrent.Bidirectional(layer), forecaster.Forecaster(CELLS["lru"], 4, 1, 1)):
        with pytest.raises(ValueError, match=f"x has the dtype {dtype}; expected floating"):
            module.init(jax.random.key(0), x)
    params = CELLS["gru"].init(jax.random.key(0), 2, 4)
    with pytest.raises(ValueError, match=f"x has the dtype {dtype}; expected floating"):
        recurrence.scan(CELLS["gru"], params, x, CELLS["gru"].start((7, 4)))


@pytest.mark.usefixtures("unannotated")
@pytest.mark.parametrize("resets", [jnp.zeros(7, bool), jnp.zeros((), bool), jnp.zeros((3, 7, 1), bool)])
def test_resets_of_other_axes_than_those_of_x_are_refused(resets):
    with pytest.raises(ValueError, match="resets has the shape"):
        recurrent.Recurrent(CELLS["gru"], 4).init(jax.random.key(0), jnp.ones((3, 7, 2)), resets=resets)


@pytest.mark.usefixtures("unannotated")
@pytest.mark.parametrize(
    ("make", "field", "value"),
    [
        (lambda: recurrent.Recurrent(CELLS["rnn"], 0), "h", 0),
        (lambda: recurrent.Recurrent(CELLS["lstm"], 2.5), "h", 2.5),
        (lambda: recurrent.Recurrent(CELLS["gru"], True), "h", True),
        (lambda: recurrent.Recurrent(CELLS["gru"], 4, truncate=1.5), "truncate", 1.5),
        (lambda: recurrent.Recurrent(CELLS["gru"], 4, norm=Norm("layer"), truncate=True), "truncate", True),
        (lambda: recurrent.Bidirectional(recurrent.Recurrent(CELLS["gru"], 4, truncate=0)), "truncate", 0),
        (lambda: forecaster.Forecaster(CELLS["gru"], 4, layers=0, outputs=1), "layers", 0),
        (lambda: forecaster.Forecaster(CELLS["gru"], 4, layers=1, outputs=0), "outputs", 0),
        (
            lambda: forecaster.Forecaster(CELLS["gru"], 4, layers=1, outputs=1, recurrent_dropout=1.0),
            "recurrent_dropout",
            1.0,
        ),
    ],
)
def test_sizes_that_cannot_be_are_refused(make, field, value):
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    module = make()
    with pytest.raises(UsageError) as error:
        jax.eval_shape(lambda x: module.init(keys, x, train=True), X)
    assert (error.value.where, error.value.got) == (field, value)


@pytest.mark.usefixtures("unannotated")
def test_a_layer_reads_arrays_of_rows_steps_and_features():
    layer = recurrent.Recurrent(CELLS["gru"], 4)
    with pytest.raises(ValueError, match="x is a list; expected an array"):
        layer.init(jax.random.key(0), X.tolist())
    with pytest.raises(ValueError, match=r"x has the shape \(6, 2\); expected \(rows, steps, features\)"):
        layer.init(jax.random.key(0), X[0])


@pytest.mark.parametrize("norm", [None, Norm("layer"), Norm("layer-sum")], ids=str)
def test_truncation_reaches_the_layer(norm):
    layer = recurrent.Recurrent(CELLS["gru"], 4, norm=norm, truncate=2)
    variables = quickly(layer.init)(jax.random.key(0), X)
    gradient = np.asarray(quickly(jax.grad(lambda x: jnp.sum(layer.apply(variables, x)[1][:, -1] ** 2)))(X))
    assert not gradient[:, :4].any() and gradient[:, 4:].all()


def test_batch_norm_counts_its_steps_from_the_first_and_is_not_truncated():
    layer = recurrent.Recurrent(CELLS["gru"], 4, norm=Norm("batch"), truncate=2)
    with pytest.raises(ValueError, match=r"truncate is 2; batch norm, .* expects None"):
        init(layer, jax.random.key(0), X)
