"""Distributions of real numbers, by their negative log-likelihood."""

from __future__ import annotations

import functools

import chex
import jax
import jax.numpy as jnp
from jax.scipy.special import betainc, logsumexp, ndtr, ndtri
from jax.scipy.stats import norm, t
from jaxtyping import Array, Float, Int

from jaxseq.common.arrays import Key
from jaxseq.nn.heads.base import LEAST, LEVELS, Head

NEWTON_STEPS = 12
"""Newton's iterations for a quantile: from the Gaussian one, Student's t converges at any degrees of freedom above 2."""

HALVINGS = 40
"""Halvings of the interval that a quantile of a mixture lies in: beyond the digits of float32."""
COMPONENTS = 3
"""Default number of normal distributions in a mixture."""
MOST_COMPONENTS = 64

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


# A mixture of normal distributions: logits of the weights, locations and scales of its components.


@functools.cache
def mixture(components: int = COMPONENTS) -> Head:
    """Return the head of a mixture of normal distributions (Bishop 1994, "Mixture density networks").

    Its centre is the mean. Equal numbers give the same object.
    """

    def parts(raw: Float[Array, "*b p"]) -> tuple[Float[Array, "*b c"], Float[Array, "*b c"], Float[Array, "*b c"]]:
        """Return logarithms of the weights, locations and scales."""
        logits, locations, raw_scales = jnp.split(raw, 3, axis=-1)
        return jax.nn.log_softmax(logits), locations, _scale(raw_scales)

    def loss(
        raw: Float[Array, "*b k p"],
        y: Float[Array, "*b k"],
    ) -> Float[Array, "*b k"]:
        chex.assert_shape(raw, (*y.shape, 3 * components))
        log_weights, locations, scales = parts(raw)
        return -logsumexp(log_weights + norm.logpdf(y[..., None], locations, scales), axis=-1)

    def centre(raw: Float[Array, "*b p"]) -> Float[Array, "*b"]:
        log_weights, locations, _ = parts(raw)
        return jnp.sum(jnp.exp(log_weights) * locations, axis=-1)

    def quantiles(raw: Float[Array, "*b p"]) -> Float[Array, "*b q"]:
        """Return them by bisection: each lies between the least and the largest of the components."""
        log_weights, locations, scales = (numbers[..., None, :] for numbers in parts(raw))
        weights = jnp.exp(log_weights)
        levels = jnp.asarray(LEVELS, raw.dtype)
        of_components = locations + scales * ndtri(levels)[:, None]

        def halve(
            _: Int[Array, ""],
            ends: tuple[Float[Array, "*b q"], Float[Array, "*b q"]],
        ) -> tuple[Float[Array, "*b q"], Float[Array, "*b q"]]:
            low, high = ends
            middle = low + (high - low) / 2
            reached = jnp.sum(weights * ndtr((middle[..., None] - locations) / scales), axis=-1)
            is_short = reached < levels
            return jnp.where(is_short, middle, low), jnp.where(is_short, high, middle)

        ends = (of_components.min(axis=-1), of_components.max(axis=-1))
        low, high = jax.lax.fori_loop(0, HALVINGS, halve, ends)
        # Each has its own interval, so that equal ones may differ in their last digit.
        return jax.lax.cummax(low + (high - low) / 2, axis=low.ndim - 1)

    def draw(
        raw: Float[Array, "*b k p"],
        key: Key,
    ) -> Float[Array, "*b k"]:
        component_key, noise_key = jax.random.split(key)
        log_weights, locations, scales = parts(raw)
        chosen = jax.random.categorical(component_key, log_weights)[..., None]
        location = jnp.take_along_axis(locations, chosen, axis=-1)[..., 0]
        scale = jnp.take_along_axis(scales, chosen, axis=-1)[..., 0]
        return location + scale * jax.random.normal(noise_key, location.shape, raw.dtype)

    return Head("mixture", width=3 * components, loss=loss, centre=centre, quantiles=quantiles, draw=draw)


MIXTURE = mixture(COMPONENTS)
"""Mixture of three normal distributions."""
