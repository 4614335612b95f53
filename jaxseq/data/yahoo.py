"""Daily prices of one ticker from Yahoo: the only door to yfinance, behind a cache of our own.

Every ticker and range is one CSV file (date, close, adj_close) in `cache_folder()`, under a line that says what it is,
when it was fetched, and its sha256. Only finished days are asked for: those before today in UTC, because every exchange
has closed its yesterday by then. A range that had ended a day before it was fetched is complete and never asked for
again; another is good for the day. yfinance's own files (a cookie, a time zone) are switched off: they save two small
requests, and a full disk, a damaged file or a network drive makes them fail the download. Yahoo's data is for personal
use: never publish a download.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import re
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float, Shaped

from jaxseq.data.windows import Series, check_choice, check_series
from jaxseq.errors import UsageError

Passing = Literal["timeout", "truncated", "rate-limited", "server"]
"""Causes that may be gone a second later."""
Verdict = Literal["unknown-ticker", "empty"]
"""Causes that are Yahoo's own answer: an older download would only hide it."""
Cause = Literal[Passing, Verdict, "offline", "refused", "certificate", "not-json", "unexpected"]
INSTEAD = "or use --data.path with a CSV of your own, or python -m jaxseq.train aapl, which needs no network"
ADVICE: dict[Cause, tuple[str, str]] = {
    "timeout": ("Yahoo did not answer in time", f"try again later, {INSTEAD}"),
    "truncated": ("the answer broke off", f"try again, {INSTEAD}"),
    "rate-limited": ("Yahoo takes no more requests from here for now", f"try again in an hour, {INSTEAD}"),
    "server": ("Yahoo's server failed", f"try again later, {INSTEAD}"),
    "unknown-ticker": ("Yahoo knows no such ticker", "check its spelling and its suffix, as in VOD.L or SAP.DE"),
    "empty": ("Yahoo has no prices in this range", "choose another start or end"),
    "offline": ("Yahoo cannot be reached", f"connect to the network, {INSTEAD}"),
    "refused": ("Yahoo refused access", f"try again later, {INSTEAD}"),
    "certificate": ("no trusted certificate", f"name your proxy's certificate in CURL_CA_BUNDLE, {INSTEAD}"),
    "not-json": ("a web page came in place of prices", f"a proxy's or log-in page may be in the way, {INSTEAD}"),
    "unexpected": ("yfinance could not read Yahoo's answer", f"try another version of yfinance, {INSTEAD}"),
}
"""What went wrong and what to do."""
FIRST = date(1900, 1, 1)
"""Where an open start begins: Yahoo has no older price."""
CHART = "/finance/chart/"
FORMAT = 1
_ONE_AT_A_TIME = threading.Lock()  # yfinance keeps its session and settings once for the whole process


class DownloadError(UsageError):
    """Prices could not be downloaded, for `cause`."""

    def __init__(self, message: str, cause: Cause) -> None:
        super().__init__(message)
        self.cause: Cause = cause


class Patience(NamedTuple):
    """Seconds for one attempt with all its requests, and between the first and the second, which is the last."""

    attempt: float = 5.0
    pause: float = 1.0


PATIENCE = Patience()


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
        check_choice(("adj_close", "close"), self.ticker, column=column)
        return check_series(self.dates, getattr(self, column), self.ticker)


class _Request(NamedTuple):
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
        return f"{self.ticker}_{self.start or 'first'}_{self.end or 'open'}.csv"

    @property
    def identity(self) -> dict[str, str | None]:
        start, end = (day.isoformat() if day else None for day in (self.start, self.end))
        return {"ticker": self.ticker, "start": start, "end": end}

    def __str__(self) -> str:
        return f"{self.ticker} from {self.start or 'the first day'} to {self.end or f'today, {self.today}'}"


class _Failure(Exception):
    def __init__(self, cause: Cause, detail: str = "") -> None:
        super().__init__(cause, detail)
        self.cause: Cause = cause
        self.detail = f" ({' '.join(detail.split())[:160]})" if detail else ""


