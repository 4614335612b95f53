"""Loggers: each epoch once, whatever happens; read back by what the tools read."""

import io
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from quick_runs import trained
from quick_words import TINY
from rich.console import Console

from jaxseq.common import sealed
from jaxseq.common.errors import UsageError
from jaxseq.train import __main__ as train
from jaxseq.train import loggers, run_folder
from jaxseq.train.callbacks import Callback, StartedRun
from jaxseq.train.experiments import named
from jaxseq.train.loggers.base import RECORD, Logger

pytestmark = pytest.mark.usefixtures("compiled_quickly")


class Memory(Logger):
    """A tool that keeps what it gets, and fails at an epoch."""

    name = "memory"

    def __init__(self, points: list[tuple[int, dict[str, float]]], failing_epoch: int = 0) -> None:
        super().__init__()
        self.points = points
        self.failing_epoch = failing_epoch
        self.calls: list[str] = []

    def open(self, run: StartedRun) -> None:
        self.calls.append("open")

    def write(self, epoch: int, values: dict[str, float]) -> None:
        if epoch == self.failing_epoch:
            raise OSError(28, "No space left on device")
        self.points.append((epoch, values))

    def close(self, error: BaseException | None) -> None:
        self.calls.append(f"close {type(error).__name__}")


class Killed(Callback):
    """Ends the training after an epoch by an exception."""

    def __init__(self, at: int) -> None:
        self.at = at

    def on_epoch(self, row: run_folder.Row) -> None:
        if row["epoch"] == self.at:
            raise KeyError("killed")


def killed(folder: Path, at: int, *callbacks: Callback) -> None:
    with pytest.raises(KeyError):
        trained(folder, [*callbacks, Killed(at)])


def logged_rows(folder: Path) -> list[tuple[int, dict[str, float]]]:
    rows = run_folder.read_metrics(folder)
    return [(row.pop("epoch"), {"optimiser_step": float(row.pop("step")), **row}) for row in rows]


@pytest.mark.slow
def test_a_tool_gets_every_epoch_once_also_those_before_it(tmp_path: Path) -> None:
    points: list[Any] = []
    folder = tmp_path / "run"
    killed(folder, 1)
    tool = Memory(points)
    killed(folder, 2, tool)
    assert [epoch for epoch, _ in points] == [1, 2] and tool.calls == ["open", "close KeyError"]
    trained(folder, [tool])
    trained(folder, [tool])
    assert points == logged_rows(folder) and len(points) == 4
    assert sealed.read(folder / RECORD) == {"memory": 4}
    assert tool.calls[2:] == 2 * ["open", "close NoneType"]


def test_a_failing_tool_is_one_line_and_a_later_resume_gives_it_what_it_lacks(tmp_path: Path) -> None:
    points: list[Any] = []
    screen = io.StringIO()
    folder = trained(tmp_path / "run", [Memory(points, failing_epoch=2)], Console(file=screen, width=80))
    assert screen.getvalue().count("memory logs no further epoch (OSError: ") == 1
    assert f"--resume {folder} adds them" in screen.getvalue() and "report.md" in screen.getvalue()
    assert [epoch for epoch, _ in points] == [1] and len(run_folder.read_metrics(folder)) == 4
    trained(folder, [Memory(points)])
    assert points == logged_rows(folder)


def test_a_damaged_record_logs_nothing_twice(tmp_path: Path) -> None:
    points: list[Any] = []
    folder = tmp_path / "run"
    killed(folder, 1, Memory(points))
    (folder / RECORD).write_text("{}")
    (folder / RECORD).write_text('{"memory": 0, "sha256": "0"}')
    screen = io.StringIO()
    trained(folder, [Memory(points)], Console(file=screen, width=80))
    assert "memory logs no further epoch (DamagedError" in screen.getvalue()
    assert [epoch for epoch, _ in points] == [1]


def test_a_tool_that_is_not_installed_is_one_line_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    packages = {name: name for name in loggers.TOOLS} | {"tensorboard": "tensorboardX"}
    for name, package in packages.items():
        with monkeypatch.context() as patch:
            # As if it were not there.
            patch.setitem(sys.modules, package, None)
            patch.delitem(sys.modules, f"jaxseq.train.loggers.{name}_log", raising=False)
            assert train.main([*TINY, "--log", name]) == 2
        error = capsys.readouterr().err
        assert f'pip install "jaxseq[{name}]"' in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["tensorbord", "wandb,wandb", "", "wandb,"])
def test_what_is_no_list_of_tools_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--log"):
        loggers.named(text)


# The tools themselves, where they are installed ------------------------------------------------------------------------


of_a_tool = pytest.mark.filterwarnings("ignore")
"""Their own warnings are no concern of these tests."""


def in_two_parts(folder: Path, name: str) -> list[tuple[int, dict[str, float]]]:
    """Log a run that is killed after two epochs and resumes; return the rows that the tool has to have."""
    killed(folder, 2, *loggers.named(name))
    trained(folder, loggers.named(name))
    trained(folder, loggers.named(name))
    return logged_rows(folder)


