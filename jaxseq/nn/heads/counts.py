"""Distributions of counts, by their negative log-likelihood: Poisson, negative binomial, and both with extra zeros."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.scipy.special import betaln, gammainc, gammaln, ndtri
from jaxtyping import Array, Bool, Float, Int

from jaxseq.common.arrays import Key
from jaxseq.nn.heads.base import LEAST, LEVELS, Head, bounded_exp

NEWTON_STEPS = 12
"""Newton's iterations for a quantile of the gamma distribution."""
LARGE_MEAN = 300.0
"""Mean from which a continuous distribution gives the quantiles of counts: the probability is then within 0.02 of the
level."""
MOST_COUNTED = 4096
"""Largest quantile of a smaller mean: few distributions reach further, all of dispersions far above 1."""
LARGE_COUNT = 64.0
"""Count from which Stirling's series, to its first term, is exact in float32."""
LEAST_LEVEL = 1e-6
"""Least level of a quantile of a large mean; that of a level of 0 is 0."""


class _Law(NamedTuple):
    """A distribution of counts, by raw numbers "... p"; `quantiles` are at levels "q", or "... q" of each row."""

    width: int
    mean: Callable[[Array], Array]
    loss: Callable[[Array, Array], Array]
    quantiles: Callable[[Array, Array], Array]
    draw: Callable[[Array, Key], Array]


def _head(name: str, law: _Law) -> Head:
    """Return the head of a distribution of counts.

    Its centre is the mean: the median of a series that is mostly 0 is 0, and no forecast.
    """

    def quantiles(raw: Float[Array, "*b k p"]) -> Float[Array, "*b k q"]:
        return law.quantiles(raw, jnp.asarray(LEVELS, raw.dtype))

    return Head(
        name,
        width=law.width,
        loss=law.loss,
        centre=law.mean,
        quantiles=quantiles,
        draw=law.draw,
        support="counts",
    )


def _count_mean(raw: Float[Array, "*b p"]) -> Float[Array, "*b"]:
    # Up to 2 ** 24, beyond which float32 does not have all whole numbers.
    return bounded_exp(raw[..., 0], limit=16.6)


class _Counting(NamedTuple):
    """The next count, the logarithm of its probability, the probability of all before it, and the quantiles so far."""

    count: Float[Array, ""]
    log_probability: Float[Array, "*b"]
    reached: Float[Array, "*b"]
    quantiles: Float[Array, "*b q"]


def _counted_quantiles(
    mean: Float[Array, "*b"],
    levels: Float[Array, "*#b q"],
    log_zero: Float[Array, "*b"],
    log_growth: Callable[[Array], Array],
) -> Float[Array, "*b q"]:
    """Return the least whole numbers at which the distribution function reaches each level, by adding up from 0.

    log_zero    logarithm of the probability of 0, which may be too small for float32
    log_growth  count -> logarithm of the probability of the next one relative to it
    """

    def is_short(state: _Counting) -> Bool[Array, ""]:
        is_counted = mean < LARGE_MEAN
        goes_on = state.reached < levels[..., -1]
        return (state.count < MOST_COUNTED) & jnp.any(goes_on & is_counted)

    def add(state: _Counting) -> _Counting:
        count, log_probability, reached, quantiles = state
        reached = reached + jnp.exp(log_probability)
        return _Counting(
            count=count + 1,
            log_probability=log_probability + log_growth(count),
            reached=reached,
            quantiles=quantiles + (reached[..., None] < levels).astype(mean.dtype),
        )

    start = _Counting(
        count=jnp.zeros((), mean.dtype),
        log_probability=log_zero,
        reached=jnp.zeros_like(mean),
        quantiles=jnp.zeros((*mean.shape, levels.shape[-1]), mean.dtype),
    )
    return jax.lax.while_loop(is_short, add, start).quantiles


def _with_large_means(
    mean: Float[Array, "*b"],
    counted: Float[Array, "*b q"],
    approximate: Callable[[], Array],
) -> Float[Array, "*b q"]:
    """Return quantiles that are counted, or those of a continuous distribution where the mean is large."""
    is_large = mean >= LARGE_MEAN
    # Most data have no such counts, and a continuous distribution takes far longer.
    continuous = jax.lax.cond(jnp.any(is_large), approximate, lambda: counted)
    return jnp.where(is_large[..., None], continuous, counted)


