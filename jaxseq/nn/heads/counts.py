"""Distributions of counts, by their negative log-likelihood."""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.scipy.special import betaln, gammainc, gammaln, ndtri
from jaxtyping import Array, Bool, Float, Int

from jaxseq.common.arrays import Key
from jaxseq.nn.heads.base import LEAST, LEVELS, Head

NEWTON_STEPS = 12
"""Newton's iterations for a quantile of the gamma distribution."""

# Negative binomial: logarithms of the mean and of the dispersion.

LARGE_MEAN = 300.0
"""Mean from which a gamma distribution gives the quantiles of counts: the probability is then within 0.02 of the level."""
MOST_COUNTED = 4096
"""Largest quantile of a smaller mean: few distributions reach further, all of dispersions far above 1."""


def _bounded_exp(raw: Float[Array, "*b"], limit: float) -> Float[Array, "*b"]:
    """Return the exponential of numbers squashed to within `limit`, where no gradient is cut off."""
    return jnp.exp(limit * jnp.tanh(raw / limit))


def _count_mean(raw: Float[Array, "*b 2"]) -> Float[Array, "*b"]:
    # Up to 2 ** 24, beyond which float32 does not have all whole numbers.
    return _bounded_exp(raw[..., 0], limit=16.6)


def _count_size(raw: Float[Array, "*b 2"]) -> Float[Array, "*b"]:
    """Return r, the inverse of the dispersion: from 1 / 1,097 to 1,097, beyond which float32 loses the quantiles."""
    return _bounded_exp(-raw[..., 1], limit=7.0)


def _count_loss(
    raw: Float[Array, "*b k 2"],
    y: Float[Array, "*b k"],
) -> Float[Array, "*b k"]:
    """-log p(y) with log p(y) = -log(y + r) - log B(r, y + 1) + r log(r / (r + μ)) + y log(μ / (r + μ))."""
    chex.assert_shape(raw, (*y.shape, 2))
    mean = _count_mean(raw)
    size = _count_size(raw)
    # Beta's logarithm instead of three gammas', which are large and nearly cancel.
    combinations = -jnp.log(y + size) - betaln(size, y + 1)
    failures = size * jnp.log1p(mean / size)
    successes = y * jnp.log1p(size / mean)
    return failures + successes - combinations


class _Counting(NamedTuple):
    """The next count, the logarithm of its probability, the probability of all before it, and the quantiles so far."""

    count: Float[Array, ""]
    log_probability: Float[Array, "*b"]
    reached: Float[Array, "*b"]
    quantiles: Float[Array, "*b q"]


def _counted_quantiles(
    mean: Float[Array, "*b"],
    size: Float[Array, "*b"],
) -> Float[Array, "*b q"]:
    """Return the least whole numbers at which the distribution function reaches each level, by adding up from 0."""
    levels = jnp.asarray(LEVELS, mean.dtype)
    log_ratio = -jnp.log1p(size / mean)

    def is_short(state: _Counting) -> Bool[Array, ""]:
        is_counted = mean < LARGE_MEAN
        goes_on = state.reached < LEVELS[-1]
        return (state.count < MOST_COUNTED) & jnp.any(goes_on & is_counted)

    def add(state: _Counting) -> _Counting:
        count, log_probability, reached, quantiles = state
        reached = reached + jnp.exp(log_probability)
        log_growth = jnp.log((count + size) / (count + 1)) + log_ratio
        return _Counting(
            count=count + 1,
            log_probability=log_probability + log_growth,
            reached=reached,
            quantiles=quantiles + (reached[..., None] < levels).astype(mean.dtype),
        )

    start = _Counting(
        count=jnp.zeros((), mean.dtype),
        # In logarithms, because the probability of 0 may be too small for float32.
        log_probability=-size * jnp.log1p(mean / size),
        reached=jnp.zeros_like(mean),
        quantiles=jnp.zeros((*mean.shape, len(LEVELS)), mean.dtype),
    )
    return jax.lax.while_loop(is_short, add, start).quantiles


def _gamma_quantiles(
    mean: Float[Array, "*b"],
    size: Float[Array, "*b"],
) -> Float[Array, "*b q"]:
    """Return those of the gamma distribution of the same mean and variance, as whole numbers, by Newton's method.

    Of the logarithm of the distribution function at e^u, which is concave, and linear far below the mean.
    """
    unit = (1 + mean / size)[..., None]
    shape = mean[..., None] / unit
    levels = jnp.asarray(LEVELS, mean.dtype)
    # Wilson & Hilferty 1931 for large shapes, the first term of the series at 0 for small ones.
    deviation = 1 / (3 * jnp.sqrt(shape))
    cube_root = 1 - deviation**2 + ndtri(levels) * deviation
    by_normal = jnp.log(shape) + 3 * jnp.log(jnp.maximum(cube_root, LEAST))
    by_series = (jnp.log(levels) + gammaln(shape + 1)) / shape
    start = jnp.where(shape > 1, by_normal, by_series)

    def improve(
        _: Int[Array, ""],
        u: Float[Array, "*b q"],
    ) -> Float[Array, "*b q"]:
        x = jnp.exp(u)
        probability = jnp.maximum(gammainc(shape, x), jnp.finfo(u.dtype).tiny)
        slope = jnp.exp(shape * u - x - gammaln(shape)) / probability
        step = jnp.log(probability / levels) / jnp.maximum(slope, LEAST)
        return u - jnp.clip(step, -1, 1)

    u = jax.lax.fori_loop(0, NEWTON_STEPS, improve, start)
    # A whole number stands for the half on both sides of it.
    return jnp.maximum(jnp.round(unit * jnp.exp(u)), 0)


def _count_quantiles(raw: Float[Array, "*b k 2"]) -> Float[Array, "*b k q"]:
    mean = _count_mean(raw)
    size = _count_size(raw)
    counted = _counted_quantiles(mean, size)
    is_large = mean >= LARGE_MEAN
    # Most data have no such counts, and the gamma distribution takes far longer.
    approximate = jax.lax.cond(jnp.any(is_large), _gamma_quantiles, lambda *_: counted, mean, size)
    return jnp.where(is_large[..., None], approximate, counted)


def _count_draw(
    raw: Float[Array, "*b k 2"],
    key: Key,
) -> Float[Array, "*b k"]:
    """Draw from the Poisson distributions whose means are gamma-distributed."""
    rate_key, count_key = jax.random.split(key)
    size = _count_size(raw)
    rates = jax.random.gamma(rate_key, size) * _count_mean(raw) / size
    counts = jax.random.poisson(count_key, rates).astype(raw.dtype)
    # Far beyond, 32 bits hold no count, and float32 not each of them.
    return jnp.minimum(counts, 2.0**24)


NEGATIVE_BINOMIAL = Head(
    "negative-binomial",
    width=2,
    loss=_count_loss,
    centre=_count_mean,
    quantiles=_count_quantiles,
    draw=_count_draw,
    support="counts",
)
"""Counts with mean μ and variance μ + μ² / r, by their negative log-likelihood (Salinas et al. 2020, DeepAR, section 3.1).

Its centre is the mean: the median of a series that is mostly 0 is 0, and no forecast."""
