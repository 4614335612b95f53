"""Minimal GRU with positive states (Feng et al. 2024, appendix B), gates z and n:

    z = σ(x W_z + b_z)    n = g(x W_n + b_n)    h_t = (1 - z) h_{t-1} + z n    g(v) = v + ½ where v ≥ 0, σ(v) elsewhere

The paper trains this form. Its scan divides by products of gates and therefore needs logarithms, which negative states do
not have; the scans of this package divide by nothing and compute h_t itself. The start is 0, as of every cell here, and
not the paper's g(0) = ½.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseq.cells.base import About, Cell, Coefficients, InputParams, Linear
from jaxseq.cells.mingru import carry, init, state
from jaxseq.cells.rnn import start


def coefficients(params: InputParams, x: Float[Array, "*b d"]) -> Coefficients:
    """Compute a = 1 - z and b = z n."""
    update_sum, n_sum = jnp.split(x @ params.input_kernel + params.bias, 2, axis=-1)
    # 1 - σ(z) without the cancellation.
    return Coefficients(a=jax.nn.sigmoid(-update_sum), b=jax.nn.sigmoid(update_sum) * positive(n_sum))


def positive(v: Float[Array, "*b h"]) -> Float[Array, "*b h"]:
    """Compute the paper's g, which is continuous: v + ½ where v ≥ 0, σ(v) elsewhere."""
    return jnp.where(v >= 0, v + 0.5, jax.nn.sigmoid(v))


CELL = Cell(
    name="mingru-positive",
    gate_count=2,
    start=start,
    init=init,
    linear=Linear(coefficients, state, carry),
    about=About(
        title="minGRU, positive states",
        source="Feng et al. 2024, appendix B",
        oracle="torch.logcumsumexp over the logarithms of the steps",
    ),
)
