"""The batches of an epoch: what every way of reading the rows of a training gives, see `feed`."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from jaxseq.common.arrays import Batch, Key, Tree
from jaxseq.nn.apply import Model

Result = TypeVar("Result")


class Minibatch(NamedTuple):
    """Rows of one optimiser step.

    weight   of each row in the mean; 0 for padding
    lengths  time steps of each row that count in the moments of a batch; None for whole rows, without the padding
    """

    x: Shaped[Array, "b *d"]
    y: Shaped[Array, "b *k"]
    weight: Float[Array, "b"]
    lengths: Int[Array, "b"] | None = None


class Order(NamedTuple):
    """The batches of an epoch, with the key that is left after they were drawn.

    batches  what `Feed.computed` reads a batch from; every leaf has the axis "steps" first
    """

    batches: Tree
    key: Key


@runtime_checkable
class Feed(Protocol):
    """The rows of a training, in the batches of an epoch."""

    @property
    def rows(self) -> int:
        """Number of rows, each a window."""
        ...

    @property
    def row(self) -> Batch:
        """One row as the model sees it, x "1 t d" and y "1 *k"."""
        ...

    def steps(self, batch: int) -> int:
        """Return the number of batches in an epoch."""
        ...

    def order(self, key: Key, batch: int) -> Order:
        """Return the batches of an epoch in their order."""
        ...

    def start(self, model: Model, batch: int) -> Tree:
        """Return the carries before the first batch of an epoch; None where no state passes between batches."""
        ...

    def computed(self, selection: Tree, compute: Callable[[Minibatch], Result]) -> Result:
        """Return what a function gives for the rows of one batch of `order`, whose shape it must not depend on."""
        ...


class Selection(NamedTuple):
    """Row numbers of one batch, and the weight of each: 1, or 0 for padding."""

    index: Int[Array, "*steps b"]
    weight: Float[Array, "*steps b"]


def batches_of(
    order: Int[Array, "n"],
    batch: int,
) -> Selection:
    """Split row numbers into batches "steps b"; the last batch is padded with row 0 at weight zero."""
    rows = order.shape[0]
    # A scan needs batches of one shape. Weight zero keeps padding out of the loss and of batch norm's moments.
    padding = (0, -rows % batch)
    index = jnp.pad(order, padding)
    weight = jnp.pad(jnp.ones(rows), padding)

    return Selection(
        index=index.reshape(-1, batch),
        weight=weight.reshape(-1, batch),
    )


def steps_per_epoch(rows: int, batch: int) -> int:
    """Return the number of batches in an epoch of `rows` rows, including a smaller last batch."""
    return -(-rows // batch)
