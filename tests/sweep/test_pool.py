"""A list of runs: trained once, skipped when finished, resumed when stopped."""

import io
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console
from trained_runs import SWEEP

from jaxseq.checkpoint import records, run_seal
from jaxseq.common import command_line, memory
from jaxseq.common.errors import UsageError, WorkerKilled
from jaxseq.sweep import grid, pool
from jaxseq.sweep.planned import PlannedRun, is_finished
from jaxseq.train import run_folder
from jaxseq.train.experiments import named
from jaxseq.train.experiments.forecasts import Model


def tiny(folder: Path, seed: int = 0, epochs: int = 1, **fields) -> PlannedRun:
    recipe = named("aapl", model=Model(cell="rnn", hidden=2), epochs=epochs, batch=512, seed=seed, **fields)
    return PlannedRun(f"tiny {seed}", recipe, folder / f"tiny-{seed}")


def filled(runs: list[PlannedRun], workers: int = 2) -> str:
    said = io.StringIO()
    pool.train_all(runs, workers, Console(file=said, width=120))
    return said.getvalue()


@pytest.fixture(scope="module")
def two(sweep_folder: Path) -> tuple[list[PlannedRun], str]:
    """The runs of a sweep, which two workers have trained, and what was said."""
    points = grid.points([*SWEEP, "--seed", "0:2"])
    runs = [PlannedRun(point.name, point.experiment, sweep_folder / point.name) for point in points]
    return runs, (sweep_folder.parent / "output.txt").read_text()


def test_every_run_is_trained_and_judged_and_what_it_said_lies_beside_it(two: tuple[list[PlannedRun], str]) -> None:
    runs, said = two
    assert all(is_finished(run) for run in runs)
    assert "run 2 of 2" in said
    for run in runs:
        assert "naive" in run.folder.with_suffix(".log").read_text()
        assert [row["epoch"] for row in run_folder.read_metrics(run.folder)] == [1]


def test_what_is_finished_is_not_trained_again(two: tuple[list[PlannedRun], str]) -> None:
    runs, _ = two
    before = [(run.folder / run_seal.REPORT).stat().st_mtime_ns for run in runs]
    assert filled(runs) == ""
    assert before == [(run.folder / run_seal.REPORT).stat().st_mtime_ns for run in runs]


def test_a_run_of_another_recipe_is_never_taken_for_the_one_that_is_wanted(two: tuple[list[PlannedRun], str]) -> None:
    other = two[0][0]._replace(experiment=tiny(Path(), epochs=2).experiment)
    with pytest.raises(UsageError, match="another recipe"):
        filled([other])


@pytest.mark.slow
def test_a_run_that_fails_is_named_when_the_others_are_through(tmp_path: Path) -> None:
    (tmp_path / "tiny-1").mkdir()
    (tmp_path / "tiny-1" / "mine").write_text("in the way")
    good, bad = tiny(tmp_path, 0), tiny(tmp_path, 1)
    with pytest.raises(UsageError, match=r"1 of 2 runs failed, first tiny 1: .*not empty"):
        filled([bad, good], workers=1)
    assert is_finished(good)


@pytest.mark.slow
def test_each_gives_results_in_order_and_raises_what_was_raised() -> None:
    assert pool.map_in_workers(abs, [-3, 2, -1], 2) == [3, 2, 1]
    with pytest.raises(TypeError):
        pool.map_in_workers(abs, ["x"], 1)


