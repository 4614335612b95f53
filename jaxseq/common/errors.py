"""Errors that end work and are no fault of the program: mistakes of the user, signals, lost processes."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from enum import Enum
from pathlib import Path

from jaxseq.common.text import shown


class _Absent(Enum):
    """The type of `ABSENT`; an enumeration, so that it stays one object when an error is pickled."""

    ABSENT = "absent"


ABSENT = _Absent.ABSENT
"""The value of a field that an error does not have; None is a value that a user can give."""

EXIT_LOST = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_PIPE = 141
"""Status of a command whose output nobody reads any more: that of one which SIGPIPE has ended."""
EXIT_TERMINATED = 143


class Portable(BaseException):
    """Base of exceptions that survive pickling with all their fields, as on the way back from a worker process.

    Exceptions pickle by calling their class with `args`, so that keywords and a subclass's own arguments would be lost.
    """

    def __reduce__(self) -> tuple[object, ...]:
        return _unpickled, (type(self), self.args, self.__dict__)


def _unpickled(kind: type[Portable], arguments: tuple[object, ...], fields: dict[str, object]) -> Portable:
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(fields)
    return error


class UsageError(Portable, ValueError):
    """A mistake of the user, told in one line that is made of its fields.

    where   the place: an option, a file with its row, an argument
    rule    what is required there, or the whole sentence where the other fields are left out
    got     the value that was given
    needed  the value, the bound or the choices that would do

    ``UsageError("too few", where="--epochs", got=0, needed="at least 1")`` reads "--epochs: too few; got 0, needed at
    least 1". Entry points print it on stderr and exit with status 2; a Python user catches it as a `ValueError`.
    """

    def __init__(self, rule: str, *, where: object = None, got: object = ABSENT, needed: object = ABSENT) -> None:
        self.rule = rule
        self.where = where
        self.got = got
        self.needed = needed
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        place = ""
        if self.where is not None:
            place = f"{self.where}: "

        values = []
        if self.got is not ABSENT:
            values.append(f"got {shown(self.got)}")
        if self.needed is not ABSENT:
            values.append(f"needed {self.needed}")
        if not values:
            return f"{place}{self.rule}"
        return f"{place}{self.rule}; {', '.join(values)}"


class Ended(Portable, Exception):
    """Work that was ended from outside, after everything was saved; the message says how to resume it."""

    status: int
    """Exit status of a command that ends with this error."""


class Interrupted(Ended):
    """Training that was stopped by a signal; `epoch` is the last one that is saved, None if there is none.

    `options` follow the folder in the command that resumes it.
    """

    def __init__(self, folder: Path, epoch: int | None, status: int, options: str = "") -> None:
        saved = f"after epoch {epoch}, which is saved"
        if epoch is None:
            saved = "before an epoch was saved"
        super().__init__(
            f"stopped {saved}; resume with: python -m jaxseq.train --resume {shlex.quote(str(folder))}{options}"
        )
        self.status = status


class Stopped(Ended):
    """Several runs that were stopped by a signal, each as by `Interrupted`; the command `again` resumes them."""

    def __init__(self, status: int, again: str) -> None:
        super().__init__(f"stopped; every run's last epoch is saved, and {again} resumes them")
        self.status = status


class Undecided(Ended):
    """A choice among several preparations that was stopped by a signal; `again` is the command that goes on with it."""

    def __init__(self, tried: int, status: int, again: str) -> None:
        super().__init__(f"stopped; the {tried} preparations that were tried are recorded, and {again} goes on")
        self.status = status


class Detached(Ended):
    """Jobs of a cluster that keep running without the command that started them; `again` is the command to find them."""

    def __init__(self, jobs: Sequence[str], status: int, again: str) -> None:
        # The tasks of an array of jobs are numbered 7_0, 7_1, ...; scancel takes the 7.
        first, *others = dict.fromkeys(job.partition("_")[0] for job in jobs)
        more = ""
        if others:
            more = f" and {len(others)} more"
        super().__init__(
            f"the jobs keep running without this command; {again} finds them again, scancel {first}{more} ends them"
        )
        self.status = status


class Lost(Ended):
    """The loss of another process of the same run; `why` is JAX's reason."""

    status = EXIT_LOST

    def __init__(self, why: str) -> None:
        super().__init__(
            "another process of this run has ended or cannot be reached; when all have ended, resume with --resume and "
            f"the run's folder ({why})"
        )


class WorkerKilled(Ended):
    """The end of a worker process from outside, with which the other workers ended, too; `again` resumes their work."""

    status = EXIT_LOST

    def __init__(self, again: str) -> None:
        super().__init__(
            f"a worker process was killed, as the system does when memory runs out; {again} resumes, and fewer workers "
            "take less memory"
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception says that memory ran out."""
    # JAX raises a RuntimeError or a ValueError with this word.
    is_of_jax = isinstance(error, RuntimeError | ValueError) and "RESOURCE_EXHAUSTED" in str(error)
    return is_of_jax or isinstance(error, MemoryError)
