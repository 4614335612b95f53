"""Text out of files reaches a terminal as text; streams that fail end a command in one line."""

import io
import os
import resource
import sys

import pytest
from rich.table import Table
from rich.text import Text

from jaxseq.common import command_line, console, streams
from jaxseq.common.errors import EXIT_PIPE, EXIT_USAGE, UsageError

HOSTILE = "a\x1b[2J\x1b]0;title\x07\r\x9b31m\u202e[red]:smile:[/nothing]"


def is_text(shown: str) -> bool:
    return shown.replace("\n", "").isprintable()


@pytest.mark.parametrize("is_terminal", [False, True])
def test_nothing_out_of_a_file_commands_a_terminal(is_terminal):
    file = io.StringIO()
    screen = console.Screen(file=file, force_terminal=is_terminal, width=200, color_system=None)
    table = Table(title=HOSTILE, caption=HOSTILE)
    table.add_column(HOSTILE)
    table.add_row(HOSTILE)
    for part in (HOSTILE, Text(HOSTILE), table):
        screen.print(part)
    screen.print(f"two {HOSTILE}\nlines", style="bold")
    screen.rule(HOSTILE)
    shown = file.getvalue().replace("\x1b[1m", "").replace("\x1b[0m", "")
    assert is_text(shown) and shown.count("[red]:smile:[/nothing]") >= 6
    assert r"a\x1b[2J\x1b]0;title\x07\r\x9b31m\u202e" in shown and "two a" in shown


def test_columns_stay_aligned_where_a_name_is_escaped():
    file = io.StringIO()
    table = Table(box=None)
    table.add_column("name")
    table.add_column("number")
    table.add_row("a\x1b[2J", "1")
    table.add_row("b", "2")
    console.terminal(file).print(table)
    first, second = file.getvalue().splitlines()[1:]
    assert first.index("1", first.index("J")) == second.index("2")


def test_what_is_said_and_what_stops_a_command_is_text(capsys):
    console.say(f"{HOSTILE}\nmore")

    def fail():
        raise UsageError("unknown", where="file\x1b[2J\nname", got=HOSTILE)

    assert command_line.run("program", fail, "stopped") == EXIT_USAGE
    out, err = capsys.readouterr()
    assert is_text(out) and out.count("\n") == 2 and is_text(err) and err.count("\n") == 1


@pytest.fixture
def output(monkeypatch):
    """Make a stream stdout until the end of the test."""
    opened = []

    def use(stream):
        opened.append(stream)
        monkeypatch.setattr(sys, "stdout", stream)

    yield use
    for stream in opened:
        # A stream that failed fails again here, as at the end of an interpreter, unless it was silenced.
        stream.close()


def full():
    return open("/dev/full", "w")


def abandoned():
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w")


@pytest.mark.parametrize("count", [1, 100_000])
def test_a_full_disk_behind_stdout_is_one_line(count, output, capsys):
    output(full())
    assert command_line.run("program", lambda: print("text" * count), "stopped") == EXIT_USAGE
    err = capsys.readouterr().err
    assert err == "program: the output cannot be written: No space left on device\n"


@pytest.mark.parametrize("count", [1, 100_000])
@pytest.mark.parametrize("is_rich", [False, True])
def test_a_pipe_that_nobody_reads_ends_as_by_its_signal(count, is_rich, output, capsys):
    output(abandoned())
    show = console.terminal().print if is_rich else print
    assert command_line.run("program", lambda: show("text" * count), "stopped") == EXIT_PIPE
    assert capsys.readouterr().err == ""


def test_another_pipe_that_breaks_is_a_fault_of_the_program(output):
    reader, writer = os.pipe()
    output(os.fdopen(writer, "w"))

    def work():
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        command_line.run("program", work, "stopped")
    os.close(reader)


def test_too_few_open_files_are_one_line_before_any_work(monkeypatch, capsys):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (20, 20))
    assert command_line.run("program", lambda: pytest.fail("worked"), "stopped") == EXIT_USAGE
    assert capsys.readouterr().err == (
        "program: ulimit -n: too few open files are allowed; got 20, needed at least 64\n"
    )


def test_the_limit_of_open_files_is_raised_where_it_may_be(monkeypatch):
    limits = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (20, 1000))
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: limits.append(pair))
    assert command_line.run("program", lambda: 0, "stopped") == 0
    assert limits == [(streams.LEAST_OPEN_FILES, 1000)]


def test_files_that_run_out_on_the_way_are_one_line(capsys):
    def work():
        raise OSError(24, "Too many open files", "file")

    assert command_line.run("program", work, "stopped") == EXIT_USAGE
    assert capsys.readouterr().err == "program: Too many open files: raise the limit (ulimit -n)\n"


def test_any_other_error_of_the_system_is_raised():
    def work():
        raise FileNotFoundError(2, "No such file or directory", "file")

    with pytest.raises(FileNotFoundError):
        command_line.run("program", work, "stopped")


def test_closed_streams_are_none_of_a_command_s_concern(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)

    def fail():
        console.terminal().print("text")
        raise UsageError("no")

    assert command_line.run("program", fail, "stopped") == EXIT_USAGE
    sys.stdout.close()
    sys.stderr.close()


def test_a_failing_stderr_does_not_hide_the_status(monkeypatch):
    monkeypatch.setattr(sys, "stderr", full())

    def fail():
        raise UsageError("no")

    assert command_line.run("program", fail, "stopped") == EXIT_USAGE
    sys.stderr.close()
