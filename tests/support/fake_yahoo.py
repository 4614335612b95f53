"""Yahoo's price service on 127.0.0.1: a CONNECT proxy that answers, over TLS, for the hosts that yfinance asks.

Nothing of yfinance is patched. A client is told to use the proxy and to trust a throw-away certificate authority, by
`session` within this process or by `environment` in another one, and sees the statuses and the JSON of the real
service. Whatever it asks is in `asked`; a host that is not Yahoo's gets no connection.
"""

import contextlib
import datetime
import html
import json
import socket
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import parse_qs, quote, urlsplit
from zoneinfo import ZoneInfo

import trustme
from curl_cffi import requests

CONSENT = "consent.yahoo.com"
HOSTS = ("fc.yahoo.com", "guce.yahoo.com", CONSENT, "query1.finance.yahoo.com", "query2.finance.yahoo.com")


class Row(NamedTuple):
    """One trading day; None is what the service sends where it has no price."""

    date: datetime.date
    close: float | None
    adj_close: float | None


class Asked(NamedTuple):
    """One request as the server saw it."""

    host: str
    path: str
    query: dict[str, list[str]]

    @property
    def prices(self) -> bool:
        """Asks for the prices of a range, not for the ticker's time zone."""
        return "/chart/" in self.path and "period1" in self.query


def trading_days(first="2024-01-02", count=40):
    """Rows on Monday to Friday whose prices have all the digits a float can have."""
    days = (datetime.date.fromisoformat(first) + datetime.timedelta(days=n) for n in range(2 * count))
    week = [day for day in days if day.weekday() < 5][:count]
    return [Row(day, 100 + n / 7, (100 + n / 7) * 0.97123) for n, day in enumerate(week)]


def _seconds(day, exchange, hour=0):
    return int(datetime.datetime(day.year, day.month, day.day, hour, tzinfo=ZoneInfo(exchange)).timestamp())


def chart(ticker, rows, currency="USD", exchange="America/New_York"):
    """The body of a good answer: meta data, opening times in seconds since 1970, and one list for each column."""
    meta = {
        "currency": currency,
        "symbol": ticker,
        "exchangeName": "NMS",
        "instrumentType": "EQUITY",
        "gmtoffset": -18000,
        "timezone": "EST",
        "exchangeTimezoneName": exchange,
        "priceHint": 2,
        "dataGranularity": "1d",
        "range": "",
        "validRanges": ["1d", "5d", "1mo", "1y", "max"],
    }
    close = [row.close for row in rows]
    columns = dict.fromkeys(("open", "high", "low", "close"), close)
    columns["volume"] = [1000 if price else price for price in close]  # no trade, no price
    result = {"meta": meta, "indicators": {"quote": [columns if rows else {}], "adjclose": [{}]}}
    if rows:
        result["timestamp"] = [_seconds(row.date, exchange, hour=9) for row in rows]
        result["indicators"]["adjclose"] = [{"adjclose": [row.adj_close for row in rows]}]
    return {"chart": {"result": [result], "error": None}}


def _error(room, code, description):
    return {room: {"result": None, "error": {"code": code, "description": description}}}


