"""Training on rows in buckets of similar length: the rows of a batch share a bucket, and with it their padding."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxseq.common.arrays import Batch, Key
from jaxseq.data.buckets import Buckets
from jaxseq.nn.apply import Model
from jaxseq.train.minibatch import Minibatch, Order, Result, steps_per_epoch


class BucketSelection(NamedTuple):
    """Bucket of one batch, row numbers within it, and the weight of each row: 1, or 0 for padding."""

    bucket: Int[Array, "*steps"]
    index: Int[Array, "*steps b"]
    weight: Float[Array, "*steps b"]


class Bucketed(NamedTuple):
    """Rows that are independent of one another: each epoch divides every bucket anew, and shuffles the batches of all."""

    data: Buckets

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.data.rows

    @property
    def row(self) -> Batch:
        """A row of the longest bucket."""
        longest = self.data.parts[-1]
        return Batch(longest.x[:1], longest.y[:1])

    def steps(self, batch: int) -> int:
        """Return the number of batches in an epoch; each bucket ends with a smaller one."""
        return sum(steps_per_epoch(len(part.y), batch) for part in self.data.parts)

    def order(self, key: Key, batch: int) -> Order:
        """Draw the order of the rows in each bucket, then that of the batches."""
        order_key, key = jax.random.split(key)
        *row_keys, batch_key = jax.random.split(order_key, len(self.data.parts) + 1)

        of_buckets = []
        for number, (part, row_key) in enumerate(zip(self.data.parts, row_keys, strict=True)):
            order = jax.random.permutation(row_key, len(part.y))
            of_buckets.append(_batches(number, order, batch))
        batches = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *of_buckets)

        shuffled = jax.random.permutation(batch_key, self.steps(batch))
        return Order(jax.tree.map(lambda leaf: leaf[shuffled], batches), key)

    def start(self, model: Model, batch: int) -> None:
        """Return None: every row starts anew."""

    def computed(self, selection: BucketSelection, compute: Callable[[Minibatch], Result]) -> Result:
        """Return what a function gives for the selected rows. It is compiled for each bucket, and runs for one."""
        branches = [partial(_computed_of, compute, part) for part in self.data.parts]
        return jax.lax.switch(selection.bucket, branches, selection)


def _batches(bucket: int, order: Int[Array, "n"], batch: int) -> BucketSelection:
    """Divide the rows of a bucket into as few batches as there can be, which differ by one row at most."""
    rows = order.shape[0]
    count = steps_per_epoch(rows, batch)
    # A last batch of very few rows would be a step of large variance, in every bucket.
    sizes = np.diff(np.arange(count + 1) * rows // count)
    is_row = np.arange(batch) < sizes[:, None]
    places = np.where(is_row, np.cumsum(sizes)[:, None] - sizes[:, None] + np.arange(batch), 0)
    return BucketSelection(
        bucket=jnp.full(count, bucket, jnp.int32),
        index=order[jnp.asarray(places)],
        weight=jnp.asarray(is_row, jnp.float32),
    )


def _computed_of(compute: Callable[[Minibatch], Result], part: Batch, selection: BucketSelection) -> Result:
    x = jnp.asarray(part.x)[selection.index]
    y = jnp.asarray(part.y)[selection.index]
    return compute(Minibatch(x, y, selection.weight))
