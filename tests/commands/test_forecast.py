"""Forecasts beyond the end of the data: their dates, their scaling, what is refused."""

import dataclasses
import io
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from quick_compilation import quick_compilation
from rich.console import Console
from sealing import reseal

from jaxseq import forecast
from jaxseq.checkpoint import run_seal
from jaxseq.common import csv_tables, files
from jaxseq.common.errors import UsageError
from jaxseq.data.aapl import Prices
from jaxseq.data.panel import Panel
from jaxseq.data.table import Table
from jaxseq.data.windows import Series, join
from jaxseq.forecasting import predictions
from jaxseq.train import __main__ as train
from jaxseq.train import forecaster, future, run_folder, sample_paths, trained_series
from jaxseq.train.domains import forecasts as domain

pytestmark = pytest.mark.usefixtures("compiled_quickly")

FEW = ["--data.window", "8", "--model.hidden", "4", "--epochs", "1", "--batch", "512"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs: AAPL step by step with a distribution, and a table of two daily series, seven steps at once."""
    folder = tmp_path_factory.mktemp("trained")
    random = np.random.default_rng(0)
    frames = []
    for store, level in (("north", 10.0), ("south", 1000.0)):
        days = pd.date_range("2021-01-01", periods=120)
        values = level * (5 + np.sin(2 * np.pi * np.arange(120) / 7) + 0.1 * random.normal(size=120))
        frames.append(pd.DataFrame({"date": days, "store": store, "sales": values, "price": random.normal(size=120)}))
    pd.concat(frames).to_csv(folder / "sales.csv", index=False)
    with quick_compilation():
        table = f"table --data.path {folder}/sales.csv --data.column sales --data.series store --data.covariates price"
        batch = ["--data.window", "8", "--model.hidden", "4", "--epochs", "1", "--batch", "32"]
        assert (
            train.main([*table.split(), *batch, "--task", "direct", "--horizon", "7", "--out", f"{folder}/table"]) == 0
        )
        aapl = ["aapl", *FEW, "--task", "iterated", "--horizon", "3", "--model.head", "gaussian"]
        assert train.main([*aapl, "--out", f"{folder}/aapl"]) == 0
    return folder


def test_business_days_go_on_after_the_last_one_and_intervals_widen(trained: Path) -> None:
    frame, _ = forecast.forecast(trained / "aapl", horizon=12)
    assert list(frame["date"].astype(str)[:2]) == ["2013-03-04", "2013-03-05"] and len(frame) == 12
    assert (pd.to_datetime(frame["date"]).dt.day_of_week < 5).all()
    width = frame["high_95%"] - frame["low_95%"]
    assert width.iloc[-1] > 1.5 * width.iloc[0] > 0
    for wide, narrow in (("95%", "80%"), ("80%", "50%")):
        assert (frame[f"low_{wide}"] <= frame[f"low_{narrow}"]).all()


def test_the_first_step_is_what_the_restored_model_says_of_the_last_window(trained: Path) -> None:
    frame, _ = forecast.forecast(trained / "aapl")
    wanted = forecaster.restore(trained / "aapl")(Prices().series().values[-8:])
    np.testing.assert_allclose(frame["forecast"], wanted, rtol=1e-12)


def test_every_series_goes_on_at_its_own_level(trained: Path) -> None:
    frame, said = forecast.forecast(trained / "table")
    assert frame["series"].tolist() == ["north"] * 7 + ["south"] * 7
    assert str(frame["date"].iloc[0])[:10] == "2021-05-01" and any("2 series" in text for text in said)
    means = frame.groupby("series")["forecast"].mean()
    assert 30 < means["north"] < 70 and 3000 < means["south"] < 7000


def test_other_data_of_the_same_kind_are_forecast_and_scaled_by_themselves(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    days = pd.date_range("2022-06-01", periods=40)
    other = pd.DataFrame({"date": days, "store": "west", "sales": 1e6 + np.arange(40.0) ** 2, "price": 0.0})
    other.to_csv(tmp_path / "west.csv", index=False)
    out = tmp_path / "f.csv"
    words = [str(trained / "table"), "--data.path", str(tmp_path / "west.csv"), "--out", str(out)]
    assert forecast.main(words) == 0
    frame = pd.read_csv(out)
    assert (frame["forecast"] > 9e5).all() and frame["date"][0] == "2022-07-11" and out.with_suffix(".png").is_file()
    assert "trained on other data" in " ".join(capsys.readouterr().out.split())


def test_a_cold_series_has_the_scale_of_its_given_rows_whatever_its_unit(
    panel_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No series of the training is in the file: the run forecasts it in any unit alike, by a scale fitted to its rows."""
    known = pd.read_csv(panel_run.parent / "panel.csv")
    north = known[known["name"] == "north"]
    cold = pd.concat(
        [
            north.assign(name="cold"),
            north.assign(name="west", sales=7 * north["sales"] + 100),
            north.tail(20).assign(name="young"),
        ]
    )
    cold.to_csv(tmp_path / "cold.csv", index=False)
    trained = forecaster.restore(panel_run)
    panel = future.panel_of(trained, tmp_path / "cold.csv")
    scales = dict(zip(panel.names, future._scaling(trained, panel).scaling.scale, strict=True))
    changes = np.diff(north["sales"].to_numpy())
    for name, values in {"cold": changes, "young": changes[-19:]}.items():
        assert scales[name] == pytest.approx(float(values.std()))
    assert scales["west"] == pytest.approx(7 * scales["cold"])

    table = forecast.forecast(panel_run, panel).table.set_index("series")
    numbers = table.columns[1:]
    np.testing.assert_allclose(
        table.loc["west", numbers].to_numpy(float), 7 * table.loc["cold", numbers].to_numpy(float) + 100, rtol=1e-5
    )
    assert table.loc["young", "forecast"] != table.loc["cold", "forecast"]

    for name, rows in {"flat": north.assign(sales=5.0), "short": north.tail(5)}.items():
        rows.assign(name=name).to_csv(tmp_path / f"{name}.csv", index=False)
        words = [str(panel_run), "--data.path", str(tmp_path / f"{name}.csv"), "--out", str(tmp_path / "out.csv")]
        assert forecast.main(words) == 2
        error = capsys.readouterr().err
        assert name in error and error.count("\n") == 1 and not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(("name", "series"), [pytest.param("aapl", 1, marks=pytest.mark.slow), ("table", 2)])
def test_the_quantiles_of_sample_paths_are_those_of_the_intervals(
    trained: Path,
    tmp_path: Path,
    name: str,
    series: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of values that are fed back, and of errors of the validation part."""
    assert forecast.main([str(trained / name), "--out", str(tmp_path / "f.csv"), "--paths", "400"]) == 0
    assert "f-paths.csv" in capsys.readouterr().out
    paths = pd.read_csv(tmp_path / "f-paths.csv")
    ends = pd.read_csv(tmp_path / "f.csv")
    assert len(paths) == 400 * len(ends) and paths["path"].max() == 400
    keys = [key for key in ("series", "step") if key in ends]
    assert len(ends) % series == 0
    for key, values in paths.groupby(keys)["value"]:
        row = ends.set_index(keys).loc[key if len(keys) > 1 else key[0]]
        for level in (50, 80, 95):
            for end, share in (("low", (100 - level) / 200), ("high", (100 + level) / 200)):
                # One path lies in each 400th part of the distribution.
                near = np.quantile(values, [max(share - 0.004, 0), min(share + 0.004, 1)])
                assert near[0] - 1e-4 * abs(near[0]) <= row[f"{end}_{level}%"] <= near[1] + 1e-4 * abs(near[1])

    # Steps depend on each other: changes add up.
    wide = paths.pivot_table(index="path", columns=keys, values="value")
    if name == "aapl":
        assert wide.corr().iloc[0, 1] > 0.4

    restored = forecaster.restore(trained / name)
    panel = restored.experiment.data.panel()
    again = csv_tables.content(sample_paths.sample(restored, panel, 400))
    assert again == (tmp_path / "f-paths.csv").read_bytes()
    assert csv_tables.content(sample_paths.sample(restored, panel, 400, seed=7)) != again


def test_large_tables_are_parquet_and_paths_need_the_rows_of_the_run(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(predictions, "LARGE", 100)
    words = [str(trained / "table"), "--paths", "10", "--out", str(tmp_path / "f.csv")]
    assert forecast.main(words) == 0
    table = pd.read_parquet(tmp_path / "f-paths.parquet")
    assert table.columns.tolist() == ["date", "series", "step", "path", "value"] and len(table) == 140

    run = shutil.copytree(trained / "table", tmp_path / "run")
    config = run_folder.read_config(run)
    config["rows_sha256"] = "0" * 64
    run_folder.write_config(run, config)
    assert forecast.main([str(run), *words[1:3], "--out", str(tmp_path / "g.csv")]) == 2
    assert "rows" in capsys.readouterr().err and not (tmp_path / "g.csv").exists()
    for wrong in (["--paths", "0"], ["--paths", "2", "--paths-seed", "-1"], ["--paths", "1000000"]):
        assert forecast.main([str(trained / "table"), "--out", str(tmp_path / "g.csv"), *wrong]) == 2
        assert "paths" in capsys.readouterr().err and not (tmp_path / "g.csv").exists()


def test_a_series_of_the_same_name_in_another_unit_is_scaled_by_its_own_rows(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same shop in thousandths: each forecast and interval is the run's own, divided by 1,000."""
    table = pd.read_csv(trained / "sales.csv")
    table["sales"] /= 1000
    table.to_csv(tmp_path / "small.csv", index=False)
    frame, notes = forecast.forecast(trained / "table", data_of(trained, tmp_path / "small.csv"))
    own, own_notes = forecast.forecast(trained / "table")
    assert any("series 'north' is not as in the training, 2021-01-01 to 2021-03-" in note for note in notes)
    assert not any("not as in the training" in note for note in own_notes)
    wide, own_wide = (table["high_80%"] - table["low_80%"] for table in (frame, own))
    # Scaled by all rows in place of the training rows, so only about the same.
    np.testing.assert_allclose(frame["forecast"], own["forecast"] / 1000, rtol=0.02)
    np.testing.assert_allclose(wide, own_wide / 1000, rtol=0.1)


def test_a_series_that_goes_on_keeps_the_scaling_of_the_training(trained: Path, tmp_path: Path) -> None:
    table = pd.read_csv(trained / "sales.csv")
    later = table.copy()
    later["date"] = (pd.to_datetime(later["date"]) + pd.Timedelta(days=120)).dt.strftime("%Y-%m-%d")
    for rows in (pd.concat([table, later]), later.groupby("store").tail(30)):
        rows.to_csv(tmp_path / "later.csv", index=False)
        frame, notes = forecast.forecast(trained / "table", data_of(trained, tmp_path / "later.csv"))
        own, _ = forecast.forecast(trained / "table")
        np.testing.assert_allclose(frame["forecast"], own["forecast"], rtol=1e-6)
        assert not any("scaled by" in note for note in notes)


def test_rows_without_dates_are_compared_by_level_and_spread_alone() -> None:
    values = 100 + np.random.default_rng(0).standard_normal(60)
    dated = Series(np.datetime64("2021-01-01") + np.arange(60), values)
    counted = Series(np.arange(60), values)
    for trained_on, other in ((dated, counted), (counted, dated)):
        facts = trained_series.TrainedSeries(
            first=str(trained_on.times[0]),
            last=str(trained_on.times[-1]),
            mean=float(values.mean()),
            deviation=float(values.std()),
        )
        assert trained_series.is_same(facts, trained_on) and trained_series.is_same(facts, other)
        assert not trained_series.is_same(facts, other._replace(values=values / 1000))


def test_a_run_without_facts_of_its_series_takes_their_name_for_it(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "older"
    shutil.copytree(trained / "table", folder)
    config = run_folder.read_config(folder)
    del config[trained_series.CONFIG_KEY]
    run_folder.write_config(folder, config)
    pd.testing.assert_frame_equal(forecast.forecast(folder)[0], forecast.forecast(trained / "table")[0])


def data_of(folder: Path, path: Path) -> Panel:
    """The rows of another file, read as the run's own were."""
    return dataclasses.replace(forecaster.restore(folder / "table").experiment.data, path=str(path)).panel()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "name the folder of a run"),
        ("nowhere", "no run at nowhere"),
        ("{}", "holds 2 runs: name one of them, such as"),
        (
            "{}/table --horizon 30",
            "with --task iterated; got 30, needed at most 7",
        ),
        ("{}/table --horizon 0", "--horizon: too few steps; got 0, needed at least 1"),
        ("{}/table --out f.txt", "--out: wrong type of file; got 'f.txt'"),
        ("{}/table --data.path gone.csv", "gone.csv"),
        ("{}/table --rubbish 3", "--rubbish"),
        ("{}/table --data.window 9", "--data.window: must be as in the training of"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(
    words: str, said: str, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    assert forecast.main(words.format(trained).split()) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_series_that_is_shorter_than_the_window_is_named(trained: Path, tmp_path: Path, capsys) -> None:
    rows = "date,store,sales,price\n" + "".join(f"2022-06-{day:02},west,{day},1\n" for day in range(1, 6))
    (tmp_path / "few.csv").write_text(rows)
    assert forecast.main([str(trained / "table"), "--data.path", str(tmp_path / "few.csv")]) == 2
    assert "window 8 needs at least 8 rows; there are 5" in capsys.readouterr().err


def test_series_that_cannot_be_forecast_are_left_out_where_that_is_asked_for(
    trained: Path, tmp_path: Path, capsys
) -> None:
    table = pd.read_csv(trained / "sales.csv")
    flat = table[table["store"] == "north"].assign(store="flat", sales=3.0)
    short = table[table["store"] == "north"].head(5).assign(store="short")
    pd.concat([flat, table, short]).to_csv(tmp_path / "more.csv", index=False)
    words = [str(trained / "table"), "--data.path", str(tmp_path / "more.csv"), "--out", str(tmp_path / "f.csv")]
    assert forecast.main(words) == 2
    assert "--data.unusable drop leaves such series out" in capsys.readouterr().err
    assert forecast.main([*words, "--data.unusable", "drop"]) == 0
    own, _ = forecast.forecast(trained / "table")
    np.testing.assert_allclose(pd.read_csv(tmp_path / "f.csv")["forecast"], own["forecast"], rtol=1e-6)
    printed = " ".join(capsys.readouterr().out.split())
    assert "left out: 2 of 4 series that cannot be used: series 'flat', series 'short'" in printed


def test_waves_have_no_end_to_forecast_beyond(study_folder: Path, capsys) -> None:
    assert forecast.main([str(study_folder / "fold-1-seed-0")]) == 2
    assert "no end to forecast beyond" in capsys.readouterr().err


def test_by_default_it_stands_beside_the_run_and_overwrites_nothing_of_it(trained: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(trained / "aapl", tmp_path / "copied")
    before = {path.name: path.stat().st_mtime_ns for path in copied.iterdir()}
    assert forecast.main([str(copied)]) == 0
    after = {path.name: path.stat().st_mtime_ns for path in copied.iterdir()}
    assert after.keys() - before.keys() == {"future.csv", "future.png", "future.json"}
    assert {name: after[name] for name in before if name != "checkpoints"} == {
        name: before[name] for name in before if name != "checkpoints"
    }


def test_a_run_whose_folder_was_copied_still_forecasts(trained: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(trained / "aapl", tmp_path / "copied")
    pd.testing.assert_frame_equal(forecast.forecast(copied)[0], forecast.forecast(trained / "aapl")[0])


@pytest.fixture(scope="module")
def adaptive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with adaptive intervals on a daily series of noise, two steps at once, and the file of the series."""
    folder = tmp_path_factory.mktemp("adaptive")
    _noise(300).to_csv(folder / "noise.csv", index=False)
    words = f"table --data.path {folder}/noise.csv --data.target level --task direct --horizon 2 --intervals adaptive"
    with quick_compilation():
        assert train.main([*words.split(), *FEW[:-1], "32", "--out", f"{folder}/run"]) == 0
    return folder


def _noise(rows: int, later: float = 1.0) -> pd.DataFrame:
    """Daily noise about 20, whose spread changes after 300 rows."""
    values = np.random.default_rng(0).standard_normal(rows) * np.where(np.arange(rows) < 300, 1, later)
    return pd.DataFrame({"date": pd.date_range("2021-01-01", periods=rows), "value": 20 + values})


def test_adaptive_intervals_go_on_from_the_test_part_as_they_were_judged(adaptive: Path) -> None:
    frame, notes = forecast.forecast(adaptive / "run")
    restored = forecaster.restore(adaptive / "run")
    assert restored.intervals is not None and restored.intervals.kind == "adaptive"
    dataset = restored.experiment.data.load(2)
    # The test part has 45 rows, whose first window may not share a target with validation.
    arrived = int(next(note for note in notes if "since training" in note).split(" forecasts")[0].split()[-1])
    assert arrived >= len(dataset.windows.test.inputs)

    panel = restored.experiment.data.panel()
    rows = panel.windows_from(0, 300 - arrived, 8, 2)
    assert rows.origins.tolist() == list(range(300 - arrived, 300))
    assert np.isnan(rows.targets[-1]).tolist() == [False, True]
    both = join([rows, panel.last_windows(8, 2)])
    _, ends = restored.forecast(both, restored.scaling, 2, panel.series)
    np.testing.assert_allclose(frame[["low_80%", "high_80%"]], np.stack(ends[0.8], axis=-1)[-1])


def test_rows_that_have_arrived_widen_adaptive_intervals_that_missed_them(adaptive: Path, tmp_path: Path) -> None:
    widths = []
    for later in (0.3, 3.0):
        path = tmp_path / "more.csv"
        # The last rows are alike, so that size and forecast do not differ by much.
        rows = _noise(420, later)
        rows.loc[380:, "value"] = _noise(420)["value"][380:]
        rows.to_csv(path, index=False)
        assert (
            forecast.main(
                [str(adaptive / "run"), "--data.path", str(path), "--overwrite", "--out", str(tmp_path / "f.csv")]
            )
            == 0
        )
        frame = pd.read_csv(tmp_path / "f.csv")
        widths.append((frame["high_80%"] - frame["low_80%"]).to_numpy())
    assert (widths[1] > 1.15 * widths[0]).all()


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (lambda rows: rows.drop(columns="date"), "intervals stay as they were fitted for value: rows and training"),
        (lambda rows: rows.rename(columns={"value": "other"}), "292 forecasts of series that the run does not know"),
        (lambda rows: rows.assign(value=1000 * rows["value"]), "292 forecasts of series that the run does not know"),
    ],
    ids=["undated", "new", "in another unit"],
)
def test_adaptive_intervals_go_on_only_from_the_series_and_time_that_they_were_fitted_to(
    adaptive: Path, tmp_path: Path, change, note: str
) -> None:
    change(_noise(300)).to_csv(tmp_path / "rows.csv", index=False)
    data = dataclasses.replace(forecaster.restore(adaptive / "run").experiment.data, path=str(tmp_path / "rows.csv"))
    frame, notes = forecast.forecast(adaptive / "run", data.panel())
    assert any(note in text for text in notes), notes
    assert not any("since training" in text for text in notes)
    assert np.isfinite(frame.filter(like="%")).all(axis=None)


@pytest.fixture(scope="module")
def headed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with one of the heads on two series, two steps at once."""
    folder = tmp_path_factory.mktemp(request.param)
    both = pd.concat([_noise(200).assign(store=name, value=lambda rows: rows["value"] + 5) for name in ("a", "b")])
    both.to_csv(folder / "noise.csv", index=False)
    words = f"table --data.path {folder}/noise.csv --data.series store --task direct --horizon 2 --model.head"
    with quick_compilation():
        assert train.main([*words.split(), request.param, *FEW[:-1], "32", "--out", f"{folder}/run"]) == 0
    return folder / "run"


HEADS = ("point", "quantile", "gaussian", "student-t")
KINDS = ("auto", "split", "scaled", "volatility", "adaptive")
# The other pairs are slow: adaptive intervals and quantiles have tests of their own.
QUICK_PAIRS = (("point", "auto"), ("point", "split"))


@pytest.mark.parametrize(
    ("headed", "kind"),
    [
        pytest.param(head, kind, marks=() if (head, kind) in QUICK_PAIRS else pytest.mark.slow)
        for head in HEADS
        for kind in KINDS
    ],
    indirect=["headed"],
)
def test_every_head_is_judged_and_forecasts_with_every_kind_of_intervals(headed: Path, kind, tmp_path: Path) -> None:
    copied = shutil.copytree(headed, tmp_path / "run")
    experiment = dataclasses.replace(forecaster.restore(copied).experiment, intervals=kind)
    domain.judge(domain.prepare(experiment), copied, Console(file=io.StringIO()))
    reseal(copied)
    written = files.read_json(copied / run_seal.INTERVALS)
    assert kind in ("auto", written["kind"]) and written["levels"] == [0.5, 0.8, 0.95]
    scores = pd.read_csv(copied / run_seal.SCORES).iloc[-3]
    assert scores["role"] == "model" and 0.5 < scores["coverage_80%"] <= 1 and scores["crps"] > 0

    frame, _ = forecast.forecast(copied)
    assert frame["series"].tolist() == ["a", "a", "b", "b"]
    ends = frame[[f"low_{level}%" for level in (95, 80, 50)] + [f"high_{level}%" for level in (50, 80, 95)]].to_numpy()
    assert np.isfinite(ends).all() and (np.diff(ends, axis=1) >= 0).all() and (ends[:, 0] < ends[:, -1]).all()


def test_without_levels_nothing_is_followed_and_the_notes_agree(adaptive: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(adaptive / "run", tmp_path / "copied")
    saved = files.read_json(copied / run_seal.INTERVALS)
    files.write_json(copied / run_seal.INTERVALS, {**saved, "levels": [], "sizes": [], "scores": []})
    reseal(copied)
    notes = forecast.forecast(copied)[1]
    assert "no intervals: the run has none for this horizon" in notes and not any("follow" in note for note in notes)


def test_an_option_that_decides_what_the_model_reads_is_that_of_the_training():
    saved = Table(path="a.csv", column="y")
    for name, value in (("transform", "log"), ("scale", "window"), ("scale_input", True)):
        with pytest.raises(UsageError) as raised:
            future.check_same_inputs(Path("run"), saved, dataclasses.replace(saved, **{name: value}))
        assert raised.value.where == f"--data.{name.replace('_', '-')}"