class FakeYahoo:
    """The running service, with its certificate in `folder`.

    `answers` tells how the next requests for a chart are answered; the last of them stays:

        ok          the prices of `rows`                     429, 404, 500   that status, 404 with Yahoo's JSON
        html        a page, status 200                       refused         401, for the crumb as well
        truncated   hangs up half-way                        half            valid HTTP, half the JSON
        slow        says nothing for `delay` seconds         drip            a byte now and then
        empty       a chart without prices                   no-data         400: there are none in this range
        consent     sends on to a form to be agreed to       odd, list       JSON that is no chart

    Cookies and the crumb come after `cookie_delay` seconds. Without `only_the_range` every row is sent, as Yahoo adds
    the running day to a range that ended before.
    """

    def __init__(self, folder):
        self.answers, self.rows, self.asked, self.strangers = ["ok"], trading_days(), [], []
        self.delay, self.cookie_delay, self.only_the_range = 30.0, 0.0, True
        self.currency, self.exchange = "USD", "America/New_York"
        self.closing, self.open = threading.Event(), set()
        authority = trustme.CA()
        self.certificate = folder / "authority.pem"
        authority.cert_pem.write_to_path(self.certificate)
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*HOSTS).configure_cert(self.tls)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"yahoo": self}))
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def session(self, kind=requests.Session):
        """A session of this process whose every request ends up here."""
        proxies = {"https": self.address, "http": self.address}
        return kind(impersonate="chrome", proxies=proxies, verify=str(self.certificate))

    def environment(self):
        """Variables that send the requests of another process here."""
        proxy = dict.fromkeys(("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY"), self.address)
        return proxy | {"REQUESTS_CA_BUNDLE": str(self.certificate), "NO_PROXY": "", "no_proxy": ""}

    def charts(self):
        """Requests for a chart so far, be it for prices or for the time zone."""
        return [request for request in self.asked if "/chart/" in request.path]

    def next_answer(self):
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def close(self):
        """Stop: from now on the proxy's port refuses connections, and those there were are gone."""
        if not self.closing.is_set():
            self.closing.set()
            self.server.shutdown()
            self.server.server_close()
            self.thread.join()
            for connection in list(self.open):
                with contextlib.suppress(OSError):  # the client was faster
                    connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else every answer waits 40 ms for an acknowledgement
    yahoo: FakeYahoo

    def log_message(self, *args):
        """Keep the screen clean."""

    def do_CONNECT(self):
        self.host = self.path.partition(":")[0]
        if self.host not in HOSTS:
            self.yahoo.strangers.append(self.path)
            return self.send_error(502)
        self.send_response_only(200)
        self.end_headers()
        try:
            self.connection = self.yahoo.tls.wrap_socket(self.connection, server_side=True)
        except OSError:  # a client that does not trust the certificate hangs up
            self.close_connection = True
            return None
        self.yahoo.open.add(self.connection)
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", buffering=0)
        self.close_connection = False
        return None

    def finish(self):
        super().finish()
        self.yahoo.open.discard(self.connection)
        self.connection.close()  # the TLS socket that took the place of the one that the server knows

    def do_POST(self):
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self._send(302, "", "text/html", Location=form["originalDoneUrl"][0])

    def do_GET(self):
        parts = urlsplit(self.path)
        asked = Asked(self.host, parts.path, parse_qs(parts.query))
        self.yahoo.asked.append(asked)
        try:
            self._answer(asked)
        except OSError:  # the client had enough and hung up
            self.close_connection = True

    def _answer(self, asked):
        if "/chart/" in asked.path:
            return self._chart(asked, self.yahoo.next_answer())
        if asked.host == CONSENT:
            done = html.escape(asked.query["done"][0])
            form = f'<form method="post"><input type="hidden" name="originalDoneUrl" value="{done}"></form>'
            return self._send(200, f"<html><body>{form}</body></html>", "text/html")
        self.yahoo.closing.wait(self.yahoo.cookie_delay)
        if asked.path.endswith("/getcrumb"):
            refused = self.yahoo.answers == ["refused"]
            denial = json.dumps(_error("finance", "Unauthorized", "Invalid Cookie"))
            return self._send(401 if refused else 200, denial if refused else "a.crumb", "text/plain")
        if asked.host == "fc.yahoo.com":
            cookie = "A3=d=fake; Domain=.yahoo.com; Path=/; Max-Age=31536000; Secure; HttpOnly"
            return self._send(404, "", "text/html", **{"Set-Cookie": cookie})
        return self._send(200, "<html><body>Yahoo</body></html>", "text/html")

    def _chart(self, asked, answer):
        ticker = asked.path.rpartition("/")[2]
        good = json.dumps(chart(ticker, self._rows(asked), self.yahoo.currency, self.yahoo.exchange))
        gone = _error("chart", "Not Found", "No data found, symbol may be delisted")
        none = _error("chart", "Bad Request", "Data doesn't exist for startDate = 1, endDate = 2")
        if answer == "consent":
            done = quote(f"https://{asked.host}{self.path}", safe="")
            return self._send(302, "", "text/html", Location=f"https://{CONSENT}/v2/collectConsent?done={done}")
        if answer in ("truncated", "drip"):
            return self._start_only(good, answer)
        if answer == "slow":
            self.yahoo.closing.wait(self.yahoo.delay)
        status, body = {
            "429": (429, "Edge: Too Many Requests"),
            "404": (404, json.dumps(gone)),
            "500": (500, "<html><body>Internal Server Error</body></html>"),
            "html": (200, "<!doctype html><html><body>Will be back</body></html>"),
            "half": (200, good[: len(good) // 2]),
            "empty": (200, json.dumps(chart(ticker, []))),
            "no-data": (400, json.dumps(none)),
            "refused": (401, json.dumps(_error("finance", "Unauthorized", "Invalid Crumb"))),
            "list": (200, "[]"),
            "odd": (200, json.dumps({"chart": {"result": [{"meta": {"symbol": ticker}}], "error": None}})),
        }.get(answer, (200, good))
        return self._send(status, body, "application/json" if body[0] in "{[" else "text/html")

    def _rows(self, asked):
        if not asked.prices:
            return self.yahoo.rows[-1:]
        if not self.yahoo.only_the_range:
            return self.yahoo.rows
        first, last = (int(asked.query[name][0]) for name in ("period1", "period2"))
        return [row for row in self.yahoo.rows if first <= _seconds(row.date, self.yahoo.exchange) < last]

    def _send(self, status, body, kind, **headers):
        content = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind};charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def _start_only(self, body, answer):
        """Promise all of the body; then hang up half-way, or send a byte now and then."""
        content = body.encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json;charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.close_connection = True
        if answer == "truncated":
            self.wfile.write(content[: len(content) // 2])
            return
        for byte in content:
            if self.yahoo.closing.wait(0.05):
                return
            self.wfile.write(bytes([byte]))
