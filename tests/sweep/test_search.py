"""A search: the space that words stand for, and what is drawn, pruned, resumed and chosen, where Optuna is installed."""

import importlib.util
import io
import json
import math
import os
import re
import shutil
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd
import pytest
import quickened
import sealing
from quick_compilation import quick_compilation
from rich.console import Console

from jaxseq.checkpoint import run_seal
from jaxseq.common import lock, sealed, sealed_lines
from jaxseq.common.errors import Stopped, UsageError
from jaxseq.sweep import __main__ as sweep
from jaxseq.sweep import options, pool, space
from jaxseq.sweep.planned import PRUNED, PlannedRun, PrunedError
from jaxseq.train.callbacks import StartedRun

WAVES = ["waves", "--data.count", "60", "--data.window", "8", "--epochs", "4", "--batch", "16"]
FIELDS = ["--lr", "log:1e-4..1e-1", "--model.hidden=2..16", "--model.cell", "rnn,gru"]
needs_optuna = pytest.mark.skipif(importlib.util.find_spec("optuna") is None, reason="needs optuna")


def test_words_stand_for_a_space() -> None:
    parsed = space.parse([*WAVES, *FIELDS])
    assert parsed.fields == {
        "lr": space.Range(1e-4, 1e-1, is_integer=False, is_log=True),
        "model.hidden": space.Range(2, 16, is_integer=True, is_log=False),
        "model.cell": space.Choice({"rnn": "rnn", "gru": "gru"}),
    }
    assert parsed.metric == "valid_mse"
    experiment = parsed.experiment({"lr": 0.01, "model.hidden": 5, "model.cell": "gru"})
    words = [*WAVES, "--lr", "0.01", "--model.hidden", "5", "--model.cell", "gru"]
    assert experiment == options_of(words)


def options_of(words: list[str]) -> Any:
    from jaxseq.train import options as train_options

    return train_options.parse(words).experiment


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        ([], "no field varies"),
        (["--seed", "0,1", "--lr", "1e-3,1e-2"], "luckiest seed"),
        (["--seed", "0..9"], "luckiest seed"),
        (["--lr", "1e-2..1e-3"], "no range"),
        (["--model.layers", "2", "--model.dropout", "log:0..0.5"], "no range"),
        (["--model.hidden", "2..2"], "no range"),
        (["--model.hidden", "1.5..4"], "hidden"),
        (["--model.cell", "1..2"], "cell"),
        (["--loss", "mse,mae"], "different metrics"),
        (["--lr", "1e-3..1e-2", "--lr", "log:1e-3..1e-2"], "twice"),
        (["--unknown", "1..2"], "unknown"),
    ],
)
def test_a_space_that_cannot_be_is_one_line(words: list[str], rule: str) -> None:
    with pytest.raises(UsageError, match=rule) as raised:
        space.parse([*WAVES, *words])
    assert "\n" not in str(raised.value)


