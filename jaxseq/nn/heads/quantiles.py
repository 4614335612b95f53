"""Quantiles at given levels, without an assumption about the distribution."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseq.nn.heads.base import LEVELS, Head


def _ordered(raw: Float[Array, "*b k q"]) -> Float[Array, "*b k q"]:
    """Quantiles that cannot cross: the median, and softplus steps away from it on both sides."""
    middle = len(LEVELS) // 2
    median = raw[..., middle : middle + 1]
    steps = jax.nn.softplus(raw)

    steps_down = steps[..., middle - 1 :: -1]
    below = median - jnp.cumsum(steps_down, axis=-1)[..., ::-1]
    above = median + jnp.cumsum(steps[..., middle + 1 :], axis=-1)
    return jnp.concatenate([below, median, above], axis=-1)


def _pinball(
    raw: Float[Array, "*b k q"],
    y: Float[Array, "*b k"],
) -> Float[Array, "*b k"]:
    """Mean over the levels of the quantile loss (Koenker & Bassett 1978)."""
    chex.assert_shape(raw, (*y.shape, len(LEVELS)))
    levels = jnp.asarray(LEVELS, raw.dtype)
    error = y[..., None] - _ordered(raw)
    return jnp.mean(jnp.maximum(levels * error, (levels - 1) * error), axis=-1)


QUANTILE = Head(
    "quantile",
    width=len(LEVELS),
    loss=_pinball,
    centre=lambda raw: raw[..., len(LEVELS) // 2],
    quantiles=_ordered,
)
"""Quantiles by the pinball loss. They give no draws: nothing is said between and beyond the levels."""
