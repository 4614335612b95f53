"""The Elman network (Elman 1990), tanh: h_t = tanh(x_t W + b + h_{t-1} R)."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseq.arrays import DType, Key
from jaxseq.cells.base import Cell, Params, init_kernels, tanh_slope
from jaxseq.cells.norm import PLAIN, Slots


class Carry(NamedTuple):
    """The state of an Elman network."""

    h: Float[Array, "*b h"]


def start(shape: tuple[int, ...], dtype: DType = jnp.float32) -> Carry:
    """The zero state; `shape` is that of h, say (b, h)."""
    return Carry(jnp.zeros(shape, dtype))


def init(key: Key, d: int, h: int, dtype: DType = jnp.float32) -> Params:
    """Parameters for d features and h units: Glorot input kernel, orthogonal recurrent kernel, zero bias."""
    kernel, recurrent = init_kernels(key, d, h, 1, dtype)
    return Params(kernel, recurrent, jnp.zeros(h, dtype))


def gates(
    z: Float[Array, "*b g"], u: Float[Array, "*b g"], carry: Carry, slots: Slots = PLAIN
) -> tuple[Carry, tuple[()]]:
    """One step; h itself is all that the adjoint needs, so nothing else is saved."""
    return Carry(jnp.tanh(slots.total(z + u, 0))), ()


def linearise(saved: tuple[()], h_before: Float[Array, "*b h"], h: Float[Array, "*b h"]) -> Float[Array, "*b h"]:
    """The slope of tanh at every step."""
    return tanh_slope(h)


def adjoint(local: Float[Array, "*b h"], bar: Carry) -> tuple[Array, Array, Carry]:
    """Deltas of z and u, which are the same, and the previous state's direct cotangent, which is zero."""
    delta = bar.h * local
    return delta, delta, Carry(jnp.zeros_like(bar.h))


CELL = Cell("rnn", 1, False, (1,), gates, linearise, adjoint, start, init)
