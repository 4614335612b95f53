"""Prices from Yahoo and their cache: yfinance as it is, talking to a server on this machine that can misbehave."""

import datetime
import importlib.util
import itertools
import json
import logging
import math
import os
import socket
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
from curl_cffi import requests
from curl_cffi.requests.exceptions import DNSError
from fake_yahoo import FakeYahoo, Row, trading_days

from jaxseq.common.errors import UsageError
from jaxseq.data.cache import cache_folder
from jaxseq.data.yahoo import client
from jaxseq.data.yahoo.client import Cause, Connection, DownloadError
from jaxseq.data.yahoo.quotes import digest

TODAY = datetime.date(2024, 6, 3)
START, END = "2024-01-02", "2024-02-01"
QUICK = Connection(attempt=5.0, pause=0.01)
HASTY = Connection(attempt=0.6, pause=0.01)
numbers = itertools.count()


@pytest.fixture(autouse=True)
def nothing_leaves_this_machine(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, address)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def service(tmp_path):
    service = FakeYahoo(tmp_path)
    yield service
    service.close()
    assert service.strangers == []


@pytest.fixture
def ticker():
    """A new one for every test, since yfinance remembers time zones for as long as the process lives."""
    return f"T{next(numbers)}"


@pytest.fixture
def fetch(service, ticker, tmp_path):
    """`fetch` with this test's service, ticker and cache."""
    session = service.session()

    def fetch(start=START, end=END, ticker=ticker, session=session, patience=QUICK, **options):
        options = {"cache": tmp_path / "cache", "today": TODAY, **options}
        return client.fetch(ticker, start, end, connection=patience._replace(session=session), **options)

    return fetch


def only_file(tmp_path):
    (file,) = (tmp_path / "cache").iterdir()
    return file


def assert_same(quotes, other):
    for name in ("dates", "close", "adj_close"):
        np.testing.assert_array_equal(getattr(quotes, name), getattr(other, name), strict=True)
    ignored = {"dates": 0, "close": 0, "adj_close": 0, "source": 0, "notes": 0}
    assert quotes._replace(**ignored) == other._replace(**ignored)


def expect(rows, quotes):
    assert quotes.dates.tolist() == [row.date for row in rows]
    assert quotes.close.tolist() == [row.close for row in rows]
    assert quotes.adj_close.tolist() == [row.adj_close for row in rows]


def failure(fetch, **options):
    with pytest.raises(DownloadError) as caught:
        fetch(**options)
    assert "\n" not in str(caught.value)
    assert "://" not in str(caught.value)
    return caught.value


def test_a_download_is_what_the_service_sent_to_the_last_bit(service, fetch, ticker):
    service.currency = "GBp"
    quotes = fetch()
    expect([row for row in service.rows if START <= str(row.date) < END], quotes)
    assert quotes.dates.dtype == "datetime64[D]"
    assert quotes[:1] + quotes[4:] == (ticker, "GBp", TODAY, 0, "download", ())


def test_a_second_fetch_is_the_same_and_asks_nobody(service, fetch):
    first = fetch()
    before = len(service.asked)
    second = fetch()
    assert len(service.asked) == before
    assert (first.source, second.source) == ("download", "cache")
    assert_same(second, first)


def test_pandas_reads_the_cached_file_to_the_last_bit(fetch, tmp_path):
    quotes = fetch()
    table = pd.read_csv(only_file(tmp_path), comment="#", converters={"adj_close": float})
    assert list(table) == ["date", "close", "adj_close"]
    np.testing.assert_array_equal(table["adj_close"], quotes.adj_close)


def test_a_refresh_asks_again_and_replaces_what_was_kept(service, fetch):
    fetch()
    service.rows = trading_days(count=5)
    assert len(fetch().dates) > 5
    assert len(fetch(refresh=True).dates) == 5
    assert len(fetch().dates) == 5
    assert sum(request.prices for request in service.asked) == 2


def test_case_does_not_make_another_ticker(service, fetch, ticker):
    fetch()
    before = len(service.asked)
    assert fetch(ticker=ticker.lower()).ticker == ticker
    assert len(service.asked) == before


