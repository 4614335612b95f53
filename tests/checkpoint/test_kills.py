"""Killed at random, in time and between two changes to the disk, each command ends as one that nobody touched.

The same command again, or `--resume`, makes the results of an undisturbed process byte for byte, leaves nothing temporary
behind, and touches no file of somebody else. Pictures and clocks are replaced, and a sweep and a report train in their
own process, so that a kill falls into the training, too.
"""

import json
import os
import random
import shutil
import signal
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from command_server import Server, server
from made_up import edition
from quickened import sales
from untrained import untrained

from jaxseq.checkpoint import __main__ as checkpoint
from jaxseq.checkpoint import records, run_seal
from jaxseq.common import files, lock
from jaxseq.sweep.planned import LOG

FOREIGN = {"notes.txt": b"mine", ".env.testing1": b"secret", ".config.personal": b"", "samples.json.bak": b"{}"}
"""Files of somebody else, which lie beside what a command writes, and in its folder as soon as that is there."""


class Killed(NamedTuple):
    """A command that is killed; the same one completes what a kill has left.

    module   that is called, in the package
    words    of its command line
    output   the folder that it writes, verified at the end
    most     kills in a row, after which it may end
    share    of its changes and of its time, in which each kill falls; the next one falls later
    """

    module: str
    words: str
    output: str
    most: int = 3
    share: float = 1.0


TABLE = "table --data.path sales.csv --data.series store --data.window 5 --model.hidden 2 --batch 64"
TINY = "--data.count 60 --data.window 8 --model.hidden 2 --batch 16"
CASES = {
    # Into the run's folder: a file that --out names is refused if it is there.
    "forecast": Killed("forecast", "run", "run"),
    "sample": Killed("sample.__main__", "chords --out pieces --no-score --bpm 400 --count 2 --bars 1", "pieces"),
    "sweep": Killed(
        "sweep.__main__", f"waves {TINY} --epochs 2 --lr 0.01,0.02 --workers 1 --out sweep", "sweep", 6, share=0.4
    ),
    "report": Killed(
        "report.__main__",
        "--budget quick --workers 1 --bpm 400 --chorales pieces.tgz --out report",
        "report",
        most=100,
        share=0.06,
    ),
    "train": Killed("train.__main__", "--resume run --epochs 5", "run", 4),
    "refit": Killed("train.__main__", "--resume run --refit", "run", 4),
}


def prepare(folder: Path, processes: Server) -> None:
    """Make what the commands read: a finished run, and a model of chorales."""
    untrained("jsb-chords", edition(folder), folder / "chords")
    sales(folder)
    assert done(processes, "train.__main__", f"{TABLE} --epochs 3 --out finished") == 0, log(folder)


def done(processes: Server, module: str, words: str, kill_at: int = 0) -> int:
    processes.start(module, words.split(), kill_at)
    return processes.finish()


def log(folder: Path) -> str:
    return (folder / "log.txt").read_text()[-2000:]


def begin(folder: Path, command: Killed) -> None:
    """Undo what a command did, and put files of somebody else beside what it will write."""
    shutil.rmtree(folder / command.output, ignore_errors=True)
    shutil.rmtree(folder / "run", ignore_errors=True)
    shutil.copytree(folder / "finished", folder / "run")
    add_foreign_files(folder, command)


def add_foreign_files(folder: Path, command: Killed) -> None:
    """Put files of somebody else into every folder that a command may write into; pieces need an empty one."""
    for place in (folder, folder / "run", folder / command.output):
        if place.is_dir() and place.name != "pieces":
            for name, content in FOREIGN.items():
                (place / name).write_bytes(content)


