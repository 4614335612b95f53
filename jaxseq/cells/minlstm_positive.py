"""Minimal LSTM with positive states (Feng et al. 2024, appendix B), gates f, i, n and the g of `mingru_positive`:

    f, i = σ(x W + b)    n = g(x W_n + b_n)    h_t = (f h_{t-1} + i n) / (f + i)

As there, nothing is computed on logarithms but the quotients of the gates, and states start at 0.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseq.cells.base import About, Cell, Coefficients, InputParams, Linear
from jaxseq.cells.mingru import carry, state
from jaxseq.cells.mingru_positive import positive
from jaxseq.cells.minlstm import init, log_odds
from jaxseq.cells.rnn import start


def coefficients(params: InputParams, x: Float[Array, "*b d"]) -> Coefficients:
    """Compute a = f / (f + i) and b = i n / (f + i)."""
    f_sum, i_sum, n_sum = jnp.split(x @ params.input_kernel + params.bias, 3, axis=-1)
    odds = log_odds(f_sum, i_sum)
    return Coefficients(a=jax.nn.sigmoid(odds), b=jax.nn.sigmoid(-odds) * positive(n_sum))


CELL = Cell(
    name="minlstm-positive",
    gate_count=3,
    start=start,
    init=init,
    linear=Linear(coefficients, state, carry),
    about=About(
        title="minLSTM, positive states",
        source="Feng et al. 2024, appendix B",
        oracle="torch.logcumsumexp over the logarithms of the steps",
    ),
)
