"""Minimal LSTM (Feng et al. 2024, section 3.2), whose gates do not see the state and share a sum of one, gates f, i, n:

f, i = σ(x W + b)    n = x W_n + b_n    h_t = (f h_{t-1} + i n) / (f + i)
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseq.cells.base import About, Cell, Coefficients, InputParams, Linear, init_input_kernel
from jaxseq.cells.mingru import carry, state
from jaxseq.cells.rnn import start
from jaxseq.common.arrays import DType, Key


def init(
    key: Key,
    d: int,
    h: int,
    dtype: DType = jnp.float32,
) -> InputParams:
    """Draw parameters for d features and h units: Glorot input kernel, forget bias 1 as in an LSTM, other biases 0."""
    bias = jnp.zeros(3 * h, dtype).at[:h].set(1)
    return InputParams(init_input_kernel(key, 3, d, h, dtype), bias)


def coefficients(params: InputParams, x: Float[Array, "*b d"]) -> Coefficients:
    """Compute a = f / (f + i) and b = i n / (f + i)."""
    f_sum, i_sum, n = jnp.split(x @ params.input_kernel + params.bias, 3, axis=-1)
    odds = log_odds(f_sum, i_sum)
    return Coefficients(a=jax.nn.sigmoid(odds), b=jax.nn.sigmoid(-odds) * n)


def log_odds(f_sum: Float[Array, "*b h"], i_sum: Float[Array, "*b h"]) -> Float[Array, "*b h"]:
    """Compute log f - log i, of which f / (f + i) is the logistic function."""
    # Both gates may be too small for their sum.
    return jax.nn.log_sigmoid(f_sum) - jax.nn.log_sigmoid(i_sum)


CELL = Cell(
    name="minlstm",
    gate_count=3,
    start=start,
    init=init,
    linear=Linear(coefficients, state, carry),
    about=About(title="minLSTM", source="Feng et al. 2024", oracle="torch.nn.GRU without recurrent weights"),
)
