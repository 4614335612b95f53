"""Daily prices of one ticker: the request, the prices, and the file that caches them.

Every ticker and range is one CSV file (date, close, adj_close) in `cache_folder()`. A line above it identifies the
request and the day of the download, and has the sha256.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from jaxseq.common.checks import one_of
from jaxseq.common.errors import UsageError
from jaxseq.common.files import write_whole
from jaxseq.common.text import first_line, printable, shown, size_of
from jaxseq.data.archive import LARGEST, open_plain
from jaxseq.data.windows import Series, check_series

FIRST = date(1900, 1, 1)
"""First day of an open start: Yahoo has no older price."""
FORMAT = 1
_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_NUMBER = r"-?[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?"
_ROW = re.compile(f"{_DATE},{_NUMBER},{_NUMBER}")
_LONGEST_HEAD = 2000
"""Bytes of a file's first line."""


class Quotes(NamedTuple):
    """Daily prices of one ticker.

    dates      the exchange's local days
    close      adjusted for splits, as known on `fetched`
    adj_close  adjusted for splits and dividends, as known on `fetched`
    currency   as Yahoo spells it; GBp is pence
    fetched    day of the download, in UTC
    dropped    days that came without a price
    notes      remarks for the user, one line each
    """

    ticker: str
    dates: Shaped[np.ndarray, " n"]
    close: Float[np.ndarray, " n"]
    adj_close: Float[np.ndarray, " n"]
    currency: str
    fetched: date
    dropped: int
    source: Literal["cache", "download"]
    notes: tuple[str, ...] = ()

    def series(self, column: str = "adj_close") -> Series:
        """Return one of the two prices as a series. Raises `UsageError` for another column."""
        one_of(("adj_close", "close"), where=self.ticker, column=column)
        return check_series(self.dates, getattr(self, column), self.ticker)


class Request(NamedTuple):
    """A ticker, and the days from `start` up to, but without, `end`; None is the first day there is, and `today`."""

    ticker: str
    start: date | None
    end: date | None
    today: date

    @property
    def days(self) -> tuple[date, date]:
        """The first day, and the day after the last."""
        return max(self.start or FIRST, FIRST), min(self.end or self.today, self.today)

    @property
    def name(self) -> str:
        """Name of its file in the cache."""
        return f"{self.ticker}_{self.start or 'first'}_{self.end or 'open'}.csv"

    @property
    def identity(self) -> dict[str, str | None]:
        """Fields in the first line of a cached file that identify it."""
        return {"ticker": self.ticker, "start": _iso(self.start), "end": _iso(self.end)}

    def __str__(self) -> str:
        return f"{self.ticker} from {self.start or 'the first day'} to {self.end or f'today, {self.today}'}"


def _iso(day: date | None) -> str | None:
    if day is None:
        return None
    return day.isoformat()


def check_request(ticker: str, start: str | date | None, end: str | date | None, today: date) -> Request:
    """Return the request for a ticker and ISO dates. Raises `UsageError` for an invalid one."""
    # No other character may reach the name of a file or an address.
    if not re.fullmatch(r"[A-Za-z0-9^][A-Za-z0-9.=^-]{0,19}", ticker):
        raise UsageError(
            f"ticker {ticker[:40]!r} ({len(ticker)} characters) must be 1 to 20 letters, digits or . - = ^ and begin "
            "with a letter, a digit or ^"
        )
    # yfinance would look up an ISIN elsewhere, by a request that is not timed.
    if re.fullmatch(r"[A-Z]{2}[A-Z0-9]{9}[0-9]", ticker.upper()):
        raise UsageError(f"ticker {ticker!r} is an ISIN: give the ticker, as in AAPL or SAP.DE")

    request = Request(ticker.upper(), _day("start", start), _day("end", end), today)
    first, last = request.days
    if first >= last:
        reason = ""
        if last == today:
            reason = " (today in UTC: later days are not finished)"
        raise UsageError(f"{ticker}: start {first} must be before end {last}{reason}")
    return request


