"""Flax models of chorales, all with one face: symbols in, the states to go on from and the logits out.

`NoteNet` reads the four voices one after another and is the network of Géron 2019 (chapter 15, exercise 10); `ChordNet`
recurs once a sixteenth and predicts the four voices of it in order; `FillNet` reads past and future and predicts what is
masked; `RollNet` predicts the next frame of a piano roll.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxseq.cells.base import Cell
from jaxseq.cells.norm import Norm
from jaxseq.music.networks.inputs import PADDING
from jaxseq.music.piece import BAR, VOICES
from jaxseq.nn.recurrent import Bidirectional, Recurrent

VOICE_COUNT = len(VOICES)
CODES = VOICE_COUNT * BAR
"""Voices times positions in the bar: what the second column of a note's row counts."""
RANK = 24
"""Numbers that an anchor has for the intervals from it."""
BOOK_MOMENTUM, BOOK_EPSILON = 0.99, 1e-3
"""Keras' batch norm."""


class CausalConv(nn.Module):
    """A causal convolution of two taps, y_t = x_{t-dilation} A + x_t B + b, over zeros before the first step.

    `before` are the last `dilation` inputs of an earlier call; those of this one are given back. Time comes first, as in
    the recurrence: an earlier step of all rows is then one stretch of memory.
    """

    features: int
    dilation: int

    @nn.compact
    def __call__(self, x: Float[Array, "t b d"], before: Float[Array, "_ b d"] | None = None) -> tuple[Array, Array]:
        """The last inputs, "dilation b d", and the outputs, "t b features"."""
        if before is None:
            before = jnp.zeros((self.dilation, *x.shape[1:]), x.dtype)
        longer = jnp.concatenate([before, x])
        taps = jnp.concatenate([longer[: x.shape[0]], x], axis=-1)
        return longer[-self.dilation :], dense_at_every_step(nn.Dense(self.features, name="taps"), taps)


def dense_at_every_step(dense: nn.Dense, x: Float[Array, "t b d"]) -> Float[Array, "t b k"]:
    """A dense layer as one product over time and batch merged, unless devices share the batch: they would gather it.

    On a CPU the weight gradient of a product over two axes begins with a transposed copy of what came back.
    """
    if jax.sharding.get_abstract_mesh().size > 1:
        return dense(x)
    return dense(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], dense.features)


class Stack(nn.Module):
    """Recurrent layers, with dropout before each."""

    cell: Cell
    hidden: int
    layers: int = 1
    norm: Norm | None = None
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    bidirectional: bool = False

    @nn.compact
    def __call__(
        self, x: Array, lengths: Array, train: bool, carries: Any, first: int | Int[Array, ""]
    ) -> tuple[Any, Array]:
        """The layers' last carries and the outputs of the last one."""
        last = []
        for number in range(self.layers):
            x = nn.Dropout(self.dropout, deterministic=not train)(x) if self.dropout else x
            options = {"norm": self.norm, "recurrent_dropout": self.recurrent_dropout}
            name, start = f"recurrent_{number}", None if carries is None else carries[number]
            if self.bidirectional:
                layer = Recurrent(self.cell, self.hidden, **options, parent=None)
                carry, x = Bidirectional(layer, name=name)(x, lengths, train)
            else:
                carry, x = Recurrent(self.cell, self.hidden, **options, name=name)(x, start, lengths, train, first)
            last.append(carry)
        return tuple(last), x


def recurrent_stack(model: Any, name: str, bidirectional: bool = False) -> Stack:
    """The recurrent layers of a network, with the sizes and dropout rates that it has."""
    return Stack(
        model.cell,
        model.hidden,
        model.layers,
        model.norm,
        model.dropout,
        model.recurrent_dropout,
        bidirectional,
        name=name,
        parent=model,
    )


def batch_norm(name: str, train: bool) -> nn.BatchNorm:
    """Batch normalisation with Keras' momentum and epsilon."""
    return nn.BatchNorm(use_running_average=not train, momentum=BOOK_MOMENTUM, epsilon=BOOK_EPSILON, name=name)


def valid_columns(first_column: Array, lengths: Array | None) -> Bool[Array, "b t"]:
    """The steps that are no padding, of rows that count."""
    valid = first_column != PADDING
    return valid if lengths is None else valid & (lengths > 0)[:, None]


def flatten_voices(x: Float[Array, "*b n e"]) -> Float[Array, "*b m"]:
    """Features of all voices side by side."""
    return x.reshape(*x.shape[:-2], -1)
