"""Long short-term memory whose output is a projection of a wider one (Sak et al. 2014), gates i, f, g, o:

    i, f, o = σ(z + u)    g = tanh(z + u)    c_t = f c_{t-1} + i g    h_t = (o tanh(c_t)) P

The layer's units are those of h; the memory has m units, which torch calls `hidden_size`, and h's `proj_size`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.nn.initializers import glorot_uniform
from jaxtyping import Array, Float

from jaxseq.cells.base import About, Cell, init_input_kernel, orthogonal_kernel, sigmoid
from jaxseq.common import checks
from jaxseq.common.arrays import DType, Key

WIDTH = 4
"""Units of the memory for each of the output, unless it has a width of its own: 2048 and 512 of Sak et al. 2014."""


class Params(NamedTuple):
    """The weights of a projected LSTM; g is 4 m."""

    input_kernel: Float[Array, "d g"]
    recurrent_kernel: Float[Array, "h g"]
    bias: Float[Array, "g"]
    projection: Float[Array, "m h"]


class Carry(NamedTuple):
    """The states of a projected LSTM: output h and memory c."""

    h: Float[Array, "*b h"]
    c: Float[Array, "*b m"]


@dataclass(frozen=True)
class Start:
    """The zero states; `memory` is m, None is `WIDTH` times the units of h."""

    memory: int | None = None

    def __call__(self, shape: tuple[int, ...], dtype: DType = jnp.float32) -> Carry:
        """Return zeros; `shape` is that of h, say (b, h)."""
        *rows, h = shape
        return Carry(jnp.zeros(shape, dtype), jnp.zeros((*rows, self.memory or WIDTH * h), dtype))


@dataclass(frozen=True)
class Init:
    """The parameters before training, as an LSTM's, with a Glorot projection; `memory` as in `Start`."""

    memory: int | None = None

    def __call__(
        self,
        key: Key,
        d: int,
        h: int,
        dtype: DType = jnp.float32,
    ) -> Params:
        """Draw parameters for d features and h units."""
        checks.count(h=h)
        m = self.memory or WIDTH * h
        input_key, recurrent_key, projection_key = jax.random.split(key, 3)

        # Each gate is drawn separately; its rows are orthogonal, for there are fewer of them than columns.
        gate_keys = jax.random.split(recurrent_key, 4)
        recurrent_kernels = [orthogonal_kernel(gate_key, h, m, dtype) for gate_key in gate_keys]
        forget = slice(m, 2 * m)
        return Params(
            input_kernel=init_input_kernel(input_key, 4, d, m, dtype),
            recurrent_kernel=jnp.concatenate(recurrent_kernels, axis=1),
            bias=jnp.zeros(4 * m, dtype).at[forget].set(1),
            projection=glorot_uniform()(projection_key, (m, h), dtype),
        )


def step(
    params: Params,
    z: Float[Array, "b g"],
    h: Float[Array, "b h"],
    carry: Carry,
) -> Carry:
    """Compute one step."""
    i_sum, f_sum, g_sum, o_sum = jnp.split(z + h @ params.recurrent_kernel, 4, axis=-1)
    # The memory is never projected, so that it keeps its width.
    c = sigmoid(f_sum) * carry.c + sigmoid(i_sum) * jnp.tanh(g_sum)
    # As in torch, the output gate acts before the projection.
    return Carry((sigmoid(o_sum) * jnp.tanh(c)) @ params.projection, c)


def with_memory(memory: int | None) -> Cell[Params, Carry]:
    """Return the cell whose memory has so many units, None being `WIDTH` times those of the output."""
    if memory is not None:
        checks.count(memory=memory)
    return Cell(
        name="lstm-projected",
        gate_count=4,
        start=Start(memory),
        init=Init(memory),
        step=step,
        about=About(title="LSTM with projection", source="Sak et al. 2014", oracle="torch.nn.LSTM, proj_size"),
    )


CELL = with_memory(None)
