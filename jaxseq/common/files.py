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


def write_whole(file: Path, content: bytes) -> None:
    """Put a file in its place whole or not at all, and make its folder. Raises `OSError`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=file.parent, prefix=f".{file.name}.", delete=False) as temporary:
        try:
            temporary.write(content)
            temporary.flush()
            os.replace(temporary.name, file)
        except BaseException:
            os.unlink(temporary.name)
            raise


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


MOST_JSON = 16 * 2**20
"""Bytes of the largest JSON file that is read."""


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all. Raises `UsageError` if it cannot be written."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            try:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            except BaseException:
                os.unlink(file.name)
                raise
        os.chmod(file.name, 0o644)
        os.replace(file.name, path)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON, indented, whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises `UsageError` if it cannot be read, is too large or holds anything else."""
    try:
        check_size(path, MOST_JSON)
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise UsageError(f"{path} must hold a JSON object; it holds a {type(value).__name__}")
    return value


def check_size(path: Path, most: int) -> None:
    """Raise `ValueError` for a file of more bytes than are read."""
    if (size := path.stat().st_size) > most:
        raise ValueError(f"{size:,} bytes; at most {most:,} are read")


def write_table(path: Path, frame: pd.DataFrame) -> None:
    """Write a table as CSV, numbers to seven significant digits."""
    write_text(path, frame.to_csv(index=False, float_format="%.7g"))
