"""The recurrence: every cell's scan over time, and the one hand-written adjoint for all of them.

`scan` computes the states of a whole sequence. Its derivative (`jax.custom_vjp`) is the classical back-propagation
through time (Werbos 1990), arranged so that the backward scan holds nothing but the gate deltas and one product with the
recurrent kernel; the weight gradients are one matrix product over all steps and rows afterwards. Autodiff of the same
scan (`scan_by_autodiff`, kept as the oracle) saves every intermediate array and accumulates a weight gradient at each
step.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseq.arrays import Tree
from jaxseq.cells.base import Carry, Cell


def step(cell: Cell, params: Tree, x: Float[Array, "b d"], carry: Carry) -> Carry:
    """One step of a cell: the carry after having read x. Its output is `carry.h`, shape "b h".

    Raises AssertionError (chex) if the shapes do not fit the parameters.
    """
    _check(cell, params, x[None], carry)
    return _advance(cell, params, carry, x)[0]


def scan_by_autodiff(
    cell: Cell, params: Tree, x: Float[Array, "t b d"], carry: Carry
) -> tuple[Carry, Float[Array, "t b h"]]:
    """`scan` without the hand-written adjoint: the same values, and autodiff's gradients."""
    _check(cell, params, x, carry)
    last, (outputs, _) = _forward(cell, params, x, carry)
    return last, outputs


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _scan(cell: Cell, params: Tree, x: Array, carry: Carry) -> tuple[Carry, Array]:
    last, (outputs, _) = _forward(cell, params, x, carry)
    return last, outputs


def scan(cell: Cell, params: Tree, x: Float[Array, "t b d"], carry: Carry) -> tuple[Carry, Float[Array, "t b h"]]:
    """The last carry and the output h of every step, for a sequence x that starts from `carry`.

    Reverse-mode differentiable in params, x and carry; forward mode (`jax.jvp`) is refused by JAX, use
    `scan_by_autodiff` there. Raises AssertionError (chex) if the shapes do not fit the parameters.
    """
    _check(cell, params, x, carry)
    return _scan(cell, params, x, carry)


def _check(cell: Cell, params: Tree, x: Array, carry: Carry) -> None:
    d, g = params.input_kernel.shape
    h = g // cell.gate_count
    chex.assert_shape(params.recurrent_kernel, (h, g))
    chex.assert_shape(params.bias, (g,))
    chex.assert_shape(x, (None, None, d))
    chex.assert_shape(list(carry), (x.shape[1], h))
    chex.assert_type([x, *carry], params.input_kernel.dtype)


def _project(params: Tree, x: Array) -> Array:
    """x W + b. One feature is a multiply-add, which fuses with the gates; a product of inner length 1 does not."""
    if x.shape[-1] == 1:
        return x * params.input_kernel[0] + params.bias
    return x @ params.input_kernel + params.bias


def _advance(cell: Cell, params: Tree, carry: Carry, x: Array) -> tuple[Carry, Any]:
    return _recur(cell, params, carry, _project(params, x))


def _recur(cell: Cell, params: Tree, carry: Carry, z: Array) -> tuple[Carry, Any]:
    u = carry.h @ params.recurrent_kernel
    return cell.gates(z, u + params.recurrent_bias if cell.recurrent_bias else u, carry)


def _forward(cell: Cell, params: Tree, x: Array, carry: Carry) -> tuple[Carry, tuple[Array, Any]]:
    """The scan, with what its adjoint needs; many features are projected before it, a single one inside it."""
    inside = x.shape[-1] == 1
    advance = _advance if inside else _recur

    def body(carry: Carry, x: Array) -> tuple[Carry, tuple[Array, Any]]:
        carry, saved = advance(cell, params, carry, x)
        return carry, (carry.h, saved)

    return jax.lax.scan(body, carry, x if inside else _project(params, x))


def _scan_forward(cell: Cell, params: Tree, x: Array, carry: Carry) -> tuple[tuple[Carry, Array], Any]:
    last, (outputs, saved) = _forward(cell, params, x, carry)
    return (last, outputs), (params, x, carry.h, outputs, saved)


def _scan_backward(cell: Cell, residuals: Any, bars: tuple[Carry, Array]) -> tuple[Tree, Array, Carry]:
    params, x, h_start, outputs, saved = residuals
    last_bar, outputs_bar = bars
    back = _transposed(params.recurrent_kernel)

    def body(bar: Carry, step: tuple[Any, Array]) -> tuple[Carry, tuple[Array, ...]]:
        local, h_bar = step
        dz, du, bar = cell.adjoint(local, bar._replace(h=bar.h + h_bar))
        through_u = (du @ back)[:, : bar.h.shape[-1]]
        return bar._replace(h=bar.h + through_u), ((dz,) if dz is du else (dz, du))

    h_before = jnp.concatenate([h_start[None], outputs[:-1]])
    local = cell.linearise(saved, h_before, outputs)
    start_bar, deltas = jax.lax.scan(body, last_bar, (local, outputs_bar), reverse=True)
    dz, du = deltas[0], deltas[-1]
    params_bar = params._replace(
        input_kernel=_over_all_steps(x, dz), recurrent_kernel=_over_all_steps(h_before, du), bias=dz.sum((0, 1))
    )
    if cell.recurrent_bias:
        params_bar = params_bar._replace(recurrent_bias=du.sum((0, 1)))
    return params_bar, dz @ params.input_kernel.T, start_bar


def _transposed(kernel: Array) -> Array:
    """The recurrent kernel "h g" as "g h", laid out once before the scan and filled up with zero columns to a whole
    number of vector registers: 1.4 times faster at 50 units than the product with `kernel.T` inside the scan."""
    h = kernel.shape[0]
    return jax.lax.optimization_barrier(jnp.pad(kernel.T, ((0, 0), (0, -h % 32))))


def _over_all_steps(x: Array, delta: Array) -> Array:
    """Σ over time and batch of x ⊗ delta: "t b d", "t b g" -> "d g", as one product of a transpose that is laid out
    first (a single feature is a sum, for which a product of outer length 1 is the slow way)."""
    if x.shape[-1] == 1:
        return (x * delta).sum((0, 1))[None]
    flat = x.reshape(-1, x.shape[-1])
    return jax.lax.optimization_barrier(flat.T) @ delta.reshape(-1, delta.shape[-1])


_scan.defvjp(_scan_forward, _scan_backward)
