"""The command line: words become a recipe, or one line that says why not."""

import dataclasses
import json
from pathlib import Path

import pytest

from jaxseq.cells import CELLS
from jaxseq.common.errors import UsageError
from jaxseq.data.aapl import Prices
from jaxseq.train import experiments, options
from jaxseq.train.experiments import forecasts, named


def saved(folder: Path, experiment: experiments.Experiment) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(experiments.to_config(experiment)))
    return folder


def test_no_words_ask_for_the_default() -> None:
    asked = options.parse([])
    assert asked.experiment == experiments.EXPERIMENTS[options.DEFAULT] and asked.out is None and asked.resume is None


@pytest.mark.parametrize("name", experiments.EXPERIMENTS)
def test_an_experiment_by_name_is_its_recipe(name: str) -> None:
    assert options.parse([name]).experiment == experiments.EXPERIMENTS[name]


def test_every_field_can_be_set() -> None:
    words = (
        "waves --model.cell lstm --model.hidden 7 --model.layers 2 --data.window 9 --data.noise 0.2 --epochs 3 --batch 8"
        " --optimiser rmsprop --momentum 0.9 --lr 0.5 --schedule exponential --factor 0.2 --clip None --seed 6"
        " --patience 4 --precision tf32 --out somewhere"
    )
    asked = options.parse(words.split())
    wanted = named(
        "waves",
        data=dataclasses.replace(named("waves").data, window=9, noise=0.2),
        model=forecasts.Model("lstm", 7, 2),
        epochs=3,
        batch=8,
        optimiser="rmsprop",
        momentum=0.9,
        lr=0.5,
        schedule="exponential",
        factor=0.2,
        clip=None,
        seed=6,
        patience=4,
        precision="tf32",
    )
    assert asked.experiment == wanted and asked.out == Path("somewhere")


def test_a_run_to_go_on_with_brings_its_own_recipe(tmp_path: Path) -> None:
    recipe = named("waves", epochs=7, seed=3, model=forecasts.Model("rnn", 5, 2))
    run = saved(tmp_path / "run", recipe)
    for words in (["--resume", str(run)], [f"--resume={run}"], ["waves", "--resume", str(run)]):
        asked = options.parse(words)
        assert asked.experiment == recipe and asked.resume == run
    further = options.parse(["--resume", str(run), "--epochs", "9"]).experiment
    assert further == dataclasses.replace(recipe, epochs=9)