def fetch(
    ticker: str,
    start: str | date | None = None,
    end: str | date | None = None,
    *,
    refresh: bool = False,
    cache: Path | None = None,
    session: Any = None,
    patience: Patience = PATIENCE,
    today: date | None = None,
) -> Quotes:
    """Daily prices of the days from `start` up to, but without, `end`: out of the cache if there, else from Yahoo.

    Dates are ISO; an open start is the first day there is, an open end is today. `refresh` asks Yahoo in any case.
    `cache` is a folder in place of `cache_folder()`, `session` a `curl_cffi.requests.Session` in place of a plain one,
    `today` the day in UTC. If Yahoo cannot be asked, an earlier download of the same range is returned and a note says
    so, unless `refresh` is set. A cache that cannot be read or written is a note as well.

    Raises `UsageError` for a ticker or date that cannot be, and `DownloadError` with its cause if there are no prices,
    after at most two attempts and `2 * patience.attempt + patience.pause` seconds.
    """
    request = _check(ticker, start, end, today or datetime.now(UTC).date())
    file = (cache or cache_folder()) / request.name
    kept, damage = _read(file, request)
    if kept and not refresh and _is_current(kept, request):
        return _noted(kept)
    try:
        quotes = _download(request, session, patience)
    except _Failure as failure:
        what, advice = ADVICE[failure.cause]
        what = f"{request}: {what}{failure.detail}"
        if kept and not refresh and failure.cause not in get_args(Verdict):
            return _noted(kept, f"{what}; using the download of {kept.fetched}, which ends on {kept.dates[-1]}")
        there = f"; the download of {kept.fetched} is still in {file}" if kept else damage and f"; {damage}"
        raise DownloadError(f"{what}: {advice}{there}", failure.cause) from failure
    return _noted(quotes, damage and f"{damage}: it was downloaded again", _write(file, request, quotes))


def cache_folder() -> Path:
    """Where downloads are kept: $JAXSEQ_CACHE, or jaxseq/prices in $XDG_CACHE_HOME or in ~/.cache.

    Raises `UsageError` if there is no home folder.
    """
    own = os.environ.get("JAXSEQ_CACHE")
    folder = Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "jaxseq", "prices")
    try:
        return folder.expanduser()
    except RuntimeError as error:
        raise UsageError(f"no home folder for the cache {folder}: set JAXSEQ_CACHE to a folder") from error


def _check(ticker: str, start: str | date | None, end: str | date | None, today: date) -> _Request:
    # nothing else may reach the name of a file or an address
    if not re.fullmatch(r"[A-Za-z0-9^][A-Za-z0-9.=^-]{0,19}", ticker):
        raise UsageError(
            f"ticker {ticker[:40]!r} ({len(ticker)} characters) must be 1 to 20 letters, digits or . - = ^ and begin "
            "with a letter, a digit or ^"
        )
    if re.fullmatch(r"[A-Z]{2}[A-Z0-9]{9}[0-9]", ticker.upper()):
        raise UsageError(f"ticker {ticker!r} is an ISIN: give the ticker, as in AAPL or SAP.DE")
    request = _Request(ticker.upper(), _day("start", start), _day("end", end), today)
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


def _is_current(kept: Quotes, request: _Request) -> bool:
    # a day of grace after the end: some prices, those of funds say, come in late
    return kept.fetched == request.today or (request.end is not None and kept.fetched > request.end)


def _noted(quotes: Quotes, *notes: str) -> Quotes:
    days = quotes.dropped + len(quotes.dates)
    gaps = f"{quotes.ticker}: {quotes.dropped} of {days} days came without a price and were left out"
    return quotes._replace(notes=tuple(filter(None, (gaps if quotes.dropped else "", *notes))))


def _read(file: Path, request: _Request) -> tuple[Quotes | None, str]:
    """What is kept, if anything, and what is wrong with it, if anything."""
    try:
        return _parse(file.read_bytes(), request), ""
    except (FileNotFoundError, NotADirectoryError):
        return None, ""
    except OSError as error:
        return None, f"the cache file {file} cannot be read ({error.strerror})"
    except (ValueError, TypeError, KeyError) as error:
        return None, f"the cache file {file} is damaged ({error})"


