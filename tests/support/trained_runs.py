"""Finished runs, one of each kind, that all tests of a session share: fixtures, which conftest.py gives to every test.

Each is trained once, by the first worker process that asks for it, and never changed: a test that has to change one
takes a copy (`shutil.copytree`).
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pictures
import pytest
from filelock import FileLock
from made_up import edition, uneven_edition
from quick_compilation import compile_children_quickly, quick_compilation
from rich.console import Console

# No module of the package is imported before the tests are: jaxtyping checks the annotations only of those that follow.

AAPL = ["--model.hidden", "4", "--data.window", "8", "--batch", "512"]
"""Words of `aapl_run`, without its epochs."""
NOTES = ["--model.hidden", "4", "--model.convolutions", "3", "4", "--batch", "8", "--schedule", "constant"]
"""Words of `chorales_run`, without its data and epochs."""
SWEEP = ["aapl", "--model.cell", "rnn", "--model.hidden", "2", "--epochs", "1", "--batch", "512"]
"""Words of every run of `sweep_folder`."""


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Return a folder that `make` has filled: in this process, or before in another of the same session."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # the one that all workers share
    folder = base / "trained" / name
    is_whole = folder.with_name(f"{name}.whole")

    folder.parent.mkdir(exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not is_whole.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            is_whole.touch()
    return folder


def train(*words: str | Path) -> None:
    """Train by the command line."""
    from jaxseq.train import __main__ as command

    with quick_compilation():
        assert command.main([str(word) for word in words]) == 0


@pytest.fixture(scope="session")
def aapl_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs on AAPL, with its pictures and all of XLA's optimisations."""

    def make(folder: Path) -> None:
        from jaxseq.train import __main__ as command

        with pictures.drawing():
            assert command.main([*AAPL, "--epochs", "2", "--out", str(folder / "run")]) == 0

    return made_once(tmp_path_factory, "aapl", make) / "run"


@pytest.fixture(scope="session")
def panel_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a table of three daily series, which lies beside it as panel.csv."""

    def make(folder: Path) -> None:
        source = np.random.default_rng(0)
        days = pd.date_range("2021-01-01", periods=80)
        weekly = np.sin(2 * np.pi * np.arange(80) / 7)
        frames = [
            pd.DataFrame({"date": days, "name": name, "sales": level * (5 + weekly + 0.1 * source.normal(size=80))})
            for name, level in (("east", 1.0), ("north", 10.0), ("south", 1000.0))
        ]
        pd.concat(frames).to_csv(folder / "panel.csv", index=False)
        data = ["--data.path", folder / "panel.csv", "--data.series", "name", "--data.column", "sales"]
        model = ["--data.window", "8", "--model.hidden", "4", "--batch", "32", "--epochs", "2"]
        train("table", *data, *model, "--out", folder / "run")

    return made_once(tmp_path_factory, "panel", make) / "run"


@pytest.fixture(scope="session")
def study_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two seeds and two folds on 240 rows of waves."""

    def make(folder: Path) -> None:
        from jaxseq.data.waves import Waves
        from jaxseq.train import study
        from jaxseq.train.experiments import named
        from jaxseq.train.experiments.forecasts import Model

        tiny = named("waves", data=Waves(count=240, window=6), model=Model(hidden=3), epochs=1)
        with quick_compilation():
            study.study(tiny, seeds=2, folds=2, out=folder / "study")

    return made_once(tmp_path_factory, "study", make) / "study"


@pytest.fixture(scope="session")
def chorales_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of `jsb` of two epochs, with its pictures; the pieces lie beside it as few.tgz."""

    def make(folder: Path) -> None:
        from jaxseq.train import __main__ as command

        words = ["jsb", *NOTES, "--data.path", str(uneven_edition(folder / "few.tgz")), "--epochs", "2"]
        with quick_compilation():
            assert command.main([*words, "--out", str(folder / "run")]) == 0

    return made_once(tmp_path_factory, "chorales", make) / "run"


@pytest.fixture(scope="session")
def small_edition(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An edition of twelve made-up pieces."""

    def make(folder: Path) -> None:
        edition(folder)

    return made_once(tmp_path_factory, "edition", make) / "pieces.tgz"


@pytest.fixture(scope="session")
def untrained_run(small_edition: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of an untrained run of an experiment on `small_edition`, as a training would leave it."""

    def folder_of(name: str) -> Path:
        def make(folder: Path) -> None:
            from untrained import untrained

            with quick_compilation():
                untrained(name, small_edition, folder / "run")

        return made_once(tmp_path_factory, f"untrained-{name}", make) / "run"

    return folder_of


@pytest.fixture(scope="session")
def samples_folder(chorales_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pieces of one bar, composed by `chorales_run`."""

    def make(folder: Path) -> None:
        from jaxseq.sample import __main__ as command
        from jaxseq.sample import options

        words = [str(chorales_run), "--count", "2", "--bars", "1", "--bpm", "400", "--no-score"]
        with quick_compilation():
            command.sample(options.parse([*words, "--out", str(folder / "pieces")]), Console(file=io.StringIO()))

    return made_once(tmp_path_factory, "samples", make) / "pieces"


@pytest.fixture(scope="session")
def sweep_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of two seeds by two worker processes; its output lies beside it as output.txt."""

    def make(folder: Path) -> None:
        from jaxseq.sweep import __main__ as command
        from jaxseq.sweep import options

        words = [*SWEEP, "--seed", "0:2", "--workers", "2", "--out", str(folder / "sweep")]
        output = io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            compile_children_quickly(patch)
            command.sweep(options.parse(words), Console(file=output, width=120))
        (folder / "output.txt").write_text(output.getvalue())

    return made_once(tmp_path_factory, "sweep", make) / "sweep"
