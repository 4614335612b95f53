"""One experiment over seeds and folds: what is finished is kept, what is pooled is pooled right."""

import dataclasses
import io
import json
import shutil
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pairwise import slow_except
from rich.console import Console

from jaxseq.checkpoint import run_seal
from jaxseq.common.errors import Interrupted, UsageError
from jaxseq.data.table import Table
from jaxseq.data.waves import Waves
from jaxseq.forecasting import classical
from jaxseq.forecasting.quantities import values
from jaxseq.train import __main__ as train
from jaxseq.train import run, study
from jaxseq.train.domains import forecast_study, forecasts
from jaxseq.train.domains.base import Extras
from jaxseq.train.experiments import Experiment, named
from jaxseq.train.experiments.forecasts import Model

pytestmark = pytest.mark.usefixtures("compiled_quickly")

TINY = named("waves", data=Waves(count=240, window=6), model=Model(hidden=3), epochs=1)
"""The experiment of `study_folder`."""


@pytest.fixture
def copy(study_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(study_folder, tmp_path / "s"))


def test_every_seed_meets_every_fold_once(study_folder: Path) -> None:
    table = pd.read_csv(study_folder / study.MEMBERS)
    assert sorted(zip(table["fold"], table["seed"], strict=True)) == [(1, 0), (1, 1), (2, 0), (2, 1)]
    for fold, seed in zip(table["fold"], table["seed"], strict=True):
        config = json.loads((study_folder / f"fold-{fold}-seed-{seed}" / "config.json").read_text())
        assert (config["data"]["folds"], config["data"]["fold"], config["seed"]) == (2, fold, seed)


def test_the_folds_tile_the_test_part_and_the_later_one_learns_from_the_earlier(study_folder: Path) -> None:
    rows = [pd.read_csv(study_folder / f"fold-{fold}-seed-0" / "predictions.csv")["row"].to_list() for fold in (1, 2)]
    assert rows[0] + rows[1] == list(range(216, 240))
    sizes = [
        len(TINY.data.__class__(count=240, window=6, folds=2, fold=fold).load(1).windows.train.inputs)
        for fold in (1, 2)
    ]
    assert sizes == [168, 180]


def test_the_pooled_row_is_the_mean_over_seeds_of_the_squared_errors_of_all_folds(study_folder: Path) -> None:
    frames = [pd.read_csv(study_folder / f"fold-{f}-seed-{s}" / "predictions.csv") for f in (1, 2) for s in (0, 1)]
    whole = pd.concat(frames)
    ratio = ((whole["actual"] - whole["forecast"]) ** 2).mean() / ((whole["actual"] - whole["naive"]) ** 2).mean()
    runs = study.members(TINY, 2, 2, study_folder)
    summary = forecasts.summary(TINY, runs, study.gather(runs))
    assert f"by seed: mean {ratio:.4f} ±" in summary
    relative = ((whole["actual"] - whole["forecast"]) ** 2).mean() / (
        (whole["actual"] - whole["reference"]) ** 2
    ).mean()
    assert f"| {relative:.4f} |" in summary
    np.testing.assert_allclose(np.mean(forecast_study._relative_loss_by_seed(runs, values)), ratio, rtol=1e-12)


