"""The interface of a head, the levels of its quantiles and the least scale."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseq.common.arrays import Key, Support

LEVELS = (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975)
"""Levels q of the quantiles of every distribution: the median, and the intervals of 50, 80 and 95 %."""

LEAST = 1e-4
"""Least scale of a distribution, in the model's own units: it bounds the density of a perfect forecast."""

QuantityName = Literal["value", "direction"]
"""A quantity that is forecast, by its module in `jaxseq.forecasting.quantities`."""

Loss: TypeAlias = Callable[[Array, Array], Array]
"""A function (raw "... k p", target "... k") -> loss of each step, "... k"."""


def _target_itself(target: Float[Array, "*b"]) -> Float[Array, "*b"]:
    return target


class Head(NamedTuple):
    """Pure functions of raw outputs "... k p".

    width      p, raw numbers for each step
    loss       (raw, target "... k") -> "... k"; raises `AssertionError` if the shapes do not fit
    centre     raw -> "... k", the point forecast
    quantiles  raw -> "... k q" at `levels`, never crossing; None for a point forecast
    draw       (raw, key) -> "... k"; None where there is no distribution to draw from
    select     metric that says the same as the loss: "mse", "mae", or "loss" for the loss itself
    support    targets that it is made for
    levels     of the quantiles, the median among them
    simulated  whether the quantiles are those of random draws, which other precisions do not repeat
    quantity   that `centre` is a forecast of, by which forecasts are judged and told
    outcome    target -> that quantity
    """

    name: str
    width: int
    loss: Loss
    centre: Callable[[Array], Array]
    quantiles: Callable[[Array], Array] | None = None
    draw: Callable[[Array, Key], Array] | None = None
    select: str = "loss"
    support: Support = "real"
    levels: tuple[float, ...] = LEVELS
    simulated: bool = False
    quantity: QuantityName = "value"
    outcome: Callable[[Array], Array] = _target_itself


def bounded_exp(raw: Float[Array, "*b"], limit: float) -> Float[Array, "*b"]:
    """Return the exponential of numbers squashed to within `limit`, where no gradient is cut off."""
    return jnp.exp(limit * jnp.tanh(raw / limit))
