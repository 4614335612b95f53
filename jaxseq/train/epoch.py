"""Training as pure functions from state to state: no files, clocks or devices.

One call of `epoch` is one compiled `lax.scan` over all rows, with the state donated: in a fresh random order, or in time
order with the carries passed on (`feed`). Every row is used exactly once in an epoch: the last batch is padded with rows of
weight zero, so a smaller last batch is a mean over fewer rows and no row is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
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
from jaxseq.data.buckets import Buckets
from jaxseq.data.gathered import Gathered, RowsOfModel
from jaxseq.nn import apply
from jaxseq.nn.apply import Carrying, Model, Resumed
from jaxseq.nn.objectives import Objective, PerRow
from jaxseq.train import feed, minibatch
from jaxseq.train.feed import Course, Judged, Training
from jaxseq.train.minibatch import Feed, Minibatch, Selection
from jaxseq.train.optimiser import after_epoch, global_norm, weights, with_numbers

EVALUATION_BATCHES = 16
"""Training batches that are predicted together in evaluation. A multiple of the batch, which the devices share evenly."""


ALONG = 512
"""Time steps of a series that are predicted together where its state is carried on."""


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

    def in_full(self) -> Setup:
        """Return the setup with products in float32 in full."""
        return self._replace(precision="float32")


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


class _Walk(NamedTuple):
    """The state between two steps, and the carries of a series whose windows follow each other; None for other rows."""

    state: TrainState
    carries: Tree


class _Gradient(NamedTuple):
    """Loss and gradient of one batch, the moments and carries after it, and the key of the next step."""

    loss: Float[Array, ""]
    stats: Tree
    carries: Tree
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


# Training -------------------------------------------------------------------------------------------------------------


# Donated, so that the new parameters and optimiser state take the memory of the old ones.
@partial(jax.jit, static_argnames=("setup", "batch"), donate_argnames="state")
def epoch(
    setup: Setup,
    state: TrainState,
    data: Training,
    batch: int,
) -> tuple[TrainState, StepLog]:
    """Train once on every row of `data`, in an order drawn from the state's key or in time order. `state` is donated."""
    rows = feed.feed_of(data)
    before, batches = _begin(setup, state, rows, batch)

    train_step = partial(_step, setup, rows)
    after, log = jax.lax.scan(train_step, before, batches)
    return after.state, log


@partial(jax.jit, static_argnames="setup", donate_argnames="state")
def step(
    setup: Setup,
    state: TrainState,
    data: Batch,
    weight: Float[Array, "b"],
) -> tuple[TrainState, StepLog]:
    """Take one optimiser step on the rows of `data`, each with its weight in the mean. `state` is donated."""
    all_rows = Selection(jnp.arange(data.x.shape[0]), weight)
    after, log = _step(setup, feed.feed_of(data), _Walk(state, None), all_rows)
    return after.state, log


@partial(jax.jit, static_argnames=("setup", "batch", "step"))
def gradient_norms(
    setup: Setup,
    state: TrainState,
    data: Training,
    batch: int,
    step: int,
) -> Tree:
    """Return the norm of each leaf's gradient in one step (from 0) of the epoch that `epoch` would train from `state`.

    Repeats the steps before it. It serves to explain a step that failed, so that other steps need not log every leaf.
    """
    rows = feed.feed_of(data)
    before, batches = _begin(setup, state, rows, batch)
    batches_before = jax.tree.map(lambda rows: rows[:step], batches)
    batch_of_step = jax.tree.map(lambda rows: rows[step], batches)

    train_step = partial(_step, setup, rows)
    walk, _ = jax.lax.scan(train_step, before, batches_before)
    gradient = rows.computed(batch_of_step, partial(_gradient, setup, walk)).gradient
    return jax.tree.map(optax.tree.norm, gradient)


def _begin(
    setup: Setup,
    state: TrainState,
    rows: Feed,
    batch: int,
) -> tuple[_Walk, Tree]:
    """Return what the first step of an epoch starts from, with the key that remains, and the batches "steps b"."""
    order = rows.order(state.key, batch)
    return _Walk(state._replace(key=order.key), rows.start(setup.model, batch)), order.batches


