"""Files are written whole or not at all, and read up to a bounded size; paths of the user are resolved here alone."""

from __future__ import annotations

import dataclasses
import errno
import io
import json
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from jaxseq.common.errors import UsageError
from jaxseq.common.text import printable

Options = TypeVar("Options")

MOST_JSON = 16 * 2**20
"""Bytes of the largest JSON file that is read."""

MARK = "jaxseq"
"""Mark in the names of temporary files and folders; nothing without it is ever taken for one and removed."""

TEMPORARY = re.compile(rf"\..+\.{MARK}-[0-9a-f]{{8}}")
"""Names of the temporary files of an interrupted `whole`."""


# Paths -----------------------------------------------------------------------------------------------------------------


def user_path(path: str | Path) -> Path:
    """Return a path that a user gave, with a leading ``~`` or ``~user`` replaced by the home folder.

    A shell leaves both alone after an equals sign. Every command and every function for users resolves its paths by this
    function; a path that it returned stays the same. Raises `UsageError` for an unknown user.
    """
    try:
        expanded = Path(os.path.expanduser(path))
    # A name with a null byte is not looked up.
    except ValueError as error:
        raise UsageError(f"not a path: {error}", where=printable(str(path))) from error
    if not expanded.parts or not expanded.parts[0].startswith("~"):
        return expanded
    if str(path).startswith("~"):
        raise UsageError(
            "no such user, or one without a home folder",
            where=printable(str(path)),
            got=expanded.parts[0],
            needed=f"./{printable(str(path))} for a file of that name",
        )
    # The name of a ./~ has lost its ./ and would be taken for the home folder the next time.
    return Path.cwd() / expanded


def with_user_paths(options: Options) -> Options:
    """Return a dataclass of options with each of its paths resolved by `user_path`."""
    values = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}  # pyrefly: ignore[bad-argument-type]
    paths = {name: user_path(value) for name, value in values.items() if isinstance(value, Path)}
    return dataclasses.replace(options, **paths)  # pyrefly: ignore[bad-specialization]


STDOUT = Path("/dev/stdout")
"""The device that a user may name as an output; no other one is written to."""


def check_output(path: Path, where: str, overwrite: bool, inputs: Iterable[Path] = ()) -> None:
    """Raise `UsageError` if an output that a user named cannot be written, before any work is done. Writes nothing.

    A file may stand there only with `overwrite`, and then neither an input nor anything but a plain file or a link, which
    is replaced and not followed. `where` names the option.
    """
    place = f"{where} {printable(str(path))}"
    if any(is_same_file(path, file) for file in inputs):
        raise UsageError("is read here and would be overwritten", where=place, needed="another name")
    try:
        exists = os.path.lexists(path)
        is_plain = path.is_symlink() or path.is_file()
        can_write = path.parent.is_dir() and os.access(path.parent, os.W_OK | os.X_OK)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot be written: {getattr(error, 'strerror', None) or error}", where=place) from error

    if exists and not is_plain:
        kind = "a folder" if path.is_dir() else "no plain file"
        raise UsageError(f"is {kind}", where=place, needed="the name of a file")
    if exists and not overwrite:
        raise UsageError("exists", where=place, needed="another name, or --overwrite to replace it")
    if not can_write:
        raise UsageError(
            "cannot be written", where=place, got=str(path.parent), needed="a file in a folder that may be written"
        )


def is_same_file(a: Path, b: Path) -> bool:
    """Return whether two paths lead to one file; False if one of them leads nowhere."""
    try:
        return a.samefile(b)
    except (OSError, ValueError):
        return False


# Writing ---------------------------------------------------------------------------------------------------------------


