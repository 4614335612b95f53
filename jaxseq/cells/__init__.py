"""Recurrent cells by their name on the command line.

from jaxseq.cells import CELLS, recurrence

cell = CELLS["lstm"]
params = cell.init(jax.random.key(0), d, h)
carry, outputs = recurrence.scan(cell, params, x, cell.start((b, h)))  # x "t b d", outputs "t b h"
"""

from types import MappingProxyType

from jaxseq.cells import gru, lstm, rnn
from jaxseq.cells.base import Cell
from jaxseq.common.errors import UsageError

CELLS: MappingProxyType[str, Cell] = MappingProxyType({cell.name: cell for cell in (rnn.CELL, lstm.CELL, gru.CELL)})


def named(name: str) -> Cell:
    """Return the cell of a name; raises `UsageError`, which lists the names, if there is none."""
    if name not in CELLS:
        raise UsageError("unknown cell", got=name, needed=f"one of {', '.join(CELLS)}")
    return CELLS[name]
