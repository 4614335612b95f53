"""Forecasts of a run, judged by the rows that came after the end of its data."""

import html
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sealing import reseal

from jaxseq import forecast, score
from jaxseq.checkpoint import run_seal
from jaxseq.common import csv_tables
from jaxseq.common.errors import UsageError
from jaxseq.data import later
from jaxseq.data.earlier import Earlier
from jaxseq.data.table import Table
from jaxseq.data.tables import read
from jaxseq.forecasting import evaluate, m4, scored
from jaxseq.forecasting.baselines import NAIVE, TRAINING_MEAN, seasonal_name
from jaxseq.forecasting.m4 import NAIVE2
from jaxseq.forecasting.quantities import values as VALUES

pytestmark = pytest.mark.usefixtures("compiled_quickly")

M4_HOURLY = os.environ.get("M4_HOURLY", "")
"""Folder of m4-hourly-train.csv.gz and m4-hourly-test.csv.gz: columns id, hour, y; 207 of the 414 series."""


def of_panel(days: pd.DatetimeIndex) -> pd.DataFrame:
    """Return further rows of the series of `panel_run`."""
    frames = []
    for name, level in (("east", 1.0), ("north", 10.0), ("south", 1000.0)):
        frames.append(pd.DataFrame({"date": days, "name": name, "sales": level * (5 + np.arange(len(days)))}))
    return pd.concat(frames, ignore_index=True)


def test_errors_of_a_run_by_hand(panel_run: Path) -> None:
    known = pd.read_csv(panel_run.parent / "panel.csv").groupby("name")["sales"].apply(np.array)
    came = of_panel(pd.date_range("2021-03-22", periods=1))
    result = score.score(panel_run, came, period=7)

    ahead = forecast.forecast(panel_run).table.set_index("series")["forecast"]
    actual = came.set_index("name")["sales"]
    scale = pd.Series({name: np.abs(values[7:] - values[:-7]).mean() for name, values in known.items()})
    last = pd.Series({name: values[-1] for name, values in known.items()})
    season = pd.Series({name: values[-7] for name, values in known.items()})
    model = result.comparison.model.name
    errors = result.errors[result.errors["step"] == "all"].set_index("forecast")
    for name, forecasts in ((model, ahead), (NAIVE, last), (seasonal_name(7), season)):
        error = (forecasts - actual).abs()
        assert errors.loc[name, "mase"] == pytest.approx((error / scale).mean())
        assert errors.loc[name, "smape"] == pytest.approx((200 * error / (forecasts.abs() + actual)).mean())
        assert errors.loc[name, "mae"] == pytest.approx(error.mean())
        assert errors.loc[name, "rmse"] == pytest.approx(np.sqrt((error**2).mean()))
    means = pd.Series({name: values.mean() for name, values in known.items()})
    assert errors.loc[TRAINING_MEAN, "mae"] == pytest.approx((means - actual).abs().mean())
    assert errors.loc[NAIVE2, "owa"] == 1
    ratios = errors.loc[model, ["mase", "smape"]] / errors.loc[NAIVE2, ["mase", "smape"]]
    assert errors.loc[model, "owa"] == pytest.approx(ratios.mean())

    # Three series at one time decide nothing; intervals are those of the forecast.
    assert result.answer == "not decided"
    assert len(result.values) == 3 and result.values["actual"].tolist() == actual.tolist()
    inside = result.values.eval("`low_95%` <= actual <= `high_95%`").mean()
    measured = {row.level: row.measured for row in result.coverage if row.step is None}
    assert measured[0.95] == pytest.approx(inside)

    # In a notebook: verdict, errors of each forecast that is shown, and all sentences.
    page = html.unescape(result._repr_html_())
    assert f"<b>{result.verdict}</b>" in page and f"<td>{model}</td>" in page
    assert all(text in page for text in (*result.remarks, *result.notes)) and "80/95 %" in page