def _step(
    setup: Setup,
    rows: Feed,
    walk: _Walk,
    selection: Tree,
) -> tuple[_Walk, StepLog]:
    """Take one optimiser step on one batch."""
    state = walk.state
    loss, stats, carries, gradient, key = rows.computed(selection, partial(_gradient, setup, walk))

    # optax mixes its float32 with Python floats and int32 counts, which strict promotion would refuse.
    with jax.numpy_dtype_promotion("standard"):
        update = optax.with_extra_args_support(setup.optimiser).update
        # Some of optax's rules, such as its own reduction on a plateau, read the loss of the step.
        updates, opt = update(gradient, state.opt, state.params, value=loss)
        params: Tree = optax.apply_updates(state.params, updates)
    log = StepLog(loss, global_norm(gradient))

    if setup.skip_nonfinite:
        is_finite = jnp.isfinite(log.loss) & jnp.isfinite(log.gradient_norm)
        after = (params, stats, opt, carries)
        before = (state.params, state.stats, state.opt, walk.carries)
        # A choice and no factor of 0 or 1, because 0 times NaN is NaN.
        params, stats, opt, carries = jax.tree.map(partial(jnp.where, is_finite), after, before)

    # Skipped steps are counted, too: the report gives their share of all steps.
    step = state.step + 1
    return _Walk(TrainState(step, params, stats, opt, key), carries), log


def _gradient(
    setup: Setup,
    walk: _Walk,
    rows: Minibatch,
) -> _Gradient:
    """Differentiate the mean loss of one batch by the parameters: the carries that it starts from are constants."""
    rows = _split_over_devices(setup, rows)
    state = walk.state

    # A model without dropout draws nothing here, so its key stays that of the epoch.
    dropout_key = key = state.key
    if setup.model.draws:
        dropout_key, key = jax.random.split(state.key)
    if setup.objective.augment is not None:
        augment_key, key = jax.random.split(key)
        x, y = setup.objective.augment(augment_key, rows.x, rows.y)
        rows = rows._replace(x=x, y=y)

    mean_loss = partial(
        _mean_loss,
        setup=setup,
        stats=state.stats,
        rows=rows,
        carries=walk.carries,
        dropout_key=dropout_key,
    )
    # Around the derivative as well, whose products are traced after the model.
    with _batch_mesh(setup), _in_its_precision(setup):
        loss_and_gradient = jax.value_and_grad(mean_loss, has_aux=True)
        (loss, trained), gradient = loss_and_gradient(state.params)

    carries = None
    # The states of independent rows end with their batch.
    if walk.carries is not None:
        carries = trained.carries
    return _Gradient(loss, trained.stats, carries, gradient, key)


def _mean_loss(
    params: Tree,
    setup: Setup,
    stats: Tree,
    rows: Minibatch,
    carries: Tree,
    dropout_key: Key,
) -> tuple[Float[Array, ""], Resumed]:
    """Return the mean loss of a batch, and the moments and carries after it."""
    lengths = rows.lengths
    if lengths is None:
        lengths = apply.whole_or_none(rows.x, rows.weight, stats)
    trained = apply.resume_train(
        setup.model,
        params,
        stats,
        rows.x,
        carries=carries,
        lengths=lengths,
        key=dropout_key,
    )
    losses = setup.objective.loss(trained.predictions, rows.y)
    row_weight = _row_weight(setup, rows.y, rows.weight)
    return _weighted_mean(losses, row_weight), trained


def kept_arrays(setup: Setup, state: Tree, x: jax.ShapeDtypeStruct, y: jax.ShapeDtypeStruct) -> Tree:
    """Return the shapes of what the forward pass of a training step keeps for its backward pass; computes nothing.

    `state` has the shapes of a `TrainState`. The parameters are among the arrays that are kept.
    """

    def forward(state: TrainState, x: Shaped[Array, "b *d"], y: Shaped[Array, "b *k"]) -> Tree:
        mean_loss = partial(
            _mean_loss,
            setup=setup,
            stats=state.stats,
            rows=Minibatch(x, y, jnp.ones(x.shape[0])),
            carries=None,
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
    return _in_batches(setup, x.shape[0], batch, partial(_predict_batch, setup, params, stats, lambda index: x[index]))


def _predict_batch(
    setup: Setup,
    params: Tree,
    stats: Tree,
    inputs_at: Callable[[Int[Array, "b"]], Shaped[Array, "b *d"]],
    index: Int[Array, "b"],
) -> Float[Array, "b *k"]:
    batch_x = _split_over_devices(setup, inputs_at(index))
    with _batch_mesh(setup), _in_its_precision(setup):
        raw = apply.apply(setup.model, params, stats, batch_x)
    return setup.objective.at_end(raw)


def _in_batches(setup: Setup, rows: int, batch: int, compute: Callable[[Int[Array, "b"]], Tree]) -> Tree:
    """Return what a function of row numbers gives for all rows, in batches of at most `batch` rows."""
    device_count = 1
    if setup.batch_sharding is not None:
        device_count = setup.batch_sharding.num_devices
    # Few rows make one small batch, not a large one of padding; the devices must still share it evenly.
    rows_rounded_up = rows + -rows % device_count
    index = minibatch.batches_of(jnp.arange(rows), min(batch, rows_rounded_up)).index

    results = jax.lax.map(compute, index)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:rows], results)