@pytest.mark.slow
def test_a_panel_whose_series_have_numbers_as_names_is_pooled_over_the_rows_that_are_asked_for(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    names = np.repeat(["01", "1", "NA"], 60)
    rows = pd.DataFrame({"name": names, "t": np.tile(np.arange(60), 3), "v": random.normal(size=180)})
    path = tmp_path / "panel.csv"
    rows.to_csv(path, index=False)
    data = Table(path=str(path), series="name", time="t", window=5, test_from="44", valid_from="36", test_stride=3)
    experiment = named("table", data=data, model=Model(hidden=3), epochs=1, batch=8)
    folder = study.study(experiment, seeds=1, folds=2, out=tmp_path / "s")
    text = (folder / study.SUMMARY).read_text()
    assert "Folds: 2" in text and "gru, mean over 1 seed:" in text
    for fold, first in ((1, 44), (2, 52)):
        folder_of_fold = folder / f"fold-{fold}-seed-0"
        predictions = pd.read_csv(folder_of_fold / run_seal.PREDICTIONS)
        assert predictions["row"].tolist() == 3 * [first, first + 3, first + 6]
        report = (folder_of_fold / run_seal.REPORT).read_text()
        assert "rows from 44 on are for the test, rows from 36 on for validation (8 test rows)." in report
        assert "one of every 3 windows of the test part is judged, 9 windows." in report


def test_typed_again_it_trains_nothing_and_a_member_that_is_gone_is_trained_again(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (copy / study.MEMBERS).read_bytes()
    real, trained = run.train_beside, []

    def counted(other, experiment, **how):
        trained.append((experiment.data.fold, experiment.seed))
        return real(other, experiment, **how)

    monkeypatch.setattr(run, "train_beside", counted)
    monkeypatch.setattr(run, "train", lambda experiment, **how: trained.append("without a run beside it"))
    study.study(TINY, seeds=2, folds=2, out=copy)
    assert trained == [] and (copy / study.MEMBERS).read_bytes() == before
    shutil.rmtree(copy / "fold-2-seed-0")
    study.study(TINY, seeds=2, folds=2, out=copy)
    assert trained == [(2, 0)]
    kept, again = (
        pd.read_csv(text).drop(columns="seconds") for text in (copy / study.MEMBERS, done_bytes(before, copy))
    )
    pd.testing.assert_frame_equal(kept, again)


def done_bytes(content: bytes, folder: Path) -> Path:
    path = folder / "before.csv"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("train_study", [study.study, study.study_together])
def test_a_seed_is_not_trained_on_other_rows_than_those_before_it(
    train_study: Any, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = forecasts.prepare
    grown = "0" * 64
    monkeypatch.setattr(forecasts, "prepare", lambda recipe: dataclasses.replace(real(recipe), rows_sha256=grown))
    shutil.rmtree(copy / "fold-1-seed-1")
    with pytest.raises(UsageError) as refused:
        train_study(TINY, seeds=2, folds=2, out=copy)
    assert refused.value.where == copy / "fold-1-seed-0" and grown[:12] in refused.value.got
    assert not (copy / "fold-1-seed-1").exists()


def test_an_interrupted_member_goes_on_where_it_stopped(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (copy / "fold-1-seed-1" / "report.md").unlink()
    real = run.train

    def stopped(experiment, **how):
        assert how["resume"] == copy / "fold-1-seed-1" and "out" not in how
        raise Interrupted(how["resume"], 1, 130)

    monkeypatch.setattr(run, "train", stopped)
    with pytest.raises(Interrupted, match="after epoch 1"):
        study.study(TINY, seeds=2, folds=2, out=copy)
    monkeypatch.setattr(run, "train", real)
    study.study(TINY, seeds=2, folds=2, out=copy)
    assert (copy / "fold-1-seed-1" / "report.md").is_file()


JUDGED = ("predictions.csv", "scores.csv", "report.md", "judged.json", "intervals.json")


@pytest.mark.parametrize(
    ("name", "damage"),
    slow_except(
        {("predictions.csv", "edited"), ("report.md", "gone"), ("judged.json", "gone")},
        list(product(JUDGED, ("edited", "gone"))),
    ),
)
def test_a_member_with_damaged_outputs_is_judged_again_from_its_checkpoints(
    copy: Path, name: str, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in copy.rglob("*.csv")}
    file = copy / "fold-1-seed-1" / name
    if damage == "gone":
        file.unlink()
    else:
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    study.study(TINY, seeds=2, folds=2, out=copy)
    said = capsys.readouterr().out
    assert f"{name}: " in " ".join(said.split()) and "the run is judged again" in " ".join(said.split())
    assert {path: path.read_bytes() for path in copy.rglob("*.csv")} == before
    assert run_seal.judged_damage(copy / "fold-1-seed-1") == []


def test_another_recipe_is_not_mixed_in(copy: Path) -> None:
    with pytest.raises(UsageError, match="another study: epochs differ"):
        study.study(named("waves", data=TINY.data, model=TINY.model, epochs=2), seeds=2, folds=2, out=copy)
    with pytest.raises(UsageError, match="seeds differ"):
        study.study(TINY, seeds=3, folds=2, out=copy)


def test_the_command_line_asks_for_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[tuple[Experiment, dict[str, Any]]] = []
    monkeypatch.setattr(study, "study", lambda experiment, **options: requests.append((experiment, options)))
    # The package itself is not needed to ask for it.
    monkeypatch.setattr(classical, "available", lambda: True)
    assert train.main(["waves", "--seeds", "3", "--backtest", "2", "--out", "here", "--classical"]) == 0

    experiment, options = requests[0]
    assert experiment.name == "waves"
    assert options == {"seeds": 3, "folds": 2, "out": Path("here"), "extras": Extras(classical=True), "callbacks": []}


def test_a_member_without_what_is_asked_for_is_judged_again(study_folder: Path) -> None:
    member = study.members(TINY, 1, 2, study_folder)[0]
    told = io.StringIO()
    console = Console(file=told, width=200)
    assert study._is_finished(member, console, Extras())
    assert not study._is_finished(member, console, Extras(explain=True))
    assert "without importance.csv: the run is judged again" in told.getvalue()