def test_a_search_that_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    for words in (["--optuna", "0"], ["--optuna", "x"], ["--optuna", "3", "--on", "moon"]):
        assert sweep.main([*WAVES, *FIELDS, *words]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    monkeypatch.setattr(options.importlib.util, "find_spec", lambda name: None)
    assert sweep.main([*WAVES, *FIELDS, "--optuna", "3"]) == 2
    assert 'pip install "jaxseq[optuna]"' in capsys.readouterr().err


# With Optuna, on a function in the place of a training ------------------------------------------------------------------

optuna_warnings = pytest.mark.filterwarnings("ignore")


def loss(rate: float, hidden: int, cell: str) -> float:
    """A function whose smallest value, zero, is at a learning rate of 0.01, 9 units and a GRU."""
    return math.log10(rate / 0.01) ** 2 + ((hidden - 9) / 8) ** 2 + (cell == "rnn")


class Trainer:
    """A place that trains by a formula; the value of an epoch lies above the loss by one over its number."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.values: dict[Path, float] = {}
        self.finished: set[Path] = set()
        self.points: list[tuple[float, int, str]] = []
        self.stop_after = stop_after
        self.running: list[PlannedRun] = []
        self.most_running = 0
        self.started: list[str] = []
        self.told: list[str] = []

    def start(self, runs: Sequence[PlannedRun], note: object) -> None:
        for run in runs:
            self.points.append((run.experiment.lr, run.experiment.model.hidden, run.experiment.model.cell))
        self.started += [run.name for run in runs]
        self.running += runs
        self.most_running = max(self.most_running, len(self.running))

    def ended(self) -> dict[PlannedRun, str]:
        if self.is_stopping():
            return {}
        # The last one first.
        run = self.running.pop()
        self.told.append(run.name)
        return {run: self.train(run)}

    def is_stopping(self) -> bool:
        return self.stop_after is not None and len(self.points) > self.stop_after

    def leave(self, note: object) -> NoReturn:
        raise Stopped(130, "the same")

    def train(self, run: PlannedRun) -> str:
        recipe = run.experiment
        value = loss(recipe.lr, recipe.model.hidden, recipe.model.cell)
        rows = [{"epoch": epoch, "valid_mse": value + 1 / epoch} for epoch in range(1, 5)]
        (pruning,) = run.callbacks()
        self.values[run.folder] = math.nan
        try:
            pruning.on_start(StartedRun(run.folder, recipe, {}, "valid_mse", (), print))
            for row in rows:
                self.values[run.folder] = row["valid_mse"]
                pruning.on_epoch(row)
        except PrunedError:
            return PRUNED
        self.finished.add(run.folder)
        return ""

    def take(self, other: "Trainer") -> None:
        """Take the folders that another one has filled."""
        self.values |= other.values
        self.finished |= other.finished


@pytest.fixture
def searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Search in a folder by a trainer."""
    pytest.importorskip("optuna")
    from jaxseq.sweep import search

    def run(folder: str, trainer: Trainer, trials: int = 30, *words: str, at_once: int = 1) -> Any:
        parsed = space.parse([*WAVES, *FIELDS, *words])
        (tmp_path / folder).mkdir(exist_ok=True)
        monkeypatch.setattr(search, "best_value", lambda planned, metric: trainer.values.get(planned.folder, math.nan))
        monkeypatch.setattr(search, "is_finished", lambda planned: planned.folder in trainer.finished)
        monkeypatch.setattr(search, "has_reports", lambda *_: True)
        console = Console(file=io.StringIO())
        return search.search(parsed, trials, tmp_path / folder, place=trainer, at_once=at_once, console=console)

    return run


@optuna_warnings
def test_a_search_finds_the_best_points_and_prunes_the_others(searched: Callable[..., Any]) -> None:
    trainer = Trainer()
    found = searched("a", trainer, 40)
    complete = [result for result in found.results if result.state == "complete"]
    pruned = [result for result in found.results if result.state == "pruned"]
    assert len(complete) + len(pruned) == 40 and len(pruned) >= 10
    best = min(complete, key=lambda result: result.value)
    assert best.value < 0.25 + 0.1 and best.values["model.cell"] == "gru"
    # The last points are better than the random ones at the start.
    losses = [loss(*point) for point in trainer.points]
    assert statistics.median(losses[-20:]) < 0.6 * statistics.median(losses[:10])
    assert sum(found.importances.values()) == pytest.approx(1)


@optuna_warnings
def test_a_search_depends_on_its_seed_alone_and_resumes_where_it_was_stopped(
    tmp_path: Path, searched: Callable[..., Any]
) -> None:
    whole = Trainer()
    results = [result[:3] for result in searched("whole", whole).results]
    stopped = Trainer(stop_after=14)
    with pytest.raises(Stopped):
        searched("stopped", stopped)
    # Killed while the last trial was drawn, in the middle of its second value.
    journal = tmp_path / "stopped" / "optuna.log"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-2]) + lines[-2][:20])
    rest = Trainer()
    rest.take(stopped)
    assert [result[:3] for result in searched("stopped", rest).results] == results
    # The trial that was stopped goes on first.
    assert rest.points[0] == stopped.points[-1] and stopped.points + rest.points[1:] == whole.points
    assert len(set(whole.points)) == 30
    # More trials of the same search.
    more = Trainer()
    more.take(rest)
    assert len(searched("stopped", more, 33).results) == 33 and len(more.points) == 3

    other = Trainer()
    searched("other", other, 3, "--seed", "1")
    assert other.points != whole.points[:3]


