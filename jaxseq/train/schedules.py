"""The learning rate over a run, as a function of the optimiser steps taken and of numbers that are arrays.

numbers  "lr", the rate at the start, and "steps" of the whole run
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

Schedule = Literal["constant", "cosine"]
"""The learning rate over a run."""

Numbers: TypeAlias = Mapping[str, Float[Array, ""]]
Rate: TypeAlias = Callable[[Numbers, Int[Array, ""]], Float[Array, ""]]


def cosine(numbers: Numbers, count: Int[Array, ""]) -> Float[Array, ""]:
    """Fall from lr to 0 along half a cosine (Loshchilov & Hutter 2017)."""
    return numbers["lr"] * _half_cosine(count, numbers["steps"])


def _half_cosine(count: Float[Array, ""] | Int[Array, ""], steps: Float[Array, ""]) -> Float[Array, ""]:
    """Fall from 1 to 0 in `steps` steps."""
    # As XLA computes a cosine whose steps are a constant, to the last bit: it folds π and the reciprocal into one.
    angle = jnp.minimum(count, steps) * (jnp.pi * (1 / jnp.maximum(steps, 1)))
    return 0.5 * (1 + jnp.cos(angle))


RATES: Mapping[str, Rate] = MappingProxyType(
    {
        "cosine": cosine,
    }
)
"""The schedules that depend on the steps taken."""
