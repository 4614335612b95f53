"""The memory that a training takes, estimated from the shapes of its arrays before any of them is made.

Peak of the resident memory of a whole run of one epoch, in a process of its own on two cores, and its estimate, in MiB
(the first six: `python -m pytest -m slow -s -n 0 tests/train/test_footprint.py`):

    measured  estimated
         597        580   3 units: the process alone
         963        978   LSTM of 2,000 units, batch 8: the state
       1,198      1,410   GRU of 64 units, 200 steps, batch 2,048: the backward pass
         854        832   two RNNs of 256 units, 100 steps, batch 512
       1,165      1,069   LSTM of 128 units with layer norm, 100 steps, batch 512
         834        786   two LSTMs of 96 units, 100 steps, batch 64: evaluation
       3,182      3,110   300,000 windows of 200 steps: the data
       2,134      2,440   table of 40 series, windows of 300 steps: the data
       1,124      1,288   Bach's chorales note by note, as they come
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxseq.common import memory
from jaxseq.common.arrays import Batch, Tree
from jaxseq.data import gathered
from jaxseq.data.buckets import Buckets
from jaxseq.data.gathered import Gathered
from jaxseq.data.windows import BYTES_A_NUMBER
from jaxseq.train import epoch, feed
from jaxseq.train.epoch import Setup, TrainState
from jaxseq.train.feed import Course, RowSplits

STEP_COPIES = 1.6
"""Bytes of a training step for each byte of state, gradient and arrays that are kept for the backward pass: those of the
backward pass itself, and copies while the state is saved."""
EVALUATION_COPIES = 0.6
"""Bytes of the forward pass through one layer for each byte that a training step of as many rows would keep of it."""
DATA_COPIES = BYTES_A_NUMBER / 4
"""Bytes for each byte of the rows in float32."""
SERIES_COPIES = 3.0
"""Bytes for each byte of a training part that is gathered from its series: their table, times and windows among them."""
JUDGED_ROW = 100.0
"""Bytes for each window of a part that is judged and gathered likewise: its place, shift, scale and sizes."""
JUDGED_NUMBER = 8.0
"""Bytes for each number of the rows of a part that is laid out beside such a training part."""
JUDGED_TARGET = 250.0
"""Bytes for each target of either: forecasts by every baseline, intervals, quantiles, and predictions, also as text."""
SURE = 1 / 2
"""Share of the memory below which a bound that needs no tracing is enough."""
KEPT_A_COLUMN = 4
"""More numbers than the backward pass needs for each number of a row and each column of a kernel: 0.2 to 1.6."""


class Footprint(NamedTuple):
    """Bytes of a training's parts.

    step  for training and for evaluation, whichever takes more
    data  in the host's memory, with those of a first device there
    held  of the data on each device
    """

    runtime: int | float
    state: int | float
    step: int | float
    data: int | float
    held: int | float

    @property
    def total(self) -> int | float:
        """Bytes of all parts in one memory."""
        return self.runtime + self.state + self.step + self.data

    def on(self, devices: int) -> Footprint:
        """Return the bytes on one of several devices with memory of their own, beside the host's."""
        return Footprint(0.0, self.state, self.step / devices, self.held, self.held)

    def within(self, devices: int) -> Footprint:
        """Return the bytes of several devices in the host's memory, each of which holds state and data."""
        return self._replace(state=self.state * devices, data=self.data + self.held * (devices - 1))

    def of_lanes(self, lanes: int) -> Footprint:
        """Return the bytes of several trainings in one program, on the same data."""
        return self._replace(state=self.state * lanes, step=self.step * lanes)

    def check_on(self, mesh: Mesh) -> None:
        """Raise `UsageError` if a device of the mesh, or the memory of this process, has less memory."""
        there, most = self._there(mesh)
        there.check(most)

    def fits_on(self, mesh: Mesh) -> bool:
        """Return whether the devices of the mesh, or the memory of this process, have as much memory."""
        there, most = self._there(mesh)
        return there.total <= (memory.limit() if most is None else most)

    def _there(self, mesh: Mesh) -> tuple[Footprint, int | float | None]:
        """Return the bytes in one memory of the mesh, and those of a device; None stands for this process's memory."""
        device = mesh.local_devices[0]
        # None on a CPU, whose devices take the memory of the host.
        device_memory = device.memory_stats()
        if device_memory and "bytes_limit" in device_memory:
            return self.on(mesh.size), device_memory["bytes_limit"]
        return self.within(len(mesh.local_devices)), None

    def check(self, most: int | float | None = None) -> None:
        """Raise `UsageError`, with both numbers and the option that matters most, if there is less memory.

        `most` is in bytes, that of a device; by default the memory of this process.
        """
        options = {"--model.hidden": self.state, "--batch": self.step, "--data.window": self.data}
        parts = f"state {_gib(self.state)}, batch {_gib(self.step)}, data {_gib(self.data)} GiB"
        memory.check(
            f"the training does not fit into memory ({parts})",
            needed=self.total,
            where=max(options, key=options.__getitem__),
            most=most,
        )


