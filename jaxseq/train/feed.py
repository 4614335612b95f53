"""The rows of a training, and the order in which an epoch reads them.

`Shuffled` rows are independent: each epoch draws a new order, and no state passes from one batch to the next. So are
`Bucketed` rows, whose batches differ in length. `Segments`
are consecutive pieces of one long series, as in language modelling (Zaremba et al. 2014, arXiv:1409.2329, section 4.1): a
batch has the next window of every segment, and the state at the end of a batch is that before the next one. No gradient
passes between batches (truncated back-propagation through time).

    segment 0   | window 0 | window 1 | ...      batch j is window j of every segment
    segment 1   | window 0 | window 1 | ...
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, Shaped

from jaxseq.common.arrays import Batch, Key, Tree
from jaxseq.data import gathered, windows
from jaxseq.data.buckets import Buckets
from jaxseq.data.gathered import Gathered, RowsOfModel
from jaxseq.data.windows import ArrayInPieces
from jaxseq.nn.apply import Carrying, Model
from jaxseq.train import devices
from jaxseq.train.bucketed import Bucketed
from jaxseq.train.minibatch import Feed, Minibatch, Order, Result, Selection, batches_of, steps_per_epoch

LAID_OUT = 2**22
"""Numbers of rows that are laid out at once: 16 MiB."""
STATIC = MappingProxyType({"static": True})
"""Metadata of a field that is a constant of the compiled functions."""


jax.tree_util.register_dataclass(
    Gathered,
    data_fields=gathered.ARRAYS,
    meta_fields=[of.name for of in fields(Gathered) if of.name not in gathered.ARRAYS],
)


# Rows in any order -----------------------------------------------------------------------------------------------------


class Shuffled(NamedTuple):
    """Rows that are independent of one another, in a fresh random order in each epoch."""

    data: RowsOfModel

    @property
    def rows(self) -> int:
        """Number of rows."""
        return gathered.count(self.data)

    @property
    def row(self) -> Batch:
        """The first row."""
        if isinstance(self.data, Batch):
            return Batch(self.data.x[:1], self.data.y[:1])
        first = np.zeros(1, np.int32)
        return Batch(inputs_at(self.data, first), targets_at(self.data, first))

    def steps(self, batch: int) -> int:
        """Return the number of batches in an epoch, including a smaller last one."""
        return steps_per_epoch(self.rows, batch)

    def order(self, key: Key, batch: int) -> Order:
        """Draw the order of the rows."""
        order_key, key = jax.random.split(key)
        order = jax.random.permutation(order_key, self.rows)
        return Order(batches_of(order, batch), key)

    def start(self, model: Model, batch: int) -> None:
        """Return None: every row starts anew."""

    def computed(self, selection: Selection, compute: Callable[[Minibatch], Result]) -> Result:
        """Return what a function gives for the selected rows."""
        return compute(self.take(selection))

    def take(self, selection: Selection) -> Minibatch:
        """Return the selected rows."""
        return Minibatch(
            x=inputs_at(self.data, selection.index),
            y=targets_at(self.data, selection.index),
            weight=selection.weight,
        )


def inputs_at(data: RowsOfModel, index: Int[Array | np.ndarray, "b"]) -> Shaped[Array, "b *d"]:
    """Return the model's inputs of some rows on a device."""
    if isinstance(data, Batch):
        return jnp.asarray(data.x)[index]
    # The values are in float64: in float32 the change of a high price would lose its digits.
    with jax.enable_x64(True):  # noqa: FBT003
        gathered_rows = jnp.asarray(data.inputs_at(index))
    return _as_selected(gathered_rows)


def targets_at(data: RowsOfModel, index: Int[Array | np.ndarray, "b"]) -> Shaped[Array, "b *k"]:
    """Return the targets of some rows on a device."""
    if isinstance(data, Batch):
        return jnp.asarray(data.y)[index]
    with jax.enable_x64(True):  # noqa: FBT003
        gathered_rows = jnp.asarray(data.targets_at(index))
    return _as_selected(gathered_rows)


def _as_selected(rows: Shaped[Array, "b *d"]) -> Shaped[Array, "b *d"]:
    """Return rows as a selection from an array, which they would be if they were laid out.

    XLA chooses the layout of what it gathers by what follows, and a product of another layout rounds otherwise. So that
    both ways train the same numbers, the last operation is the same.
    """
    rows, index = jax.lax.optimization_barrier((rows, jnp.arange(rows.shape[0])))
    return rows[index]


