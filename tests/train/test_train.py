"""The command: what it leaves behind, how it stops, how it goes on, and what it says to a mistake."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pictures
import pytest
from quick_compilation import compile_children_quickly
from run_contents import leaves, metrics
from trained_runs import AAPL

from jaxseq.checkpoint import records, run_seal, store
from jaxseq.common import sealed
from jaxseq.forecast import forecast
from jaxseq.train import __main__ as train
from jaxseq.train import epoch, progress, run_folder
from jaxseq.train.domains import forecasts
from jaxseq.train.restore import restore

FILES = {
    "config.json",
    "environment.json",
    "metrics.jsonl",
    "checkpoints",
    "report.md",
    "report.html",
    "loss.png",
    "forecast.png",
    "predictions.csv",
    "scores.csv",
    "errors.png",
    "intervals.json",
    "judged.json",
}
DRAWN = ("loss.png", "forecast.png", "errors.png")
PACKAGE = Path(train.__file__).parents[2]


@pytest.fixture
def run(aapl_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that run, as `run` in the current folder; pictures are not drawn again."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(aapl_run, "run"))


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, without a run."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every file below a folder with its bytes, and every folder with None."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def edit_config(folder: Path, **fields: Any) -> None:
    """What a person might do to the file."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **fields}))


def seal_config(folder: Path, **fields: Any) -> None:
    """What the run would have written with other fields."""
    run_folder.write_config(folder, {**run_folder.read_config(folder), **fields})


def make_it(folder: Path, **fields: Any) -> None:
    """The run, as if it had begun with other fields."""
    seal_config(folder, **fields)
    root = folder / "checkpoints/metadata/_ROOT_METADATA"
    whole = json.loads(root.read_text())
    record = whole["custom_metadata"]
    begun = sealed.seal(config={**record["config"], **fields})
    root.write_text(json.dumps({**whole, "custom_metadata": {**record, **begun}}))


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    """What stands on stderr, which has to be one line."""
    error = capsys.readouterr().err
    assert error.startswith("jaxseq.train: ") and error.count("\n") == 1 and error.endswith("\n"), error
    return error


# What a run leaves -----------------------------------------------------------------------------------------------------


def test_a_run_leaves_every_file_of_its_folder(aapl_run: Path) -> None:
    assert {path.name for path in aapl_run.iterdir()} == FILES
    assert (aapl_run / "loss.png").read_bytes()[:4] == (aapl_run / "forecast.png").read_bytes()[:4] == b"\x89PNG"
    config = json.loads((aapl_run / "config.json").read_text())
    assert config["experiment"] == "aapl" and config["epochs"] == 2 and config["batch"] == 512
    assert {"cell": "gru", "hidden": 4, "layers": 1}.items() <= config["model"].items()
    assert config["data"]["window"] == 8
    assert {"jaxseq", "python", "devices", "libraries", "command"} <= set(
        json.loads((aapl_run / "environment.json").read_text())
    )


def test_the_metrics_have_one_finite_row_an_epoch(aapl_run: Path) -> None:
    rows = run_folder.read_metrics(aapl_run)
    assert [row["epoch"] for row in rows] == [1, 2]
    assert [row["step"] for row in rows] == [5, 10]  # 2,281 windows in batches of 512
    assert all(np.isfinite(list(row.values())).all() for row in rows)
    assert all(row["train_loss"] > 0 and row["valid_mse"] > 0 and row["seconds"] > 0 for row in rows)


def test_the_predictions_stand_beside_what_came_and_the_value_before(aapl_run: Path) -> None:
    frame = pd.read_csv(aapl_run / "predictions.csv")
    assert list(frame)[:5] == ["date", "actual", "forecast", "naive", "reference"] and len(frame) == 491
    assert ((frame["low_95%"] < frame["low_50%"]) & (frame["high_50%"] < frame["high_95%"])).all()
    np.testing.assert_array_equal(frame["naive"][1:], frame["actual"][:-1])
    assert frame["date"].iloc[0] == "2011-03-18" and frame["date"].is_monotonic_increasing
    assert 0 < np.abs(frame["forecast"] - frame["naive"]).max() < 5


def test_the_report_gives_the_scores_of_the_predictions(aapl_run: Path) -> None:
    frame, report = pd.read_csv(aapl_run / "predictions.csv"), (aapl_run / "report.md").read_text()
    best = records.best_epoch(aapl_run / "checkpoints")
    for name, column in (("naive (last value)", "naive"), (f"gru (epoch {best})", "forecast")):
        rmse = np.sqrt(np.mean((frame[column] - frame["actual"]) ** 2))
        assert f"| {name} | {rmse:.4f} |" in report
    assert "2281 train, 490 valid, 491 test" in report