# Poisson: logarithm of the mean.


def _poisson_loss(
    raw: Float[Array, "*b k 1"],
    y: Float[Array, "*b k"],
) -> Float[Array, "*b k"]:
    """-log p(y) with log p(y) = y log μ - μ - log y!."""
    chex.assert_shape(raw, (*y.shape, 1))
    mean = _count_mean(raw)
    by_factorial = mean - y * jnp.log(mean) + gammaln(y + 1)

    # Large terms nearly cancel: y (μ / y - 1 - log(μ / y)) has them taken away, by Stirling's series of log y!.
    large = jnp.maximum(y, LARGE_COUNT)
    excess = (mean - large) / large
    # Beside the mean the logarithms are alike to their last digits.
    is_near = jnp.abs(excess) < 0.5
    log_near = jnp.log1p(jnp.where(is_near, excess, 0))
    log_ratio = jnp.where(is_near, log_near, jnp.log(mean) - jnp.log(large))
    by_series = large * (excess - log_ratio) + 0.5 * jnp.log(2 * jnp.pi * large) + 1 / (12 * large)
    return jnp.where(y < LARGE_COUNT, by_factorial, by_series)


def _poisson_quantiles(raw: Float[Array, "*b 1"], levels: Float[Array, "*#b q"]) -> Float[Array, "*b q"]:
    mean = _count_mean(raw)
    log_mean = jnp.log(mean)
    counted = _counted_quantiles(mean, levels, -mean, lambda count: log_mean - jnp.log(count + 1))

    def by_normal() -> Float[Array, "*b q"]:
        """Return the quantiles of the normal distribution, corrected for the skewness (Cornish & Fisher 1938)."""
        deviation = ndtri(jnp.maximum(levels, LEAST_LEVEL))
        skewed = (deviation**2 - 1) / 6
        numbers = mean[..., None] + jnp.sqrt(mean)[..., None] * deviation + skewed
        # A whole number stands for the half on both sides of it.
        return jnp.where(levels > 0, jnp.maximum(jnp.round(numbers), 0), 0)

    return _with_large_means(mean, counted, by_normal)


def _poisson_draw(
    raw: Float[Array, "*b k 1"],
    key: Key,
) -> Float[Array, "*b k"]:
    return _drawn(key, _count_mean(raw))


def _drawn(key: Key, rates: Float[Array, "*b"]) -> Float[Array, "*b"]:
    counts = jax.random.poisson(key, rates).astype(rates.dtype)
    # Far beyond, 32 bits hold no count, and float32 not each of them.
    return jnp.minimum(counts, 2.0**24)


_POISSON = _Law(
    width=1,
    mean=_count_mean,
    loss=_poisson_loss,
    quantiles=_poisson_quantiles,
    draw=_poisson_draw,
)
POISSON = _head("poisson", _POISSON)
"""Counts whose variance is their mean."""


# Negative binomial: logarithms of the mean and of the dispersion.


def _count_size(raw: Float[Array, "*b 2"]) -> Float[Array, "*b"]:
    """Return r, the inverse of the dispersion: from 1 / 1,097 to 1,097, beyond which float32 loses the quantiles."""
    return bounded_exp(-raw[..., 1], limit=7.0)


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


def _gamma_quantiles(
    mean: Float[Array, "*b"],
    size: Float[Array, "*b"],
    levels: Float[Array, "*#b q"],
) -> Float[Array, "*b q"]:
    """Return those of the gamma distribution of the same mean and variance, as whole numbers, by Newton's method.

    Of the logarithm of the distribution function at e^u, which is concave, and linear far below the mean.
    """
    unit = (1 + mean / size)[..., None]
    shape = mean[..., None] / unit
    positive_levels = jnp.maximum(levels, LEAST_LEVEL)
    # Wilson & Hilferty 1931 for large shapes, the first term of the series at 0 for small ones.
    deviation = 1 / (3 * jnp.sqrt(shape))
    cube_root = 1 - deviation**2 + ndtri(positive_levels) * deviation
    by_normal = jnp.log(shape) + 3 * jnp.log(jnp.maximum(cube_root, LEAST))
    by_series = (jnp.log(positive_levels) + gammaln(shape + 1)) / shape
    start = jnp.where(shape > 1, by_normal, by_series)

    def improve(
        _: Int[Array, ""],
        u: Float[Array, "*b q"],
    ) -> Float[Array, "*b q"]:
        x = jnp.exp(u)
        probability = jnp.maximum(gammainc(shape, x), jnp.finfo(u.dtype).tiny)
        slope = jnp.exp(shape * u - x - gammaln(shape)) / probability
        step = jnp.log(probability / positive_levels) / jnp.maximum(slope, LEAST)
        return u - jnp.clip(step, -1, 1)

    u = jax.lax.fori_loop(0, NEWTON_STEPS, improve, start)
    # A whole number stands for the half on both sides of it.
    return jnp.where(levels > 0, jnp.maximum(jnp.round(unit * jnp.exp(u)), 0), 0)