# Consecutive windows of one series -------------------------------------------------------------------------------------


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Segments:
    """The training part of one long series, in time order. Windows are cut on the device, batch by batch.

    x        inputs of n time steps, and nothing beyond those that have all of their targets in the part
    ahead    target one step after each time step; m is n + horizon - 1
    known    whether that target is known
    window   time steps of one window
    horizon  targets of each time step, k
    adds_up  whether the target of h steps is the sum of the h targets of one step in between, or the last of them
    """

    x: Float[Array | np.ndarray, "n d"]
    ahead: Float[Array | np.ndarray, "m"]
    known: Bool[Array | np.ndarray, "m"]
    window: int = field(metadata=STATIC)
    horizon: int = field(metadata=STATIC)
    adds_up: bool = field(metadata=STATIC)

    @property
    def rows(self) -> int:
        """Whole windows that fit into the series: what a batch is limited by, and what reports and speeds count.

        An epoch reads a few more where its segments are no multiple of a window: `steps` windows of each.
        """
        return self.x.shape[0] // self.window

    @property
    def row(self) -> Batch:
        """The first window, with the targets of each of its time steps."""
        # The whole series need not be on a device for it.
        head = replace(
            self,
            x=self.x[: self.window],
            ahead=self.ahead[: self.window + self.horizon - 1],
            known=self.known[: self.window + self.horizon - 1],
        )
        first = head._windows(jnp.arange(self.window)[None])
        return Batch(first.x, first.y)

    def edges(self, batch: int) -> Int[np.ndarray, " _"]:
        """Return the first time step of each of `batch` segments, and the end of the last; they differ by 1 in length."""
        return self.x.shape[0] * np.arange(batch + 1, dtype=np.int64) // batch

    def steps(self, batch: int) -> int:
        """Return the number of windows in the longest segment, including a shorter last one."""
        longest = int(np.diff(self.edges(batch)).max())
        return -(-longest // self.window)

    def order(self, key: Key, batch: int) -> Order:
        """Return the windows of each segment in time order; nothing is drawn."""
        edges = self.edges(batch)
        first = edges[:-1] + self.window * np.arange(self.steps(batch))[:, None]
        ends = np.broadcast_to(edges[1:], first.shape)
        return Order(Span(jnp.asarray(first, jnp.int32), jnp.asarray(ends, jnp.int32)), key)

    def start(self, model: Model, batch: int) -> Tree:
        """Return the carries of the model before its first time step: each segment starts anew in every epoch."""
        assert isinstance(model, Carrying), "build_job checks it"
        return model.start(batch, self.x.dtype)

    def computed(self, selection: Span, compute: Callable[[Minibatch], Result]) -> Result:
        """Return what a function gives for one window of each segment."""
        return compute(self.take(selection))

    def take(self, selection: Span) -> Minibatch:
        """Return one window of each segment; targets beyond the end of a segment are unknown (NaN)."""
        steps = selection.first[:, None] + jnp.arange(self.window)
        windows = self._windows(steps)
        is_inside = steps < selection.end[:, None]
        return windows._replace(
            y=jnp.where(is_inside[..., None], windows.y, jnp.nan),
            lengths=jnp.sum(is_inside, axis=1, dtype=jnp.int32),
        )

    def _windows(self, steps: Int[Array, "b t"]) -> Minibatch:
        """Return inputs and targets of these time steps; those beyond the end are the last one's."""
        last = self.x.shape[0] - 1
        within = jnp.minimum(steps, last)
        targets = within[..., None] + jnp.arange(self.horizon)
        y = jnp.asarray(self.ahead)[targets]
        # In the units of the network: changes of one step add up to that of several.
        if self.adds_up:
            y = jnp.cumsum(y, axis=-1)
        y = jnp.where(jnp.asarray(self.known)[targets], y, jnp.nan)
        return Minibatch(jnp.asarray(self.x)[within], y, jnp.ones(steps.shape[0]))


class Span(NamedTuple):
    """Consecutive time steps of each segment: the first of them, and the end of the segment."""

    first: Int[Array, "*steps b"]
    end: Int[Array, "*steps b"]


class Course(NamedTuple):
    """Consecutive time steps of one series, of which the last m are judged by their targets.

    The state is carried through all of them: the first n - m warm it up. Targets that are not known are NaN.
    """

    x: Float[Array | np.ndarray, "n d"]
    y: Float[Array | np.ndarray, "m k"]


Training: TypeAlias = RowsOfModel | Segments | Buckets
"""Training part of a job."""
Judged: TypeAlias = RowsOfModel | Course | Buckets
"""Validation or test part of a job; a `Course` where the training part has segments."""


class RowSplits(NamedTuple):
    """The three parts of a job as the model sees them."""

    train: Training
    valid: Judged
    test: Judged


def feed_of(data: Training) -> Feed:
    """Return the batches that a training part is read in."""
    if isinstance(data, Segments):
        return data
    if isinstance(data, Buckets):
        return Bucketed(data)
    return Shuffled(data)


def judged_rows(data: Judged) -> int:
    """Return the number of rows of a part that are judged."""
    if isinstance(data, Course):
        return len(data.y)
    if isinstance(data, Buckets):
        return data.rows
    return gathered.count(data)


def fingerprint(parts: Iterable[Tree]) -> str:
    """Return the sha256 of arrays and of the rows of parts of a job.

    Rows that are gathered have that of the same rows laid out.
    """
    return windows.fingerprint_of_pieces(itertools.chain.from_iterable(map(_arrays, parts)))


def _arrays(part: Tree) -> Iterator[ArrayInPieces]:
    """Yield the arrays of a part in the order of its fields."""
    if not isinstance(part, Gathered):
        for leaf in jax.tree.leaves(part):
            array = np.asarray(leaf)
            yield ArrayInPieces(array.shape, str(array.dtype), iter([array]))
        return

    row = gathered.first_row(part)
    # All inputs come before the targets, as the fields of a batch do.
    size = max(1, LAID_OUT // max(math.prod(row.x.shape), math.prod(row.y.shape)))
    for name in Batch._fields:
        first = getattr(row, name)
        rows = (getattr(piece, name) for piece in gathered.pieces(part, size))
        yield ArrayInPieces((part.count, *first.shape[1:]), str(first.dtype), rows)


def on_devices(mesh: Mesh, parts: Iterable[Tree]) -> list[Tree]:
    """Put parts of a job whole on every device; series that several of them are gathered from are there once."""
    placed: dict[int, Array] = {}

    def place(array: np.ndarray) -> Array:
        if id(array) not in placed:
            # Otherwise JAX would round float64 to float32.
            with jax.enable_x64(True):  # noqa: FBT003
                placed[id(array)] = devices.replicate(mesh, array)
        return placed[id(array)]

    on_mesh = []
    # Those that are laid out share no array.
    for part in parts:
        if isinstance(part, Gathered):
            on_mesh.append(jax.tree.map(place, part))
        else:
            on_mesh.append(devices.replicate(mesh, part))
    return on_mesh
