"""The recurrence: every cell's scan over time, and the one hand-written adjoint for all of them.

`scan` computes the states of a whole sequence. Its derivative (`jax.custom_vjp`) is the classical back-propagation
through time (Werbos 1990), arranged so that the backward scan holds nothing but the gate deltas and one product with the
recurrent kernel: the local derivatives are computed for all steps at once before it, and the weight gradients are one
matrix product over all steps and rows after it. Autodiff of the same scan (`scan_by_autodiff`, kept as the oracle) saves
every intermediate array and accumulates a weight gradient at each step. Normalised cells (`jaxseq.normalised`) take
autodiff, too.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxseq import consuming, padding
from jaxseq.arrays import Tree
from jaxseq.cells.base import Carry, Cell

LINEARISE_INSIDE = 128
"""Units from which on the local derivatives are computed inside the backward scan: what has been read is then still in a
cache, where below it one loop over all steps beats many small ones (4 % at 256 units; 4 % the other way at 50)."""


class Gating(NamedTuple):
    """What holds a recurrence back, row by row: both may be None.

    keep  steps that are within a row's length; at the others the carry stays and the output is zero
    drop  recurrent dropout: a factor for h on its way into the recurrent product, one mask for the whole sequence
          (Gal & Ghahramani 2016)
    """

    keep: Bool[Array, "t b"] | None = None
    drop: Float[Array, "b h"] | None = None


def step(cell: Cell, params: Tree, x: Float[Array, "b d"], carry: Carry) -> Carry:
    """One step of a cell: the carry after having read x. Its output is `carry.h`, shape "b h".

    Raises `ValueError` if the shapes do not fit the parameters.
    """
    check(cell, params, x[None], carry)
    return _advance(cell, params, None, carry, x)[0]


def scan(
    cell: Cell,
    params: Tree,
    x: Float[Array, "t b d"],
    carry: Carry,
    lengths: Int[Array, "b"] | None = None,
    reverse: bool = False,
    drop: Float[Array, "b h"] | None = None,
    truncate: int | None = None,
) -> tuple[Carry, Float[Array, "t b h"]]:
    """The last carry and the output h of every step, for a sequence x that starts from `carry`.

    With `lengths`, what lies beyond a row's length changes nothing: outputs there are zero, the last carry is that of
    the last valid step, and gradients of padding are zero. `reverse` runs each row backwards within its length; output
    t still belongs to input t. `drop` multiplies h on its way into the recurrent product (recurrent dropout, one mask a
    sequence: Gal & Ghahramani 2016). `truncate` stops gradients between chunks of so many steps (truncated
    back-propagation through time: Williams & Peng 1990); the values are the same.

    Reverse-mode differentiable in params, x, carry and drop; forward mode (`jax.jvp`) is refused by JAX, use
    `scan_by_autodiff` there. Raises `ValueError`, which names the argument, if shapes or dtypes do not fit.
    """
    return _run(_scan, cell, params, x, carry, lengths, reverse, drop, truncate)


def scan_by_autodiff(
    cell: Cell,
    params: Tree,
    x: Float[Array, "t b d"],
    carry: Carry,
    lengths: Int[Array, "b"] | None = None,
    reverse: bool = False,
    drop: Float[Array, "b h"] | None = None,
    truncate: int | None = None,
) -> tuple[Carry, Float[Array, "t b h"]]:
    """`scan` without the hand-written adjoint: the same values, and autodiff's gradients."""
    return _run(_plain, cell, params, x, carry, lengths, reverse, drop, truncate)


def _run(
    way: Any,
    cell: Cell,
    params: Tree,
    x: Array,
    carry: Carry,
    lengths: Array | None,
    reverse: bool,
    drop: Array | None,
    truncate: int | None,
) -> tuple[Carry, Array]:
    """Padding, direction and truncation around a scan."""
    check(cell, params, x, carry, lengths, drop)
    keep = None if lengths is None else padding.valid_steps(lengths, x.shape[0])
    x = without_padding(x, keep)
    x = padding.turn(x, lengths) if reverse else x
    if truncate is None:
        carry, outputs = way(cell, params, x, carry, Gating(keep, drop))
    else:
        carry, outputs = _in_chunks(partial(way, cell, params), x, carry, keep, drop, truncate)
    return carry, padding.turn(outputs, lengths) if reverse else outputs


