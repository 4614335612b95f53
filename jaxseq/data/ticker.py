"""Prices of one ticker from Yahoo Finance, split by time."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar

from jaxseq.data.aapl import Column
from jaxseq.data.frequency import describe
from jaxseq.data.splits import Panel, Split
from jaxseq.data.yahoo import client


@dataclass(frozen=True)
class Ticker(Split):
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
    quotes = client.fetch(ticker, start, end, refresh=refresh)
    said = f"{ticker}: {len(quotes.dates)} days to {quotes.dates[-1]}, {quotes.currency}, fetched on {quotes.fetched}"
    return Panel((ticker,), (quotes.series(column),), describe("B"), notes=(said, *quotes.notes))