def temporary_name(name: str) -> str:
    """Return a new name that `TEMPORARY` knows, for a file or folder that will be renamed to `name`."""
    # Short enough for a file system, whose names have at most 255 bytes.
    return f".{name[:50]}.{MARK}-{secrets.token_hex(4)}"


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, as `whole` does. Raises `OSError`."""
    with whole(path) as file:
        file.write(content)


@contextmanager
def whole(path: Path) -> Iterator[BinaryIO]:
    """Open a file that is written whole or not at all, with the permissions that new files have in this process.

    Whatever stands at the path is replaced: a link, and never what it points to. Raises `OSError`.
    """
    temporary = path.with_name(temporary_name(path.name))
    # The mode x refuses an existing file, and a link.
    file = temporary.open("xb")
    try:
        with file:
            yield file
            file.flush()
            # After a loss of power, a renamed file that had not reached the disk would be empty.
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def open_to_append(path: Path) -> io.TextIOWrapper:
    """Open a text file of our own to append to it, made if it is absent. Raises `OSError` for a link and for a device.

    A file that has a second name, as in a backup of hard links, becomes a file of its own first.
    """
    # Some systems lack these flags. A pipe without a reader would block without the second.
    flags = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    if path.is_symlink():
        raise OSError(errno.ELOOP, "it is a link, and what it points to is left alone")
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | flags, 0o666)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no plain file")
    if status.st_nlink > 1:
        os.close(descriptor)
        write_whole(path, path.read_bytes())
        return open_to_append(path)
    return open(descriptor, "a", encoding="utf-8")


def write(path: Path, content: bytes) -> None:
    """Write a file as `write_whole` does. Raises `UsageError` if it cannot be written."""
    try:
        write_whole(path, content)
    except OSError as error:
        raise cannot_write(path, error) from error


def remove(path: Path) -> None:
    """Remove a file if it is there. Raises `UsageError` if it cannot be."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> UsageError:
    """Return the error of a file that cannot be written."""
    return UsageError(f"cannot write {path}: {error.strerror or error}")


def write_text(path: Path, text: str) -> None:
    """Write text in UTF-8 as `write` does."""
    write(path, text.encode())


def write_json(path: Path, value: Mapping[str, object]) -> None:
    """Write indented JSON as `write` does."""
    write_text(path, json.dumps(value, indent=2) + "\n")


# Reading ---------------------------------------------------------------------------------------------------------------


def read_json(path: Path) -> dict[str, Any]:
    """Read the object in a JSON file.

    Raises `UsageError` if the file cannot be read, is larger than `MOST_JSON` or holds no object.
    """
    try:
        check_size(path, MOST_JSON)
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise UsageError("not a JSON object", where=path, got=type(value).__name__, needed="an object")
    return value


def check_size(path: Path, most: int) -> None:
    """Raise `ValueError` for a file of more than `most` bytes, `OSError` as `check_plain` does."""
    check_plain(path)
    size = path.stat().st_size
    if size > most:
        raise ValueError(f"{size:,} bytes; at most {most:,} are read")


def check_plain(path: Path) -> None:
    """Raise `OSError` for a file that is absent, and for a folder, a pipe or a device, which may never end."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "no plain file")


# Folders ---------------------------------------------------------------------------------------------------------------


def check_links(folder: Path) -> None:
    """Raise `UsageError` for a folder to be filled that is a link, or that holds a link that leads out of it.

    What is written, renamed or deleted below it would be somewhere else. A folder that is absent holds none.
    """
    refuse_link(folder)
    # `Path.resolve` fails for links in a circle.
    root = os.path.realpath(folder)
    for parent, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(parent, name)
            if not Path(os.path.realpath(path)).is_relative_to(root):
                refuse_link(path)


def refuse_link(path: Path) -> None:
    """Raise `UsageError` for a link in the place of a file or folder of our own."""
    if path.is_symlink():
        raise UsageError(
            "a link to somewhere else, where nothing is written",
            where=printable(str(path)),
            needed="a file or a folder, or nothing",
        )


def numbered_folder(parent: Path, name: str) -> Path:
    """Create an empty folder with the next number after the highest one taken, say ``name-0001``, and return its path.

    Makes `parent` if needed. Processes that call it at the same time get different folders. Raises `OSError`.
    """
    parent.mkdir(parents=True, exist_ok=True)
    pattern = re.compile(rf"{re.escape(name)}-(\d+)")
    matches = [pattern.fullmatch(path.name) for path in parent.iterdir()]
    number = 1 + max((int(match[1]) for match in matches if match), default=0)

    while True:
        folder = parent / f"{name}-{number:04d}"
        try:
            folder.mkdir()
        except FileExistsError:  # another process took this number after the folder was listed
            number += 1
        else:
            return folder
