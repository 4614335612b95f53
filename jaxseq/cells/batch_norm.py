"""Batch norm of gates and memory: moments of a batch at each time step, and the running ones for use after training.

Moments are taken over the rows that are within their length; steps beyond the trained length take the last step's
running moments.

Axis w is the width of whatever is normalised: g, a group of gates, or h.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from jaxseq.cells import padding, spread
from jaxseq.cells.norm import Fixed, Moments, Running
from jaxseq.cells.spread import Axes


def batch_moments(
    a: Float[Array, "*t b w"],
    valid: Bool[Array, "*t b"] | None,
    devices: Axes = (),
) -> Moments:
    """Compute mean and biased variance over the valid rows; both are 0 where no row is valid.

    `devices` are the axes of a mesh over which the rows are divided (`jaxseq.cells.spread`).
    """
    if valid is None:
        # Devices have equally many rows.
        mean = spread.mean_over(devices, jnp.mean(a, axis=-2))
        return Moments(mean, spread.mean_over(devices, jnp.mean((a - mean[..., None, :]) ** 2, axis=-2)))

    weight = valid[..., None].astype(a.dtype)
    # At least 1, so that a step without a valid row divides 0 by 1.
    count = jnp.maximum(spread.sum_over(devices, jnp.sum(weight, axis=-2)), 1)
    mean = spread.sum_over(devices, jnp.sum(a * weight, axis=-2)) / count
    squares = jnp.sum(weight * (a - mean[..., None, :]) ** 2, axis=-2)
    return Moments(mean, spread.sum_over(devices, squares) / count)


def standardise(
    a: Float[Array, "*t b w"],
    moments: Moments,
    gain: Float[Array, "w"],
    epsilon: float,
) -> Float[Array, "*t b w"]:
    """Compute (a - mean) / √(var + ε) · gain, with moments over rows."""
    mean, var = moments
    return (a - mean[..., None, :]) * (jax.lax.rsqrt(var + epsilon) * gain)[..., None, :]


def follow(
    running: Moments,
    batch: Moments,
    valid: Bool[Array, "t b"] | None,
    momentum: float,
) -> Moments:
    """Update running moments with those of a batch, whose first steps they track.

    Steps that no row reached keep their moments; steps of the batch beyond the tracked ones are ignored.
    """
    # A batch may be shorter or longer than the sequences whose moments are tracked.
    t = min(running.mean.shape[0], batch.mean.shape[0])
    if valid is None:
        reached = jnp.ones((t, 1), bool)
    else:
        reached = valid[:t].any(axis=1, keepdims=True)
        # A step is reached if it is on any of the devices that share the batch, as `batch` is.
        devices = spread.axes_of_rows(reached, batch)
        if devices:
            reached = spread.sum_over(devices, reached.astype(jnp.int32)) > 0

    def updated(old: Float[Array, "_ w"], new: Float[Array, "_ w"]) -> Float[Array, "_ w"]:
        moved = jnp.where(reached, momentum * old[:t] + (1 - momentum) * new[:t], old[:t])
        return jnp.concatenate([moved, old[t:]])

    return Moments(updated(running.mean, batch.mean), updated(running.var, batch.var))


def follow_all(
    running: Running,
    batch: Running,
    valid: Bool[Array, "t b"] | None,
    momentum: float,
) -> Running:
    """Apply `follow` to the moments of both projections and of the memory."""
    c = ()
    if running.c and batch.c:
        c = follow(running.c, batch.c, valid, momentum)
    return Running(follow(running.x, batch.x, valid, momentum), follow(running.h, batch.h, valid, momentum), c)


def at_steps(
    running: Moments,
    t: int,
    first: int | Integer[Array, ""] = 0,
) -> Moments:
    """Take the running moments of t steps, counted from `first`; beyond the trained length those of the last step."""
    last = running.mean.shape[0] - 1
    # Limited before it is added to, for a sum beyond int32 would be negative.
    first = padding.limit(jnp.asarray(first), last)
    index = jnp.minimum(first + jnp.arange(t, dtype=jnp.int32), last)
    return Moments(running.mean[index], running.var[index])


def fixed_at_steps(
    running: Running,
    t: int,
    first: int | Integer[Array, ""] = 0,
) -> Fixed:
    """Apply `at_steps` to the moments of both projections and of the memory."""
    c = None
    if running.c:
        c = at_steps(running.c, t, first)
    return Fixed(at_steps(running.x, t, first), at_steps(running.h, t, first), c)