def test_other_ranges_are_kept_apart(fetch, tmp_path):
    ranges = [(START, END), (START, None), (None, END), ("2024-01-03", END), (START, "2024-02-02")]
    lengths = [len(fetch(*days).dates) for days in ranges]
    assert len(list((tmp_path / "cache").iterdir())) == 5
    assert lengths == [len(fetch(*days).dates) for days in ranges] == [22, 40, 22, 21, 23]


def test_an_open_start_asks_for_all_there_is(service, fetch):
    fetch(None)
    (query,) = (request.query for request in service.asked if request.prices)
    assert int(query["period1"][0]) < datetime.datetime(1900, 1, 3, tzinfo=datetime.UTC).timestamp()


def test_a_day_is_asked_for_only_when_it_is_over(service, fetch):
    day = datetime.date(2024, 1, 10)
    assert fetch(end=None, today=day).dates[-1] == np.datetime64("2024-01-09")
    assert fetch(end="2031-01-01", today=day).dates[-1] == np.datetime64("2024-01-09")


def test_rows_that_were_not_asked_for_are_left_out(service, fetch, monkeypatch):
    monkeypatch.setattr(service, "only_the_range", False)
    quotes = fetch("2024-01-05", "2024-01-11")
    assert quotes.dates.astype(str).tolist() == ["2024-01-05", "2024-01-08", "2024-01-09", "2024-01-10"]


@pytest.mark.parametrize("end", [None, "2024-06-10", "2024-06-03"])
def test_a_range_that_is_not_over_is_good_for_the_day(service, fetch, end):
    fetch(end=end)
    asked = len(service.asked)
    assert fetch(end=end).source == "cache"
    assert len(service.asked) == asked
    later = fetch(end=end, today=TODAY + datetime.timedelta(days=1))
    assert (later.source, later.fetched) == ("download", datetime.date(2024, 6, 4))


def test_a_range_that_was_over_is_never_asked_for_again(service, fetch):
    fetch(end="2024-06-02")
    service.close()
    quotes = fetch(end="2024-06-02", today=datetime.date(2034, 1, 1))
    assert (quotes.source, quotes.fetched, quotes.notes) == ("cache", TODAY, ())


@pytest.mark.parametrize("answer", ["offline", "429", "500", "html"])
def test_without_an_answer_the_older_download_is_used_and_said(service, fetch, ticker, answer):
    first = fetch(end=None)
    service.answers = [answer]
    if answer == "offline":
        service.close()
    quotes = fetch(end=None, today=datetime.date(2024, 7, 1))
    assert_same(quotes, first)
    (note,) = quotes.notes
    assert note.startswith(f"{ticker} from 2024-01-02 to today, 2024-07-01: ")
    assert note.endswith("; using the download of 2024-06-03, which ends on 2024-02-26")
    assert quotes.source == "cache"


def test_without_yfinance_the_cache_is_read_and_a_download_is_refused(service, fetch, ticker, monkeypatch):
    first = fetch(end="2024-06-02")
    monkeypatch.setattr(client.importlib.util, "find_spec", lambda name: None)

    assert_same(fetch(end="2024-06-02", today=datetime.date(2034, 1, 1)), first)
    asked = len(service.asked)
    with pytest.raises(UsageError) as caught:
        fetch(end="2024-06-03")
    assert str(caught.value).startswith(
        f"{ticker} from 2024-01-02 to 2024-06-03: yfinance and curl_cffi not installed, which ask Yahoo; needed pip "
    )
    assert len(service.asked) == asked


@pytest.mark.parametrize(("answer", "cause"), [("404", "unknown-ticker"), ("no-data", "empty")])
def test_an_older_download_does_not_hide_what_yahoo_says(service, fetch, answer, cause):
    fetch(end=None)
    service.answers = [answer]
    assert failure(fetch, end=None, today=datetime.date(2024, 7, 1)).cause == cause


def test_a_refresh_that_fails_is_an_error_that_names_what_is_kept(service, fetch, tmp_path):
    first = fetch()
    service.answers = ["500"]
    error = failure(fetch, refresh=True)
    assert f"; the download of 2024-06-03 is still in {only_file(tmp_path)}" in str(error)
    assert_same(fetch(), first)


