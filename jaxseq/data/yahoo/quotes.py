"""Daily prices of one ticker: what is asked for, what comes back, and the file in which it is kept.

Every ticker and range is one CSV file (date, close, adj_close) in `cache_folder()`, under a line that says what it is,
when it was fetched, and its sha256.
"""

from __future__ import annotations

import hashlib
import json
import re
from datetime import date
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from jaxseq.common.checks import one_of
from jaxseq.common.errors import UsageError
from jaxseq.common.files import write_whole
from jaxseq.common.text import first_line, printable, shown, size_of
from jaxseq.data.archive import LARGEST, open_plain
from jaxseq.data.windows import Series, check_series

FIRST = date(1900, 1, 1)
"""Where an open start begins: Yahoo has no older price."""
FORMAT = 1
_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_NUMBER = r"-?[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?"
_ROW = re.compile(f"{_DATE},{_NUMBER},{_NUMBER}")
_LONGEST_HEAD = 2000
"""Bytes of the line that says what a file is."""


class Quotes(NamedTuple):
    """Daily prices in `currency`, as Yahoo spells it (GBp is pence); `dates` are the exchange's local days.

    `close` is adjusted for splits, `adj_close` for splits and dividends, both as known on `fetched` (UTC). `dropped`
    days came without a price. `notes` are for the user to read, one line each.
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
        """One of the two prices as a series. Raises `UsageError` for another column."""
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
        """The first day that is asked for, and the first that no longer is."""
        return max(self.start or FIRST, FIRST), min(self.end or self.today, self.today)

    @property
    def name(self) -> str:
        """Of its file in the cache."""
        return f"{self.ticker}_{self.start or 'first'}_{self.end or 'open'}.csv"

    @property
    def identity(self) -> dict[str, str | None]:
        """Fields in the first line of a kept file that identify it."""
        start, end = (day.isoformat() if day else None for day in (self.start, self.end))
        return {"ticker": self.ticker, "start": start, "end": end}

    def __str__(self) -> str:
        return f"{self.ticker} from {self.start or 'the first day'} to {self.end or f'today, {self.today}'}"


def check_request(ticker: str, start: str | date | None, end: str | date | None, today: date) -> Request:
    """The request for a ticker and ISO dates. Raises `UsageError` for one that cannot be."""
    # nothing else may reach the name of a file or an address
    if not re.fullmatch(r"[A-Za-z0-9^][A-Za-z0-9.=^-]{0,19}", ticker):
        raise UsageError(
            f"ticker {ticker[:40]!r} ({len(ticker)} characters) must be 1 to 20 letters, digits or . - = ^ and begin "
            "with a letter, a digit or ^"
        )
    if re.fullmatch(r"[A-Z]{2}[A-Z0-9]{9}[0-9]", ticker.upper()):
        raise UsageError(f"ticker {ticker!r} is an ISIN: give the ticker, as in AAPL or SAP.DE")
    request = Request(ticker.upper(), _day("start", start), _day("end", end), today)
    first, last = request.days
    if first >= last:
        now = " (today in UTC: later days are not finished)" if last == today else ""
        raise UsageError(f"{ticker}: start {first} must be before end {last}{now}")
    return request


def _day(name: str, value: str | date | None) -> date | None:
    if value is None:
        return None
    try:
        day = date.fromisoformat(str(value))
    except ValueError:
        day = None
    if day is None or day.isoformat() != str(value):  # fromisoformat also takes weeks, and dates without hyphens
        raise UsageError(f"{name} {str(value)[:40]!r} is no date: it must be YYYY-MM-DD, as in 2024-03-01")
    return day


def read(file: Path, request: Request) -> tuple[Quotes | None, str]:
    """Read a kept download. Returns it, or None, and a description of the damage, which may be empty."""
    try:
        if not file.exists():
            return None, ""
        with open_plain(file) as stream:
            return _parse(stream.read(LARGEST + 1), request), ""
    except OSError as error:
        return None, f"the cache file {printable(str(file))} cannot be read ({error.strerror})"
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        return None, f"the cache file {printable(str(file))} is damaged ({first_line(error)})"


def digest(record: dict[str, Any], body: bytes) -> str:
    """The sha256 of a file's first line, without it, and of its rows."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode() + b"\n" + body).hexdigest()


def _parse(content: bytes, request: Request) -> Quotes:
    head, _, body = content.partition(b"\n")
    if not head.startswith(b"# {") or len(head) > _LONGEST_HEAD:
        raise ValueError("its first line is not ours")
    if len(content) > LARGEST:
        raise ValueError(f"it has more than {size_of(LARGEST)}")
    record = json.loads(head[2:])
    if record.pop("sha256", None) != digest(record, body):
        raise ValueError("its sha256 differs")
    expected = {"format": FORMAT, **request.identity}
    if found := {key: record[key] for key in expected if record[key] != expected[key]}:
        raise ValueError(f"it has {found}, not { ({key: expected[key] for key in found}) }")
    rows = body.decode("ascii").splitlines()[1:]
    if not rows or not all(map(_ROW.fullmatch, rows)):
        raise ValueError("a row is no date with two prices, or there is none")
    columns = list(zip(*(row.split(",") for row in rows), strict=True))
    dates, (close, adj_close) = np.array(columns[0], "datetime64[D]"), np.array(columns[1:], np.float64)
    fetched, currency, dropped = date.fromisoformat(record["fetched"]), record["currency"], record["dropped"]
    if type(dropped) is not int or dropped < 0 or not (isinstance(currency, str) and currency.isprintable()):
        raise ValueError(f"its currency is {shown(currency)}, and {shown(dropped)} days were dropped")
    if not np.isfinite([close, adj_close]).all() or (np.diff(dates) <= np.timedelta64(0)).any():
        raise ValueError("a price is infinite, or days do not follow each other")
    return Quotes(request.ticker, dates, close, adj_close, currency, fetched, dropped, "cache")


def write(file: Path, request: Request, quotes: Quotes) -> str:
    """Keep a download whole or not at all; what went wrong, if anything: a full disk must not lose the prices."""
    import yfinance

    rows = zip(quotes.dates.astype(str), quotes.close.tolist(), quotes.adj_close.tolist(), strict=True)
    body = "".join(["date,close,adj_close\n", *(f"{day},{close!r},{adj!r}\n" for day, close, adj in rows)]).encode()
    record = {"format": FORMAT, **request.identity, "fetched": quotes.fetched.isoformat()}
    record |= {"currency": quotes.currency, "dropped": quotes.dropped, "yfinance": yfinance.__version__}
    head = json.dumps({**record, "sha256": digest(record, body)}).encode()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, b"# " + head + b"\n" + body)
    except OSError as error:
        return f"the cache file {file} cannot be written ({error.strerror}): this download is not kept"
    return ""