@pytest.mark.slow
def test_two_runs_started_in_the_same_folder_get_different_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(forecasts, "judge", lambda *_: {})
    for _ in range(2):
        assert train.main([*AAPL, "--epochs", "1"]) == 0
    assert sorted(path.name for path in Path("runs").iterdir()) == ["aapl-0001", "aapl-0002"]
    assert leaves(Path("runs/aapl-0001")) == leaves(Path("runs/aapl-0002"))


@pytest.mark.slow
@pytest.mark.exact_versions
@pytest.mark.usefixtures("compiled_quickly")
def test_every_other_choice_of_the_command_line_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = "--data.count 200 --data.window 6 --task direct --horizon 3"
    model = "--model.cell lstm --model.layers 2 --model.hidden 3 --model.head quantile"
    training = "--schedule cosine --clip 0.5 --seed 4 --epochs 1 --batch 32"
    assert train.main(["waves", *data.split(), *model.split(), *training.split()]) == 0
    frame = pd.read_csv("runs/waves-0001/predictions.csv")
    ends = ["low_50%", "high_50%", "low_80%", "high_80%", "low_95%", "high_95%"]
    assert list(frame) == ["row", "step", "actual", "forecast", "naive", "reference", *ends] and len(frame) == 20 * 3


# Going on --------------------------------------------------------------------------------------------------------------


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    return start_python(folder, "-m", "jaxseq.train", *words)


def start_python(folder: Path, *words: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE), "JAX_PLATFORMS": "cpu", "PYTHONUNBUFFERED": "1"}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *words], cwd=folder, env=environment, **pipes)


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, error = process.communicate(timeout=300)  # a busy machine is slow, too
    return process.returncode, out, error


APART = [*AAPL, "--clip", "0.1", "--seed", "3"]
"""What runs of other processes train: one after the other, so that they share what is compiled."""