@pytest.mark.parametrize(
    ("answer", "cause", "charts", "words"),
    [
        ("429", "rate-limited", 2, "Yahoo takes no more requests from here for now (HTTP 429): try again in an hour"),
        ("500", "server", 2, "Yahoo's server failed (HTTP 500): try again later, or use --data.path"),
        ("truncated", "truncated", 2, "the answer broke off ("),
        ("half", "truncated", 2, "the answer broke off (HTTP 200): try again"),
        ("404", "unknown-ticker", 1, "no such ticker (HTTP 404: No data found, symbol may be delisted): check its"),
        ("html", "not-json", 1, "a web page came in place of prices (HTTP 200): a proxy's or log-in page may"),
        (
            "no-data",
            "empty",
            1,
            "no prices in this range (HTTP 400: Data doesn't exist for startDate = 1, endDate = 2)",
        ),
        ("empty", "empty", 2, "Yahoo has no prices in this range: choose another start or end"),
        ("refused", "refused", 2, "Yahoo refused access (HTTP 401): try again later"),
        ("consent", "not-json", 2, "a web page came in place of prices: a proxy's"),
        ("odd", "unexpected", 1, "KeyError: 'exchangeTimezoneName'): try another version of yfinance"),
        ("list", "unexpected", 1, "yfinance could not read Yahoo's answer (yfinance 1."),
    ],
)
def test_every_failure_has_its_cause_and_is_asked_about_at_most_twice(
    service, fetch, ticker, tmp_path, answer, cause, charts, words
):
    service.answers = [answer]
    error = failure(fetch)
    assert error.cause == cause
    assert str(error).startswith(f"{ticker} from 2024-01-02 to 2024-02-01: ")
    assert words in str(error)
    assert len(service.charts()) == charts
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("answer", ["slow", "drip"])
def test_a_service_that_is_too_slow_is_asked_twice_and_no_longer_than_the_time_set(service, fetch, answer):
    fetch()  # import what takes its time
    asked = len(service.charts())
    service.answers = [answer]
    begin = time.monotonic()
    error = failure(fetch, refresh=True, patience=HASTY)
    assert 1.2 < time.monotonic() - begin < 4
    assert error.cause == "timeout"
    assert len(service.charts()) - asked == 2


@pytest.mark.slow
@pytest.mark.parametrize("answer", ["slow", "drip", "429", "500"])
def test_with_the_times_that_users_get_every_failure_ends_within_15_seconds(service, fetch, answer):
    service.answers, service.cookie_delay = [answer], 30.0
    begin = time.monotonic()
    failure(fetch, patience=client.DEFAULT)
    assert time.monotonic() - begin < 15


def test_no_request_is_begun_when_the_time_is_up(service, fetch):
    class Dawdling(requests.Session):
        def request(self, *arguments, **options):
            response = super().request(*arguments, **options)
            time.sleep(0.6)
            return response

    error = failure(fetch, session=service.session(Dawdling), patience=HASTY)
    assert error.cause == "timeout"
    assert service.charts() == []
    assert len(service.asked) == 2


def test_a_slow_cookie_leaves_time_for_the_prices_and_nothing_is_said_of_it(service, fetch, caplog):
    service.cookie_delay = 30.0
    begin = time.monotonic()
    assert len(fetch(patience=Connection(attempt=3.0, pause=0.01)).dates) == 22
    assert time.monotonic() - begin < 3
    assert caplog.records == []


@pytest.mark.parametrize("answer", ["429", "500", "truncated"])
def test_what_passes_is_over_at_the_second_attempt_after_a_pause(service, fetch, answer):
    service.answers = [answer, "ok"]
    begin = time.monotonic()
    assert len(fetch(patience=Connection(attempt=5.0, pause=0.5)).dates) == 22
    assert time.monotonic() - begin > 0.5


def test_a_refused_cookie_is_tried_once_more_by_yfinance_itself(service, fetch):
    service.answers = ["refused", "ok"]
    assert len(fetch().dates) == 22


def test_a_consent_form_is_still_yfinances_to_fill_in(service, fetch):
    service.answers = ["consent", "ok"]
    assert len(fetch().dates) == 22
    assert "consent.yahoo.com" in {request.host for request in service.asked}


def test_no_network_is_said_at_once(service, fetch):
    service.close()
    begin = time.monotonic()
    error = failure(fetch, patience=Connection(attempt=5.0, pause=5.0))
    assert error.cause == "offline"
    assert "Yahoo cannot be reached (" in str(error)
    assert "python -m jaxseq.train aapl, which needs no network" in str(error)
    assert time.monotonic() - begin < 2