def _day(name: str, value: str | date | None) -> date | None:
    if value is None:
        return None
    try:
        day = date.fromisoformat(str(value))
    except ValueError:
        day = None
    # `fromisoformat` also takes weeks, and dates without hyphens.
    if day is None or day.isoformat() != str(value):
        raise UsageError(f"{name} {str(value)[:40]!r} is no date: it must be YYYY-MM-DD, as in 2024-03-01")
    return day


def read(file: Path, request: Request) -> tuple[Quotes | None, str]:
    """Read a cached download. Returns it, or None, and a description of the damage, which may be empty."""
    try:
        if not file.exists():
            return None, ""
        # One byte more than allowed shows that a file is too large, without reading all of it.
        with open_plain(file) as stream:
            return _parse(stream.read(LARGEST + 1), request), ""
    except OSError as error:
        return None, f"the cache file {printable(str(file))} cannot be read ({error.strerror})"
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        return None, f"the cache file {printable(str(file))} is damaged ({first_line(error)})"


def digest(record: Mapping[str, object], body: bytes) -> str:
    """Return the sha256 of a file's first line, apart from the sha256 in it, and of its rows."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode() + b"\n" + body).hexdigest()


def _parse(content: bytes, request: Request) -> Quotes:
    """Return the prices of a cached file. Raises `ValueError`, `TypeError` or `KeyError` for a damaged one."""
    head, _, body = content.partition(b"\n")
    if not head.startswith(b"# {") or len(head) > _LONGEST_HEAD:
        raise ValueError("its first line is not ours")
    if len(content) > LARGEST:
        raise ValueError(f"it has more than {size_of(LARGEST)}")
    record = json.loads(head[2:])
    if record.pop("sha256", None) != digest(record, body):
        raise ValueError("its sha256 differs")
    expected = {"format": FORMAT, **request.identity}
    differing = {key: record[key] for key in expected if record[key] != expected[key]}
    if differing:
        raise ValueError(f"it has {differing}, not { ({key: expected[key] for key in differing}) }")

    rows = body.decode("ascii").splitlines()[1:]
    if not rows or not all(map(_ROW.fullmatch, rows)):
        raise ValueError("a row is no date with two prices, or there is none")
    columns = list(zip(*(row.split(",") for row in rows), strict=True))
    dates = np.array(columns[0], "datetime64[D]")
    close, adj_close = np.array(columns[1:], np.float64)

    # The sha256 is no signature: whoever edits a file can compute it.
    currency = record["currency"]
    dropped = record["dropped"]
    if type(dropped) is not int or dropped < 0 or not (isinstance(currency, str) and currency.isprintable()):
        raise ValueError(f"its currency is {shown(currency)}, and {shown(dropped)} days were dropped")
    if not np.isfinite([close, adj_close]).all() or (np.diff(dates) <= np.timedelta64(0)).any():
        raise ValueError("a price is infinite, or days do not follow each other")
    return Quotes(
        ticker=request.ticker,
        dates=dates,
        close=close,
        adj_close=adj_close,
        currency=currency,
        fetched=date.fromisoformat(record["fetched"]),
        dropped=dropped,
        source="cache",
    )


def write(file: Path, request: Request, quotes: Quotes) -> str:
    """Write a download whole or not at all. Returns the fault, or "": a full disk must not lose the prices."""
    import yfinance

    # `repr` gives every price back exactly.
    lines = ["date,close,adj_close\n"]
    prices = zip(quotes.dates.astype(str), quotes.close.tolist(), quotes.adj_close.tolist(), strict=True)
    lines += [f"{day},{close!r},{adj_close!r}\n" for day, close, adj_close in prices]
    body = "".join(lines).encode()
    record = {
        "format": FORMAT,
        **request.identity,
        "fetched": quotes.fetched.isoformat(),
        "currency": quotes.currency,
        "dropped": quotes.dropped,
        "yfinance": yfinance.__version__,
    }
    head = json.dumps({**record, "sha256": digest(record, body)}).encode()

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, b"# " + head + b"\n" + body)
    except OSError as error:
        return f"the cache file {file} cannot be written ({error.strerror}): this download is not kept"
    return ""
