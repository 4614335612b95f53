"""Gated recurrent unit (Cho et al. 2014) in its reset-after form, as cuDNN, torch and Keras compute it, gates in the order
r, z, n:

    r, z = σ(z + u)    n = tanh(z_n + r u_n)    h_t = (1 - z) n + z h_{t-1}

The reset gate acts after the recurrent product, so that product has a bias of its own.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseq.arrays import DType, Key
from jaxseq.cells.base import Cell, init_kernels, sigmoid, sigmoid_slope, tanh_slope
from jaxseq.cells.norm import PLAIN, Slots


class Params(NamedTuple):
    """The weights of a reset-after GRU."""

    input_kernel: Float[Array, "d g"]
    recurrent_kernel: Float[Array, "h g"]
    bias: Float[Array, "g"]
    recurrent_bias: Float[Array, "g"]


class Carry(NamedTuple):
    """The state of a GRU."""

    h: Float[Array, "*b h"]


class Saved(NamedTuple):
    """What the adjoint needs of a step."""

    rz: Float[Array, "*b 2*h"]
    n: Float[Array, "*b h"]
    u_n: Float[Array, "*b h"]


class Local(NamedTuple):
    """Derivatives of a step: of h by the pre-activations z, by the products u, and by h_{t-1} directly."""

    by_z: Float[Array, "*b g"]
    by_u: Float[Array, "*b g"]
    update: Float[Array, "*b h"]


def start(shape: tuple[int, ...], dtype: DType = jnp.float32) -> Carry:
    """The zero state; `shape` is that of h, say (b, h)."""
    return Carry(jnp.zeros(shape, dtype))


def init(key: Key, d: int, h: int, dtype: DType = jnp.float32) -> Params:
    """Parameters for d features and h units: Glorot input kernel, orthogonal recurrent kernel, zero biases."""
    kernel, recurrent = init_kernels(key, d, h, 3, dtype)
    return Params(kernel, recurrent, jnp.zeros(3 * h, dtype), jnp.zeros(3 * h, dtype))


def gates(z: Float[Array, "*b g"], u: Float[Array, "*b g"], carry: Carry, slots: Slots = PLAIN) -> tuple[Carry, Saved]:
    """One step; the activated gates are saved, which is cheaper than computing them twice."""
    h = carry.h.shape[-1]
    rz = jax.lax.optimization_barrier(sigmoid(slots.total(z[..., : 2 * h] + u[..., : 2 * h], 0)))
    r, update = jnp.split(rz, 2, axis=-1)
    u_n = u[..., 2 * h :]
    n = jax.lax.optimization_barrier(jnp.tanh(slots.total(z[..., 2 * h :] + r * u_n, 1)))
    return Carry(n + update * (carry.h - n)), Saved(rz, n, u_n)


def linearise(saved: Saved, h_before: Float[Array, "*b h"], h: Float[Array, "*b h"]) -> Local:
    """Local derivatives of all steps; by z and by u they differ in the candidate, by the factor r."""
    rz, n, u_n = saved
    r, update = jnp.split(rz, 2, axis=-1)
    by_n = (1 - update) * tanh_slope(n)
    by_r = by_n * u_n * sigmoid_slope(r)
    by_update = (h_before - n) * sigmoid_slope(update)
    by_z = jnp.concatenate([by_r, by_update, by_n], axis=-1)
    return Local(by_z, jnp.concatenate([by_r, by_update, by_n * r], axis=-1), update)


def adjoint(local: Local, bar: Carry) -> tuple[Array, Array, Carry]:
    """Deltas of z and of u, and the previous state's direct cotangent."""
    h_bar = jnp.concatenate([bar.h] * 3, axis=-1)
    return h_bar * local.by_z, h_bar * local.by_u, Carry(bar.h * local.update)


CELL = Cell("gru", 3, True, (2, 1), gates, linearise, adjoint, start, init)
