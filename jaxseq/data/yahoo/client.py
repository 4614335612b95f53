"""Daily prices of one ticker from Yahoo, by yfinance, behind a cache (`quotes.py`).

yfinance and curl_cffi are optional, and a download in the cache needs neither: pip install "jaxseq[prices]".

Only finished days are requested: those before today in UTC, because every exchange has closed its yesterday by then. A
range that had ended a day before it was fetched is complete and never requested again; another is good for the day.
The files of yfinance (a cookie, a time zone) are switched off: they save two small requests, but a full disk, a damaged
file or a network drive would then fail the download. Yahoo's data is for personal use: never publish a download.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import logging
import os
import re
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from jaxseq.common.errors import Portable, UsageError
from jaxseq.common.text import printable
from jaxseq.data.cache import cache_folder
from jaxseq.data.yahoo.quotes import Quotes, Request, check_request, read, write

Passing = Literal["timeout", "truncated", "rate-limited", "server"]
"""Causes that may be gone a second later."""
Verdict = Literal["unknown-ticker", "empty"]
"""Causes that are Yahoo's answer: an older download would only hide it."""
Cause = Literal[Passing, Verdict, "offline", "refused", "certificate", "not-json", "unexpected"]
PACKAGES = ("yfinance", "curl_cffi")
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
"""Message of each cause: the failure, and what to do about it."""
CHART = "/finance/chart/"
LONGEST_CURRENCY = 20
# yfinance keeps its session and settings once for the whole process.
_ONE_AT_A_TIME = threading.Lock()


class DownloadError(UsageError):
    """Prices could not be downloaded, for `cause`."""

    def __init__(self, message: str, cause: Cause) -> None:
        super().__init__(message)
        self.cause: Cause = cause


class Connection(NamedTuple):
    """How Yahoo is reached.

    session  a `curl_cffi.requests.Session`; None makes one
    attempt  seconds for one attempt with all its requests
    pause    seconds between the first attempt and the second, which is the last
    """

    session: Any = None
    attempt: float = 5.0
    pause: float = 1.0


DEFAULT = Connection()
"""A session that is made once, and two attempts of five seconds."""


class _Failure(Portable, Exception):
    def __init__(self, cause: Cause, detail: str = "") -> None:
        super().__init__(cause, detail)
        self.cause: Cause = cause
        self.detail = ""
        if detail:
            self.detail = f" ({printable(' '.join(detail.split()))[:160]})"


def fetch(
    ticker: str,
    start: str | date | None = None,
    end: str | date | None = None,
    *,
    refresh: bool = False,
    cache: Path | None = None,
    connection: Connection = DEFAULT,
    today: date | None = None,
) -> Quotes:
    """Return the daily prices from `start` up to, but without, `end`, from the cache or else from Yahoo.

    start, end  ISO dates; an open start is the first day there is, an open end is today
    refresh     ask Yahoo in any case
    cache       a folder in place of `cache_folder()`
    today       the day in UTC

    If Yahoo cannot be asked, an earlier download of the same range is returned with a note, unless `refresh` is set. A
    cache that cannot be read or written is a note as well.

    Raises `UsageError` for an invalid ticker or date, and where yfinance is needed and not installed; `DownloadError` with
    its cause if there are no prices, after at most two attempts.
    """
    request = check_request(ticker, start, end, today or datetime.now(UTC).date())
    file = (cache or cache_folder()) / request.name
    cached, damage = read(file, request)
    if cached and not refresh and _is_current(cached, request):
        return _noted(cached)

    if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise UsageError(
            f"{' and '.join(missing)} not installed, which ask Yahoo",
            where=request,
            needed=f'pip install "jaxseq[prices]", {INSTEAD}',
        )
    try:
        quotes = _download(request, connection)
    except _Failure as failure:
        fault, advice = ADVICE[failure.cause]
        fault = f"{request}: {fault}{failure.detail}"
        if cached and not refresh and failure.cause not in get_args(Verdict):
            return _noted(cached, f"{fault}; using the download of {cached.fetched}, which ends on {cached.dates[-1]}")
        remark = ""
        if cached:
            remark = f"; the download of {cached.fetched} is still in {file}"
        elif damage:
            remark = f"; {damage}"
        raise DownloadError(f"{fault}: {advice}{remark}", failure.cause) from failure

    write_fault = write(file, request, quotes)
    read_fault = ""
    if damage:
        read_fault = f"{damage}: it was downloaded again"
    return _noted(quotes, read_fault, write_fault)


def _is_current(cached: Quotes, request: Request) -> bool:
    if cached.fetched == request.today:
        return True
    # A day of grace after the end: some prices, such as those of funds, come in late.
    return request.end is not None and cached.fetched > request.end


def _noted(quotes: Quotes, *notes: str) -> Quotes:
    """Return the quotes with those notes that are not empty."""
    lines = [note for note in notes if note]
    if quotes.dropped:
        days = quotes.dropped + len(quotes.dates)
        lines.insert(0, f"{quotes.ticker}: {quotes.dropped} of {days} days came without a price and were left out")
    return quotes._replace(notes=tuple(lines))


def _download(request: Request, connection: Connection) -> Quotes:
    """Ask Yahoo, a second time if the first failure may be gone by then."""
    session = connection.session or _own_session()
    try:
        return _attempt(request, session, connection.attempt)
    except _Failure as failure:
        if failure.cause not in get_args(Passing):
            raise
    time.sleep(connection.pause)
    return _attempt(request, session, connection.attempt)


@functools.cache
def _own_session() -> Any:
    from curl_cffi import CurlOpt, requests

    # Without this option, a name server that does not answer keeps the process from ending.
    return requests.Session(impersonate="chrome", curl_options={CurlOpt.QUICK_EXIT: 1})


