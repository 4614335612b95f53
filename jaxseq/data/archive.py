"""Members of archives, read in memory and never unpacked to a disk, with bounds on number and size."""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from jaxseq.data.files import first_line, printable, size_of
from jaxseq.errors import UsageError

LARGEST = 64 * 2**20
"""Bytes that an archive may have, and that it may unpack to."""
MOST = 10_000
"""Members that an archive may have."""
_UNREADABLE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, OverflowError)
_UNREADABLE += (ValueError, RuntimeError)  # an encrypted zip, or an unknown kind of compression


def read_bounded(path: str | Path, what: str) -> bytes:
    """The bytes of a user's file. Raises `UsageError`, which says `what` was looked for, if it cannot be read."""
    file = Path(path).expanduser()
    try:
        if file.is_dir():
            raise UsageError(f"{file} is a folder: give {what}")
        with file.open("rb") as stream:
            content = stream.read(LARGEST + 1)
    except FileNotFoundError as error:
        raise UsageError(f"{file} does not exist: give {what}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{printable(str(file))} cannot be read ({reason}): give {what}") from error
    if len(content) > LARGEST:
        raise UsageError(f"{file} has more than {size_of(LARGEST)}, the most that is read: give {what}")
    return content


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
        with tarfile.open(fileobj=io.BytesIO(plain), mode="r:") as archive:
            for number, member in enumerate(archive, 1):
                _check_tar(member, number, source)
                if member.isfile() and (stream := archive.extractfile(member)):
                    yield member.name, stream.read()
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{source} is no tar archive, or is damaged ({error}): get it again") from error


def _check_tar(member: tarfile.TarInfo, number: int, source: str) -> None:
    name = member.name
    if number > MOST:
        raise UsageError(f"{source} has more than {MOST:,} members, the most that is read")
    if not (member.isreg() or member.isdir()) or member.issparse():
        raise UsageError(f"{source}: member {name!r} is a link, a device or a sparse file; only plain files are read")
    if member.size > LARGEST:
        raise UsageError(f"{source}: member {name!r} has {size_of(member.size)}, {size_of(LARGEST)} are the most")
    check_path(member.name, source)


def check_path(name: str, source: str) -> None:
    """Raises `UsageError` for a member that would lie outside of its archive's folder."""
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or ":" in name:
        raise UsageError(f"{source}: member {name!r} points outside of the archive; such a path is refused")


def zip_members(
    content: bytes, source: str, largest: int = LARGEST, wanted: Callable[[str], bool] = lambda _: True
) -> Iterator[tuple[str, bytes]]:
    """Path and bytes of the files in a zip whose path is `wanted`, of at most `largest` bytes unpacked; errors as of
    `tar_members`."""
    left = largest
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            if len(members) > MOST:
                raise UsageError(f"{source} has {len(members):,} members, {MOST:,} are the most that is read")
            for member in members:
                check_path(member.filename, source)
                if not member.is_dir() and wanted(member.filename):
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
