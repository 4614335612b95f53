"""A long training: a thousand epochs take the memory that a hundred took, and nothing is compiled again.

`python -m pytest -m slow -s -n 0 tests/train/test_endurance.py -k saving` prints what saving costs on the main thread.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

import pictures
import pytest

from jaxseq.train import __main__ as train
from jaxseq.train import run_folder

EPOCHS, SETTLED, MOST = 1000, 100, 0.05
MEASURE = """
import json, os, sys
import jax
from jaxseq.common import figures
from jaxseq.train import __main__ as train, epoch, progress

compiled, seen, show = [], [], progress.EpochDisplay.show
compiles = "/jax/core/compile/backend_compile_duration"
jax.monitoring.register_event_duration_secs_listener(lambda name, *_, **__: name == compiles and compiled.append(name))

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def shown(self, row, *rest, **options):
    show(self, row, *rest, **options)
    seen.append((resident(), len(compiled), len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))))

progress.EpochDisplay.show = shown
figures.drawn = lambda *_: PIXEL
status = train.main(sys.argv[2:])
sizes = epoch.epoch._cache_size(), epoch.evaluate._cache_size()
json.dump({"status": status, "seen": seen, "caches": sizes}, open(sys.argv[1], "w"))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="memory is read from /proc")
def test_a_thousand_epochs_take_the_memory_of_a_hundred_and_compile_once(tmp_path: Path) -> None:
    words = "waves --data.count 200 --data.window 6 --model.cell rnn --model.hidden 3 --out run --epochs"
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(train.__file__).parents[2]),
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_COMPILATION_CACHE": "0",  # compilations are counted
    }
    program = MEASURE.replace("PIXEL", repr(pictures.PIXEL))
    command = [sys.executable, "-c", program, "found.json", *words.split(), str(EPOCHS)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["status"] == 0 and len(found["seen"]) == EPOCHS
    memory, compiled, files, threads = zip(*found["seen"], strict=True)
    peak, before = max(memory[SETTLED:]), memory[SETTLED - 1]
    print(
        f"{before / 2**20:.0f} MiB after {SETTLED} epochs, then {peak / 2**20:.0f} at the most; {compiled[-1]} compiled"
    )
    assert peak <= (1 + MOST) * before
    for open_ in (files, threads):  # which come and go with every save
        assert max(open_[SETTLED:]) <= max(open_[:SETTLED]) + 8
    assert compiled[-1] == compiled[1], "something was compiled after the second epoch"
    assert found["caches"] == [1, 1], "the training or its validation was compiled more than once"


SAVES = """
import json, sys, time
from jaxseq.checkpoint.writer import Writer
from jaxseq.train import __main__ as train, loop

starts, held, saved, start, log_and_save = [], [], [], Writer._start, loop._log_and_save

def started(self, state):
    starts.append(state.epoch)
    start(self, state)

def timed(*arguments):
    begun, before = len(starts), time.perf_counter()
    log_and_save(*arguments)
    seconds = time.perf_counter() - before
    (saved if len(starts) > begun else held).append(seconds)

Writer._start, loop._log_and_save = started, timed
status = train.main(sys.argv[2:])
json.dump({"status": status, "held": held, "saved": saved}, open(sys.argv[1], "w"))
"""
MOST_SAVING = 0.25
"""Largest share of the training's time, on a machine that does other work, too; the figure is printed."""


@pytest.mark.slow
def test_saving_holds_up_the_main_job_for_a_small_part_of_its_time(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(train.__file__).parents[2]), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", SAVES, "seconds.json", "aapl", "--epochs", "100", "--out", "run"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    seconds = json.loads((tmp_path / "seconds.json").read_text())
    assert seconds["status"] == 0 and seconds["held"] and seconds["saved"]

    # The first epoch is compiled.
    epochs = [row["seconds"] for row in run_folder.read_metrics(tmp_path / "run")[1:]]
    held, saved = seconds["held"], seconds["saved"]
    share = (sum(held) + sum(saved)) / (sum(held) + sum(saved) + sum(epochs))
    print(
        f"main thread: an epoch {1000 * median(epochs):.0f} ms; its row and a state that is held "
        f"{1000 * median(held):.1f} ms, {len(held)} times; its row and the start of a save {1000 * median(saved):.0f} ms, "
        f"{len(saved)} times; {share:.1%} of the time"
    )
    assert share < MOST_SAVING
