"""A preparation that is chosen by validation: what is tried, by which rows, and what a stop leaves behind."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from sales_tables import TABLE, sales

from jaxseq.checkpoint import __main__ as checkpoint
from jaxseq.common import sealed
from jaxseq.common.errors import Undecided, UsageError
from jaxseq.data.table import Table
from jaxseq.train import __main__ as train
from jaxseq.train import auto, auto_options, auto_record, options, preparation, run, run_folder, trial
from jaxseq.train.auto_record import Record, Tried
from jaxseq.train.experiments import named
from jaxseq.train.experiments.config import to_config
from jaxseq.train.experiments.forecasts import ForecastExperiment, Model
from jaxseq.train.preparation import POWER, SCALE, SKIP, START, TARGET, WINDOW

QUIET = Console(quiet=True)


def experiment(path: Path | str = "sales.csv", **fields: object) -> ForecastExperiment:
    data = Table(path=str(path), column="sales", window=16, target="auto")
    made = named("table", **{"data": data, "model": Model(hidden=2), "epochs": 1, "batch": 64, **fields})
    assert isinstance(made, ForecastExperiment)
    return made


@pytest.fixture
def short_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three preparations are listed, the second of which is the first one by another name, and one that cannot be had."""
    listed = [{}, {TARGET: "season", SCALE: "window"}, {TARGET: "log-return"}, {TARGET: "level", START: "random"}]
    monkeypatch.setattr(preparation, "candidates", lambda *_: listed)


@pytest.mark.parametrize(("text", "seconds"), [("300", 300), ("90s", 90), ("5m", 300), ("0.5h", 1800)])
def test_a_time_is_seconds_or_has_a_unit(text: str, seconds: float) -> None:
    assert auto_options.seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "5 m", "-1", "m", "5d", "nan", "٣"])
def test_another_text_is_no_time(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        auto_options.seconds_of(text)
    assert (raised.value.where, raised.value.got) == ("--auto", text)


def test_the_list_begins_with_the_experiment_as_it_is_and_keeps_what_is_given() -> None:
    listed = preparation.candidates(experiment(), (), (7,))
    assert listed[0] == {}
    assert {each.get(TARGET) for each in listed} == {None, "season", "change", "level"}
    assert {each.get(WINDOW) for each in listed} == {None, 14}

    kept = preparation.candidates(experiment(), {TARGET, POWER, WINDOW, START, SKIP}, (7,))
    assert [dict(each) for each in kept] == [{}, {SCALE: "window"}, {SCALE: "series"}]


def test_the_list_has_what_the_experiment_can_have() -> None:
    targets = {each.get(TARGET) for each in preparation.candidates(experiment(), (), ())}
    assert "season" not in targets
    iterated = experiment(task="iterated", horizon=3)
    assert {each.get(TARGET) for each in preparation.candidates(iterated, (), (7,))} == {None, "change", "level"}
    longer = [each[WINDOW] for each in preparation.candidates(experiment(), (), (7, 30)) if WINDOW in each]
    assert longer == [14, 30, 30, 37]
    # Two seasons whose values the window has need no longer one.
    within = preparation.candidates(experiment(), (), (4, 12))
    assert [each.get(WINDOW) for each in within if each.get(TARGET) == "seasons"] == [None]


def test_fields_of_a_command_line_are_given() -> None:
    words = ["table", "--data.path", "x", "--data.target=level", "--model.no-skip", "--auto", "9"]
    assert {"data.path", "data.target", "model.skip"} <= options.given_fields(words)


@pytest.mark.parametrize(
    ("words", "where"),
    [
        (["table", "--auto", "soon"], "--auto"),
        (["waves", "--auto"], "--auto"),
        (["aapl", "--auto", "--warm-start", "x"], "--auto"),
    ],
)
def test_what_cannot_be_chosen_is_refused(words: list[str], where: str) -> None:
    with pytest.raises(UsageError) as raised:
        options.parse(words)
    assert raised.value.where == where


def test_the_least_loss_is_chosen_and_the_first_of_equal_ones() -> None:
    tried = (Tried({}, None, note="too short"), Tried({}, 2.0), Tried({}, 1.0), Tried({}, 1.0))
    assert Record({}, "", "MSE", 9, tried).best() == 2
    assert Record({}, "", "MSE", 9, tried[:1]).best() is None


@pytest.mark.usefixtures("short_list")
def test_the_command_trains_what_was_chosen_and_resumes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "run", lambda job: trial.Trial(float(job.material.scaling.kind != "level"), 1, 1))
    calls = []
    monkeypatch.setattr(run, "train", lambda *given, **options: calls.append((*given, options)))
    path = sales(tmp_path / "sales.csv")
    words = ["table", "--data.path", str(path), "--data.column", "sales", "--model.hidden", "2", "--epochs", "1"]
    out = tmp_path / "run"
    assert train.main([*words, "--auto", "1h", "--out", str(out)]) == 0
    # What is judged beside decides nothing about the choice, which is found made.
    assert train.main([*words, "--auto", "1h", "--explain", "--out", str(out)]) == 0

    for chosen, options_given in calls:
        assert (chosen.data.target, chosen.start, options_given["out"]) == ("level", "random", out)
    sealed.write(out / "config.json", {**to_config(calls[0][0])})
    assert train.main([*words, "--auto", "1h", "--out", str(out)]) == 0
    assert (calls[2][1]["out"], calls[2][1]["resume"]) == (None, out)


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_quickly", "short_list")
def test_the_chosen_run_is_a_usual_one_with_the_record_of_its_choice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sales(tmp_path / "sales.csv")
    words = ["table", "--data.path", str(path), "--data.column", "sales", *TABLE, "--data.window", "16"]
    out = tmp_path / "run"
    assert train.main([*words, "--auto", "1h", "--out", str(out)]) == 0
    assert "auto chose target" in capsys.readouterr().out

    record = auto_record.read(out)
    assert record is not None and record.chosen in (0, 3)
    assert [each.loss is None for each in record.tried] == [False, True, False, False]
    assert record.tried[1].note == "the same as number 1"
    assert pd.read_csv(out / "auto.csv")["chosen"].sum() == 1
    assert "auto chose target" in (out / "report.md").read_text()

    config = run_folder.read_config(out)
    chosen = record.tried[record.chosen]
    resolved = {field: config["data"][field.removeprefix("data.")] for field in (TARGET, SCALE, POWER, WINDOW)}
    assert {**resolved, START: config["start"], SKIP: config["model"]["skip"]} == chosen.preparation
    assert "auto" not in (config["data"]["target"], config["data"]["scale"], config["start"])

    # The trial is the beginning of that run, here all of it.
    if not config["scaling"]["by_window"]:
        [row] = run_folder.read_metrics(out)
        assert chosen.loss == pytest.approx(row["valid_mse"] * config["scaling"]["scale"][0] ** 2, rel=1e-5)

    # The same command resumes the run.
    before = json.loads((out / "judged.json").read_text())
    assert train.main([*words, "--auto", "1h", "--out", str(out)]) == 0
    assert json.loads((out / "judged.json").read_text())["state_sha256"] == before["state_sha256"]
    assert checkpoint.main(["verify", str(out)]) == 0

    (out / "auto.json").write_text((out / "auto.json").read_text().replace('"listed": 4', '"listed": 5'))
    assert checkpoint.main(["verify", str(out)]) == 1
    assert train.main([*words, "--auto", "1h", "--out", str(out)]) == 2
    assert "auto.json" in capsys.readouterr().err


