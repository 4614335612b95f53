"""`Forecaster`: a stack of recurrent layers and a dense head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from jaxseq.cells.base import AnyCell, Carry
from jaxseq.cells.chunks import Chunk
from jaxseq.cells.norm import Norm
from jaxseq.cells.padding import valid_steps
from jaxseq.common import checks, precision
from jaxseq.common.arrays import DType
from jaxseq.nn.recurrent import Bidirectional, Recurrent


class Reading(NamedTuple):
    """How each layer of a call reads its rows; the fields are arguments of `Forecaster`."""

    lengths: Integer[Array, "b"] | None
    train: bool
    first: int | Integer[Array, ""]
    resets: Bool[Array, "b t"] | None


class Forecaster(nn.Module):
    """Stack of `layers` recurrent layers of `hidden` units, then a dense layer to `outputs` numbers.

    every_step         predict after every time step, "b t k", and not after the last alone, "b k"
    norm               normalisation inside the cells
    norm_between       batch norm over rows and time steps between two layers; its momentum and epsilon are used. Within
                       `jax.shard_map` it takes the moments of each device's own rows
    bidirectional      scan each layer both ways
    dropout            dropout rate between two layers
    recurrent_dropout  dropout rate of h on its way into the recurrent product
    chunk              time steps that the derivative of each layer computes again at once, as in `Recurrent`
    skip               add a linear map of all inputs of the window to the predictions at its end
    beyond             time steps at the end that lie beyond the window, of which covariates are known, but no values: the
                       predictions are one for each of them, and one for the window's last step before

    Networks of another kind, `jaxseq.nn.networks`, are subclasses, which replace how a layer is scanned, what the next one
    reads, and the state that the head reads.
    """

    cell: AnyCell
    hidden: int
    layers: int
    outputs: int
    every_step: bool = False
    norm: Norm | None = None
    norm_between: Norm | None = None
    bidirectional: bool = False
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    chunk: Chunk = "auto"
    skip: bool = False
    beyond: int = 0

    @property
    def draws(self) -> bool:
        """Whether a training step draws random numbers."""
        return bool(self.dropout or self.recurrent_dropout)

    @nn.nowrap
    def start(self, rows: int, dtype: DType) -> tuple[Carry, ...]:
        """Return the carry of each layer before the first time step of `rows` rows, as `carries` has it.

        Raises `ValueError` for a bidirectional stack, which takes none.
        """
        if self.bidirectional:
            raise ValueError("a bidirectional forecaster has no carries to start from")
        return tuple(self._start_of(number, rows, dtype) for number in range(self.layers))

    @nn.nowrap
    def _start_of(self, number: int, rows: int, dtype: DType) -> Carry:
        """Return the carry of layer `number` before the first time step."""
        del number
        return self.cell.start((rows, self.hidden), dtype)

    @nn.compact
    @precision.in_full()
    def __call__(
        self,
        x: Float[Array, "b t d"],
        lengths: Integer[Array, "b"] | None = None,
        train: bool = False,
        carries: tuple[Carry, ...] | None = None,
        first: int | Integer[Array, ""] = 0,
        resets: Bool[Array, "b t"] | None = None,
    ) -> tuple[tuple[Carry, ...], Float[Array, "b *k"]]:
        """Return the last carry of each layer and the predictions, "b k" or "b t k".

        lengths  valid time steps of each row
        train    draw dropout, and normalise by the moments of this batch
        carries  last carries of an earlier call, from which this one resumes
        first    number of time steps that `carries` have seen
        resets   time steps before which a row starts anew, in every layer

        Raises `ValueError` if a shape or dtype does not fit, if there is no layer or output, for `carries` of a
        bidirectional stack, and for a `skip` with `carries` or predictions at every step, which do not see the window.
        """
        checks.count(layers=self.layers, outputs=self.outputs)
        if self.skip and (self.every_step or carries is not None):
            raise ValueError("a forecaster with a skip reads whole windows; expected every_step=False and no carries")
        window = x
        if self.beyond:
            x = self._marked(x)
        if self.bidirectional and carries is not None:
            # The backward layers have read these time steps before those that `carries` come from.
            raise ValueError("carries were given to a bidirectional forecaster; expected None")

        last_carries, states = self._stack(x, carries, Reading(lengths, train, first, resets))
        predictions = self._predictions(states, self._last_state(last_carries))
        if self.skip:
            predictions += self._linear(window)
        return last_carries, predictions

    def _stack(
        self, x: Float[Array, "b t d"], carries: tuple[Carry, ...] | None, reading: Reading
    ) -> tuple[tuple[Carry, ...], Float[Array, "b t h"]]:
        """Return the last carry of each layer, and the states of the last one after every time step."""
        last_carries = []
        for number in range(self.layers):
            inputs = x
            if number > 0:
                inputs = self._between(x, reading.lengths, reading.train, number)
            start = None if carries is None else carries[number]
            carry, outputs = self._scan(number, inputs, start, reading)
            x = self._joined(number, x, outputs)
            last_carries.append(carry)

        return tuple(last_carries), x

    def _linear(self, window: Float[Array, "b t d"]) -> Float[Array, "b k"]:
        """Return a linear map of all inputs."""
        # From zero: the window's many inputs would drown what the states say at first.
        linear = nn.Dense(self.outputs, use_bias=False, kernel_init=nn.initializers.zeros, name="skip")
        return linear(jax.lax.collapse(window, 1))

    def _scan(
        self, number: int, x: Float[Array, "b t d"], start: Carry | None, reading: Reading
    ) -> tuple[Carry, Float[Array, "b t h"]]:
        """Return the last carry and the outputs of layer `number` over its inputs."""
        name = f"recurrent_{number}"
        lengths, train, first, resets = reading
        if self.bidirectional:
            # Flax names a layer after its parent; a pattern for others must not have one yet.
            pattern = self._layer(name=None, parent=None)
            return Bidirectional(pattern, name=name)(x, lengths, train, resets)
        layer = self._layer(name, parent=self)
        return layer(x, start, lengths=lengths, train=train, first=first, resets=resets)

    @nn.nowrap
    def _joined(
        self, number: int, below: Float[Array, "b t d"], outputs: Float[Array, "b t h"]
    ) -> Float[Array, "b t h"]:
        """Return what follows layer `number`, by its outputs and by what it was made from."""
        del number, below
        return outputs

    @nn.nowrap
    def _last_state(self, carries: Sequence[Carry]) -> Float[Array, "b h"]:
        """Return the state after each row's last time step, as the head reads it."""
        return carries[-1].h

    def _marked(self, x: Float[Array, "b t d"]) -> Float[Array, "b t e"]:
        """Return the inputs with a column that tells time steps beyond the window from those of a window at rest."""
        steps = x.shape[1]
        is_beyond = jnp.arange(steps) >= steps - self.beyond
        column = jnp.broadcast_to(is_beyond.astype(x.dtype)[:, None], (*x.shape[:2], 1))
        return jnp.concatenate([x, column], axis=2)

    def _predictions(self, states: Float[Array, "b t h"], last: Float[Array, "b h"]) -> Float[Array, "b *k"]:
        """Return what the head makes of the last layer's states after each time step, or of the last one alone."""
        if self.every_step:
            return nn.Dense(self.outputs, name="head")(states)
        if not self.beyond:
            return nn.Dense(self.outputs, name="head")(last)
        # Each time step forecasts the row after it, by one head for all of them.
        steps = self.beyond + 1
        each = nn.Dense(self.outputs // steps, name="head")(states[:, -steps:])
        return each.reshape(each.shape[0], self.outputs)

    def _layer(self, name: str | None, parent: nn.Module | None) -> Recurrent:
        return Recurrent(
            self.cell,
            self.hidden,
            norm=self.norm,
            recurrent_dropout=self.recurrent_dropout,
            chunk=self.chunk,
            name=name,
            parent=parent,
        )

    def _between(
        self,
        x: Float[Array, "b t h"],
        lengths: Integer[Array, "b"] | None,
        train: bool,
        number: int,
    ) -> Float[Array, "b t h"]:
        """Batch norm and dropout on the inputs of layer `number`."""
        valid = None
        if lengths is not None:
            valid = valid_steps(lengths, x.shape[1]).T[..., None]

        if self.norm_between is not None:
            norm = nn.BatchNorm(
                use_running_average=not train,
                momentum=self.norm_between.momentum,
                epsilon=self.norm_between.epsilon,
                name=f"norm_{number}",
            )
            x = norm(x, mask=valid)

        if self.dropout:
            x = nn.Dropout(self.dropout, deterministic=not train, name=f"dropout_{number}")(x)

        if valid is None:
            return x
        # Batch norm has shifted the zeros of the padding.
        return jnp.where(valid, x, 0)
