"""Several processes that train one run together: the same numbers, the same folder, and an end in words."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from jaxseq.checkpoint import records, run_seal, store
from jaxseq.train import __main__ as train
from jaxseq.train import run_folder

WORDS = "waves --data.count 200 --data.window 6 --model.cell lstm --model.hidden 3 --schedule constant"
SLOW_START, END = 300, 30
"""Seconds that imports and compiling may take on a busy machine; and until a process whose peer is lost has ended."""
pytestmark = pytest.mark.slow


class Ended(NamedTuple):
    """How a process ended, and what it printed."""

    status: int
    said: str


def free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return asked.getsockname()[1]


@contextmanager
def started(folder: Path, words: str, count: int, *others: str) -> Iterator[list[subprocess.Popen[str]]]:
    """So many processes that do a command together, each with one device; `others` is what those after the first do."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(train.__file__).parents[2]),
        "PYTHONWARNINGS": "ignore",
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": "1",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
    }
    together = f"--mesh.processes {count} --mesh.coordinator 127.0.0.1:{free_port()} --mesh.wait {SLOW_START}"
    processes = []
    try:
        for number in range(count):
            asked = [words, *others][min(number, len(others))]
            mine = f"{asked} {together} --mesh.process {number}" if count > 1 else asked
            with (folder / f"said-{number}.txt").open("w") as file:
                command = [sys.executable, "-m", "jaxseq.train", *mine.split()]
                processes.append(
                    subprocess.Popen(command, cwd=folder, env=environment, stdout=file, stderr=file, text=True)
                )
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def ended(folder: Path, processes: list[subprocess.Popen[str]], within: float) -> list[Ended]:
    until = time.monotonic() + within
    statuses = [process.wait(max(until - time.monotonic(), 0.1)) for process in processes]
    return [Ended(status, (folder / f"said-{number}.txt").read_text()) for number, status in enumerate(statuses)]


def done(folder: Path, words: str, count: int, *others: str) -> list[Ended]:
    with started(folder, words, count, *others) as processes:
        return ended(folder, processes, SLOW_START)


def wait_for(there: Callable[[], bool], processes: list[subprocess.Popen[str]]) -> None:
    until = time.monotonic() + SLOW_START
    while not there():
        assert time.monotonic() < until and all(process.poll() is None for process in processes)
        time.sleep(0.05)


def begun(folder: Path) -> Callable[[], bool]:
    """Whether two epochs are logged, and one is saved."""
    return lambda: (
        len(run_folder.read_metrics(folder / "run")) >= 2 and bool(records.epochs(folder / "run/checkpoints"))
    )


