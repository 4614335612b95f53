"""What the user did, not the program: a mistake, or a signal to stop."""

from __future__ import annotations

import shlex
from pathlib import Path

EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


class UsageError(ValueError):
    """Something the user gave cannot work; the message is one line and says what, where, and what to do.

    Entry points print it on stderr and exit with status 2; a Python user catches it as a `ValueError`.
    """


class Interrupted(Exception):
    """Training was stopped by a signal; `epoch` is the last one that is saved, None if there is none."""

    def __init__(self, folder: Path, epoch: int | None, status: int) -> None:
        saved = "before an epoch was saved" if epoch is None else f"after epoch {epoch}, which is saved"
        super().__init__(f"stopped {saved}; go on with: python -m jaxseq.train --resume {shlex.quote(str(folder))}")
        self.status = status


class Stopped(Exception):
    """Several runs were stopped by a signal, each of them as by `Interrupted`; the same command goes on with them."""

    def __init__(self, status: int) -> None:
        super().__init__("stopped; every run's last epoch is saved, and the same command goes on")
        self.status = status
