"""The direction of a step: the probability that its value is above the last known one."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseq.nn.heads.base import Head


def is_rise(change: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Return 1 where a change from the last known value is above 0, else 0: a tie is no rise."""
    return (change > 0).astype(change.dtype)


def _log_loss(
    raw: Float[Array, "*b k 1"],
    y: Float[Array, "*b k"],
) -> Float[Array, "*b k"]:
    """-log p of a rise, -log (1 - p) of any other change, with p = 1 / (1 + exp(-raw))."""
    chex.assert_shape(raw, (*y.shape, 1))
    logit = raw[..., 0]
    # Of the number itself: the probability of a large one is 1 in float32, and its logarithm 0.
    of_rise = jax.nn.softplus(-logit)
    of_no_rise = jax.nn.softplus(logit)
    return jnp.where(y > 0, of_rise, of_no_rise)


def _probability(raw: Float[Array, "*b k 1"]) -> Float[Array, "*b k"]:
    return jax.nn.sigmoid(raw[..., 0])


DIRECTION = Head(
    "direction",
    width=1,
    loss=_log_loss,
    centre=_probability,
    quantity="direction",
    outcome=is_rise,
)
"""The logarithm of the odds of a rise; targets are changes from the last known value."""
