"""Prices of one ticker from Yahoo Finance, as a data set."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from jaxseq.data.aapl import Column
from jaxseq.data.frequency import describe
from jaxseq.data.panel import Panel
from jaxseq.data.panel_data import PanelData
from jaxseq.data.yahoo import client


@dataclass(frozen=True)
class Ticker(PanelData):
    """Daily prices of one share, index or currency from Yahoo Finance, kept in the user's cache."""

    ticker: str = "AAPL"
    """Symbol as Yahoo spells it: MSFT, ^GSPC, EURUSD=X."""
    start: str | None = None
    """First day, as 2010-01-31; None for the first that Yahoo has."""
    end: str | None = None
    """Day after the last, as 2020-01-31; None for today."""
    column: Column = "adj_close"
    """Price adjusted for splits and dividends, or for splits alone."""
    refresh: bool = False
    """Download again even if the cache has the prices."""

    @property
    def name(self) -> str:
        """The ticker."""
        return self.ticker

    def panel(self) -> Panel:
        """Return the prices from the cache or a download. Raises `yahoo.DownloadError`, which is a `UsageError`."""
        return _quotes(self.ticker, self.start, self.end, self.column, self.refresh)


@functools.lru_cache(maxsize=8)
def _quotes(ticker: str, start: str | None, end: str | None, column: Column, refresh: bool) -> Panel:
    # Cached in memory as well: a study would read the file once for each of its runs.
    quotes = client.fetch(ticker, start, end, refresh=refresh)
    note = f"{ticker}: {len(quotes.dates)} days to {quotes.dates[-1]}, {quotes.currency}, fetched on {quotes.fetched}"
    return Panel((ticker,), (quotes.series(column),), describe("B"), notes=(note, *quotes.notes))
