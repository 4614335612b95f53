"""A scan that writes its outputs over inputs that are not needed any more.

`jax.lax.scan` gives every output a new array, which XLA fills with zeros first (on a CPU it copies those zeros as well).
The gates of a step have the shape of its projections, and the cotangents of the projections that of the gates. Written
over each other they cost neither, and the memory of one array.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Shaped

from jaxseq.common.arrays import Tree


def scan(
    body: Callable[[Any, Any], tuple[Any, Any]],
    carry: Tree,
    overwritten: Tree,
    preserved: Tree = (),
    reverse: bool = False,
) -> tuple[Tree, Tree]:
    """Compute ``jax.lax.scan(body, carry, (overwritten, preserved), reverse=reverse)`` in less memory.

    Saves memory inside a compiled function that does not read the arrays of `overwritten` again; those of `preserved` it
    may read.
    """
    inputs, structure = jax.tree.flatten(overwritten)
    steps = jax.tree.leaves((overwritten, preserved))[0].shape[0]

    # Which inputs can be written over is known by the outputs' shapes, without computing a step.
    step_shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), (overwritten, preserved))
    _, output_shapes = jax.eval_shape(body, carry, step_shapes)
    outputs, output_structure = jax.tree.flatten(output_shapes)
    # On devices that share a batch the outputs vary as the carry does, and so do the buffers that they are written to.
    like = jax.tree.leaves(carry)[0]
    plan = _assign_buffers(inputs, outputs, steps, like)

    def advance(i: Int[Array, ""], state: tuple[Tree, list[Array]]) -> tuple[Tree, list[Array]]:
        carry, buffers = state
        if reverse:
            i = steps - 1 - i

        def read(buffer: Shaped[Array, "t ..."]) -> Shaped[Array, "..."]:
            return jax.lax.dynamic_index_in_dim(buffer, i, keepdims=False)

        # Read before anything is written: XLA would copy an overwritten array whole, at each step, to read it later.
        values = [read(buffer) for buffer in buffers[: len(inputs)]]
        for slot in plan.slots:
            if slot < len(inputs):
                values[slot] = jax.lax.optimization_barrier(values[slot])
        step = (jax.tree.unflatten(structure, values), jax.tree.map(read, preserved))
        carry, step_outputs = body(carry, step)

        # A copy of the list, not of the arrays.
        buffers = list(buffers)
        for slot, output in zip(plan.slots, jax.tree.leaves(step_outputs), strict=True):
            buffers[slot] = jax.lax.dynamic_update_index_in_dim(buffers[slot], output, i, 0)
        return carry, buffers

    carry, buffers = jax.lax.fori_loop(0, steps, advance, (carry, plan.buffers))
    return carry, jax.tree.unflatten(output_structure, [buffers[slot] for slot in plan.slots])


class _Plan(NamedTuple):
    """Buffers of a scan, the inputs first, and the index of the buffer that each output is written to."""

    buffers: list[Array]
    slots: list[int]


def _assign_buffers(
    inputs: list[Array],
    outputs: list[jax.ShapeDtypeStruct],
    steps: int,
    like: Array,
) -> _Plan:
    """Give every output the first free input of its shape and dtype, or else a new array that varies like another."""
    buffers = list(inputs)
    free = list(range(len(inputs)))
    slots = []
    for output in outputs:
        fitting = [
            index for index in free if inputs[index].shape[1:] == output.shape and inputs[index].dtype == output.dtype
        ]
        if fitting:
            slot = fitting[0]
            free.remove(slot)
        else:
            slot = len(buffers)
            buffers.append(jnp.zeros_like(like, output.dtype, shape=(steps, *output.shape)))
        slots.append(slot)
    return _Plan(buffers, slots)
