"""How a command ends: with a status, and in one line if something stopped it."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from typing import Any, TypeVar

import tyro

from jaxseq.common.errors import EXIT_INTERRUPTED, EXIT_USAGE, Ended, UsageError
from jaxseq.common.text import first_line


def run(program: str, work: Callable[[], object], stopped: str, smaller: str = "window, batch or model") -> int:
    """Do a command's work; the exit status: what the work returns if that is one, else 0; 2 for a mistake of the user, 1 if
    another process was lost, 130 or 143 if a signal stopped it.

    A mistake, a signal or a lack of memory is told in one line on stderr: of Ctrl-C what `stopped` says, of memory that
    `smaller` would help. Every other exception is ours, and raised.
    """
    try:
        status = work()
    except UsageError as error:
        return _told(program, error, EXIT_USAGE)
    except Ended as end:
        return _told(program, end, end.status)
    except KeyboardInterrupt:
        return _told(program, stopped, EXIT_INTERRUPTED)
    except (MemoryError, RuntimeError, ValueError) as error:
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):  # JAX's word for it
            raise
        return _told(program, f"not enough memory ({first_line(error)}): take a smaller {smaller}", EXIT_USAGE)
    return status if isinstance(status, int) else 0


def _told(program: str, why: object, status: int) -> int:
    print(f"{program}: {why}", file=sys.stderr)
    return status


Options = TypeVar("Options")


def parse(
    options: Callable[..., Options],
    words: Sequence[str],
    *,
    program: str,
    default: Options | None = None,
    description: str | None = None,
    help_command: str | None = None,
) -> Options:
    """Parse the words of a command line into an instance of `options`: a dataclass, or a union of several, a subcommand
    each.

    `default` gives the values of the options that the words leave out. An error refers to `help_command`, by default
    `program` with --help. For --help itself, tyro prints the text and exits.

    Raises `UsageError` for an unknown option or a value that does not fit.
    """
    arguments: dict[str, Any] = {}
    if default is not None:
        arguments["default"] = default

    box = io.StringIO()
    try:
        with redirect_stderr(box):
            return tyro.cli(options, args=words, prog=program, description=description, **arguments)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise _usage_error(stop, box.getvalue(), help_command or f"{program} --help") from None


def _usage_error(stop: SystemExit, box: str, help_command: str) -> UsageError:
    """The recipe's own complaint, which tyro catches, or else tyro's, which is a box of many lines, as one line."""
    cause: BaseException | None = stop
    while cause is not None:
        if isinstance(cause, UsageError):
            return cause
        cause = cause.__context__
    lines = [line.strip("|│ ") for line in re.sub(r"\x1b\[[0-9;]*m", "", box).splitlines()[1:-1]]
    said, _, rest = "\n".join("" if set(line) <= set("-─") else line for line in lines).strip().partition("\n\n")
    meant = re.search(r"^--[\w.-]+", rest, re.MULTILINE) if rest.startswith("Perhaps") else None
    hint = f"perhaps {meant[0]}" if meant else f"see {help_command}"
    return UsageError(f"{said.replace(chr(10), ' ').rstrip('.')}: {hint}")
