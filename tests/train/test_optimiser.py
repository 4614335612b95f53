"""The optimiser is optax's; what runs differ in by a number alone is an array in its state, and compiles nothing."""

import dataclasses
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import quickly

from jaxseq.checkpoint import leaves, store
from jaxseq.checkpoint.writer import Writer
from jaxseq.common import formats
from jaxseq.common.errors import UsageError
from jaxseq.data.waves import Waves
from jaxseq.train import domains, epoch, job, schedules
from jaxseq.train.experiments import from_config, named, to_config
from jaxseq.train.experiments.forecasts import ForecastExperiment, Model
from jaxseq.train.optimiser import Optimiser, Rule, Settings, after_epoch, global_norm, optimiser, weights, with_numbers
from jaxseq.train.schedules import Schedule

pytestmark = pytest.mark.usefixtures("compiled_quickly")

STEPS = 20
SOURCE = np.random.default_rng(5)
PARAMS = {
    "recurrent_0": {"cell": {"recurrent_kernel": SOURCE.normal(size=(3, 3)), "bias": SOURCE.normal(size=3)}},
    "head": {"kernel": SOURCE.normal(size=(3, 1)), "bias": SOURCE.normal(size=1)},
}
PARAMS = jax.tree.map(lambda leaf: leaf.astype(np.float32), PARAMS)
GRADIENTS = [
    jax.tree.map(lambda leaf, scale=scale: (scale * SOURCE.normal(size=leaf.shape)).astype(np.float32), PARAMS)
    for scale in (0.01, 0.1, 1.0, 10.0, 1.0)
]


def tiny(**fields: object) -> ForecastExperiment:
    data = Waves(count=60, window=5)
    return named("waves", data=data, model=Model("rnn", 2), epochs=1, batch=16, **fields)


def start(chosen: Optimiser) -> object:
    return with_numbers(chosen.transformation.init(PARAMS), chosen.numbers)


@jax.numpy_dtype_promotion("standard")
def trained(transformation: optax.GradientTransformation, state: object) -> tuple[object, object]:
    """Parameters and state after a few steps; the gradients do not depend on the parameters."""

    @quickly
    def step(params: object, state: object, gradient: object) -> tuple[object, object]:
        updates, state = transformation.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    params = PARAMS
    for gradient in GRADIENTS:
        params, state = step(params, state, gradient)
    return params, state