def _attempt(request: Request, session: Any, seconds: float) -> Quotes:
    with _ONE_AT_A_TIME, _quiet_yfinance() as yfinance:
        deadline = time.monotonic() + seconds
        try:
            with _watched(session, deadline):
                ticker = yfinance.Ticker(request.ticker, session=session)
                first, last = (day.isoformat() for day in request.days)
                # yfinance answers an equal question from memory: the time that is left makes each one different.
                seconds_left = deadline - time.monotonic()
                frame = ticker.history(
                    start=first, end=last, auto_adjust=False, actions=False, keepna=True, timeout=seconds_left
                )
                currency = ticker.history_metadata.get("currency") or ""
                return _from_frame(request, frame, printable(str(currency))[:LONGEST_CURRENCY])
        except _Failure:
            raise
        except Exception as error:
            raise _failure(error, yfinance) from error


@contextmanager
def _quiet_yfinance() -> Iterator[Any]:
    """Yield the package; within, it writes no log, warning or file, and its exceptions are raised."""
    log = logging.getLogger("yfinance")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import yfinance

        # Once more, since the import puts a filter before the first.
        warnings.simplefilter("ignore")
        # This folder cannot be made, so nothing is written.
        yfinance.set_tz_cache_location(os.path.join(os.devnull, "yfinance"))
        debug = yfinance.config.debug
        was_disabled = log.disabled
        hid_exceptions = debug.hide_exceptions
        log.disabled = True
        debug.hide_exceptions = False
        try:
            yield yfinance
        finally:
            log.disabled = was_disabled
            debug.hide_exceptions = hid_exceptions


@contextmanager
def _watched(session: Any, deadline: float) -> Iterator[None]:
    """Within, no request of a session outlives the deadline, and every answer is judged before yfinance sees it."""
    original_request = session.request
    refusals: list[int] = []

    def request(method: str, url: str, **options: object) -> object:
        seconds_left = deadline - time.monotonic()
        if seconds_left <= 0:
            raise _Failure("timeout", "no time is left for all that has to be asked")
        options["timeout"] = seconds_left
        if CHART not in url:
            # Prices come without a cookie too, so the request for one gets less of the time.
            options["timeout"] = seconds_left / 4
        response = original_request(method=method, url=url, **options)
        # The address of the answer may be another one, such as that of a consent form.
        if CHART in response.url:
            _judge(response, refusals)
        return response

    session.request = request
    try:
        yield
    finally:
        del session.request


def _judge(response: Any, refusals: list[int]) -> None:
    """Raise `_Failure` for an answer without prices; `refusals` collects those that denied access."""
    status = response.status_code
    if status == 429:
        raise _Failure("rate-limited", f"HTTP {status}")
    if status >= 500:
        raise _Failure("server", f"HTTP {status}")
    if status in (401, 403):
        refusals.append(status)
        # After the first refusal, yfinance tries another kind of cookie.
        if len(refusals) > 1:
            raise _Failure("refused", f"HTTP {status}")
        return

    try:
        answer = json.loads(response.content)
    except ValueError as error:
        cause: Cause = "not-json"
        if response.content.lstrip().startswith(b"{"):
            cause = "truncated"
        raise _Failure(cause, f"HTTP {status}") from error
    fault = (answer.get("chart") or {}).get("error")
    if fault:
        causes: dict[int, Cause] = {400: "empty", 404: "unknown-ticker"}
        raise _Failure(causes.get(status, "unexpected"), f"HTTP {status}: {fault.get('description')}")


def _failure(error: Exception, yfinance: Any) -> _Failure:
    """Return the failure behind an exception of yfinance or curl."""
    from curl_cffi.requests import exceptions as curl

    if isinstance(error, curl.RequestException):
        return _Failure(_cause_of(error), re.sub(r"^.*?curl: \(\d+\) |\. See http.*$", "", str(error)))
    if isinstance(error, json.JSONDecodeError):
        return _Failure("not-json")
    if isinstance(error, yfinance.exceptions.YFTickerMissingError):
        return _Failure("empty")
    return _Failure("unexpected", f"yfinance {yfinance.__version__}, {type(error).__name__}: {error}")


def _cause_of(error: Any) -> Cause:
    """Return the cause of a failed request of curl."""
    from curl_cffi import CurlECode
    from curl_cffi.requests import exceptions as curl

    unreachable = (CurlECode.COULDNT_CONNECT, CurlECode.COULDNT_RESOLVE_HOST, CurlECode.COULDNT_RESOLVE_PROXY)
    if isinstance(error, curl.Timeout):
        return "timeout"
    if isinstance(error, curl.CertificateVerifyError):
        return "certificate"
    if error.code in unreachable or isinstance(error, curl.ProxyError):
        return "offline"
    return "truncated"


def _from_frame(request: Request, frame: Any, currency: str) -> Quotes:
    """Return the prices of a frame of yfinance; days without a price are left out."""
    dates = frame.index.tz_localize(None).to_numpy().astype("datetime64[D]")
    first, last = (np.datetime64(day) for day in request.days)
    is_requested = (dates >= first) & (dates < last)
    prices = frame[["Close", "Adj Close"]].to_numpy(np.float64).T
    # Yahoo also sends 0 for a missing price.
    has_price = is_requested & np.isfinite(prices).all(axis=0) & prices.any(axis=0)
    if not has_price.any():
        raise _Failure("empty", f"{np.count_nonzero(is_requested)} days, none with a price")

    close, adj_close = prices[:, has_price]
    return Quotes(
        ticker=request.ticker,
        dates=dates[has_price],
        close=close,
        adj_close=adj_close,
        currency=currency,
        fetched=request.today,
        dropped=int(np.count_nonzero(is_requested & ~has_price)),
        source="download",
    )