def check_same(points: Iterator[tuple[int, str, float]], rows: list[tuple[int, dict[str, float]]], digits: int) -> None:
    """Check that the points of a tool, as epoch, name and value, are those of the rows, each once."""
    collected: dict[int, dict[str, float]] = {}
    count: Counter = Counter()
    for epoch, name, value in points:
        collected.setdefault(epoch, {})[name] = value
        count[epoch, name] += 1
    assert set(count.values()) == {1}
    assert collected == {epoch: pytest.approx(values, rel=10**-digits) for epoch, values in rows}


@of_a_tool
def test_tensorboard_reads_every_epoch_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    rows = in_two_parts(tmp_path / "run", "tensorboard")
    check_same(points_of("tensorboard", tmp_path / "run"), rows, digits=6)


@of_a_tool
def test_mlflow_reads_every_epoch_once_and_has_one_run(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    rows = in_two_parts(tmp_path / "it's a run", "mlflow")
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("jaxseq")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED" and run.data.params["epochs"] == "4"
    points = [
        (metric.step, name, metric.value)
        for name in run.data.metrics
        for metric in client.get_metric_history(run.info.run_id, name)
    ]
    check_same(iter(points), rows, digits=12)


@of_a_tool
def test_wandb_keeps_every_epoch_once_under_one_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    rows = in_two_parts(tmp_path / "run", "wandb")
    files = sorted((tmp_path / "run").glob("wandb/offline-run-*/*.wandb"))
    assert len({file.name for file in files}) == 1
    check_same(points_of("wandb", tmp_path / "run"), rows, digits=12)


def wandb_records(file: Path) -> Iterator[Any]:
    """Records of a file of wandb: blocks of 32 kB after a header of 7 bytes, by its own protocol."""
    from wandb.proto import wandb_internal_pb2

    content = file.read_bytes()
    offset, parts = 7, b""
    while offset + 7 <= len(content):
        left = 32768 - offset % 32768
        if left < 7:
            offset += left
            continue
        length = int.from_bytes(content[offset + 4 : offset + 6], "little")
        kind = content[offset + 6]
        parts += content[offset + 7 : offset + 7 + length]
        offset += 7 + length
        # Whole, or the last of several parts.
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


@of_a_tool
def test_trackio_reads_every_epoch_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("trackio")
    place = trackio_store(tmp_path, monkeypatch)
    rows = in_two_parts(tmp_path / "run", "trackio")
    check_same(points_of("trackio", tmp_path / "run"), rows, digits=12)
    with sqlite3.connect(place / "jaxseq.db") as database:
        assert database.execute("select count(*) from metrics").fetchone() == (4,)


@of_a_tool
@pytest.mark.parametrize("tool", ["tensorboard", "wandb", "trackio"])
def test_runs_that_are_open_at_once_are_kept_apart(tool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboardX" if tool == "tensorboard" else tool)
    trackio_store(tmp_path, monkeypatch)
    open_runs = []
    for seed in range(2):
        folder = tmp_path / f"seed-{seed}"
        folder.mkdir()
        (log,) = loggers.named(tool)
        recipe = named("waves", seed=seed)
        log.on_start(StartedRun(folder, recipe, {"seed": seed}, "valid_mse", (), pytest.fail))
        open_runs.append(log)
    for epoch in (1, 2):
        for seed, log in enumerate(open_runs):
            log.on_epoch({"epoch": epoch, "step": epoch, "valid_mse": 10.0 * seed + epoch})
    for log in open_runs:
        log.on_end(None)
    for seed in range(2):
        points = list(points_of(tool, tmp_path / f"seed-{seed}"))
        check_same(
            iter(points), [(epoch, {"optimiser_step": epoch, "valid_mse": 10.0 * seed + epoch}) for epoch in (1, 2)], 6
        )


def points_of(tool: str, folder: Path) -> Iterator[tuple[int, str, float]]:
    """Read what a tool has of a run: epoch, name and value."""
    if tool == "tensorboard":
        accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
        events = accumulator.EventAccumulator(str(folder / "tensorboard"))
        events.Reload()
        for name in events.Tags()["scalars"]:
            for event in events.Scalars(name):
                yield event.step, name, event.value
    elif tool == "wandb":
        for file in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
            for record in wandb_records(file):
                for item in record.history.item:
                    name = item.key or item.nested_key[0]
                    # Its own begin with an underscore.
                    if not name.startswith("_"):
                        yield record.history.step.num, name, float(item.value_json)
    else:
        storage = pytest.importorskip("trackio.sqlite_storage").SQLiteStorage
        (run,) = [run for run in storage.get_runs("jaxseq") if run.startswith(folder.name)]
        for log in storage.get_logs("jaxseq", run):
            for name, value in log.items():
                if name not in ("step", "timestamp"):
                    yield log["step"], name, value


def trackio_store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point trackio, which reads its place when it is imported, to a folder."""
    place = folder / "trackio"
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "trackio" and hasattr(module, "TRACKIO_DIR"):
            monkeypatch.setattr(module, "TRACKIO_DIR", place)
    monkeypatch.setenv("TRACKIO_DIR", str(place))
    return place
