"""Training as pure functions from state to state: no files, clocks or devices.

One call of `epoch` is one compiled `lax.scan` over all rows in a fresh random order, with the state donated. Every row is
used exactly once in an epoch: the last batch is padded with rows of weight zero, so a smaller last batch is a mean over
fewer rows and no row is dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Shaped

from jaxseq.common import precision
from jaxseq.common.arrays import Batch, Key, Tree, Variables
from jaxseq.common.precision import Precision
from jaxseq.nn import apply
from jaxseq.nn.apply import Model
from jaxseq.nn.objectives import Objective
from jaxseq.train.optimiser import after_epoch, global_norm, with_numbers

EVALUATION_BATCHES = 16
"""Training batches that are predicted together in evaluation. A multiple of the batch, which the devices share evenly."""


class TrainState(NamedTuple):
    """The state that training carries from step to step; every leaf is an array.

    step    optimiser steps taken
    params  the model's parameters
    stats   running moments of normalisations; an empty dict where there are none
    opt     optax state
    key     PRNG key from which every later draw is split
    """

    step: Int[Array, ""]
    params: Variables
    stats: Variables
    opt: Tree
    key: Key


class Setup(NamedTuple):
    """The constants of a training; hashable, so that equal setups share their compiled functions.

    model           Flax module whose `draws` says whether it needs a key in training (for dropout)
    optimiser       optax's, or the transformation of an `optimiser.Optimiser`, which has no number that a search varies
    batch_sharding  layout of a batch over the devices; None leaves it to JAX
    skip_nonfinite  whether a step with a non-finite loss or gradient leaves parameters, moments and optimiser unchanged
    precision       of matrix products and convolutions; the caller's `jax.default_matmul_precision` plays no part
    """

    model: Model
    objective: Objective
    optimiser: optax.GradientTransformation
    batch_sharding: jax.sharding.NamedSharding | None = None
    skip_nonfinite: bool = False
    precision: Precision = "float32"


class StepLog(NamedTuple):
    """Training loss of the batch and global norm of the gradient, for every step of an epoch."""

    loss: Float[Array, "steps"]
    gradient_norm: Float[Array, "steps"]


class Epoch(NamedTuple):
    """A finished epoch: its number (from 1), the state after it, its steps, the validation metrics, its training rows."""

    number: int
    state: TrainState
    steps: StepLog
    valid: dict[str, float]
    rows: int


class _Rows(NamedTuple):
    """Row numbers of one batch, and the weight of each: 1, or 0 for padding."""

    index: Int[Array, "*steps b"]
    weight: Float[Array, "*steps b"]


class _Gradient(NamedTuple):
    """Loss and gradient of one batch, the moments after it, and the key of the next step."""

    loss: Float[Array, ""]
    stats: Tree
    gradient: Tree
    key: Key


def init(
    setup: Setup,
    key: Key,
    x: Shaped[Array, "b *d"],
    by_layer: bool = False,
    numbers: Mapping[str, Array | np.ndarray] | None = None,
) -> TrainState:
    """Return the state before the first step, for inputs of the shape of `x`; `by_layer` as `apply.init` has it.

    `numbers` are those of an `optimiser.Optimiser`, without which its state has the right shapes alone.
    """
    init_key, key = jax.random.split(key)
    with _in_its_precision(setup):
        params, stats = apply.init(setup.model, init_key, x, by_layer=by_layer)

    opt = setup.optimiser.init(params)
    if numbers is not None:
        opt = with_numbers(opt, numbers)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        stats=stats,
        opt=opt,
        key=key,
    )


def steps_per_epoch(rows: int, batch: int) -> int:
    """Return the number of batches in an epoch of `rows` rows, including a smaller last batch."""
    return -(-rows // batch)


# Training -------------------------------------------------------------------------------------------------------------


# Donated, so that the new parameters and optimiser state take the memory of the old ones.
@partial(jax.jit, static_argnames=("setup", "batch"), donate_argnames="state")
def epoch(
    setup: Setup,
    state: TrainState,
    data: Batch,
    batch: int,
) -> tuple[TrainState, StepLog]:
    """Train once on every row of `data`, in an order drawn from the state's key. `state` is donated."""
    state, batches = _draw_batches(state, data, batch)

    train_step = partial(_step, setup, data)
    return jax.lax.scan(train_step, state, batches)


