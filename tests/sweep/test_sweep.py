"""A sweep: which combinations words stand for, and a table that says what its runs do."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from quick_compilation import compile_children_quickly, quick_compilation
from rich.console import Console

from jaxseq.checkpoint import run_seal
from jaxseq.common.errors import UsageError
from jaxseq.sweep import __main__ as sweep
from jaxseq.sweep import grid, options, pool
from jaxseq.sweep.planned import PlannedRun, is_finished
from jaxseq.train import options as train_options

TINY = ["aapl", "--model.hidden", "2", "--epochs", "1", "--batch", "512"]


def values(*words: str) -> list[dict[str, str]]:
    return [point.values for point in grid.points([*TINY, *words])]


def test_commas_and_ranges_are_multiplied_the_last_one_fastest() -> None:
    found = values("--model.cell", "rnn,gru", "--seed=0:3")
    assert found == [{"model.cell": cell, "seed": str(seed)} for cell in ("rnn", "gru") for seed in range(3)]


def test_every_combination_is_the_recipe_that_train_would_make_of_it() -> None:
    for point in grid.points([*TINY, "--model.cell", "rnn,lstm", "--lr", "1e-3,3e-3", "--seed", "4,7:9"]):
        recipe = point.experiment
        said = (recipe.model.cell, recipe.lr, recipe.seed)
        assert said == (point.values["model.cell"], float(point.values["lr"]), int(point.values["seed"]))
        assert recipe.model.hidden == 2 and recipe.batch == 512


@pytest.mark.slow
def test_thousands_of_combinations_are_read_with_a_few_parses(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[list[str]] = []
    parse = train_options.parse
    monkeypatch.setattr(train_options, "parse", lambda words: parsed.append(words) or parse(words))
    rates = ",".join(f"{1e-3 * number:.4f}" for number in range(1, 41))
    points = grid.points([*TINY, "--lr", rates, "--model.cell=rnn,lstm", "--seed=0:25"])
    assert len(parsed) == 2
    assert len({point.name for point in points}) == 2000
    for point in points[::499]:
        values = [word for field, value in point.values.items() for word in (f"--{field}", value)]
        assert point.experiment == parse([*TINY, *values]).experiment


def test_the_fields_of_a_combination_are_set_together() -> None:
    words = ["waves", "--data.window", "8,16", "--patience", "3,None", "--schedule", "constant,cosine"]
    for point in grid.points(words):
        values = [word for field, value in point.values.items() for word in (f"--{field}", value)]
        assert point.experiment == train_options.parse(["waves", *values]).experiment


def test_what_is_no_field_of_a_recipe_does_not_vary(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"no field of a recipe.*"):
        values("--mesh.processes", "1,2")
    monkeypatch.setattr(grid, "MOST_PARSED", 2)
    with pytest.raises(UsageError, match=r"too many values.*at most 2"):
        values("--patience", "None,1,2,3")
    with pytest.raises(UsageError, match="only one word"):
        grid.points(["jsb", "--model.convolutions", "8,4", "16,32"])


def test_a_seed_is_checked_although_it_is_not_parsed() -> None:
    with pytest.raises(UsageError, match="seed"):
        grid.points([*TINY, "--seed", f"0,{2**32}"])


def test_a_grid_without_a_choice_is_one_run() -> None:
    assert values() == [{}]


def test_fields_of_several_words_keep_them() -> None:
    (one, two) = grid.points(["jsb", "--model.convolutions", "8", "16", "--seed", "0:2"])
    assert one.experiment.model.convolutions == two.experiment.model.convolutions == (8, 16)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seed", "3:3"], "empty or too long; got '3:3'"),
        (["--seed", "0:99999999"], "too long; got '0:99999999', needed 1 to 10000"),
        (["--model.cell", "rnn,rnn"], "twice"),
        (["--model.cell", "rnn,tree"], "tree"),
        (["--seed", "0:200", "--epochs", "1:200"], "39,800 runs"),
        (["--seed", "0,-1"], "seed"),
    ],
)
def test_a_grid_that_cannot_be_is_one_line(words: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said) as found:
        values(*words)
    assert "\n" not in str(found.value)


def test_what_is_train_s_alone_is_refused_and_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = str(tmp_path / "out")
    for words in (["--seeds", "3"], ["--resume", "x"], ["--workers", "0"], ["--workers"], ["--model.cell", "tree,rnn"]):
        assert sweep.main([*TINY, *words, "--out", out]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_help_says_how_values_are_given(capsys: pytest.CaptureFixture) -> None:
    assert sweep.main(["--help"]) == 0
    assert "--seed 0:5" in capsys.readouterr().out


@pytest.fixture
def only_the_last_in_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """All runs of a sweep but the last are trained here, without pictures; the workers find them finished."""
    compile_children_quickly(monkeypatch)
    train_all = pool.train_all

    def train_most_here(runs: Sequence[PlannedRun], *rest: Any) -> None:
        with quick_compilation():
            for run in runs[:-1]:
                assert is_finished(run) or pool.train_run(run) == ""
        train_all(runs, *rest)

    monkeypatch.setattr(pool, "train_all", train_most_here)


@pytest.mark.slow
@pytest.mark.usefixtures("only_the_last_in_a_worker")
def test_the_table_says_what_the_runs_do_and_the_same_words_train_nothing_again(tmp_path: Path) -> None:
    words, out = [*TINY, "--lr", "0.01,0.1", "--seed", "0:2"], tmp_path / "out"
    asked, said = options.parse([*words, "--out", str(out), "--workers=1"]), Console(file=io.StringIO(), width=120)
    assert sweep.sweep(asked, said) == out
    table = pd.read_csv(out / "sweep.csv")
    assert list(table["lr"]) == [0.01, 0.01, 0.1, 0.1] and list(table["seed"]) == [0, 1, 0, 1]
    for line in table.itertuples():
        folder = out / f"aapl-lr-{line.lr:g}-seed-{line.seed}"
        scores = pd.read_csv(folder / run_seal.SCORES)
        assert line.mse == pytest.approx(scores["mse"].iloc[-1], rel=1e-6)
    summary = (out / "sweep.md").read_text()
    mean, spread = table["mse"][2:].mean(), table["mse"][2:].std(ddof=1)
    assert f"{mean:.5g} ± {spread:.2g}" in next(line for line in summary.splitlines() if line.startswith("| 0.1 | 2 |"))
    times = [path.stat().st_mtime_ns for path in out.glob("*/report.md")]
    sweep.sweep(asked, said)
    assert times == [path.stat().st_mtime_ns for path in out.glob("*/report.md")] and len(times) == 4
    with pytest.raises(UsageError, match="another sweep"):
        sweep.sweep(asked._replace(words=[*words, "--epochs", "3"]), said)
