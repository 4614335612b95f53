"""The optimiser is optax's; what runs differ in by a number alone is an array in its state, and compiles nothing."""

import dataclasses
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import quickly

from jaxseq.checkpoint import store
from jaxseq.checkpoint.writer import Writer
from jaxseq.common import formats
from jaxseq.data.waves import Waves
from jaxseq.train import epoch, job, run
from jaxseq.train.experiments import named
from jaxseq.train.experiments.forecasts import ForecastExperiment, Model
from jaxseq.train.optimiser import Optimiser, Settings, global_norm, optimiser, with_numbers

pytestmark = pytest.mark.usefixtures("compiled_quickly")

STEPS = 12
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


def of_optax(settings: Settings) -> optax.GradientTransformation:
    """The same optimiser with Python's floats, by optax's documentation."""
    rates = {"constant": settings.lr, "cosine": optax.cosine_decay_schedule(settings.lr, STEPS)}
    rate = rates[settings.schedule]
    rule = optax.adamw(rate, weight_decay=settings.decay) if settings.decay else optax.adam(rate)
    return rule if settings.clip is None else optax.chain(optax.clip_by_global_norm(settings.clip), rule)


@pytest.mark.parametrize(
    "settings",
    [
        Settings(lr=0.03),
        Settings(lr=0.03, clip=1.0),
        Settings(lr=0.1, schedule="cosine", decay=0.2),
        Settings(lr=0.1, schedule="cosine", clip=0.3, decay=0.01),
    ],
    ids=str,
)
def test_it_takes_the_steps_of_optax_with_constants(settings: Settings) -> None:
    chosen, reference = optimiser(settings, STEPS), of_optax(settings)
    params, state = trained(chosen.transformation, start(chosen))
    expected, expected_state = trained(reference, reference.init(PARAMS))
    chex.assert_trees_all_close(params, expected, rtol=1e-5, atol=1e-7)
    chex.assert_trees_all_equal_structs(state.rule, expected_state)
    chex.assert_trees_all_equal(state.numbers, dict(chosen.numbers))


def test_every_number_is_a_strong_array() -> None:
    chosen = optimiser(Settings(schedule="cosine", clip=1.0, decay=0.1), STEPS)
    assert set(chosen.numbers) == {"lr", "steps", "clip", "decay"}
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(start(chosen)))
    state = jax.jit(start, static_argnums=0).__wrapped__(chosen)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(state.numbers))


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
    recipe = tiny()
    counts, losses = [], []
    for change in ({}, {"lr": 0.02}, {"clip": 0.1}, {"seed": 3}, {"epochs": 3}):
        compiled.clear()
        prepared = run.domains.of(recipe).prepare(dataclasses.replace(recipe, **change))
        data = prepared.data
        states = epoch.epochs(
            prepared.setup, job.initial_state(prepared), data.train, data.valid, recipe.batch, range(1, 3)
        )
        losses.append([float(finished.steps.loss[-1]) for finished in states][-1])
        counts.append(len(compiled))
    assert counts[0] > 0 and not any(counts[1:])
    assert len(set(losses)) == len(losses)


# Checkpoints of older formats ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [Settings(), Settings(schedule="cosine"), Settings(schedule="cosine", clip=0.3), Settings(clip=1.0, decay=0.01)],
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
    with pytest.raises(store.UsageError, match="opt/numbers/clip is missing there"):
        store.restore(tmp_path / "checkpoints", like)
