"""Training as pure functions: every row once an epoch, compiled once, and what is measured is a mean over rows."""

from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import quickly

from jaxseq import cells
from jaxseq.common.arrays import Batch
from jaxseq.common.precision import Precision
from jaxseq.nn import apply, forecaster, heads, objectives
from jaxseq.train import epoch, minibatch

pytestmark = pytest.mark.usefixtures("compiled_quickly")

ADAM = optax.adam(1e-2)
REGRESSION = objectives.forecasting(heads.point())
SETUP = epoch.Setup(forecaster.Forecaster(cells.named("rnn"), 3, 1, 1), REGRESSION, ADAM)
ROWS = 10


def rows(n: int, seed: int = 0) -> Batch:
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, 5, 1)).astype(np.float32)
    return Batch(jnp.asarray(x), jnp.asarray(x.mean(axis=1)))


init = quickly(epoch.init, "setup")
apply_model = quickly(apply.apply, "model")


def start(setup: epoch.Setup = SETUP, seed: int = 0) -> epoch.TrainState:
    return init(setup, jax.random.key(seed), rows(1).x)


def times_target(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """A loss whose gradient by the head's bias is the mean of the targets, whatever the model is."""
    return (prediction * target)[:, 0]


RATE = 2.0**-20
LEDGER = SETUP._replace(
    objective=REGRESSION._replace(loss=times_target, metrics=(("product", times_target),), select="product"),
    optimiser=optax.sgd(RATE),
)


@pytest.mark.parametrize("batch", [1, 4, 10, 16])
def test_an_epoch_sees_every_row_exactly_once(batch: int) -> None:
    data = Batch(rows(ROWS).x, jnp.asarray(4.0 ** np.arange(ROWS, dtype=np.float32)[:, None]))
    state, log = epoch.epoch(LEDGER, start(LEDGER), data, batch)
    size, last = min(batch, ROWS), ROWS % batch or min(batch, ROWS)
    # In base 4, the digit of a row says how often it was seen; twice for half a batch, which is a mean over fewer rows.
    seen = round(float(-np.asarray(state.params["head"]["bias"])[0]) / RATE * size)
    digits = [seen // 4**row % 4 for row in range(ROWS)]
    assert sorted(digits) == sorted([1] * (ROWS - last) + [size // last] * last)
    assert log.loss.shape == (-(-ROWS // batch),) and int(state.step) == minibatch.steps_per_epoch(ROWS, batch)


@pytest.mark.parametrize(("n", "batch"), [(1, 5), (24, 8), (7, 5)])
def test_batches_hold_every_row_once_and_fill_up_with_weight_zero(n: int, batch: int) -> None:
    order = np.random.default_rng(n).permutation(n)
    index, weight = minibatch.batches_of(jnp.asarray(order), batch)
    assert index.shape == weight.shape == (minibatch.steps_per_epoch(n, batch), batch)
    np.testing.assert_array_equal(index[weight == 1], order)
    assert set(np.unique(weight)) <= {0.0, 1.0} and weight.sum() == n


def test_rows_that_fill_up_the_last_batch_change_nothing() -> None:
    data = rows(3)
    after_one, log = epoch.epoch(SETUP, start(), data, 3)
    filled, filled_log = epoch.epoch(SETUP, start(), data, 8)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), after_one.params, filled.params)
    np.testing.assert_allclose(log.loss, filled_log.loss, rtol=1e-6)


def test_every_epoch_has_another_order_and_the_same_key_the_same() -> None:
    data = rows(32)
    states = [epoch.epoch(SETUP, start(seed=seed), data, 4)[1].loss for seed in (0, 0, 1)]
    np.testing.assert_array_equal(states[0], states[1])
    assert not np.array_equal(states[0], states[2])
    first, _ = epoch.epoch(SETUP, start(), data, 4)
    key = jax.random.key_data(first.key)
    second, _ = epoch.epoch(SETUP, first, data, 4)
    assert not np.array_equal(key, jax.random.key_data(second.key))


def test_a_step_is_the_optimisers_update_of_the_mean_loss() -> None:
    data, state = rows(3), start()
    stepped, log = epoch.epoch(SETUP, start(), data, 3)

    def loss(params: dict) -> jax.Array:
        return jnp.mean((apply.apply(SETUP.model, params, {}, data.x) - data.y) ** 2)

    @quickly
    def step(params: dict) -> tuple:
        value, gradient = jax.value_and_grad(loss)(params)
        with jax.numpy_dtype_promotion("standard"):
            updates, _ = ADAM.update(gradient, ADAM.init(params), params)
            return value, gradient, optax.apply_updates(params, updates)

    value, gradient, wanted = jax.tree.map(np.asarray, step(state.params))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), stepped.params, wanted)
    norm = np.sqrt(sum(float((leaf**2).sum()) for leaf in jax.tree.leaves(gradient)))
    np.testing.assert_allclose([*log.loss, *log.gradient_norm], [value, norm], rtol=1e-5)


def test_training_lowers_the_loss() -> None:
    data = rows(32)
    epochs = list(epoch.epochs(SETUP, start(), data, rows(13, 1), 4, range(1, 9)))
    assert [finished.number for finished in epochs] == list(range(1, 9))
    assert epochs[-1].valid["mse"] < 0.5 * epochs[0].valid["mse"]
    assert float(epochs[-1].steps.loss.mean()) < 0.5 * float(epochs[0].steps.loss.mean())


def test_the_state_is_donated() -> None:
    state = start()
    leaves = jax.tree.leaves(state)
    epoch.epoch(SETUP, state, rows(32), 4)
    assert all(leaf.is_deleted() for leaf in leaves)


@pytest.mark.parametrize("batch", [4, 32])
def test_what_is_evaluated_is_the_mean_over_single_rows(batch: int) -> None:
    data, state = rows(13), start()
    measured = epoch.evaluate(SETUP, state.params, state.stats, data, batch)
    errors = (
        np.concatenate([apply_model(SETUP.model, state.params, {}, row[None]) for row in np.asarray(data.x)]) - data.y
    )
    np.testing.assert_allclose(measured["mse"], np.mean(errors**2), rtol=1e-5)
    np.testing.assert_allclose(measured["mae"], np.mean(np.abs(errors)), rtol=1e-5)


@pytest.mark.parametrize("batch", [4, 32])
def test_predictions_come_in_the_order_of_the_rows(batch: int) -> None:
    data, state = rows(13), start()
    wanted = apply_model(SETUP.model, state.params, {}, data.x)
    np.testing.assert_allclose(epoch.predict(SETUP, state.params, {}, data.x, batch), wanted, atol=1e-6)


EVERY = SETUP._replace(
    model=forecaster.Forecaster(cells.named("rnn"), 3, 1, 2, every_step=True),
    objective=objectives.forecasting(heads.point(), every_step=True),
)


def rows_of_every_step(n: int) -> Batch:
    """Two targets after each of the five steps."""
    data = rows(n)
    return Batch(data.x, jnp.asarray(np.cumsum(data.x, axis=1) * np.float32([1.0, -2.0])))


def test_with_targets_at_every_step_the_loss_is_the_mean_over_all_of_them() -> None:
    data, state = rows_of_every_step(6), start(EVERY)
    wanted = np.mean((np.asarray(apply_model(EVERY.model, state.params, {}, data.x)) - data.y) ** 2)
    _, log = epoch.epoch(EVERY, state, data, 6)
    np.testing.assert_allclose(log.loss, [wanted], rtol=1e-5)


@pytest.mark.parametrize("batch", [4, 32])
def test_with_targets_at_every_step_a_forecast_and_its_metrics_are_of_the_last_one(batch: int) -> None:
    data, state = rows_of_every_step(13), start(EVERY)
    wanted, y = np.asarray(apply_model(EVERY.model, state.params, {}, data.x))[:, -1], np.asarray(data.y)[:, -1]
    found = epoch.predict(EVERY, state.params, {}, data.x, batch)
    assert found.shape == (13, 2)
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    measured = epoch.evaluate(EVERY, state.params, {}, data, batch)
    np.testing.assert_allclose(measured["mse"], np.mean((wanted - y) ** 2), rtol=1e-5)
    np.testing.assert_allclose(measured["mae"], np.mean(np.abs(wanted - y)), rtol=1e-5)


def test_a_distribution_is_trained_and_chosen_by_its_own_loss() -> None:
    head = heads.GAUSSIAN
    setup = SETUP._replace(
        model=forecaster.Forecaster(cells.named("rnn"), 3, 1, 2), objective=objectives.forecasting(head)
    )
    data, valid = rows(64), rows(16, 1)
    first, *_, last = epoch.epochs(setup, start(setup), data, valid, 8, range(1, 9))
    assert list(last.valid) == ["loss", "mae", "mse"]
    assert last.valid["loss"] < first.valid["loss"] - 0.3 and last.valid["mse"] < first.valid["mse"]
    raw = np.asarray(apply_model(setup.model, last.state.params, {}, valid.x))
    wanted = quickly(head.loss)(raw[:, None], valid.y)
    np.testing.assert_allclose(last.valid["loss"], np.mean(wanted), rtol=1e-5)


def test_seeds_under_vmap_are_the_single_runs() -> None:
    data, keys = rows(32), jax.random.split(jax.random.key(5), 3)

    @quickly
    @jax.vmap
    def run(key: jax.Array) -> tuple[epoch.TrainState, epoch.StepLog]:
        return epoch.epoch(SETUP, epoch.init(SETUP, key, data.x[:1]), data, 4)

    together, logs = run(keys)
    params, losses = jax.tree.map(np.asarray, (together.params, logs.loss))
    for number, key in enumerate(keys):
        alone, log = epoch.epoch(SETUP, init(SETUP, key, rows(1).x), data, 4)
        np.testing.assert_allclose(losses[number], log.loss, rtol=1e-5)
        mine = jax.tree.map(lambda leaf, at=number: leaf[at], params)
        jax.tree.map(lambda one, many: np.testing.assert_allclose(many, one, atol=1e-6), alone.params, mine)
    assert not np.allclose(losses[0], losses[1])


def traced_once(function: Callable[..., Any], *static: str) -> Callable[..., Any]:
    """A function of `train.epoch`, compiled anew, that fails if it is traced a second time."""
    chex.clear_trace_counter()
    return jax.jit(chex.assert_max_traces(function.__wrapped__, n=1), static_argnames=static)


def test_training_evaluation_and_prediction_are_traced_once() -> None:
    data, valid = rows(21), rows(7, 1)
    state = start()

    train = traced_once(epoch.epoch, "setup", "batch")
    for _ in range(3):
        state, _ = train(SETUP, state, data, batch=4)

    evaluate = traced_once(epoch.evaluate, "setup", "batch")
    predict = traced_once(epoch.predict, "setup", "batch")
    for scale in (1, 2):
        params = jax.tree.map(lambda leaf, scale=scale: scale * leaf, state.params)
        evaluate(SETUP, params, state.stats, valid, batch=4)
        predict(SETUP, params, state.stats, valid.x, batch=4)

    with pytest.raises(AssertionError, match="traced > 1 times"):
        predict(SETUP, state.params, state.stats, valid.x[:3], batch=4)


def test_an_epoch_is_compiled_once_for_all_epochs() -> None:
    data, valid = rows(21), rows(7, 1)
    epoch.epoch.clear_cache()
    epoch.evaluate.clear_cache()
    list(epoch.epochs(SETUP, start(), data, valid, 4, range(1, 6)))
    again = epoch.Setup(forecaster.Forecaster(cells.named("rnn"), 3, 1, 1), REGRESSION, ADAM)
    list(epoch.epochs(again, start(again, seed=1), data, valid, 4, range(1, 3)))
    assert epoch.epoch._cache_size() == 1 and epoch.evaluate._cache_size() == 1


@pytest.mark.parametrize(
    ("precision", "mark"),
    [
        ("float32", "precision = [HIGHEST, HIGHEST]"),
        ("tf32", "precision = [HIGH, HIGH]"),
        ("bfloat16", "lhs_precision_type = bf16"),
    ],
)
def test_every_product_of_an_epoch_has_the_precision_of_the_setup_whatever_the_caller_sets(
    precision: Precision, mark: str
) -> None:
    setup = SETUP._replace(precision=precision)
    state = jax.eval_shape(partial(epoch.init, setup), jax.random.key(0), rows(1).x)
    with jax.default_matmul_precision("default"):
        programs = [
            epoch.epoch.lower(setup, state, rows(ROWS), 4),
            epoch.predict.lower(setup, state.params, state.stats, rows(ROWS).x, 4),
        ]
    for program in programs:
        products = [line for line in program.as_text().splitlines() if "dot_general" in line]
        assert products and all(mark in line for line in products)
