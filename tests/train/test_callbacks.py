"""Callbacks: when they are called, how they stop a training, and that what they leave resumes bit for bit."""

from pathlib import Path
from typing import Any

import flax.linen as nn
import numpy as np
import optax
import pytest
from quick_compilation import quick_compilation
from quick_runs import trained, waves
from rich.console import Console
from run_contents import leaves, metrics

from jaxseq.checkpoint import records, run_seal
from jaxseq.common.errors import Interrupted
from jaxseq.train import fit, loop, study
from jaxseq.train.callbacks import Callback, StartedRun, StopTraining

pytestmark = pytest.mark.usefixtures("compiled_quickly")


class Pruned(Exception):
    """An exception of somebody else's, as Optuna's TrialPruned."""


class Seen(Callback):
    """Writes down every call, and raises an error after an epoch."""

    def __init__(self, at: int = 0, error: Exception | None = None) -> None:
        self.calls: list[Any] = []
        self.at = at
        self.error = error

    def on_start(self, run: StartedRun) -> None:
        self.started = run
        self.calls.append(("start", len(run.rows)))

    def on_epoch(self, row: dict[str, Any]) -> None:
        # The row is on the disk by now.
        lines = (self.started.folder / "metrics.jsonl").read_text().splitlines()
        self.calls.append((row["epoch"], len(lines)))
        row.clear()
        if len(lines) == self.at and self.error is not None:
            raise self.error

    def on_end(self, error: BaseException | None) -> None:
        self.calls.append(("end", type(error)))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four epochs."""
    with quick_compilation():
        return trained(tmp_path_factory.mktemp("undisturbed") / "run")


def same(folder: Path, undisturbed: Path) -> bool:
    predictions = "predictions.csv"
    return (
        leaves(folder) == leaves(undisturbed)
        and metrics(folder) == metrics(undisturbed)
        and (folder / predictions).read_bytes() == (undisturbed / predictions).read_bytes()
    )


def test_callbacks_are_called_in_order_and_change_nothing(tmp_path: Path, undisturbed: Path) -> None:
    seen = Seen()
    folder = trained(tmp_path / "run", [seen])
    assert seen.calls == [("start", 0), (1, 1), (2, 2), (3, 3), (4, 4), ("end", type(None))]
    assert (seen.started.folder, seen.started.metric) == (folder, "valid_mse")
    assert seen.started.experiment == waves() and seen.started.config["epochs"] == 4
    assert same(folder, undisturbed)

    # With nothing left to train, they see the rows.
    again = Seen()
    trained(folder, [again])
    assert again.calls == [("start", 4), ("end", type(None))]


def test_a_pruned_run_resumes_as_if_it_had_not_been(tmp_path: Path, undisturbed: Path) -> None:
    seen, other = Seen(at=2, error=Pruned("bad")), Seen()
    with pytest.raises(Pruned):
        trained(tmp_path / "run", [other, seen])
    assert seen.calls == [("start", 0), (1, 1), (2, 2), ("end", Pruned)] and other.calls == seen.calls
    assert records.latest_epoch(tmp_path / "run" / "checkpoints") == 2
    assert not run_seal.has_judgement(tmp_path / "run")
    assert list(run_seal.damage(tmp_path / "run")) == []
    assert same(trained(tmp_path / "run"), undisturbed)


@pytest.mark.slow
def test_a_callback_that_stops_the_training_ends_the_run_and_resuming_trains_the_rest(
    tmp_path: Path, undisturbed: Path
) -> None:
    seen, after = Seen(at=2, error=StopTraining("good enough")), Seen()
    folder = trained(tmp_path / "run", [seen, after])
    # All of them have seen the last epoch, and its end is no error.
    assert seen.calls == after.calls == [("start", 0), (1, 1), (2, 2), ("end", type(None))]
    assert run_seal.judged_damage(folder) == []
    judged = run_seal.read_judged(folder)
    assert judged is not None and judged.epochs == 2
    assert same(trained(folder), undisturbed)
    assert (folder / "judged-2").is_dir()


def test_a_start_that_fails_ends_those_that_have_started(tmp_path: Path) -> None:
    class Broken(Callback):
        def on_start(self, run: StartedRun) -> None:
            raise Pruned

    seen = Seen()
    with pytest.raises(Pruned):
        trained(tmp_path / "run", [seen, Broken()])
    assert seen.calls == [("start", 0), ("end", Pruned)]


def test_a_signal_reaches_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Seen()
    with monkeypatch.context() as patch:
        patch.setattr(loop.processes, "largest", lambda status: 130)
        with pytest.raises(Interrupted):
            trained(tmp_path / "run", [seen])
    assert seen.calls == [("start", 0), (1, 1), ("end", Interrupted)]


@pytest.mark.slow
def test_a_study_calls_them_for_each_run(tmp_path: Path) -> None:
    seen = Seen()
    study.study(waves(epochs=1), seeds=2, out=tmp_path / "study", console=Console(quiet=True), callbacks=[seen])
    assert seen.calls == 2 * [("start", 0), (1, 1), ("end", type(None))]


@pytest.mark.slow
def test_a_module_of_the_user_s_is_stopped_as_well(tmp_path: Path) -> None:
    x = np.ones((40, 3), np.float32)
    seen = Seen(at=2, error=StopTraining())
    trained_module = fit.train(
        nn.Dense(1),
        (x, x[:, :1]),
        valid=(x, x[:, :1]),
        loss=optax.squared_error,
        epochs=3,
        out=tmp_path / "run",
        console=Console(quiet=True),
        callbacks=[seen],
    )
    assert len(trained_module.history) == 2
    assert seen.calls == [("start", 0), (1, 1), (2, 2), ("end", type(None))]
