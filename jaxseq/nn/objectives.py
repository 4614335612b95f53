"""What is asked of a model: a loss, the metrics beside it, and the NAME of the metric that the best epoch is chosen by."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseq.common.arrays import Key
from jaxseq.nn import heads
from jaxseq.nn.heads import Head

PerRow = Callable[[Array, Array], Array]


class Objective(NamedTuple):
    """Pure functions of (prediction, target) that give one number a row, "b".

    loss     what training minimises (its mean over the rows)
    metrics  (name, function) pairs; names, because dictionaries leave `jax.jit` with their keys sorted
    select   the name of the metric whose validation value chooses the best epoch; smaller is better
    at_end   (prediction or target) -> the part of it that is the forecast; metrics are given that part
    weight   (target) -> how much each row counts in every mean, "b"; None: all alike
    augment  (key, x, y) -> other rows of the same meaning, drawn anew in each training step; None: the rows as they are
    """

    loss: PerRow
    metrics: tuple[tuple[str, PerRow], ...]
    select: str
    at_end: Callable[[Array], Array]
    weight: Callable[[Array], Array] | None = None
    augment: Callable[[Key, Array, Array], tuple[Array, Array]] | None = None


def squared_error(prediction: Float[Array, "b k"], target: Float[Array, "b k"]) -> Float[Array, "b"]:
    """Mean over the horizon of the squared error, row by row."""
    chex.assert_equal_shape([prediction, target])
    return jnp.mean((prediction - target) ** 2, axis=-1)


def absolute_error(prediction: Float[Array, "b k"], target: Float[Array, "b k"]) -> Float[Array, "b"]:
    """Mean over the horizon of the absolute error, row by row."""
    chex.assert_equal_shape([prediction, target])
    return jnp.mean(jnp.abs(prediction - target), axis=-1)


@functools.cache
def forecasting(head: Head, every_step: bool = False) -> Objective:
    """Forecasts of k steps from a model that puts out k · `head.width` numbers, once or, with `every_step`, after each
    step of the window; the forecast is then the last one. The same arguments give the same object."""

    def read(raw: Array) -> Array:
        return raw.reshape(*raw.shape[:-1], -1, head.width)

    def loss(raw: Array, y: Array) -> Array:
        chex.assert_equal_shape([raw[..., :: head.width], y])
        each = head.loss(read(raw), y)
        return jnp.mean(each.reshape(each.shape[0], -1), axis=-1)

    def by(error: PerRow) -> PerRow:
        return lambda raw, y: error(head.centre(read(raw)), y)

    metrics = (("mse", by(squared_error)), ("mae", by(absolute_error)))
    if head.quantiles is not None:
        metrics = (("loss", lambda raw, y: jnp.mean(head.loss(read(raw), y), axis=-1)), *metrics)
    return Objective(loss, metrics, metrics[0][0], _last_step if every_step else whole_output)


def _last_step(values: Array) -> Array:
    return values[:, -1]


def whole_output(values: Array) -> Array:
    """The output as it is: all of it is the forecast."""
    return values


REGRESSION = forecasting(heads.point())
