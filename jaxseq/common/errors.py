"""What ends work and is no fault of the program: a mistake of the user, a signal, a loss; and how it fits into one line."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from jaxseq.common.text import shown


class _Absent(Enum):
    """The type of `ABSENT`; an enumeration, so that it stays one object when an error is pickled."""

    ABSENT = "absent"


ABSENT = _Absent.ABSENT
"""A field that an error does not have; None is a value that a user can give."""

EXIT_LOST, EXIT_USAGE = 1, 2
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


class UsageError(ValueError):
    """A value from the user cannot work; the message is one line, made of the fields.

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
        place = "" if self.where is None else f"{self.where}: "
        values = []
        if self.got is not ABSENT:
            values.append(f"got {shown(self.got)}")
        if self.needed is not ABSENT:
            values.append(f"needed {self.needed}")
        separator = "; " if values else ""
        return f"{place}{self.rule}{separator}{', '.join(values)}"

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions pickle by calling their class with `args`; keywords and a subclass's own arguments would be lost.
        return _unpickled, (type(self), self.args, self.__dict__)


def _unpickled(kind: type[UsageError], arguments: tuple[Any, ...], fields: dict[str, Any]) -> UsageError:
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(fields)
    return error


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