def _in_chunks(
    way: Any, x: Array, carry: Carry, keep: Array | None, drop: Array | None, size: int
) -> tuple[Carry, Array]:
    if size < 1:
        raise ValueError(f"truncate is {size}; expected at least 1 step")
    outputs = []
    for first in range(0, x.shape[0], size):
        chunk = slice(first, first + size)
        carry = jax.lax.stop_gradient(carry) if first else carry
        carry, out = way(x[chunk], carry, Gating(None if keep is None else keep[chunk], drop))
        outputs.append(out)
    return carry, jnp.concatenate(outputs)


def without_padding(x: Array, keep: Array | None) -> Array:
    """Zeros in the place of padding, be it NaN: zero times NaN would come back in the weight gradient."""
    return x if keep is None else jnp.where(keep[..., None], x, 0)


def check(
    cell: Cell, params: Tree, x: Array, carry: Carry, lengths: Array | None = None, drop: Array | None = None
) -> None:
    """Raise `ValueError`, which names the argument, what came and what was expected, where shapes or dtypes do not fit."""
    d, g = params.input_kernel.shape
    h = g // cell.gate_count
    if x.ndim != 3 or x.shape[-1] != d or not x.shape[0]:
        raise ValueError(f"x has the shape {x.shape}; expected (steps, rows, {d}), with at least 1 step")
    kind = type(cell.start((0, 0), x.dtype))
    if type(carry) is not kind:
        raise ValueError(
            f"carry is a {type(carry).__module__}.{type(carry).__name__}; expected {kind.__module__}.Carry"
        )
    expected = {"recurrent_kernel": (h, g), "bias": (g,), **({"recurrent_bias": (g,)} if cell.recurrent_bias else {})}
    given: dict[str, Any] = {f"params.{name}": (getattr(params, name), shape) for name, shape in expected.items()}
    given |= {f"carry.{name}": (state, (x.shape[1], h)) for name, state in carry._asdict().items()}
    if drop is not None:
        given["drop"] = (drop, (x.shape[1], h))
    for name, (array, shape) in {"x": (x, x.shape), **given}.items():
        if array.shape != shape:
            raise ValueError(f"{name} has the shape {array.shape}; expected {shape}")
        if array.dtype != params.input_kernel.dtype:
            raise ValueError(
                f"{name} has the dtype {array.dtype}; expected {params.input_kernel.dtype}, as the parameters"
            )
    if lengths is not None:
        padding.check_lengths(lengths, x.shape[1], x.shape[0])


def _project(params: Tree, x: Array) -> Array:
    """x W + b. One feature is a multiply-add, which fuses with the gates; a product of inner length 1 does not."""
    if x.shape[-1] == 1:
        return x * params.input_kernel[0] + params.bias
    return x @ params.input_kernel + params.bias


def product(params: Tree, drop: Array | None, carry: Carry) -> Array:
    """h R, after recurrent dropout: the only matrix product inside the scan."""
    return (carry.h if drop is None else carry.h * drop) @ params.recurrent_kernel


def _advance(cell: Cell, params: Tree, drop: Array | None, carry: Carry, x: Array) -> tuple[Carry, Any]:
    return _recur(cell, params, drop, carry, _project(params, x))


def _recur(cell: Cell, params: Tree, drop: Array | None, carry: Carry, z: Array) -> tuple[Carry, Any]:
    u = product(params, drop, carry)
    return cell.gates(z, u + params.recurrent_bias if cell.recurrent_bias else u, carry)


def hold(keep: Array | None, new: Carry, old: Carry) -> tuple[Carry, Array]:
    """The carry and the output of a step: rows that have ended keep the one and put out zero."""
    if keep is None:
        return new, new.h
    keep = keep[:, None]
    return jax.tree.map(lambda a, b: jnp.where(keep, a, b), new, old), jnp.where(keep, new.h, 0)


def _forward(
    cell: Cell, params: Tree, x: Array, carry: Carry, gating: Gating, way: Any = jax.lax.scan
) -> tuple[Carry, tuple[Array, Any]]:
    """The scan, with what its adjoint needs; many features are projected before it, a single one inside it."""
    inside = x.shape[-1] == 1
    advance = _advance if inside else _recur

    def body(carry: Carry, step: tuple[Array, Array | None]) -> tuple[Carry, tuple[Array, Any]]:
        x, keep = step
        new, saved = advance(cell, params, gating.drop, carry, x)
        carry, output = hold(keep, new, carry)
        return carry, (output, saved)

    return way(body, carry, (x if inside else _project(params, x), gating.keep))


