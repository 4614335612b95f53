"""Forecasts fed back: the same as reading everything again, in fewer steps, and paths whose law is known."""

from functools import partial

import jax
import numpy as np
import pytest
from pairwise import slow_except
from problems import quickly

from jaxseq.cells import CELLS
from jaxseq.cells.norm import Norm
from jaxseq.forecasting import rollout
from jaxseq.forecasting.rollout import Feedback
from jaxseq.nn import apply, forecaster, heads, objectives
from jaxseq.train import epoch

ROWS, WINDOW, HORIZON, HIDDEN = 3, 5, 4, 6
X = np.random.default_rng(7).normal(size=(ROWS, WINDOW, 1)).astype(np.float32)
BATCH, BETWEEN = Norm("batch"), Norm("batch-between")
STACKS = {
    "rnn": forecaster.Forecaster(CELLS["rnn"], HIDDEN, 1, 1),
    "gru": forecaster.Forecaster(CELLS["gru"], HIDDEN, 1, 1),
    "two layers of lstm": forecaster.Forecaster(CELLS["lstm"], HIDDEN, 2, 1),
    "layer": forecaster.Forecaster(CELLS["gru"], HIDDEN, 1, 1, norm=Norm("layer")),
    "layer-sum": forecaster.Forecaster(CELLS["lstm"], HIDDEN, 1, 1, norm=Norm("layer-sum")),
    "batch": forecaster.Forecaster(CELLS["lstm"], HIDDEN, 1, 1, norm=BATCH),
    "batch and batch-between": forecaster.Forecaster(CELLS["rnn"], HIDDEN, 2, 1, norm=BATCH, norm_between=BETWEEN),
}
every_stack = pytest.mark.parametrize("model", STACKS.values(), ids=STACKS)

initialised = quickly(apply.init, "model")
quick_apply = quickly(apply.apply, "model")
quick_rollout = quickly(rollout.rollout.__wrapped__, "model", "feedback", "horizon")


def made(model):
    """A model whose numbers are all random, with other moments for every step."""
    like = jax.tree.map(np.asarray, initialised(model, jax.random.key(0), X))
    source = np.random.default_rng(3)
    params = jax.tree.map(lambda p: source.normal(0, 0.8, p.shape).astype(p.dtype), like[0])
    return params, jax.tree.map(lambda m: source.uniform(0.5, 1.5, m.shape).astype(m.dtype), like[1])


@pytest.mark.parametrize(
    "model", slow_except({"two layers of lstm", "batch and batch-between"}, list(STACKS.values()), ids=list(STACKS))
)
def test_a_rollout_is_the_model_on_the_window_and_all_that_it_has_forecast_since(model):
    """Whatever it forecasts at a step is what it forecasts with everything before that step in its window."""
    params, stats = made(model)
    found = np.asarray(quick_rollout(model, Feedback(heads.point()), params, stats, X, HORIZON))
    everything = np.concatenate([X, found[:, :-1, None]], axis=1)
    read = np.asarray(quick_apply(model.clone(every_step=True), params, stats, everything))[:, WINDOW - 1 :, 0]
    np.testing.assert_allclose(found, read, atol=1e-5)
    assert np.abs(np.diff(found, axis=1)).max() > 1e-2  # steps that differ


def test_a_rollout_is_reading_the_longer_window_again_for_every_step():
    model = STACKS["gru"]
    params, stats = made(model)
    x = X
    for _ in range(3):
        x = np.concatenate([x, np.asarray(quick_apply(model, params, stats, x))[:, None]], axis=1)
    found = quick_rollout(model, Feedback(heads.point()), params, stats, X, 3)
    np.testing.assert_allclose(found, x[:, WINDOW:, 0], atol=1e-5)


def test_steps_beyond_the_trained_length_are_normalised_by_the_last_moments():
    model = STACKS["batch"]
    params, stats = made(model)
    longer = jax.tree.map(lambda m: np.concatenate([m, np.repeat(m[-1:], HORIZON, axis=0)]), stats)
    found, same = (quick_rollout(model, Feedback(heads.point()), params, each, X, HORIZON) for each in (stats, longer))
    np.testing.assert_allclose(found, same, atol=1e-6)
    other = jax.tree.map(lambda m: np.concatenate([m, np.repeat(m[:1], HORIZON, axis=0)]), stats)
    assert (
        np.abs(np.asarray(quick_rollout(model, Feedback(heads.point()), params, other, X, HORIZON)) - found).max()
        > 1e-3
    )


