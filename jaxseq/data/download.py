"""Download a file once: bounded in time and size, checked by its sha256 before it is used, and kept in the cache."""

from __future__ import annotations

import hashlib
import http.client
import os
import queue
import ssl
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Literal, NamedTuple

from jaxseq.common.errors import Portable, UsageError
from jaxseq.common.files import write_whole
from jaxseq.common.text import printable, size_of
from jaxseq.data.cache import cache_folder

Cause = Literal["offline", "status", "timeout", "too-large", "truncated", "checksum", "certificate", "address", "cache"]
MIRROR = "JAXSEQ_MIRROR"
"""Environment variable with an address that replaces everything before a file's name in its URL."""
SECONDS = 60.0
"""Default limit of a whole download."""
LARGEST = 64 * 2**20
"""Default limit in bytes."""
CHUNK = 2**16


class FetchError(UsageError):
    """A file could not be downloaded, for `cause`; the sentence is `reason` with `advice` after it.

    file  of the cache, which may be put there by hand; None where that would not help
    """

    def __init__(self, reason: str, cause: Cause, advice: str, file: Path | None = None) -> None:
        super().__init__(f"{reason}: {advice}")
        self.reason = reason
        self.cause: Cause = cause
        self.advice = advice
        self.file = file


class Remote(NamedTuple):
    """A file on the network: its address, the sha256 of its bytes, and its name in the cache."""

    url: str
    sha256: str
    name: str


class _Failure(Portable, Exception):
    def __init__(self, cause: Cause, reason: str) -> None:
        super().__init__(reason)
        self.cause: Cause = cause


def fetch(
    url: str,
    sha256: str,
    name: str,
    *,
    cache: Path | None = None,
    seconds: float = SECONDS,
    largest: int = LARGEST,
) -> Path:
    """Return the file `name` of the cache, after a download from `url` if it is absent or damaged.

    The sha256 of a cached copy is compared every time; if it is right, nothing is requested. `cache` is a folder in
    place of `cache_folder("downloads")`. Where $JAXSEQ_MIRROR is set, the file is taken from that address, by the last
    part of `url`; its sha256 has to be the same. Raises `FetchError` with its cause after at most `seconds`.
    """
    file = (cache or cache_folder("downloads")) / name
    damage = _damage(file, sha256)
    if damage is None:
        return file
    address = _address(url)
    try:
        content = _within(seconds, address, largest)
        received = hashlib.sha256(content).hexdigest()
        if received != sha256:
            raise _Failure(
                "checksum", f"its sha256 is {received[:12]}…, not {sha256[:12]}…: not the file that is meant"
            )
    except _Failure as failure:
        advice = f"try again, or download it yourself and give it with --data.path{damage}"
        # A file that was damaged before the download failed is the more useful fault to know.
        reason = f"{name} from {printable(address)}: {failure}"
        raise FetchError(reason, failure.cause, advice, file) from failure
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, content)
    except OSError as error:
        reason = f"the cache file {file} cannot be written ({error.strerror})"
        raise FetchError(reason, "cache", "free it, or set JAXSEQ_CACHE to another folder") from error
    return file


def _damage(file: Path, sha256: str) -> str | None:
    """Return the fault of a cached copy, as the end of a message, which is "" if there is no copy; None if it is sound."""
    try:
        cached = hashlib.sha256(file.read_bytes()).hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        return f"; the copy {file} cannot be read ({error.strerror})"
    if cached == sha256:
        return None
    return f"; the copy {file} is damaged (sha256 {cached[:12]}…, not {sha256[:12]}…)"


def _address(url: str) -> str:
    """Return the address of a file, on the mirror if there is one."""
    mirror = os.environ.get(MIRROR)
    address = url
    if mirror:
        address = f"{mirror.rstrip('/')}/{url.rsplit('/', 1)[1]}"
    # urllib would open a file of this machine as well.
    if not address.startswith(("http://", "https://")):
        raise FetchError(f"{MIRROR} is {address!r}", "address", "it must begin with http:// or https://")
    return address


def _within(seconds: float, address: str, largest: int) -> bytes:
    """Return the content at an address, or a failure, within a limited time.

    It runs in a thread of its own: the timeout of a socket covers neither the look-up of a name, nor a server that
    sends one byte after the other.
    """
    answers: queue.Queue[bytes | BaseException] = queue.Queue()

    def work() -> None:
        try:
            answers.put(_read(address, seconds, largest))
        except BaseException as error:
            answers.put(error)

    # A daemon: a thread that still waits for a server does not keep the process from ending.
    threading.Thread(target=work, daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        raise _Failure("timeout", f"not there within {seconds:g} seconds") from None
    if isinstance(answer, bytes):
        return answer
    raise _failure(answer, seconds) from answer


def _read(address: str, seconds: float, largest: int) -> bytes:
    deadline = time.monotonic() + seconds
    with urllib.request.urlopen(address, timeout=seconds) as response:
        # No length is announced for an answer in chunks, which end by a mark.
        announced = response.length or 0
        _check_size(announced, largest)
        content = bytearray()
        chunk = response.read1(CHUNK)
        # After the deadline nobody waits any more.
        while chunk and time.monotonic() <= deadline:
            content += chunk
            _check_size(len(content), largest)
            chunk = response.read1(CHUNK)
    if len(content) < announced:
        raise _Failure("truncated", f"the answer broke off after {len(content):,} of {announced:,} bytes")
    return bytes(content)


def _check_size(size: int, largest: int) -> None:
    if size > largest:
        raise _Failure("too-large", f"{size_of(size)} and more, {size_of(largest)} are the most that is read")


def _failure(error: BaseException, seconds: float) -> _Failure:
    """Return the failure behind an exception of urllib."""
    if isinstance(error, _Failure):
        return error
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        return _Failure("status", f"the server answered HTTP {error.code} {printable(str(error.reason))}".rstrip())
    reason = getattr(error, "reason", error)
    if isinstance(reason, TimeoutError):
        return _Failure("timeout", f"not there within {seconds:g} seconds")
    if isinstance(reason, ssl.SSLCertVerificationError):
        return _Failure("certificate", f"no trusted certificate ({reason.verify_message})")
    if isinstance(reason, http.client.InvalidURL | UnicodeError | ValueError):
        return _Failure("address", f"no proper address ({printable(str(reason))})")
    if isinstance(reason, http.client.HTTPException | ConnectionResetError | BrokenPipeError | ssl.SSLError):
        return _Failure("truncated", f"the answer broke off ({type(reason).__name__})")
    if isinstance(reason, OSError):
        return _Failure("offline", f"the server cannot be reached ({reason.strerror or reason})")
    raise error
