"""Gated recurrent unit (Cho et al. 2014) in its original, reset-before form, gates r, z, n:

    r, z = σ(x W + h R + b)    n = tanh(x W_n + (r ∘ h_{t-1}) R_n + b_n)    h_t = (1 - z) n + z h_{t-1}

The reset gate acts before the recurrent product of the candidate, which is therefore a second product in each step. ONNX
has it as `linear_before_reset=0`, Keras as `reset_after=False`.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseq.cells import gru
from jaxseq.cells.base import About, Cell, Params, init_kernels, sigmoid
from jaxseq.cells.gru import Carry, start
from jaxseq.common.arrays import DType, Key


def init(
    key: Key,
    d: int,
    h: int,
    dtype: DType = jnp.float32,
) -> Params:
    """Draw parameters for d features and h units: Glorot input kernel, orthogonal recurrent kernel, zero bias."""
    kernels = init_kernels(key, gru.CELL.gate_count, d, h, dtype)
    return Params(kernels.input, kernels.recurrent, bias=jnp.zeros(3 * h, dtype))


def step(
    params: Params,
    z: Float[Array, "b g"],
    h: Float[Array, "b h"],
    carry: Carry,
) -> Carry:
    """Compute one step."""
    units = h.shape[-1]
    rz_kernel, n_kernel = jnp.split(params.recurrent_kernel, [2 * units], axis=-1)

    # Two products: the candidate's needs the reset gate.
    r, update = jnp.split(sigmoid(z[..., : 2 * units] + h @ rz_kernel), 2, axis=-1)
    n = jnp.tanh(z[..., 2 * units :] + (r * h) @ n_kernel)
    # (1 - z) n + z h_{t-1}, with one product less; dropout acts on the products alone.
    return Carry(n + update * (carry.h - n))


CELL = Cell(
    name="gru-before",
    gate_count=3,
    start=start,
    init=init,
    step=step,
    about=About(
        title="GRU, reset before",
        source="Cho et al. 2014",
        oracle="ONNX GRU, linear_before_reset=0",
        orthogonal=True,
        bounded="from the start",
    ),
)
