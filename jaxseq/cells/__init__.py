"""Recurrent cells by their name on the command line.

from jaxseq.cells import CELLS, recurrence

cell = CELLS["lstm"]
params = cell.init(jax.random.key(0), d, h)
carry, outputs = recurrence.scan(cell, params, x, cell.start((b, h)))  # x "t b d", outputs "t b h"
"""

from types import MappingProxyType
from typing import cast

from jaxseq.cells import (
    gru,
    gru_before,
    indrnn,
    lru,
    lstm,
    lstm_peephole,
    lstm_projected,
    mingru,
    mingru_positive,
    minlstm,
    minlstm_positive,
    rglru,
    rnn,
)
from jaxseq.cells.base import Carry, Cell
from jaxseq.common.arrays import Tree
from jaxseq.common.errors import UsageError

_GATED = (rnn.CELL, lstm.CELL, gru.CELL)
_STEPWISE = (gru_before.CELL, lstm_peephole.CELL, lstm_projected.CELL, indrnn.CELL)
_LINEAR = (
    mingru.CELL,
    mingru_positive.CELL,
    minlstm.CELL,
    minlstm_positive.CELL,
    lru.CELL,
    rglru.CELL,
)

# Which cell it is depends on the name: type checkers see any parameters, and a carry with its output.
CELLS: MappingProxyType[str, Cell[Tree, Carry]] = MappingProxyType(
    {cell.name: cast("Cell[Tree, Carry]", cell) for cell in _GATED + _STEPWISE + _LINEAR}
)
"""Every cell of the package by its name."""


def named(name: str) -> Cell[Tree, Carry]:
    """Return the cell of a name; raises `UsageError`, which lists the names, if there is none."""
    if name not in CELLS:
        raise UsageError("unknown cell", got=name, needed=f"one of {', '.join(CELLS)}")
    return CELLS[name]


def check_options(
    name: str,
    normalised: bool = False,
    recurrent_dropout: float = 0.0,
) -> None:
    """Raise `UsageError` for an unknown cell, and for an option of the command line that the cell would ignore."""
    cell = named(name)
    if normalised and cell.gates is None:
        gated = ", ".join(other.name for other in CELLS.values() if other.gates is not None)
        raise UsageError("only gated cells are normalised inside", where="--model.cell", got=name, needed=gated)
    if recurrent_dropout and cell.linear is not None:
        others = ", ".join(other.name for other in CELLS.values() if other.linear is None)
        raise UsageError(
            "multiplies no state, so that no dropout acts on it", where="--model.cell", got=name, needed=others
        )
