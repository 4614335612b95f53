"""The user's own table as a data set."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import Literal, get_args

from jaxseq.common.checks import one_of
from jaxseq.common.errors import UsageError
from jaxseq.common.files import user_path
from jaxseq.common.text import printable
from jaxseq.data.panel import Panel, PanelData
from jaxseq.data.tables import read

Unusable = Literal["error", "drop"]
"""Treatment of the series of a panel that cannot be used."""


@dataclass(frozen=True)
class Table(PanelData):
    """The user's own CSV or Parquet file: one series, or many in one column in any order."""

    path: str = ""
    """Your file: csv, tsv, txt (also gz) or parquet. Required."""
    column: str | None = None
    """Column with the values; None if only one column has numbers."""
    time: str | None = None
    """Column with dates; None finds it by its name or its contents, and numbers the rows if there is none."""
    series: str | None = None
    """Column that names the series a row belongs to, or several: store,item; None for a single series."""
    covariates: str = ""
    """Further input columns, separated by commas: price,holiday."""
    missing: str = "error"
    """Missing values: error, drop (leave out their rows) or fill (the last known value, and a mask as a further input)."""
    longest_gap: int = read.LONGEST_GAP
    """Largest number of consecutive missing values to fill; a longer gap is refused."""
    unusable: Unusable = "error"
    """Series of a panel that are constant, too short or without a scale: error, or drop (leave them out, with a note)."""
    period: int | None = None
    """Time steps of a season; None infers them from the dates."""
    floor: float | None = None
    """Least possible value, for forecasts and intervals; None takes 0 for non-negative integers, else none."""

    def __post_init__(self) -> None:
        """Raise `UsageError` for an invalid field."""
        super().__post_init__()
        one_of(get_args(Unusable), where=self.name, unusable=self.unusable)

    @property
    def name(self) -> str:
        """The file."""
        return self.path or "table"

    @property
    def masks_targets(self) -> bool:
        """Whether missing values are filled: as targets they have no weight."""
        return self.missing == "fill"

    def panel(self) -> Panel:
        """Read the series of the file. Raises `UsageError`, with row and column, for a file that cannot be used."""
        if not self.path:
            raise UsageError("which file? say --data.path sales.csv")

        names = (name.strip() for name in self.covariates.split(","))
        options = read.Options(
            column=self.column,
            time=self.time,
            series=self.series,
            covariates=tuple(name for name in names if name),
            missing=self.missing,
            period=self.period,
            longest_gap=self.longest_gap,
            floor=self.floor,
        )
        # Each fold and seed of a study loads the same table.
        panel = _read_panel(self.path, options, _file_state(self.path))
        return dataclasses.replace(panel, drops=self.unusable == "drop")


@functools.lru_cache(maxsize=4)
def _read_panel(path: str, options: read.Options, state: tuple[int, int] | None) -> Panel:
    """Read a table once for the same options and state of the file; `state` is only a part of the cache's key."""
    table = read.read(path, options)
    return Panel(
        names=table.names,
        series=table.series,
        frequency=table.frequency,
        covariates=table.covariates,
        notes=table.notes,
        source=printable(path),
        missing=table.missing,
        floor=table.floor,
    )


def _file_state(path: str) -> tuple[int, int] | None:
    """Return time and size of a file, which change when it is written; None where the reader will refuse it."""
    try:
        status = user_path(path).stat()
    except (OSError, ValueError):
        return None
    # A file that is written within one tick of the clock still differs in its size, as a rule.
    return status.st_mtime_ns, status.st_size
