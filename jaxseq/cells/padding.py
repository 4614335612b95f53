"""Rows of unequal length in one array: which steps are valid, and rows reversed within their length."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int


def check_lengths(
    lengths: Array,
    rows: int,
    steps: int,
) -> None:
    """Raise `ValueError` unless `lengths` has an integer for each row, between 0 and `steps` where values are known."""
    if lengths.shape != (rows,):
        raise ValueError(f"lengths has the shape {lengths.shape}; expected one for each of the {rows} rows, ({rows},)")
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise ValueError(f"lengths has the dtype {lengths.dtype}; expected integers")

    # Under jit there are no values to look at.
    if isinstance(lengths, jax.core.Tracer):
        return
    values = np.asarray(lengths)
    outside = (values < 0) | (values > steps)
    if outside.any():
        row = int(np.argmax(outside))
        raise ValueError(f"lengths[{row}] is {values[row]}; expected 0 to {steps}, the steps of x")


def valid_steps(lengths: Int[Array, "b"], steps: int) -> Bool[Array, "t b"]:
    """Mark the steps that are within their row's length."""
    return jnp.arange(steps, dtype=lengths.dtype)[:, None] < lengths


def turn(x: Float[Array, "t b d"], lengths: Int[Array, "b"] | None) -> Float[Array, "t b d"]:
    """Reverse every row within its length and leave its padding in place; this is its own inverse."""
    if lengths is None:
        return jnp.flip(x, axis=0)
    t = jnp.arange(x.shape[0], dtype=lengths.dtype)[:, None]
    # Step t of a row of length n is step n - 1 - t of the reversed one.
    index = jnp.where(t < lengths, lengths - 1 - t, t)
    return jnp.take_along_axis(x, index[..., None], axis=0)