@optuna_warnings
def test_a_search_that_draws_in_batches_counts_no_trial_twice(searched: Callable[..., Any]) -> None:
    stopped = Trainer(stop_after=9)
    with pytest.raises(Stopped):
        searched("stopped", stopped, 12, at_once=4)
    under_way = sorted(run.name for run in stopped.running)
    assert len(under_way) == stopped.most_running == 4
    rest = Trainer()
    rest.take(stopped)
    results = searched("stopped", rest, 12, at_once=3).results
    assert rest.started[:4] == under_way
    assert sorted(stopped.told + rest.told) == [result.run.name for result in results] and rest.most_running == 3
    assert len({tuple(result.values.values()) for result in results}) == 12


@optuna_warnings
def test_a_run_that_was_killed_before_it_was_pruned_is_pruned_when_it_resumes(
    tmp_path: Path, searched: Callable[..., Any]
) -> None:
    from jaxseq.sweep import pruning, search, search_journal

    trainer = Trainer()
    searched("a", trainer, 12)
    journal = search_journal.open_journal(tmp_path / "a" / search.JOURNAL, 4)
    trial = journal.study.ask()
    rows = [{"epoch": epoch, "valid_mse": 100.0} for epoch in (1, 2)]
    for row in rows:
        trial.report(row["valid_mse"], row["epoch"])
    (callback,) = pruning.callbacks(tmp_path / "a" / search.JOURNAL, trial.number, "valid_mse", None)
    recipe = options_of(WAVES)
    with pytest.raises(PrunedError, match="after epoch 2"):
        callback.on_start(StartedRun(tmp_path, recipe, {}, "valid_mse", tuple(rows), print))


@needs_optuna
@optuna_warnings
def test_a_point_that_is_no_recipe_fails_also_after_a_kill(tmp_path: Path) -> None:
    from jaxseq.sweep import search

    parsed = space.parse([*WAVES, "--model.layers", "2,1", "--model.dropout", "0.0,0.3"])
    screen = io.StringIO()

    def begun() -> search._Search:
        console = Console(file=screen, width=200)
        return search._Search(parsed, tmp_path, trials=20, is_parallel=False, log=None, console=console)

    # Killed before it was told: dropout acts between two layers.
    killed = begun()
    trials = [killed._draw() for _ in range(10)]
    trial = next(trial for trial in trials if trial.params == {"model.layers": "1", "model.dropout": "0.3"})
    with pytest.raises(UsageError, match="acts between two layers"):
        killed._run(trial.number, trial.params)
    resumed = begun()
    while resumed.next_run() is not None:
        pass
    assert f"trial {trial.number}: failed" in screen.getvalue()


@optuna_warnings
def test_a_pruned_run_may_be_removed_and_an_epoch_trained_again_by_another_processor(
    tmp_path: Path, searched: Callable[..., Any]
) -> None:
    trainer = Trainer()
    results = searched("a", trainer, 12).results
    pruned = [result.run.folder for result in results if result.state == "pruned"]
    assert pruned
    again = Trainer()
    again.take(trainer)
    again.values = {folder: value * (1 + 1e-6) for folder, value in trainer.values.items() if folder not in pruned}
    states = [result.state for result in searched("a", again, 12).results]
    assert states == [result.state for result in results] and not again.points

    apart = Trainer()
    apart.take(trainer)
    apart.values = {folder: value * 1.01 for folder, value in trainer.values.items()}
    with pytest.raises(UsageError, match=r"optuna\.log, trial \d+: it has other values"):
        searched("a", apart, 12)