RULES = {
    "adam": lambda rate, settings: optax.adam(rate),
    "adamw": lambda rate, settings: optax.adamw(rate, weight_decay=settings.decay),
    "nadamw": lambda rate, settings: optax.nadamw(rate, weight_decay=settings.decay),
    "lion": lambda rate, settings: optax.lion(rate, weight_decay=settings.decay),
    "muon": lambda rate, settings: optax.contrib.muon(
        rate, weight_decay=settings.decay, adam_weight_decay=settings.decay
    ),
    "sgd": lambda rate, settings: optax.sgd(rate, settings.momentum or None),
    "rmsprop": lambda rate, settings: optax.rmsprop(rate, momentum=settings.momentum or None),
    "adafactor": lambda rate, settings: optax.adafactor(rate),
}
RATES = {
    "constant": lambda lr: lr,
    "plateau": lambda lr: lr,
    "cosine": lambda lr: optax.cosine_decay_schedule(lr, STEPS),
    "warmup-cosine": lambda lr: optax.warmup_cosine_decay_schedule(0.0, lr, STEPS // 10, STEPS),
    "one-cycle": lambda lr: optax.cosine_onecycle_schedule(STEPS, lr, 0.3),
    "exponential": lambda lr: optax.exponential_decay(lr, STEPS, 0.01),
}


def of_optax(settings: Settings) -> optax.GradientTransformation:
    """The same optimiser with Python's floats, by optax's documentation."""
    rule = RULES[settings.rule](RATES[settings.schedule](settings.lr), settings)
    return rule if settings.clip is None else optax.chain(optax.clip_by_global_norm(settings.clip), rule)


@pytest.mark.parametrize(
    "settings",
    [
        Settings("adam", 0.03, clip=1.0),
        Settings("adamw", 0.1, "cosine", clip=0.3, decay=0.01),
        Settings("nadamw", 0.1, "warmup-cosine", decay=0.2),
        Settings("lion", 0.01, "exponential", clip=1.0),
        Settings("muon", 0.02, decay=0.1),
        Settings("sgd", 0.1, "one-cycle", momentum=0.9),
        Settings("rmsprop", 0.01, momentum=0.5),
        Settings("adafactor", 0.1, "plateau"),
    ],
    ids=lambda settings: settings.rule,
)
def test_it_takes_the_steps_of_optax_with_constants(settings: Settings) -> None:
    chosen, reference = optimiser(settings, STEPS), of_optax(settings)
    params, state = trained(chosen.transformation, start(chosen))
    expected, expected_state = trained(reference, reference.init(PARAMS))
    chex.assert_trees_all_close(params, expected, rtol=1e-5, atol=1e-6)
    assert jax.tree.structure(state.rule) == jax.tree.structure(expected_state)
    chex.assert_trees_all_equal(state.numbers, dict(chosen.numbers))


@pytest.mark.parametrize("schedule", schedules.RATES)
def test_a_rate_is_that_of_optax_in_every_step_and_after_the_last(schedule: Schedule) -> None:
    numbers = {
        name: jnp.asarray(number)
        for name, number in optimiser(Settings(lr=0.3, schedule=schedule), STEPS).numbers.items()
    }
    counts = np.arange(STEPS + 1)
    with jax.numpy_dtype_promotion("standard"):
        rates = quickly(jax.vmap(partial(schedules.RATES[schedule], numbers)))(counts)
        expected = [float(RATES[schedule](0.3)(count)) for count in counts]
    np.testing.assert_allclose(rates, expected, rtol=1e-4, atol=1e-7)


def test_a_plateau_is_that_of_optax() -> None:
    chosen = optimiser(Settings(schedule="plateau", factor=0.5, plateau=2), STEPS)
    scores = np.float32([3, 2, 2, 2.5, 1, 1, 1, 1, 0.5, -1, -1, -0.9, -1])
    reference = optax.contrib.reduce_on_plateau(0.5, 2, rtol=0.0, atol=1e-12)
    expected, state = reference.init(PARAMS), start(chosen)
    scales = []
    for score in scores:
        state = after_epoch(state, jnp.asarray(score))
        with jax.numpy_dtype_promotion("standard"):
            _, expected = reference.update({}, expected, value=score)
        assert float(state.plateau.scale) == float(expected.scale)
        scales.append(float(state.plateau.scale))
    assert scales[:4] == [1, 1, 1, 0.5] and scales[-1] == 0.5**3
    gradient = GRADIENTS[2]
    with jax.numpy_dtype_promotion("standard"):
        halved, _ = chosen.transformation.update(gradient, state, PARAMS)
        whole, _ = chosen.transformation.update(gradient, start(chosen), PARAMS)
    chex.assert_trees_all_close(halved, jax.tree.map(lambda leaf: leaf / 8, whole), rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "where", "got"),
    [
        ({"rule": "sgd", "decay": 0.1}, "--decay", 0.1),
        ({"rule": "adafactor", "decay": 0.1}, "--decay", 0.1),
        ({"rule": "adamw"}, "--optimiser", "adamw"),
        ({"rule": "lion", "momentum": 0.9}, "--momentum", 0.9),
        ({"momentum": 1.0}, "momentum", 1.0),
        ({"warmup": 0.1}, "--warmup", 0.1),
        ({"schedule": "cosine", "factor": 0.1}, "--factor", 0.1),
        ({"schedule": "exponential", "factor": 1.0}, "factor", 1.0),
        ({"schedule": "exponential", "plateau": 3}, "--plateau", 3),
        ({"schedule": "plateau", "plateau": 0}, "plateau", 0),
        ({"rule": "adagrad"}, "optimiser", "adagrad"),
        ({"schedule": "linear"}, "schedule", "linear"),
        ({"lr": float("nan")}, "lr", float("nan")),
    ],
    ids=str,
)
def test_settings_that_mean_nothing_are_refused_in_one_line(change: dict[str, Any], where: str, got: object) -> None:
    fields = {"optimiser" if name == "rule" else name: value for name, value in change.items()}
    with pytest.raises(UsageError) as error:
        tiny(**{"clip": None, "schedule": "constant", **fields})
    assert error.value.where == where and str(error.value.got) == str(got)
    assert "\n" not in str(error.value)