def check(folder: Path, command: Killed, expected: dict[str, object]) -> None:
    """Assert that a command has ended as an undisturbed one, and that nothing else was changed or left."""
    actual = contents(folder / command.output)
    for name, kept in expected.items():
        # An older epoch that was about to be deleted stays until another one is saved.
        if isinstance(kept, dict):
            epochs = actual[name]
            assert isinstance(epochs, dict)
            actual[name] = {epoch: record for epoch, record in epochs.items() if epoch in kept}
    assert actual == expected
    left = [path for path in folder.rglob("*") if files.MARK in path.name and "compiled" not in path.parts]
    assert not left, "temporary files are left"
    for name, content in FOREIGN.items():
        assert {path.read_bytes() for path in folder.rglob(name)} == {content}, f"{name} was changed"
        assert (folder / name).is_file() and (folder / "run" / name).is_file()
    assert checkpoint.main(["verify", str(folder / command.output)]) == 0


def contents(folder: Path) -> dict[str, object]:
    """Return every file by its path, and of each epoch its record: the hashes in it are those of the arrays."""
    result: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.name == run_seal.CHECKPOINTS:
            result[name] = {epoch: records.record_of(path, epoch) for epoch in records.epochs(path)}
        elif path.name == run_seal.ENVIRONMENT:
            # When the command began, which its seal covers: `verify` reads the seal.
            environment = json.loads(path.read_bytes())
            result[name] = [item for item in environment.items() if item[0] not in ("started", "sha256")]
        elif path.is_file() and run_seal.CHECKPOINTS not in path.parts and not is_left_out(path.name):
            result[name] = path.read_bytes()
    return result


def is_left_out(name: str) -> bool:
    """Return whether a file is of somebody else, names its process, or tells of every call."""
    return name in FOREIGN or name.startswith(lock.NAME) or name.endswith(LOG)


def torture(name: str, folder: Path, kills: int, seed: int) -> Counter[str]:
    """Kill a command again and again, complete it now and then, and compare it with an undisturbed one.

    Returns the number of kills before a change to the disk, of those at a moment in time, of commands that had ended
    before, and of comparisons.
    """
    command = CASES[name]
    draw = random.Random(seed)
    counts = Counter[str]()
    with server(folder) as processes:
        prepare(folder, processes)
        begin(folder, command)
        # Once for the compiled programs, once for the time.
        for _ in range(2):
            begin(folder, command)
            began = time.monotonic()
            assert done(processes, command.module, command.words) == 0, log(folder)
            seconds = time.monotonic() - began
        changes = int((folder / "changes.txt").read_text())
        expected = contents(folder / command.output)

        while counts["before a change"] + counts["in time"] < kills:
            begin(folder, command)
            for _ in range(draw.randint(1, command.most)):
                kind = draw.choice(("before a change", "in time"))
                if kind == "in time":
                    status = killed_in_time(processes, command, command.share * seconds * draw.random())
                else:
                    kill_at = draw.randint(1, max(1, round(command.share * changes)))
                    status = done(processes, command.module, command.words, kill_at)
                assert status in (0, signal.SIGKILL), log(folder)
                counts[kind if status else "ended before"] += 1
                add_foreign_files(folder, command)
                if status == 0 or counts["before a change"] + counts["in time"] >= kills:
                    break
            # What has come to its end may refuse to be repeated.
            if status:
                assert done(processes, command.module, command.words) == 0, log(folder)
            check(folder, command, expected)
            counts["compared"] += 1
    return counts


def killed_in_time(processes: Server, command: Killed, seconds: float) -> int:
    """Kill a command after some seconds; returns its status as `os.waitpid` does."""
    child = processes.start(command.module, command.words.split())
    until = time.monotonic() + seconds
    while time.monotonic() < until and Path(f"/proc/{child}").is_dir():
        time.sleep(0.001)
    # It may have come to its end first.
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    return processes.finish()


@pytest.mark.slow
def test_a_forecast_that_is_killed_twice_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    assert torture("forecast", tmp_path, kills=2, seed=0)["compared"]


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_command_that_is_killed_dozens_of_times_ends_as_if_it_had_not_been(name: str, tmp_path: Path) -> None:
    counts = torture(name, tmp_path, kills=int(os.environ.get("KILLS", "30")), seed=1)
    moments = f"{counts['before a change']} before a change to the disk, {counts['in time']} in time"
    print(f"{name}: killed {moments}; {counts['ended before']} ended before; {counts['compared']} compared, 0 lost")
