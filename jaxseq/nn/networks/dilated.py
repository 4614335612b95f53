"""Dilated recurrent layers (Chang et al. 2017, arXiv:1710.02224): the state of layer i comes from 2^i time steps before.

Layer i is a plain one over the s = 2^i sequences that take every s-th time step, each from a step of its own: they are rows
of one scan. So it is as fast as any layer, and a gradient passes 1/s as many steps back.
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer, Shaped

from jaxseq.cells import padding
from jaxseq.cells.base import Carry
from jaxseq.common.arrays import DType
from jaxseq.common.errors import UsageError
from jaxseq.nn.forecaster import Forecaster, Reading
from jaxseq.nn.networks.base import Kind, Use, needs_layers, reads_forwards

MOST_LAYERS = 10
"""Most layers: the last one then looks back 512 time steps at once."""


class Dilated(Forecaster):
    """`Forecaster` whose layer i looks 2^i time steps back.

    The carry of a layer has the last s = 2^i states, "b s h", the oldest first: that is the one that the next time step
    reads. Recurrent dropout draws a mask for each of the s sequences of a row.
    """

    @nn.nowrap
    def _start_of(self, number: int, rows: int, dtype: DType) -> Carry:
        return self.cell.start((rows, 2**number, self.hidden), dtype)

    def _scan(
        self, number: int, x: Float[Array, "b t d"], start: Carry | None, reading: Reading
    ) -> tuple[Carry, Float[Array, "b t h"]]:
        rows, steps, _ = x.shape
        stride = 2**number
        if start is None:
            start = self._start_of(number, rows, x.dtype)
        resets = reading.resets
        if resets is not None:
            resets = _apart(_within(resets, stride), stride)

        layer = self._layer(f"recurrent_{number}", parent=self)
        last, outputs = layer(
            _apart(x, stride),
            jax.tree.map(lambda state: jax.lax.collapse(state, 0, 2), start),
            lengths=_lengths(reading.lengths, rows, steps, stride),
            train=reading.train,
            # Each sequence has seen one of `stride` steps.
            first=-(-reading.first // stride),
            resets=resets,
        )
        read = reading.lengths
        if read is None:
            read = jnp.full(rows, steps, jnp.int32)
        read = padding.limit(read, steps)
        last = jax.tree.map(lambda state: _oldest_first(state, read, stride), last)
        if reading.resets is not None:
            # Those from before the last reset would be read in the next call.
            forgotten = _before_reset(reading.resets, read, stride)[..., None]
            anew = self._start_of(number, rows, x.dtype)
            last = jax.tree.map(lambda state, start: jnp.where(forgotten, start, state), last, anew)
        return last, _together(outputs, rows, stride)[:, :steps]

    @nn.nowrap
    def _last_state(self, carries: Sequence[Carry]) -> Float[Array, "b h"]:
        return carries[-1].h[:, -1]


def _apart(x: Shaped[Array, "b t *d"], stride: int) -> Shaped[Array, "bs u *d"]:
    """Return every stride-th time step as a row, those of a row after each other; filled up with zeros."""
    rows, steps = x.shape[:2]
    missing = -steps % stride
    whole = ((0, 0),) * (x.ndim - 2)
    filled = jnp.pad(x, ((0, 0), (0, missing), *whole))
    by_turn = filled.reshape(rows, -1, stride, *x.shape[2:])
    apart = by_turn.swapaxes(1, 2)
    return jax.lax.collapse(apart, 0, 2)


def _together(outputs: Float[Array, "bs u h"], rows: int, stride: int) -> Float[Array, "b t h"]:
    """Return the time steps in their order again, those that were filled up at the end."""
    apart = outputs.reshape(rows, stride, *outputs.shape[1:])
    by_turn = apart.swapaxes(1, 2)
    return jax.lax.collapse(by_turn, 1, 3)


def _lengths(lengths: Integer[Array, "b"] | None, rows: int, steps: int, stride: int) -> Integer[Array, "bs"] | None:
    """Return the time steps of each sequence; None if all have the same number."""
    if lengths is None:
        if steps % stride == 0:
            return None
        lengths = jnp.full(rows, steps, jnp.int32)
    phases = jnp.arange(stride, dtype=jnp.int32)
    left = padding.limit(lengths, steps)[:, None] - phases
    counts = -(-left // stride)
    return jnp.maximum(counts, 0).reshape(-1)


def _within(resets: Bool[Array, "b t"], stride: int) -> Bool[Array, "b t"]:
    """Return whether a row starts anew at a time step, or at one of the stride - 1 before, whose states it would read."""
    counts = jnp.cumsum(resets.astype(jnp.int32), axis=1)
    shifted = jnp.pad(counts, ((0, 0), (stride, 0)))
    before = shifted[:, : counts.shape[1]]
    return counts > before


def _before_reset(resets: Bool[Array, "b t"], read: Integer[Array, "b"], stride: int) -> Bool[Array, "b s"]:
    """Return which of the last states, the oldest first, are of time steps before the last reset that was read."""
    steps = jnp.arange(resets.shape[1], dtype=jnp.int32)
    is_read = resets & (steps < read[:, None])
    last_reset = jnp.max(jnp.where(is_read, steps, -stride), axis=1)
    of_states = read[:, None] - stride + jnp.arange(stride, dtype=jnp.int32)
    return of_states < last_reset[:, None]


def _oldest_first(state: Float[Array, "bs h"], read: Integer[Array, "b"], stride: int) -> Float[Array, "b s h"]:
    """Return the last states of each row in the order of their time steps."""
    by_row = state.reshape(-1, stride, state.shape[-1])
    phases = jnp.arange(stride, dtype=jnp.int32)
    order = (read[:, None] + phases) % stride
    return jnp.take_along_axis(by_row, order[..., None], axis=1)


def _check(use: Use) -> None:
    needs_layers("dilated", use)
    reads_forwards("dilated", use)
    if use.layers > MOST_LAYERS:
        raise UsageError("too many layers", where="--model.layers", got=use.layers, needed=f"at most {MOST_LAYERS}")
    # A later layer has a moment for every 2^i-th time step, and those of a state that resumes would be others.
    if use.norm == "batch":
        raise UsageError(
            "has moments of each time step, which dilated layers do not share",
            where="--model.norm",
            got=use.norm,
            needed="layer, layer-sum, batch-between or none",
        )


KIND = Kind("dilated", Dilated, _check)
