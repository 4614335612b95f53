"""Windows laid out as the rows of a model, in float32."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float

from jaxseq.common.arrays import Batch, empty_for_device
from jaxseq.data.scaling import Scaling, rows_at_once
from jaxseq.data.uncut import PartWindows
from jaxseq.data.windows import Windows


def batch(windows: PartWindows, scaling: Scaling, every_step: bool = False, steps: int | None = None) -> Batch:
    """Return a model's inputs and targets in float32: x "n t d" and y "n k", or "n t k" with `every_step`.

    `steps` limits the targets to the first ones of the horizon.
    """
    size = rows_at_once(windows, scaling)
    if every_step:
        # Every time step has the targets of a horizon.
        size = max(1, size // windows.horizon)

    def targets(piece: Windows) -> Float[np.ndarray, "_ ..."]:
        y = scaling.targets_at_every_step(piece) if every_step else scaling.targets(piece)
        return y[..., :steps].astype(np.float32)

    y = _in_one(map(targets, windows.pieces(size)), len(windows.origins))
    return Batch(in_float32(scaling, windows), y)


def in_float32(scaling: Scaling, windows: PartWindows) -> Float[np.ndarray, "n t d"]:
    """Return a model's inputs, a limited number of rows at a time: in float64 they take several times the memory."""
    pieces = windows.pieces(rows_at_once(windows, scaling))
    inputs = (scaling.inputs(piece).astype(np.float32) for piece in pieces)
    return _in_one(inputs, len(windows.origins))


def _in_one(pieces: Iterable[Float[np.ndarray, "_ ..."]], count: int) -> Float[np.ndarray, "n ..."]:
    """Concatenate pieces of `count` rows in all, of which there is at least one; each is freed before the next."""
    rows = None
    first = 0
    for piece in pieces:
        # Made at once: pieces that wait for the last one would leave holes in the memory when they are freed.
        if rows is None:
            shape = (count, *piece.shape[1:])
            rows = empty_for_device(shape, str(piece.dtype))
        rows[first : first + len(piece)] = piece
        first += len(piece)
    assert rows is not None, "there is a piece without rows at the least"
    return rows
