"""Flax layers around the recurrence: `Recurrent` and `Bidirectional`."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxseq.cells import norm as norms
from jaxseq.cells import normalised, recurrence
from jaxseq.cells.base import Carry, Cell
from jaxseq.cells.norm import Norm
from jaxseq.common.arrays import Tree

STATS = "batch_stats"
"""Flax's name for the collection of running moments."""


class Recurrent(nn.Module):
    """A recurrent layer: `hidden` units of `cell`, scanned over a batch of sequences.

    The cell's parameters are one pytree under the name "cell", the gains of `norm` another under "norm", and running
    moments stand under "moments" in the collection `batch_stats` (make it mutable to let them follow a training step).
    `recurrent_dropout` is the share of h that does not reach the recurrent product, one draw a sequence, and needs an
    rng named "dropout". With `learn_start` the initial state is a parameter, under "start". `truncate` stops gradients
    between chunks of so many steps.
    """

    cell: Cell
    hidden: int
    norm: Norm | None = None
    reverse: bool = False
    recurrent_dropout: float = 0.0
    learn_start: bool = False
    truncate: int | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b t d"],
        carry: Carry | None = None,
        lengths: Int[Array, "b"] | None = None,
        train: bool = False,
        first: int | Int[Array, ""] = 0,
    ) -> tuple[Carry, Float[Array, "b t h"]]:
        """The last carry and the output of every step; starts from `carry`, or from the learnt state, or from zeros.
        `first` is the number of x's first step in its sequence, where `carry` has seen some.

        What lies beyond a row's length changes nothing, and outputs there are zero. Raises `ValueError`, which names
        the argument, where shapes or dtypes do not fit.
        """
        if x.ndim != 3:
            raise ValueError(f"x has the shape {x.shape}; expected (rows, steps, features)")
        params = self.param("cell", self.cell.init, x.shape[-1], self.hidden, x.dtype)
        start = self._start(x) if carry is None else carry
        steps = jnp.swapaxes(x, 0, 1)
        drop = self._drop(x) if train and self.recurrent_dropout else None
        if self.norm is None:
            way = recurrence.scan
            last, outputs = way(self.cell, params, steps, start, lengths, self.reverse, drop, self.truncate)
        else:
            last, outputs = self._normalised(params, steps, start, lengths, drop, train, first)
        return last, jnp.swapaxes(outputs, 0, 1)

    def _start(self, x: Array) -> Carry:
        zeros = self.cell.start((x.shape[0], self.hidden), x.dtype)
        if not self.learn_start:
            return zeros
        learnt = self.param("start", lambda _: self.cell.start((self.hidden,), x.dtype))
        return jax.tree.map(lambda zero, start: zero + start, zeros, learnt)

    def _drop(self, x: Array) -> Array:
        keep = 1 - self.recurrent_dropout
        drawn = jax.random.bernoulli(self.make_rng("dropout"), keep, (x.shape[0], self.hidden))
        return drawn.astype(x.dtype) / keep

    def _normalised(
        self,
        params: Tree,
        steps: Array,
        start: Carry,
        lengths: Array | None,
        drop: Array | None,
        train: bool,
        first: int | Int[Array, ""],
    ) -> tuple[Carry, Array]:
        norm = self.norm
        assert norm is not None
        memory, sizes = len(start) > 1, (self.cell.gate_count, len(start) > 1)
        weights = self.param("norm", lambda _: norms.init(norm, *sizes, self.hidden, steps.dtype))
        running = None
        if norm.by_batch:
            fresh = norms.init_running(self.cell.gate_count, memory, steps.shape[0], self.hidden, steps.dtype)
            running = self.variable(STATS, "moments", lambda: fresh)
        last, outputs, moments = normalised.scan(
            self.cell,
            norm,
            params,
            weights,
            steps,
            start,
            lengths,
            self.reverse,
            drop,
            None if running is None else running.value,
            train and not self.is_initializing(),
            self.truncate,
            first,
        )
        if running is not None and moments is not None and train and self.is_mutable_collection(STATS):
            running.value = moments
        return last, outputs


class Bidirectional(nn.Module):
    """Two recurrent layers over the same rows, one of them backwards within each row's length.

    Outputs are concatenated forward, then backward, "b t 2h", as torch and Keras do; so are the last carries, field by
    field: the backward one is that at each row's first step.
    """

    layer: Recurrent

    @nn.compact
    def __call__(
        self, x: Float[Array, "b t d"], lengths: Int[Array, "b"] | None = None, train: bool = False
    ) -> tuple[Carry, Float[Array, "b t _"]]:
        """The last carries and the outputs of every step, each both ways."""
        forward = self.layer.clone(parent=self, name="forward")
        backward = self.layer.clone(parent=self, name="backward", reverse=True)
        ways = [way(x, None, lengths, train) for way in (forward, backward)]
        last = jax.tree.map(lambda *states: jnp.concatenate(states, axis=-1), *(carry for carry, _ in ways))
        return last, jnp.concatenate([outputs for _, outputs in ways], axis=-1)