@partial(jax.jit, static_argnames="setup", donate_argnames="state")
def step(
    setup: Setup,
    state: TrainState,
    data: Batch,
    weight: Float[Array, "b"],
) -> tuple[TrainState, StepLog]:
    """Take one optimiser step on the rows of `data`, each with its weight in the mean. `state` is donated."""
    all_rows = _Rows(jnp.arange(data.x.shape[0]), weight)
    return _step(setup, data, state, all_rows)


@partial(jax.jit, static_argnames=("setup", "batch", "step"))
def gradient_norms(
    setup: Setup,
    state: TrainState,
    data: Batch,
    batch: int,
    step: int,
) -> Tree:
    """Return the norm of each leaf's gradient in one step (from 0) of the epoch that `epoch` would train from `state`.

    Repeats the steps before it. It serves to explain a step that failed, so that other steps need not log every leaf.
    """
    state, batches = _draw_batches(state, data, batch)
    batches_before = jax.tree.map(lambda rows: rows[:step], batches)
    batch_of_step = jax.tree.map(lambda rows: rows[step], batches)

    train_step = partial(_step, setup, data)
    state, _ = jax.lax.scan(train_step, state, batches_before)
    gradient = _gradient(setup, data, state, batch_of_step).gradient
    return jax.tree.map(optax.tree.norm, gradient)


def _draw_batches(
    state: TrainState,
    data: Batch,
    batch: int,
) -> tuple[TrainState, _Rows]:
    """Draw the order of an epoch's rows; return the state with the key that remains, and the batches "steps b"."""
    order_key, key = jax.random.split(state.key)
    order = jax.random.permutation(order_key, data.x.shape[0])
    return state._replace(key=key), _batches(order, batch)


def _batches(
    order: Int[Array, "n"],
    batch: int,
) -> _Rows:
    """Split row numbers into batches "steps b"; the last batch is padded with row 0 at weight zero."""
    rows = order.shape[0]
    # A scan needs batches of one shape. Weight zero keeps padding out of the loss and of batch norm's moments.
    padding = (0, -rows % batch)
    index = jnp.pad(order, padding)
    weight = jnp.pad(jnp.ones(rows), padding)

    return _Rows(
        index=index.reshape(-1, batch),
        weight=weight.reshape(-1, batch),
    )


def _step(
    setup: Setup,
    data: Batch,
    state: TrainState,
    rows: _Rows,
) -> tuple[TrainState, StepLog]:
    """Take one optimiser step on one batch."""
    loss, stats, gradient, key = _gradient(setup, data, state, rows)

    # optax mixes its float32 with Python floats and int32 counts, which strict promotion would refuse.
    with jax.numpy_dtype_promotion("standard"):
        update = optax.with_extra_args_support(setup.optimiser).update
        # Some of optax's rules, such as its own reduction on a plateau, read the loss of the step.
        updates, opt = update(gradient, state.opt, state.params, value=loss)
        params: Tree = optax.apply_updates(state.params, updates)
    log = StepLog(loss, global_norm(gradient))

    if setup.skip_nonfinite:
        is_finite = jnp.isfinite(log.loss) & jnp.isfinite(log.gradient_norm)
        after = (params, stats, opt)
        before = (state.params, state.stats, state.opt)
        # A choice and no factor of 0 or 1, because 0 times NaN is NaN.
        params, stats, opt = jax.tree.map(partial(jnp.where, is_finite), after, before)

    # Skipped steps are counted, too: the report gives their share of all steps.
    step = state.step + 1
    return TrainState(step, params, stats, opt, key), log


