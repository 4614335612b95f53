"""A command ends with a status and, where something stopped it, with one line on stderr."""

import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from jaxseq.common import command_line
from jaxseq.common.errors import EXIT_INTERRUPTED, EXIT_TERMINATED, EXIT_USAGE, Interrupted, UsageError


def run(work):
    return command_line.run("program", work, stopped="stopped")


def failing(error):
    def work():
        raise error

    return work


@pytest.mark.parametrize(("returned", "status"), [(None, 0), ("text", 0), (0, 0), (1, 1)])
def test_the_status_is_that_of_the_work(returned, status, capsys):
    assert run(lambda: returned) == status
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (UsageError("too few", where="--epochs", got=0), EXIT_USAGE, "--epochs: too few; got 0"),
        (KeyboardInterrupt(), EXIT_INTERRUPTED, "stopped"),
        (Interrupted(Path("runs/a b"), 3, EXIT_TERMINATED), EXIT_TERMINATED, "'runs/a b'"),
        (MemoryError("Unable to allocate 9 GiB"), EXIT_USAGE, "not enough memory (Unable to allocate 9 GiB)"),
        (RuntimeError("RESOURCE_EXHAUSTED: out of memory\nmore"), EXIT_USAGE, "not enough memory (RESOURCE_EXHAUSTED"),
    ],
)
def test_what_stops_a_command_is_one_line(error, status, words, capsys):
    assert run(failing(error)) == status
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("program: ") and err.count("\n") == 1 and words in err


@pytest.mark.parametrize("error", [RuntimeError("bug"), ValueError("bug"), KeyError("bug")])
def test_a_fault_of_the_program_is_raised(error):
    with pytest.raises(type(error), match="bug"):
        run(failing(error))


@dataclass
class Options:
    """Options."""

    epochs: int = 1
    """Passes over the training set."""

    def __post_init__(self):
        if self.epochs < 1:
            raise UsageError("too few", where="epochs", got=self.epochs)


def test_options_are_parsed():
    assert command_line.parse(Options, ["--epochs", "3"], program="program") == Options(3)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("--epochs 0", ["epochs: too few; got 0"]),
        ("--epoch 3", ["--epoch", "perhaps --epochs"]),
        ("--epochs three", ["--epochs", "three", "see program --help"]),
    ],
)
def test_a_mistake_in_the_options_is_one_line(words, parts, capsys):
    with pytest.raises(UsageError) as error:
        command_line.parse(Options, words.split(), program="program")
    assert "\n" not in str(error.value) and all(part in str(error.value) for part in parts)
    assert capsys.readouterr() == ("", "")


def test_help_ends_with_status_0(capsys):
    with pytest.raises(SystemExit) as stop:
        command_line.parse(Options, ["--help"], program="program")
    assert not stop.value.code and "Passes over the training set" in capsys.readouterr().out


def test_signals_are_answered_within_and_restored_after():
    from jaxseq.common import signals

    before = signal.getsignal(signal.SIGTERM)
    answers = []
    with signals.caught(answers.append):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
    assert answers == [EXIT_TERMINATED, EXIT_INTERRUPTED]
    assert signal.getsignal(signal.SIGTERM) is before
