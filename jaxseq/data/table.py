"""The user's own series: a share by its ticker, or a table in a file."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from jaxseq.common.errors import UsageError
from jaxseq.common.text import printable
from jaxseq.data.splits import Panel, Split
from jaxseq.data.tables import read


@dataclass(frozen=True)
class Table(Split):
    """Your own CSV or Parquet file: one series, or many in one column, one after the other or mixed."""

    path: str = ""
    """The file: csv, tsv, txt (also gz) or parquet."""
    column: str | None = None
    """The column with the values; None if only one column has numbers."""
    time: str | None = None
    """The column with dates; None finds one named date, time, ds …, or counts the rows."""
    series: str | None = None
    """The column that names the series a row belongs to; None for a single series."""
    covariates: str = ""
    """Columns known beside the values, with commas between them: price,holiday."""
    missing: read.Missing = "error"
    """What to do with missing values: stop, drop the rows, or draw a line between their neighbours."""
    longest_gap: int = read.LONGEST_GAP
    """Missing values in a row that a line may be drawn over."""
    period: int | None = None
    """Steps of a season; None infers them from the dates."""

    unit: ClassVar[str] = ""

    @property
    def name(self) -> str:
        """The file."""
        return self.path or "table"

    def panel(self) -> Panel:
        """The series of the file. Raises `UsageError`, with row and column, for what cannot be used."""
        if not self.path:
            raise UsageError("which file? say --data.path sales.csv")
        names = tuple(name.strip() for name in self.covariates.split(",") if name.strip())
        how = (names, self.missing, self.period, self.longest_gap)
        return _table(self.path, self.column, self.time, self.series, *how, _state(self.path))


@functools.lru_cache(maxsize=4)
def _table(
    path: str,
    column: str | None,
    time: str | None,
    series: str | None,
    covariates: tuple[str, ...],
    missing: read.Missing,
    period: int | None,
    longest_gap: int,
    state: tuple[int, int] | None,
) -> Panel:
    """Read once for one recipe and one state of the file."""
    found = read.read(path, column, time, series, covariates, missing, period, longest_gap)
    return Panel(found.names, found.series, found.frequency, found.covariates, found.notes, printable(path))


def _state(path: str) -> tuple[int, int] | None:
    """What changes when a file is written: its time and its size."""
    try:
        found = Path(path).stat()
    except (OSError, ValueError):  # the reader says what is wrong with it
        return None
    return found.st_mtime_ns, found.st_size
