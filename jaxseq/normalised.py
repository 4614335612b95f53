"""The recurrence of a cell with normalisation in its slots (`jaxseq.cells.norm` says which and where); by autodiff."""

from __future__ import annotations

from typing import Any

import jax
from jaxtyping import Array, Float, Int

from jaxseq import padding, recurrence
from jaxseq.arrays import Tree
from jaxseq.cells import norm as norms
from jaxseq.cells.base import Carry, Cell
from jaxseq.cells.norm import PLAIN, Moments, Norm, Running, Slots, Weights
from jaxseq.recurrence import Gating


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
) -> tuple[Carry, Float[Array, "t b h"], Running | None]:
    """As `recurrence.scan`, and the running moments after it.

    Batch norm needs `running`: with `train` rows are normalised by their own moments and the running ones that come
    back have followed them, otherwise by the running ones, which come back as they were. Raises `ValueError` as there,
    and for batch norm in training with a single row, whose variance is zero.
    """
    recurrence.check(cell, params, x, carry, lengths, drop)
    if norm.by_batch and running is None:
        raise ValueError("running is None; batch norm expects running moments, `cells.norm.init_running`")
    if norm.by_batch and train and x.shape[1] < 2:
        raise ValueError(f"x has a batch of {x.shape[1]} row; batch norm in training expects at least 2")
    keep = None if lengths is None else padding.valid_steps(lengths, x.shape[0])
    x = recurrence.without_padding(x, keep)
    x = padding.turn(x, lengths) if reverse else x
    last, outputs, seen = _normalised(cell, norm, params, weights, x, carry, Gating(keep, drop), running, train)
    if seen is not None and running is not None:
        running = _follow(norm, running, seen, keep)
    return last, padding.turn(outputs, lengths) if reverse else outputs, running


def _follow(norm: Norm, running: Running, seen: Running, keep: Array | None) -> Running:
    x, h = (norms.follow(getattr(running, f), getattr(seen, f), keep, norm.momentum) for f in ("x", "h"))
    return Running(x, h, norms.follow(running.c, seen.c, keep, norm.momentum) if running.c and seen.c else ())


def _normalised(
    cell: Cell,
    norm: Norm,
    params: Tree,
    weights: Any,
    x: Array,
    carry: Carry,
    gating: Gating,
    running: Running | None,
    train: bool,
) -> tuple[Carry, Array, Running | None]:
    """The scan with slots; also the batch's own moments of every step, where they were taken."""
    known = None if running is None or train else norms.all_at_steps(running, x.shape[0])
    z, x_seen = _normalise_all(
        cell, norm, weights, x @ params.input_kernel, gating.keep, None if known is None else known.x
    )

    def body(carry: Carry, step: Any) -> tuple[Carry, Any]:
        z, keep, at = step
        u, h_seen = _normalise(cell, norm, weights, recurrence.product(params, gating.drop, carry), keep, at and at.h)
        u = u + params.recurrent_bias if cell.recurrent_bias else u
        new, saved = cell.gates(z, u, carry, _slots(cell, norm, weights, keep, at and at.c))
        carry, output = recurrence.hold(keep, new, carry)
        return carry, (output, h_seen, getattr(saved, "noted", ()))

    last, (outputs, h_seen, c_seen) = jax.lax.scan(body, carry, (z + params.bias, gating.keep, known))
    return last, outputs, Running(x_seen, h_seen, c_seen) if norm.by_batch and train else None


def _normalise_all(
    cell: Cell, norm: Norm, weights: Any, a: Array, keep: Array | None, known: Moments | None
) -> tuple[Array, Any]:
    """The input projections of all steps; batch moments are taken for each of them."""
    if norm.on_sum:
        return a, ()
    if not norm.by_batch:
        return norms.layer_norm_gates(a, weights.x, cell.groups, norm.epsilon), ()
    return _by_batch(norm, a, weights.x, keep, known)


def _normalise(
    cell: Cell, norm: Norm, weights: Any, a: Array, keep: Array | None, known: Moments | None
) -> tuple[Array, Any]:
    """The recurrent projection of one step."""
    if norm.on_sum:
        return a, ()
    if not norm.by_batch:
        return norms.layer_norm_gates(a, weights.h, cell.groups, norm.epsilon), ()
    return _by_batch(norm, a, weights.h, keep, known)


def _by_batch(norm: Norm, a: Array, gain: Array, keep: Array | None, known: Moments | None) -> tuple[Array, Any]:
    moments = Moments(*norms.batch_moments(a, keep)) if known is None else known
    return norms.standardise(a, moments.mean, moments.var, gain, norm.epsilon), moments if known is None else ()


def _slots(cell: Cell, norm: Norm, weights: Any, keep: Array | None, known: Any) -> Slots:
    """The slots inside the gates: the sum's for layer-sum, the memory's for the others where the cell has one."""
    if norm.on_sum:
        edges = [0, cell.groups[0], sum(cell.groups)]

        def total(a: Array, group: int) -> Array:
            h = a.shape[-1] // cell.groups[group]
            part = slice(edges[group] * h, edges[group + 1] * h)
            return norms.layer_norm(a, weights.total[part], norm.epsilon) + weights.shift[part]

        return PLAIN._replace(total=total)

    def memory(c: Array) -> tuple[Array, Any]:
        if not norm.by_batch:
            return norms.layer_norm(c, weights.c, norm.epsilon) + weights.c_shift, ()
        seen, noted = _by_batch(norm, c, weights.c, keep, known or None)
        return seen + weights.c_shift, noted

    return PLAIN._replace(memory=memory)
