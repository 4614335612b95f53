"""A point forecast: one number for each step."""

from __future__ import annotations

from types import MappingProxyType

import chex
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseq.common.errors import UsageError
from jaxseq.nn.heads.base import Head, Loss


def _squared(
    raw: Float[Array, "*b k 1"],
    y: Float[Array, "*b k"],
) -> Float[Array, "*b k"]:
    chex.assert_shape(raw, (*y.shape, 1))
    return (raw[..., 0] - y) ** 2


def _absolute(
    raw: Float[Array, "*b k 1"],
    y: Float[Array, "*b k"],
) -> Float[Array, "*b k"]:
    chex.assert_shape(raw, (*y.shape, 1))
    return jnp.abs(raw[..., 0] - y)


def _huber(
    raw: Float[Array, "*b k 1"],
    y: Float[Array, "*b k"],
) -> Float[Array, "*b k"]:
    """½ e² up to |e| = 1, |e| - ½ beyond (Huber 1964)."""
    chex.assert_shape(raw, (*y.shape, 1))
    size = jnp.abs(raw[..., 0] - y)
    return jnp.where(size <= 1, 0.5 * size * size, size - 0.5)


LOSSES: MappingProxyType[str, Loss] = MappingProxyType({"mse": _squared, "mae": _absolute, "huber": _huber})
"""Losses of a point forecast, in the model's own units."""

# Made once: a head is a static argument of compiled functions, and another object would be compiled again.
_POINTS = {
    name: Head(
        name="point",
        width=1,
        loss=loss,
        centre=lambda raw: raw[..., 0],
        # The metrics have a squared and an absolute error, but none like Huber's.
        select=name if name in ("mse", "mae") else "loss",
    )
    for name, loss in LOSSES.items()
}


def point(loss: str = "mse") -> Head:
    """Return the head of a point forecast, one number for each step. Raises `UsageError` for an unknown loss."""
    if loss not in _POINTS:
        raise UsageError("unknown loss", where="loss", got=loss, needed=f"one of {', '.join(LOSSES)}")
    return _POINTS[loss]
