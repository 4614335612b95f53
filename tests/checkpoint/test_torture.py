"""Killed again and again, a run ends as one that nobody touched: weights, optimiser, log and best epoch, bit for bit."""

import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from command_server import server

from jaxseq.checkpoint import records, run_seal, store
from jaxseq.train import run_folder

WORDS = "waves --data.count 200 --data.window 6 --model.cell lstm --model.hidden 3 --schedule constant"
FOREVER = 100_000
ASIDE = re.compile(r"judged-(\d+|unsealed)")
"""Folders to which a judgement is moved before training goes on: the kills of the last phase leave some."""


def epochs(run: Path) -> int:
    """Rows of the log, whole or not."""
    file = run / run_seal.METRICS
    return file.read_bytes().count(b"\n") if file.is_file() else 0


def entries(run: Path) -> set[str]:
    """What lies in the folder of checkpoints at this moment."""
    folder = run / run_seal.CHECKPOINTS
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def moment(phase: str, run: Path, draw: random.Random) -> Callable[[], bool]:
    """Whether a phase that is to be hit has come, and how far into it the kill falls."""
    begun, rows, there = time.monotonic(), epochs(run), entries(run)
    delay = {"start": 1.5, "epoch": 0.2, "save": 0.06, "clear": 0.03, "judge": 0.6}[phase] * draw.random()
    more, reached = draw.randint(1, 2), 0.0

    def has_come() -> bool:
        nonlocal reached
        if not reached:
            came = {
                "start": lambda: True,
                "epoch": lambda: epochs(run) >= rows + more,
                "save": lambda: bool(entries(run) - there),
                "clear": lambda: bool(there - entries(run)),
                "judge": lambda: epochs(run) > rows,
            }[phase]()
            reached = time.monotonic() if came else 0.0
        return bool(reached) and time.monotonic() - reached >= delay and time.monotonic() - begun > delay

    return has_come


PHASES = ("start", "epoch", "save", "clear", "judge")


def torture(folder: Path, phases: Sequence[str], seed: int) -> Counter[str]:
    """Kill a run once in each of the phases, let it end, and compare it with one that was left alone.

    Returns the number of kills that fell into each phase.
    """
    draw, run, hit, at = random.Random(seed), folder / "run", Counter[str](), 0
    with server(folder) as processes:
        for phase in phases:
            begun, last = (run / run_seal.CONFIG).is_file(), records.latest_epoch(run / run_seal.CHECKPOINTS) or 0
            assert last >= at, "a kill cost an epoch that was saved"
            at = last
            wanted = last + 1 if phase == "judge" else FOREVER
            words = f"{'--resume run' if begun else f'{WORDS} --out run'} --epochs {wanted}"
            child = processes.start("train.__main__", words.split())
            has_come, until = moment(phase, run, draw), time.monotonic() + 60
            while not (come := has_come()) and time.monotonic() < until and Path(f"/proc/{child}").is_dir():
                time.sleep(0.001)
            if come:
                with suppress(ProcessLookupError):  # it came to its end first
                    os.kill(child, signal.SIGKILL)
            status = processes.finish()
            assert status in (0, signal.SIGKILL), (folder / "log.txt").read_text()[-2000:]
            hit[phase if status else "after the end"] += 1
        last = (records.latest_epoch(run / run_seal.CHECKPOINTS) or 0) + 2
        for words in (f"--resume run --epochs {last}", f"{WORDS} --out alone --epochs {last}"):
            processes.start("train.__main__", words.split())
            assert processes.finish() == 0, (folder / "log.txt").read_text()[-2000:]
    compare(run, folder / "alone")
    return hit


def compare(run: Path, alone: Path) -> None:
    """Two runs are the same but for what a clock says, and nothing of the kills is left."""
    rows = run_folder.read_metrics(run)
    assert [row["epoch"] for row in rows] == list(range(1, len(rows) + 1))
    assert [untimed(row) for row in rows] == [untimed(row) for row in run_folder.read_metrics(alone)]
    mine, theirs = run / run_seal.CHECKPOINTS, alone / run_seal.CHECKPOINTS
    assert records.best_epoch(mine) == records.best_epoch(theirs)
    assert (
        set(records.epochs(theirs)) <= set(records.epochs(mine))
        and records.config(mine).keys() == records.config(theirs).keys()
    )
    for step in records.epochs(theirs):
        assert records.metrics(mine, step) == records.metrics(theirs, step)
        ours, others = store.load_leaves(mine, step), store.load_leaves(theirs, step)
        assert {path: leaf.tobytes() for path, leaf in ours.items()} == {
            p: leaf.tobytes() for p, leaf in others.items()
        }
    for name in (run_seal.CONFIG, run_seal.PREDICTIONS, run_seal.SCORES, run_seal.REPORT, run_seal.INTERVALS):
        assert (run / name).read_bytes() == (alone / name).read_bytes(), name
    left = {path.name for path in run.iterdir() if not ASIDE.fullmatch(path.name)}
    assert left == {path.name for path in alone.iterdir()}
    assert entries(run) == entries(alone), "a kill left something behind"


def untimed(row: run_folder.Row) -> run_folder.Row:
    return {name: value for name, value in row.items() if name not in ("seconds", "windows_per_second")}


def test_a_run_that_is_killed_in_an_epoch_and_in_a_save_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    torture(tmp_path, ["epoch", "save"], seed=1)


@pytest.mark.slow
def test_a_run_that_is_killed_sixty_times_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    begun = time.monotonic()
    hit = torture(tmp_path, PHASES * 12, seed=2)
    print(f"killed {hit.total()} times in {time.monotonic() - begun:.0f} s: {dict(hit)}")
    assert hit["after the end"] < 12