@pytest.mark.parametrize("head", [heads.point(), heads.GAUSSIAN, heads.STUDENT_T], ids=lambda head: head.name)
def test_a_rollout_of_one_step_is_the_prediction(head):
    model = forecaster.Forecaster(CELLS["gru"], HIDDEN, 1, head.width)
    params, stats = made(model)
    setup = epoch.Setup(model, objectives.forecasting(head), None)
    raw = np.asarray(epoch.predict(setup, params, stats, X, 8)).reshape(ROWS, 1, head.width)
    for horizon in (1, 3):
        found = np.asarray(quick_rollout(model, Feedback(head), params, stats, X, horizon))
        np.testing.assert_allclose(found[:, :1], head.centre(raw), atol=1e-6)


def products(jaxpr, shape, times=1):
    """How often a matrix product with a right-hand side of this shape is computed, scans and all."""
    count = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general" and equation.invars[1].aval.shape == shape:
            count += times
        repeats = equation.params["length"] if equation.primitive.name == "scan" else 1
        nested = jax.tree.leaves(list(equation.params.values()), is_leaf=lambda value: hasattr(value, "eqns"))
        count += sum(products(each, shape, times * repeats) for each in nested if hasattr(each, "eqns"))
    return count


@pytest.mark.parametrize("name", ["two layers of lstm", "layer-sum", "batch"])
@pytest.mark.parametrize("horizon", [1, 2, 9])
def test_the_window_is_read_once_however_many_steps_are_forecast(name, horizon):
    model = STACKS[name]
    params, stats = made(model)
    one = partial(rollout.rollout, model, Feedback(heads.point()), horizon=horizon)
    jaxpr = jax.make_jaxpr(one)(params, stats, X)
    recurrent, projections = (
        WINDOW + horizon - 1,
        horizon,
    )  # the second layer's inputs are projected for all steps at once
    assert products(jaxpr, (HIDDEN, 4 * HIDDEN)) == model.layers * recurrent + (model.layers - 1) * projections
    assert products(jaxpr, (HIDDEN, 1)) == horizon
    many = partial(rollout.paths, model, Feedback(heads.point()), horizon=horizon)
    jaxpr = jax.make_jaxpr(many)(params, stats, X, keys=jax.random.split(jax.random.key(0), 7))
    assert products(jaxpr, (HIDDEN, 1)) == 7 * horizon


def autoregression(factor, head, *raw):
    """A model whose centre is `factor` times the last value, whatever was before: tanh is straight near 0."""
    small = 1e-3
    model = forecaster.Forecaster(CELLS["rnn"], 1, 1, head.width)
    like = jax.tree.map(lambda p: np.zeros(p.shape, np.float32), made(model)[0])
    kernel = np.float32([[factor / small] + [0] * (head.width - 1)])
    cell = {**like["recurrent_0"]["cell"], "input_kernel": np.full((1, 1), small, np.float32)}
    return model, {"recurrent_0": {"cell": cell}, "head": {"kernel": kernel, "bias": np.float32([0, *raw])}}


def moments_of_ar1(factor, spread, steps):
    """Mean per unit of the last value, and standard deviation, 1 to `steps` steps ahead."""
    k = np.arange(1, steps + 1)
    return factor**k, spread * np.sqrt((1 - factor ** (2 * k)) / (1 - factor**2))


def test_without_a_key_the_centre_is_fed_back():
    model, params = autoregression(0.5, heads.GAUSSIAN, 3.0)
    found = quick_rollout(model, Feedback(heads.GAUSSIAN), params, {}, X, HORIZON)
    np.testing.assert_allclose(found, X[:, -1] * 0.5 ** np.arange(1, HORIZON + 1), rtol=1e-4)


