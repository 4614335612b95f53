"""The recurrence: every cell's scan over time, and the one hand-written adjoint for all of them.

`scan` computes the states of a whole sequence. Its derivative (`jax.custom_vjp`) is the classical back-propagation
through time (Werbos 1990). With few rows for each unit the backward scan holds nothing but the gate deltas and one
product with the recurrent kernel: the local derivatives are computed for all steps at once before it (of many units
within it), and the weight gradients are one matrix product over all steps and rows after it. With many rows the scan adds
up the weight gradients itself, and no deltas are kept. Autodiff of the same scan (`scan_by_autodiff`, the oracle) saves
every intermediate array and accumulates a weight gradient at each step. Layer norm (`jaxseq.normalised`) has its place in
the same adjoint; batch norm takes autodiff.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxseq.cells import inplace_scan, padding
from jaxseq.cells import norm as norms
from jaxseq.cells.base import Carry, Cell
from jaxseq.cells.norm import NOTHING, PLAIN, Norm, Slots
from jaxseq.common.arrays import Tree

LINEARISE_INSIDE = 128
"""Units from which on the local derivatives are computed inside the backward scan: what has been read is then still in a
cache, where below it one loop over all steps beats many small ones (4 % at 256 units; 4 % the other way at 50)."""

ADD_UP = {False: 0.5, True: 4}
"""Units for each row of the batch up to which the weight gradients are added up within the backward scan, by whether
the two projections have deltas of their own: those are then written nowhere. 2.0 times faster for a GRU of 50 units and
256 rows, 1.3 times with 32; with fewer rows for each unit, one product of all steps is faster (1.1 times for a GRU of
256 units and 32 rows, 1.1 to 1.2 times for an LSTM and an RNN of 50 and 32, and for two layers of 20 and 32)."""


FEW = 2
"""Input features up to which the projection is a multiply-add inside the scan."""


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
    return _advance(cell, PLAIN, params, None, carry, _project(params, x))[0]


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
    check(cell, params, x, carry, lengths, drop)
    return run(with_adjoint, cell, None, params, (), x, carry, lengths, reverse, drop, truncate)


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
    check(cell, params, x, carry, lengths, drop)
    return run(plain, cell, None, params, (), x, carry, lengths, reverse, drop, truncate)


def run(
    way: Any,
    cell: Cell,
    norm: Norm | None,
    params: Tree,
    weights: Any,
    x: Array,
    carry: Carry,
    lengths: Array | None,
    reverse: bool,
    drop: Array | None,
    truncate: int | None,
) -> tuple[Carry, Array]:
    """Padding, direction and truncation around `with_adjoint` or `plain`."""
    keep = None if lengths is None else padding.valid_steps(lengths, x.shape[0])
    x = without_padding(x, keep)
    x = padding.turn(x, lengths) if reverse else x
    forward = partial(way, cell, norm, params, weights)
    if truncate is None:
        carry, outputs = forward(x, carry, Gating(keep, drop))
    else:
        carry, outputs = _in_chunks(forward, x, carry, keep, drop, truncate)
    return carry, padding.turn(outputs, lengths) if reverse else outputs


def _in_chunks(
    forward: Any, x: Array, carry: Carry, keep: Array | None, drop: Array | None, size: int
) -> tuple[Carry, Array]:
    if size < 1:
        raise ValueError(f"truncate is {size}; expected at least 1 step")
    outputs = []
    for first in range(0, x.shape[0], size):
        chunk = slice(first, first + size)
        carry = jax.lax.stop_gradient(carry) if first else carry
        carry, out = forward(x[chunk], carry, Gating(None if keep is None else keep[chunk], drop))
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
    """x W + b. A few features are multiply-adds, which fuse with the gates; a product of that inner length does not.

    Without an input kernel, x is projected already.
    """
    if params.input_kernel is None:
        return x
    if x.shape[-1] <= FEW:
        features = jnp.split(x, x.shape[-1], axis=-1)
        return sum((a * row for a, row in zip(features, params.input_kernel, strict=True)), params.bias)
    return x @ params.input_kernel + params.bias


def _products(cell: Cell, params: Tree, x: Array) -> list[Array]:
    """x W of all steps, an array for each group of gates: what a cell saves of a group has that shape, and is written
    over it. Without an input kernel, x is projected already."""
    if params.input_kernel is None:
        return [x]
    return [x @ kernel for kernel in norms.split_groups(params.input_kernel, cell.groups)]


def _whole(params: Tree, parts: list[Array]) -> Array:
    """z of one step from its groups; the bias is added here, where it costs no array of all steps."""
    z = jnp.concatenate(parts, axis=-1) if len(parts) > 1 else parts[0]
    return z if params.input_kernel is None else z + params.bias


def product(params: Tree, drop: Array | None, carry: Carry) -> Array:
    """h R, after recurrent dropout: the only matrix product inside the scan."""
    return (carry.h if drop is None else carry.h * drop) @ params.recurrent_kernel


def _advance(
    cell: Cell, slots: Slots, params: Tree, drop: Array | None, carry: Carry, z: Array
) -> tuple[Carry, tuple[Any, Any]]:
    """The next carry, and what the adjoint needs: what the cell saved, what the slot of h R noted.

    In this order, for the first may be written over z (`consuming`): it was computed from it, where the second was not,
    and XLA would write that before it has read z, which it then copies, all steps of it, at each step.
    """
    u, noted = slots.recurrent(product(params, drop, carry)[..., : z.shape[-1]])
    new, saved = cell.gates(z, u + params.recurrent_bias if cell.recurrent_bias else u, carry, slots)
    return new, (saved, noted)


def hold(keep: Array | None, new: Carry, old: Carry) -> tuple[Carry, Array]:
    """The carry and the output of a step: rows that have ended keep the one and put out zero."""
    if keep is None:
        return new, new.h
    keep = keep[:, None]
    return jax.tree.map(lambda a, b: jnp.where(keep, a, b), new, old), jnp.where(keep, new.h, 0)


def _forward(
    cell: Cell, slots: Slots, params: Tree, x: Array, carry: Carry, gating: Gating, way: Any
) -> tuple[Carry, tuple[Array, tuple[Any, Any]]]:
    """The scan, with what its adjoint needs; many features are projected before it, a few inside it."""
    inside = params.input_kernel is not None and x.shape[-1] <= FEW
    z, beside = ((), x) if inside else (_products(cell, params, x), ())
    params = params._replace(recurrent_kernel=_filled_up(params.recurrent_kernel))

    def body(carry: Carry, step: Any) -> tuple[Carry, tuple[Array, tuple[Any, Any]]]:
        z, (x, keep) = step
        z = _project(params, x) if inside else _whole(params, z)
        new, saved = _advance(cell, slots, params, gating.drop, carry, z)
        carry, output = hold(keep, new, carry)
        return carry, (output, saved)

    return way(body, carry, z, (beside, gating.keep))


def _scanned(body: Any, carry: Tree, xs: Tree, kept: Tree = (), reverse: bool = False) -> tuple[Tree, Tree]:
    """`lax.scan`, called as `consuming.scan`."""
    return jax.lax.scan(body, carry, (xs, kept), reverse=reverse)


def plain(
    cell: Cell, norm: Norm | None, params: Tree, weights: Any, x: Array, carry: Carry, gating: Gating
) -> tuple[Carry, Array]:
    """The recurrence without padding and direction; `norm` is None or a layer norm, whose gains are `weights`."""
    last, (outputs, _) = _forward(cell, _slots(cell, norm, weights), params, x, carry, gating, _scanned)
    return last, outputs


def _slots(cell: Cell, norm: Norm | None, weights: Any) -> Slots:
    return PLAIN if norm is None else norms.layer_slots(norm, cell.groups, weights)


with_adjoint = jax.custom_vjp(plain, nondiff_argnums=(0, 1))
"""`plain` with the hand-written derivative."""


def _scan_forward(
    cell: Cell, norm: Norm | None, params: Tree, weights: Any, x: Array, carry: Carry, gating: Gating
) -> tuple[tuple[Carry, Array], Any]:
    slots = _slots(cell, norm, weights)
    last, (outputs, saved) = _forward(cell, slots, params, x, carry, gating, inplace_scan.scan)
    return (last, outputs), (params, weights, x, carry.h, gating, outputs, saved)


def _scan_backward(
    cell: Cell, norm: Norm | None, residuals: Any, bars: tuple[Carry, Array]
) -> tuple[Tree, Any, Array, Carry, Gating]:
    params, weights, x, h_start, (keep, drop), outputs, (saved, noted) = residuals
    last_bar, outputs_bar = bars
    slots_back = NOTHING if norm is None else norms.layer_transposes(cell.groups, weights)
    back = _filled_up(params.recurrent_kernel.T)
    h_before = jnp.concatenate([h_start[None], outputs[:-1]])
    each_step = _adds_up_each_step(cell, norm, *h_start.shape)
    at_once = not each_step and params.recurrent_kernel.shape[0] < LINEARISE_INSIDE
    states = (saved._replace(noted=()), h_before, outputs)

    def body(state: tuple[Carry, Any, Any], step: Any) -> tuple[tuple[Carry, Any, Any], Any]:
        bar, gain_bars, sums = state
        (local, h_bar), (noted, in_cell, keep, read) = step
        local = (local if at_once else cell.linearise(*local))._replace(noted=in_cell)
        mine = bar._replace(h=bar.h + h_bar)
        if keep is not None:
            mine = jax.tree.map(lambda state: jnp.where(keep[:, None], state, 0), mine)
        dz, du, before, in_gates = cell.adjoint(local, mine, slots_back)
        product_bar, in_product = slots_back.recurrent(noted, du)
        if norm is not None:
            gain_bars = jax.tree.map(jnp.add, gain_bars, norms.gain_gradients(weights, in_product, in_gates))
        through_u = (product_bar @ back)[:, : bar.h.shape[-1]]
        before = before._replace(h=before.h + (through_u if drop is None else through_u * drop))
        if keep is not None:
            before = jax.tree.map(lambda a, b: jnp.where(keep[:, None], a, b), before, bar)
        through_u = () if drop is None else through_u
        if each_step:
            sums = jax.tree.map(jnp.add, sums, _gradients(cell, params, drop, read[0], read[1], dz, du, product_bar))
            return (before, gain_bars, sums), (_through_projection(params, dz), through_u)
        deltas = (dz, *(() if du is dz else (du,)), *(() if product_bar is du else (product_bar,)))
        return (before, gain_bars, sums), (deltas, through_u)

    way = (
        inplace_scan.scan if at_once and cell.gate_count > 1 and norm is None else _scanned
    )  # each the faster one where it is taken
    states = cell.linearise(*states) if at_once else states
    # A row for each row of the batch, added up at the end: devices that share the batch need not meet at each step.
    gain_bars = jax.tree.map(lambda gain: jnp.zeros((x.shape[1], *gain.shape), gain.dtype), weights)
    sums, read = (jax.tree.map(jnp.zeros_like, params), (x, h_before)) if each_step else ((), ())
    (start_bar, gain_bars, params_bar), (found, through_u) = way(
        body, (last_bar, gain_bars, sums), (states, outputs_bar), (noted, saved.noted, keep, read), reverse=True
    )
    if each_step:
        x_bar = found
    else:
        dz, product_bar = found[0], found[-1]
        du = found[1] if cell.recurrent_bias else dz
        params_bar, x_bar = (
            _gradients(cell, params, drop, x, h_before, dz, du, product_bar),
            _through_projection(params, dz),
        )
    weights_bar = jax.tree.map(lambda rows: rows.sum(0), gain_bars)
    drop_bar = None if drop is None else jnp.sum(through_u * h_before, axis=0)
    return params_bar, weights_bar, x_bar, start_bar, Gating(None, drop_bar)


def _adds_up_each_step(cell: Cell, norm: Norm | None, b: int, h: int) -> bool:
    """Whether the weight gradients are added up step by step, in the place of one product after the backward scan."""
    alone = jax.sharding.get_abstract_mesh().size <= 1  # devices that share a batch would meet at each step
    return norm is None and alone and h <= b * ADD_UP[cell.recurrent_bias]


def _gradients(
    cell: Cell, params: Tree, drop: Array | None, x: Array, h_before: Array, dz: Array, du: Array, product_bar: Array
) -> Tree:
    """The parameters' gradients, from one step's deltas "b g" or from those of all steps, "t b g"."""
    rows = tuple(range(dz.ndim - 1))
    found = params._replace(
        input_kernel=None if params.input_kernel is None else _over_rows(x, dz),
        recurrent_kernel=_over_rows(h_before if drop is None else h_before * drop, product_bar),
        bias=None if params.bias is None else dz.sum(rows),
    )
    return found._replace(recurrent_bias=du.sum(rows)) if cell.recurrent_bias else found


def _through_projection(params: Tree, dz: Array) -> Array:
    """The cotangent of x."""
    return dz if params.input_kernel is None else dz @ params.input_kernel.T


def _filled_up(right: Array) -> Array:
    """The right side of a matrix product, laid out before it and, unless its columns are whole vector registers, filled
    up with columns of zeros.

    At 50 units on a CPU the backward product is 1.4 times faster than that with `kernel.T` inside the scan, and the
    whole step of an RNN 1.15 times with its forward and weight products filled up, too.
    """
    columns = right.shape[-1]
    fill = -columns % 32 if columns % 8 else 0
    return jax.lax.optimization_barrier(jnp.pad(right, [(0, 0)] * (right.ndim - 1) + [(0, fill)]))


def _over_rows(x: Array, delta: Array) -> Array:
    """Σ over the batch, and over time where there is one, of x ⊗ delta: "t b d", "t b g" -> "d g", as one product of
    both axes merged (a few features are sums, for which a product of that outer length is the slow way).

    Under a mesh (`jax.set_mesh`, `jax.sharding.use_abstract_mesh`) time and batch stay two axes: merged, a batch that is
    split over devices would be gathered on each of them. On one they are 1.05 to 1.25 times slower.
    """
    if x.shape[-1] <= FEW:
        rows = tuple(range(delta.ndim - 1))
        return jnp.stack([(feature * delta).sum(rows) for feature in jnp.split(x, x.shape[-1], axis=-1)])
    if delta.ndim == 2:
        return x.T @ delta
    g = delta.shape[-1]
    delta = _filled_up(delta) if g % 8 else delta
    if jax.sharding.get_abstract_mesh().size <= 1:
        return (x.reshape(-1, x.shape[-1]).T @ delta.reshape(-1, delta.shape[-1]))[:, :g]
    first = jax.lax.optimization_barrier(jnp.moveaxis(x, -1, 0))
    return jax.lax.dot_general(first, delta, (((1, 2), (0, 1)), ((), ())))[:, :g]


with_adjoint.defvjp(_scan_forward, _scan_backward)
