"""Every option that takes a path, found in the help texts: ``~`` is the same folder for all of them."""

import contextlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from quick_words import TINY

from jaxseq import forecast, score
from jaxseq.benchmark import __main__ as benchmark
from jaxseq.checkpoint import __main__ as checkpoint
from jaxseq.export import __main__ as export
from jaxseq.report import __main__ as report
from jaxseq.sample import __main__ as sample
from jaxseq.sweep import __main__ as sweep
from jaxseq.train import __main__ as train
from jaxseq.train.experiments import EXPERIMENTS

NOBODY = "~nobody-of-that-name/a"
"""A path that `files.user_path` refuses, and nothing else does."""
KNOWN = {
    **dict.fromkeys(("train table", "train jsb", "train chorales"), ("--out", "--resume", "--data.path")),
    "forecast": ("--out", "--data.path"),
    "score": ("--out", "--data.path"),
    "sample": ("--out", "--prime", "--melody"),
    "report": ("--out", "--chorales"),
    "benchmark": ("--out", "--plot"),
    "checkpoint show": (),
    "checkpoint verify": (),
    "checkpoint diff": (),
}
"""Some of the options that have to be found, by the command; of others --out."""


class Command(NamedTuple):
    """A command line without the options of `paths_of`.

    words  that a call needs besides, RUN for the folder of a run
    help   words of its help text
    """

    main: Callable[[list[str]], int]
    words: tuple[str, ...]
    help: tuple[str, ...]


ONE_OF_EACH_DATA_SET = {type(experiment.data): name for name, experiment in reversed(EXPERIMENTS.items())}.values()
RUN = "RUN"
"""Stands for the folder of a run."""
COMMANDS = {
    **{f"train {name}": Command(train.main, (name,), (name,)) for name in ONE_OF_EACH_DATA_SET},
    "forecast": Command(forecast.main, (RUN,), (RUN,)),
    "score": Command(score.main, (RUN, "later.csv"), (RUN, "later.csv")),
    "sample": Command(sample.main, (RUN,), ()),
    "sweep": Command(sweep.main, (*TINY, "--seed", "0,1"), ()),
    "report": Command(report.main, (), ()),
    "export": Command(export.main, (RUN,), ()),
    "benchmark": Command(benchmark.main, (), ()),
    "checkpoint show": Command(checkpoint.main, ("show", RUN), ("show",)),
    "checkpoint verify": Command(checkpoint.main, ("verify", RUN), ("verify",)),
    "checkpoint diff": Command(checkpoint.main, ("diff", RUN, RUN), ("diff",)),
}


def paths_of(text: str) -> list[str]:
    """The options of a help text whose values are paths: by their type, or by what is said of a text."""
    rows = re.split(r"\n[│ ]+(?=--)", text)
    names = []
    for row in rows:
        option = re.match(r"(--[\w.-]+) (?:\{None\}\|)?(PATH|FOLDER|STR)\b", row)
        if option and (option[2] != "STR" or re.search(r"\b(file|folder|archive|path)\b", row, re.IGNORECASE)):
            names.append(option[1])
    return names


@pytest.fixture
def refused(capsys: pytest.CaptureFixture) -> Callable[[Command, list[str]], bool]:
    """Whether a command takes a word for the home folder of nobody, which is one line."""

    def call(command: Command, words: list[str]) -> bool:
        status = command.main(words)
        error = capsys.readouterr().err
        return status == 2 and "no such user" in error and error.count("\n") == 1

    return call


@pytest.mark.parametrize("name", COMMANDS)
def test_every_path_of_a_command_is_one_of_the_user(
    name: str, home: Path, table_run: Path, chords_run: Path, refused, capsys: pytest.CaptureFixture
) -> None:
    command = COMMANDS[name]
    run = str(chords_run if name == "sample" else table_run)
    words = [run if word == RUN else word for word in command.words]
    with contextlib.suppress(SystemExit):
        command.main([*(run if word == RUN else word for word in command.help), "--help"])
    options = paths_of(capsys.readouterr().out)
    assert set(KNOWN.get(name, ["--out"])) <= set(options)

    for option in options:
        assert refused(command, [*words, option, NOBODY]), option
        assert refused(command, [*words, f"{option}={NOBODY}"]), option
    for place, word in enumerate(command.words):
        if word == RUN:
            assert refused(command, [*words[:place], NOBODY, *words[place + 1 :]]), place