def _count_quantiles(raw: Float[Array, "*b 2"], levels: Float[Array, "*#b q"]) -> Float[Array, "*b q"]:
    mean = _count_mean(raw)
    size = _count_size(raw)
    log_ratio = -jnp.log1p(size / mean)
    counted = _counted_quantiles(
        mean,
        levels,
        log_zero=-size * jnp.log1p(mean / size),
        log_growth=lambda count: jnp.log((count + size) / (count + 1)) + log_ratio,
    )
    return _with_large_means(mean, counted, partial(_gamma_quantiles, mean, size, levels))


def _count_draw(
    raw: Float[Array, "*b k 2"],
    key: Key,
) -> Float[Array, "*b k"]:
    """Draw from the Poisson distributions whose means are gamma-distributed."""
    rate_key, count_key = jax.random.split(key)
    size = _count_size(raw)
    rates = jax.random.gamma(rate_key, size) * _count_mean(raw) / size
    return _drawn(count_key, rates)


_NEGATIVE_BINOMIAL = _Law(
    width=2,
    mean=_count_mean,
    loss=_count_loss,
    quantiles=_count_quantiles,
    draw=_count_draw,
)
NEGATIVE_BINOMIAL = _head("negative-binomial", _NEGATIVE_BINOMIAL)
"""Counts with mean μ and variance μ + μ² / r (Salinas et al. 2020, DeepAR, section 3.1)."""


# With extra zeros: the raw numbers of another distribution, and the logit of the share π of zeros beside it.


def _with_zeros(law: _Law) -> _Law:
    """Return the distribution that is 0 with probability π, and else that of `law` (Lambert 1992, Technometrics 34)."""

    def mean(raw: Float[Array, "*b p"]) -> Float[Array, "*b"]:
        return jax.nn.sigmoid(-raw[..., -1]) * law.mean(raw[..., :-1])

    def loss(
        raw: Float[Array, "*b k p"],
        y: Float[Array, "*b k"],
    ) -> Float[Array, "*b k"]:
        chex.assert_shape(raw, (*y.shape, law.width + 1))
        log_extra = jax.nn.log_sigmoid(raw[..., -1])
        log_counted = jax.nn.log_sigmoid(-raw[..., -1]) - law.loss(raw[..., :-1], y)
        # A zero may be either one.
        return -jnp.where(y == 0, jnp.logaddexp(log_extra, log_counted), log_counted)

    def quantiles(raw: Float[Array, "*b p"], levels: Float[Array, "*#b q"]) -> Float[Array, "*b q"]:
        # π + (1 - π) F reaches a level where F reaches (level - π) / (1 - π).
        counted_share = jax.nn.sigmoid(-raw[..., -1:])
        levels_of_counts = 1 - (1 - levels) / jnp.maximum(counted_share, jnp.finfo(raw.dtype).tiny)
        return law.quantiles(raw[..., :-1], jnp.maximum(levels_of_counts, 0))

    def draw(
        raw: Float[Array, "*b k p"],
        key: Key,
    ) -> Float[Array, "*b k"]:
        zero_key, count_key = jax.random.split(key)
        is_counted = jax.random.bernoulli(zero_key, jax.nn.sigmoid(-raw[..., -1]))
        return jnp.where(is_counted, law.draw(raw[..., :-1], count_key), 0)

    return _Law(law.width + 1, mean, loss, quantiles, draw)


ZERO_INFLATED_POISSON = _head("zero-inflated-poisson", _with_zeros(_POISSON))
ZERO_INFLATED_NEGATIVE_BINOMIAL = _head("zero-inflated-negative-binomial", _with_zeros(_NEGATIVE_BINOMIAL))
"""Counts with more zeros than those of the distribution they are named after."""