@partial(jax.jit, static_argnames="setup")
def predict_along(
    setup: Setup,
    params: Tree,
    stats: Tree,
    x: Float[Array, "n d"],
) -> Float[Array, "n kp"]:
    """Return the model's raw output after every time step of one series, with its state carried from the first one on."""
    steps, features = x.shape
    piece = min(steps, ALONG)
    padded = jnp.pad(x, ((0, -steps % piece), (0, 0)))
    pieces = padded.reshape(-1, 1, piece, features)

    def predict_piece(carries: Tree, x: Float[Array, "1 t d"]) -> tuple[Tree, Float[Array, "t kp"]]:
        carries, raw = apply.resume(setup.model, params, stats, x, carries=carries, first=0)
        return carries, raw[0]

    assert isinstance(setup.model, Carrying), "build_job checks it"
    with _in_its_precision(setup):
        _, raw = jax.lax.scan(predict_piece, setup.model.start(1, x.dtype), pieces)
    return raw.reshape(-1, raw.shape[-1])[:steps]


@partial(jax.jit, static_argnames=("setup", "batch"))
def evaluate(
    setup: Setup,
    params: Tree,
    stats: Tree,
    data: Judged,
    batch: int,
) -> dict[str, Float[Array, ""]]:
    """Return the objective's metrics, each a mean over all rows of `data`, weighted as the objective says.

    JAX sorts the names: look a metric up by its name, not by its place.
    """
    if isinstance(data, Buckets):
        pairs = [_predicted(setup, params, stats, part, batch) for part in data.parts]
    else:
        pairs = [_predicted(setup, params, stats, data, batch)]
    metrics = dict(setup.objective.metrics)
    values = {name: _of_rows(metric, pairs) for name, metric in metrics.items()}

    if setup.objective.weight is None:
        return {name: jnp.mean(of_rows) for name, of_rows in values.items()}

    row_weight = setup.objective.weight
    weight = _of_rows(lambda _, target: row_weight(target), pairs)
    return {name: _weighted_mean(of_rows, weight) for name, of_rows in values.items()}


class _Predicted(NamedTuple):
    """Predictions of some rows, and their targets."""

    prediction: Float[Array, "n *k"]
    target: Shaped[Array, "n *k"]


def _predicted(setup: Setup, params: Tree, stats: Tree, data: RowsOfModel | Course, batch: int) -> _Predicted:
    """Return the predictions and targets of rows of one shape."""
    if isinstance(data, Course):
        prediction = predict_along(setup, params, stats, jnp.asarray(data.x))[-data.y.shape[0] :]
        return _Predicted(prediction, jnp.asarray(data.y))
    if isinstance(data, Gathered):
        inputs_at = partial(feed.inputs_at, data)
        prediction = _in_batches(setup, data.count, batch, partial(_predict_batch, setup, params, stats, inputs_at))
        # Of targets at every time step, those of the last one alone are laid out.
        target = _in_batches(setup, data.count, batch, partial(feed.targets_at, replace(data, every_step=False)))
        return _Predicted(prediction, target)
    prediction = predict(setup, params, stats, jnp.asarray(data.x), batch)
    return _Predicted(prediction, setup.objective.at_end(jnp.asarray(data.y)))


def _of_rows(per_row: PerRow, pairs: Sequence[_Predicted]) -> Float[Array, "n"]:
    """Return a number for each row of all parts."""
    numbers = [per_row(*pair) for pair in pairs]
    if len(numbers) == 1:
        return numbers[0]
    return jnp.concatenate(numbers)


# Many epochs ----------------------------------------------------------------------------------------------------------


def validated(setup: Setup, state: TrainState, valid: Judged, batch: int) -> tuple[TrainState, dict[str, float]]:
    """Return the state with which training goes on after an epoch, and the metrics of the validation rows.

    The metric that chooses the best epoch may lower the learning rate of the next one.
    """
    params = weights(state.opt, state.params)
    metrics = evaluate(setup, params, state.stats, valid, EVALUATION_BATCHES * batch)
    opt = after_epoch(state.opt, metrics[setup.objective.select])
    # JAX returns before it has computed; reading the numbers waits, so that a caller's clock measures the epoch.
    return state._replace(opt=opt), {name: float(value) for name, value in metrics.items()}


def epochs(
    setup: Setup,
    state: TrainState,
    train: Training,
    valid: Judged,
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

        yield Epoch(number, state, steps, metric_values, rows=feed.feed_of(train).rows)