@optuna_warnings
def test_a_damaged_journal_is_one_line(tmp_path: Path, searched: Callable[..., Any]) -> None:
    first = Trainer()
    searched("a", first, 2)
    journal = tmp_path / "a" / "optuna.log"
    # A kill may cut off the last line.
    with journal.open("a") as file:
        file.write('{"op_code":')
    more = Trainer()
    more.take(first)
    assert len(searched("a", more, 3).results) == 3 and len(more.points) == 1
    journal.write_text("{}\nmine\n{}\n")
    with pytest.raises(UsageError, match=r"optuna\.log"):
        searched("a", Trainer(), 2)


# Of real runs ----------------------------------------------------------------------------------------------------------

REAL = [*WAVES, "--lr=log:1e-3..1e-1", "--optuna", "2", "--workers", "1", "--out"]


@pytest.fixture(scope="module")
def real_search(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search of two trials, trained here, since a worker would first load JAX."""
    pytest.importorskip("optuna")
    folder = tmp_path_factory.mktemp("search") / "sound"
    with pytest.MonkeyPatch.context() as patch, quick_compilation():
        patch.setattr(pool, "place", quickened.place_here)
        assert sweep.main([*REAL, str(folder)]) == 0
    return folder


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "place", quickened.place_here)


@needs_optuna
@optuna_warnings
@pytest.mark.usefixtures("compiled_quickly", "here")
def test_a_search_of_real_runs_is_summarised_and_verified(
    real_search: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    from jaxseq.checkpoint import __main__ as checkpoint

    shutil.copytree(real_search, tmp_path / "out")
    words = [*REAL, str(tmp_path / "out")]
    table = pd.read_csv(tmp_path / "out" / "sweep.csv")
    assert list(table["state"]) == ["complete", "complete"] and list(table["epochs"]) == [4, 4]
    text = (tmp_path / "out" / "sweep.md").read_text()
    best = table.loc[table["valid_mse"].idxmin()]
    assert f"--lr={best['lr']:.6g}" in text and "| trial | lr | valid_mse |" in text
    # The test part of the chosen run alone.
    assert text.count("relative_mse") == 1

    # The record has the hashes of what is replaced.
    def contents() -> dict[Path, bytes]:
        paths = [path for path in (tmp_path / "out").rglob("*") if path.is_file() and path.name != "written.json"]
        return {path: path.read_bytes() for path in paths}

    before = contents()
    capsys.readouterr()
    assert sweep.main(words) == 0
    assert contents() == before
    assert checkpoint.main(["verify", str(tmp_path / "out")]) == 0
    assert sweep.main([*words, "--model.hidden", "3,4"]) == 2
    assert "another sweep" in capsys.readouterr().err
    # Two searches of one folder would train trials twice.
    with lock.hold(tmp_path / "out"):
        assert sweep.main(words) == 2
    assert "is held by process" in capsys.readouterr().err

    # What was judged is judged again, and what is gone is trained again.
    (tmp_path / "out" / "waves-trial-0000" / "scores.csv").write_text("mine")
    shutil.rmtree(tmp_path / "out" / "waves-trial-0001")
    assert checkpoint.main(["verify", str(tmp_path / "out")]) == 1
    assert sweep.main(words) == 0
    for name in ("sweep.csv", "waves-trial-0000/scores.csv", "waves-trial-0001/scores.csv"):
        assert (tmp_path / "out" / name).read_bytes() == before[tmp_path / "out" / name]
    assert checkpoint.main(["verify", str(tmp_path / "out")]) == 0


def exchanged(folder: Path) -> None:
    (folder / "waves-trial-0000").rename(folder / "other")
    (folder / "waves-trial-0001").rename(folder / "waves-trial-0000")
    (folder / "other").rename(folder / "waves-trial-0001")


def edited(pattern: str, replacement: str) -> Callable[[Path], None]:
    """Edit a journal without the seals of its lines, as earlier versions wrote it."""

    def edit(folder: Path) -> None:
        text = without_seals((folder / "optuna.log").read_text())
        changed = re.sub(pattern, replacement, text, count=1)
        assert changed != text
        (folder / "optuna.log").write_text(changed)

    return edit


def without_seals(text: str) -> str:
    return re.sub(r',"sha256":"\w{64}"', "", text)


DAMAGES = {
    "runs exchanged": exchanged,
    "a point": edited(r'("param_value_internal":)[\d.e-]+', r"\g<1>0.0123"),
    "a value": edited(r'("values":\[)[\d.e-]+', r"\g<1>0.0123"),
    "a report": edited(r'("intermediate_value":)[\d.e-]+', r"\g<1>0.0123"),
    "the epoch of a report": edited(r'"step":1', '"step":3'),
    "a complete trial that failed": edited(r'"state":1', '"state":3'),
    "a complete trial that was pruned": edited(r'"state":1', '"state":2'),
    "a trial that waits": edited(r'"state":1', '"state":4'),
    "a space": edited(r'(\\"high\\": )0.1', r"\g<1>0.2"),
    "a point without a value": edited(r'\{"op_code":5.*\n', ""),
    "a line that is none": edited(r"\}\n$", "]\n"),
    "a pipe": lambda folder: ((folder / "optuna.log").unlink(), os.mkfifo(folder / "optuna.log")),
}


@needs_optuna
@optuna_warnings
@pytest.mark.usefixtures("here")
def test_a_journal_that_differs_from_its_runs_is_refused(
    real_search: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    from jaxseq.checkpoint import __main__ as checkpoint

    table = (real_search / "sweep.csv").read_bytes()
    for name, harm in DAMAGES.items():
        folder = tmp_path / name
        shutil.copytree(real_search, folder)
        harm(folder)
        # Before its end, nothing else seals a journal.
        record = sealed.read(folder / "sweep.json")
        sealed.write(folder / "sweep.json", {"words": record["words"]})
        refused(folder, capsys)
        assert (folder / "sweep.csv").read_bytes() == table

    shutil.copytree(real_search, tmp_path / "ended")
    journal = tmp_path / "ended" / "optuna.log"
    journal.write_text(without_seals(journal.read_text()))
    assert checkpoint.main(["verify", str(tmp_path / "ended")]) == 1
    assert "optuna.log: damaged" in capsys.readouterr().out
    refused(tmp_path / "ended", capsys)


def refused(folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert sweep.main([*REAL, str(folder)]) == 2, folder
    error = capsys.readouterr().err
    assert "optuna.log" in error and error.count("\n") == 1, error


def lines_edited(edit: Callable[[list[bytes]], object]) -> Callable[[bytes], bytes]:
    def harm(content: bytes) -> bytes:
        lines = content.splitlines(keepends=True)
        edit(lines)
        return b"".join(lines)

    return harm


NEW_TRIAL = 1
"""Place of the line that begins the first trial, behind that of the study."""
EDITS = {
    "a new trial twice": lines_edited(lambda lines: lines.insert(NEW_TRIAL + 1, lines[NEW_TRIAL])),
    "a new trial at the end": lines_edited(lambda lines: lines.append(lines[NEW_TRIAL])),
    "a new trial without a seal": lines_edited(
        lambda lines: lines.append(without_seals(lines[NEW_TRIAL].decode()).encode())
    ),
    "the last line twice": lines_edited(lambda lines: lines.append(lines[-1])),
    "a line removed": lines_edited(lambda lines: lines.pop(NEW_TRIAL + 1)),
    "the first line removed": lines_edited(lambda lines: lines.pop(0)),
    "two lines exchanged": lines_edited(lambda lines: lines.insert(3, lines.pop(4))),
    "another search's": lambda content: sealed_lines.lines(
        map(json.loads, without_seals(content.decode()).splitlines()), run_seal.journal_start(["aapl"])
    ),
    "a value": lambda content: re.sub(rb'("values":\[)[\d.e-]+', rb"\g<1>0.0123", content, count=1),
    "a report": lambda content: re.sub(rb'("intermediate_value":)[\d.e-]+', rb"\g<1>0.0123", content, count=1),
}


def interrupted(search: Path, folder: Path) -> Path:
    """Copy a search as it was before its end, and return its journal."""
    shutil.copytree(search, folder)
    return sealing.before_its_end(folder)


def refused_by_its_line(folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert sweep.main([*REAL, str(folder)]) == 2, folder
    assert re.fullmatch(r".*optuna\.log, line \d+: damaged.*\n", capsys.readouterr().err), folder


@needs_optuna
@optuna_warnings
@pytest.mark.usefixtures("here")
def test_an_edit_of_the_journal_of_an_interrupted_search_is_refused(
    real_search: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    from jaxseq.checkpoint import __main__ as checkpoint

    for name, edit in EDITS.items():
        journal = interrupted(real_search, tmp_path / name)
        content = journal.read_bytes()
        journal.write_bytes(edit(content))
        assert journal.read_bytes() != content
        refused_by_its_line(tmp_path / name, capsys)
        # Of an earlier version, whose record does not name the journal.
        record = sealed.read(tmp_path / name / "sweep.json")
        sealed.write(tmp_path / name / "sweep.json", {"words": record["words"]})
        refused_by_its_line(tmp_path / name, capsys)
        assert not (tmp_path / name / "sweep.csv").exists()

    (tmp_path / name / "sweep.json").unlink()
    assert sweep.main([*REAL, str(tmp_path / name)]) == 2
    assert "sweep.json: it is missing beside optuna.log" in capsys.readouterr().err
    assert checkpoint.main(["verify", str(tmp_path / name)]) == 1
    assert "sweep.json: it is missing beside optuna.log" in capsys.readouterr().out


@needs_optuna
@optuna_warnings
@pytest.mark.usefixtures("compiled_quickly", "here")
def test_a_search_whose_journal_ends_early_ends_as_it_would_have_ended(
    real_search: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    from jaxseq.checkpoint import __main__ as checkpoint

    table = (real_search / "sweep.csv").read_bytes()
    journal = interrupted(real_search, tmp_path / "out")
    words = [*REAL, str(tmp_path / "out")]
    content = journal.read_bytes()
    assert checkpoint.main(["verify", str(tmp_path / "out")]) == 0
    journal.write_bytes(EDITS["a value"](content))
    assert checkpoint.main(["verify", str(tmp_path / "out")]) == 1
    assert "optuna.log, line" in capsys.readouterr().out
    lines = content.splitlines(keepends=True)
    # Before the study, in the first trial, in the second one, and at the end.
    for count in (0, NEW_TRIAL + 1, len(lines) - 3, len(lines)):
        shutil.rmtree(tmp_path / "out")
        interrupted(real_search, tmp_path / "out")
        # In the middle of the next line, which a kill may have kept from being written.
        journal.write_bytes(b"".join([*lines[:count], content[:20]]))
        assert sweep.main(words) == 0, capsys.readouterr().err
        assert (tmp_path / "out" / "sweep.csv").read_bytes() == table
        # What it has told since is what its runs say.
        assert sweep.main(words) == 0, capsys.readouterr().err

    # A journal of an earlier version goes on without seals.
    shutil.rmtree(tmp_path / "out")
    interrupted(real_search, tmp_path / "out")
    journal.write_text(without_seals(content.decode()))
    assert sweep.main(words) == 2
    assert "its lines have no seals" in capsys.readouterr().err
    record = sealed.read(tmp_path / "out" / "sweep.json")
    record[run_seal.JOURNAL].pop()
    sealed.write(tmp_path / "out" / "sweep.json", record)
    for _ in range(2):
        assert sweep.main(words) == 0 and b"sha256" not in journal.read_bytes()
        assert (tmp_path / "out" / "sweep.csv").read_bytes() == table


@optuna_warnings
def test_processes_that_append_to_one_journal_leave_every_line_sealed(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    from jaxseq.sweep.sealed_journal import SealedJournal

    path = tmp_path / "optuna.log"

    def append(number: int) -> None:
        journal = SealedJournal(path, "start")
        for count in range(10):
            journal.append_logs([{"number": number, "count": count}, {"nan": math.nan, "keys": {1: number}}])

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(append, range(4)))
    # A disk that was full for a moment.
    with path.open("ab") as file:
        file.write(b'{"number":')
    append(4)
    content = path.read_bytes()
    sealed_lines.check(content, path, "start")
    assert content.count(b"\n") == content.count(b"sha256") == 100
