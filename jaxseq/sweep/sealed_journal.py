"""Journal of Optuna of which each line is sealed with the line before, whichever process appends it.

The search and its trials append to one file: workers of this machine, or jobs on the nodes of a cluster. A seal is a part
of its line, so that no kill comes between them, and is computed under the journal's lock.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from jaxseq.checkpoint import run_seal
from jaxseq.common import files, sealed_lines
from jaxseq.common.errors import UsageError


class SealedJournal(JournalFileBackend):
    """The file, to which Optuna's storage appends its operations, and from which it reads those of other processes.

    start  the seal before its first line
    """

    def __init__(self, path: Path, start: str) -> None:
        super().__init__(str(path), _lock_of(path))
        self._path = path
        self._seal: str | None = start
        # Size of the lines of which the last one has this seal.
        self._size = 0

    def append_logs(self, logs: Sequence[Mapping[str, object]]) -> None:
        """Append a line for each operation. Raises `OSError`, and `UsageError` if the last line is no record."""
        with locked(self._path):
            size = self._read_last_seal()
            with files.open_to_append(self._path) as file:
                # A disk that was full may have taken a part of a line.
                if size > self._size:
                    file.truncate(self._size)
                file.write(sealed_lines.lines(logs, self._seal).decode())
                file.flush()
                os.fsync(file.fileno())

    def _read_last_seal(self) -> int:
        """Read what was appended since the last call, and return the size of the file."""
        with self._path.open("rb") as file:
            file.seek(self._size)
            added = file.read()
        size = self._size + len(added)
        whole_lines = sealed_lines.whole(added)
        if whole_lines:
            self._seal = sealed_lines.last_seal(whole_lines, self._path)
            self._size += len(whole_lines)
        return size


def check(path: Path, start: str) -> None:
    """Cut off an unfinished last line, which a kill may leave, and check the seals of the others.

    Raises `UsageError`, which names the line, for a journal that cannot be read or was changed.
    """
    if not os.path.lexists(path):
        return
    # Before the lock: a pipe or a folder has none.
    run_seal.log_content(path)
    # The jobs of a cluster may be writing.
    with locked(path):
        content = run_seal.log_content(path)
        sealed_lines.check(content, path, start)
        whole_lines = sealed_lines.whole(content)
        if whole_lines == content:
            return
        try:
            with files.open_to_append(path) as file:
                file.truncate(len(whole_lines))
        except OSError as error:
            raise files.cannot_write(path, error) from error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep a journal to this process within the context. Raises `UsageError` if no lock can be written."""
    lock = _lock_of(path)
    try:
        lock.acquire()
    except OSError as error:
        raise files.cannot_write(path, error) from error
    try:
        yield
    finally:
        try:
            lock.release()
        except RuntimeError as error:
            raise UsageError(
                f"another process took its lock, which this one held for too long: {error}",
                where=path,
                needed="no other search in the folder; the same command again",
            ) from error


def _lock_of(path: Path) -> JournalFileOpenLock:
    """Return the lock of a journal, which holds between the nodes of a shared disk (NFSv3 or later).

    Optuna's default is a link to the journal, which points nowhere where the path is not absolute; the lock of a process
    that was killed would then be waited for without end.
    """
    return JournalFileOpenLock(str(path))