@pytest.mark.parametrize(
    ("head", "spread"),
    [(heads.GAUSSIAN, 0.8), (heads.STUDENT_T, 0.8 * np.sqrt(12 / 10))],
    ids=["gaussian", "student-t"],
)
def test_paths_of_an_autoregression_have_the_mean_and_spread_that_they_must(head, spread):
    """x' = 0.6 x + e: 0.6^k x on average, and the spread of k shocks that fade."""
    draws, raw = 8000, [np.log(np.expm1(value)) for value in (0.8, 10.0)][: head.width - 1]
    model, params = autoregression(0.6, head, *raw)
    found = np.asarray(
        rollout.paths(model, Feedback(head), params, {}, X, HORIZON, jax.random.split(jax.random.key(1), draws)),
        np.float64,
    )
    assert found.shape == (draws, ROWS, HORIZON)
    mean, deviation = moments_of_ar1(0.6, spread, HORIZON)
    np.testing.assert_allclose(found.mean(axis=0), X[:, -1] * mean, atol=4 * deviation.max() / np.sqrt(draws))
    np.testing.assert_allclose(found.std(axis=0), np.tile(deviation, (ROWS, 1)), rtol=0.06)
    shocks = found - 0.6 * np.concatenate([np.tile(X[:, -1:, 0], (draws, 1, 1)), found[..., :-1]], axis=-1)
    correlation = np.corrcoef(shocks.reshape(draws, -1).T)  # every row and step draws for itself
    np.testing.assert_allclose(correlation, np.eye(ROWS * HORIZON), atol=5 / np.sqrt(draws))


def test_paths_of_one_key_are_the_same_and_of_another_are_not():
    head = heads.GAUSSIAN
    model, params = autoregression(0.6, head, 0.5)
    paths = [
        rollout.paths(model, Feedback(head), params, {}, X, HORIZON, jax.random.split(jax.random.key(key), 5))
        for key in (0, 0, 1)
    ]
    one, again, other = map(np.asarray, paths)
    np.testing.assert_array_equal(one, again)
    assert (one != other).all()
    assert len(np.unique(one)) == one.size
    key = jax.random.split(jax.random.key(0), 5)[3]
    np.testing.assert_allclose(
        quick_rollout(model, Feedback(head), params, {}, X, HORIZON, key), one[3], rtol=1e-5, atol=1e-6
    )


def test_every_path_of_a_point_forecast_is_its_rollout():
    model = STACKS["rnn"]
    params, stats = made(model)
    found = rollout.paths(
        model, Feedback(heads.point()), params, stats, X, HORIZON, jax.random.split(jax.random.key(0), 2)
    )
    expected = np.asarray(quick_rollout(model, Feedback(heads.point()), params, stats, X, HORIZON))
    np.testing.assert_allclose(found, np.stack([expected, expected]), atol=1e-5)


def test_values_that_are_fed_back_are_not_marked_as_missing():
    model = STACKS["gru"]
    with_mask = np.concatenate([X, (X > 0).astype(np.float32)], axis=2)
    like = jax.eval_shape(partial(apply.init, model), jax.random.key(0), with_mask)
    source = np.random.default_rng(3)
    params, stats = jax.tree.map(lambda leaf: source.normal(0, 0.8, leaf.shape).astype(leaf.dtype), like)

    forecasts = np.asarray(quick_rollout(model, Feedback(heads.point()), params, stats, with_mask, HORIZON))
    fed_back = np.stack([forecasts[:, :-1], np.zeros((ROWS, HORIZON - 1), np.float32)], axis=2)
    everything = np.concatenate([with_mask, fed_back], axis=1)
    expected = np.asarray(quick_apply(model.clone(every_step=True), params, stats, everything))[:, WINDOW - 1 :, 0]
    np.testing.assert_allclose(forecasts, expected, atol=1e-5)


def test_an_input_that_is_kept_is_read_again_at_every_step():
    model = STACKS["gru"]
    own = np.broadcast_to(np.linspace(-1, 1, ROWS, dtype=np.float32)[:, None, None], (ROWS, WINDOW, 1))
    with_scale = np.concatenate([X, own], axis=2)
    like = jax.eval_shape(partial(apply.init, model), jax.random.key(0), with_scale)
    source = np.random.default_rng(4)
    params, stats = jax.tree.map(lambda leaf: source.normal(0, 0.8, leaf.shape).astype(leaf.dtype), like)

    forecasts = np.asarray(quick_rollout(model, Feedback(heads.point(), kept=1), params, stats, with_scale, HORIZON))
    fed_back = np.concatenate([forecasts[:, :-1, None], np.broadcast_to(own[:, :1], (ROWS, HORIZON - 1, 1))], axis=2)
    everything = np.concatenate([with_scale, fed_back], axis=1)
    expected = np.asarray(quick_apply(model.clone(every_step=True), params, stats, everything))[:, WINDOW - 1 :, 0]
    np.testing.assert_allclose(forecasts, expected, atol=1e-5)
