"""Command lines: options are parsed, and a command ends with a status and one line if something stopped it."""

from __future__ import annotations

import errno
import functools
import io
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, TypeVar

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from jaxseq.common import streams
from jaxseq.common.errors import EXIT_INTERRUPTED, EXIT_PIPE, EXIT_USAGE, Ended, UsageError, is_out_of_memory
from jaxseq.common.files import user_path
from jaxseq.common.text import EXPANDED, first_line, printable, printable_lines

COLOUR = r"\x1b\[[0-9;]*m"
"""Sequence that changes the colour of a terminal."""


def run(program: str, work: Callable[[], object], stopped: str, smaller: str = "window, batch or model") -> int:
    """Run a command and return its exit status.

    The status is what `work` returns if that is an integer, else 0; 2 for a mistake of the user, a lack of memory, of
    open files or of space for what is printed, 1 if another process was lost, 130 or 143 if a signal stopped it, and 141
    if nobody reads what is printed. A failure is one line on stderr, but for the last: for Ctrl-C it says `stopped`, for
    a lack of memory to choose a smaller `smaller`. Every other exception is a fault of the program and raised.
    """
    streams.open_missing()
    try:
        try:
            return _status(program, work, stopped, smaller)
        finally:
            # What is buffered fails here, and not when the interpreter ends, where nobody catches it.
            sys.stdout.flush()
    except OSError as error:
        return _after_output_failed(program, error)


def _after_output_failed(program: str, error: OSError) -> int:
    """Return the exit status after an error of a stream or of the machine; raises every other error."""
    if isinstance(error, BrokenPipeError):
        # A pipe to another process of ours may break as well, which would be a fault of the program.
        if not streams.is_abandoned(sys.stdout):
            raise error
        streams.silence(sys.stdout)
        return EXIT_PIPE
    if error.errno in streams.OUTPUT_FAILURES and error.filename is None:
        streams.silence(sys.stdout)
        return _report(program, f"the output cannot be written: {error.strerror}", EXIT_USAGE)
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return _report(program, f"{error.strerror}: raise the limit (ulimit -n)", EXIT_USAGE)
    raise error


def _status(program: str, work: Callable[[], object], stopped: str, smaller: str) -> int:
    """Return the exit status of a command, after one line on stderr if something stopped it."""
    try:
        streams.check_open_files()
        status = work()
    except UsageError as error:
        return _report(program, error, EXIT_USAGE)
    except Ended as end:
        return _report(program, end, end.status)
    except KeyboardInterrupt:
        return _report(program, stopped, EXIT_INTERRUPTED)
    except (MemoryError, RuntimeError, ValueError) as error:
        if not is_out_of_memory(error):
            raise
        message = f"not enough memory ({first_line(error)}): choose a smaller {smaller}"
        return _report(program, message, EXIT_USAGE)
    return status if isinstance(status, int) else 0


