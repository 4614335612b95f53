"""The user's own series: a share by its ticker, or a table in a file."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, get_args

from jaxseq.common.errors import UsageError, printable
from jaxseq.data.aapl import Column
from jaxseq.data.frequency import describe
from jaxseq.data.scaling import Kind, Scaling
from jaxseq.data.splits import Known, Panel, check_fold
from jaxseq.data.tables import read as table
from jaxseq.data.windows import WindowSplits, check_at_least, check_choice
from jaxseq.data.yahoo import client as yahoo


@dataclass(frozen=True)
class _Split:
    """What both have: how the series is cut into windows, and what the model is asked for."""

    window: int = 50
    """Steps that the model is given."""
    target: Kind = "change"
    """What it is asked for: the change from the last value, the log-return, or the level itself."""
    folds: int = 1
    """Folds of a backtest that the last 15 % of the rows are cut into."""
    fold: int = 1
    """Which of them: the model is trained on what comes before it."""

    def __post_init__(self) -> None:
        """Raises `UsageError` for a field that cannot be."""
        check_at_least(2, self.name, window=self.window)
        check_choice(get_args(Kind), self.name, target=self.target)
        check_fold(self.name, self.folds, self.fold)

    @property
    def name(self) -> str:
        """What the data are called."""
        raise NotImplementedError

    def panel(self) -> Panel:
        """The series themselves."""
        raise NotImplementedError

    def windows(self, horizon: int) -> WindowSplits:
        """Inputs, targets and times of the three parts. Raises `UsageError` if a part is too short for one."""
        return self.panel().windows(self.window, horizon, self.folds, self.fold)

    def known(self, horizon: int) -> Known:
        """What is known of the series beside their windows."""
        return self.panel().known(self.window, horizon, self.folds, self.fold)

    def scaling(self, horizon: int) -> Scaling:
        """The scaling of `target`, fitted on the training rows alone."""
        return self.panel().scaling(self.target, self.window, horizon, self.folds, self.fold)


@dataclass(frozen=True)
class Ticker(_Split):
    """Daily prices of one share, index or currency from Yahoo Finance, kept in a cache of your own."""

    ticker: str = "AAPL"
    """The symbol, as Yahoo spells it: MSFT, ^GSPC, EURUSD=X."""
    start: str | None = None
    """First day, as 2010-01-31; None for the first there is."""
    end: str | None = None
    """The day after the last, as 2020-01-31; None for today."""
    column: Column = "adj_close"
    """Price adjusted for splits and dividends, or for splits alone."""
    refresh: bool = False
    """Download again what is in the cache."""

    unit: ClassVar[str] = ""

    @property
    def name(self) -> str:
        """The ticker."""
        return self.ticker

    def panel(self) -> Panel:
        """The prices, downloaded or out of the cache. Raises `yahoo.DownloadError`, which is a `UsageError`."""
        return _quotes(self.ticker, self.start, self.end, self.column, self.refresh)


@functools.lru_cache(maxsize=8)
def _quotes(ticker: str, start: str | None, end: str | None, column: Column, refresh: bool) -> Panel:
    quotes = yahoo.fetch(ticker, start, end, refresh=refresh)
    said = f"{ticker}: {len(quotes.dates)} days to {quotes.dates[-1]}, {quotes.currency}, fetched on {quotes.fetched}"
    return Panel((ticker,), (quotes.series(column),), describe("B"), notes=(said, *quotes.notes))


@dataclass(frozen=True)
class Table(_Split):
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
    missing: table.Missing = "error"
    """What to do with missing values: stop, drop the rows, or draw a line between their neighbours."""
    longest_gap: int = table.LONGEST_GAP
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
    missing: table.Missing,
    period: int | None,
    longest_gap: int,
    state: tuple[int, int] | None,
) -> Panel:
    """Read once for one recipe and one state of the file."""
    found = table.read(path, column, time, series, covariates, missing, period, longest_gap)
    return Panel(found.names, found.series, found.frequency, found.covariates, found.notes, printable(path))


def _state(path: str) -> tuple[int, int] | None:
    """What changes when a file is written: its time and its size."""
    try:
        found = Path(path).stat()
    except (OSError, ValueError):  # the reader says what is wrong with it
        return None
    return found.st_mtime_ns, found.st_size
