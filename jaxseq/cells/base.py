"""What a cell is: a constant of pure functions around one elementwise gate function.

    z_t = x_t W + b                       input projection, no recurrence in it
    u_t = h_{t-1} R  (+ b_R)              recurrent projection, the only matrix product inside the scan
    carry_t, saved_t = gates(z_t, u_t, carry_{t-1})

The recurrence (`jaxseq.recurrence`) owns the products, the scan and the adjoint; a cell owns the elementwise part and
its derivative. Gate functions act on the last axis, whatever stands before it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.nn.initializers import glorot_uniform, orthogonal
from jaxtyping import Array, Float

from jaxseq.common.arrays import DType, Key

Carry: TypeAlias = Any
"""A cell's NamedTuple of states, each ``*b h``; the first field is `h`, the cell's output."""


class Params(NamedTuple):
    """The weights of a cell whose two projections share one bias (RNN, LSTM)."""

    input_kernel: Float[Array, "d g"]
    recurrent_kernel: Float[Array, "h g"]
    bias: Float[Array, "g"]


class Cell(NamedTuple):
    """A recurrent cell as a constant: it hashes, pickles and never retraces; sizes live in the parameters' shapes.

    name            the name on the command line
    gate_count      g = gate_count · h
    recurrent_bias  whether the recurrent projection has a bias of its own (the parameters then hold `recurrent_bias`)
    groups          the gates whose sums z + u are formed together, counted: layer norm takes its moments over a group
    gates           (z "*b g", u "*b g", carry, slots) -> (next carry, saved): the personality of the cell; `slots` are
                    where normalisation goes (`jaxseq.cells.norm`), and `saved.noted` is what they note
    linearise       (saved, h_{t-1} "*b h", h_t "*b h") -> local: the local derivatives, for all steps at once
    adjoint         (local, cotangent of the next carry, way back through the slots) -> (dz "*b g", du "*b g", the part
                    of the previous carry's cotangent that does not pass through u, what the slots' way back gave for
                    their weights); dz and du are one object where they are equal
    start           (shape of one state, dtype) -> the zero carry
    init            (key, d, h, dtype) -> parameters
    """

    name: str
    gate_count: int
    recurrent_bias: bool
    groups: tuple[int, ...]
    gates: Callable[..., tuple[Carry, Any]]
    linearise: Callable[[Any, Array, Array], Any]
    adjoint: Callable[..., tuple[Array, Array, Carry, Any]]
    start: Callable[..., Carry]
    init: Callable[..., Any]


def sigmoid(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Logistic function as ½ tanh(½ x) + ½: one transcendental that can share its loop with a tanh."""
    return 0.5 * jnp.tanh(0.5 * x) + 0.5


def sigmoid_slope(y: Float[Array, "..."]) -> Float[Array, "..."]:
    """Derivative of the logistic function, from its value y: y (1 - y)."""
    return y * (1 - y)


def tanh_slope(y: Float[Array, "..."]) -> Float[Array, "..."]:
    """Derivative of tanh, from its value y: 1 - y²."""
    return 1 - y * y


def init_kernels(key: Key, d: int, h: int, gate_count: int, dtype: DType) -> tuple[Array, Array]:
    """Input kernel "d g", Glorot uniform per gate (Glorot & Bengio 2010), and recurrent kernel "h g", orthogonal per
    gate (Saxe et al. 2014), as Keras and flax draw them."""
    input_key, recurrent_key = jax.random.split(key)
    glorot, ortho = glorot_uniform(), orthogonal()
    draw_input = [glorot(k, (d, h), dtype) for k in jax.random.split(input_key, gate_count)]
    draw_recurrent = [ortho(k, (h, h), dtype) for k in jax.random.split(recurrent_key, gate_count)]
    return jnp.concatenate(draw_input, axis=1), jnp.concatenate(draw_recurrent, axis=1)
