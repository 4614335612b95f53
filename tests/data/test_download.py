"""Downloads from a server on this machine that can misbehave."""

import errno
import hashlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from served import Server, send

from jaxseq.common.errors import UsageError
from jaxseq.common.files import write_whole
from jaxseq.data import download
from jaxseq.data.cache import cache_folder
from jaxseq.data.download import FetchError, fetch

CONTENT = bytes(range(256)) * 300
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def chunked(handler, end=b"0\r\n\r\n"):
    handler.protocol_version = "HTTP/1.1"
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(f"{len(CONTENT):x}\r\n".encode() + CONTENT + b"\r\n" + end)
    handler.close_connection = True


def drip(handler):
    """One byte after the other: no socket's timeout ends this."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(1000):
        if not write(handler, b"x"):
            return
        time.sleep(0.05)


def write(handler, content):
    try:
        handler.wfile.write(content)
    except OSError:
        return False
    return True


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy", download.MIRROR):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("JAXSEQ_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def server():
    with Server() as server:
        server.content = CONTENT
        yield server


def failure(url, sha256=SHA256, **options):
    with pytest.raises(FetchError) as caught:
        fetch(url, sha256, "file.bin", **options)
    assert isinstance(caught.value, UsageError)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("answer", [send, chunked])
def test_a_download_is_kept_and_not_asked_for_again(server, tmp_path, answer):
    server.answer = answer
    file = fetch(server.url, SHA256, "file.bin")
    assert file == tmp_path / "cache" / "file.bin"
    assert file.read_bytes() == CONTENT
    assert fetch(server.url, SHA256, "file.bin") == file
    assert server.asked == ["/some/file.bin"]
    assert [path.name for path in file.parent.iterdir()] == ["file.bin"]


def test_another_cache_can_be_named(server, tmp_path):
    assert fetch(server.url, SHA256, "a.bin", cache=tmp_path / "x" / "y") == tmp_path / "x" / "y" / "a.bin"


@pytest.mark.parametrize("damaged", [CONTENT[:-1], b"", CONTENT[:9] + b"!" + CONTENT[10:]])
def test_a_damaged_copy_is_fetched_anew(server, damaged):
    file = fetch(server.url, SHA256, "file.bin")
    file.write_bytes(damaged)
    assert fetch(server.url, SHA256, "file.bin").read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_a_damaged_copy_that_cannot_be_fetched_anew_is_not_used_and_is_named(server):
    file = fetch(server.url, SHA256, "file.bin")
    file.write_bytes(b"other")
    server.answer = lambda handler: send(handler, b"gone", 404)
    other = hashlib.sha256(b"other").hexdigest()
    assert f"the copy {file} is damaged (sha256 {other[:12]}…, not {SHA256[:12]}…)" in str(failure(server.url))
    assert file.read_bytes() == b"other"


def test_other_bytes_than_those_meant_are_refused_with_both_sums_and_not_kept(server, tmp_path):
    server.answer = lambda handler: send(handler, b"<html>log in</html>")
    caught = failure(server.url)
    assert caught.cause == "checksum"
    other = hashlib.sha256(b"<html>log in</html>").hexdigest()
    assert f"its sha256 is {other[:12]}…, not {SHA256[:12]}…" in str(caught)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("status", "reason"), [(404, "Not Found"), (403, "Forbidden"), (500, "Internal"), (429, "Too")]
)
def test_the_status_of_a_refusal_is_said(server, status, reason):
    server.answer = lambda handler: send(handler, b"no", status)
    caught = failure(server.url)
    assert caught.cause == "status"
    assert f"the server answered HTTP {status} {reason}" in str(caught)
    assert "give it with --data.path" in str(caught)


@pytest.mark.parametrize(
    "answer",
    [
        lambda handler: send(handler, CONTENT[:1000], length=len(CONTENT)),
        lambda handler: chunked(handler, end=b""),
        lambda handler: handler.wfile.write(b""),
        lambda handler: handler.wfile.write(b"nonsense\r\n\r\n"),
    ],
    ids=["short", "without its last chunk", "no answer", "no HTTP"],
)
def test_an_answer_that_breaks_off_is_not_kept(server, tmp_path, answer):
    server.answer = answer
    caught = failure(server.url)
    assert caught.cause == "truncated"
    assert "the answer broke off" in str(caught)
    assert not (tmp_path / "cache").exists()


def test_how_much_came_of_how_much_is_said(server):
    server.answer = lambda handler: send(handler, CONTENT[:1000], length=len(CONTENT))
    assert "broke off after 1,000 of 76,800 bytes" in str(failure(server.url))


@pytest.mark.parametrize("answer", [send, chunked], ids=["announced", "not announced"])
def test_a_file_that_is_too_large_is_not_read_to_its_end(server, answer):
    server.answer = answer
    caught = failure(server.url, largest=1000)
    assert caught.cause == "too-large"
    assert "1,000 bytes are the most that is read" in str(caught)
    assert fetch(server.url, SHA256, "file.bin", largest=len(CONTENT)).read_bytes() == CONTENT


@pytest.mark.parametrize("answer", [drip, lambda handler: time.sleep(1)], ids=["drip", "silence"])
def test_a_slow_server_is_left_after_the_time_given(server, answer):
    server.answer = answer
    begun = time.monotonic()
    caught = failure(server.url, seconds=0.3)
    assert time.monotonic() - begun < 0.8
    assert caught.cause == "timeout"
    assert "not there within 0.3 seconds" in str(caught)


def test_nobody_there_is_said_to_be_offline():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/file.bin"
    caught = failure(url)
    assert caught.cause == "offline"
    assert f"file.bin from {url}: the server cannot be reached (Connection refused)" in str(caught)


def test_a_certificate_that_nobody_signed_is_said(server):
    trustme = pytest.importorskip("trustme")
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    caught = failure(server.url.replace("http", "https"))
    assert caught.cause == "certificate"


def test_the_environment_may_name_a_mirror_whose_bytes_must_be_the_same(server, monkeypatch):
    monkeypatch.setenv(download.MIRROR, f"http://127.0.0.1:{server.server_port}/mirror/")
    assert fetch("https://example.invalid/a/b/file.bin", SHA256, "other.bin").read_bytes() == CONTENT
    assert server.asked == ["/mirror/file.bin"]
    server.answer = lambda handler: send(handler, b"forged")
    assert failure("https://example.invalid/file.bin").cause == "checksum"


@pytest.mark.parametrize("mirror", ["file:///etc", "ftp://127.0.0.1", "here", "http://[bad", "http://127.0.0.1:port"])
def test_an_address_that_is_none_is_refused(monkeypatch, mirror):
    monkeypatch.setenv(download.MIRROR, mirror)
    assert failure("https://example.invalid/file.bin").cause == "address"


def test_a_cache_that_cannot_be_written_is_named(server, tmp_path):
    (tmp_path / "cache").write_bytes(b"a file, not a folder")
    caught = failure(server.url)
    assert caught.cause == "cache"
    assert f"the cache file {tmp_path / 'cache' / 'file.bin'} cannot be written" in str(caught)
    assert "set JAXSEQ_CACHE to another folder" in str(caught)


def test_a_full_disk_leaves_nothing_behind(server, tmp_path, monkeypatch):
    def full(*paths):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert "No space left on device" in str(failure(server.url))
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_interrupted_write_leaves_the_older_file_whole(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    write_whole(tmp_path / "a" / "file", b"old")

    def interrupt(*paths):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "a" / "file", b"new")
    assert [(path.name, path.read_bytes()) for path in (tmp_path / "a").iterdir()] == [("file", b"old")]


def test_each_kind_of_files_has_its_folder(monkeypatch):
    monkeypatch.delenv("JAXSEQ_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert [cache_folder(kind) for kind in ("downloads", "chorales")] == [
        Path("/elsewhere/jaxseq/downloads"),
        Path("/elsewhere/jaxseq/chorales"),
    ]


def test_a_process_ends_while_its_download_hangs(server):
    server.answer = lambda handler: time.sleep(3)
    program = f"from jaxseq.data.download import fetch\nfetch({server.url!r}, 'x', 'file.bin', seconds=0.2)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60)
    assert "not there within 0.2 seconds" in done.stderr
    assert time.monotonic() - begun < 2.9
