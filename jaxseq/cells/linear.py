"""The scan of a linear cell, s_t = a_t ∘ s_{t-1} + b_t, whose steps may be computed in parallel.

The coefficients of all steps are computed at once, and so are the outputs. Between them the states follow by
`jax.lax.associative_scan` (Blelloch 1990), or step by step where that is faster (`strategy.states`). Long sequences go in
chunks, which the derivative computes again, so that memory does not grow with the states of every step.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Inexact, Shaped

from jaxseq.cells import strategy
from jaxseq.cells.adjoint import Layer, Restarts, Result, Sequence, Trainable, in_its_precision, steps_of
from jaxseq.cells.base import Carry, Coefficients
from jaxseq.cells.strategy import States
from jaxseq.common.arrays import Tree


def scan(
    layer: Layer,
    trainable: Trainable,
    sequence: Sequence,
) -> Result:
    """Scan as `adjoint.plain` does, in the order that is fastest on the platform."""
    # An exported program for any length has a symbol as its number of steps, which only a loop takes.
    if not isinstance(sequence.x.shape[0], int):
        return _in_one(layer, trainable, sequence, States.STEP_BY_STEP)
    return scan_by(layer, trainable, sequence, strategy.states(), strategy.CHUNK)


@in_its_precision
def scan_by(
    layer: Layer,
    trainable: Trainable,
    sequence: Sequence,
    states: States,
    size: int,
) -> Result:
    """Scan in an order of one's choice, in chunks of at most so many steps."""
    x, start, valid, _, anew = sequence
    steps = x.shape[0]
    if steps <= size:
        return _in_one(layer, trainable, sequence, states)

    # A linear cell multiplies no state: there is nothing that recurrent dropout could act on.
    assert sequence.drop is None
    compute = partial(_chunk, layer, states, trainable.params, anew)
    count = -(-steps // size)
    if valid is None and steps % size:
        valid = jnp.ones(x.shape[:2], bool)
    inputs = (x, valid, steps_of(anew))

    def in_chunks(array: Shaped[Array, "t ..."]) -> Shaped[Array, "n c ..."]:
        # Steps that fill up the last chunk are padding.
        fill = [(0, count * size - steps)] + [(0, 0)] * (array.ndim - 1)
        return jnp.pad(array, fill).reshape(count, size, *array.shape[1:])

    # Nothing of a chunk but its carry is kept for the derivative; a scan's body needs no barrier against that.
    body = jax.checkpoint(compute, prevent_cse=False)
    last, outputs = jax.lax.scan(body, start, jax.tree.map(in_chunks, inputs))
    return last, jax.tree.map(lambda part: part.reshape(count * size, *part.shape[2:])[:steps], outputs)


@in_its_precision
def _in_one(layer: Layer, trainable: Trainable, sequence: Sequence, states: States) -> Result:
    """Scan all steps in one chunk."""
    assert sequence.drop is None
    x, start, valid, _, anew = sequence
    compute = partial(_chunk, layer, states, trainable.params, anew)
    return compute(start, (x, valid, steps_of(anew)))


def _chunk(
    layer: Layer,
    states: States,
    params: Tree,
    anew: Restarts | None,
    before: Carry,
    inputs: Any,
) -> Result:
    """Compute some steps: the last carry, and the output of each."""
    linear = layer.cell.linear
    assert linear is not None
    x, valid, restarts = inputs
    coefficients = linear.coefficients(params, x)
    if restarts is not None:
        assert anew is not None
        coefficients = _from_restarts(coefficients, restarts, linear.state(anew.carry))
    if valid is not None:
        coefficients = _held(coefficients, valid)

    # The only part that goes from step to step.
    s = linear.state(before)
    if states is States.IN_PARALLEL:
        all_states = in_parallel(coefficients, s)
    else:
        all_states = step_by_step(coefficients, s)
    carries = linear.carry(params, all_states, x)

    outputs: Tree = carries.h
    if layer.every_state:
        outputs = carries
    if valid is None:
        return jax.tree.map(lambda state: state[-1], carries), outputs
    rows = valid[..., None]
    return _last_valid(carries, before, valid), jax.tree.map(lambda state: jnp.where(rows, state, 0), outputs)


def _from_restarts(
    coefficients: Coefficients,
    restarts: Bool[Array, "t b"],
    state: Inexact[Array, "b n"],
) -> Coefficients:
    """Return coefficients that read another state where a row starts anew."""
    a, b = coefficients
    rows = restarts[..., None]
    return Coefficients(jnp.where(rows, 0, a), jnp.where(rows, a * state + b, b))


def _held(coefficients: Coefficients, valid: Bool[Array, "t b"]) -> Coefficients:
    """Return coefficients that leave the state as it was in the padding."""
    a, b = coefficients
    rows = valid[..., None]
    return Coefficients(jnp.where(rows, a, 1), jnp.where(rows, b, 0))


def _last_valid(
    carries: Carry,
    before: Carry,
    valid: Bool[Array, "t b"],
) -> Carry:
    """Return each row's carry after its last valid step, or the one before where it has none."""
    # Valid steps come first, in a reversed row too.
    count = jnp.sum(valid, axis=0, dtype=jnp.int32)
    index = jnp.maximum(count - 1, 0)[None, :, None]

    def last(state: Float[Array, "t b h"], old: Float[Array, "b h"]) -> Float[Array, "b h"]:
        return jnp.where((count > 0)[:, None], jnp.take_along_axis(state, index, axis=0)[0], old)

    return jax.tree.map(last, carries, before)


def step_by_step(coefficients: Coefficients, s: Inexact[Array, "b n"]) -> Inexact[Array, "t b n"]:
    """Compute the states of all steps, one after the other."""

    def body(s: Inexact[Array, "b n"], step: Coefficients) -> tuple[Inexact[Array, "b n"], Inexact[Array, "b n"]]:
        s = step.a * s + step.b
        return s, s

    _, states = jax.lax.scan(body, s, coefficients)
    return states


def in_parallel(coefficients: Coefficients, s: Inexact[Array, "b n"]) -> Inexact[Array, "t b n"]:
    """Compute the states of all steps in a number of rounds that grows with the logarithm of the steps."""
    a, b = coefficients

    def follow(first: Coefficients, second: Coefficients) -> Coefficients:
        return Coefficients(second.a * first.a, second.a * first.b + second.b)

    # The first step reads the state before the sequence, and none is left to read it.
    start = b.at[0].add(a[0] * s)
    return jax.lax.associative_scan(follow, Coefficients(a, start)).b