def _gib(count: int | float) -> str:
    return f"{count / memory.GIB:,.1f}"


def estimate(setup: Setup, state: TrainState, batches: RowSplits, batch: int, layers: int) -> Footprint:
    """Estimate the bytes of a training on one CPU device.

    state   shapes of the state before the first step
    layers  recurrent layers, of which evaluation holds one at a time

    A training that needs far less than there is is not traced, which may take a second; its `step` is an upper bound.
    """
    rows = feed.feed_of(batches.train).row
    state_bytes = STEP_COPIES * (bytes_of(state) + bytes_of(state.params))
    evaluated_batches = min(epoch.EVALUATION_BATCHES, max(1.0, _rows_at_once(batches) / batch))

    columns = sum(leaf.shape[-1] for leaf in jax.tree.leaves(state.params) if leaf.ndim)
    numbers = batch * math.prod(rows.x.shape[1:])
    kept = 4 * KEPT_A_COLUMN * numbers * columns
    is_large = any(isinstance(part, Gathered) for part in batches)
    # A large panel prints its estimate beside what it took, where a bound would be far from it.
    if is_large or kept * evaluated_batches > SURE * memory.limit():
        kept = _kept_bytes(setup, state, rows, batch)
    # Predictions are made in larger batches, but hold one layer at a time.
    evaluation = EVALUATION_COPIES * kept / max(1, layers) * evaluated_batches
    return Footprint(
        runtime=memory.RUNTIME,
        state=state_bytes,
        step=max(STEP_COPIES * kept, evaluation),
        data=_data_bytes(batches),
        held=bytes_of(batches),
    )


def _data_bytes(batches: RowSplits) -> int | float:
    """Return the bytes of the data and of all that is made of them until the run is judged."""
    if not any(isinstance(part, Gathered) for part in batches):
        return DATA_COPIES * bytes_of(batches)

    train, *judged = batches
    copies = SERIES_COPIES if isinstance(train, Gathered) else DATA_COPIES
    total = copies * bytes_of(train)
    for part in judged:
        # No state is carried along the series of a panel.
        assert not isinstance(part, Course | Buckets)
        row = gathered.first_row(part)
        targets = row.y.shape[-1]
        of_row = JUDGED_TARGET * targets
        if isinstance(part, Gathered):
            of_row += JUDGED_ROW
        else:
            of_row += JUDGED_NUMBER * (row.x.size + targets)
        total += gathered.count(part) * of_row
    return total


def _rows_at_once(batches: RowSplits) -> int | float:
    """Return the validation rows, as long as those of the training; fewer where they are evaluated in pieces."""
    if isinstance(batches.valid, Course):
        # The state passes from piece to piece, of one row each.
        return epoch.ALONG / feed.feed_of(batches.train).row.x.shape[1]
    if isinstance(batches.valid, Buckets):
        # One bucket after the other, of which the longest rows are few.
        longest = feed.feed_of(batches.train).row.x.shape[1]
        return max(part.x.shape[0] * part.x.shape[1] for part in batches.valid.parts) / longest
    return feed.judged_rows(batches.valid)


def _kept_bytes(setup: Setup, state: TrainState, rows: Batch, batch: int) -> int:
    """Return the bytes that a training step keeps for its backward pass beside the parameters."""
    x, y = (jax.ShapeDtypeStruct((batch, *array.shape[1:]), array.dtype) for array in rows)
    kept = epoch.kept_arrays(setup, state, x, y)
    return max(0, bytes_of(kept) - bytes_of(state.params))


def bytes_of(tree: Tree) -> int:
    """Return the bytes of all arrays of a tree, or of arrays of these shapes; a PRNG key counts as two numbers."""
    total = 0
    for leaf in jax.tree.leaves(tree):
        item_bytes = 8
        if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            item_bytes = leaf.dtype.itemsize
        total += math.prod(leaf.shape) * item_bytes
    return total
