"""Directions from the command line: trained, forecast as probabilities, scored by later rows, several seeds together."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from quick_compilation import quick_compilation

from jaxseq import forecast, score
from jaxseq.common import csv_tables
from jaxseq.export import __main__ as export
from jaxseq.train import __main__ as train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("compiled_quickly")]
ROWS = 300
LATER = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two series whose changes persist, and a study of two seeds with its ensemble."""
    folder = tmp_path_factory.mktemp("directions")
    source = np.random.default_rng(0)
    frames = []
    for name in "ab":
        changes = np.zeros(ROWS + LATER)
        for row in range(1, len(changes)):
            changes[row] = 0.8 * changes[row - 1] + source.normal()
        frames.append(pd.DataFrame({"t": np.arange(len(changes)), "name": name, "y": np.cumsum(changes)}))
    rows = pd.concat(frames)
    rows[rows["t"] < ROWS].to_csv(folder / "rows.csv", index=False)
    rows[rows["t"] >= ROWS].to_csv(folder / "later.csv", index=False)
    data = f"--data.path {folder}/rows.csv --data.series name --data.column y --data.time t --data.window 6"
    model = "--model.head direction --model.hidden 3 --epochs 2 --batch 16 --task direct --horizon 2 --start random"
    words = f"table {data} {model} --seeds 2 --ensemble --out {folder / 'study'}".split()
    with quick_compilation():
        assert train.main(words) == 0
    return folder


def test_members_are_averaged_and_forecast_and_scored_as_probabilities(folder, capsys):
    study = folder / "study"
    scores = csv_tables.read(study / "scores.csv")
    assert list(scores.columns) == ["forecast", "role", "step", "log_loss", "brier", "accuracy"]
    assert scores[scores["step"] == "all"]["role"].tolist().count("member") == 2
    text = (study / "report.md").read_text()
    assert "## Reliability" in text and "a value equal to it is no rise" in text
    table = csv_tables.read(study / "study.csv")
    assert {"log_loss", "brier", "accuracy", "relative_log_loss"} <= set(table.columns)

    members = [forecast.forecast(run).table["p_rise"] for run in sorted(study.glob("*seed-*"))]
    together = forecast.forecast(study)
    assert len(members) == 2 and list(together.table.columns) == ["row", "series", "step", "p_rise"]
    np.testing.assert_allclose(together.table["p_rise"], np.mean(members, axis=0), rtol=1e-6)

    assert forecast.main([str(study)]) == 0
    assert "p_rise" in capsys.readouterr().out
    assert score.main([str(study), str(folder / "later.csv")]) == 0
    values = csv_tables.read(study / "score-0001" / "values.csv")
    rows = pd.read_csv(folder / "rows.csv")
    later = pd.read_csv(folder / "later.csv")
    last = rows.groupby("name")["y"].last()
    for row in values.itertuples():
        came = later[(later["name"] == row.series) & (later["t"] == row.row)]["y"].item()
        assert row.actual == (came > last[row.series])


def test_paths_a_period_and_an_export_are_refused(folder, capsys):
    run = str(sorted((folder / "study").glob("*seed-*"))[0])
    later = str(folder / "later.csv")
    for program, words, where in (
        (export, [run, "--to", "stablehlo", "--out", str(folder / "export")], "--to"),
        (forecast, [run, "--paths", "5"], "--paths"),
        (score, [run, later, "--period", "7"], "--period"),
    ):
        assert program.main(words) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and f"{where}: is of forecasts of values; got '--model.head direction'" in error
