"""Training as pure functions: state in, state out. No files, no clocks, no devices.

One call of `epoch` is one compiled `lax.scan` over all rows in a fresh random order, with the state donated. Every row is
seen exactly once an epoch: the last batch is filled up with rows of weight zero, so an unequal last batch is a smaller
mean and not a dropped row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Shaped

from jaxseq.common.arrays import Batch, Key, Tree
from jaxseq.nn import apply
from jaxseq.nn.objectives import Objective

EVALUATION_BATCHES = 16
"""Training batches that are predicted together when nothing is trained: a multiple, which devices share evenly."""


class TrainState(NamedTuple):
    """All that training carries from step to step; every leaf is an array.

    step    optimiser steps done
    params  the model's parameters
    stats   running moments of normalisations; an empty dict where there are none
    opt     optax state
    key     the key that every later draw comes from
    """

    step: Int[Array, ""]
    params: Tree
    stats: Tree
    opt: Tree
    key: Key


class Setup(NamedTuple):
    """The fixed things of a training: hashable, so a compiled function is compiled once for it.

    batch_sharding says how a batch is laid over devices; None leaves it to JAX. With skip_nonfinite, a step whose loss or
    gradient is not finite changes neither parameters nor moments nor the optimiser's state.
    """

    model: Any
    objective: Objective
    optimiser: optax.GradientTransformation
    batch_sharding: jax.sharding.NamedSharding | None = None
    skip_nonfinite: bool = False


class StepLog(NamedTuple):
    """What every step of an epoch measured: training loss of its batch, and norm of the gradient."""

    loss: Float[Array, "steps"]
    gradient_norm: Float[Array, "steps"]


class Epoch(NamedTuple):
    """One finished epoch: its number (from 1), the state after it, its steps, the validation metrics."""

    number: int
    state: TrainState
    steps: StepLog
    valid: dict[str, float]


def init(setup: Setup, key: Key, x: Shaped[Array, "b t d"]) -> TrainState:
    """The state before the first step, for inputs shaped like x."""
    init_key, key = jax.random.split(key)
    params, stats = apply.init(setup.model, init_key, x)
    return TrainState(jnp.zeros((), jnp.int32), params, stats, setup.optimiser.init(params), key)


def steps_per_epoch(rows: int, batch: int) -> int:
    """Batches that an epoch of so many rows takes, the unequal last one included."""
    return -(-rows // batch)


@partial(jax.jit, static_argnames=("setup", "batch"), donate_argnames="state")
def epoch(setup: Setup, state: TrainState, data: Batch, batch: int) -> tuple[TrainState, StepLog]:
    """Go once through all rows of `data` in a random order drawn from the state's key; the given state is donated."""
    order_key, key = jax.random.split(state.key)
    rows = data.x.shape[0]
    order = jax.random.permutation(order_key, rows)
    state, log = jax.lax.scan(partial(_step, setup, data), state._replace(key=key), _batches(order, batch))
    return state, log


@partial(jax.jit, static_argnames=("setup", "batch", "step"))
def gradient_norms(setup: Setup, state: TrainState, data: Batch, batch: int, step: int) -> Tree:
    """The norm of each leaf's gradient in one step, from 0, of the epoch that `epoch` would do from `state`.

    The steps before it are done again: it is for the one that failed, so that those which do not fail need no such log.
    """
    order_key, key = jax.random.split(state.key)
    order = jax.random.permutation(order_key, data.x.shape[0])
    batches = _batches(order, batch)
    before, this = (jax.tree.map(lambda rows, part=part: rows[part], batches) for part in (slice(step), step))
    state, _ = jax.lax.scan(partial(_step, setup, data), state._replace(key=key), before)
    return jax.tree.map(optax.tree.norm, _gradient(setup, data, state, this)[2])


def _batches(order: Int[Array, "n"], batch: int) -> tuple[Int[Array, "steps b"], Float[Array, "steps b"]]:
    """Row numbers in batches, and each row's weight: 1, or 0 for what fills up the last batch."""
    rows = order.shape[0]
    filled = jnp.pad(order, (0, -rows % batch))
    weight = jnp.pad(jnp.ones(rows), (0, -rows % batch))
    return filled.reshape(-1, batch), weight.reshape(-1, batch)