def _gradient(
    setup: Setup,
    data: Batch,
    state: TrainState,
    rows: _Rows,
) -> _Gradient:
    """Differentiate the mean loss of one batch."""
    batch = (data.x[rows.index], data.y[rows.index], rows.weight)
    x, y, weight = _split_over_devices(setup, batch)

    # A model without dropout draws nothing here, so its key stays that of the epoch.
    dropout_key = key = state.key
    if setup.model.draws:
        dropout_key, key = jax.random.split(state.key)
    if setup.objective.augment is not None:
        augment_key, key = jax.random.split(key)
        x, y = setup.objective.augment(augment_key, x, y)

    mean_loss = partial(
        _mean_loss,
        setup=setup,
        stats=state.stats,
        x=x,
        y=y,
        weight=weight,
        dropout_key=dropout_key,
    )
    # Around the derivative as well, whose products are traced after the model.
    with _batch_mesh(setup), _in_its_precision(setup):
        loss_and_gradient = jax.value_and_grad(mean_loss, has_aux=True)
        (loss, stats), gradient = loss_and_gradient(state.params)
    return _Gradient(loss, stats, gradient, key)


def _mean_loss(
    params: Tree,
    setup: Setup,
    stats: Tree,
    x: Shaped[Array, "b *d"],
    y: Shaped[Array, "b *k"],
    weight: Float[Array, "b"],
    dropout_key: Key,
) -> tuple[Float[Array, ""], Tree]:
    """Return the mean loss of a batch, and the moments after it."""
    prediction, new_stats = apply.apply_train(
        setup.model,
        params,
        stats,
        x,
        rows=weight,
        key=dropout_key,
    )
    losses = setup.objective.loss(prediction, y)
    row_weight = _row_weight(setup, y, weight)
    return _weighted_mean(losses, row_weight), new_stats


def kept_arrays(setup: Setup, state: Tree, x: jax.ShapeDtypeStruct, y: jax.ShapeDtypeStruct) -> Tree:
    """Return the shapes of what the forward pass of a training step keeps for its backward pass; computes nothing.

    `state` has the shapes of a `TrainState`. The parameters are among the arrays that are kept.
    """

    def forward(state: TrainState, x: Shaped[Array, "b *d"], y: Shaped[Array, "b *k"]) -> Tree:
        mean_loss = partial(
            _mean_loss,
            setup=setup,
            stats=state.stats,
            x=x,
            y=y,
            weight=jnp.ones(x.shape[0]),
            dropout_key=state.key,
        )
        _, backward, _ = jax.vjp(mean_loss, state.params, has_aux=True)
        # A function that JAX stores as a tree of the arrays it holds.
        return backward

    with _in_its_precision(setup):
        return jax.eval_shape(forward, state, x, y)


def _batch_mesh(setup: Setup) -> AbstractContextManager[object]:
    """Make the mesh of the batch known to the functions that are traced within: the recurrence asks for its devices."""
    if setup.batch_sharding is None:
        return nullcontext()

    mesh = setup.batch_sharding.mesh
    return jax.sharding.use_abstract_mesh(mesh.abstract_mesh)


def _in_its_precision(setup: Setup) -> AbstractContextManager[object]:
    """Compute the products that are traced within in the precision of the setup."""
    return precision.within(precision.JAX_NAMES[setup.precision])


def _split_over_devices(setup: Setup, batch: Tree) -> Tree:
    """Constrain the rows of every leaf to the devices of the mesh, each of which takes an equal share."""
    if setup.batch_sharding is None:
        return batch
    # Without the constraint every device would silently compute the whole batch: the data is replicated.
    return jax.lax.with_sharding_constraint(batch, setup.batch_sharding)


