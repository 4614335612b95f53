"""Heads: a model's raw outputs as a point forecast or as a distribution of each step of the horizon.

A head reads p = `width` raw numbers for each step, the last axis of "... k p", and defines their loss, their centre,
their quantiles and draws from them.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import chex
import jax
import jax.numpy as jnp
from jax.scipy.special import betainc, betaln, gammainc, gammaln, ndtri
from jax.scipy.stats import norm, t
from jaxtyping import Array, Bool, Float, Int

from jaxseq.common.arrays import Key, Support
from jaxseq.common.errors import UsageError

LEVELS = (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975)
"""Levels q of the quantiles of every distribution: the median, and the intervals of 50, 80 and 95 %."""

LEAST = 1e-4
"""Least scale of a distribution, in the model's own units: it bounds the density of a perfect forecast."""

NEWTON_STEPS = 12
"""Newton's iterations for a quantile: from the Gaussian one, Student's t converges at any degrees of freedom above 2."""

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
    support    targets that it is made for
    """

    name: str
    width: int
    loss: Loss
    centre: Callable[[Array], Array]
    quantiles: Callable[[Array], Array] | None = None
    draw: Callable[[Array, Key], Array] | None = None
    select: str = "loss"
    support: Support = "real"


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

HEADS: MappingProxyType[str, Head] = MappingProxyType(
    {head.name: head for head in (QUANTILE, GAUSSIAN, STUDENT_T, NEGATIVE_BINOMIAL)}
)
"""Heads that give a distribution, by name."""

if TYPE_CHECKING:
    LossName: TypeAlias = str
    HeadName: TypeAlias = str
else:  # A type checker reads no list of names that is computed; the command line, its help and `config.json` do.
    LossName = Literal[tuple(LOSSES)]
    HeadName = Literal[("point", *HEADS)]


def named(name: str, loss: str = "mse") -> Head:
    """Return the head of a name, "point" included; `loss` is used by the point forecast alone.

    Raises `UsageError` for an unknown head or loss.
    """
    if name == "point":
        return point(loss)
    if name not in HEADS:
        raise UsageError("unknown head", where="head", got=name, needed=f"one of point, {', '.join(HEADS)}")
    return HEADS[name]
