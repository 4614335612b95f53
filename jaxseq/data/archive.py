"""Read the members of archives in memory, never unpacked to a disk, with bounds on number and size."""

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
from jaxseq.common.files import user_path
from jaxseq.common.text import first_line, printable, shown, size_of

LARGEST = 64 * 2**20
"""Bytes that an archive may have, and that it may unpack to."""
MOST = 10_000
"""Members that an archive may have."""
LONGEST_HEADER = 2**16
"""Bytes of a header that describes one member of a tar archive."""
_UNREADABLE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    OverflowError,
    # zipfile raises these for an encrypted member, or one without a name.
    ValueError,
    RuntimeError,
    IndexError,
)
# The first bytes of an entry in a zip's list of members.
_ENTRY = b"PK\1\2"
# Other kinds of compression may ask for gigabytes before the first byte is out.
_KINDS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_BLOCK = 512


def read_bounded(path: str | Path, what: str) -> bytes:
    """Return the bytes of a user's file. Raises `UsageError`, which asks for `what`, if it cannot be read."""
    source = printable(str(path))
    try:
        file = user_path(path)
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
    """Open a file to read it. Raises `OSError` if it does not exist, or is a pipe, which may never end, or a device."""
    # Some systems lack one flag or the other; opening a pipe would block without the first.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    stream = os.fdopen(os.open(file, flags), "rb")
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise OSError(0, "no regular file")
    return stream


def tar_members(content: bytes, source: str) -> Iterator[tuple[str, bytes]]:
    """Yield path and bytes of every file in a .tgz. Raises `UsageError`, which names the member, for an unsafe one."""
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
        reason = first_line(error)
        raise UsageError(f"{source} is no tar archive, or is damaged ({reason}): get it again") from error


_LONG = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE)


def _tar(plain: bytes) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """Yield every member and its bytes. Raises `tarfile.TarError` or `ValueError` for a damaged archive.

    The loop of the standard library recurses through headers of headers, in a time that grows with the square of their
    length.
    """
    place = 0
    name = ""
    block = plain[:_BLOCK]
    # A block of zeros ends the archive.
    while any(block):
        member = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        size = member.size
        if member.isdir():
            size = 0
        start = place + _BLOCK
        if size < 0 or start + size > len(plain):
            raise tarfile.ReadError(f"a member of {size:,} bytes where {len(plain) - start:,} are left")

        body = plain[start : start + size]
        if member.type in (*_LONG, *_PAX):
            if size > LONGEST_HEADER:
                raise tarfile.ReadError(f"a header of {size:,} bytes, {LONGEST_HEADER:,} are the most")
            name = _name_in_header(member.type, body) or name
        else:
            member.name = name or member.name
            name = ""
            yield member, body
        # Members are padded to whole blocks.
        place = start + size + -size % _BLOCK
        block = plain[place : place + _BLOCK]


def _name_in_header(kind: bytes, body: bytes) -> str:
    """Return the next member's name from a header before it; "" if the header does not give one."""
    if kind == _LONG[0]:
        return body.partition(b"\0")[0].decode("utf-8", "surrogateescape")
    if kind in _LONG:
        return ""

    values = {}
    place = 0
    while place < len(body):
        # The POSIX form of a record: its length, which counts itself, a space, key=value, a line feed.
        digits = body[place : place + 12].partition(b" ")[0]
        length = int(digits)
        if length < len(digits) + 3:
            raise tarfile.ReadError(f"a record of {length} bytes in a header")
        key, _, value = body[place + len(digits) + 1 : place + length - 1].partition(b"=")
        values[key] = value
        place += length
        if key == b"size" or key.startswith(b"GNU.sparse"):
            raise tarfile.ReadError("a header of a sparse file, or of one over 8 GiB")
    # A global header holds for all members, and names none.
    if kind == tarfile.XGLTYPE:
        return ""
    return values.get(b"path", b"").decode("utf-8", "surrogateescape")


def _check_tar(member: tarfile.TarInfo, source: str) -> None:
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE, tarfile.DIRTYPE):
        raise UsageError(
            f"{source}: member {shown(member.name)} is a link, a device or a sparse file; only plain files are read"
        )
    check_path(member.name, source)


def check_path(name: str, source: str) -> None:
    """Raise `UsageError` for a member that would be outside of its archive's folder."""
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or ":" in name:
        raise UsageError(f"{source}: member {shown(name)} points outside of the archive; such a path is refused")


def zip_members(
    content: bytes, source: str, largest: int = LARGEST, wanted: Callable[[str], bool] = lambda _: True
) -> Iterator[tuple[str, bytes]]:
    """Yield path and bytes of the files in a zip whose path is `wanted`, of at most `largest` bytes unpacked.

    Raises `UsageError` as `tar_members` does.
    """
    bytes_left = largest
    # All entries are listed before one is read; archives within may have some too.
    entries = content.count(_ENTRY)
    if entries > 4 * MOST:
        raise UsageError(f"{source} lists {entries:,} members, {MOST:,} are the most that is read")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            if len(members) > MOST:
                raise UsageError(f"{source} has {len(members):,} members, {MOST:,} are the most that is read")
            for member in members:
                check_path(member.filename, source)
                if member.is_dir() or not wanted(member.filename):
                    continue
                if member.compress_type not in _KINDS:
                    raise zipfile.BadZipFile(f"compression of kind {member.compress_type}, 0 and 8 are read")
                with archive.open(member) as stream:
                    # A member may be larger than it announces.
                    body = stream.read(bytes_left + 1)
                bytes_left -= len(body)
                if bytes_left < 0:
                    raise UsageError(f"{source} unpacks to more than {size_of(largest)}, the most that is read")
                yield member.filename, body
    except UsageError:
        raise
    except _UNREADABLE as error:
        raise UsageError(f"{source} is no zip archive, or is damaged ({first_line(error)}): get it again") from error
