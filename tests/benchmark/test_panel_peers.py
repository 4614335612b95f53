"""Forecasts of other libraries beside ours: the rows that all of them see, and the table."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jaxseq.benchmark import panel_peers
from jaxseq.forecasting import metrics


def saved(path: Path, rows: int, first: int = 0, names: tuple[str, ...] = ("H2", "H10")) -> Path:
    frames = [
        pd.DataFrame(
            {"id": name, "hour": np.arange(first, first + rows), "y": 10.0 + np.arange(first, first + rows) % 24}
        )
        for name in names
    ]
    # Rows in any order.
    pd.concat(frames).sample(frac=1, random_state=0).to_csv(path, index=False)
    return path


def test_a_method_forecasts_every_series_from_the_first_file_alone(tmp_path: Path) -> None:
    train, test = saved(tmp_path / "train.csv", 72), saved(tmp_path / "test.csv", 30, first=72)
    out = tmp_path / "one.json"
    assert panel_peers.main([str(train), str(test), "--one", "seasonal naive", "--out", str(out)]) == 0
    forecasts = json.loads(out.read_text())
    assert set(forecasts) == {"H2", "H10"}
    np.testing.assert_array_equal(forecasts["H2"], 10 + np.arange(72, 102) % 24)


@pytest.mark.slow
def test_the_errors_are_those_of_the_competition(tmp_path: Path) -> None:
    """In a process of its own; by hand for the last day of a series that has moved by 2."""
    train, test = saved(tmp_path / "train.csv", 72), saved(tmp_path / "test.csv", 24, first=72)
    table = pd.read_csv(train)
    table["y"] += table["hour"] // 24
    table.to_csv(train, index=False)
    row = panel_peers.measured("seasonal naive", panel_peers.Options(train, test), 0)
    values = panel_peers.values_of(train)["H2"]
    assert row.mase == pytest.approx(2 / metrics.seasonal_scale(values, 24)) and row.cpu_seconds > 0


@pytest.mark.parametrize(
    ("names", "columns", "message"),
    [(("H2",), ("id", "hour", "y"), "other series"), (("H2", "H10"), ("id", "time", "y"), "no column hour")],
)
def test_files_that_do_not_fit_are_refused_in_one_line(
    tmp_path: Path, names: tuple[str, ...], columns: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    train, test = saved(tmp_path / "train.csv", 48), saved(tmp_path / "test.csv", 24, first=48, names=names)
    pd.read_csv(test).set_axis(list(columns), axis=1).to_csv(test, index=False)
    assert panel_peers.main([str(train), str(test), "--only", "seasonal"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_the_table_has_the_mean_and_the_spread_over_the_seeds() -> None:
    rows = [panel_peers.Measured("a", seed, 1.0 + seed, 10.0, 60.0) for seed in range(2)]
    rows.append(panel_peers.Measured("b", 0, 2.0, 5.0, 1.0))
    *_, first, second = panel_peers.table(rows).splitlines()
    assert first == "| a | 2 | 1.500 ± 0.707 | 10.00 ± 0.00 | 60 ± 0 |"
    assert second == "| b | 1 | 2.000 | 5.00 | 1 |"
