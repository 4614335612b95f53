"""Long short-term memory whose gates see the memory (peepholes: Gers & Schmidhuber 2000), gates i, f, g, o:

i, f = σ(z + u + p ∘ c_{t-1})    g = tanh(z + u)    c_t = f c_{t-1} + i g    o = σ(z + u + p ∘ c_t)    h_t = o tanh(c_t)
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseq.cells import lstm
from jaxseq.cells.base import About, Cell, sigmoid
from jaxseq.cells.lstm import Carry, start
from jaxseq.common.arrays import DType, Key


class Params(NamedTuple):
    """The weights of an LSTM with peepholes, which are those of i, f and o side by side."""

    input_kernel: Float[Array, "d g"]
    recurrent_kernel: Float[Array, "h g"]
    bias: Float[Array, "g"]
    peepholes: Float[Array, "3*h"]


def init(
    key: Key,
    d: int,
    h: int,
    dtype: DType = jnp.float32,
) -> Params:
    """Draw the parameters of an LSTM, with peepholes of 0."""
    return Params(*lstm.init(key, d, h, dtype), peepholes=jnp.zeros(3 * h, dtype))


def step(
    params: Params,
    z: Float[Array, "b g"],
    h: Float[Array, "b h"],
    carry: Carry,
) -> Carry:
    """Compute one step."""
    i_sum, f_sum, g_sum, o_sum = jnp.split(z + h @ params.recurrent_kernel, 4, axis=-1)
    i_peephole, f_peephole, o_peephole = jnp.split(params.peepholes, 3)

    i = sigmoid(i_sum + i_peephole * carry.c)
    f = sigmoid(f_sum + f_peephole * carry.c)
    c = f * carry.c + i * jnp.tanh(g_sum)
    # The output gate sees the memory that it lets out.
    o = sigmoid(o_sum + o_peephole * c)
    return Carry(o * jnp.tanh(c), c)


CELL = Cell(
    name="lstm-peephole",
    gate_count=4,
    start=start,
    init=init,
    step=step,
    about=About(
        title="LSTM with peepholes",
        source="Gers & Schmidhuber 2000",
        oracle="ONNX LSTM with P",
        orthogonal=True,
        bounded="always",
    ),
)
