"""Rows of a model that are gathered from their series when they are read: a window is the number of its first row.

The rows are those of `laid_out.batch`, bit for bit: the same arithmetic in float64, here of numpy's or JAX's arrays,
rounded to float32 at the end. That holds for targets that are linear in the values (`LINEAR`), whose maps take no
logarithm: that of another library may differ in its last bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from jaxseq.common.arrays import Batch, namespace
from jaxseq.data.powers import NONE
from jaxseq.data.scaling import Scaling, rows_at_once
from jaxseq.data.transforms import LINEAR
from jaxseq.data.uncut import UncutWindows


@dataclass(frozen=True)
class Gathered:
    """Examples with their targets, as a `Batch` has them, of which only the series are held.

    values    of all series, one series after the other
    known     the same, NaN where a value is missing
    beside    covariates and masks of each value, as the model reads them
    ahead     covariates that are known ahead, likewise
    firsts    row that each window begins with
    shift     of each window; a single one where all have the same
    scale     of each window
    relative  scale of each window relative to that of its series, as the model reads it; r is 0 where it does not
    scaling   options of the maps; its own shift and scale play no part
    window    time steps of a window
    horizon   targets of each row, or of each of its time steps
    reach     targets of which the covariates known ahead are read
    """

    values: Float[Array | np.ndarray, " m"]
    known: Float[Array | np.ndarray, " m"]
    beside: Float[Array | np.ndarray, "m c"]
    ahead: Float[Array | np.ndarray, "m s"]
    firsts: Int[Array | np.ndarray, " n"]
    shift: Float[Array | np.ndarray, " _"]
    scale: Float[Array | np.ndarray, " n"]
    relative: Float[Array | np.ndarray, "n r"]
    scaling: Scaling
    window: int
    horizon: int
    reach: int
    every_step: bool

    @property
    def count(self) -> int:
        """Number of rows."""
        return self.firsts.shape[0]

    def inputs_at(self, index: Int[Array | np.ndarray, " b"]) -> Float[Array | np.ndarray, "b t d"]:
        """Return the model's inputs of some rows in float32."""
        arrays = namespace(self.values)
        rows = self._steps(index)
        scale = self.scale[index][:, None]
        columns = self.scaling.columns(self.values[rows], self._shift(index), scale)
        # Rounded at the end, as rows that are laid out are.
        parts = [columns.astype(np.float32)]
        # A concatenation with nothing would be compiled all the same.
        if self.relative.shape[1]:
            relative = self.relative[index][:, None]
            parts.append(arrays.broadcast_to(relative, (*rows.shape, self.relative.shape[1])))
        parts.append(self.beside[rows])
        inputs = arrays.concatenate(parts, axis=2)
        if not self.ahead.shape[1]:
            return inputs

        # Those of the row after each time step, and of the horizon's later rows as time steps of their own.
        later = self.firsts[index][:, None] + np.arange(1, self.window + self.reach, dtype=np.int32)
        inputs = arrays.pad(inputs, ((0, 0), (0, self.reach - 1), (0, 0)))
        return arrays.concatenate([inputs, self.ahead[later]], axis=2)

    def targets_at(self, index: Int[Array | np.ndarray, " b"]) -> Float[Array | np.ndarray, "b *k"]:
        """Return the targets of some rows in float32, NaN where they are not known."""
        rows = self._steps(index)
        values = self.values[rows]
        shift = self._shift(index)
        scale = self.scale[index][:, None]
        ahead = np.arange(1, self.horizon + 1, dtype=np.int32)
        if self.every_step:
            targets = self.known[rows[:, :, None] + ahead]
            # Each time step is compared with its own value.
            base = values[:, :, None]
            shift = shift[:, None]
            scale = scale[:, None]
        else:
            targets = self.known[rows[:, -1:] + ahead]
            base = self.scaling.known(values, self.horizon)
        scaled = self.scaling.transform.targets(targets, base, shift, scale)
        return scaled.astype(np.float32)

    def take(self, index: Int[Array | np.ndarray, " b"]) -> Batch:
        """Return some rows as arrays."""
        return Batch(self.inputs_at(index), self.targets_at(index))

    def choose(self, rows: Shaped[np.ndarray, "_"]) -> Gathered:
        """Return some of the rows, to be gathered as well."""
        shift = self.shift
        if len(shift) > 1:
            shift = shift[rows]
        return replace(
            self, firsts=self.firsts[rows], shift=shift, scale=self.scale[rows], relative=self.relative[rows]
        )

    def _steps(self, index: Int[Array | np.ndarray, " b"]) -> Int[Array | np.ndarray, "b t"]:
        return self.firsts[index][:, None] + np.arange(self.window, dtype=np.int32)

    def _shift(self, index: Int[Array | np.ndarray, " b"]) -> Float[Array | np.ndarray, "_ 1"]:
        # Changes have the shift 0 in every window.
        if self.shift.shape[0] == 1:
            return self.shift[:, None]
        return self.shift[index][:, None]


