"""The interface of every table format, and limits of what is read."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple

import pandas as pd

from jaxseq.common.text import shown

MAX_BYTES = 2 * 2**30
"""Size of a file, and of the content of a compressed one."""
MAX_ROWS = 50_000_000
MAX_COLUMNS = 10_000
MAX_CELLS = 50_000_000
"""Values that are kept: rows times columns, with two more for each row's time and place."""
MAX_SERIES = 500_000
LONGEST_NAME = 200
"""Letters of a series' name."""
MISSING_VALUES = ("", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "-nan", "null", "NULL", "None", "NaT", ".")
"""Spellings of a missing value in a column of numbers."""


CHUNK = 250_000
"""Most rows that are read together."""
CHUNK_CELLS = 5_000_000
"""Most values of all columns that are read together."""


def chunk_of(width: int) -> int:
    """Return the number of rows that are read together, if each has `width` columns."""
    return max(1, min(CHUNK, CHUNK_CELLS // max(width, 1)))


class Source(NamedTuple):
    """An open table: its columns, and its rows in chunks.

    source    its path, for messages
    rows      number of rows of data
    line      the row as the user counts it, of a row of data, which are counted from 0
    frames    (columns to read as texts, columns to read as numbers, decimal mark) -> chunks of rows
    decimals  decimal marks that are possible
    notes     how the table is written, one line each
    indexed   whether the first column has values and no name, as an index that pandas has written
    """

    source: str
    names: tuple[str, ...]
    rows: int
    line: Callable[[int], int]
    frames: Callable[[Sequence[int], Sequence[int], str], Generator[pd.DataFrame, None, None]]
    decimals: tuple[str, ...] = (".",)
    notes: tuple[str, ...] = ()
    indexed: bool = False

    def where(self, column: int, row: int) -> str:
        """Name a cell, for messages: `row` is one of the data, from 0."""
        return f"{self.source}: row {self.line(row)}, column {shown(self.names[column])}"
