"""The interface of every table format, and limits of what is read."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple

import pandas as pd

from jaxseq.common.text import shown

MAX_BYTES = 2 * 2**30
"""Of a file, and of what a compressed one unpacks to."""
MAX_ROWS = 50_000_000
MAX_COLUMNS = 10_000
MAX_CELLS = 50_000_000
"""Values that are kept: rows times the columns that were asked for, with two more for each row's time and place."""
MAX_SERIES = 500_000
LONGEST_NAME = 200
"""Letters of a series' name."""
MISSING_VALUES = ("", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "-nan", "null", "NULL", "None", "NaT", ".")
"""Spellings of a missing value in a column of numbers."""


CHUNK, CHUNK_CELLS = 250_000, 5_000_000
"""Rows, and values of all columns, that are read together at most."""


def chunk_of(width: int) -> int:
    """Rows of so many columns that are read together."""
    return max(1, min(CHUNK, CHUNK_CELLS // max(width, 1)))


class Source(NamedTuple):
    """An open table: its columns, and its rows in chunks."""

    source: str
    """Its path, for messages."""
    names: tuple[str, ...]
    rows: int
    line: Callable[[int], int]
    """The row as the user counts it, of each row of data, which are counted from 0."""
    frames: Callable[[Sequence[int], Sequence[int], str], Generator[pd.DataFrame, None, None]]
    """Columns by number, some as text and some as numbers with this decimal mark."""
    decimals: tuple[str, ...] = (".",)
    notes: tuple[str, ...] = ()

    def where(self, column: int, row: int) -> str:
        """A cell, for messages: `row` is one of data, from 0."""
        return f"{self.source}: row {self.line(row)}, column {shown(self.names[column])}"