class Peculiar(Exception):
    """An exception that cannot be unpickled."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first + second)


def refuse(_: int) -> None:
    raise UsageError("too few", where="--epochs", got=0, needed="at least 1")


def run_out_of_memory(_: int) -> None:
    raise MemoryError


def fail_peculiarly(_: int) -> None:
    raise Peculiar("so", " so")


def be_killed(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("work", "kind", "sentence", "status"),
    [
        (refuse, UsageError, "--epochs: too few; got 0, needed at least 1", 2),
        (run_out_of_memory, MemoryError, "not enough memory", 2),
        (fail_peculiarly, RuntimeError, "Peculiar: so so", None),
        (be_killed, WorkerKilled, "a worker process was killed", 1),
    ],
    ids=["usage", "memory", "unpicklable", "killed"],
)
def test_an_error_of_a_worker_is_the_command_s_own_line(work, kind, sentence, status, capsys) -> None:
    # Of two workers the one that waits must end as well.
    workers = 2 if work is be_killed else 1
    with pytest.raises(kind) as raised:
        pool.map_in_workers(work, list(range(workers)), workers)

    def raise_again() -> None:
        raise raised.value

    if status is None:
        assert sentence in str(raised.value)
    else:
        assert command_line.run("command", raise_again, "stopped") == status
        said = capsys.readouterr().err
        assert sentence in said and said.count("\n") == 1


def test_a_sweep_whose_worker_is_killed_ends_in_a_line_that_resumes(tmp_path: Path) -> None:
    def kill_first_worker() -> None:
        workers: list = []
        while not workers:
            workers = [child for child in multiprocessing.active_children() if child.pid]
            time.sleep(0.01)
        os.kill(workers[0].pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_first_worker, daemon=True)
    killer.start()
    with pytest.raises(WorkerKilled, match="the same command with --out here resumes"):
        pool.train_all(
            [tiny(tmp_path, seed) for seed in range(2)],
            2,
            Console(file=io.StringIO()),
            "the same command with --out here",
        )
    killer.join()


def test_more_workers_than_memory_are_refused_before_any_starts(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(memory, "limit", lambda: 3 * memory.RUNTIME)
    with pytest.raises(UsageError, match="4 workers do not fit into memory") as raised:
        filled([tiny(tmp_path, seed) for seed in range(5)], workers=4)
    assert raised.value.where == "--workers" and not list(tmp_path.iterdir())


def share_of_memory(_: int) -> float:
    return memory.limit()


@pytest.mark.slow
def test_workers_share_the_memory() -> None:
    assert pool.map_in_workers(share_of_memory, [0, 1], 2) == [memory.limit() / 2] * 2


def test_a_run_without_memory_is_named_and_its_log_has_the_traceback(tmp_path: Path, monkeypatch) -> None:
    from jaxseq.train import run

    def exhaust(*_: object, **__: object) -> None:
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.\nmore")

    monkeypatch.setattr(run, "train", exhaust)
    planned = tiny(tmp_path)
    assert pool.train_run(planned).startswith("not enough memory (RESOURCE_EXHAUSTED: ")
    assert "Traceback" in planned.folder.with_suffix(".log").read_text()


SCRIPT = """
import sys
from pathlib import Path
from jaxseq.common.errors import Stopped
from jaxseq.sweep import pool
from jaxseq.common import console
from test_pool import tiny
if __name__ == "__main__":
    try:
        pool.train_all([tiny(Path(sys.argv[1]), seed, epochs=int(sys.argv[2])) for seed in range(3)], 2, console.terminal())
    except Stopped as stop:
        print(stop)
        sys.exit(stop.status)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_every_run_s_epoch_and_the_same_call_ends_as_if_there_had_been_none(tmp_path, number) -> None:
    here = Path(__file__).parent
    (tmp_path / "go.py").write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": f"{here.parents[1]}:{here}:{here.parent / 'support'}"}
    folders = {name: tmp_path / name for name in ("stopped", "left")}

    def start(name: str) -> subprocess.Popen:
        words = [sys.executable, str(tmp_path / "go.py"), str(folders[name]), "60"]
        return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True)

    going = start("stopped")
    deadline = time.monotonic() + 120
    while not list(folders["stopped"].glob("*/metrics.jsonl")):
        assert time.monotonic() < deadline and going.poll() is None
        time.sleep(0.05)
    going.send_signal(number)
    said, _ = going.communicate(timeout=120)
    assert going.returncode == 128 + number and "the same command resumes them" in said
    begun = [folder for folder in folders["stopped"].iterdir() if folder.is_dir()]
    assert begun and any(not (folder / run_seal.REPORT).is_file() for folder in begun)
    for name in folders:
        with start(name) as again:
            again.communicate(timeout=300)
            assert again.returncode == 0
    for seed in range(3):
        first, second = (folder / f"tiny-{seed}" for folder in folders.values())
        assert (first / run_seal.PREDICTIONS).read_bytes() == (second / run_seal.PREDICTIONS).read_bytes()
        assert records.best_epoch(first / run_seal.CHECKPOINTS) == records.best_epoch(second / run_seal.CHECKPOINTS)
