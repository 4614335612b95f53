"""The recurrence of a cell with normalisation in its slots (`jaxseq.cells.norm` says which and where).

Layer norm keeps to its row, so it takes the hand-written adjoint of `jaxseq.recurrence`, its slots going back through
themselves. Batch norm mixes rows and takes autodiff.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxseq.cells import norm as norms
from jaxseq.cells import padding, recurrence
from jaxseq.cells.base import Carry, Cell
from jaxseq.cells.norm import PLAIN, Gains, MemoryGains, Moments, Norm, Running, Slots, SumGains, Weights
from jaxseq.cells.recurrence import Gating
from jaxseq.common.arrays import Tree


def scan(
    cell: Cell,
    norm: Norm,
    params: Tree,
    weights: Weights,
    x: Float[Array, "t b d"],
    carry: Carry,
    lengths: Int[Array, "b"] | None = None,
    reverse: bool = False,
    drop: Float[Array, "b h"] | None = None,
    running: Running | None = None,
    train: bool = False,
    truncate: int | None = None,
    first: int | Int[Array, ""] = 0,
) -> tuple[Carry, Float[Array, "t b h"], Running | None]:
    """As `recurrence.scan`, and the running moments after it.

    Batch norm needs `running`: with `train` rows are normalised by their own moments and the running ones that come
    back have followed them, otherwise by the running ones, which come back as they were. Raises `ValueError` as there,
    and for batch norm in training with a single row, whose variance is zero, or with `truncate`. `first` is the number
    of x's first step in its sequence, by which running moments are found.
    """
    way = recurrence.with_adjoint
    return _run(way, cell, norm, params, weights, x, carry, lengths, reverse, drop, running, train, truncate, first)


def scan_by_autodiff(
    cell: Cell,
    norm: Norm,
    params: Tree,
    weights: Weights,
    x: Float[Array, "t b d"],
    carry: Carry,
    lengths: Int[Array, "b"] | None = None,
    reverse: bool = False,
    drop: Float[Array, "b h"] | None = None,
    running: Running | None = None,
    train: bool = False,
    truncate: int | None = None,
    first: int | Int[Array, ""] = 0,
) -> tuple[Carry, Float[Array, "t b h"], Running | None]:
    """`scan` without the hand-written adjoint: the same values, and autodiff's gradients."""
    way = recurrence.plain
    return _run(way, cell, norm, params, weights, x, carry, lengths, reverse, drop, running, train, truncate, first)


def _run(
    way: Any,
    cell: Cell,
    norm: Norm,
    params: Tree,
    weights: Weights,
    x: Array,
    carry: Carry,
    lengths: Array | None,
    reverse: bool,
    drop: Array | None,
    running: Running | None,
    train: bool,
    truncate: int | None,
    first: int | Int[Array, ""],
) -> tuple[Carry, Array, Running | None]:
    recurrence.check(cell, params, x, carry, lengths, drop)
    if norm.by_batch:
        return _by_batch(cell, norm, params, weights, x, carry, lengths, reverse, drop, running, train, truncate, first)
    inside, gains, x = _projected(cell, norm, params, weights, x, lengths)
    last, outputs = recurrence.run(way, cell, norm, inside, gains, x, carry, lengths, reverse, drop, truncate)
    return last, outputs, running


def _projected(
    cell: Cell, norm: Norm, params: Tree, weights: Any, x: Array, lengths: Array | None
) -> tuple[Tree, Any, Array]:
    """The parameters and gains that are left for the scan, and its input.

    Layer norm's projection is done before the scan, or, of a single feature, reduced to a plain one: the deviation of
    x w over the gates is |x| times that of w.
    """
    if isinstance(weights, SumGains):
        return params, weights, x
    keep = None if lengths is None else padding.valid_steps(lengths, x.shape[0])
    x = recurrence.without_padding(x, keep)
    params = params._replace(recurrent_kernel=norms.centred_groups(params.recurrent_kernel, cell.groups))
    if x.shape[-1] == 1:
        kernel, x = _of_one_feature(cell, norm, params.input_kernel, weights.x, x)
        params = params._replace(input_kernel=kernel)
    else:
        x = norms.layer_norm_gates(x @ params.input_kernel, weights.x, cell.groups, norm.epsilon) + params.bias
        params = params._replace(input_kernel=None, bias=None)
    return params, weights._replace(x=None), x


