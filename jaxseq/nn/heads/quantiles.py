"""Quantiles at given levels, without an assumption about the distribution."""

from __future__ import annotations

import functools
from itertools import pairwise

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseq.common.errors import UsageError
from jaxseq.nn.heads.base import LEVELS, Head

WHERE = "--model.quantiles"


def levels_of(text: str) -> tuple[float, ...]:
    """Return the levels that a text such as "0.05,0.5,0.95" names; those of every distribution for an empty one.

    Raises `UsageError` for what is no increasing list of numbers between 0 and 1, and for levels without the median or
    without the other end of an interval.
    """
    if not text:
        return LEVELS
    try:
        levels = tuple(float(word) for word in text.split(","))
    except ValueError:
        raise UsageError("not numbers", where=WHERE, got=text, needed="levels such as 0.05,0.5,0.95") from None
    if not all(0 < level < 1 for level in levels):
        raise UsageError("not between 0 and 1", where=WHERE, got=text, needed="levels such as 0.05,0.5,0.95")
    if not all(level < following for level, following in pairwise(levels)):
        raise UsageError("not in order", where=WHERE, got=text, needed="increasing levels")
    if 0.5 not in levels or len(levels) < 3:
        raise UsageError(
            "lacks the forecast or its intervals", where=WHERE, got=text, needed="0.5 and others around it"
        )

    for level in levels:
        other_end = round(1 - level, 6)
        if other_end not in levels:
            raise UsageError(
                "an interval lacks its other end",
                where=WHERE,
                got=f"{level:g} alone",
                needed=f"{other_end:g} beside it",
            )
        # Columns and tables name an interval by its percent.
        percent = 100 * abs(1 - 2 * level)
        if abs(percent - round(percent)) > 1e-6:
            raise UsageError(
                "an interval of no whole percent",
                where=WHERE,
                got=f"{level:g}, for {percent:g} %",
                needed="whole percents",
            )
    return levels


@functools.cache
def quantile(levels: tuple[float, ...] = LEVELS) -> Head:
    """Return the head of quantiles at increasing levels, as `levels_of` checks them, by their mean pinball loss.

    They cannot cross: the median is a raw number, the others are softplus steps away from it. They give no draws, as
    nothing is said between and beyond the levels. Equal levels give the same object.
    """
    middle = levels.index(0.5)

    def ordered(raw: Float[Array, "*b k q"]) -> Float[Array, "*b k q"]:
        median = raw[..., middle : middle + 1]
        steps = jax.nn.softplus(raw)

        steps_down = steps[..., middle - 1 :: -1]
        below = median - jnp.cumsum(steps_down, axis=-1)[..., ::-1]
        above = median + jnp.cumsum(steps[..., middle + 1 :], axis=-1)
        return jnp.concatenate([below, median, above], axis=-1)

    def pinball(
        raw: Float[Array, "*b k q"],
        y: Float[Array, "*b k"],
    ) -> Float[Array, "*b k"]:
        """Mean over the levels of the quantile loss (Koenker & Bassett 1978)."""
        chex.assert_shape(raw, (*y.shape, len(levels)))
        shares = jnp.asarray(levels, raw.dtype)
        error = y[..., None] - ordered(raw)
        return jnp.mean(jnp.maximum(shares * error, (shares - 1) * error), axis=-1)

    return Head(
        "quantile",
        width=len(levels),
        loss=pinball,
        centre=lambda raw: raw[..., middle],
        quantiles=ordered,
        levels=levels,
    )


QUANTILE = quantile(LEVELS)
"""Seven quantiles, those of every distribution."""
