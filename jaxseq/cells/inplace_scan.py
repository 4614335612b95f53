"""A scan that writes its outputs over inputs that nobody needs any more.

`lax.scan` gives every output a new array, which XLA fills with zeros first (on a CPU it copies those zeros as well). The
gates of a step have the shape of its projections, and its deltas that of its gates: written over one another they cost
neither, and the memory of one array.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxseq.common.arrays import Tree


def scan(
    body: Callable[[Any, Any], tuple[Any, Any]], carry: Tree, xs: Tree, kept: Tree = (), reverse: bool = False
) -> tuple[Tree, Tree]:
    """As `jax.lax.scan(body, carry, (xs, kept), reverse=reverse)`, in less memory; inside a compiled function, where
    the arrays of `xs` are not used again, while those of `kept` may be."""
    inputs, structure = jax.tree.flatten(xs)
    steps = jax.tree.leaves((xs, kept))[0].shape[0]
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), (xs, kept))
    outputs, out_structure = jax.tree.flatten(jax.eval_shape(body, carry, one)[1])
    slots, buffers = _assign(inputs, outputs, steps)

    def advance(i: Array, state: tuple[Any, list[Array]]) -> tuple[Any, list[Array]]:
        carry, buffers = state
        i = steps - 1 - i if reverse else i
        read = [jax.lax.dynamic_index_in_dim(buffer, i, keepdims=False) for buffer in buffers[: len(inputs)]]
        # Read before anything is written: a later look at an overwritten array would make XLA copy all of it, each step.
        read = [jax.lax.optimization_barrier(x) if n in slots else x for n, x in enumerate(read)]
        beside = jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, i, keepdims=False), kept)
        carry, out = body(carry, (jax.tree.unflatten(structure, read), beside))
        buffers = list(buffers)
        for slot, y in zip(slots, jax.tree.leaves(out), strict=True):
            buffers[slot] = jax.lax.dynamic_update_index_in_dim(buffers[slot], y, i, 0)
        return carry, buffers

    carry, buffers = jax.lax.fori_loop(0, steps, advance, (carry, buffers))
    return carry, jax.tree.unflatten(out_structure, [buffers[slot] for slot in slots])


def _assign(inputs: list[Array], outputs: list[Any], steps: int) -> tuple[list[int], list[Array]]:
    """The buffer of every output: an input of its shape that no other output has taken, or a new one."""
    buffers, free, slots = list(inputs), list(range(len(inputs))), []
    for y in outputs:
        fits = [n for n in free if inputs[n].shape[1:] == y.shape and inputs[n].dtype == y.dtype]
        if fits:
            free.remove(fits[0])
            slots.append(fits[0])
        else:
            slots.append(len(buffers))
            buffers.append(jnp.zeros((steps, *y.shape), y.dtype))
    return slots, buffers
