"""What ends work and is no fault of the program: a mistake of the user, a signal, a loss; and how it fits into one line."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

EXIT_LOST, EXIT_USAGE = 1, 2
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


class UsageError(ValueError):
    """Something the user gave cannot work; the message is one line and says what, where, and what to do.

    Entry points print it on stderr and exit with status 2; a Python user catches it as a `ValueError`.
    """


class Ended(Exception):
    """Work was ended from outside, with all that was saved in its place; the message says how to go on."""

    status: int
    """The exit status of a command that ends so."""


class Interrupted(Ended):
    """Training was stopped by a signal; `epoch` is the last one that is saved, None if there is none."""

    def __init__(self, folder: Path, epoch: int | None, status: int) -> None:
        saved = "before an epoch was saved" if epoch is None else f"after epoch {epoch}, which is saved"
        super().__init__(f"stopped {saved}; go on with: python -m jaxseq.train --resume {shlex.quote(str(folder))}")
        self.status = status


class Stopped(Ended):
    """Several runs were stopped by a signal, each of them as by `Interrupted`; the command `again` goes on with them."""

    def __init__(self, status: int, again: str) -> None:
        super().__init__(f"stopped; every run's last epoch is saved, and {again} goes on")
        self.status = status


class Detached(Ended):
    """The jobs of a cluster were left to themselves by a signal; `jobs` are their numbers, `again` finds them again."""

    def __init__(self, jobs: Sequence[str], status: int, again: str) -> None:
        first, *rest = dict.fromkeys(job.partition("_")[0] for job in jobs)
        more = f" and {len(rest)} more" if rest else ""
        super().__init__(
            f"the jobs go on without this command; {again} looks at them again, scancel {first}{more} ends them"
        )
        self.status = status


class Lost(Ended):
    """Another process of the same run is gone; `why` is what JAX says of it."""

    status = EXIT_LOST

    def __init__(self, why: str) -> None:
        super().__init__(
            "another process of this run has ended or cannot be reached; when all have ended, go on with --resume and "
            f"the run's folder ({why})"
        )
