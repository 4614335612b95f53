"""Long short-term memory (Hochreiter & Schmidhuber 1997) with a forget gate (Gers et al. 2000), gates i, f, g, o:

i, f, o = σ(z + u)    g = tanh(z + u)    c_t = f c_{t-1} + i g    h_t = o tanh(c_t)
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxseq.cells.base import Cell, Params, init_kernels, sigmoid_slope, tanh_slope
from jaxseq.cells.norm import NOTHING, PLAIN, Noted, Slots, Transposes
from jaxseq.common.arrays import DType, Key


class Carry(NamedTuple):
    """The states of an LSTM: output h and memory c."""

    h: Float[Array, "*b h"]
    c: Float[Array, "*b h"]


class Saved(NamedTuple):
    """What the adjoint needs of a step."""

    gates: Float[Array, "*b g"]
    c_before: Float[Array, "*b h"]
    tanh_c: Float[Array, "*b h"]
    noted: Noted


class Local(NamedTuple):
    """Derivatives of a step: of c by the pre-activations of i, f, g and of h by that of o; of h by c, as the tanh sees
    it; of c by c_{t-1}."""

    pre_activations: Float[Array, "*b g"]
    h_by_c: Float[Array, "*b h"]
    f: Float[Array, "*b h"]
    noted: Noted


def start(shape: tuple[int, ...], dtype: DType = jnp.float32) -> Carry:
    """The zero states; `shape` is that of h, say (b, h)."""
    return Carry(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))


def init(key: Key, d: int, h: int, dtype: DType = jnp.float32) -> Params:
    """Parameters for d features and h units; the forget gate's bias is 1 (Jozefowicz et al. 2015), the others 0."""
    kernel, recurrent = init_kernels(key, d, h, 4, dtype)
    return Params(kernel, recurrent, jnp.zeros(4 * h, dtype).at[h : 2 * h].set(1))


def gates(z: Float[Array, "*b g"], u: Float[Array, "*b g"], carry: Carry, slots: Slots = PLAIN) -> tuple[Carry, Saved]:
    """One step; the activated gates are saved, which is cheaper than computing them twice."""
    total, noted_total = slots.total(z + u, 0)
    activated = _activate(total)
    i, f, g, o = jnp.split(activated, 4, axis=-1)
    c = f * carry.c + i * g
    seen, noted = slots.memory(c)
    tanh_c = jnp.tanh(seen)
    return Carry(o * tanh_c, c), Saved(activated, carry.c, tanh_c, Noted((noted_total,), noted))


def _activate(a: Array) -> Array:
    """σ on i, f, o and tanh on g, as one tanh over all gates: a single loop, which the barrier keeps from being
    computed again by every consumer."""
    h = a.shape[-1] // 4
    half = np.repeat(np.asarray([0.5, 0.5, 1.0, 0.5], a.dtype), h)
    return jax.lax.optimization_barrier(half * jnp.tanh(half * a) + (1 - half))


def linearise(saved: Saved, h_before: Float[Array, "*b h"], h: Float[Array, "*b h"]) -> Local:
    """Local derivatives of all steps."""
    i, f, g, o = jnp.split(saved.gates, 4, axis=-1)
    by_gate = [
        g * sigmoid_slope(i),
        saved.c_before * sigmoid_slope(f),
        i * tanh_slope(g),
        saved.tanh_c * sigmoid_slope(o),
    ]
    return Local(jnp.concatenate(by_gate, axis=-1), o * tanh_slope(saved.tanh_c), f, saved.noted)


def adjoint(local: Local, bar: Carry, back: Transposes = NOTHING) -> tuple[Array, Array, Carry, Noted]:
    """Deltas of z and u, which are the same, and the direct cotangents of the previous states."""
    through_h, kept = back.memory(local.noted.memory, bar.h * local.h_by_c)
    c_bar = bar.c + through_h
    by_total = jnp.concatenate([c_bar, c_bar, c_bar, bar.h], axis=-1) * local.pre_activations
    delta, kept_total = back.total(local.noted.total[0], by_total, 0)
    return delta, delta, Carry(jnp.zeros_like(bar.h), c_bar * local.f), Noted((kept_total,), kept)


CELL = Cell("lstm", 4, False, (4,), gates, linearise, adjoint, start, init)
