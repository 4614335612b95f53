"""Independently recurrent network (Li et al. 2018), in which a unit sees its own state alone:

h_t = relu(z_t + v ∘ h_{t-1})
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseq.cells.base import About, Cell, init_input_kernel
from jaxseq.cells.rnn import Carry, start
from jaxseq.common.arrays import DType, Key


class Params(NamedTuple):
    """The weights of an IndRNN; v is the recurrent weight of each unit."""

    input_kernel: Float[Array, "d h"]
    bias: Float[Array, "h"]
    recurrent_weight: Float[Array, "h"]


def init(
    key: Key,
    d: int,
    h: int,
    dtype: DType = jnp.float32,
) -> Params:
    """Draw parameters for d features and h units: Glorot input kernel, zero bias, v uniform in [0, 1) as in the paper."""
    input_key, recurrent_key = jax.random.split(key)
    # Below 1, so that no state grows without an input.
    return Params(
        input_kernel=init_input_kernel(input_key, 1, d, h, dtype),
        bias=jnp.zeros(h, dtype),
        recurrent_weight=jax.random.uniform(recurrent_key, (h,), dtype),
    )


def step(
    params: Params,
    z: Float[Array, "b h"],
    h: Float[Array, "b h"],
    carry: Carry,
) -> Carry:
    """Compute one step."""
    return Carry(jax.nn.relu(z + params.recurrent_weight * h))


CELL = Cell(
    name="indrnn",
    start=start,
    init=init,
    step=step,
    about=About(title="IndRNN", source="Li et al. 2018", oracle="torch.nn.RNN, relu, with a diagonal kernel"),
)
