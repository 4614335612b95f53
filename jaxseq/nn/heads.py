"""What a model's output means: one number, or a distribution, for each step that is forecast.

A head reads `width` raw numbers for each step, the last axis of "... k p", and knows their loss, their centre, their
quantiles and how to draw from them.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtri
from jax.scipy.stats import norm, t
from jaxtyping import Array, Float

from jaxseq.common.arrays import Key
from jaxseq.common.errors import UsageError

LEVELS = (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975)
"""Quantiles that every distribution is read at: the centre, and the intervals of 50, 80 and 95 %."""
LEAST = 1e-4
"""Least scale of a distribution, in the model's own units: a density may not run off to infinity."""

Loss: TypeAlias = Callable[[Array, Array], Array]


class Head(NamedTuple):
    """Pure functions of raw output "... k p" and, for the loss, the target "... k".

    width      p, raw numbers for each step
    loss       -> "... k"
    centre     -> "... k", what is meant by "the forecast"
    quantiles  -> "... k q" at `LEVELS`, never crossing; None for a point forecast
    draw       (raw, key) -> "... k"; None where there is no distribution
    """

    name: str
    width: int
    loss: Loss
    centre: Callable[[Array], Array]
    quantiles: Callable[[Array], Array] | None = None
    draw: Callable[[Array, Key], Array] | None = None


def _squared(raw: Float[Array, "*b k 1"], y: Float[Array, "*b k"]) -> Float[Array, "*b k"]:
    return (raw[..., 0] - y) ** 2


def _absolute(raw: Float[Array, "*b k 1"], y: Float[Array, "*b k"]) -> Float[Array, "*b k"]:
    return jnp.abs(raw[..., 0] - y)


def _huber(raw: Float[Array, "*b k 1"], y: Float[Array, "*b k"]) -> Float[Array, "*b k"]:
    """½ e² up to |e| = 1, |e| - ½ beyond (Huber 1964)."""
    size = jnp.abs(raw[..., 0] - y)
    return jnp.where(size <= 1, 0.5 * size * size, size - 0.5)


LOSSES: MappingProxyType[str, Loss] = MappingProxyType({"mse": _squared, "mae": _absolute, "huber": _huber})
"""The losses of a point forecast, in the model's own units."""


def point(loss: str = "mse") -> Head:
    """One number for each step."""
    return _POINTS[loss]


_POINTS = {name: Head("point", 1, loss, lambda raw: raw[..., 0]) for name, loss in LOSSES.items()}


def _ordered(raw: Float[Array, "*b k q"]) -> Float[Array, "*b k q"]:
    """Quantiles that cannot cross: the median, and softplus steps away from it on both sides."""
    middle = len(LEVELS) // 2
    centre, steps = raw[..., middle : middle + 1], jax.nn.softplus(raw)
    below = centre - jnp.cumsum(steps[..., middle - 1 :: -1], axis=-1)[..., ::-1]
    above = centre + jnp.cumsum(steps[..., middle + 1 :], axis=-1)
    return jnp.concatenate([below, centre, above], axis=-1)


def _pinball(raw: Float[Array, "*b k q"], y: Float[Array, "*b k"]) -> Float[Array, "*b k"]:
    """Mean over the levels of the quantile loss (Koenker & Bassett 1978)."""
    error, levels = y[..., None] - _ordered(raw), jnp.asarray(LEVELS, raw.dtype)
    return jnp.mean(jnp.maximum(levels * error, (levels - 1) * error), axis=-1)


QUANTILE = Head("quantile", len(LEVELS), _pinball, lambda raw: raw[..., len(LEVELS) // 2], _ordered)


def _scale(raw: Float[Array, "*b"]) -> Float[Array, "*b"]:
    return jax.nn.softplus(raw) + LEAST


def _gaussian_loss(raw: Float[Array, "*b k 2"], y: Float[Array, "*b k"]) -> Float[Array, "*b k"]:
    return -norm.logpdf(y, raw[..., 0], _scale(raw[..., 1]))


def _gaussian_quantiles(raw: Float[Array, "*b k 2"]) -> Float[Array, "*b k q"]:
    return raw[..., :1] + _scale(raw[..., 1:2]) * ndtri(jnp.asarray(LEVELS, raw.dtype))


def _gaussian_draw(raw: Float[Array, "*b k 2"], key: Key) -> Float[Array, "*b k"]:
    return raw[..., 0] + _scale(raw[..., 1]) * jax.random.normal(key, raw.shape[:-1], raw.dtype)


GAUSSIAN = Head("gaussian", 2, _gaussian_loss, lambda raw: raw[..., 0], _gaussian_quantiles, _gaussian_draw)


def _freedom(raw: Float[Array, "*b k 3"]) -> Float[Array, "*b k"]:
    """Degrees of freedom, above 2, so that there is a variance."""
    return 2 + LEAST + jax.nn.softplus(raw[..., 2])


def _student_loss(raw: Float[Array, "*b k 3"], y: Float[Array, "*b k"]) -> Float[Array, "*b k"]:
    return -t.logpdf(y, _freedom(raw), raw[..., 0], _scale(raw[..., 1]))


def _student_cdf(x: Float[Array, "*b k q"], df: Float[Array, "*b k 1"]) -> Float[Array, "*b k q"]:
    """By the incomplete beta function (Abramowitz & Stegun 1964, 26.7.1)."""
    half, tail = jnp.broadcast_to(0.5 * df, x.shape), jax.scipy.special.betainc
    outside = 0.5 * tail(half, jnp.full_like(half, 0.5), df / (df + x * x))
    return jnp.where(x < 0, outside, 1 - outside)


def _student_quantiles(raw: Float[Array, "*b k 3"]) -> Float[Array, "*b k q"]:
    """By Newton's method from the Gaussian quantile, in the variable that makes the tails mild: asinh(x / √df)."""
    df, levels = _freedom(raw)[..., None], jnp.asarray(LEVELS, raw.dtype)
    root = jnp.sqrt(df)
    start = jnp.broadcast_to(jnp.arcsinh(ndtri(levels) / root), (*df.shape[:-1], len(LEVELS)))

    def improve(_: Any, u: Array) -> Array:
        x = root * jnp.sinh(u)
        step = (_student_cdf(x, df) - levels) / (t.pdf(x, df) * root * jnp.cosh(u))
        return u - jnp.clip(step, -1, 1)

    x = root * jnp.sinh(jax.lax.fori_loop(0, 12, improve, start))
    return raw[..., :1] + _scale(raw[..., 1:2]) * x


def _student_draw(raw: Float[Array, "*b k 3"], key: Key) -> Float[Array, "*b k"]:
    return raw[..., 0] + _scale(raw[..., 1]) * jax.random.t(key, _freedom(raw), raw.shape[:-1], raw.dtype)


STUDENT_T = Head("student-t", 3, _student_loss, lambda raw: raw[..., 0], _student_quantiles, _student_draw)

HEADS: MappingProxyType[str, Head] = MappingProxyType({head.name: head for head in (QUANTILE, GAUSSIAN, STUDENT_T)})
"""The heads that give a distribution, by name; `point` is made for its loss."""


def named(name: str, loss: str = "mse") -> Head:
    """The head of that name; `loss` is that of a point forecast. `UsageError` lists the right names for a wrong one."""
    if name == "point" and loss in LOSSES:
        return point(loss)
    if name == "point":
        raise UsageError(f"unknown loss {loss!r}: choose one of {', '.join(LOSSES)}")
    if name not in HEADS:
        raise UsageError(f"unknown head {name!r}: choose one of point, {', '.join(HEADS)}")
    return HEADS[name]
