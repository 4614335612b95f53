"""The learning rate over a run, as a function of the optimiser steps taken and of numbers that are arrays.

numbers  "lr", the largest rate, and by schedule: "steps" of the whole run, "warmup", the steps in which the rate rises,
         and "factor", the last rate as a share of the first
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, TypeAlias

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

Numbers: TypeAlias = Mapping[str, Float[Array, ""]]
Rate: TypeAlias = Callable[[Numbers, Int[Array, ""]], Float[Array, ""]]

WARMUP: Mapping[str, float] = MappingProxyType({"warmup-cosine": 0.1, "one-cycle": 0.3})
"""Share of the run in which the rate rises, by schedule."""
FACTOR: Mapping[str, float] = MappingProxyType({"exponential": 0.01, "plateau": 0.1})
"""The last rate as a share of the first; of a plateau, the rate after it as a share of that before."""
PLATEAU = 5
"""Epochs without a better validation score that are a plateau."""

FIRST = 1 / 25
"""First rate of a one-cycle as a share of its largest, as in torch and optax."""
LAST = 1e-4
"""Last rate of a one-cycle as a share of its first."""


def cosine(numbers: Numbers, count: Int[Array, ""]) -> Float[Array, ""]:
    """Fall from lr to 0 along half a cosine (Loshchilov & Hutter 2017)."""
    return numbers["lr"] * _half_cosine(count, numbers["steps"])


def warmup_cosine(numbers: Numbers, count: Int[Array, ""]) -> Float[Array, ""]:
    """Rise from 0 to lr in a line, then fall to 0 along half a cosine (Goyal et al. 2017)."""
    warmup = numbers["warmup"]
    rising = count / jnp.maximum(warmup, 1)
    falling = _half_cosine(count - warmup, numbers["steps"] - warmup)
    return numbers["lr"] * jnp.where(count < warmup, rising, falling)


def one_cycle(numbers: Numbers, count: Int[Array, ""]) -> Float[Array, ""]:
    """Rise from lr / 25 to lr along half a cosine, then fall to lr / 250,000 along another (Smith & Topin 2019)."""
    warmup = numbers["warmup"]
    rising = 1 - (1 - FIRST) * _half_cosine(count, warmup)
    last = FIRST * LAST
    falling = last + (1 - last) * _half_cosine(count - warmup, numbers["steps"] - warmup)
    return numbers["lr"] * jnp.where(count < warmup, rising, falling)


def exponential(numbers: Numbers, count: Int[Array, ""]) -> Float[Array, ""]:
    """Fall from lr to lr · factor, by the same share in every step."""
    return numbers["lr"] * numbers["factor"] ** (count / numbers["steps"])


def _half_cosine(count: Float[Array, ""] | Int[Array, ""], steps: Float[Array, ""]) -> Float[Array, ""]:
    """Fall from 1 to 0 in `steps` steps."""
    # As XLA computes a cosine whose steps are a constant, to the last bit: it folds π and the reciprocal into one.
    angle = jnp.minimum(count, steps) * (jnp.pi * (1 / jnp.maximum(steps, 1)))
    return 0.5 * (1 + jnp.cos(angle))


RATES: Mapping[str, Rate] = MappingProxyType(
    {
        "cosine": cosine,
        "warmup-cosine": warmup_cosine,
        "one-cycle": one_cycle,
        "exponential": exponential,
    }
)
"""The schedules that depend on the length of the run; the other two are constants, but for what a plateau takes off."""

if TYPE_CHECKING:
    Schedule: TypeAlias = str
else:  # A type checker reads no list of names that is computed.
    Schedule = Literal[("constant", *RATES, "plateau")]
