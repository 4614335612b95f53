"""A stack of recurrent layers and a dense head."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxseq.cells.base import Carry, Cell
from jaxseq.cells.norm import Norm
from jaxseq.cells.padding import valid_steps
from jaxseq.nn.recurrent import Bidirectional, Recurrent


class Forecaster(nn.Module):
    """`layers` recurrent layers of `hidden` units, then a dense layer to `outputs` numbers.

    The head reads the last state and gives "b k", or, with `every_step`, the state of every step and gives "b t k".
    Between two layers come, where they are asked for, a batch norm over rows and steps (`norm_between`) and dropout.
    """

    cell: Cell
    hidden: int
    layers: int
    outputs: int
    every_step: bool = False
    norm: Norm | None = None
    norm_between: Norm | None = None
    bidirectional: bool = False
    dropout: float = 0.0
    recurrent_dropout: float = 0.0

    @property
    def draws(self) -> bool:
        """Whether a training step draws random numbers."""
        return bool(self.dropout or self.recurrent_dropout)

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b t d"],
        lengths: Int[Array, "b"] | None = None,
        train: bool = False,
        carries: tuple[Carry, ...] | None = None,
        first: int | Int[Array, ""] = 0,
    ) -> tuple[tuple[Carry, ...], Float[Array, "b *k"]]:
        """The layers' last carries, and predictions for a batch of windows.

        `carries` go on from where an earlier call stopped, after `first` steps; with `bidirectional` they cannot.
        """
        last = []
        for number in range(self.layers):
            if number:
                x = self._between(x, lengths, train, number)
            name = f"recurrent_{number}"
            if self.bidirectional:
                carry, x = Bidirectional(self._layer(None), name=name)(x, lengths, train)
            else:
                start = None if carries is None else carries[number]
                carry, x = self._layer(name)(x, start, lengths, train, first)
            last.append(carry)
        return tuple(last), nn.Dense(self.outputs, name="head")(x if self.every_step else last[-1].h)

    def _layer(self, name: str | None) -> Recurrent:
        """A layer of the stack; without a name, a pattern that belongs to nobody yet."""
        parent = None if name is None else self
        options = {"norm": self.norm, "recurrent_dropout": self.recurrent_dropout}
        return Recurrent(self.cell, self.hidden, **options, name=name, parent=parent)

    def _between(self, x: Array, lengths: Array | None, train: bool, number: int) -> Array:
        keep = None if lengths is None else valid_steps(lengths, x.shape[1]).T[..., None]
        if self.norm_between is not None:
            norm = nn.BatchNorm(
                use_running_average=not train,
                momentum=self.norm_between.momentum,
                epsilon=self.norm_between.epsilon,
                name=f"norm_{number}",
            )
            x = norm(x, mask=keep)
        if self.dropout:
            x = nn.Dropout(self.dropout, deterministic=not train, name=f"dropout_{number}")(x)
        return x if keep is None else jnp.where(keep, x, 0)
