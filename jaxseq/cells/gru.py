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

from jaxseq.cells.base import Cell, init_kernels, sigmoid, sigmoid_slope, tanh_slope
from jaxseq.cells.norm import NOTHING, PLAIN, Noted, Slots, Transposes
from jaxseq.common.arrays import DType, Key


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
    noted: Noted


class Local(NamedTuple):
    """Derivatives of a step: of h by the pre-activations of the candidate and of z; of the candidate's by that of r
    and by u; of h by h_{t-1} directly."""

    by_n: Float[Array, "*b h"]
    by_update: Float[Array, "*b h"]
    n_by_r: Float[Array, "*b h"]
    r: Float[Array, "*b h"]
    update: Float[Array, "*b h"]
    noted: Noted


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
    total, noted = slots.total(z[..., : 2 * h] + u[..., : 2 * h], 0)
    rz = jax.lax.optimization_barrier(sigmoid(total))
    r, update = jnp.split(rz, 2, axis=-1)
    u_n = u[..., 2 * h :]
    total_n, noted_n = slots.total(z[..., 2 * h :] + r * u_n, 1)
    n = jax.lax.optimization_barrier(jnp.tanh(total_n))
    return Carry(n + update * (carry.h - n)), Saved(rz, n, u_n, Noted((noted, noted_n), ()))


def linearise(saved: Saved, h_before: Float[Array, "*b h"], h: Float[Array, "*b h"]) -> Local:
    """Local derivatives of all steps."""
    rz, n, u_n, noted = saved
    r, update = jnp.split(rz, 2, axis=-1)
    by_update = (h_before - n) * sigmoid_slope(update)
    return Local((1 - update) * tanh_slope(n), by_update, u_n * sigmoid_slope(r), r, update, noted)


def adjoint(local: Local, bar: Carry, back: Transposes = NOTHING) -> tuple[Array, Array, Carry, Noted]:
    """Deltas of z and of u, which differ in the candidate by the factor r, and the previous state's direct cotangent."""
    total, total_n = local.noted.total
    n_bar, kept_n = back.total(total_n, bar.h * local.by_n, 1)
    by_rz = jnp.concatenate([n_bar * local.n_by_r, bar.h * local.by_update], axis=-1)
    # A concatenation within another, fused in a loop, was compiled wrongly by XLA on CPUs (at 4 rows of 5 units).
    rz_bar, kept = back.total(total, jax.lax.optimization_barrier(by_rz), 0)
    dz, du = (jnp.concatenate([rz_bar, candidate], axis=-1) for candidate in (n_bar, n_bar * local.r))
    return dz, du, Carry(bar.h * local.update), Noted((kept, kept_n), ())


CELL = Cell("gru", 3, True, (2, 1), gates, linearise, adjoint, start, init)
