"""The Elman network (Elman 1990), tanh: h_t = tanh(x_t W + b + h_{t-1} R)."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseq.cells.base import Cell, Params, init_kernels, tanh_slope
from jaxseq.cells.norm import NOTHING, PLAIN, Noted, Slots, Transposes
from jaxseq.common.arrays import DType, Key


class Carry(NamedTuple):
    """The state of an Elman network."""

    h: Float[Array, "*b h"]


class Saved(NamedTuple):
    """What the adjoint needs of a step; h itself is an output."""

    noted: Noted


class Local(NamedTuple):
    """The derivative of a step's h by its pre-activation."""

    by_z: Float[Array, "*b h"]
    noted: Noted


def start(shape: tuple[int, ...], dtype: DType = jnp.float32) -> Carry:
    """The zero state; `shape` is that of h, say (b, h)."""
    return Carry(jnp.zeros(shape, dtype))


def init(key: Key, d: int, h: int, dtype: DType = jnp.float32) -> Params:
    """Parameters for d features and h units: Glorot input kernel, orthogonal recurrent kernel, zero bias."""
    kernel, recurrent = init_kernels(key, d, h, 1, dtype)
    return Params(kernel, recurrent, jnp.zeros(h, dtype))


def gates(z: Float[Array, "*b g"], u: Float[Array, "*b g"], carry: Carry, slots: Slots = PLAIN) -> tuple[Carry, Saved]:
    """One step."""
    total, noted = slots.total(z + u, 0)
    return Carry(jnp.tanh(total)), Saved(Noted((noted,), ()))


def linearise(saved: Saved, h_before: Float[Array, "*b h"], h: Float[Array, "*b h"]) -> Local:
    """The slope of tanh at every step."""
    return Local(tanh_slope(h), saved.noted)


def adjoint(local: Local, bar: Carry, back: Transposes = NOTHING) -> tuple[Array, Array, Carry, Noted]:
    """Deltas of z and u, which are the same, and the previous state's direct cotangent, which is zero."""
    delta, kept = back.total(local.noted.total[0], bar.h * local.by_z, 0)
    return delta, delta, Carry(jnp.zeros_like(bar.h)), Noted((kept,), ())


CELL = Cell("rnn", 1, False, (1,), gates, linearise, adjoint, start, init)
