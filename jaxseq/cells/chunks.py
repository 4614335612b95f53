"""Scans over chunks of time steps, of which only the carries between them are kept for the derivative.

The derivative computes each chunk again from the carry before it (Chen, Xu, Zhang & Guestrin 2016, "Training deep nets with
sublinear memory cost"): t / k carries and the residuals of k steps instead of the residuals of t. Values and gradients are
those of the whole scan up to rounding, since the gradients of weights are added up chunk by chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxseq.cells.adjoint import Result, Sequence
from jaxseq.cells.base import Carry, Cell
from jaxseq.common import checks
from jaxseq.common.arrays import Tree
from jaxseq.common.errors import UsageError

Chunk: TypeAlias = int | Literal["auto"] | None
"""Time steps that the derivative computes again at once; None keeps what it needs of all steps, "auto" is `automatic`."""

LARGE = 256 * 2**20
"""Bytes of a scan's residuals from which "auto" computes them again. Below, memory is not scarce, and most programs faster
without."""
WIDE = 256
"""Units from which the matrix products, and not the memory, decide how long a step takes."""
LARGE_IF_WIDE = 2 * 2**30
"""`LARGE` for so many units: to compute the products of the forward scan again makes a step a third longer."""

BoundRecurrence: TypeAlias = Callable[[Sequence], Result]
"""A scan from the first time step to the last, with a layer and its weights."""

Steps = TypeVar("Steps")


def size(chunk: Chunk, cell: Cell, x: Float[Array, "t b d"], carry: Carry) -> int | None:
    """Return the time steps of a chunk, or None for the whole scan. Raises `ValueError` for anything but a `Chunk`."""
    if chunk is None:
        return None
    if chunk == "auto":
        return automatic(cell, x, carry)
    if isinstance(chunk, str):
        raise UsageError("unknown", where="chunk", got=chunk, needed="'auto', None or a number of time steps")
    checks.count(chunk=chunk)
    # NumPy's narrow integers would wrap when they are added up.
    return int(chunk)


def automatic(cell: Cell, x: Float[Array, "t b d"], carry: Carry) -> int | None:
    """Return the root of t where the residuals of all steps would take `LARGE` bytes or more, and None elsewhere.

    Wide cells keep up to `LARGE_IF_WIDE`.
    """
    # Cells that are parallel in time have chunks of their own.
    if cell.linear is not None:
        return None
    # Of an exported program for any number of rows the bytes are not known.
    if not all(isinstance(count, int) for count in x.shape):
        return None
    limit = LARGE
    if carry.h.shape[-1] >= WIDE:
        limit = LARGE_IF_WIDE
    if planned_bytes(cell, x, carry) < limit:
        return None
    # The sum of the carries that are kept and the steps of a chunk is then the least.
    return max(1, round(x.shape[0] ** 0.5))


def planned_bytes(cell: Cell, x: Float[Array, "t b d"], carry: Carry) -> int:
    """Return about the bytes that the derivative of a whole scan keeps: gates, projections and states of all steps."""
    state_bytes = sum(state.nbytes for state in carry)
    gates = cell.gate_count
    # Of a cell that is not gated, what an LSTM would have.
    if cell.gates is None:
        gates = 4
    # The projection of the input, and the gates themselves.
    gate_bytes = 2 * gates * carry.h.nbytes
    return x.shape[0] * (state_bytes + gate_bytes)


def recompute(recurrence: BoundRecurrence, sequence: Sequence, size: int) -> Result:
    """Apply a recurrence to chunks of `size` time steps, which the derivative computes again."""
    return _over_sequence(recurrence, sequence, size, cut=False)


def truncate(recurrence: BoundRecurrence, sequence: Sequence, size: int) -> Result:
    """Apply a recurrence to chunks of `size` time steps, without a gradient from one to the one before."""
    return _over_sequence(recurrence, sequence, size, cut=True)


def scan(
    body: Callable[[Carry, Steps], tuple[Carry, Tree]],
    carry: Carry,
    steps: Steps,
    size: int | None,
) -> tuple[Carry, Tree]:
    """Scan as `jax.lax.scan` does, in chunks of `size` steps unless that is None."""

    def whole(carry: Carry, chunk: Steps) -> tuple[Carry, Tree]:
        return jax.lax.scan(body, carry, chunk)

    if size is None:
        return whole(carry, steps)
    return _over_chunks(whole, carry, steps, size, cut=False)


def _over_sequence(recurrence: BoundRecurrence, sequence: Sequence, size: int, cut: bool) -> Result:
    anew = sequence.anew
    before = None
    if anew is not None:
        before = anew.before

    def scanned(carry: Carry, steps: Tree) -> Result:
        x, valid, chunk_before = steps
        chunk = sequence._replace(x=x, carry=carry, valid=valid)
        if anew is not None:
            chunk = chunk._replace(anew=anew._replace(before=chunk_before))
        return recurrence(chunk)

    steps = (sequence.x, sequence.valid, before)
    return _over_chunks(scanned, sequence.carry, steps, size=size, cut=cut)


def _cut(carry: Carry, number: int | Int[Array, ""]) -> Carry:
    """Stop the gradient of a carry before chunk `number`; the initial one keeps it."""

    def cut(state: Float[Array, "b _"]) -> Float[Array, "b _"]:
        return jnp.where(number == 0, state, jax.lax.stop_gradient(state))

    return jax.tree.map(cut, carry)


def _over_chunks(
    function: Callable[[Carry, Steps], tuple[Carry, Tree]],
    carry: Carry,
    steps: Steps,
    size: int,
    cut: bool,
) -> tuple[Carry, Tree]:
    """Apply a function to chunks of time steps in turn; with `cut`, no gradient passes from a chunk to the one before."""
    count = jax.tree.leaves(steps)[0].shape[0]
    if count <= size:
        return function(carry, steps)
    whole_chunks = count // size
    # The loop itself keeps the compiler from merging the two computations of a chunk.
    recomputed = jax.checkpoint(function, prevent_cse=False)

    def body(carry: Carry, numbered: tuple[Array, Steps]) -> tuple[Carry, Tree]:
        number, chunk = numbered
        if cut:
            carry = _cut(carry, number)
        return recomputed(carry, chunk)

    def split(array: Array) -> Array:
        return array[: whole_chunks * size].reshape(whole_chunks, size, *array.shape[1:])

    def joined(array: Array) -> Array:
        return array.reshape(whole_chunks * size, *array.shape[2:])

    carry, outputs = jax.lax.scan(body, carry, (jnp.arange(whole_chunks), jax.tree.map(split, steps)))
    outputs = jax.tree.map(joined, outputs)
    if whole_chunks * size == count:
        return carry, outputs

    if cut:
        carry = _cut(carry, whole_chunks)
    rest = jax.tree.map(lambda array: array[whole_chunks * size :], steps)
    carry, last_outputs = jax.checkpoint(function)(carry, rest)
    return carry, jax.tree.map(lambda *parts: jnp.concatenate(parts), outputs, last_outputs)
