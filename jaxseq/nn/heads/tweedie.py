"""Tweedie distributions: amounts that are 0 with some probability, and else positive, such as intermittent demand.

With a power 1 < p < 2 the mean μ and the dispersion φ are those of a Poisson number of gamma-distributed amounts. The
variance is φ μ^p (Jørgensen 1987, JRSS B 49).
"""

from __future__ import annotations

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float
from scipy.special import gammaln

from jaxseq.common.arrays import Key
from jaxseq.nn.heads.base import LEVELS, Head, bounded_exp

POWER = 1.5
"""Default power: gamma-distributed amounts whose standard deviation is their mean."""
TERMS = 128
"""Terms of the series: all that matter where the largest one is before `LARGE_TERM`."""
LARGE_TERM = 64.0
"""Number of the largest term from which the saddlepoint approximation is taken, at power 1.8 within 0.6 %."""
DRAWS = 500
"""Simulated amounts from which the quantiles of a step are taken, the same random numbers for each step."""


@functools.cache
def tweedie(power: float = POWER) -> Head:
    """Return the head of a Tweedie distribution of this power, between 1 and 2. Equal powers give the same object.

    Its loss is the negative log-likelihood: the quasi-likelihood of the mean, as LightGBM has it, over the dispersion, and
    a normaliser without the mean. Its quantiles are those of simulated amounts; its centre is the mean.
    """
    shape = (2 - power) / (power - 1)
    numbers = np.arange(1, TERMS + 1)
    log_factors = gammaln(numbers + 1) + gammaln(numbers * shape)

    def mean(raw: Float[Array, "*b p"]) -> Float[Array, "*b"]:
        return bounded_exp(raw[..., 0], limit=10.0)

    def dispersion(raw: Float[Array, "*b p"]) -> Float[Array, "*b"]:
        return bounded_exp(raw[..., 1], limit=5.0)

    def loss(
        raw: Float[Array, "*b k 2"],
        y: Float[Array, "*b k"],
    ) -> Float[Array, "*b k"]:
        chex.assert_shape(raw, (*y.shape, 2))
        mu = mean(raw)
        phi = dispersion(raw)
        quasi = y * mu ** (1 - power) / (power - 1) + mu ** (2 - power) / (2 - power)

        # A zero is the number 0 alone: it has no normaliser, and no logarithm.
        is_positive = y > 0
        positive = jnp.where(is_positive, y, 1)
        largest_term = positive ** (2 - power) / ((2 - power) * phi)
        by_series = quasi / phi - log_series(positive, phi) + jnp.log(positive)
        by_saddlepoint = half_deviance(positive, mu) / phi + 0.5 * jnp.log(2 * jnp.pi * phi * positive**power)
        of_positive = jnp.where(largest_term < LARGE_TERM, by_series, by_saddlepoint)
        return jnp.where(is_positive, of_positive, quasi / phi)

    def log_series(positive: Float[Array, "*b"], phi: Float[Array, "*b"]) -> Float[Array, "*b"]:
        """Return log W(y, φ), a sum over the number of amounts (Dunn & Smyth 2005, Statistics and Computing 15)."""
        log_ratio = shape * (jnp.log(positive) - np.log(power - 1))
        log_base = log_ratio - (1 + shape) * jnp.log(phi) - np.log(2 - power)
        terms = log_base[..., None] * numbers.astype(phi.dtype) - log_factors.astype(phi.dtype)
        return logsumexp(terms, axis=-1)

    def half_deviance(positive: Float[Array, "*b"], mu: Float[Array, "*b"]) -> Float[Array, "*b"]:
        """Return half of the deviance, by the ratio of mean and amount: large powers of both nearly cancel."""
        ratio = mu / positive
        of_ratio = ratio ** (1 - power) / (power - 1) + ratio ** (2 - power) / (2 - power)
        return positive ** (2 - power) * (of_ratio - 1 / ((power - 1) * (2 - power)))

    def simulated(mu: Float[Array, "*b"], phi: Float[Array, "*b"], key: Key) -> Float[Array, "*b"]:
        """Draw the sum of a Poisson number of gamma-distributed amounts."""
        number_key, amount_key = jax.random.split(key)
        rate = mu ** (2 - power) / (phi * (2 - power))
        count = jax.random.poisson(number_key, rate).astype(mu.dtype)
        # The sum of so many amounts is one of so many times the shape.
        total = jax.random.gamma(amount_key, shape * jnp.maximum(count, 1))
        scale = phi * (power - 1) * mu ** (power - 1)
        return jnp.where(count > 0, total * scale, 0)

    def quantiles(raw: Float[Array, "*b k 2"]) -> Float[Array, "*b k q"]:
        def of_step(parameters: tuple[Array, Array]) -> Float[Array, "q"]:
            mu, phi = (jnp.broadcast_to(number, (DRAWS,)) for number in parameters)
            amounts = simulated(mu, phi, jax.random.key(0))
            return jnp.quantile(amounts, jnp.asarray(LEVELS, raw.dtype))

        # One step after the other: draws of all of them would take gigabytes.
        flat = raw.reshape(-1, 2)
        by_step = jax.lax.map(of_step, (mean(flat), dispersion(flat)))
        return by_step.reshape(*raw.shape[:-1], len(LEVELS))

    def draw(
        raw: Float[Array, "*b k 2"],
        key: Key,
    ) -> Float[Array, "*b k"]:
        return simulated(mean(raw), dispersion(raw), key)

    return Head(
        "tweedie",
        width=2,
        loss=loss,
        centre=mean,
        quantiles=quantiles,
        draw=draw,
        support="amounts",
        simulated=True,
    )


TWEEDIE = tweedie(POWER)
"""Tweedie distribution of the default power."""