def test_a_recipe_survives_its_config() -> None:
    for experiment in experiments.EXPERIMENTS.values():
        config = json.loads(json.dumps(experiments.to_config(experiment)))
        beside = {"scaling": {"kind": "level"}, "axes": {"params/head/bias": "k"}}
        assert experiments.from_config({**config, **beside}, "here") == experiment
    dated = experiments.named("aapl", data=Prices(test_from="2012-01-01", valid_from="2011-01-01", test_stride=5))
    config = json.loads(json.dumps(experiments.to_config(dated)))
    assert experiments.from_config(config, "here") == dated
    older = {name: value for name, value in config["data"].items() if not name.startswith(("test_", "valid_"))}
    assert experiments.from_config({**config, "data": older}, "here").data == Prices(), (
        "configs before there were such rules"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("wavs", "unknown experiment; got 'wavs', needed one of aapl, waves"),
        ("--model.cell foo", f"unknown cell; got 'foo', needed one of {', '.join(CELLS)}"),
        ("waves --epochs 0", "epochs: too small; got 0"),
        ("--epoch 3", "Unrecognized options: --epoch, 3: perhaps --epochs"),
        ("--rubbish", "Unrecognized options: --rubbish: see python -m jaxseq.train aapl --help"),
        ("--lr fast", "Error parsing --lr: could not convert string to float: 'fast'"),
        ("--resume", "Missing value for argument '--resume'"),
    ],
)
def test_a_mistake_is_said_in_one_line_on_any_terminal(
    words: str, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for columns in ("30", "200"):
        monkeypatch.setenv("COLUMNS", columns)
        with pytest.raises(UsageError) as raised:
            options.parse(words.split())
        text = str(raised.value)
        assert text.startswith(said) and not set(text) & set("\n│─╭")
        assert capsys.readouterr() == ("", "")


def test_names_of_files_where_options_stand_are_those_of_an_asterisk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("sales.csv", "stock.csv"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"Unrecognized options: stock.csv: .*in quotation marks, '\*'$"):
        options.parse(["table", "--data.path", "sales.csv", "--data.column", "sales.csv", "stock.csv"])
    # Or nobody wrote an asterisk, and --data.path was forgotten.
    with pytest.raises(UsageError, match=r"Unrecognized options: sales.csv: see .* --help; .*quotation marks"):
        options.parse(["table", "sales.csv"])


def test_recipes_whose_optimisers_differ_in_numbers_alone_share_what_is_compiled() -> None:
    recipe = named("waves")
    others = [
        dataclasses.replace(recipe, **change)
        for change in ({}, {"epochs": 9}, {"lr": 0.5}, {"clip": 2.0}, {"schedule": "constant"}, {"clip": None})
    ]
    first, *numbers, schedule, clip = [other.build_optimiser(10) for other in others]
    assert all(other.transformation is first.transformation for other in numbers)
    assert all(other.numbers != first.numbers for other in numbers)
    assert schedule.transformation is not first.transformation and clip.transformation is not first.transformation


def test_the_name_and_the_help_text_are_no_options() -> None:
    for flag in ("--name", "--about"):
        with pytest.raises(UsageError, match="Unrecognized options"):
            options.parse(["waves", flag, "other"])


def test_a_config_cannot_rename_its_experiment() -> None:
    for name in ("name", "about"):
        with pytest.raises(UsageError, match=f"unknown fields {name}"):
            experiments.from_config({"experiment": "waves", name: "other"}, "here")


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_shell_gets_a_completion_of_all_options(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        options.parse(["--tyro-print-completion", shell])
    script, complaint = capsys.readouterr()
    assert not stop.value.code and complaint == ""
    assert all(word in script for word in (*experiments.EXPERIMENTS, "--model.hidden", "--data.ticker"))


def test_the_list_of_experiments_has_one_line_for_each_and_requires_none(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as stop:
        options.parse(["--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0 and "required" not in text and "(default: aapl)" in text
    listed = [line for line in text.splitlines() if "•" in line]
    assert [line.partition("•")[2].split()[0] for line in listed] == list(experiments.EXPERIMENTS)
    for experiment, line in zip(experiments.EXPERIMENTS.values(), listed, strict=True):
        assert experiment.about.strip().splitlines()[0] in line


@pytest.mark.parametrize("name", ["jsb", "chords", "pianoroll", "aapl"])
def test_the_help_of_an_experiment_leaves_out_what_it_refuses(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        options.parse([name, "--help"])
    text = capsys.readouterr().out
    of_forecasts = [f"--{word} " in text for word in ("refit,", "auto", "backtest", "classical,", "explain,")]
    assert set(of_forecasts) == {name == "aapl"} and "--seeds " in text
    # Runs of chorales are combined, too.
    assert ("--ensemble " in text) == (name != "pianoroll")


def test_options_that_are_not_in_the_help_are_refused_by_what_they_do() -> None:
    with pytest.raises(UsageError) as raised:
        options.parse(["jsb", "--classical"])
    assert (raised.value.where, raised.value.got) == ("--classical", "jsb")
    assert options.parse(["jsb", "--seeds", "2", "--backtest", "3"]).backtest == 3


@pytest.mark.parametrize("name", experiments.EXPERIMENTS)
def test_the_help_of_an_experiment_fits_into_80_columns(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        options.parse([name, "--help"])
    lines = capsys.readouterr().out.splitlines()
    # Lines that show a command are to be copied whole.
    assert [line for line in lines if len(line) > 80 and options.PROGRAM not in line] == []
