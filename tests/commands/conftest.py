"""Small runs that the tests of several commands share."""

from pathlib import Path

import pytest
from made_up import edition
from quick_compilation import quick_compilation
from sales_tables import TABLE, sales
from untrained import untrained

from jaxseq.common import figures
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
def chords_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained run that composes chorales."""
    folder = tmp_path_factory.mktemp("chords")
    with quick_compilation():
        return untrained("jsb-chords", edition(folder), folder / "run")


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take most of the time of a small run."""
    monkeypatch.setattr(figures, "drawn", lambda *_: b"\x89PNG")
