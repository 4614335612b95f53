"""The folder that pieces are written into: it appears when it is complete, or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from jaxseq.common import files, lock
from jaxseq.common.errors import UsageError

NAME = "samples"
HIDDEN = re.compile(rf"\.{NAME}\.{files.MARK}-[0-9a-f]{{8}}")
"""Names of hidden folders that are not complete."""
TRIES = 3
"""Tries to make one, which another process may take for one that is left over in the moment before it is locked."""


def check(run: Path, out: Path | None) -> None:
    """Raise `UsageError` for a folder that is not empty or cannot be written; composing may take long."""
    with _one_line(run, out):
        # A link could not be replaced by a folder, which would be found out after the composing.
        if out is not None and (out.is_symlink() or out.is_file() or _has_entries(out)):
            raise UsageError("not an empty folder", where="--out", got=out, needed="another folder")

        parent = _nearest_parent(run, out)
        if not parent.is_dir():
            raise UsageError("cannot be written", where=out or run, got=parent, needed="a folder to write into")
        _remove_leftovers(parent)
        # Permissions alone do not tell: the file system may be read-only or full.
        trial = parent / files.temporary_name(NAME)
        trial.mkdir()
        trial.rmdir()


@contextlib.contextmanager
def unpublished(run: Path, out: Path | None) -> Iterator[Path]:
    """Yield an empty folder beside its destination, for `publish`; it is removed unless it was published.

    Raises `UsageError` for a file system that cannot be written.
    """
    with _one_line(run, out), contextlib.ExitStack() as stack:
        # On the same file system as its destination, so that it can be renamed.
        hidden = _locked_folder(_nearest_parent(run, out), stack)
        folder = hidden / NAME
        folder.mkdir()
        yield folder


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


def _locked_folder(parent: Path, stack: contextlib.ExitStack) -> Path:
    """Make a hidden folder, locked and at last removed by `stack`."""
    for _ in range(TRIES):
        hidden = parent / files.temporary_name(NAME)
        hidden.mkdir()
        with contextlib.suppress(UsageError):
            stack.enter_context(lock.hold(hidden))
            # The stack ends in reverse, so that nobody finds the folder without its lock.
            stack.callback(shutil.rmtree, hidden, ignore_errors=True)
            return hidden
        shutil.rmtree(hidden, ignore_errors=True)
    raise UsageError("no folder can be locked", where=parent)


def _remove_leftovers(parent: Path) -> None:
    """Remove the hidden folders of processes that were killed; those of living ones are locked."""
    for path in parent.iterdir():
        if not HIDDEN.fullmatch(path.name) or path.is_symlink() or not path.is_dir():
            continue
        with contextlib.suppress(UsageError), lock.hold(path):
            shutil.rmtree(path, ignore_errors=True)


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
