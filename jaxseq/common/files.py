"""Files are written whole or not at all, and read up to a bounded size."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from jaxseq.common.errors import UsageError

MOST_JSON = 16 * 2**20
"""Bytes of the largest JSON file that is read."""

TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}")
"""Names of the temporary files of an interrupted `write_whole`."""


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, readable by everybody. Raises `OSError`."""
    # Devices such as /dev/stdout are written to and must not be replaced.
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return

    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(content)
            file.flush()
            # After a loss of power, a renamed file that had not reached the disk would be empty.
            os.fsync(file.fileno())
            os.chmod(file.name, 0o644)
            os.replace(file.name, path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def write(path: Path, content: bytes) -> None:
    """Write a file as `write_whole` does. Raises `UsageError` if it cannot be written."""
    try:
        write_whole(path, content)
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> UsageError:
    """Return the error of a file that cannot be written."""
    return UsageError(f"cannot write {path}: {error.strerror or error}")


def write_text(path: Path, text: str) -> None:
    """Write text in UTF-8 as `write` does."""
    write(path, text.encode())


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write indented JSON as `write` does."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_table(path: Path, frame: pd.DataFrame, digits: int | None = 7) -> None:
    """Write a table as CSV as `write` does, with numbers to this many significant digits; None keeps every digit."""
    float_format = None if digits is None else f"%.{digits}g"
    write_text(path, frame.to_csv(index=False, float_format=float_format))


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
    """Raise `ValueError` for a file of more than `most` bytes."""
    size = path.stat().st_size
    if size > most:
        raise ValueError(f"{size:,} bytes; at most {most:,} are read")


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