def test_the_command_writes_a_numbered_folder_or_the_one_that_is_named(
    panel_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run = shutil.copytree(panel_run, tmp_path / "run")
    days = pd.date_range("2021-03-20", periods=4)
    known = pd.read_csv(panel_run.parent / "panel.csv", parse_dates=["date"])
    of_panel(days[2:]).pipe(lambda rows: pd.concat([known, rows])).to_csv(tmp_path / "later.csv", index=False)
    assert score.main([str(run), str(tmp_path / "later.csv"), "--period", "7"]) == 0
    printed = capsys.readouterr().out
    assert "MASE" in printed and "3 rows beyond the horizon of 1 not judged" in printed
    assert "not decided" in printed and "intervals cover" in printed
    # The rows that came are no test part.
    words = " ".join(printed.split())
    assert "on the later part" in words and "on the test part" not in words

    assert score.main([str(run), str(tmp_path / "later.csv"), "--out", str(tmp_path / "a" / "b")]) == 0
    for folder in (run / "score-0001", tmp_path / "a" / "b"):
        assert {path.name for path in folder.iterdir()} == {"score.md", "score.csv", "values.csv"}
        assert "(reference)" in (folder / "score.md").read_text()
        assert set(csv_tables.read(folder / "score.csv")["role"]) == {"model", "reference", "baseline"}
    assert score.main([str(run), str(tmp_path / "later.csv"), "--out", str(tmp_path / "a")]) == 2
    assert "not an empty folder" in capsys.readouterr().err


def test_what_cannot_be_judged_is_one_line_and_writes_nothing(
    panel_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run = shutil.copytree(panel_run, tmp_path / "run")
    known = pd.read_csv(panel_run.parent / "panel.csv")
    known.to_csv(tmp_path / "later.csv", index=False)
    before = sorted(path.name for path in run.iterdir())
    for words in ([], [str(run)], [str(run), str(tmp_path / "none.csv")], [str(run), str(tmp_path / "later.csv")]):
        assert score.main(words) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert score.main([str(run), str(tmp_path / "later.csv"), "--data.window", "9"]) == 2
    assert "--data.window" in capsys.readouterr().err
    assert sorted(path.name for path in run.iterdir()) == before

    later_rows = of_panel(pd.date_range("2021-03-22", periods=1))
    (run / "scores.csv").write_text("forecast,role,step\n")
    with pytest.raises(UsageError, match=r"scores\.csv"):
        score.score(run, later_rows)
    for name in (run_seal.JUDGED, *run_seal.OUTPUTS):
        (run / name).unlink(missing_ok=True)
    with pytest.raises(UsageError) as error:
        score.score(run, later_rows)
    assert "--resume" in str(error.value.needed)


def test_a_reference_that_is_not_made_from_the_end_gives_way_to_the_next_best(panel_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(panel_run, tmp_path / "run")
    scores = csv_tables.read(run / "scores.csv")
    scores.loc[scores["role"] == "reference", "role"] = "baseline"
    scores.loc[scores["forecast"] == "least squares on the lags", "role"] = "reference"
    scores.loc[scores["forecast"] == "drift", ["rmsse", "mase", "mse"]] = 1e-3
    csv_tables.write(run / "scores.csv", scores)
    reseal(run)
    result = score.score(run, of_panel(pd.date_range("2021-03-22", periods=1)))
    assert result.comparison.reference.name == "drift"
    assert any("least squares on the lags" in note and "drift" in note for note in result.notes)


def test_many_series_decide_at_one_time() -> None:
    source = np.random.default_rng(0)
    base = np.cumsum(source.normal(size=(40, 60)), axis=1)
    known = [Table.from_frame(pd.DataFrame({"y": values[:57]})).panel() for values in base]
    panel = known[0].__class__(
        names=tuple(str(number) for number in range(40)),
        series=tuple(single.series[0] for single in known),
        frequency=known[0].frequency,
    )
    background = score._background(panel, None)
    windows = panel.last_windows(5, 3)
    simple = VALUES.simple_ends(windows, background, panel, Earlier())
    came = later.Later(base[:, 57:], np.tile(np.arange(57, 60), (40, 1)), ())
    for share, answer in ((0.2, "improves"), (1.5, "no evidence")):
        good = base[:, 57:] + share * (simple[NAIVE] - base[:, 57:])
        ends = scored.Ends("model", windows, good, {}, simple, background)
        result = scored.score(ends, came, reference=NAIVE)
        assert result.answer == answer
        errors = scored.over_all_steps(result.errors)
        assert errors["model"]["mase"] == pytest.approx(share * errors[NAIVE]["mase"])
        # No season: Naive2 is the last value under another name.
        assert NAIVE2 not in errors and any(NAIVE2 in note for note in result.notes)
        assert errors["model"]["owa"] == pytest.approx((share + errors["model"]["smape"] / errors[NAIVE]["smape"]) / 2)
        assert scored.score(ends, came, reference=NAIVE2).comparison.reference.name == NAIVE


@pytest.mark.slow
@pytest.mark.skipif(not M4_HOURLY, reason="M4_HOURLY names no folder with the files")
def test_the_seasonal_naive_forecast_of_m4s_hourly_series_has_its_published_errors() -> None:
    path = str(Path(M4_HOURLY, "m4-hourly-train.csv.gz"))
    data = Table(path=path, column="y", time="hour", series="id", period=24)
    panel = data.panel()
    rows = read.read_rows(Path(M4_HOURLY, "m4-hourly-test.csv.gz"), data.read_options)
    came = later.follow(panel, rows, 48, "error")
    background = score._background(panel, None)
    simple = VALUES.simple_ends(panel.last_windows(50, 48), background, panel, Earlier())
    scales, _ = evaluate.series_scales(background)
    errors = m4.errors(came.actual, simple[seasonal_name(24)], scales)
    assert errors.mase == pytest.approx(1.1535, abs=5e-5)
    assert errors.smape == pytest.approx(13.845, abs=5e-4)
