"""Heads: a model's raw outputs as a point forecast or as a distribution of each step of the horizon.

A head reads p = `width` raw numbers for each step, the last axis of "... k p", and defines their loss, their centre,
their quantiles and draws from them.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

import chex
import jax
import jax.numpy as jnp
from jax.scipy.special import betainc, ndtri
from jax.scipy.stats import norm, t
from jaxtyping import Array, Float, Int

from jaxseq.common.arrays import Key
from jaxseq.common.errors import UsageError

LEVELS = (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975)
"""Levels q of the quantiles of every distribution: the median, and the intervals of 50, 80 and 95 %."""

LEAST = 1e-4
"""Least scale of a distribution, in the model's own units: it bounds the density of a perfect forecast."""

NEWTON_STEPS = 12
"""Iterations for a Student-t quantile; from the Gaussian one they converge at any degrees of freedom above 2."""

Loss: TypeAlias = Callable[[Array, Array], Array]
"""A function (raw "... k p", target "... k") -> loss of each step, "... k"."""


class Head(NamedTuple):
    """Pure functions of raw outputs "... k p".

    width      p, raw numbers for each step
    loss       (raw, target "... k") -> "... k"; raises `AssertionError` if the shapes do not fit
    centre     raw -> "... k", the point forecast
    quantiles  raw -> "... k q" at `LEVELS`, never crossing; None for a point forecast
    draw       (raw, key) -> "... k"; None where there is no distribution to draw from
    select     metric that says the same as the loss: "mse", "mae", or "loss" for the loss itself
    """

    name: str
    width: int
    loss: Loss
    centre: Callable[[Array], Array]
    quantiles: Callable[[Array], Array] | None = None
    draw: Callable[[Array, Key], Array] | None = None
    select: str = "loss"


# A point forecast: one number for each step.


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


# Quantiles at LEVELS, without an assumption about the distribution.


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


# A normal distribution: location, and softplus of the scale.


def _scale(raw: Float[Array, "*b"]) -> Float[Array, "*b"]:
    return jax.nn.softplus(raw) + LEAST


def _gaussian_loss(
    raw: Float[Array, "*b k 2"],
    y: Float[Array, "*b k"],
) -> Float[Array, "*b k"]:
    chex.assert_shape(raw, (*y.shape, 2))
    return -norm.logpdf(y, loc=raw[..., 0], scale=_scale(raw[..., 1]))


def _gaussian_quantiles(raw: Float[Array, "*b k 2"]) -> Float[Array, "*b k q"]:
    levels = jnp.asarray(LEVELS, raw.dtype)
    return raw[..., :1] + _scale(raw[..., 1:2]) * ndtri(levels)


def _gaussian_draw(
    raw: Float[Array, "*b k 2"],
    key: Key,
) -> Float[Array, "*b k"]:
    noise = jax.random.normal(key, raw.shape[:-1], raw.dtype)
    return raw[..., 0] + _scale(raw[..., 1]) * noise


GAUSSIAN = Head(
    "gaussian",
    width=2,
    loss=_gaussian_loss,
    centre=lambda raw: raw[..., 0],
    quantiles=_gaussian_quantiles,
    draw=_gaussian_draw,
)
"""Normal distribution, by its negative log-likelihood."""


# Student's t: location, scale, and degrees of freedom.


def _freedom(raw: Float[Array, "*b k 3"]) -> Float[Array, "*b k"]:
    # Above 2, or the variance would be infinite.
    return 2 + LEAST + jax.nn.softplus(raw[..., 2])


def _student_loss(
    raw: Float[Array, "*b k 3"],
    y: Float[Array, "*b k"],
) -> Float[Array, "*b k"]:
    chex.assert_shape(raw, (*y.shape, 3))
    return -t.logpdf(y, _freedom(raw), loc=raw[..., 0], scale=_scale(raw[..., 1]))


def _student_cdf(
    x: Float[Array, "*b k q"],
    df: Float[Array, "*b k 1"],
) -> Float[Array, "*b k q"]:
    """By the incomplete beta function (Abramowitz & Stegun 1964, 26.7.1)."""
    half = jnp.broadcast_to(0.5 * df, x.shape)
    tail = 0.5 * betainc(half, jnp.full_like(half, 0.5), df / (df + x * x))
    return jnp.where(x < 0, tail, 1 - tail)


def _student_quantiles(raw: Float[Array, "*b k 3"]) -> Float[Array, "*b k q"]:
    """By Newton's method on u = asinh(x / √df), in which the heavy tails are mild, from the Gaussian quantile."""
    df = _freedom(raw)[..., None]
    root = jnp.sqrt(df)
    levels = jnp.asarray(LEVELS, raw.dtype)

    def improve(
        _: Int[Array, ""],
        u: Float[Array, "*b k q"],
    ) -> Float[Array, "*b k q"]:
        x = root * jnp.sinh(u)
        slope = t.pdf(x, df) * root * jnp.cosh(u)
        step = (_student_cdf(x, df) - levels) / slope
        # Far out the density is so flat that a whole step would overshoot.
        return u - jnp.clip(step, -1, 1)

    start = jnp.arcsinh(ndtri(levels) / root)
    start = jnp.broadcast_to(start, (*df.shape[:-1], len(LEVELS)))
    u = jax.lax.fori_loop(0, NEWTON_STEPS, improve, start)
    return raw[..., :1] + _scale(raw[..., 1:2]) * (root * jnp.sinh(u))


def _student_draw(
    raw: Float[Array, "*b k 3"],
    key: Key,
) -> Float[Array, "*b k"]:
    noise = jax.random.t(key, _freedom(raw), raw.shape[:-1], raw.dtype)
    return raw[..., 0] + _scale(raw[..., 1]) * noise


STUDENT_T = Head(
    "student-t",
    width=3,
    loss=_student_loss,
    centre=lambda raw: raw[..., 0],
    quantiles=_student_quantiles,
    draw=_student_draw,
)
"""Student's t distribution, by its negative log-likelihood; its tails are heavier than the normal ones."""

HEADS: MappingProxyType[str, Head] = MappingProxyType({head.name: head for head in (QUANTILE, GAUSSIAN, STUDENT_T)})
"""Heads that give a distribution, by name."""


def named(name: str, loss: str = "mse") -> Head:
    """Return the head of a name, "point" included; `loss` is used by the point forecast alone.

    Raises `UsageError` for an unknown head or loss.
    """
    if name == "point":
        return point(loss)
    if name not in HEADS:
        raise UsageError("unknown head", where="head", got=name, needed=f"one of point, {', '.join(HEADS)}")
    return HEADS[name]
