"""Minimal GRU (Feng et al. 2024, section 3.1), whose gates do not see the state, gates z and n:

    z = σ(x W_z + b_z)    n = x W_n + b_n    h_t = (1 - z) h_{t-1} + z n

Its update gate lets in, where that of `gru` keeps.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseq.cells.base import About, Cell, Coefficients, InputParams, Linear, init_input_kernel
from jaxseq.cells.rnn import Carry, start
from jaxseq.common.arrays import DType, Key


def init(
    key: Key,
    d: int,
    h: int,
    dtype: DType = jnp.float32,
) -> InputParams:
    """Draw parameters for d features and h units: Glorot input kernel, zero bias."""
    return InputParams(init_input_kernel(key, 2, d, h, dtype), bias=jnp.zeros(2 * h, dtype))


def coefficients(params: InputParams, x: Float[Array, "*b d"]) -> Coefficients:
    """Compute a = 1 - z and b = z n."""
    update_sum, n = jnp.split(x @ params.input_kernel + params.bias, 2, axis=-1)
    # 1 - σ(z) without the cancellation.
    return Coefficients(a=jax.nn.sigmoid(-update_sum), b=jax.nn.sigmoid(update_sum) * n)


def state(carry: Carry) -> Float[Array, "*b h"]:
    """Return h, which is the whole state."""
    return carry.h


def carry(
    params: InputParams,
    s: Float[Array, "*b h"],
    x: Float[Array, "*b d"],
) -> Carry:
    """Return the states as outputs."""
    return Carry(s)


CELL = Cell(
    name="mingru",
    gate_count=2,
    start=start,
    init=init,
    linear=Linear(coefficients, state, carry),
    about=About(title="minGRU", source="Feng et al. 2024", oracle="torch.nn.GRU without recurrent weights"),
)
