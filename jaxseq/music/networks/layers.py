"""Layers that the networks of music share.

All networks have one interface, ``network(x, lengths, train, carries, first) -> (carries, logits)``: `NoteNet` reads the
four voices one after another (Géron 2019, chapter 15, exercise 10), `ChordNet` recurs once a sixteenth and predicts its
four voices in order, `FillNet` reads past and future and predicts hidden notes, and `RollNet` predicts the next frame of
a piano roll.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxseq.cells.base import AnyCell, Carry
from jaxseq.cells.norm import Norm
from jaxseq.music.networks.inputs import PADDING
from jaxseq.music.piece import BAR, VOICES
from jaxseq.nn.recurrent import Bidirectional, Recurrent

VOICE_COUNT = len(VOICES)
CODES = VOICE_COUNT * BAR
"""Number of codes for voice and position in the bar, the second column of a note's row."""
RANK = 24
"""Features of an anchor that score the intervals from it."""
BOOK_MOMENTUM, BOOK_EPSILON = 0.99, 1e-3
"""Batch norm's defaults in Keras, which the book uses."""


@runtime_checkable
class RecurrentNetwork(Protocol):
    """A network with recurrent layers, as `recurrent_stack` reads it."""

    cell: AnyCell
    hidden: int
    layers: int
    norm: Norm | None
    dropout: float
    recurrent_dropout: float


class CausalConv(nn.Module):
    """Causal convolution of two taps, y_t = x_{t-dilation} A + x_t B + b, with zeros before the first step."""

    features: int
    dilation: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "t b d"], before: Float[Array, "_ b d"] | None = None
    ) -> tuple[Float[Array, "_ b d"], Float[Array, "t b k"]]:
        """Return the last `dilation` inputs, from which the next call resumes, and the outputs.

        Time comes first, as in the recurrence: an earlier step of all rows is then contiguous in memory. `before` holds
        the last inputs of an earlier call.
        """
        if before is None:
            before = jnp.zeros((self.dilation, *x.shape[1:]), x.dtype)

        longer = jnp.concatenate([before, x])
        taps = jnp.concatenate([longer[: x.shape[0]], x], axis=-1)
        last_inputs = longer[-self.dilation :]
        return last_inputs, dense_at_every_step(nn.Dense(self.features, name="taps"), taps)


def dense_at_every_step(dense: nn.Dense, x: Float[Array, "t b d"]) -> Float[Array, "t b k"]:
    """Apply a dense layer as one product over time and batch together.

    On a CPU the weight gradient of a product over two axes begins with a transposed copy of the cotangent.
    """
    # Devices that share the batch would gather it to merge the axes.
    if jax.sharding.get_abstract_mesh().size > 1:
        return dense(x)
    # An exported program, whose sizes are symbols, has no gradient, and JAX may not know how to merge them.
    if not all(isinstance(size, int) for size in x.shape):
        return dense(x)
    return dense(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], dense.features)


class Stack(nn.Module):
    """Recurrent layers, with dropout before each; `bidirectional` scans each layer both ways."""

    cell: AnyCell
    hidden: int
    layers: int = 1
    norm: Norm | None = None
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    bidirectional: bool = False

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b t d"],
        lengths: Int[Array, "b"],
        train: bool,
        carries: tuple[Carry, ...] | None,
        first: int | Int[Array, ""],
    ) -> tuple[tuple[Carry, ...], Float[Array, "b t _"]]:
        """Return the last carry of each layer and the outputs of the last layer, "b t h" or, both ways, "b t 2*h"."""
        last_carries = []
        for number in range(self.layers):
            if self.dropout:
                x = nn.Dropout(self.dropout, deterministic=not train)(x)

            name = f"recurrent_{number}"
            if self.bidirectional:
                # Flax names a layer after its parent; a pattern for others must not have one yet.
                pattern = self._layer(name=None, parent=None)
                carry, x = Bidirectional(pattern, name=name)(x, lengths, train)
            else:
                start = None if carries is None else carries[number]
                carry, x = self._layer(name, parent=self)(x, start, lengths, train, first)
            last_carries.append(carry)
        return tuple(last_carries), x

    def _layer(self, name: str | None, parent: nn.Module | None) -> Recurrent:
        return Recurrent(
            self.cell,
            self.hidden,
            norm=self.norm,
            recurrent_dropout=self.recurrent_dropout,
            name=name,
            parent=parent,
        )


def recurrent_stack(network: RecurrentNetwork, name: str, bidirectional: bool = False) -> Stack:
    """Create the recurrent layers of a network, with its sizes and dropout rates, as its submodule `name`."""
    return Stack(
        network.cell,
        network.hidden,
        network.layers,
        norm=network.norm,
        dropout=network.dropout,
        recurrent_dropout=network.recurrent_dropout,
        bidirectional=bidirectional,
        name=name,
        parent=network,  # pyrefly: ignore[bad-argument-type]
    )


def dropped(dropout: nn.Dropout | None, x: Float[Array, "*b h"]) -> Float[Array, "*b h"]:
    """Apply dropout, if there is any."""
    if dropout is None:
        return x
    return dropout(x)


def batch_norm(name: str, train: bool) -> nn.BatchNorm:
    """Create batch norm with Keras' momentum and epsilon."""
    return nn.BatchNorm(
        use_running_average=not train,
        momentum=BOOK_MOMENTUM,
        epsilon=BOOK_EPSILON,
        name=name,
    )


def valid_columns(first_column: Array, lengths: Int[Array, "b"] | None) -> Bool[Array, "b t"]:
    """Return which steps are no padding; all steps of a row of length 0 are."""
    valid = first_column != PADDING
    if lengths is None:
        return valid
    return valid & (lengths > 0)[:, None]


def flatten_voices(x: Float[Array, "*b n e"]) -> Float[Array, "*b m"]:
    """Concatenate the features of all voices."""
    return x.reshape(*x.shape[:-2], -1)