def _plain(cell: Cell, params: Tree, x: Array, carry: Carry, gating: Gating) -> tuple[Carry, Array]:
    last, (outputs, _) = _forward(cell, params, x, carry, gating)
    return last, outputs


_scan = jax.custom_vjp(_plain, nondiff_argnums=(0,))


def _scan_forward(cell: Cell, params: Tree, x: Array, carry: Carry, gating: Gating) -> tuple[tuple[Carry, Array], Any]:
    last, (outputs, saved) = _forward(cell, params, x, carry, gating, consuming.scan)
    return (last, outputs), (params, x, carry.h, gating, outputs, saved)


def _scan_backward(cell: Cell, residuals: Any, bars: tuple[Carry, Array]) -> tuple[Tree, Array, Carry, Gating]:
    params, x, h_start, (keep, drop), outputs, saved = residuals
    last_bar, outputs_bar = bars
    back = _transposed(params.recurrent_kernel)
    h_before = jnp.concatenate([h_start[None], outputs[:-1]])
    at_once = params.recurrent_kernel.shape[0] < LINEARISE_INSIDE
    states = (saved, h_before, outputs)

    def body(bar: Carry, step: tuple[Any, Array, Array | None]) -> tuple[Carry, Any]:
        local, h_bar, keep = step
        local = local if at_once else cell.linearise(*local)
        dz, du, before = cell.adjoint(local, bar._replace(h=bar.h + h_bar))
        if keep is not None:
            dz, du = _zero_where_ended(keep, dz, du)
        through_u = (du @ back)[:, : bar.h.shape[-1]]
        before = before._replace(h=before.h + (through_u if drop is None else through_u * drop))
        if keep is not None:
            before = jax.tree.map(lambda a, b: jnp.where(keep[:, None], a, b), before, bar)
        return before, ((dz,) if dz is du else (dz, du), () if drop is None else through_u)

    way = consuming.scan if at_once and cell.gate_count > 1 else jax.lax.scan  # each the faster one where it is taken
    start_bar, (deltas, through_u) = way(
        body, last_bar, (cell.linearise(*states) if at_once else states, outputs_bar, keep), reverse=True
    )
    dz, du = deltas[0], deltas[-1]
    params_bar = params._replace(
        input_kernel=_over_all_steps(x, dz),
        recurrent_kernel=_over_all_steps(h_before if drop is None else h_before * drop, du),
        bias=dz.sum((0, 1)),
    )
    if cell.recurrent_bias:
        params_bar = params_bar._replace(recurrent_bias=du.sum((0, 1)))
    drop_bar = None if drop is None else jnp.sum(through_u * h_before, axis=0)
    return params_bar, dz @ params.input_kernel.T, start_bar, Gating(None, drop_bar)


def _zero_where_ended(keep: Array, dz: Array, du: Array) -> tuple[Array, Array]:
    shut = jnp.where(keep[:, None], dz, 0)
    return shut, shut if dz is du else jnp.where(keep[:, None], du, 0)


def _transposed(kernel: Array) -> Array:
    """The recurrent kernel "h g" as "g h", laid out once before the scan and filled up with zero columns to a whole
    number of vector registers: 1.4 times faster at 50 units than the product with `kernel.T` inside the scan."""
    h = kernel.shape[0]
    return jax.lax.optimization_barrier(jnp.pad(kernel.T, ((0, 0), (0, -h % 32))))


def _over_all_steps(x: Array, delta: Array) -> Array:
    """Σ over time and batch of x ⊗ delta: "t b d", "t b g" -> "d g", as one product of a transpose that is laid out
    first (a single feature is a sum, for which a product of outer length 1 is the slow way). Time and batch stay two axes:
    merged, a batch that is split over devices would be gathered on each of them."""
    if x.shape[-1] == 1:
        return (x * delta).sum((0, 1))[None]
    first = jax.lax.optimization_barrier(jnp.moveaxis(x, -1, 0))
    return jax.lax.dot_general(first, delta, (((1, 2), (0, 1)), ((), ())))


_scan.defvjp(_scan_forward, _scan_backward)
