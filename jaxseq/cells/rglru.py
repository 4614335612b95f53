"""Real-gated linear recurrent unit (De et al. 2024, section 2.4), with gates r and i of its own input v:

    v = x W + b    r, i = σ(v G + b_G)    a_t = σ(Λ)^(8 r)    h_t = a_t h_{t-1} + √(1 - a_t²) (i ∘ v)

The paper's block projects x to v before it; here that is part of the cell, whose input may have any number of features.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseq.cells.base import About, Cell, Coefficients, Linear, init_input_kernel
from jaxseq.cells.mingru import state
from jaxseq.cells.rnn import Carry, start
from jaxseq.common.arrays import DType, Key

SHARPNESS = 8
"""The paper's constant c, the exponent of a full gate r."""
SLOWEST, FASTEST = 0.999, 0.9
"""Bounds of a_t with a full gate r, between which the decays start."""


class Params(NamedTuple):
    """The weights of an RG-LRU; g is 2 h, the gate r before i, and `decay` is Λ."""

    input_kernel: Float[Array, "d h"]
    bias: Float[Array, "h"]
    gate_kernel: Float[Array, "h g"]
    gate_bias: Float[Array, "g"]
    decay: Float[Array, "h"]


def init(
    key: Key,
    d: int,
    h: int,
    dtype: DType = jnp.float32,
) -> Params:
    """Draw parameters for d features and h units: Glorot kernels, zero biases, σ(Λ)^8 uniform between 0.9 and 0.999."""
    input_key, gate_key, decay_key = jax.random.split(key, 3)
    full = jax.random.uniform(decay_key, (h,), dtype, minval=FASTEST, maxval=SLOWEST)
    # Λ = logit of the root: log a - log(1 - a) with log a = log(full) / c.
    log_root = jnp.log(full) / SHARPNESS
    return Params(
        input_kernel=init_input_kernel(input_key, 1, d, h, dtype),
        bias=jnp.zeros(h, dtype),
        gate_kernel=init_input_kernel(gate_key, 2, h, h, dtype),
        gate_bias=jnp.zeros(2 * h, dtype),
        decay=log_root - jnp.log(-jnp.expm1(log_root)),
    )


def coefficients(params: Params, x: Float[Array, "*b d"]) -> Coefficients:
    """Compute a_t and b_t = √(1 - a_t²) (i ∘ v)."""
    v = x @ params.input_kernel + params.bias
    # Dense gates; the paper's are blocks on a diagonal, which only pay when spread over devices.
    r, i = jnp.split(jax.nn.sigmoid(v @ params.gate_kernel + params.gate_bias), 2, axis=-1)
    # In logarithms, for powers of a number just below 1.
    log_a = SHARPNESS * r * jax.nn.log_sigmoid(params.decay)

    # A root of zero, where the gate r is shut, would have no derivative.
    square = jnp.maximum(-jnp.expm1(2 * log_a), jnp.finfo(x.dtype).tiny)
    return Coefficients(a=jnp.exp(log_a), b=jnp.sqrt(square) * i * v)


def carry(
    params: Params,
    s: Float[Array, "*b h"],
    x: Float[Array, "*b d"],
) -> Carry:
    """Return the states as outputs."""
    return Carry(s)


CELL = Cell(
    name="rglru",
    start=start,
    init=init,
    linear=Linear(coefficients, state, carry),
    about=About(title="RG-LRU", source="De et al. 2024", oracle="scipy.signal.lfilter and scipy.linalg.solve_banded"),
)