def test_a_plateau_that_patience_never_waits_for_is_refused() -> None:
    with pytest.raises(UsageError) as error:
        tiny(schedule="plateau", plateau=7, patience=7)
    assert (error.value.where, error.value.got, error.value.needed) == ("--patience", 7, "more than --plateau 7")


def test_the_config_says_which_optimiser_trained_and_old_ones_were_adam() -> None:
    recipe = tiny(optimiser="sgd", momentum=0.9, schedule="one-cycle", warmup=0.2)
    config = to_config(recipe)
    assert from_config(config, "config.json") == recipe
    assert {name: config[name] for name in ("optimiser", "momentum", "schedule", "warmup")} == {
        "optimiser": "sgd",
        "momentum": 0.9,
        "schedule": "one-cycle",
        "warmup": 0.2,
    }
    old = {name: value for name, value in to_config(tiny()).items() if name not in ("optimiser", "momentum", "decay")}
    assert from_config(old, "config.json").build_optimiser(9) == tiny().build_optimiser(9)


def test_every_number_is_a_strong_array() -> None:
    chosen = optimiser(Settings("adamw", schedule="one-cycle", clip=1.0, decay=0.1), STEPS)
    assert set(chosen.numbers) == {"lr", "steps", "warmup", "clip", "decay"}
    for rule in RULES:
        settings = Settings(rule, schedule="plateau", decay=0.1 if rule == "adamw" else 0.0)
        state = start(optimiser(settings, STEPS))
        assert not any(leaf.weak_type for leaf in jax.tree.leaves(state))
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves((state.numbers, state.plateau)))


def test_without_its_numbers_an_optimiser_trains_nothing_silently() -> None:
    transformation = optimiser(Settings(), STEPS).transformation
    params, _ = trained(transformation, transformation.init(PARAMS))
    assert not any(np.isfinite(leaf).any() for leaf in jax.tree.leaves(params))


def test_a_norm_is_summed_in_the_order_of_the_cells_fields() -> None:
    fields = [SOURCE.normal(size=(50, 3)).astype(np.float32) for _ in range(20)]
    cells = [dict(zip(("input_kernel", "recurrent_kernel", "bias"), field.T, strict=True)) for field in fields]
    norms = [float(global_norm(cell)) for cell in cells]
    assert norms == [float(optax.tree.norm(list(cell.values()))) for cell in cells]
    assert norms != [float(optax.tree.norm(cell)) for cell in cells]


# Compilation -----------------------------------------------------------------------------------------------------------


def test_a_search_over_numbers_compiles_nothing_after_its_first_run(tmp_path: Path) -> None:
    compiled = []

    def count(event: str, *_: object, **__: object) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(count)
    recipe = tiny(decay=0.1)
    counts, losses = [], []
    for change in ({}, {"lr": 0.02}, {"clip": 0.1}, {"decay": 0.5}, {"seed": 3}, {"epochs": 3}):
        compiled.clear()
        prepared = domains.of(recipe).prepare(dataclasses.replace(recipe, **change))
        data = prepared.data
        states = epoch.epochs(
            prepared.setup, job.initial_state(prepared), data.train, data.valid, recipe.batch, range(1, 3)
        )
        losses.append([float(finished.steps.loss[-1]) for finished in states][-1])
        counts.append(len(compiled))
    assert counts[0] > 0 and not any(counts[1:])
    assert len(set(losses)) == len(losses)


