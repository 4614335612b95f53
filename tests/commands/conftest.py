"""Small runs that the tests of several commands share."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from quick_compilation import quick_compilation
from sales_tables import TABLE, sales

from jaxseq.common.errors import UsageError
from jaxseq.report import __main__ as report
from jaxseq.report import plan
from jaxseq.sweep import pool
from jaxseq.sweep.planned import PlannedRun
from jaxseq.train import __main__ as train


@pytest.fixture(scope="session")
def table_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a table of one series; the table lies beside it as sales.csv."""
    folder = tmp_path_factory.mktemp("table")
    path = sales(folder / "sales.csv")
    with quick_compilation():
        assert train.main(["table", "--data.path", str(path), *TABLE, "--out", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture(scope="session")
def chords_run(untrained_run: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of an untrained run that composes chorales, of this process alone: tests write samples into it."""
    return Path(shutil.copytree(untrained_run("jsb-chords"), tmp_path_factory.mktemp("chords") / "run"))


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of a sweep are trained here; a worker would first load JAX."""

    def train_all(runs: Sequence[PlannedRun], *_: object) -> None:
        for planned in runs:
            assert pool.train_run(planned) == ""

    monkeypatch.setattr(pool, "train_all", train_all)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home folder; afterwards no folder anywhere is called ~."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    yield tmp_path / "home"
    assert not list(tmp_path.rglob("~*"))
    assert not list((tmp_path / "work").iterdir())


def far_enough(*_: object) -> None:
    raise UsageError("far enough")


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report gets as far as its first work."""
    monkeypatch.setattr(report, "_workers", lambda workers: 1)
    monkeypatch.setattr(plan, "rows", lambda *_: [])
    monkeypatch.setattr(plan, "check_chorales", lambda _: "none")
    monkeypatch.setattr("jaxseq.sweep.pool.map_in_workers", far_enough)
