"""Small runs that the tests of several commands share."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up import edition
from quick_compilation import quick_compilation
from untrained import untrained

from jaxseq.train import __main__ as train

TABLE = ["--data.window", "8", "--model.hidden", "2", "--epochs", "1", "--batch", "64"]


def sales(path: Path, *names: str) -> Path:
    """Write a table of 120 days, of one series, or of one for each name."""
    days = pd.date_range("2021-01-01", periods=120)
    random = np.random.default_rng(0)
    frames = []
    for name in names or ("only",):
        values = 50 + 10 * np.sin(2 * np.pi * np.arange(120) / 7) + random.normal(size=120)
        frames.append(pd.DataFrame({"date": days, "store": name, "sales": values}))
    table = pd.concat(frames)
    if not names:
        table = table.drop(columns="store")
    table.to_csv(path, index=False)
    return path


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