@pytest.mark.usefixtures("compiled_quickly", "short_list")
def test_the_choice_reads_no_test_row_and_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sales(tmp_path / "sales.csv")
    whole = auto.choose(experiment(path), 3600.0, out=tmp_path / "whole", console=QUIET)
    losses = [each.loss for each in auto_record.read(whole.folder).tried]

    # The last 15 % of 120 rows.
    frame = pd.read_csv(path)
    frame.loc[102:, "sales"] = np.random.default_rng(1).uniform(1, 1000, 18)
    frame.to_csv(path, index=False)
    stopped = tmp_path / "stopped"
    trials = []
    begin = trial.run

    def interrupted(job: object) -> trial.Trial:
        trials.append(job)
        if len(trials) == 2:
            raise KeyboardInterrupt
        return begin(job)

    monkeypatch.setattr(trial, "run", interrupted)
    with pytest.raises(Undecided):
        auto.choose(experiment(path), 3600.0, out=stopped, console=QUIET)
    again = auto.choose(experiment(path), 3600.0, out=stopped, console=QUIET)

    assert len(trials) == 4
    assert [each.loss for each in auto_record.read(stopped).tried] == losses
    assert dataclasses.replace(again.experiment, data=whole.experiment.data) == whole.experiment
    run_folder.check_empty(stopped)

    frame.loc[100, "sales"] = 51.0
    frame.to_csv(path, index=False)
    with pytest.raises(UsageError) as raised:
        auto.choose(experiment(path), 3600.0, out=stopped, console=QUIET)
    assert raised.value.where == stopped / "auto.json"
    with pytest.raises(UsageError) as raised:
        auto.choose(experiment(path, lr=0.1), 3600.0, out=stopped, console=QUIET)
    assert "lr" in raised.value.rule


@pytest.mark.usefixtures("short_list")
def test_no_trial_begins_that_the_time_is_too_short_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "run", lambda _: trial.Trial(1.0, 1, 1))
    path = sales(tmp_path / "sales.csv")
    chosen = auto.choose(experiment(path), 0.0, out=tmp_path / "run", console=QUIET)
    record = auto_record.read(chosen.folder)
    assert record is not None and (len(record.tried), record.chosen) == (1, 0)


def test_a_folder_of_somebody_else_is_no_place_for_a_choice(tmp_path: Path) -> None:
    path = sales(tmp_path / "sales.csv")
    with pytest.raises(UsageError):
        auto.choose(experiment(path), 0.0, out=tmp_path, console=QUIET)
    # A table of that name is not ours without its record.
    other = tmp_path / "other"
    other.mkdir()
    (other / "auto.csv").write_text("mine")
    assert not run_folder.is_empty(other)
    sealed.write(other / "auto.json", {})
    assert run_folder.is_empty(other)


def test_a_run_beside_a_record_has_the_preparation_that_was_chosen(tmp_path: Path) -> None:
    made = experiment()
    tried = (Tried(preparation.asked(made), 2.0), Tried({**preparation.asked(made), TARGET: "level"}, 1.0))
    auto_record.write(tmp_path, Record({}, "", "MSE", 2, tried, chosen=1))
    followed = dataclasses.replace(made, data=dataclasses.replace(made.data, target="level"))
    auto_record.check_is_of(tmp_path, followed)
    for other in (made, named("waves")):
        with pytest.raises(UsageError, match="record of another command's choice"):
            auto_record.check_is_of(tmp_path, other)
    with pytest.raises(UsageError, match="record of another command's choice"):
        run.train(made, out=tmp_path)
    auto_record.check_is_of(tmp_path / "none", made)
