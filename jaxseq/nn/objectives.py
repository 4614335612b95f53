"""Objectives: the loss of a model, its metrics, and the metric by which the best epoch is selected."""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeAlias

import chex
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseq.common.arrays import Key
from jaxseq.nn.heads import Head

PerRow: TypeAlias = Callable[[Array, Array], Array]
"""A function (prediction, target) -> one number for each row, "b"."""


class Objective(NamedTuple):
    """Pure functions of a model's predictions and its targets, rows first.

    loss     PerRow; training minimises its mean over the rows
    metrics  (name, PerRow) pairs, of the part that `at_end` gives
    select   name of the metric whose validation value selects the best epoch; smaller is better
    at_end   prediction or target -> the part of it that is the forecast
    weight   target -> weight of each row in every mean, "b"; None weights all rows alike
    augment  (key, x, y) -> (x, y) with the same meaning, drawn anew in each training step; None augments nothing
    """

    loss: PerRow
    # Pairs and no dictionary: dictionaries leave `jax.jit` with their keys sorted.
    metrics: tuple[tuple[str, PerRow], ...]
    select: str
    at_end: Callable[[Array], Array]
    weight: Callable[[Array], Array] | None = None
    augment: Callable[[Key, Array, Array], tuple[Array, Array]] | None = None


def squared_error(
    prediction: Float[Array, "b k"],
    target: Float[Array, "b k"],
) -> Float[Array, "b"]:
    """Return the squared error of each row, mean over the horizon. Raises `AssertionError` for unequal shapes."""
    chex.assert_equal_shape([prediction, target])
    return jnp.mean((prediction - target) ** 2, axis=-1)


def absolute_error(
    prediction: Float[Array, "b k"],
    target: Float[Array, "b k"],
) -> Float[Array, "b"]:
    """Return the absolute error of each row, mean over the horizon. Raises `AssertionError` for unequal shapes."""
    chex.assert_equal_shape([prediction, target])
    return jnp.mean(jnp.abs(prediction - target), axis=-1)


def mean_of_known(
    losses: Callable[[Array], Float[Array, "b *k"]],
    target: Float[Array, "b *k"],
) -> Float[Array, "b"]:
    """Return the mean of each row's losses over its known targets, those that are not NaN; 0 if none is known.

    `losses` is called with a target in which 0 replaces NaN, so that no NaN reaches its gradient.
    """
    is_known = ~jnp.isnan(target)
    values = jnp.where(is_known, losses(jnp.where(is_known, target, 0)), 0)
    axes = tuple(range(1, target.ndim))
    count = jnp.sum(is_known, axis=axes, dtype=values.dtype)
    return jnp.sum(values, axis=axes) / jnp.maximum(count, 1)


def share_known(target: Float[Array, "b *k"]) -> Float[Array, "b"]:
    """Return the share of each row's targets that are known, as its weight: all known targets then weigh the same."""
    is_known = ~jnp.isnan(target)
    return jnp.mean(is_known, axis=tuple(range(1, target.ndim)), dtype=target.dtype)


# Objectives are static arguments of compiled functions: another object would be compiled again.
@functools.cache
def forecasting(head: Head, every_step: bool = False, masks_targets: bool = False) -> Objective:
    """Build the objective of forecasting k steps from k times `head.width` outputs of a model.

    With `masks_targets`, targets may be NaN, not known: they have no weight in the loss and in the metrics.

    The model predicts once, "b k*p", or with `every_step` after each time step of the window, "b t k*p"; the forecast is
    then the one after the last. The best epoch is selected by the loss that is trained, see `Head.select`. Equal arguments
    give the same object. The loss raises `AssertionError` if outputs and targets do not fit.
    """

    split = partial(_by_step, width=head.width)

    def loss(
        raw: Float[Array, "b *t kp"],
        y: Float[Array, "b *t k"],
    ) -> Float[Array, "b"]:
        # Without this check a target of one step would be broadcast over the horizon.
        chex.assert_shape(raw, (*y.shape[:-1], y.shape[-1] * head.width))
        losses = head.loss(split(raw), y)
        return jnp.mean(losses.reshape(losses.shape[0], -1), axis=-1)

    def forecast_loss(
        raw: Float[Array, "b kp"],
        y: Float[Array, "b k"],
    ) -> Float[Array, "b"]:
        return jnp.mean(head.loss(split(raw), y), axis=-1)

    def forecast_squared_error(
        raw: Float[Array, "b kp"],
        y: Float[Array, "b k"],
    ) -> Float[Array, "b"]:
        return squared_error(head.centre(split(raw)), head.outcome(y))

    def forecast_absolute_error(
        raw: Float[Array, "b kp"],
        y: Float[Array, "b k"],
    ) -> Float[Array, "b"]:
        return absolute_error(head.centre(split(raw)), head.outcome(y))

    metrics: tuple[tuple[str, PerRow], ...] = (
        ("mse", forecast_squared_error),
        ("mae", forecast_absolute_error),
    )
    if head.select == "loss":
        metrics = (("loss", forecast_loss), *metrics)

    objective = Objective(
        loss=loss,
        metrics=metrics,
        select=head.select,
        at_end=_last_step if every_step else whole_output,
    )
    if masks_targets:
        return _masked(objective, head)
    return objective


def _by_step(raw: Float[Array, "*b kp"], width: int) -> Float[Array, "*b k p"]:
    """Return the outputs with an axis for the `width` numbers of each step."""
    return raw.reshape(*raw.shape[:-1], -1, width)


def _masked(objective: Objective, head: Head) -> Objective:
    """Return a forecasting objective whose means leave out unknown targets, NaN."""

    split = partial(_by_step, width=head.width)

    def loss(
        raw: Float[Array, "b *t kp"],
        y: Float[Array, "b *t k"],
    ) -> Float[Array, "b"]:
        chex.assert_shape(raw, (*y.shape[:-1], y.shape[-1] * head.width))
        return mean_of_known(lambda target: head.loss(split(raw), target), y)

    def squared(
        raw: Float[Array, "b kp"],
        y: Float[Array, "b k"],
    ) -> Float[Array, "b"]:
        return mean_of_known(lambda target: (head.centre(split(raw)) - head.outcome(target)) ** 2, y)

    def absolute(
        raw: Float[Array, "b kp"],
        y: Float[Array, "b k"],
    ) -> Float[Array, "b"]:
        return mean_of_known(lambda target: jnp.abs(head.centre(split(raw)) - head.outcome(target)), y)

    by_name: dict[str, PerRow] = {"loss": loss, "mse": squared, "mae": absolute}
    metrics = tuple((name, by_name[name]) for name, _ in objective.metrics)
    return objective._replace(loss=loss, metrics=metrics, weight=share_known)


def _last_step(values: Float[Array, "b t k"]) -> Float[Array, "b k"]:
    return values[:, -1]


def whole_output(values: Array) -> Array:
    """Return the output unchanged: all of it is the forecast."""
    return values