def _step(setup: Setup, data: Batch, state: TrainState, rows: tuple[Array, Array]) -> tuple[TrainState, StepLog]:
    value, stats, gradient, key = _gradient(setup, data, state, rows)
    with jax.numpy_dtype_promotion("standard"):  # optax mixes its float32 with Python's and int32 counts
        updates, opt = setup.optimiser.update(gradient, state.opt, state.params)
        params = optax.apply_updates(state.params, updates)
    log = StepLog(value, optax.tree.norm(gradient))
    if setup.skip_nonfinite:
        taken = jnp.isfinite(log.loss) & jnp.isfinite(log.gradient_norm)
        new, old = (params, stats, opt), (state.params, state.stats, state.opt)
        params, stats, opt = jax.tree.map(partial(jnp.where, taken), new, old)
    return TrainState(state.step + 1, params, stats, opt, key), log


def _gradient(
    setup: Setup, data: Batch, state: TrainState, rows: tuple[Array, Array]
) -> tuple[Float[Array, ""], Tree, Tree, Key]:
    """Of one batch: the loss, the moments that follow, the gradient, and the key of the next step."""
    index, weight = rows
    x, y, weight = _constrain(setup, (data.x[index], data.y[index], weight))

    draw, key = jax.random.split(state.key) if setup.model.draws else (state.key, state.key)
    if setup.objective.augment is not None:
        augment_key, key = jax.random.split(key)
        x, y = setup.objective.augment(augment_key, x, y)

    def loss(params: Tree) -> tuple[Array, Tree]:
        prediction, stats = apply.apply_train(setup.model, params, state.stats, x, weight, draw)
        return _weighted_mean(setup.objective.loss(prediction, y), _heavy(setup, y, weight)), stats

    with _mesh(setup):
        (value, stats), gradient = jax.value_and_grad(loss, has_aux=True)(state.params)
    return value, stats, gradient, key


def _mesh(setup: Setup) -> AbstractContextManager[Any]:
    """Says that the batch is split, where it is, to what is traced within."""
    sharding = setup.batch_sharding
    return nullcontext() if sharding is None else jax.sharding.use_abstract_mesh(sharding.mesh.abstract_mesh)


def _constrain(setup: Setup, tree: Tree) -> Tree:
    return tree if setup.batch_sharding is None else jax.lax.with_sharding_constraint(tree, setup.batch_sharding)


def _heavy(setup: Setup, y: Array, weight: Array) -> Array:
    """The rows' weights, times how much each counts where the task tells them apart."""
    return weight if setup.objective.weight is None else weight * setup.objective.weight(y)


def _weighted_mean(values: Float[Array, "b"], weight: Float[Array, "b"]) -> Float[Array, ""]:
    return jnp.sum(values * weight) / jnp.sum(weight)


@partial(jax.jit, static_argnames=("setup", "batch"))
def predict(setup: Setup, params: Tree, stats: Tree, x: Shaped[Array, "n t d"], batch: int) -> Float[Array, "n *k"]:
    """Forecasts for all rows as the model puts them out (of every step the last), in batches of a bounded size."""
    rows = x.shape[0]
    devices = 1 if setup.batch_sharding is None else setup.batch_sharding.num_devices
    index, _ = _batches(jnp.arange(rows), min(batch, rows + -rows % devices))

    def one(index: Array) -> Array:
        return setup.objective.at_end(apply.apply(setup.model, params, stats, _constrain(setup, x[index])))

    predictions = jax.lax.map(one, index)
    return predictions.reshape(-1, *predictions.shape[2:])[:rows]


@partial(jax.jit, static_argnames=("setup", "batch"))
def evaluate(setup: Setup, params: Tree, stats: Tree, data: Batch, batch: int) -> dict[str, Float[Array, ""]]:
    """The task's metrics, means over all rows of `data`, each as heavy as the task says."""
    prediction = predict(setup, params, stats, jnp.asarray(data.x), batch)
    target = setup.objective.at_end(jnp.asarray(data.y))
    if setup.objective.weight is None:
        return {name: jnp.mean(metric(prediction, target)) for name, metric in setup.objective.metrics}
    weight = setup.objective.weight(target)
    return {name: _weighted_mean(metric(prediction, target), weight) for name, metric in setup.objective.metrics}


def epochs(
    setup: Setup, state: TrainState, train: Batch, valid: Batch, batch: int, numbers: Iterable[int]
) -> Iterator[Epoch]:
    """Train, and yield after each epoch; `numbers` are the epochs to do, say ``range(1, 101)``.

    The metrics are those of `valid`. Each yielded state is donated to the next epoch: to keep it, copy it
    (`jax.tree.map(jnp.copy, state)`).
    """
    for number in numbers:
        state, steps = epoch(setup, state, train, batch)
        metrics = evaluate(setup, state.params, state.stats, valid, EVALUATION_BATCHES * batch)
        yield Epoch(number, state, steps, {name: float(value) for name, value in metrics.items()})
