"""Daily prices of one ticker from Yahoo, by yfinance, behind a cache (`quotes.py`).

Only finished days are asked for: those before today in UTC, because every exchange has closed its yesterday by then. A
range that had ended a day before it was fetched is complete and never asked for again; another is good for the day.
yfinance's own files (a cookie, a time zone) are switched off: they save two small requests, and a full disk, a damaged
file or a network drive makes them fail the download. Yahoo's data is for personal use: never publish a download.
"""

from __future__ import annotations

import functools
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

from jaxseq.common.errors import UsageError
from jaxseq.common.text import printable
from jaxseq.data.cache import cache_folder
from jaxseq.data.yahoo.quotes import Quotes, Request, check_request, read, write

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
"""Message of each cause: the failure, and what to do about it."""
CHART = "/finance/chart/"
LONGEST_CURRENCY = 20
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


class _Failure(Exception):
    def __init__(self, cause: Cause, detail: str = "") -> None:
        super().__init__(cause, detail)
        self.cause: Cause = cause
        self.detail = f" ({printable(' '.join(detail.split()))[:160]})" if detail else ""


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
    request = check_request(ticker, start, end, today or datetime.now(UTC).date())
    file = (cache or cache_folder()) / request.name
    kept, damage = read(file, request)
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
    return _noted(quotes, damage and f"{damage}: it was downloaded again", write(file, request, quotes))


def _is_current(kept: Quotes, request: Request) -> bool:
    # a day of grace after the end: some prices, those of funds say, come in late
    return kept.fetched == request.today or (request.end is not None and kept.fetched > request.end)


def _noted(quotes: Quotes, *notes: str) -> Quotes:
    days = quotes.dropped + len(quotes.dates)
    gaps = f"{quotes.ticker}: {quotes.dropped} of {days} days came without a price and were left out"
    return quotes._replace(notes=tuple(filter(None, (gaps if quotes.dropped else "", *notes))))


def _download(request: Request, session: Any, patience: Patience) -> Quotes:
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


def _attempt(request: Request, session: Any, seconds: float) -> Quotes:
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
                currency = ticker.history_metadata.get("currency") or ""
                return _from_frame(request, frame, printable(str(currency))[:LONGEST_CURRENCY])
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
    """Return the failure behind an exception of yfinance or curl."""
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


def _from_frame(request: Request, frame: Any, currency: str) -> Quotes:
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
