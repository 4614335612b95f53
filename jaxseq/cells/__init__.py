"""The cells, by the name that the command line knows them by."""

from types import MappingProxyType

from jaxseq.cells import gru, lstm, rnn
from jaxseq.cells.base import Cell
from jaxseq.common.errors import UsageError

CELLS: MappingProxyType[str, Cell] = MappingProxyType({cell.name: cell for cell in (rnn.CELL, lstm.CELL, gru.CELL)})


def named(name: str) -> Cell:
    """The cell of that name; `UsageError` lists the right ones if there is none."""
    if name not in CELLS:
        raise UsageError(f"unknown cell {name!r}: choose one of {', '.join(CELLS)}")
    return CELLS[name]