def test_no_name_server_is_no_network(fetch):
    class Nameless(requests.Session):
        def request(self, method, url, **options):
            raise DNSError("Failed to perform, curl: (6) Could not resolve host: x. See https://curl.se/ first.", 6)

    error = failure(fetch, session=Nameless())
    assert error.cause == "offline"
    assert "Yahoo cannot be reached (Could not resolve host: x): connect to the network" in str(error)


def test_a_certificate_that_is_not_trusted_is_not_offline(service, fetch):
    session = requests.Session(impersonate="chrome", proxies={"https": service.address})
    error = failure(fetch, session=session)
    assert error.cause == "certificate"
    assert service.asked == []


def test_every_cause_has_its_words():
    assert set(client.ADVICE) == set(get_args(Cause))


def test_days_without_a_price_are_dropped_and_counted_now_and_later(service, fetch, ticker):
    missing = {3: (None, None), 5: (101.0, None), 8: (None, 1.0), 11: (0.0, 0.0)}
    # yfinance reads by orjson where it is installed, which takes an answer with an infinite number for no JSON.
    if importlib.util.find_spec("orjson") is None:
        missing[12] = (math.inf, 1.0)
    service.rows = [
        row._replace(close=missing.get(n, row[1:])[0], adj_close=missing.get(n, row[1:])[1])
        for n, row in enumerate(service.rows)
    ]
    note = f"{ticker}: {len(missing)} of 22 days came without a price and were left out"
    for quotes in (fetch(), fetch()):
        expect([row for n, row in enumerate(service.rows[:22]) if n not in missing], quotes)
        assert (quotes.dropped, quotes.notes) == (len(missing), (note,))


def test_a_range_without_one_price_is_empty(service, fetch):
    service.rows = [Row(row.date, None, None) for row in service.rows]
    error = failure(fetch)
    assert error.cause == "empty"
    assert "(22 days, none with a price)" in str(error)


def test_a_negative_price_is_a_price(service, fetch):
    service.rows[4] = Row(service.rows[4].date, -37.63, -37.63)
    assert fetch().close[4] == -37.63


@pytest.mark.parametrize("exchange", ["Asia/Tokyo", "Pacific/Auckland", "America/Sao_Paulo", "America/New_York"])
def test_dates_are_the_days_of_the_exchange(service, fetch, exchange):
    service.exchange = exchange
    expect(service.rows[:22], fetch())


@pytest.mark.parametrize(
    "ticker",
    [
        "",
        "../../x",
        "..",
        ".x",
        "-x",
        "a/b",
        "a\\b",
        "a b",
        "A\n",
        "A" * 21,
        "ÄÖ",
        "ß",
        "A\0",
        "a%2f",
        "C:x",
        "~",
        "\u0661",
    ],
)
def test_a_ticker_that_is_none_is_refused_before_anything_else(service, fetch, tmp_path, ticker):
    with pytest.raises(UsageError, match="must be 1 to 20 letters, digits or") as caught:
        fetch(ticker=ticker)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200
    assert service.asked == []
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("symbol", ["BRK-B", "^GSPC", "EURUSD=X", "0700.HK", "A" * 20])
def test_the_tickers_there_are_stay_inside_the_cache(fetch, tmp_path, symbol):
    quotes = fetch(ticker=symbol)
    assert only_file(tmp_path).name == f"{symbol}_2024-01-02_2024-02-01.csv"
    assert_same(fetch(ticker=symbol), quotes)