def measured(run: Path) -> np.ndarray:
    """The log, without what a clock says."""
    names = ("epoch", "step", "train_loss", "valid_mse", "gradient_norm")
    return np.array([[row[name] for name in names] for row in run_folder.read_metrics(run)])


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five epochs of one process."""
    folder = tmp_path_factory.mktemp("alone")
    assert [status for status, _ in done(folder, f"{WORDS} --epochs 5 --out run", 1)] == [0]
    return folder / "run"


def test_two_processes_train_what_one_trains_and_each_goes_on_with_what_the_other_saved(
    tmp_path: Path, alone: Path
) -> None:
    first, second = done(tmp_path, f"{WORDS} --epochs 3 --out run", 2)
    assert first.status == second.status == 0, (first.said, second.said)
    assert "epoch    3/3" in first.said and "epoch" not in second.said, "the first alone speaks"
    assert json.loads((tmp_path / "run/environment.json").read_text())["devices"] == "2 cpu of 2 processes"
    np.testing.assert_allclose(measured(tmp_path / "run"), measured(alone)[:3], atol=1e-6)
    for epochs, count in ((4, 1), (5, 2)):
        ends = done(tmp_path, f"--resume run --epochs {epochs}", count)
        assert [status for status, _ in ends] == [0] * count, ends
        assert f"resuming after epoch {epochs - 1}" in ends[0].said
    together = measured(tmp_path / "run")
    np.testing.assert_allclose(together, measured(alone), atol=1e-6)
    mine, theirs = (store.load_leaves(run / run_seal.CHECKPOINTS, 5) for run in (tmp_path / "run", alone))
    assert mine.keys() == theirs.keys()
    for path in mine:
        np.testing.assert_allclose(mine[path], theirs[path], atol=1e-6, err_msg=path)
    # The judgements after epochs 3 and 4 were moved aside when training resumed.
    files = {path.name for path in alone.iterdir()} | {"judged-3", "judged-4"}
    assert {path.name for path in (tmp_path / "run").iterdir()} == files
    apart = np.abs(together - measured(alone)).max()
    print(f"1 against 2 processes: losses and norms of 5 epochs differ by {apart:.1e} at most")


def test_two_processes_that_stopped_end_bit_for_bit_as_two_that_did_not(tmp_path: Path) -> None:
    for name, parts in {"whole": (3,), "parts": (1, 3)}.items():
        (tmp_path / name).mkdir()
        for number, epochs in enumerate(parts):
            words = f"--resume run --epochs {epochs}" if number else f"{WORDS} --epochs {epochs} --out run"
            ends = done(tmp_path / name, words, 2)
            assert [status for status, _ in ends] == [0, 0], ends
    whole, parts = (store.load_leaves(tmp_path / name / "run" / run_seal.CHECKPOINTS, 3) for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    for path in whole:
        np.testing.assert_array_equal(whole[path], parts[path], err_msg=path)


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_the_other_in_words_and_the_run_goes_on(tmp_path: Path, killed: int) -> None:
    with started(tmp_path, f"{WORDS} --epochs 100000 --out run", 2) as processes:
        wait_for(begun(tmp_path), processes)
        processes[killed].kill()
        at = time.monotonic()
        status = processes[1 - killed].wait(END)
        took = time.monotonic() - at
    said = (tmp_path / f"said-{1 - killed}.txt").read_text()
    ours = "jaxseq.train: another process of this run has ended or cannot be reached" in said
    if killed:
        assert ours and status == 1, said
    else:  # whose end JAX may notice before we do, and abort
        assert (ours and status == 1) or "Terminating process because" in said, said
    saved = records.latest_epoch(tmp_path / "run/checkpoints")
    ends = done(tmp_path, f"--resume run --epochs {saved + 1}", 2)
    assert [status for status, _ in ends] == [0, 0], ends
    assert [row["epoch"] for row in run_folder.read_metrics(tmp_path / "run")] == list(range(1, saved + 2))
    print(f"process {killed} killed: the other ended after {took:.1f} s with status {status}, the run went on")


@pytest.mark.parametrize(("number", "sent", "status"), [(0, signal.SIGINT, 130), (1, signal.SIGTERM, 143)])
def test_a_signal_to_any_process_stops_all_of_them_after_the_epoch(
    tmp_path: Path, number: int, sent: int, status: int
) -> None:
    with started(tmp_path, f"{WORDS} --epochs 100000 --out run", 2) as processes:
        wait_for(begun(tmp_path), processes)
        processes[number].send_signal(sent)
        ends = ended(tmp_path, processes, END)
    assert [end.status for end in ends] == [status, status], ends
    last = records.latest_epoch(tmp_path / "run/checkpoints")
    assert all(f"stopped after epoch {last}, which is saved" in end.said for end in ends)


def test_what_the_first_cannot_do_is_said_by_all(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/other").touch()
    ends = done(tmp_path, f"{WORDS} --out run", 2)
    assert [end.status for end in ends] == [2, 2], ends
    assert all("run: the output folder is not empty" in end.said for end in ends)


def test_processes_that_see_different_steps_say_so(tmp_path: Path) -> None:
    for name in ("run", "copy"):
        assert [end.status for end in done(tmp_path, f"{WORDS} --epochs 1 --out {name}", 1)] == [0]
    shutil.rmtree(tmp_path / "copy/checkpoints")
    (tmp_path / "copy/metrics.jsonl").unlink()
    ends = done(tmp_path, "--resume run --epochs 2", 2, "--resume copy --epochs 2")
    assert [end.status for end in ends] == [2, 2], ends
    assert all("the processes see different epochs in" in end.said for end in ends)


def test_processes_that_were_asked_for_different_things_say_so(tmp_path: Path) -> None:
    ends = done(tmp_path, f"{WORDS} --out run", 2, f"{WORDS} --out run --lr 0.5")
    assert [end.status for end in ends] == [2, 2], ends
    assert all("the processes have different recipes: all of them need the same command" in end.said for end in ends)
    assert not (tmp_path / "run").exists()


def test_a_batch_that_two_processes_cannot_share_is_refused_by_both(tmp_path: Path) -> None:
    ends = done(tmp_path, f"{WORDS} --batch 31 --out run", 2)
    assert [end.status for end in ends] == [2, 2], ends
    assert all("--batch: the batch cannot be split over 2 devices; got 31" in end.said for end in ends)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("number", [0, 1])
def test_a_process_whose_peers_do_not_come_says_so(tmp_path: Path, number: int) -> None:
    together = f"--mesh.processes 2 --mesh.process {number} --mesh.coordinator 127.0.0.1:{free_port()} --mesh.wait 5"
    (end,) = done(tmp_path, f"{WORDS} --out run {together}", 1)
    assert end.status == 2, end
    assert re.search(rf"process {number} of 2, at 127.0.0.1:\d+: .* within 5 s", end.said), end.said
    assert not (tmp_path / "run").exists()