def _of_one_feature(cell: Cell, norm: Norm, kernel: Array, gain: Array, x: Array) -> tuple[Array, Array]:
    """A kernel with a row for each group of gates, and as many features, whose product is LN(x w) · gain."""
    parts = [norms.centred(part) for part in norms.split_groups(kernel, cell.groups)]
    scales = [jax.lax.rsqrt(x * x * jnp.mean(part * part) + norm.epsilon) for part in parts]
    rows = [jnp.concatenate([p if p is part else jnp.zeros_like(p) for p in parts], axis=-1) for part in parts]
    return jnp.concatenate(rows) * gain, jnp.concatenate([x * scale for scale in scales], axis=-1)


def _by_batch(
    cell: Cell,
    norm: Norm,
    params: Tree,
    weights: Any,
    x: Array,
    carry: Carry,
    lengths: Array | None,
    reverse: bool,
    drop: Array | None,
    running: Running | None,
    train: bool,
    truncate: int | None,
    first: int | Int[Array, ""],
) -> tuple[Carry, Array, Running]:
    if running is None:
        raise ValueError("running is None; batch norm expects running moments, `cells.norm.init_running`")
    if train and x.shape[1] < 2:
        raise ValueError(f"x has a batch of {x.shape[1]} row; batch norm in training expects at least 2")
    if truncate is not None:
        raise ValueError(f"truncate is {truncate}; batch norm, which counts steps from the first, expects None")
    keep = None if lengths is None else padding.valid_steps(lengths, x.shape[0])
    x = recurrence.without_padding(x, keep)
    x = padding.turn(x, lengths) if reverse else x
    known = None if train else norms.all_at_steps(running, x.shape[0], first)
    last, outputs, seen = _with_moments(cell, norm, params, weights, x, carry, Gating(keep, drop), known)
    running = running if seen is None else _follow(norm, running, seen, keep)
    return last, padding.turn(outputs, lengths) if reverse else outputs, running


def _follow(norm: Norm, running: Running, seen: Running, keep: Array | None) -> Running:
    x, h = (norms.follow(getattr(running, f), getattr(seen, f), keep, norm.momentum) for f in ("x", "h"))
    return Running(x, h, norms.follow(running.c, seen.c, keep, norm.momentum) if running.c and seen.c else ())


def _with_moments(
    cell: Cell,
    norm: Norm,
    params: Tree,
    weights: Gains | MemoryGains,
    x: Array,
    carry: Carry,
    gating: Gating,
    known: Running | None,
) -> tuple[Carry, Array, Running | None]:
    """The scan with the batch's own moments, which are returned, or with known ones."""
    known_x = None if known is None else known.x
    z, x_seen = _standardise(norm, x @ params.input_kernel, weights.x, gating.keep, known_x)

    def body(carry: Carry, step: Any) -> tuple[Carry, Any]:
        z, keep, at = step
        u, h_seen = _standardise(norm, recurrence.product(params, gating.drop, carry), weights.h, keep, at and at.h)
        u = u + params.recurrent_bias if cell.recurrent_bias else u
        new, saved = cell.gates(z, u, carry, _memory_slot(norm, weights, keep, at and at.c))
        carry, output = recurrence.hold(keep, new, carry)
        return carry, (output, h_seen, saved.noted.memory)

    last, (outputs, h_seen, c_seen) = jax.lax.scan(body, carry, (z + params.bias, gating.keep, known))
    return last, outputs, Running(x_seen, h_seen, c_seen) if known is None else None


def _memory_slot(norm: Norm, weights: Any, keep: Array | None, known: Any) -> Slots:
    def memory(c: Array) -> tuple[Array, Any]:
        seen, noted = _standardise(norm, c, weights.c, keep, known or None)
        return seen + weights.c_shift, noted

    return PLAIN._replace(memory=memory)


def _standardise(norm: Norm, a: Array, gain: Array, keep: Array | None, known: Moments | None) -> tuple[Array, Any]:
    moments = Moments(*norms.batch_moments(a, keep)) if known is None else known
    return norms.standardise(a, moments.mean, moments.var, gain, norm.epsilon), moments if known is None else ()