def test_an_isin_is_no_ticker(service, fetch):
    with pytest.raises(UsageError, match="'us0378331005' is an ISIN: give the ticker"):
        fetch(ticker="us0378331005")
    assert service.asked == []


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        ("2024-02-01", "2024-01-02", "start 2024-02-01 must be before end 2024-01-02"),
        ("2024-02-01", "2024-02-01", "start 2024-02-01 must be before end 2024-02-01"),
        (
            "2024-06-03",
            None,
            "start 2024-06-03 must be before end 2024-06-03 (today in UTC: later days are not finished)",
        ),
        ("2030-01-01", "2031-01-01", "start 2030-01-01 must be before end 2024-06-03 (today in UTC"),
        (None, "1850-01-01", "start 1900-01-01 must be before end 1850-01-01"),
        ("01.02.2024", None, "start '01.02.2024' is no date: it must be YYYY-MM-DD"),
        ("2024-02-30", None, "start '2024-02-30' is no date"),
        ("20240201", None, "start '20240201' is no date"),
        ("2024-W05-1", None, "start '2024-W05-1' is no date"),
        (None, "2024-1-2", "end '2024-1-2' is no date"),
        (None, "", "end '' is no date"),
        (datetime.datetime(2024, 1, 2), None, "start '2024-01-02 00:00:00' is no date"),
    ],
)
def test_dates_that_cannot_be_are_refused_with_both_of_them(service, fetch, start, end, words):
    with pytest.raises(UsageError) as caught:
        fetch(start, end)
    assert words in str(caught.value)
    assert service.asked == []


def test_dates_may_be_dates(fetch):
    assert_same(fetch(datetime.date(2024, 1, 2), datetime.date(2024, 2, 1)), fetch())


