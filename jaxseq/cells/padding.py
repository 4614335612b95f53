"""Rows of unequal length in one array: which steps are valid, and a row turned round within its own length."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int


def check_lengths(lengths: Array, rows: int, steps: int) -> None:
    """Raise `ValueError` unless `lengths` is an integer for each row, and 0 to `steps` where its values are known."""
    if lengths.shape != (rows,):
        raise ValueError(f"lengths has the shape {lengths.shape}; expected one for each of the {rows} rows, ({rows},)")
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise ValueError(f"lengths has the dtype {lengths.dtype}; expected integers")
    if not isinstance(lengths, jax.core.Tracer):
        known = np.asarray(lengths)
        if (bad := (known < 0) | (known > steps)).any():
            row = int(np.argmax(bad))
            raise ValueError(f"lengths[{row}] is {known[row]}; expected 0 to {steps}, the steps of x")


def valid_steps(lengths: Int[Array, "b"], steps: int) -> Bool[Array, "t b"]:
    """True where a row is still within its length."""
    return jnp.arange(steps, dtype=lengths.dtype)[:, None] < lengths


def turn(x: Float[Array, "t b d"], lengths: Int[Array, "b"] | None) -> Float[Array, "t b d"]:
    """Every row backwards within its length, padding left where it is; its own inverse."""
    if lengths is None:
        return jnp.flip(x, axis=0)
    t = jnp.arange(x.shape[0], dtype=lengths.dtype)[:, None]
    index = jnp.where(t < lengths, lengths - 1 - t, t)
    return jnp.take_along_axis(x, index[..., None], axis=0)