ARRAYS = ("values", "known", "beside", "ahead", "firsts", "shift", "scale", "relative")
"""Fields of `Gathered` that are arrays; the others are constants of a compiled function."""

RowsOfModel: TypeAlias = Batch | Gathered
"""Examples in any order: laid out, or gathered when they are read."""


def count(rows: RowsOfModel) -> int:
    """Return the number of rows."""
    if isinstance(rows, Gathered):
        return rows.count
    return len(rows.y)


def first_row(rows: RowsOfModel) -> Batch:
    """Return the first row in host memory, x "1 t d" and y "1 *k"."""
    return take(rows, slice(1))


def take(rows: RowsOfModel, index: Shaped[np.ndarray, "_"] | slice) -> Batch:
    """Return some rows in host memory as arrays of numpy."""
    if isinstance(rows, Gathered):
        return rows.take(np.arange(rows.count, dtype=np.int32)[index])
    return Batch(np.asarray(rows.x[index]), np.asarray(rows.y[index]))


def pieces(rows: RowsOfModel, size: int) -> Iterator[Batch]:
    """Yield the rows in their order as arrays, `size` of them at a time."""
    for first in range(0, count(rows), size):
        yield take(rows, slice(first, first + size))


def gathered(
    windows: UncutWindows,
    scaling: Scaling,
    every_step: bool = False,
    steps: int | None = None,
) -> Gathered:
    """Return the rows of `laid_out.batch`, to be gathered. The scaling must be one that `can_gather`.

    Raises `UsageError` for another number of covariates than in training, and as `Scaling.targets_at_every_step`.
    """
    # The first row meets every check.
    first = windows.take(slice(1))
    scaling.inputs(first)
    if every_step:
        scaling.targets_at_every_step(first)

    shifts = []
    scales = []
    relatives = []
    # In pieces, as the scale of a window by itself is computed from all of its values.
    for piece in windows.pieces(rows_at_once(windows, scaling)):
        shift, scale = scaling.of_rows(piece)
        shifts.append(shift[:, 0])
        scales.append(scale[:, 0])
        relatives.append(scaling.relative(piece, scale).astype(np.float32))
    shift = np.concatenate(shifts)
    # Changes have none.
    if not np.any(shift):
        shift = np.zeros(1)

    horizon = windows.horizon
    if steps is not None:
        horizon = min(steps, horizon)
    rows = windows.rows
    # Of each row once: a window reads them as they are.
    past = rows.covariates.shape[1]
    covariates = (rows.covariates - scaling.covariate_shifts[:past]) / scaling.covariate_scales[:past]
    masks = scaling.masks_of(rows.missing)
    ahead = (rows.ahead - scaling.covariate_shifts[past:]) / scaling.covariate_scales[past:]
    return Gathered(
        values=rows.values,
        known=rows.known,
        beside=np.concatenate([covariates, masks], axis=1, dtype=np.float32, casting="same_kind"),
        ahead=ahead.astype(np.float32),
        firsts=windows.firsts.astype(np.int32),
        shift=shift,
        scale=np.concatenate(scales),
        relative=np.concatenate(relatives),
        scaling=scaling.without_numbers(),
        window=windows.steps,
        horizon=horizon,
        reach=windows.known_steps,
        every_step=every_step,
    )


def can_gather(scaling: Scaling) -> bool:
    """Return whether rows of this scaling that are gathered are those that are laid out, bit for bit."""
    return scaling.kind in LINEAR and scaling.power == NONE