def _digest(record: dict[str, Any], body: bytes) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode() + b"\n" + body).hexdigest()


def _parse(content: bytes, request: _Request) -> Quotes:
    head, _, body = content.partition(b"\n")
    if not head.startswith(b"# {"):
        raise ValueError("its first line is not ours")
    record = json.loads(head[2:])
    if record.pop("sha256", None) != _digest(record, body):
        raise ValueError("its sha256 differs")
    expected = {"format": FORMAT, **request.identity}
    if found := {key: record[key] for key in expected if record[key] != expected[key]}:
        raise ValueError(f"it has {found}, not { ({key: expected[key] for key in found}) }")
    columns = list(zip(*(line.split(",") for line in body.decode().splitlines()[1:]), strict=True))
    dates, (close, adj_close) = np.array(columns[0], "datetime64[D]"), np.array(columns[1:], np.float64)
    fetched, currency, dropped = date.fromisoformat(record["fetched"]), record["currency"], record["dropped"]
    return Quotes(request.ticker, dates, close, adj_close, currency, fetched, dropped, "cache")


def _write(file: Path, request: _Request, quotes: Quotes) -> str:
    """Keep a download whole or not at all; what went wrong, if anything: a full disk must not lose the prices."""
    import yfinance

    rows = zip(quotes.dates.astype(str), quotes.close.tolist(), quotes.adj_close.tolist(), strict=True)
    body = "".join(["date,close,adj_close\n", *(f"{day},{close!r},{adj!r}\n" for day, close, adj in rows)]).encode()
    record = {"format": FORMAT, **request.identity, "fetched": quotes.fetched.isoformat()}
    record |= {"currency": quotes.currency, "dropped": quotes.dropped, "yfinance": yfinance.__version__}
    head = json.dumps({**record, "sha256": _digest(record, body)}).encode()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, prefix=f".{file.name}.", delete=False) as temporary:
            try:
                temporary.write(b"# " + head + b"\n" + body)
                temporary.flush()
                os.replace(temporary.name, file)
            except BaseException:
                os.unlink(temporary.name)
                raise
    except OSError as error:
        return f"the cache file {file} cannot be written ({error.strerror}): this download is not kept"
    return ""


def _download(request: _Request, session: Any, patience: Patience) -> Quotes:
    session = session or _own_session()
    try:
        return _attempt(request, session, patience.attempt)
    except _Failure as failure:
        if failure.cause not in get_args(Passing):
            raise
    time.sleep(patience.pause)
    return _attempt(request, session, patience.attempt)


@functools.cache
def _own_session() -> Any:
    from curl_cffi import CurlOpt, requests

    # without this option a name server that does not answer keeps the process from ending
    return requests.Session(impersonate="chrome", curl_options={CurlOpt.QUICK_EXIT: 1})


def _attempt(request: _Request, session: Any, seconds: float) -> Quotes:
    with _ONE_AT_A_TIME, _quiet_yfinance() as yfinance:
        deadline = time.monotonic() + seconds
        try:
            with _watched(session, deadline):
                ticker = yfinance.Ticker(request.ticker, session=session)
                first, last = (day.isoformat() for day in request.days)
                # yfinance answers an equal question from memory: what is left of the time makes each one different
                left = deadline - time.monotonic()
                frame = ticker.history(
                    start=first, end=last, auto_adjust=False, actions=False, keepna=True, timeout=left
                )
                return _from_frame(request, frame, ticker.history_metadata.get("currency") or "")
        except _Failure:
            raise
        except Exception as error:
            raise _failure(error, yfinance) from error


