"""What is asked of a model: a loss, the metrics beside it, and the NAME of the metric that the best epoch is chosen by."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import NamedTuple

import chex
import jax.numpy as jnp
from jaxtyping import Array, Float

PerRow = Callable[[Array, Array], Array]


class Task(NamedTuple):
    """Pure functions of (prediction "b *k", target "b *k") that give one number a row, "b".

    loss     what training minimises (its mean over the rows)
    metrics  (name, function) pairs; names, because dictionaries leave `jax.jit` with their keys sorted
    select   the name of the metric whose validation value chooses the best epoch; smaller is better
    """

    loss: PerRow
    metrics: tuple[tuple[str, PerRow], ...]
    select: str


def squared_error(prediction: Float[Array, "b k"], target: Float[Array, "b k"]) -> Float[Array, "b"]:
    """Mean over the horizon of the squared error, row by row."""
    chex.assert_equal_shape([prediction, target])
    return jnp.mean((prediction - target) ** 2, axis=-1)


def absolute_error(prediction: Float[Array, "b k"], target: Float[Array, "b k"]) -> Float[Array, "b"]:
    """Mean over the horizon of the absolute error, row by row."""
    chex.assert_equal_shape([prediction, target])
    return jnp.mean(jnp.abs(prediction - target), axis=-1)


REGRESSION = Task(squared_error, (("mse", squared_error), ("mae", absolute_error)), "mse")

TASKS: MappingProxyType[str, Task] = MappingProxyType({"regression": REGRESSION})
