"""Members of archives, read in memory and never unpacked to a disk, with bounds on number and size."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from jaxseq.common.errors import UsageError
from jaxseq.common.text import first_line, printable, shown, size_of

LARGEST = 64 * 2**20
"""Bytes that an archive may have, and that it may unpack to."""
MOST = 10_000
"""Members that an archive may have."""
LONGEST_HEADER = 2**16
"""Bytes of what a tar archive says of one member before it."""
_UNREADABLE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, OverflowError)
_UNREADABLE += (ValueError, RuntimeError, IndexError)  # an encrypted member, or one without a name
_ENTRY = b"PK\1\2"
"""First bytes of an entry in a zip's list of members."""
_KINDS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Of compression; others may ask for gigabytes before the first byte is out."""
_BLOCK = 512


def read_bounded(path: str | Path, what: str) -> bytes:
    """The bytes of a user's file. Raises `UsageError`, which says `what` was looked for, if it cannot be read."""
    source = printable(str(path))
    try:
        file = Path(path).expanduser()
        source = printable(str(file))
        if file.is_dir():
            raise UsageError(f"{source} is a folder: give {what}")
        with open_plain(file) as stream:
            content = stream.read(LARGEST + 1)
    except UsageError:
        raise
    except FileNotFoundError as error:
        raise UsageError(f"{source} does not exist: give {what}") from error
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{source} cannot be read ({reason}): give {what}") from error
    if len(content) > LARGEST:
        raise UsageError(f"{source} has more than {size_of(LARGEST)}, the most that is read: give {what}")
    return content


def open_plain(file: Path) -> io.BufferedReader:
    """A file to be read. Raises `OSError` for a pipe, which may never end, or a device, as for one that is not there."""
    stream = os.fdopen(os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb")
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise OSError(0, "no regular file")
    return stream


def tar_members(content: bytes, source: str) -> Iterator[tuple[str, bytes]]:
    """Path and bytes of every file in a .tgz. Raises `UsageError`, naming the member, for one that is not harmless."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
            plain = stream.read(LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{source} is no gzip archive, or is damaged ({error}): get it again") from error
    if len(plain) > LARGEST:
        raise UsageError(f"{source} unpacks to more than {size_of(LARGEST)}, the most that is read")
    try:
        for number, (member, body) in enumerate(_tar(plain), 1):
            if number > MOST:
                raise UsageError(f"{source} has more than {MOST:,} members, the most that is read")
            _check_tar(member, source)
            if not member.isdir():
                yield member.name, body
    except UsageError:
        raise
    except (tarfile.TarError, ValueError, OverflowError) as error:
        said = first_line(error)
        raise UsageError(f"{source} is no tar archive, or is damaged ({said}): get it again") from error


def _tar(plain: bytes) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """Every member and its bytes. The standard library's own loop recurses through headers of headers, and takes a time
    that grows with the square of their length. Raises `tarfile.TarError` or `ValueError` for what is damaged."""
    place, name = 0, ""
    while any(block := plain[place : place + _BLOCK]):
        member = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        size = 0 if member.isdir() else member.size
        start, place = place + _BLOCK, place + _BLOCK + size + -size % _BLOCK
        if size < 0 or start + size > len(plain):
            raise tarfile.ReadError(f"a member of {size:,} bytes where {len(plain) - start:,} are left")
        body = plain[start : start + size]
        if member.type in (*_LONG, *_PAX):
            if size > LONGEST_HEADER:
                raise tarfile.ReadError(f"a header of {size:,} bytes, {LONGEST_HEADER:,} are the most")
            name = _named(member.type, body) or name
        else:
            member.name, name = name or member.name, ""
            yield member, body


_LONG = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE)


def _named(kind: bytes, body: bytes) -> str:
    """The next member's name, out of what stands before it; "" if that does not tell it."""
    if kind in _LONG:
        return body.partition(b"\0")[0].decode("utf-8", "surrogateescape") if kind == _LONG[0] else ""
    found, place = {}, 0
    while place < len(body):  # the POSIX form: a length that counts itself, a space, key=value, a line feed
        digits = body[place : place + 12].partition(b" ")[0]
        length = int(digits)
        if length < len(digits) + 3:
            raise tarfile.ReadError(f"a record of {length} bytes in a header")
        key, _, value = body[place + len(digits) + 1 : place + length - 1].partition(b"=")
        found[key], place = value, place + length
        if key == b"size" or key.startswith(b"GNU.sparse"):
            raise tarfile.ReadError("a header of a sparse file, or of one over 8 GiB")
    return "" if kind == tarfile.XGLTYPE else found.get(b"path", b"").decode("utf-8", "surrogateescape")


def _check_tar(member: tarfile.TarInfo, source: str) -> None:
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE, tarfile.DIRTYPE):
        raise UsageError(
            f"{source}: member {shown(member.name)} is a link, a device or a sparse file; only plain files are read"
        )
    check_path(member.name, source)


def check_path(name: str, source: str) -> None:
    """Raises `UsageError` for a member that would lie outside of its archive's folder."""
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or ":" in name:
        raise UsageError(f"{source}: member {shown(name)} points outside of the archive; such a path is refused")


def zip_members(
    content: bytes, source: str, largest: int = LARGEST, wanted: Callable[[str], bool] = lambda _: True
) -> Iterator[tuple[str, bytes]]:
    """Path and bytes of the files in a zip whose path is `wanted`, of at most `largest` bytes unpacked; errors as of
    `tar_members`."""
    left = largest
    if content.count(_ENTRY) > 4 * MOST:  # each of them is listed before one is read; zips within may have some too
        raise UsageError(f"{source} lists {content.count(_ENTRY):,} members, {MOST:,} are the most that is read")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            if len(members) > MOST:
                raise UsageError(f"{source} has {len(members):,} members, {MOST:,} are the most that is read")
            for member in members:
                check_path(member.filename, source)
                if not member.is_dir() and wanted(member.filename):
                    if member.compress_type not in _KINDS:
                        raise zipfile.BadZipFile(f"compression of kind {member.compress_type}, 0 and 8 are read")
                    with archive.open(member) as stream:
                        body = stream.read(left + 1)  # what is announced need not be what comes
                    left -= len(body)
                    if left < 0:
                        raise UsageError(f"{source} unpacks to more than {size_of(largest)}, the most that is read")
                    yield member.filename, body
    except UsageError:
        raise
    except _UNREADABLE as error:
        raise UsageError(f"{source} is no zip archive, or is damaged ({first_line(error)}): get it again") from error
