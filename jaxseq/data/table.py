"""The user's own table as a data set."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import Literal, Unpack, get_args

from jaxseq.common.checks import one_of
from jaxseq.common.errors import UsageError
from jaxseq.common.files import user_path
from jaxseq.common.text import printable
from jaxseq.data import calendar, covariates
from jaxseq.data.panel import Panel
from jaxseq.data.panel_data import PanelData, PanelFields
from jaxseq.data.tables import frame as frames
from jaxseq.data.tables import read
from jaxseq.data.tables.frame import Frame, IntoFrame
from jaxseq.data.transforms import is_from_zero

Unusable = Literal["error", "drop"]
"""Treatment of the series of a panel that cannot be used."""


class TableFields(PanelFields, total=False):
    """The fields of a `Table` but for its path, so that type checkers know the keywords of `Table.from_frame`."""

    column: str | None
    time: str | None
    series: str | None
    covariates: str
    calendar: str
    future: str
    static: str
    missing: str
    longest_gap: int
    unusable: Unusable
    period: int | None
    floor: float | None


@dataclass(frozen=True)
class Table(PanelData):
    """The user's own CSV or Parquet file, or a frame in memory: one series, or many in one column or in a column each."""

    path: str = ""
    """Your file: csv, tsv, txt (also gz) or parquet. Required."""
    column: str | None = None
    """Column with the values; of a wide table, with a series in each, north,south or '*'; None for the only numbers."""
    time: str | None = None
    """Column with dates; None finds it by its name or its contents, and numbers the rows if there is none."""
    series: str | None = None
    """Column that names the series a row belongs to, or several: store,item; None for a single series."""
    covariates: str = ""
    """Further input columns, separated by commas, known up to the present: visitors,temperature."""
    calendar: str = ""
    """Calendar of each row, also of those that are forecast: hour,weekday,month,season,holidays:US."""
    future: str = ""
    """Columns that are known ahead, in rows beyond the last value, whose cell is empty there: price,promotion."""
    static: str = ""
    """Columns with one value in each series of --data.series: area,capacity."""
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
        calendar.check(covariates.names(self.calendar))

    @classmethod
    def from_frame(cls, frame: IntoFrame, **fields: Unpack[TableFields]) -> Table:
        """Return the table of a DataFrame or Series of pandas or polars, or of an Arrow table, with the given `fields`.

        ``Table.from_frame(frame, column="sales", series="store")`` is read as the CSV of the same frame, with the same
        series bit for bit; a pandas index that has a name or holds dates is a column. Numbers are those of the frame: those
        of a float32 column have more digits than its CSV. Messages count rows from 0, as by `iloc`.

        The contents are copied. A run's `config.json` has their sha256 as path; it resumes with the same rows alone.
        Raises `UsageError` for other objects, for a frame that is too large, and for names that are there twice.
        """
        return cls(path=frames.in_memory(frame), **fields)

    def on(self, frame: IntoFrame) -> Table:
        """Return the same columns of another frame."""
        return dataclasses.replace(self, path=frames.in_memory(frame))

    @property
    def name(self) -> str:
        """The file, or the first digits of the hash of a frame."""
        return frames.label(self.path) or "table"

    @property
    def masks_targets(self) -> bool:
        """Whether missing values are filled: as targets they have no weight."""
        return self.missing == "fill"

    @property
    def knows_ahead(self) -> bool:
        """Whether there are covariates that are known ahead."""
        options = self.read_options
        return bool(options.calendar or options.future or options.static)

    @property
    def read_options(self) -> read.Options:
        """The columns and how they are read."""
        # A series with such a value may be dropped; of other targets each series is checked by itself.
        is_checked = self.unusable == "error" and is_from_zero(self.target)
        floor = self.floor
        if is_checked and floor is None and self.target == "amount":
            floor = 0.0
        return read.Options(
            column=self.column,
            time=self.time,
            series=self.series,
            covariates=covariates.names(self.covariates),
            calendar=covariates.names(self.calendar),
            future=covariates.names(self.future),
            static=covariates.names(self.static),
            missing=self.missing,
            period=self.period,
            longest_gap=self.longest_gap,
            floor=floor,
            target=self.target if is_checked else "",
        )

    def panel(self) -> Panel:
        """Read the series of the file. Raises `UsageError`, with row and column, for a file that cannot be used."""
        if not self.path:
            raise UsageError("which file? say --data.path sales.csv")
        if frames.is_frame(self.path) and not isinstance(self.path, Frame):
            raise UsageError(
                "a frame in the memory of another process",
                where=self.name,
                needed="Table.from_frame(frame), or --data.path FILE with the same rows",
            )

        # Each fold and seed of a study loads the same table.
        state = None
        if not isinstance(self.path, Frame):
            state = _file_state(self.path)
        panel = _read_panel(self.path, self.read_options, state)
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
        source=printable(frames.label(path)),
        missing=table.missing,
        floor=table.floor,
        known=table.known,
        past=options.covariates,
        keys=table.keys,
        texts=table.texts,
    )


def _file_state(path: str) -> tuple[int, int] | None:
    """Return time and size of a file, which change when it is written; None where the reader will refuse it."""
    try:
        status = user_path(path).stat()
    except (OSError, ValueError):
        return None
    # A file that is written within one tick of the clock still differs in its size, as a rule.
    return status.st_mtime_ns, status.st_size
