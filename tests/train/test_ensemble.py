"""The runs of a study as one forecaster: judged beside its members, restored with all of them, refused where one lacks."""

import json
import math
import pickle
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from quick_compilation import quick_compilation

from jaxseq import forecast, score
from jaxseq.checkpoint import __main__ as checkpoint
from jaxseq.checkpoint import run_seal
from jaxseq.common import csv_tables
from jaxseq.common.errors import Stopped, UsageError
from jaxseq.forecasting import evaluate
from jaxseq.train import __main__ as train
from jaxseq.train import ensemble, forecaster, run_folder
from jaxseq.train.domains import forecasts

pytestmark = pytest.mark.usefixtures("compiled_quickly")

SEEDS = (0, 1, 2)
LACKS = (run_seal.LARGE_PREDICTIONS, run_seal.LOSS_PLOT, run_seal.CLASSICAL, *run_seal.EXPLANATION)
FILES = ("ensemble.json", *(name for name in run_seal.OUTPUTS if name not in LACKS))


@pytest.fixture(scope="module")
def combined(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of three seeds with its ensemble and its refits, made by one command on two counted series."""
    folder = tmp_path_factory.mktemp("ensemble")
    source = np.random.default_rng(0)
    frames = [
        pd.DataFrame({"t": np.arange(90), "name": name, "y": level * (9 + np.cumsum(source.normal(size=90)))})
        for name, level in (("a", 1.0), ("b", 100.0))
    ]
    pd.concat(frames).to_csv(folder / "rows.csv", index=False)
    with quick_compilation():
        assert train.main(words(folder, "study")) == 0
    return folder / "study"


def words(folder: Path, out: str) -> list[str]:
    data = f"table --data.path {folder}/rows.csv --data.series name --data.column y --data.time t --data.target change"
    model = "--data.window 6 --model.hidden 3 --epochs 2 --batch 16 --task direct --horizon 2 --intervals split"
    return f"{data} {model} --seeds 3 --ensemble --refit --out {folder / out}".split()


@pytest.fixture
def copy(combined: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(combined, tmp_path / "study"))


def member(folder: Path, seed: int) -> Path:
    return folder / f"fold-1-seed-{seed}"


def test_the_ensemble_is_the_mean_of_its_members_and_stands_beside_them(combined: Path) -> None:
    tables = [csv_tables.read(member(combined, seed) / "predictions.csv") for seed in SEEDS]
    own = csv_tables.read(combined / "predictions.csv")
    np.testing.assert_allclose(own["forecast"], np.mean([table["forecast"] for table in tables], axis=0), rtol=1e-9)

    scores = csv_tables.read(combined / "scores.csv")
    scores = scores[scores["step"] == "all"].set_index("forecast")
    assert scores["role"].value_counts()[["model", "member", "reference"]].tolist() == [1, 3, 1]
    assert scores.index[-1] == "gru (mean of 3 seeds)"
    mse = ((own["actual"] - own["forecast"]) ** 2).mean()
    assert scores.loc["gru (mean of 3 seeds)", "mse"] == pytest.approx(mse, rel=1e-6)
    for seed in SEEDS:
        name = next(name for name in scores.index if f"seed {seed} " in name)
        alone = csv_tables.read(member(combined, seed) / "scores.csv")
        alone = alone[(alone["step"] == "all") & (alone["role"] == "model")].iloc[0]
        for column in ("mse", "mase", "crps", "coverage_80%"):
            assert scores.loc[name, column] == pytest.approx(alone[column], rel=1e-6)
    report = (combined / "report.md").read_text()
    assert "gru (mean of 3 seeds)" in report.splitlines()[2] and "epochs " in report


def test_its_intervals_are_calibrated_on_its_own_errors(combined: Path) -> None:
    job = forecasts.prepare(ensemble._experiment_of(member(combined, 0)))
    windows = job.material.windows
    errors = []
    for seed in SEEDS:
        trained = forecaster.restore(member(combined, seed))
        errors.append(windows.valid.targets - trained.forecast(windows.valid, trained.scaling)[0])
    scale = job.material.scaling.of_rows(windows.valid)[1]
    scores = np.sort(np.abs(np.mean(errors, axis=0)) / scale, axis=0)
    saved = json.loads((combined / "intervals.json").read_text())
    for level, margins in zip(saved["levels"], saved["sizes"], strict=True):
        rank = math.ceil((len(scores) + 1) * round(level * 100) / 100 - 1e-9)
        np.testing.assert_allclose(margins, scores[rank - 1], rtol=1e-4)


@pytest.mark.slow
def test_forecast_and_score_use_all_members_or_all_refits_and_say_so(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert forecast.main([str(copy)]) == 0
    assert "mean of 3 members, trained again on all rows" in " ".join(capsys.readouterr().out.split())
    by_refits = pd.read_csv(copy / "future.csv")
    by_judged, notes = forecast.forecast(copy, refit=False)
    assert "forecast by the mean of 3 members" in notes
    for table, with_refit in ((by_refits, True), (by_judged, False)):
        of_members = [forecast.forecast(member(copy, seed), refit=with_refit).table["forecast"] for seed in SEEDS]
        np.testing.assert_allclose(table["forecast"], np.mean(of_members, axis=0), rtol=1e-5)
    assert json.loads((copy / "future.json").read_text())["epoch"] == [
        forecaster.restore(member(copy, seed)).epoch for seed in SEEDS
    ]

    came = pd.DataFrame({"t": [90, 91] * 2, "name": ["a", "a", "b", "b"], "y": [9.0, 9.5, 900.0, 950.0]})
    assert score.score(copy, came).comparison.model.name == "gru (mean of 3 seeds, all rows)"
    came.to_csv(tmp_path / "later.csv", index=False)
    assert score.main([str(copy), str(tmp_path / "later.csv"), "--no-refit"]) == 0
    assert "gru (mean of 3 seeds)" in (copy / "score-0001" / "score.md").read_text()

    restored = ensemble.restore(copy, with_refit=False)
    again = pickle.loads(pickle.dumps(restored))
    pd.testing.assert_frame_equal(again.predict().table, restored.predict().table)
    assert forecast.main([str(copy), "--epoch", "1"]) == 2
    assert "--epoch" in capsys.readouterr().err


def test_one_refit_that_lacks_leaves_the_judged_weights_to_all(copy: Path) -> None:
    shutil.rmtree(member(copy, 1) / "refit")
    trained = ensemble.restore(copy)
    assert "2 of 3 have a refit" in trained.weights and str(member(copy, 1)) in trained.weights
    assert not trained.is_refit and not any(other.is_refit for other in trained.others)


@pytest.mark.slow
def test_the_same_command_makes_the_same_bytes_and_another_combination_is_judged_anew(
    copy: Path, combined: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {name: (copy / name).read_bytes() for name in FILES}
    judged: list[str] = []
    real = evaluate.judge

    def counted(name: str, *arguments: object, **options: object) -> object:
        judged.append(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(evaluate, "judge", counted)
    command = [word for word in words(combined.parent, "study")[:-1] if word != "--refit"]
    assert train.main([*command, str(copy)]) == 0 and not judged
    (copy / "scores.csv").write_text("edited")
    ensemble.combine(copy)
    assert judged == ["gru (mean of 3 seeds)"] and {name: (copy / name).read_bytes() for name in FILES} == before

    ensemble.combine(copy, "median")
    tables = [csv_tables.read(member(copy, seed) / "predictions.csv") for seed in SEEDS]
    own = csv_tables.read(copy / "predictions.csv")
    np.testing.assert_allclose(own["forecast"], np.median([table["forecast"] for table in tables], axis=0), rtol=1e-9)


def test_an_interrupted_judgement_leaves_no_ensemble_that_is_believed_and_is_made_again(
    copy: Path, combined: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> bytes:
        raise KeyboardInterrupt

    (copy / "ensemble.json").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(csv_tables, "content", interrupt)
        with pytest.raises(Stopped, match="--out"):
            ensemble.combine(copy)
    with pytest.raises(UsageError):
        forecast.forecast(copy)
    ensemble.combine(copy)
    for name in FILES:
        assert (copy / name).read_bytes() == (combined / name).read_bytes()


def test_a_member_that_is_missing_damaged_or_another_one_is_refused_by_its_name(
    copy: Path, combined: Path, capsys: pytest.CaptureFixture
) -> None:
    def refused(name: str, by_verify: bool = True) -> str:
        assert forecast.main([str(copy)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and name in error
        assert checkpoint.main(["verify", str(copy)]) == int(by_verify)
        capsys.readouterr()
        shutil.rmtree(copy)
        shutil.copytree(combined, copy)
        return error

    shutil.rmtree(member(copy, 1))
    assert "missing" in refused("fold-1-seed-1")

    judged = run_seal.read_judged(member(copy, 2))
    assert judged is not None
    arrays = (member(copy, 2) / "checkpoints" / str(judged.epoch)).rglob("*")
    for path in arrays:
        if path.is_file() and path.stat().st_size > 100:
            path.write_bytes(path.read_bytes()[::-1])
    assert "damaged" in refused("fold-1-seed-2")

    shutil.rmtree(member(copy, 0))
    shutil.copytree(member(copy, 1), member(copy, 0))
    assert "another run" in refused("fold-1-seed-0")

    config = run_folder.read_config(member(copy, 1))
    config["lr"] = 0.5
    run_folder.write_config(member(copy, 1), config)
    assert "another config" in refused("fold-1-seed-1")

    (copy / "intervals.json").write_text("{}")
    refused("intervals.json")
    (copy / "ensemble.json").write_text((copy / "ensemble.json").read_text().replace("mean", "median"))
    refused("ensemble.json")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("aapl --ensemble", "--seeds"),
        ("aapl --seeds 2 --backtest 2 --ensemble", "--backtest"),
        ("pianoroll --seeds 2 --ensemble", "forecasts"),
        ("aapl --seeds 2 --ensemble mode", "--ensemble"),
        ("aapl --seeds 2 --refit", "--ensemble"),
    ],
)
def test_what_cannot_be_combined_is_refused_before_the_training(
    text: str, word: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert train.main([*text.split(), "--out", str(tmp_path / "s")]) == 2
    assert word in capsys.readouterr().err and not (tmp_path / "s").exists()
