"""The report: what is planned, what a row's key tells apart, verdicts on curves whose truth is known, the whole page."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import jaxseq.report.__main__ as command
from jaxseq.common import written
from jaxseq.common.errors import UsageError
from jaxseq.report import claims, contents, evidence, plan, rates, tables, training, write
from jaxseq.report.evidence import RowRuns
from jaxseq.report.paired import DOES_NOT_HOLD, HOLDS, NOT_DECIDED
from jaxseq.report.plan import BOOK, BOOK_MSE, CELL, CHANGE, LEVEL, NORM, ONE, PUBLISHED, TEN
from jaxseq.sweep import pool
from jaxseq.sweep.planned import log_of
from jaxseq.train import run_folder

SEEDS, EPOCHS = 4, 12
PAPER = Path(command.__file__).parents[2] / "runs" / "paper"


def test_every_figure_of_the_paper_and_of_the_book_has_its_row() -> None:
    rows = {(row.group, row.label) for row in plan.rows("standard")}
    assert set(PUBLISHED) | set(BOOK_MSE) <= rows
    assert len(rows) == len(plan.rows("standard"))


def test_the_standard_budget_trains_the_share_price_as_the_paper_does() -> None:
    for row in plan.rows("standard"):
        if row.group == LEVEL:
            assert (row.recipe.model.hidden, row.recipe.epochs, row.recipe.data.target) == (50, 100, "level")
    assert {row.recipe.epochs for row in plan.rows("paper") if row.group in (CELL, NORM, BOOK)} == {600}


def test_seeds_follow_each_other_and_the_long_run_has_one() -> None:
    for row in plan.rows("quick", seeds=3):
        assert [run.seed for run in row.runs()] == ([0] if row.group == BOOK else [0, 1, 2])


@pytest.mark.parametrize(("budget", "seeds"), [("huge", None), ("quick", 0)])
def test_a_budget_or_seeds_that_cannot_be_are_refused(budget: str, seeds: int | None) -> None:
    with pytest.raises(UsageError):
        plan.rows(budget, seeds)


def test_a_row_s_key_tells_apart_recipe_and_data_but_not_seed_and_place() -> None:
    recipe = plan.rows("quick", chorales="here.tgz")[-1].recipe
    first = evidence.key(recipe, "digest")
    there = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, path="there.tgz"), seed=7)
    assert evidence.key(there, "digest") == first
    assert evidence.key(dataclasses.replace(recipe, lr=1e-4), "digest") != first
    assert evidence.key(recipe, "another") != first


def falling(rate: float, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """Curves that fall to 0.2 at a rate, a little other for each seed."""
    rng = np.random.default_rng(seed)
    rates = rate * (1 + 0.02 * np.arange(SEEDS))[:, None]
    return 0.2 + np.exp(-rates * np.arange(1, EPOCHS + 1)) + noise * rng.random((SEEDS, EPOCHS))


def found(group: str, label: str, curve: np.ndarray, test: float) -> RowRuns:
    """A row as if it had been trained."""
    row = next(row for row in plan.rows("standard") if (row.group, row.label) == (group, label))
    spread = 0.001 * np.arange(len(curve))
    runs = {name: test + spread for name in ("nats", "accuracy", "changed_accuracy", "mse", "rmse", "relative_mse")}
    runs |= {
        name: test + spread for name in ("train_accuracy", "valid_nats", "valid_mse", "valid_mse_last_epoch", "seconds")
    }
    runs |= {
        "seed": np.arange(len(curve)),
        "epoch": np.full(len(curve), 5),
        "train_loss": curve[:, -1],
        "naive_loss": 0.3,
        "valid_mse_fed_back": test + spread,
        "epochs": len(curve[0]),
    }
    frame = pd.DataFrame({**runs, "parameters": 123})
    lines = dict.fromkeys(("naive (last value)", "least squares on the lags", "copy the last note", "5-gram"))
    scores = dict.fromkeys(("mse", "nats", "accuracy", "changed_accuracy"), 0.5)
    frame.attrs = {"baselines": dict.fromkeys(lines, scores), "commits": ["abc"], "versions": ["jax 0, 1 cpu"]}
    epochs = {"train_loss": curve, "valid_mse": curve, "valid_nats": curve, "valid_accuracy": np.clip(1 - curve, 0, 1)}
    return RowRuns(row, "cafe0000", epochs, frame)


FAST, SLOW = falling(1.0), falling(0.2)


def judged_rows(**changes: tuple[np.ndarray, float]) -> dict[tuple[str, str], RowRuns]:
    """Rows in which everything that the paper says is so, but for the changes, by label."""
    rough = falling(0.3, 0.1)
    there = {"RNN": (SLOW, 0.5), "LSTM": (FAST, 0.3), "GRU": (FAST + 1e-4, 0.301)}
    there |= {"no normalisation": (rough, 0.4), "batch norm": (FAST, 0.3), "layer norm": (FAST + 0.02, 0.31)} | changes
    groups = {
        LEVEL: ("RNN", "LSTM", "GRU"),
        CELL: ("RNN", "LSTM", "GRU"),
        NORM: ("no normalisation", "batch norm", "layer norm"),
    }
    return {(group, label): found(group, label, *there[label]) for group, labels in groups.items() for label in labels}


TIMES = {"GRU": np.array([1.0, 1.1, 1.0]), "LSTM": np.array([1.5, 1.5, 1.6])}


def verdicts(times: dict[str, np.ndarray] = TIMES, **changes: tuple[np.ndarray, float]) -> list[str]:
    return [claim.verdict for claim in claims.judge(judged_rows(**changes), times)]


def test_claims_that_are_so_hold() -> None:
    assert verdicts() == [HOLDS] * 5


@pytest.mark.parametrize(
    ("number", "changes"),
    [
        (1, {"RNN": (FAST, 0.5)}),
        (2, {"batch norm": (SLOW, 0.3), "no normalisation": (FAST, 0.4)}),
        (3, {"layer norm": (FAST - 0.05, 0.2)}),
        (4, {"GRU": (FAST, 0.9)}),
        (5, {"GRU": (FAST + 1e-4, 0.6)}),
    ],
)
def test_a_claim_that_is_not_so_does_not_hold(number: int, changes: dict) -> None:
    assert verdicts(**changes)[number - 1] == DOES_NOT_HOLD


def test_a_gru_that_takes_longer_refutes_the_fifth_claim_alone() -> None:
    found = verdicts({"GRU": TIMES["LSTM"], "LSTM": TIMES["GRU"]})
    assert found == [HOLDS] * 4 + [DOES_NOT_HOLD]


def test_one_seed_decides_nothing() -> None:
    one = {
        label: (curve[:1], test)
        for (_, label), (curve, test) in {k: (f.epochs["train_loss"], 0.3) for k, f in judged_rows().items()}.items()
    }
    judged = claims.judge(judged_rows(**one), {name: each[:1] for name, each in TIMES.items()})
    assert {claim.verdict for claim in judged} == {NOT_DECIDED}
    assert "One seed" in judged[0].sentence


def test_a_report_that_is_not_finished_judges_the_claims_whose_tables_are_there(tmp_path: Path) -> None:
    prices = [each for each in judged_rows().values() if each.row.group == LEVEL]
    own = [each._replace(row=each.row._replace(rates="own")) for each in prices]
    choices = {(LEVEL, "RNN"): rates.Choice((3e-4, 1e-3, 3e-3), (0.3, 0.1, 0.2))}
    outputs = written.Outputs(tmp_path, print)
    made = contents.page("paper", outputs, contents.Evidence([*prices, *own], choices, {}, {}, None))
    assert [section.title for section in made.sections] == [
        "Which claims hold", "The share price", "Learning rates", "Hyperparameters",
    ]  # fmt: skip
    text = write.write(made, outputs)[0].read_text()
    assert text.count("1\\. The plain RNN converges slowly") == 2 and "2\\. Batch" not in text
    assert "| RNN, " in text and "0.1 (0.001)" in text and "rate 0.001, level" in text


def test_rows_of_a_table_are_reported_with_the_seeds_that_all_of_them_have(monkeypatch: pytest.MonkeyPatch) -> None:
    group = [row for row in plan.rows("paper") if row.group in (LEVEL, CHANGE)]
    plans = [
        training.RowPlan(row, "", evidence.plan_runs(row, f"{row.group}-{row.label}", Path("runs"))) for row in group
    ]
    missing = {"aapl-aapl-level-GRU-seed-3", *(f"aapl-aapl-change-RNN-seed-{seed}" for seed in range(5))}
    monkeypatch.setattr(training, "is_finished", lambda run: run.folder.name not in missing)
    complete = training.finished(plans)
    assert [(each.row.group, each.row.label, each.row.seeds, len(each.runs)) for each in complete] == [
        (LEVEL, cell, 3, 3) for cell in ("RNN", "LSTM", "GRU")
    ]
    # What is interrupted has the first seeds of all rows.
    assert [run.experiment.seed for run in training._by_seed([each.runs for each in plans])] == [
        seed for seed in range(5) for _ in group
    ]


def test_a_table_with_own_rates_waits_for_all_of_its_searches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    group = [row for row in plan.rows("paper") if row.group in (LEVEL, CELL)]
    shared = [training._plan_row(row, "", row.group in rates.GROUPS, tmp_path) for row in group]
    missing = {next(each for each in shared if each.row.group == LEVEL and each.row.label == "GRU").searched[0].folder}
    monkeypatch.setattr(training, "is_finished", lambda run: run.folder not in missing)
    monkeypatch.setattr(rates, "choice", lambda runs: rates.Choice((1e-3, 3e-3, 9e-3), (0.3, 0.1, 0.2)))

    complete = training.finished([*shared, *training.with_own_rates(shared, tmp_path)])

    tables_and_rates = [(each.row.group, each.row.rates) for each in complete]
    assert tables_and_rates == [(LEVEL, "shared")] * 3 + [(CELL, "shared")] * 3 + [(CELL, "own")] * 3


def test_a_rate_that_diverges_is_the_worst_and_fails_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    row = next(row for row in plan.rows("paper") if (row.group, row.label) == (LEVEL, "GRU"))
    row_plan = training._plan_row(row, "", True, tmp_path)
    *finished, diverging = row_plan.searched
    for module in (training, rates):
        monkeypatch.setattr(module, "is_finished", lambda run: run in finished)
    monkeypatch.setattr(rates.run_seal, "check_judged_log", lambda folder: None)
    monkeypatch.setattr(rates, "read_metrics", lambda run: [{"epoch": 1, "valid_mse": run.experiment.lr}])

    def fail(message: str) -> None:
        log_of(diverging.folder).write_text(f"epoch 1\n{message}\n")
        raise UsageError("1 of 3 runs failed")

    # A run that failed otherwise ends the report.
    with pytest.raises(UsageError, match="1 of 3"):
        training._train_searches(row_plan.searched, lambda runs: fail("no space left"))
    assert row_plan.choice is None

    training._train_searches(row_plan.searched, lambda runs: fail(f"{run_folder.NOT_FINITE} in epoch 2"))
    assert row_plan.choice == rates.Choice(
        rates.grid(row.recipe.lr), (*(run.experiment.lr for run in finished), np.inf)
    )
    training._train_searches(row_plan.searched, lambda runs: None if diverging not in runs else fail(""))


def test_the_rate_with_the_best_validation_is_a_row_s_own() -> None:
    row = next(row for row in plan.rows("paper") if (row.group, row.label) == (CELL, "RNN"))
    searches = rates.searches(row.recipe)
    assert [search.lr for search in searches] == [7e-4, 2e-3, 6e-3]
    assert {(search.seed, search.patience, search.min_gain) for search in searches} == {(1000, 10, None)}
    own = rates.own(row, rates.Choice((7e-4, 2e-3, 6e-3), (0.3, 0.2, 0.1)).best)
    assert (own.recipe.lr, own.rates, own.recipe.min_gain) == (6e-3, "own", 0.005)


def test_curves_too_short_to_be_measured_decide_nothing() -> None:
    short = {label: (f.epochs["train_loss"][:, :2], 0.3) for (_, label), f in judged_rows().items()}
    second = claims.judge(judged_rows(**short), TIMES)[1]
    assert second.verdict != HOLDS
    assert np.isnan(second.parts[-1].comparison.mean)
    assert tables.comparisons({"shared": [second]}).table.rows[-1][-2:] == [tables.NOTHING, tables.NOTHING]


@pytest.mark.parametrize(
    ("ends", "expected"),
    [([600] * 4, HOLDS), ([100, 120, 300, 599], DOES_NOT_HOLD), ([600, 600, 300, 600], NOT_DECIDED)],
)
def test_where_a_plateau_ends_training_the_first_claim_asks_whether_it_was_reached(
    ends: list[int], expected: str
) -> None:
    curves = np.full((SEEDS, 600), 0.5)
    for curve, end in zip(curves, ends, strict=True):
        curve[end:] = np.nan
    row = next(row for row in plan.rows("paper") if (row.group, row.label) == (LEVEL, "RNN"))
    rnn = found(LEVEL, "RNN", curves, 0.5)._replace(row=row)

    first = claims.judge(
        {key: each for key, each in judged_rows().items() if key[0] == LEVEL} | {(LEVEL, "RNN"): rnn}, {}
    )[0]

    assert first.parts[-1].verdict == expected
    assert "no plateau within 600 epochs" in first.parts[-1].subject
    assert "makes every curve flat" in (tables.comparisons({"shared": [first]}).table.note or "")
    assert "makes every curve flat" not in (
        tables.comparisons({"shared": claims.judge(judged_rows(), TIMES)}).table.note or ""
    )


def test_who_never_got_there_is_not_sooner() -> None:
    flat = np.full((SEEDS, EPOCHS), 0.9)
    assert verdicts(LSTM=(flat, 0.3))[0] != HOLDS


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """What a composing leaves behind, as far as the report reads it."""
    folder = tmp_path / "samples"
    folder.mkdir()
    from jaxseq.common.figures import save
    from jaxseq.music import plots, sound
    from jaxseq.music.piece import Piece

    notes = np.full((16, 4), 60)
    piece = Piece("sample-1", notes, notes > 0, np.arange(16), np.zeros(16, bool))
    (folder / "sample-1.wav").write_bytes(sound.wav(sound.sound(piece, 120.0)))
    (folder / "sample-1.mid").write_bytes(b"MThd")
    save(plots.piano_roll(piece, "one"), folder / "sample-1.png")
    (folder / "coherence.csv").write_text("measure,samples,Bach\nheld,0.5,0.77\nparallel,,0.2\n")
    one = {"name": "sample-1", "key": "C major", "log_likelihood_per_note": -0.5}
    said = {"memorised": {"samples": {"share": 0.0, "longest_steps": 9}}, "samples": [one]}
    (folder / "samples.json").write_text(json.dumps(said))
    return folder


@pytest.mark.parametrize("budget", [pytest.param("quick", marks=pytest.mark.slow), "standard"])
def test_the_whole_page_is_written_with_its_numbers(tmp_path: Path, samples: Path, budget: str) -> None:
    there = list(judged_rows().values())
    there += [found(CHANGE, cell, FAST, 1.0) for cell in ("RNN", "LSTM", "GRU")]
    there += [found(group, label, FAST, 0.01) for group, label in BOOK_MSE]
    there += [found(BOOK, "convolutions and LSTM", FAST[:1], 0.6)]
    norms = {name: {when: {"RNN": FAST, "GRU": SLOW} for when in ("before", "after")} for name in ("level", "change")}
    times = {label: [1.0, 1.1] for _, label in PUBLISHED}
    out = tmp_path / "out"
    out.mkdir()
    outputs = written.Outputs(out, print)
    shown = contents.Evidence(there, {}, norms, times, samples)
    made = contents.page(budget, outputs, shown)
    markdown, html = (path.read_text() for path in write.write(made, outputs))
    for group in (LEVEL, CELL, NORM, ONE, TEN):
        for one in there:
            if one.row.group == group:
                assert one.row.label in markdown and one.row.label in html
    assert (out / "table-hyperparameters.csv").read_text().count("cafe0000") == len(there)
    assert ("smoke run" in markdown) == (budget == "quick")
    assert (DOES_NOT_HOLD in markdown or HOLDS in markdown) == (budget != "quick")
    curves = pd.read_csv(out / "figure-norms.csv")
    assert len(curves) == 3 * SEEDS * EPOCHS
    np.testing.assert_allclose(
        curves["train_loss"][:EPOCHS], judged_rows()[NORM, "no normalisation"].epochs["train_loss"][0], rtol=1e-6
    )
    assert len(pd.read_csv(out / "comparisons.csv")) == sum(
        map(len, (claim.parts for claim in claims.judge(judged_rows(), TIMES)))
    )
    assert html.count("<audio") == 1 and "data:audio/wav" in html

    # All of them are the report's own, and what a user has edited is kept.
    written.check(out / written.RECORD, [path.name for path in out.iterdir() if path.name != written.RECORD])
    if budget == "standard":
        return
    (out / "figure-norms.csv").write_text("mine")
    said: list[str] = []
    contents.page(budget, written.Outputs(out, said.append), shown)
    assert (out / "figure-norms.edited-1.csv").read_text() == "mine" and len(said) == 1


@pytest.mark.skipif(not PAPER.is_dir(), reason="needs a checkout")
def test_the_report_in_this_checkout_is_known_as_one() -> None:
    kinds = (".md", ".csv", ".png", ".mid", ".musicxml")
    names = [path.name for path in PAPER.iterdir() if path.suffix in kinds]
    written.check(PAPER / written.RECORD, names)


def test_what_cannot_be_is_one_line_and_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    for words in (["--budget", "huge"], ["--workers", "0"], ["--seeds", "0"], ["--out", str(tmp_path / "file")]):
        place = [] if "--out" in words else ["--out", str(tmp_path / "out")]
        assert command.main([*words, *place]) == 2
        said = capsys.readouterr().err
        assert said.startswith("jaxseq.report: ") and said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_archive_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = [
        "--budget",
        "quick",
        "--workers",
        "1",
        "--out",
        str(tmp_path / "out"),
        "--chorales",
        str(tmp_path / "none.tgz"),
    ]
    assert command.main(words) == 2
    assert "none.tgz" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_without_a_network_what_works_is_offered_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAXSEQ_CACHE", str(tmp_path / "cache"))
    # Nothing listens on the discard port.
    monkeypatch.setenv("JAXSEQ_MIRROR", "http://127.0.0.1:9")
    assert command.main(["--budget", "quick", "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "jsb_chorales.tgz" in said and "--chorales PATH" in said and "--chorales music21" in said
    assert "--data.path" not in said and said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_another_edition_is_asked_for_by_its_name_and_named_on_the_page() -> None:
    rows = plan.rows("quick", chorales=plan.MUSIC21)
    assert {row.recipe.data.name for row in rows if row.group in (CELL, NORM, BOOK)} == {"chorales"}
    for chorales, word in ((plan.MUSIC21, "music21's edition"), (None, "the benchmark edition")):
        row = next(row for row in plan.rows("quick", chorales=chorales) if row.group == CELL)
        ours = found(CELL, "RNN", FAST, 0.3)._replace(row=row)
        note = tables.bach(CELL, [ours], {}, "caption").table.note
        assert word in note and word in contents._provenance("quick", [ours])[-1]


def test_a_note_on_bach_explains_the_columns_that_are_there_alone() -> None:
    alone = tables.bach(BOOK, [found(BOOK, "convolutions and LSTM", FAST[:1], 0.6)], {}, "caption").table
    assert not {"CPU s an epoch", "paper: loss"} & set(alone.header)
    assert not any(words in (alone.note or "") for words in ("CPU", "±", "Epochs to", "Saberi"))
    beside = [each for each in judged_rows().values() if each.row.group == CELL]
    whole = tables.bach(CELL, beside, {"GRU": [1.0], "LSTM": [1.0]}, "caption").table
    assert "CPU s an epoch" in whole.header
    assert all(words in (whole.note or "") for words in ("CPU", "±", "Epochs to", "Saberi"))


def test_the_hyperparameters_tell_kinds_apart_and_a_wavenet_has_no_cell() -> None:
    rows = [
        found(TEN, label, FAST, 0.01)
        for group, label in BOOK_MSE
        if group == TEN and label.startswith(("GRU", "WaveNet"))
    ]
    numbers = tables.hyperparameters(rows).numbers
    assert dict(zip(numbers["kind"], numbers["cell"], strict=True)) == {
        "stacked": "gru", "convolved": "gru", "wavenet": tables.NOTHING,
    }  # fmt: skip
    assert "kind" in tables.hyperparameters(rows).table.header


@pytest.mark.parametrize("keep", [True, False])
def test_times_beside_training_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: bool) -> None:
    row = next(row for row in plan.rows("paper") if (row.group, row.label) == (CELL, "GRU"))
    (tmp_path / command.RUNS).mkdir()
    monkeypatch.setattr(pool, "map_in_workers", lambda work, items, workers: [{"GRU": [1.0]}])
    shared = [training._plan_row(row, "", False, tmp_path)]
    assert command._times(tmp_path, shared, 1, keep=keep) == {"GRU": [1.0]}
    assert (tmp_path / command.RUNS / evidence.TIMES).is_file() == keep


def test_a_zero_has_no_sign() -> None:
    assert [tables._signed(value, 3) for value in (-0.0001, 0.0, 0.0004, -0.0006)] == ["0.000"] * 3 + ["-0.001"]


@pytest.mark.slow
def test_a_smoke_run_goes_through_and_a_second_one_trains_nothing(tmp_path: Path) -> None:
    archive = Path(__file__).parents[3] / "shared" / "data" / "jsb_chorales.tgz"
    if not archive.is_file():
        pytest.skip("the benchmark's archive is not there")
    words = ["--budget", "quick", "--seeds", "1", "--out", str(tmp_path / "out"), "--chorales", str(archive)]
    assert command.main(words) == 0
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "runs").glob("*/metrics.jsonl")}
    shutil.rmtree(next((tmp_path / "out" / "runs").glob("samples-*")))
    assert command.main(words) == 0
    assert times == {path: path.stat().st_mtime_ns for path in times}
    assert (tmp_path / "out" / "report.html").stat().st_size > 100_000
