"""Objectives: the loss is the head's, metrics are of the forecast, equal arguments give one object."""

import functools

import jax
import numpy as np
import pytest
from problems import quickly

from jaxseq.common.errors import UsageError
from jaxseq.data.waves import Waves
from jaxseq.nn import apply, heads, objectives
from jaxseq.train import experiments
from jaxseq.train.experiments import named
from jaxseq.train.experiments.forecasts import ForecastExperiment, Model

pytestmark = pytest.mark.usefixtures("compiled_quickly")

HEADS = [heads.point("mse"), heads.point("huber"), *heads.HEADS.values()]
every_head = pytest.mark.parametrize("head", HEADS, ids=lambda head: head.loss.__name__)
every_step = pytest.mark.parametrize("every", [False, True], ids=["at the end", "at every step"])
ROWS, STEPS, HORIZON = 5, 4, 3
compiled = functools.cache(quickly)


def outputs(head, every, seed=0):
    """What a model puts out, and what is asked of it, with another number in every place."""
    random = np.random.default_rng(seed)
    shape = (ROWS, STEPS) if every else (ROWS,)
    raw = random.normal(size=(*shape, HORIZON * head.width)).astype(np.float32)
    if head.support != "real":
        return raw, random.poisson(2, size=(*shape, HORIZON)).astype(np.float32)
    return raw, random.normal(size=(*shape, HORIZON)).astype(np.float32)


@every_head
@every_step
def test_the_loss_of_a_row_is_the_mean_of_the_heads_over_its_steps(head, every):
    raw, y = outputs(head, every)
    each = compiled(head.loss)(raw.reshape(*y.shape, head.width), y)
    found = compiled(objectives.forecasting(head, every).loss)(raw, y)
    np.testing.assert_allclose(found, np.asarray(each).reshape(ROWS, -1).mean(axis=1), rtol=1e-5)