@pytest.mark.slow
@pytest.mark.exact_versions
def test_a_run_in_two_processes_is_bit_for_bit_the_run_in_one(tmp_path: Path) -> None:
    # One process trains the whole run and the first part of the other, and draws nothing, which takes as long as both.
    program = f"""from jaxseq.common import figures, sealed
from jaxseq.forecast import forecast
from jaxseq.train.__main__ import main
figures.drawn = lambda *_: {pictures.PIXEL!r}
statuses = [main({APART} + ["--epochs", epochs, "--out", name]) for epochs, name in (("5", "whole"), ("2", "parts"))]
raise SystemExit(max(statuses))"""
    status, _, error = finish(start_python(tmp_path, "-c", program))
    assert status == 0, error
    status, out, error = finish(start(tmp_path, "--resume", "parts", "--epochs", "5"))
    assert status == 0 and "resuming after epoch 2 of 5" in out, error
    whole_leaves = leaves(tmp_path / "whole")
    assert {"step", "key", "params/head/kernel"} < set(whole_leaves) and any(path[:3] == "opt" for path in whole_leaves)
    assert leaves(tmp_path / "parts") == whole_leaves
    assert metrics(tmp_path / "parts") == metrics(tmp_path / "whole")
    for name in ("predictions.csv", "config.json", "report.md"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_going_on_with_a_finished_run_only_judges_it_again(run: Path) -> None:
    before = contents(run)
    (run / "predictions.csv").unlink()
    (run / "report.md").unlink()
    assert train.main(["--resume", "run"]) == 0
    after = contents(run)
    # The pictures are pixels here, those that the page shows and the seal names, too.
    for name in (*DRAWN, "report.html", "judged.json"):
        del before[name], after[name]
    assert after == before


@pytest.mark.slow
@pytest.mark.exact_versions
def test_an_extended_run_that_is_killed_has_no_judgement_of_earlier_epochs_beside_its_checkpoints(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    report = (run / "report.md").read_bytes()

    def killed(*_: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(progress.EpochDisplay, "show", killed)
        assert train.main(["--resume", "run", "--epochs", "4"]) == 130
    assert records.latest_epoch(run / "checkpoints") == 3
    assert not run_seal.has_judgement(run) and (run / "judged-2" / "report.md").read_bytes() == report
    restored = restore(run)
    assert isinstance(restored, forecasts.Trained) and restored.intervals is None
    assert any("the run has not been judged" in note for note in forecast(run).notes)

    assert train.main(["--resume", "run"]) == 0
    assert run_seal.judged_damage(run) == [] and sealed.read(run / "judged.json")["epochs"] == 4
    assert not any("has not been judged" in note for note in forecast(run).notes)


def test_a_judgement_that_a_killed_process_has_moved_in_part_ends_in_one_folder(run: Path) -> None:
    names = {run_seal.JUDGED, *sealed.read(run / run_seal.JUDGED)["files"]}
    (run / "judged-2").mkdir()
    for name in (run_seal.JUDGED, run_seal.REPORT):
        (run / name).rename(run / "judged-2" / name)
    run_seal.set_judgement_aside(run)
    assert {path.name for path in (run / "judged-2").iterdir()} == names
    assert [path.name for path in run.glob("judged-*")] == ["judged-2"]


@pytest.mark.exact_versions
def test_a_lost_best_epoch_is_not_replaced_unasked(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoints = run / "checkpoints"
    best = records.best_epoch(checkpoints)
    assert best is not None
    (other,) = {1, 2} - {best}
    wanted = leaves(run), (run / "predictions.csv").read_bytes(), (run / "intervals.json").read_bytes()
    shutil.rmtree(checkpoints / str(best))

    with pytest.raises(sealed.DamagedError, match=f"--epoch {other} takes another one on purpose") as raised:
        restore(run)
    assert f"epoch {best} of" in str(raised.value)
    restored = restore(run, other)
    assert isinstance(restored, forecasts.Trained) and restored.epoch == other and restored.intervals is None
    assert any(f"they were fitted to epoch {best}" in note for note in forecast(run, epoch=other).notes)

    if best < other:
        assert train.main(["--resume", "run"]) == 2
        assert f"epoch {best} of" in complaint(capsys)
    assert train.main(["--resume", "run", "--from-epoch", "0"]) == 0
    assert (leaves(run), (run / "predictions.csv").read_bytes(), (run / "intervals.json").read_bytes()) == wanted


@pytest.mark.slow
@pytest.mark.exact_versions
def test_a_damaged_newest_checkpoint_is_reported_and_the_one_before_it_taken(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train.main(["--resume", "run", "--epochs", "3"]) == 0
    whole, wanted = metrics(run), leaves(run)
    for file in (run / "checkpoints" / "3" / "state").rglob("d/*"):
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 0xFF
        file.write_bytes(content)
    capsys.readouterr()
    seen: list[list[int]] = []
    keep = run_folder.keep_metrics

    def watched(folder: Path, last_epoch: int) -> list[run_folder.Row]:
        rows = keep(folder, last_epoch)
        seen.append([row["epoch"] for row in run_folder.read_metrics(folder)])
        return rows

    monkeypatch.setattr(run_folder, "keep_metrics", watched)
    assert train.main(["--resume", "run"]) == 0
    out = capsys.readouterr().out
    assert "epoch 3" in out and "damaged" in out and "using epoch 2" in out
    assert seen == [[1, 2]]
    assert metrics(run) == whole and leaves(run) == wanted


@pytest.mark.slow
@pytest.mark.exact_versions
@pytest.mark.parametrize("is_sealed", [True, False])
def test_a_best_epoch_that_was_removed_for_a_better_one_is_believed_by_a_seal_alone(
    is_sealed: bool, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Epoch 2 says that epoch 1 was the best, which is gone; epoch 3, which was better, is damaged."""
    assert train.main(["--resume", "run", "--epochs", "3"]) == 0
    whole, wanted = metrics(run), leaves(run)
    checkpoints = run / "checkpoints"
    shutil.rmtree(checkpoints / "1", ignore_errors=True)
    run_seal.set_judgement_aside(run)
    for epoch_number, best_epoch in ((2, 1), (3, 3)):
        reseal(checkpoints / f"{epoch_number}" / "_CHECKPOINT_METADATA", best_epoch=best_epoch)
    for file in (checkpoints / "3" / "state").rglob("d/*"):
        file.write_bytes(b"")
    if not is_sealed:
        (checkpoints / "3" / "_CHECKPOINT_METADATA").write_text("{}")
        # A forged end of the log, where nothing seals the rows.
        rows = [{**row, "valid_mse": row["valid_mse"] / row["epoch"]} for row in run_folder.read_metrics(run)]
        lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
        (run / "metrics.jsonl").write_text("".join(lines[:2]) + json.dumps(rows[2]) + "\n")

    capsys.readouterr()
    if is_sealed:
        assert train.main(["--resume", "run"]) == 0
        # Once set aside, the damaged epoch says it still.
        assert records.later_best(checkpoints, 2, records.config(checkpoints)[sealed.RUN_ID]) == 3
        assert metrics(run) == whole and leaves(run) == wanted
    else:
        assert train.main(["--resume", "run"]) == 2
        assert "epoch 1 of" in complaint(capsys)
        assert train.main(["--resume", "run", "--from-epoch", "2"]) == 0


def reseal(path: Path, **fields: Any) -> None:
    """Write the record of an epoch as its writer would have done with other fields."""
    whole = json.loads(path.read_text())
    record = {name: value for name, value in whole["custom_metadata"].items() if name not in ("sha256", "format")}
    path.write_text(json.dumps({**whole, "custom_metadata": sealed.seal(**{**record, **fields})}))


@pytest.mark.exact_versions
def test_a_row_whose_checkpoint_was_never_written_comes_again_once(run: Path) -> None:
    row = run_folder.read_metrics(run)[-1]
    run_folder.append_metrics(run, {**row, "epoch": 3, "valid_mse": 0.0})
    assert train.main(["--resume", "run", "--epochs", "4"]) == 0
    rows = run_folder.read_metrics(run)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4] and rows[2]["valid_mse"] > 0


@pytest.mark.exact_versions
def test_a_run_stops_when_patience_is_at_an_end_and_stays_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert train.main([*AAPL, "--epochs", "60", "--patience", "2", "--out", "run"]) == 0
    rows = run_folder.read_metrics(Path("run"))
    best = min(rows, key=lambda row: row["valid_mse"])["epoch"]
    assert len(rows) == best + 2 < 60
    assert f"no better validation for 2 epochs: stopped after epoch {len(rows)}" in capsys.readouterr().out
    before = contents(Path("run"))
    assert train.main(["--resume", "run"]) == 0
    assert contents(Path("run")) == before
    assert f"(epoch {best})" in Path("run/report.md").read_text()
    assert train.main(["--resume", "run", "--patience", "None", "--epochs", str(len(rows) + 1)]) == 0
    assert len(run_folder.read_metrics(Path("run"))) == len(rows) + 1


# Stopping --------------------------------------------------------------------------------------------------------------


@pytest.mark.exact_versions
def test_ctrl_c_saves_the_last_finished_epoch_and_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_children_quickly(monkeypatch)
    process = start(tmp_path, *APART, "--epochs", "100000")
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch") and int(line.split()[1].partition("/")[0]) >= 2:
            break
    process.send_signal(signal.SIGINT)
    status, out, error = finish(process)
    run = tmp_path / "runs" / "aapl-0001"
    last = run_folder.read_metrics(run)[-1]["epoch"]
    assert status == 130 and "stopping after this epoch" in out
    assert error == (
        f"jaxseq.train: stopped after epoch {last}, which is saved; "
        "resume with: python -m jaxseq.train --resume runs/aapl-0001\n"
    )
    assert records.latest_epoch(run / "checkpoints") == last and store.damage(run / "checkpoints", last) == []
    assert int(store.load_leaves(run / "checkpoints", last)["step"]) == 5 * last


def once_an_epoch_is_shown(monkeypatch: pytest.MonkeyPatch, then: Callable[[], None]) -> None:
    show = progress.EpochDisplay.show

    def shown(self: progress.EpochDisplay, *row: Any, **options: Any) -> None:
        show(self, *row, **options)
        then()

    monkeypatch.setattr(progress.EpochDisplay, "show", shown)


@pytest.mark.parametrize(
    ("number", "status"), [pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow), (signal.SIGTERM, 143)]
)
def test_a_signal_stops_after_the_epoch_and_leaves_a_run_to_go_on_with(
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
    status: int,
) -> None:
    handler = signal.getsignal(number)
    with monkeypatch.context() as patch:
        once_an_epoch_is_shown(patch, lambda: os.kill(os.getpid(), number))
        assert train.main(["--resume", "run", "--epochs", "5"]) == status
    assert "after epoch 3, which is saved" in complaint(capsys)
    assert signal.getsignal(number) is handler
    assert [row["epoch"] for row in metrics(run)] == [1, 2, 3]
    assert records.latest_epoch(run / "checkpoints") == 3
    assert train.main(["--resume", "run", "--epochs", "4"]) == 0
    assert [row["epoch"] for row in metrics(run)] == [1, 2, 3, 4]


@pytest.mark.exact_versions
def test_a_second_ctrl_c_stops_at_once(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
        raise AssertionError("still here")

    once_an_epoch_is_shown(monkeypatch, twice)
    assert train.main(["--resume", "run", "--epochs", "5"]) == 130
    assert "after epoch 3, which is saved; resume with: python -m jaxseq.train --resume run\n" in complaint(capsys)


@pytest.mark.exact_versions
def test_ctrl_c_in_the_first_epoch_leaves_a_run_to_go_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any, **__: Any) -> Iterator[epoch.Epoch]:
        raise KeyboardInterrupt
        yield

    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(epoch, "epochs", interrupted)
        assert train.main([*AAPL, "--epochs", "1", "--out", "my run"]) == 130
    assert "stopped before an epoch was saved; resume with: python -m jaxseq.train --resume 'my run'" in complaint(
        capsys
    )
    assert train.main(["--resume", "my run"]) == 0
    assert [row["epoch"] for row in metrics(Path("my run"))] == [1]


def test_ctrl_c_before_anything_is_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("jaxseq.train.run.train", interrupted)
    assert train.main(AAPL) == 130
    assert "before the training began" in complaint(capsys) and not list(tmp_path.iterdir())


# Mistakes --------------------------------------------------------------------------------------------------------------

MISTAKES = {
    "wavs": ["unknown experiment", "got 'wavs'", "aapl, waves"],
    "--model.cell transformer": ["unknown cell", "got 'transformer'", "rnn, lstm, gru"],
    "--model.hidden 0": ["hidden", "at least 1", "got 0"],
    "--model.hidden 100000000": ["--model.hidden: ", "100000000 units", "GiB"],
    "--model.hidden 4.5": ["--model.hidden", "4.5"],
    "--model.layers 0": ["layers", "at least 1", "got 0"],
    "--data.window 0": ["window: too small", "got 0", "at least 2"],
    "--data.window 5000": ["window 5000", "at least 5001", "2289 of 3270 rows"],
    "--data.window 2289": ["window 2289", "at least 2290", "2289 of 3270 rows"],
    "--task direct --horizon 600": ["horizon 600", "at least 600", "has 491 of 3270 rows"],
    "--task sometimes": ["--task", "one-step", "every-step"],
    "--horizon 3": ["--horizon", "single step", "got 3", "--task direct"],
    "--horizon 0 --task direct": ["horizon", "at least 1", "got 0"],
    "--task every-step --horizon 3 --model.bidirectional": ["bidirectional", "see its targets", "needed direct"],
    "--task iterated --horizon 3 --model.head quantile": ["quantiles of one step", "gaussian"],
    "--model.head gaussian --loss mae": ["--loss", "'mae'", "gaussian"],
    "--data.fold 2": ["fold is 2", "there are 1"],
    "--data.folds 0": ["folds: too small", "got 0", "at least 1"],
    "--data.test-rows 3 --task direct --horizon 4": ["--data.test-rows", "horizon of 4", "got 3", "needed at least 4"],
    "--data.test-rows 3000": ["3270 rows", "--data.test-rows 3000", "leave none for training"],
    "--data.test-rows 9 --data.test-from 2012": ["--data.test-rows 9", "--data.test-from 2012"],
    "--data.test-from 2014-01-01": ["ends at 2013-03-01", "before --data.test-from 2014-01-01"],
    "--seeds 0": ["--seeds", "at least 1", "got 0"],
    "--backtest 600": ["600 folds", "at least 600", "has 491 of 3270 rows"],
    "--seeds 2 --resume run": ["no run at run"],
    "table": ["--data.path"],
    "table --data.path nowhere.csv": ["nowhere.csv", "No such file"],
    "prices --data.ticker ../../x": ["../../x"],
    "--data.target return": ["--data.target", "change", "log-return", "level"],
    "waves --data.count 3": ["count: too small", "got 3", "at least 10"],
    "waves --data.window 100000000000000": ["window: too large", "100000000000000"],
    "--epochs 0": ["epochs", "at least 1", "got 0"],
    "--epochs 99999999999999": ["epochs: too large", "at most 2147483647", "99999999999999"],
    "--epochs 99999999": ["--epochs: ", "99999999 epochs", "2147483647"],
    "--epochs three": ["--epochs", "three"],
    "--epochs": ["--epochs", "Missing value"],
    "--batch 0": ["batch", "at least 1", "got 0"],
    "--batch 30": ["--batch: ", "got 30", "a multiple of 4"],
    "--batch 4096": ["--batch: ", "got 4096", "at most 2239"],
    "--lr nan": ["lr", "needed finite, above 0", "got nan"],
    "--lr 0": ["lr", "needed finite, above 0", "got 0"],
    "--clip -1": ["clip", "needed finite, above 0", "got -1"],
    "--schedule linear": ["--schedule", "linear", "constant", "cosine"],
    "--seed -1": ["seed", "at least 0", "got -1"],
    "--seed 4294967296": ["seed: too large", "4294967295", "4294967296"],
    "--patience 0": ["patience", "at least 1", "got 0"],
    "--epoch 3": ["--epoch", "perhaps --epochs"],
    "--rate 3": ["--rate", "--help"],
    "aapl waves": ["waves"],
    "--resume nowhere": ["no run at nowhere", "no such folder"],
    "--resume": ["--resume", "Missing value"],
    "--resume .": ["no run at .", "no config.json"],
    "--out /proc/nothing/run": ["cannot write", "/proc/nothing/run"],
    f"--out {'a' * 300}": ["cannot write", "name too long"],
    f"--resume {'a' * 300}": ["cannot be read", "name too long"],
}

MISTAKES_BESIDE_A_RUN = {
    "waves --resume run": ["run: ", "got 'waves'", "needed aapl"],
    "--resume run --model.hidden 5": ["--model.hidden 4", "--model.hidden 5"],
    "--resume run --model.cell rnn --epochs 9": ["--model.cell gru", "--model.cell rnn"],
    "--resume run --model.skip": ["got '--model.skip'", "needed --model.no-skip"],
    "--resume=run --data.window 9": ["--data.window 8", "--data.window 9"],
    "--resume run --lr 0.5": ["--lr 0.001", "--lr 0.5"],
    "--resume run --batch 256": ["--batch 512", "--batch 256"],
    "--resume run --precision tf32": ["--precision float32", "--precision tf32"],
    "--resume run --epochs 1": ["more epochs", "at least 2", "--epochs 1"],
    "--resume run --out new": ["--out", "--resume", "leave out one"],
    "--resume run/config.json": ["no run at run/config.json"],
}


@pytest.mark.parametrize(
    ("folder", "words", "parts"),
    [
        *(pytest.param("empty_folder", words, parts, id=words) for words, parts in MISTAKES.items()),
        *(pytest.param("run", words, parts, id=words) for words, parts in MISTAKES_BESIDE_A_RUN.items()),
    ],
)
def test_a_mistake_is_one_line_on_stderr_and_no_file_changes(
    folder: str, words: str, parts: list[str], request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    request.getfixturevalue(folder)
    before = contents(Path())
    assert train.main(words.split()) == 2
    error = complaint(capsys)
    assert all(part in error for part in parts), error
    assert contents(Path()) == before


@pytest.mark.exact_versions
def test_an_output_folder_that_is_not_empty_or_not_a_folder_is_refused(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(run)
    for out, said in {
        "run": "not empty",
        "run/config.json": "cannot write",
        "run/config.json/new": "cannot write",
    }.items():
        assert train.main([*AAPL, "--epochs", "1", "--out", out]) == 2
        error = complaint(capsys)
        assert said in error and out in error
    assert contents(run) == before


DAMAGES: dict[str, list[str]] = {
    "{": ["cannot be read", "config.json"],
    "[1, 2]": ["JSON object", "list"],
    "{}": ["no experiment"],
    '{"experiment": "wavs"}': ["wavs", "aapl, waves"],
    '{"experiment": "aapl", "dropout": 0.5, "epochs": 2}': ["unknown fields dropout", "patience"],
    '{"experiment": "aapl", "data": {"lags": 3}}': ["data", "unknown fields lags", "window"],
    '{"experiment": "aapl", "model": [4]}': ["model", "[4]", "hidden"],
    '{"experiment": "aapl", "epochs": "x"}': ["epochs: wrong type", "needed int", "'x'"],
    '{"experiment": "aapl", "epochs": true}': ["epochs: wrong type", "needed int", "True"],
    '{"experiment": "aapl", "seed": 1.5}': ["seed: wrong type", "needed int", "1.5"],
    '{"experiment": "aapl", "clip": "x"}': ["clip: wrong type", "needed float or None", "'x'"],
    '{"experiment": "aapl", "schedule": "linear"}': ["schedule", "constant, cosine", "linear"],
    '{"experiment": "aapl", "model": {"hidden": 4.5}}': ["model: hidden: wrong type", "needed int", "4.5"],
    '{"experiment": "aapl", "model": {"hidden": -4}}': ["config.json: model: hidden", "-4"],
    '{"experiment": "aapl", "model": {"cell": ["gru"]}}': ["model: cell: wrong type", "needed str", "['gru']"],
    '{"experiment": "aapl", "data": {"target": 5}}': ["data: target", "season, seasons, log-return, level", "5"],
    '{"experiment": "aapl", "lr": NaN}': ["lr", "nan"],
}


@pytest.mark.exact_versions
@pytest.mark.parametrize("text", DAMAGES)
def test_a_damaged_config_is_named_and_left_as_it_is(text: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = run / "config.json"
    config.write_text(text)
    if text.startswith("{") and text.endswith("}"):
        sealed.write(config, json.loads(text))
    before = contents(run)
    assert train.main(["--resume", "run"]) == 2
    said = complaint(capsys)
    assert "run/config.json" in said and all(word in said for word in DAMAGES[text]), said
    assert contents(run) == before


def test_checkpoints_of_another_model_are_refused_with_both_shapes(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_it(run, model={"cell": "gru", "hidden": 5, "layers": 1})
    before = contents(run)
    assert train.main(["--resume", "run", "--epochs", "3"]) == 2
    said = complaint(capsys)
    assert "another model" in said and "[1, 12]" in said and "[1, 15]" in said
    assert contents(run) == before


@pytest.mark.exact_versions
@pytest.mark.parametrize("change", [{"lr": 0.5}, {"schedule": "cosine"}, {"epochs": 9}, {"scaling": None}])
def test_a_config_that_was_changed_by_hand_is_not_believed(
    change: dict[str, Any], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit_config(run, **change)
    before = contents(run)
    assert train.main(["--resume", "run"]) == 2
    assert "run/config.json: damaged (changed since it was written" in complaint(capsys)
    with pytest.raises(sealed.DamagedError, match=r"config\.json"):
        restore(run)
    assert contents(run) == before


def test_a_config_without_its_seal_is_not_believed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = json.loads((run / "config.json").read_text())
    for name in ("sha256", "format"):
        del config[name]
    (run / "config.json").write_text(json.dumps(config))
    assert train.main(["--resume", "run"]) == 2
    assert "run/config.json: damaged (its seal is missing)" in complaint(capsys)


@pytest.mark.exact_versions
def test_a_damaged_copy_of_the_config_does_not_stop_a_run(run: Path) -> None:
    (run / "checkpoints/metadata/_ROOT_METADATA").write_text("{")
    assert train.main(["--resume", "run", "--epochs", "3"]) == 0


@pytest.mark.slow
@pytest.mark.exact_versions
@pytest.mark.usefixtures("compiled_quickly")
def test_a_run_goes_on_with_the_rows_that_it_had_wherever_they_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    values = np.random.default_rng(3).normal(100, 5, 400)
    rows = [f"2020-01-01T{n // 60:02}:{n % 60:02}:00,{value:.6f}" for n, value in enumerate(values)]
    Path("a.csv").write_text("\n".join(["date,sales", *rows]))
    words = ["table", "--data.path", "a.csv", "--data.column", "sales", "--data.window", "8", "--model.hidden", "4"]
    assert train.main([*words, "--batch", "64", "--epochs", "1", "--out", "run"]) == 0
    Path("a.csv").write_text("\n".join(["date,sales", *rows[:200], f"{rows[200]}1", *rows[201:]]))
    assert train.main(["--resume", "run", "--epochs", "2"]) == 0, "less than float32 tells apart"
    rows[200] = rows[200].partition(",")[0] + ",99"
    Path("a.csv").write_text("\n".join(["date,sales", *rows]))
    before = contents(Path("run"))
    capsys.readouterr()
    assert train.main(["--resume", "run", "--epochs", "3"]) == 2
    said = complaint(capsys)
    assert (
        "run: the data differs from the rows that the run was trained on" in said
        and "needed sha256 " + json.loads(before["config.json"])["rows_sha256"][:12] in said
    )
    assert contents(Path("run")) == before
    Path("run/config.json").write_bytes(before["config.json"])
    rows[200] = f"2020-01-01T03:20:00,{values[200]:.6f}"
    Path("a.csv").unlink()
    Path("moved.csv").write_text("\n".join(["date,sales", *rows]))
    assert train.main(["--resume", "run", "--epochs", "3", "--data.path", "moved.csv"]) == 0
    assert [row["epoch"] for row in metrics(Path("run"))] == [1, 2, 3]


@pytest.mark.exact_versions
def test_metrics_without_every_epoch_are_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "metrics.jsonl").unlink()
    before = contents(run)
    assert train.main(["--resume", "run", "--epochs", "3"]) == 2
    assert "epochs 1 to 2" in complaint(capsys)
    assert contents(run) == before


@pytest.mark.exact_versions
def test_a_log_that_is_damaged_is_named_by_line_and_left_as_it_is(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (run / "metrics.jsonl").read_text().splitlines()
    for damaged, said in {
        f"{first}\n\x00garbage\n{second}\n": "run/metrics.jsonl, line 2: ",
        f"{first[:40]}\n{second}\n": "run/metrics.jsonl, line 1: ",
        f"{first}\n{second.replace('valid_mse', 'valid_mso')}\n": "run/metrics.jsonl: epoch 2 lacks valid_mse",
        f"{first}\n{second}\n{second}\n": "once each",
    }.items():
        (run / "metrics.jsonl").write_text(damaged)
        before = contents(run)
        assert train.main(["--resume", "run", "--epochs", "3"]) == 2
        assert said in complaint(capsys)
        assert contents(run) == before


@pytest.mark.exact_versions
def test_patience_believes_no_edited_digit_of_the_log(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # One of the two epochs is the best.
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    for number, factor in product(range(2), (0.5, 2.0)):
        loss = json.loads(lines[number])["valid_mse"]
        edited = lines[number].replace(repr(loss), repr(loss * factor))
        (run / "metrics.jsonl").write_text("".join([*lines[:number], edited, *lines[number + 1 :]]))
        before = contents(run)
        assert train.main(["--resume", "run", "--patience", "1", "--epochs", "4"]) == 2
        assert "metrics.jsonl: damaged (its rows up to epoch 2 were changed" in complaint(capsys)
        assert contents(run) == before


@pytest.mark.exact_versions
def test_a_log_whose_last_line_was_torn_goes_on(run: Path) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3, "st')
    assert train.main(["--resume", "run", "--epochs", "3"]) == 0
    assert [row["epoch"] for row in run_folder.read_metrics(run)] == [1, 2, 3]


def test_a_cosine_schedule_cannot_be_made_longer(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_it(run, schedule="cosine")
    assert train.main(["--resume", "run", "--epochs", "3"]) == 2
    said = complaint(capsys)
    assert "cosine" in said and "got '--epochs 3', needed --epochs 2" in said


@pytest.mark.exact_versions
def test_a_loss_that_is_not_finite_names_epoch_and_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert train.main([*AAPL, "--lr", "1e30", "--epochs", "3"]) == 2
    said = complaint(capsys)
    assert "epoch 1, step 2 of 5" in said and "no epoch was finished in runs/aapl-0001" in said and "--lr" in said
    assert records.epochs(Path("runs/aapl-0001/checkpoints")) == [] and metrics(Path("runs/aapl-0001")) == []


@pytest.mark.slow
@pytest.mark.exact_versions
def test_the_epoch_before_a_loss_that_is_not_finite_stays_and_can_go_on(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_it(run, lr=1e30)
    assert train.main(["--resume", "run", "--epochs", "4"]) == 2
    said = complaint(capsys)
    assert "epoch 3, step 2 of 5" in said and "epoch 2 is saved in run" in said
    assert records.latest_epoch(run / "checkpoints") == 2 and len(metrics(run)) == 2
    make_it(run, lr=1e-3)
    assert train.main(["--resume", "run", "--epochs", "4"]) == 0
    assert [row["epoch"] for row in metrics(run)] == [1, 2, 3, 4]


@pytest.mark.exact_versions
def test_the_epoch_before_a_loss_that_is_not_finite_is_named_while_it_is_still_being_written(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def poisoned(*arguments: Any, **named: Any) -> Iterator[epoch.Epoch]:
        for finished in epochs(*arguments, **named):
            if finished.number == 5:
                finished = finished._replace(valid=dict.fromkeys(finished.valid, float("nan")))
            yield finished

    epochs = epoch.epochs
    monkeypatch.setattr(epoch, "epochs", poisoned)
    assert train.main(["--resume", "run", "--epochs", "9"]) == 2
    said = complaint(capsys)
    assert "epoch 5, step 5 of 5" in said and "validation nan" in said and "epoch 4 is saved" in said


# Help ------------------------------------------------------------------------------------------------------------------


def test_help_lists_the_experiments_and_starts_quickly(tmp_path: Path) -> None:
    begun = time.perf_counter()
    status, out, error = finish(start(tmp_path, "--help"))
    took = time.perf_counter() - begun
    print(f"--help took {took:.1f} s")
    assert status == 0 and error == "" and took < 15
    assert "aapl" in out and "waves" in out and "Apple's share price" in out
    assert not list(tmp_path.iterdir())


def test_the_help_of_an_experiment_lists_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        train.main(["waves", "--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    fields = (
        "model.cell model.hidden data.window epochs batch optimiser lr schedule clip decay seed patience out resume"
    )
    for field in fields.split():
        assert f"--{field} " in out
    assert "{constant,cosine,warmup-cosine,one-cycle,exponential,plateau}" in out
