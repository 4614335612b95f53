"""Rows of unequal length in one array: which steps are valid, and rows reversed within their length.

Lengths may have any integer dtype. Where values are known, one beyond the time steps is an error (`check_lengths`); under
`jax.jit` it counts as all of them, and a negative one as none.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Integer, Shaped

NARROWEST = 4
"""Bytes of the narrowest integers that hold every number of time steps."""


def check_lengths(
    lengths: Array,
    rows: int,
    steps: int,
) -> None:
    """Raise `ValueError` unless `lengths` has an integer for each row, between 0 and `steps` where values are known."""
    check_is_array("lengths", lengths)
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


def check_resets(
    resets: Array,
    rows: int,
    steps: int,
) -> None:
    """Raise `ValueError` unless `resets` has a truth value for each step and row."""
    check_is_array("resets", resets)
    if resets.shape != (steps, rows):
        raise ValueError(f"resets has the shape {resets.shape}; expected (steps, rows), ({steps}, {rows})")
    if resets.dtype != bool:
        raise ValueError(f"resets has the dtype {resets.dtype}; expected bool")


def check_is_array(name: str, value: object) -> None:
    """Raise `ValueError`, which names the argument, for a list or a number."""
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        raise ValueError(f"{name} is a {type(value).__name__}; expected an array")


def check_is_floating(name: str, value: object) -> None:
    """Raise `ValueError`, which names the argument, for anything but an array of floating-point numbers."""
    check_is_array(name, value)
    dtype = value.dtype  # pyrefly: ignore[missing-attribute]
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"{name} has the dtype {dtype}; expected floating-point numbers")


def limit(numbers: Integer[Array, "*b"], most: int) -> Integer[Array, "*b"]:
    """Return integers of any dtype as int32, limited to 0 and `most`."""
    # A narrow dtype may not hold `most`, and int32 may not hold the numbers of a wide one.
    if numbers.dtype.itemsize < NARROWEST:
        numbers = numbers.astype(jnp.int32)
    return jnp.clip(numbers, 0, most).astype(jnp.int32)


def valid_steps(lengths: Integer[Array, "b"], steps: int) -> Bool[Array, "t b"]:
    """Mark the steps that are within their row's length."""
    return jnp.arange(steps, dtype=jnp.int32)[:, None] < limit(lengths, steps)


def turn(x: Shaped[Array, "t b d"], lengths: Integer[Array, "b"] | None) -> Shaped[Array, "t b d"]:
    """Reverse every row within its length and leave its padding in place; this is its own inverse."""
    if lengths is None:
        return jnp.flip(x, axis=0)
    steps = x.shape[0]
    lengths = limit(lengths, steps)
    t = jnp.arange(steps, dtype=jnp.int32)[:, None]
    # Step t of a row of length n is step n - 1 - t of the reversed one.
    index = jnp.where(t < lengths, lengths - 1 - t, t)
    return jnp.take_along_axis(x, index[..., None], axis=0)


def resets_before(
    resets: Bool[Array, "t b"],
    valid: Bool[Array, "t b"] | None,
    lengths: Integer[Array, "b"] | None,
    reverse: bool,
) -> Bool[Array, "t b"]:
    """Return before which steps, in the order of the scan, a row starts anew; none in its padding.

    A reset at step t parts a row into the steps before t and those from t on. Backwards the row starts anew after step t,
    before it reads step t - 1.
    """
    if valid is not None:
        resets = resets & valid
    if not reverse:
        return resets
    after = jnp.concatenate([resets[1:], jnp.zeros_like(resets[:1])])
    return turn(after[..., None], lengths)[..., 0]