DAMAGES = {
    "a price": lambda content: content.replace(b"2024-01-03,100", b"2024-01-03,101", 1),
    "the fetch date": lambda content: content.replace(b'"fetched": "2024-06-03"', b'"fetched": "2034-06-03"'),
    "the currency": lambda content: content.replace(b"USD", b"EUR"),
    "the end": lambda content: content[: len(content) // 2],
    "the first line": lambda content: content.partition(b"\n")[2],
    "another comment": lambda content: b"# 5\n" + content,
    "the sha256": lambda content: content.replace(b'"sha256"', b'"sha255"'),
    "everything": lambda content: b"",
    "not text": lambda content: b"# {\xff\xfe\n" + content,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_said_and_downloaded_again(service, fetch, tmp_path, damage):
    first = fetch()
    file = only_file(tmp_path)
    content = file.read_bytes()
    assert DAMAGES[damage](content) != content
    file.write_bytes(DAMAGES[damage](content))
    again = fetch()
    assert again.source == "download"
    assert_same(again, first)
    (note,) = again.notes
    assert note.startswith(f"the cache file {file} is damaged (")
    assert note.endswith("): it was downloaded again")
    assert file.read_bytes() == content


def test_a_damaged_file_and_no_network_is_an_error_that_names_the_file(service, fetch, tmp_path):
    fetch()
    file = only_file(tmp_path)
    file.write_bytes(file.read_bytes()[:-1])
    service.close()
    error = failure(fetch)
    assert error.cause == "offline"
    assert f"; the cache file {file} is damaged (its sha256 differs)" in str(error)


def test_another_tickers_file_is_not_taken_for_this_one(fetch, ticker, tmp_path):
    fetch()
    file = only_file(tmp_path)
    file.rename(file.with_name("OTHER_2024-01-02_2024-02-01.csv"))
    (note,) = fetch(ticker="OTHER").notes
    assert f"is damaged (it has {{'ticker': '{ticker}'}}, not {{'ticker': 'OTHER'}})" in note


def test_a_file_of_a_later_format_is_not_guessed_at(fetch, tmp_path):
    quotes = fetch()
    head, _, body = only_file(tmp_path).read_bytes().partition(b"\n")
    record = json.loads(head[2:]) | {"format": 2}
    del record["sha256"]
    record["sha256"] = digest(record, body)
    only_file(tmp_path).write_bytes(b"# " + json.dumps(record).encode() + b"\n" + body)
    again = fetch()
    assert_same(again, quotes)
    assert "it has {'format': 2}, not {'format': 1}" in again.notes[0]


def test_the_first_line_says_what_the_file_is(fetch, ticker, tmp_path):
    fetch(end=None)
    record = json.loads(only_file(tmp_path).read_text().splitlines()[0].removeprefix("# "))
    assert len(record.pop("sha256")) == 64
    assert record.pop("yfinance")[0] == "1"
    assert record == {
        "format": 1, "ticker": ticker, "start": START, "end": None, "fetched": "2024-06-03", "currency": "USD", "dropped": 0
    }  # fmt: skip


def test_a_folder_in_the_place_of_the_file_costs_the_cache_and_not_the_prices(fetch, ticker, tmp_path):
    folder = tmp_path / "cache" / f"{ticker}_{START}_{END}.csv"
    folder.mkdir(parents=True)
    quotes = fetch()
    assert len(quotes.dates) == 22
    unread, unwritten = quotes.notes
    assert unread.startswith(f"the cache file {folder} cannot be read (")
    assert unwritten.startswith(f"the cache file {folder} cannot be written (")
    assert only_file(tmp_path) == folder


def test_a_cache_that_cannot_be_made_costs_the_cache_and_not_the_prices(fetch, tmp_path):
    (tmp_path / "file").write_text("")
    quotes = fetch(cache=tmp_path / "file" / "cache")
    assert len(quotes.dates) == 22
    assert [note.rpartition(" (")[2] for note in quotes.notes] == ["Not a directory): this download is not kept"]


def test_a_write_that_is_interrupted_leaves_the_older_file_whole(service, fetch, tmp_path, monkeypatch):
    first = fetch()
    service.rows = trading_days(count=5)

    def interrupt(*paths):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fetch(refresh=True)
    assert_same(fetch(), first)
    only_file(tmp_path)


def test_what_a_killed_process_left_behind_is_never_read(fetch, tmp_path):
    first = fetch()
    file = only_file(tmp_path)
    file.with_name(f".{file.name}.abc").write_bytes(file.read_bytes()[:100])
    file.unlink()
    assert_same(fetch(), first)
    assert file.exists()


def test_yfinances_settings_log_and_session_are_as_before(service, fetch, capfd):
    import yfinance

    session = service.session()
    before = list(warnings.filters)
    for answer in ("429", "ok", "500", "404", "refused", "html"):
        service.answers = [answer]
        try:
            fetch(session=session, refresh=True)
        except DownloadError as error:
            assert error.cause != "unexpected"
        assert yfinance.config.debug.hide_exceptions is True
        assert not logging.getLogger("yfinance").disabled
        assert "request" not in vars(session)
    assert warnings.filters == before
    assert capfd.readouterr() == ("", "")


def test_a_price_is_one_of_two(fetch):
    quotes = fetch()
    np.testing.assert_array_equal(quotes.series().values, quotes.adj_close)
    np.testing.assert_array_equal(quotes.series("close").values, quotes.close)
    np.testing.assert_array_equal(quotes.series().times, quotes.dates)
    with pytest.raises(UsageError, match="column: unknown; got 'open', needed one of adj_close, close"):
        quotes.series("open")


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    for name in ("JAXSEQ_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "jaxseq" / "prices"
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert cache_folder() == Path("/elsewhere/jaxseq/prices")
    monkeypatch.setenv("JAXSEQ_CACHE", "~/mine")
    assert cache_folder() == tmp_path / "mine"


PROGRAM = """
import sys
from jaxseq.data.yahoo.client import fetch
assert "yfinance" not in sys.modules and "curl_cffi" not in sys.modules
quotes = fetch("AAPL", "2024-01-02", "2024-02-01")
print(quotes.source, quotes.currency, quotes.fetched, quotes.notes)
print(*zip(quotes.dates.astype(str).tolist(), quotes.close.tolist(), quotes.adj_close.tolist()), sep="\\n")
"""


def run(tmp_path, environment, program=PROGRAM):
    home = {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "home" / "cache")}
    environment = {**os.environ, **environment, **home, "PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop("JAXSEQ_CACHE", None)
    return subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60
    )


def test_another_process_downloads_by_the_environments_proxy_and_the_next_needs_none(service, tmp_path):
    (tmp_path / "home").mkdir()
    first = run(tmp_path, service.environment())
    assert (first.returncode, first.stderr) == (0, "")
    rows = [(str(row.date), row.close, row.adj_close) for row in service.rows[:22]]
    assert first.stdout.splitlines()[1:] == [str(row) for row in rows]
    assert first.stdout.startswith("download USD ")
    written = [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert written == [tmp_path / "home/cache/jaxseq/prices/AAPL_2024-01-02_2024-02-01.csv"]
    service.close()
    second = run(tmp_path, service.environment())
    assert (second.returncode, second.stderr) == (0, "")
    assert second.stdout == first.stdout.replace("download", "cache", 1)