def _row_weight(
    setup: Setup,
    y: Shaped[Array, "b *k"],
    weight: Float[Array, "b"],
) -> Float[Array, "b"]:
    """Return the weight of each row in the mean: zero for padding, else as the objective says."""
    if setup.objective.weight is None:
        return weight
    return weight * setup.objective.weight(y)


def _weighted_mean(
    values: Float[Array, "b"],
    weight: Float[Array, "b"],
) -> Float[Array, ""]:
    return jnp.sum(values * weight) / jnp.sum(weight)


# Prediction and evaluation --------------------------------------------------------------------------------------------


@partial(jax.jit, static_argnames=("setup", "batch"))
def predict(
    setup: Setup,
    params: Tree,
    stats: Tree,
    x: Shaped[Array, "n *d"],
    batch: int,
) -> Float[Array, "n *k"]:
    """Return the model's raw output for all rows, in batches of at most `batch` rows.

    A model with an output at every time step gives that of the last one.
    """
    rows = x.shape[0]
    device_count = 1
    if setup.batch_sharding is not None:
        device_count = setup.batch_sharding.num_devices
    # Few rows make one small batch, not a large one of padding; the devices must still share it evenly.
    rows_rounded_up = rows + -rows % device_count
    index = _batches(jnp.arange(rows), min(batch, rows_rounded_up)).index

    def predict_batch(index: Int[Array, "b"]) -> Float[Array, "b *k"]:
        batch_x = _split_over_devices(setup, x[index])
        with _batch_mesh(setup), _in_its_precision(setup):
            raw = apply.apply(setup.model, params, stats, batch_x)
        return setup.objective.at_end(raw)

    predictions = jax.lax.map(predict_batch, index)
    without_batches = predictions.reshape(-1, *predictions.shape[2:])
    return without_batches[:rows]


@partial(jax.jit, static_argnames=("setup", "batch"))
def evaluate(
    setup: Setup,
    params: Tree,
    stats: Tree,
    data: Batch,
    batch: int,
) -> dict[str, Float[Array, ""]]:
    """Return the objective's metrics, each a mean over all rows of `data`, weighted as the objective says.

    JAX sorts the names: look a metric up by its name, not by its place.
    """
    prediction = predict(setup, params, stats, jnp.asarray(data.x), batch)
    target = setup.objective.at_end(jnp.asarray(data.y))
    metrics = dict(setup.objective.metrics)

    if setup.objective.weight is None:
        return {name: jnp.mean(metric(prediction, target)) for name, metric in metrics.items()}

    weight = setup.objective.weight(target)
    return {name: _weighted_mean(metric(prediction, target), weight) for name, metric in metrics.items()}


# Many epochs ----------------------------------------------------------------------------------------------------------


def validated(setup: Setup, state: TrainState, valid: Batch, batch: int) -> tuple[TrainState, dict[str, float]]:
    """Return the state with which training goes on after an epoch, and the metrics of the validation rows.

    The metric that chooses the best epoch may lower the learning rate of the next one.
    """
    metrics = evaluate(setup, state.params, state.stats, valid, EVALUATION_BATCHES * batch)
    opt = after_epoch(state.opt, metrics[setup.objective.select])
    # JAX returns before it has computed; reading the numbers waits, so that a caller's clock measures the epoch.
    return state._replace(opt=opt), {name: float(value) for name, value in metrics.items()}


def epochs(
    setup: Setup,
    state: TrainState,
    train: Batch,
    valid: Batch,
    batch: int,
    numbers: Iterable[int],
) -> Iterator[Epoch]:
    """Train the epochs in `numbers`, say ``range(1, 101)``, and yield after each one.

    The metrics are those of `valid`. Each yielded state is donated to the next epoch; copy it to keep it
    (`jax.tree.map(jnp.copy, state)`).
    """
    for number in numbers:
        state, steps = epoch(setup, state, train, batch)

        state, metric_values = validated(setup, state, valid, batch)

        yield Epoch(number, state, steps, metric_values, rows=len(train.x))