@every_head
@every_step
def test_metrics_are_of_the_centre_and_of_the_last_step_alone(head, every):
    raw, y = outputs(head, every)
    task = objectives.forecasting(head, every)
    ends = [np.asarray(task.at_end(jax.numpy.asarray(part))) for part in (raw, y)]
    np.testing.assert_array_equal(ends[1], y[:, -1] if every else y)
    centre = np.asarray(head.centre(jax.numpy.asarray(ends[0]).reshape(ROWS, HORIZON, head.width)))
    measured = {name: compiled(metric)(*ends) for name, metric in task.metrics}
    # A direction is a rise or none.
    outcome = ends[1] if head.quantity == "value" else ends[1] > 0
    np.testing.assert_allclose(measured["mse"], ((centre - outcome) ** 2).mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(measured["mae"], np.abs(centre - outcome).mean(axis=1), rtol=1e-5)
    if "loss" in measured:
        expected = compiled(objectives.forecasting(head).loss)(*ends)
        np.testing.assert_allclose(measured["loss"], expected, rtol=1e-5)


@every_head
def test_the_epoch_is_chosen_by_the_loss_that_is_trained(head):
    """The selected metric is the training loss itself, of the forecast alone."""
    task = objectives.forecasting(head)
    raw, y = outputs(head, False)
    selected = dict(task.metrics)[task.select]
    np.testing.assert_allclose(compiled(selected)(raw, y), compiled(task.loss)(raw, y), rtol=1e-5)
    assert task.select in ("mse", "mae") or head.loss not in (heads.LOSSES["mse"], heads.LOSSES["mae"])


@every_head
def test_the_same_task_is_the_same_object_so_that_it_is_compiled_once(head):
    assert objectives.forecasting(head, True) is objectives.forecasting(head, True)
    assert objectives.forecasting(head, True) != objectives.forecasting(head, False)
    assert objectives.forecasting(heads.point()) is objectives.forecasting(heads.point("mse"))


@every_head
def test_an_output_that_does_not_fit_its_target_is_refused_and_not_broadcast(head, unannotated):
    raw, y = outputs(head, False)
    for wrong in (y[:, :1], y[:1]):
        with pytest.raises(AssertionError, match="shape"):
            compiled(objectives.forecasting(head).loss)(raw, wrong)


def test_errors_are_means_over_the_horizon_row_by_row():
    prediction, target = np.array([[1.0, 2.0], [0.0, 0.0]], np.float32), np.array([[1.0, 4.0], [3.0, -4.0]], np.float32)
    pair = jax.numpy.asarray(prediction), jax.numpy.asarray(target)
    np.testing.assert_array_equal(objectives.squared_error(*pair), [2, 12.5])
    np.testing.assert_array_equal(objectives.absolute_error(*pair), [1, 3.5])


def recipe(task, head, horizon, cell="rnn") -> ForecastExperiment:
    return named("waves", data=Waves(count=10, window=6), model=Model(cell, 3, head=head), task=task, horizon=horizon)


@pytest.mark.parametrize("head", ["point", *heads.HEADS])
@pytest.mark.parametrize(("task", "horizon"), [("one-step", 1), ("iterated", 4), ("direct", 4), ("every-step", 4)])
def test_what_a_recipes_model_puts_out_fits_what_its_task_asks(task, horizon, head):
    if (task, head) == ("iterated", "quantile"):
        with pytest.raises(UsageError, match="quantiles of one step do not add up over several") as raised:
            recipe(task, head, horizon)
        assert (raised.value.where, raised.value.got) == ("--model.head", "quantile")
        assert raised.value.needed == f"one of {', '.join(name for name, head in heads.HEADS.items() if head.draw)}"
        return
    if (task, head) == ("iterated", "direction"):
        with pytest.raises(UsageError, match="feeds values back") as raised:
            recipe(task, head, horizon)
        assert (raised.value.where, raised.value.got) == ("--task iterated", "--model.head direction")
        return
    experiment = recipe(task, head, horizon)
    x = jax.ShapeDtypeStruct((2, 6, 1), np.float32)
    shapes = jax.eval_shape(functools.partial(apply.init, experiment.build()), jax.random.key(0), x)
    raw = jax.eval_shape(functools.partial(apply.apply, experiment.build()), *shapes, x)
    steps = 1 if task == "iterated" else horizon
    y = jax.ShapeDtypeStruct((2, 6, steps) if task == "every-step" else (2, steps), np.float32)
    assert jax.eval_shape(experiment.objective().loss, raw, y).shape == (2,)
    assert experiment.objective() is recipe(task, head, horizon).objective()


@pytest.mark.parametrize(
    ("fields", "where", "got", "needed"),
    [
        ({"horizon": 0}, "horizon", 0, "at least 1"),
        ({"horizon": 2}, "--horizon", 2, "--task direct, every-step or iterated"),
        ({"task": "every-step", "model": Model(bidirectional=True)}, "--task", "every-step", "direct"),
        ({"task": "iterated", "model": Model(bidirectional=True)}, "--task", "iterated", "direct"),
        ({"loss": "mae", "model": Model(head="gaussian")}, "--loss", "mae", "mse"),
    ],
)
def test_a_strategy_that_is_ruled_out_is_refused_with_an_alternative(fields, where, got, needed):
    with pytest.raises(UsageError) as raised:
        named("waves", **fields)
    assert (raised.value.where, raised.value.got, raised.value.needed) == (where, got, needed)


@pytest.mark.parametrize("fields", [{"task": "many"}, {"loss": "log"}, {"model": {"head": "laplace"}}])
def test_a_saved_task_that_is_unknown_is_refused_with_those_that_are_known(fields):
    with pytest.raises(UsageError) as raised:
        experiments.from_config({"experiment": "waves", **fields}, "here")
    name = str(raised.value.where).rpartition(" ")[2]
    assert str(raised.value.where).startswith("here: ") and name in ("task", "loss", "head")
    assert str(raised.value.needed).startswith("one of ")


def test_a_recipe_comes_back_from_its_config():
    experiment = recipe("iterated", "student-t", 5)
    saved = experiments.to_config(experiment)
    assert (saved["task"], saved["horizon"], saved["model"]["head"]) == ("iterated", 5, "student-t")
    assert experiments.from_config(saved, "here") == experiment


# Missing targets


@every_head
@every_step
def test_missing_targets_leave_the_gradient_of_the_known_ones(head, every):
    raw, y = map(jax.numpy.asarray, outputs(head, every))
    known = np.random.default_rng(1).random(y.shape) < 0.6
    known[0] = False
    known[1] = True
    objective = objectives.forecasting(head, every, masks_targets=True)

    def masked(raw):
        y_known = jax.numpy.where(known, y, np.nan)
        weight = objective.weight(y_known)
        return jax.numpy.sum(objective.loss(raw, y_known) * weight) / jax.numpy.sum(weight)

    def of_known_alone(raw):
        losses = head.loss(raw.reshape(*y.shape, head.width), y)
        return jax.numpy.mean(losses[known])

    value, gradient = quickly(jax.value_and_grad(masked))(raw)
    expected_value, expected = quickly(jax.value_and_grad(of_known_alone))(raw)
    np.testing.assert_allclose(value, expected_value, rtol=1e-5)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-7)
    assert not np.any(gradient[0]) and np.any(gradient[1])


@every_head
@every_step
def test_masking_changes_no_value_where_all_targets_are_known(head, every):
    raw, y = outputs(head, every)
    plain = objectives.forecasting(head, every)
    masked = objectives.forecasting(head, every, masks_targets=True)
    assert plain.weight is None and masked.weight is not None
    np.testing.assert_allclose(compiled(masked.loss)(raw, y), compiled(plain.loss)(raw, y), rtol=1e-6)
    np.testing.assert_array_equal(masked.weight(jax.numpy.asarray(y)), np.ones(ROWS))
    ends = [np.asarray(plain.at_end(jax.numpy.asarray(part))) for part in (raw, y)]
    for (name, metric), (masked_name, masked_metric) in zip(plain.metrics, masked.metrics, strict=True):
        assert name == masked_name
        np.testing.assert_allclose(compiled(masked_metric)(*ends), compiled(metric)(*ends), rtol=1e-6)


@every_head
def test_an_output_that_is_not_finite_is_seen_beside_missing_targets(head):
    raw, y = outputs(head, False)
    y[:, 1] = np.nan
    raw[2] = np.nan
    objective = objectives.forecasting(head, masks_targets=True)
    finite = np.isfinite(compiled(objective.loss)(raw, y))
    assert finite.tolist() == [True, True, False, True, True]