def test_averaged_weights_are_those_of_optax_and_change_no_step() -> None:
    chosen, plain = optimiser(Settings(lr=0.1, ema=0.8), STEPS), optimiser(Settings(lr=0.1), STEPS)
    average = optax.ema(0.8, debias=True)
    state, moments, params = start(chosen), average.init(PARAMS), PARAMS
    chex.assert_trees_all_equal(weights(state, PARAMS), PARAMS)
    unchanged = trained(plain.transformation, start(plain))[0]
    for gradient in GRADIENTS:
        with jax.numpy_dtype_promotion("standard"):
            updates, state = chosen.transformation.update(gradient, state, params)
            params = optax.apply_updates(params, updates)
            expected, moments = average.update(params, moments)
        chex.assert_trees_all_close(weights(state, params), expected, rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(params, unchanged, rtol=1e-5, atol=1e-6)


def test_an_epoch_is_validated_with_its_averaged_weights() -> None:
    recipe = tiny(ema=0.9)
    prepared = domains.of(recipe).prepare(recipe)
    data = prepared.data
    (finished,) = epoch.epochs(
        prepared.setup, job.initial_state(prepared), data.train, data.valid, recipe.batch, numbers=[1]
    )

    def mse(state: epoch.TrainState) -> float:
        rows = epoch.EVALUATION_BATCHES * recipe.batch
        return float(epoch.evaluate(prepared.setup, state.params, state.stats, data.valid, rows)["mse"])

    assert finished.valid["mse"] == mse(job.predicting(finished.state)) != mse(finished.state)


# Resuming --------------------------------------------------------------------------------------------------------------

COMBINATIONS = [
    ("lion", "plateau", []),
    ("sgd", "one-cycle", []),
    ("adam", "constant", []),
    ("muon", "constant", [pytest.mark.slow]),
    ("adam", "exponential", [pytest.mark.slow]),
    ("adamw", "warmup-cosine", [pytest.mark.slow]),
    ("nadamw", "plateau", [pytest.mark.slow]),
    ("rmsprop", "exponential", [pytest.mark.slow]),
    ("adafactor", "cosine", [pytest.mark.slow]),
]


@pytest.mark.parametrize(
    ("rule", "schedule"), [pytest.param(rule, schedule, marks=marks) for rule, schedule, marks in COMBINATIONS]
)
def test_every_rule_and_schedule_resumes_bit_for_bit(rule: Rule, schedule: Schedule, tmp_path: Path) -> None:
    recipe = tiny(
        optimiser=rule,
        schedule=schedule,
        decay=0.1 if rule == "adamw" else 0.0,
        momentum=0.9 if rule == "sgd" else 0.0,
        plateau=1 if schedule == "plateau" else None,
        ema=0.9 if schedule == "constant" else 0.0,
    )
    prepared = domains.of(recipe).prepare(dataclasses.replace(recipe, epochs=3))

    def epochs_from(state: epoch.TrainState, *numbers: int) -> Iterator[epoch.Epoch]:
        return epoch.epochs(
            prepared.setup, state, prepared.data.train, prepared.data.valid, batch=recipe.batch, numbers=numbers
        )

    with Writer(tmp_path / "checkpoints", {}, best="mse") as writer:
        for finished in epochs_from(job.initial_state(prepared), 1, 2, 3):
            if finished.number == 2:
                writer.save(2, finished.state, finished.valid)
    _, restored = store.restore(tmp_path / "checkpoints", job.abstract_state(prepared))
    (resumed,) = epochs_from(job.with_numbers(prepared, restored), 3)

    assert leaves.fingerprints(resumed.state) == leaves.fingerprints(finished.state)
    assert resumed.valid == finished.valid and np.isfinite(finished.valid["mse"])


# Checkpoints of older formats ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(schedule="cosine"),
        Settings(schedule="cosine", clip=0.3),
        Settings("adamw", clip=1.0, decay=0.01),
    ],
    ids=str,
)
def test_moments_and_counts_of_older_formats_are_kept(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, chosen = of_optax(settings), optimiser(settings, STEPS)
    params, saved = trained(reference, reference.init(PARAMS))
    with monkeypatch.context() as patch:
        patch.setattr(formats, "FORMAT", 3)
        with Writer(tmp_path / "checkpoints", {}, best="loss") as writer:
            writer.save(1, {"params": params, "opt": saved}, {"loss": 1.0})

    like = jax.eval_shape(lambda: {"params": PARAMS, "opt": chosen.transformation.init(PARAMS)})
    _, restored = store.restore(tmp_path / "checkpoints", like)
    state = with_numbers(restored["opt"], chosen.numbers)
    chex.assert_trees_all_equal((restored["params"], state.rule), (params, saved))
    chex.assert_trees_all_equal(state.numbers, dict(chosen.numbers))


def test_a_leaf_that_is_missing_in_the_current_format_is_no_older_format(tmp_path: Path) -> None:
    without, clipped = (optimiser(Settings(clip=clip), STEPS) for clip in (None, 1.0))
    with Writer(tmp_path / "checkpoints", {}, best="loss") as writer:
        writer.save(1, {"opt": start(without)}, {"loss": 1.0})
    like = jax.eval_shape(lambda: {"opt": clipped.transformation.init(PARAMS)})
    with pytest.raises(UsageError, match="opt/numbers/clip is missing there"):
        store.restore(tmp_path / "checkpoints", like)
