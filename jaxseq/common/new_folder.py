"""A folder that a command writes: it appears when it is complete, or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from jaxseq.common import files, lock
from jaxseq.common.errors import UsageError

TRIES = 3
"""Tries to make a hidden folder, which another process may take for one that is left over before it is locked."""


class NewFolder(NamedTuple):
    """Destination of a command's files: `out`, or the next number in a run's folder, say ``samples-0001``.

    run   the run's folder
    name  of the numbered folders
    out   the folder that the user named; None takes the next number
    """

    run: Path
    name: str
    out: Path | None = None

    def check(self) -> None:
        """Raise `UsageError` for a folder that is not empty or cannot be written; the work before it may take long."""
        out = self.out
        with self._one_line():
            # A link could not be replaced by a folder, which would be found out after the work.
            if out is not None and (out.is_symlink() or out.is_file() or _has_entries(out)):
                raise UsageError("not an empty folder", where="--out", got=out, needed="another folder")

            parent = self._nearest_parent()
            if not parent.is_dir():
                raise UsageError(
                    "cannot be written", where=out or self.run, got=parent, needed="a folder to write into"
                )
            self._remove_leftovers(parent)
            # Permissions alone do not tell: the file system may be read-only or full.
            trial = parent / files.temporary_name(self.name)
            trial.mkdir()
            trial.rmdir()

    @contextlib.contextmanager
    def unpublished(self) -> Iterator[Path]:
        """Yield an empty folder beside its destination, for `publish`; it is removed unless it was published.

        Raises `UsageError` for a file system that cannot be written.
        """
        with self._one_line(), contextlib.ExitStack() as stack:
            # On the same file system as its destination, so that it can be renamed.
            hidden = self._locked_folder(stack)
            folder = hidden / self.name
            folder.mkdir()
            yield folder

    def publish(self, folder: Path) -> Path:
        """Move a complete folder to its destination and return that. Raises `OSError`."""
        if self.out is not None:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            destination = self.out
        else:
            destination = files.numbered_folder(self.run, self.name)

        # Replaces the destination only if that is an empty folder.
        os.rename(folder, destination)
        return destination

    def _locked_folder(self, stack: contextlib.ExitStack) -> Path:
        """Make a hidden folder, locked and at last removed by `stack`."""
        parent = self._nearest_parent()
        for _ in range(TRIES):
            hidden = parent / files.temporary_name(self.name)
            hidden.mkdir()
            with contextlib.suppress(UsageError):
                stack.enter_context(lock.hold(hidden))
                # The stack ends in reverse, so that nobody finds the folder without its lock.
                stack.callback(shutil.rmtree, hidden, ignore_errors=True)
                return hidden
            shutil.rmtree(hidden, ignore_errors=True)
        raise UsageError("no folder can be locked", where=parent)

    def _remove_leftovers(self, parent: Path) -> None:
        """Remove the hidden folders of processes that were killed; those of living ones are locked."""
        of_this_name = re.compile(rf"\.{re.escape(self.name)}\.{files.MARK}-[0-9a-f]{{8}}")
        for path in parent.iterdir():
            if not of_this_name.fullmatch(path.name) or path.is_symlink() or not path.is_dir():
                continue
            with contextlib.suppress(UsageError), lock.hold(path):
                shutil.rmtree(path, ignore_errors=True)

    @contextlib.contextmanager
    def _one_line(self) -> Iterator[None]:
        """Turn an `OSError` into a `UsageError`."""
        try:
            yield
        except OSError as error:
            raise UsageError(f"cannot be written: {error.strerror or error}", where=self.out or self.run) from error

    def _nearest_parent(self) -> Path:
        """Return the nearest existing folder above the destination."""
        destination = (self.out or self.run / self.name).absolute()
        return next(parent for parent in destination.parents if parent.exists())


def _has_entries(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())