def _report(program: str, message: object, status: int) -> int:
    # Messages quote names out of files.
    line = printable(f"{program}: {message}")
    try:
        print(line, file=sys.stderr, flush=True)
    # The status still tells that the command failed.
    except OSError:
        streams.silence(sys.stderr)
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

    Paths are resolved by `user_path`. Raises `UsageError` for an unknown option or a value that does not fit.
    """
    arguments: dict[str, Any] = {}
    if default is not None:
        arguments["default"] = default

    def parse_words() -> Options:
        return tyro.cli(options, args=words, prog=program, description=description, registry=_USER_PATHS, **arguments)

    return _in_one_line(parse_words, help_command or f"{program} --help")


def run_parsed(
    program: str,
    options: Callable[..., Options],
    work: Callable[[Options], object],
    words: Sequence[str] | None,
    *,
    smaller: str,
    stopped: str = "stopped",
) -> int:
    """Parse the words of a command line, None for those of the process, and `run` the work of their options."""
    typed = sys.argv[1:] if words is None else words
    return run(program, lambda: work(parse(options, typed, program=program)), stopped=stopped, smaller=smaller)


def call(
    subcommands: Mapping[str, Callable[..., int]],
    words: Sequence[str],
    *,
    program: str,
    description: str | None = None,
) -> int:
    """Parse the words of a command line and call the subcommand that they name; returns its result.

    The parameters of a subcommand are its options. Raises as `parse` does.
    """

    def deferred(function: Callable[..., int]) -> Callable[..., Callable[[], int]]:
        @functools.wraps(function)
        def bind(*arguments: object, **options: object) -> Callable[[], int]:
            return functools.partial(function, *arguments, **options)

        return bind

    # Called after the parsing, so that only tyro's own words on stderr are taken for a usage error.
    def parse_words() -> Callable[[], int]:
        return tyro.extras.subcommand_cli_from_dict(
            {name: deferred(function) for name, function in subcommands.items()},
            args=words,
            prog=program,
            description=description,
            config=(tyro.conf.PositionalRequiredArgs, tyro.conf.FlagCreatePairsOff),
            registry=_USER_PATHS,
        )

    return _in_one_line(parse_words, f"{program} --help")()


_USER_PATHS = ConstructorRegistry()
"""Rules by which tyro makes values of words, beside its own."""


@_USER_PATHS.primitive_rule
def _path_rule(kind: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Path] | None:
    """Make a `Path` of a word, before the word has lost the ./ with which it may begin."""
    if kind.type is not Path:
        return None

    def path_of(words: list[str]) -> Path:
        try:
            return user_path(words[0])
        except UsageError as error:
            raise _RefusedPathError from error

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=path_of,
        is_instance=lambda value: isinstance(value, Path),
        str_from_instance=lambda path: [str(path)],
    )


class _RefusedPathError(Exception):
    """A path that cannot be resolved; tyro would take a `ValueError` for a value of another type, and drop its reason."""


class _HelpText(io.StringIO):
    """A help text, formatted as for stdout."""

    encoding = "utf-8"

    def __init__(self) -> None:
        super().__init__()
        # Asked before this takes the place of stdout.
        self.is_for_terminal = sys.stdout.isatty()

    def isatty(self) -> bool:
        """Return whether the text will be shown on a terminal, for which tyro adds colours."""
        return self.is_for_terminal

    def printable(self) -> str:
        """Return the text, in which only colours of a terminal are not escaped."""
        if not self.isatty():
            return printable_lines(self.getvalue())
        parts = re.split(f"({COLOUR})", self.getvalue())
        # The odd parts are the colours.
        parts[::2] = map(printable_lines, parts[::2])
        return "".join(parts)


def _in_one_line(parse_words: Callable[[], Options], help_command: str) -> Options:
    """Call tyro; what it prints before it exits with a status becomes a `UsageError`."""
    box = io.StringIO()
    help_text = _HelpText()
    try:
        with redirect_stderr(box), redirect_stdout(help_text):
            return parse_words()
    except _RefusedPathError as refusal:
        assert isinstance(refusal.__cause__, UsageError)
        raise refusal.__cause__ from None
    except SystemExit as stop:
        if not stop.code:
            # A help text shows the defaults, which may come out of a file.
            print(help_text.printable(), end="")
            raise
        raise _usage_error(stop, box.getvalue(), help_command) from None


def _usage_error(stop: SystemExit, box: str, help_command: str) -> UsageError:
    """Return the error of an option's own check, or else tyro's, a box of several lines, as one line."""
    # tyro catches what the options raise; it is in the chain of contexts.
    cause: BaseException | None = stop
    while cause is not None:
        if isinstance(cause, UsageError):
            return cause
        cause = cause.__context__

    without_colours = re.sub(COLOUR, "", box)
    inner_lines = [line.strip("|│ ") for line in without_colours.splitlines()[1:-1]]
    text = "\n".join("" if set(line) <= set("-─") else line for line in inner_lines).strip()
    complaint, _, advice = text.partition("\n\n")

    # Names of files where options stand are those that a shell makes of an asterisk.
    words = complaint.partition(": ")[2].split(", ")
    is_expanded = any(not word.startswith("-") and os.path.lexists(word) for word in words)
    hint = f"see {help_command}"
    # Or else an option was forgotten before the name of its file.
    if is_expanded:
        hint = f"{hint}; {EXPANDED}"
    if advice.startswith("Perhaps"):
        similar = re.search(r"^--[\w.-]+", advice, re.MULTILINE)
        if similar:
            hint = f"perhaps {similar[0]}"
    return UsageError(f"{complaint.replace(chr(10), ' ').rstrip('.')}: {hint}")
