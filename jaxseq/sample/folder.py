"""The folder that pieces are written into: it appears when it is complete, or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from jaxseq.common import files
from jaxseq.common.errors import UsageError

NAME = "samples"
PREFIX = ".samples-"
"""Beginning of the names of hidden folders that are not complete."""


def check(run: Path, out: Path | None) -> None:
    """Raise `UsageError` for a folder that is not empty or cannot be written; composing may take long."""
    with _one_line(run, out):
        # A link could not be replaced by a folder, which would be found out after the composing.
        if out is not None and (out.is_symlink() or out.is_file() or _has_entries(out)):
            raise UsageError("not an empty folder", where="--out", got=out, needed="another folder")

        parent = _nearest_parent(run, out)
        if not parent.is_dir():
            raise UsageError("cannot be written", where=out or run, got=parent, needed="a folder to write into")
        # Permissions alone do not tell: the file system may be read-only or full.
        with tempfile.TemporaryDirectory(prefix=PREFIX, dir=parent):
            pass


@contextlib.contextmanager
def unpublished(run: Path, out: Path | None) -> Iterator[Path]:
    """Yield an empty folder beside its destination, for `publish`; it is removed unless it was published.

    Raises `UsageError` for a file system that cannot be written.
    """
    with _one_line(run, out):
        # On the same file system as its destination, so that it can be renamed.
        hidden = Path(tempfile.mkdtemp(prefix=PREFIX, dir=_nearest_parent(run, out)))
        try:
            folder = hidden / NAME
            folder.mkdir()
            yield folder
        finally:
            shutil.rmtree(hidden, ignore_errors=True)


def publish(folder: Path, run: Path, out: Path | None) -> Path:
    """Move a complete folder to `out`, or to the next number in the run's folder. Raises `OSError`."""
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        destination = out
    else:
        destination = files.numbered_folder(run, NAME)

    # Replaces the destination only if that is an empty folder.
    os.rename(folder, destination)
    return destination


@contextlib.contextmanager
def _one_line(run: Path, out: Path | None) -> Iterator[None]:
    """Turn an `OSError` into a `UsageError`."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"cannot be written: {error.strerror or error}", where=out or run) from error


def _has_entries(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _nearest_parent(run: Path, out: Path | None) -> Path:
    """Return the nearest existing folder above the destination."""
    destination = (out or run / NAME).absolute()
    return next(parent for parent in destination.parents if parent.exists())