@contextmanager
def _quiet_yfinance() -> Iterator[Any]:
    """The package, for a while without log lines, warnings and files, and with its exceptions let through."""
    log = logging.getLogger("yfinance")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import yfinance

        warnings.simplefilter("ignore")  # once more, since the import puts a filter of its own before the first
        yfinance.set_tz_cache_location(os.path.join(os.devnull, "yfinance"))  # cannot be made, so nothing is kept
        debug = yfinance.config.debug
        before = log.disabled, debug.hide_exceptions
        log.disabled, debug.hide_exceptions = True, False
        try:
            yield yfinance
        finally:
            log.disabled, debug.hide_exceptions = before


@contextmanager
def _watched(session: Any, deadline: float) -> Iterator[None]:
    """Let no request of a session outlive the deadline, and judge every answer before yfinance makes less of it."""
    ask, refusals = session.request, []

    def request(method: str, url: str, **options: Any) -> Any:
        left = deadline - time.monotonic()
        if left <= 0:
            raise _Failure("timeout", "no time is left for all that has to be asked")
        # prices come without a cookie too, so those requests get less of the time
        options["timeout"] = left if CHART in url else left / 4
        response = ask(method=method, url=url, **options)
        if CHART in response.url:  # and not where it was sent on to, a consent form say
            _judge(response, refusals)
        return response

    session.request = request
    try:
        yield
    finally:
        del session.request


def _judge(response: Any, refusals: list[int]) -> None:
    status = response.status_code
    if status == 429 or status >= 500:
        raise _Failure("rate-limited" if status == 429 else "server", f"HTTP {status}")
    if status in (401, 403):
        refusals.append(status)
        if len(refusals) > 1:  # after the first, yfinance tries another kind of cookie
            raise _Failure("refused", f"HTTP {status}")
        return
    try:
        answer = json.loads(response.content)
    except ValueError as error:
        begun = response.content.lstrip().startswith(b"{")
        raise _Failure("truncated" if begun else "not-json", f"HTTP {status}") from error
    if said := (answer.get("chart") or {}).get("error"):
        causes: dict[int, Cause] = {400: "empty", 404: "unknown-ticker"}
        raise _Failure(causes.get(status, "unexpected"), f"HTTP {status}: {said.get('description')}")


def _failure(error: Exception, yfinance: Any) -> _Failure:
    """What an exception of yfinance or curl comes down to."""
    from curl_cffi import CurlECode
    from curl_cffi.requests import exceptions as curl

    if isinstance(error, curl.RequestException):
        unreachable = (CurlECode.COULDNT_CONNECT, CurlECode.COULDNT_RESOLVE_HOST, CurlECode.COULDNT_RESOLVE_PROXY)
        kinds: list[tuple[bool, Cause]] = [
            (isinstance(error, curl.Timeout), "timeout"),
            (isinstance(error, curl.CertificateVerifyError), "certificate"),
            (error.code in unreachable or isinstance(error, curl.ProxyError), "offline"),
        ]
        cause: Cause = next((cause for found, cause in kinds if found), "truncated")
        return _Failure(cause, re.sub(r"^.*?curl: \(\d+\) |\. See http.*$", "", str(error)))
    if isinstance(error, json.JSONDecodeError):
        return _Failure("not-json")
    if isinstance(error, yfinance.exceptions.YFTickerMissingError):
        return _Failure("empty")
    return _Failure("unexpected", f"yfinance {yfinance.__version__}, {type(error).__name__}: {error}")


def _from_frame(request: _Request, frame: Any, currency: str) -> Quotes:
    dates = frame.index.tz_localize(None).to_numpy().astype("datetime64[D]")
    first, last = (np.datetime64(day) for day in request.days)
    inside = (dates >= first) & (dates < last)
    prices = frame[["Close", "Adj Close"]].to_numpy(np.float64).T
    known = inside & np.isfinite(prices).all(axis=0) & prices.any(axis=0)  # Yahoo also sends 0 for "none"
    if not known.any():
        raise _Failure("empty", f"{np.count_nonzero(inside)} days, none with a price")
    dropped = int(np.count_nonzero(inside & ~known))
    close, adj_close = prices[:, known]
    return Quotes(request.ticker, dates[known], close, adj_close, currency, request.today, dropped, "download")
