"""The start of a forecaster: a ridge regression on the window, and a number of epochs that the rows decide."""

from __future__ import annotations

import json
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import optax
import pandas as pd
import pytest

from jaxseq.common.arrays import Batch
from jaxseq.common.errors import UsageError
from jaxseq.data.table import Table
from jaxseq.forecasting import ridge
from jaxseq.nn import apply
from jaxseq.train import __main__ as train
from jaxseq.train import fit, refit, run_folder
from jaxseq.train.domains import forecasts
from jaxseq.train.experiments import base, from_config, named
from jaxseq.train.experiments.config import to_config
from jaxseq.train.experiments.forecasts import ForecastExperiment, Model
from jaxseq.train.job import initial_state

WINDOW = 8
ROWS = 60


def frame() -> pd.DataFrame:
    """A short series that leans on its last change."""
    noise = np.random.default_rng(0).normal(size=ROWS)
    changes = np.zeros(ROWS)
    for step in range(1, ROWS):
        changes[step] = -0.6 * changes[step - 1] + noise[step]
    return pd.DataFrame({"date": pd.date_range("2020-01-01", periods=ROWS), "y": 50 + changes.cumsum()})


def experiment(**fields: object) -> ForecastExperiment:
    data = Table.from_frame(frame(), column="y", window=WINDOW)
    made = named("table", **{"data": data, "model": Model(hidden=3), "epochs": 2, **fields})
    assert isinstance(made, ForecastExperiment)
    return made


@pytest.mark.usefixtures("compiled_quickly")
def test_the_network_begins_as_the_regression() -> None:
    job = forecasts.prepare(experiment(task="direct", horizon=2, seed=3))
    state = initial_state(job)
    fitted = ridge.fit(job.batches.train, job.batches.valid, ridge.ages(job.material.windows.train.series, 2))
    assert fitted is not None

    predicted = apply.apply(job.setup.model, state.params, state.stats, job.data.valid.x)

    rows = np.asarray(job.batches.valid.x, float)
    expected = rows.reshape(len(rows), -1) @ fitted.weights + fitted.intercept
    np.testing.assert_allclose(predicted, expected, rtol=1e-4, atol=1e-5)
    assert job.fitted["ridge"] == {"penalty": fitted.penalty, "decay": fitted.decay}
    assert any("begins as a ridge regression" in note for note in job.notes)


def test_strategies_and_heads_without_a_map_of_the_window_to_a_point_draw_their_weights() -> None:
    for fields in ({"task": "every-step"}, {"task": "iterated"}, {"model": Model(head="gaussian")}):
        assert not experiment(**fields).starts_from_ridge
        with pytest.raises(UsageError) as raised:
            experiment(**fields, start="ridge")
        assert raised.value.where == "--start"
    assert experiment().starts_from_ridge and experiment(start="ridge").starts_from_ridge
    assert not named("waves").starts_from_ridge  # pyrefly: ignore[missing-attribute]


def test_a_run_of_an_earlier_version_has_no_regression() -> None:
    config = to_config(named("table", data=Table(path="sales.csv"), epochs=2))
    assert from_config(config, "config.json").start == "auto"  # pyrefly: ignore[missing-attribute]
    del config["start"]
    assert from_config(config, "config.json").start == "random"  # pyrefly: ignore[missing-attribute]


@pytest.mark.parametrize(
    ("steps", "patience", "decided"),
    [(1, None, (500, 125)), (2, 7, (500, 7)), (50, None, (40, 10)), (100, None, (20, None)), (5_000, None, (20, None))],
)
def test_few_steps_an_epoch_make_more_epochs_with_patience(
    steps: int, patience: int | None, decided: tuple[int, int | None]
) -> None:
    asked = experiment(epochs="auto", patience=patience)

    resolved = base.with_epochs_of(asked, steps)

    assert (resolved.epochs, resolved.patience) == decided
    assert base.with_epochs_of(experiment(), steps) == experiment()


def test_a_batch_of_automatic_epochs_has_at_most_all_rows() -> None:
    assert base.with_batch_of(experiment(epochs="auto"), 20, devices=1).batch == 20
    assert base.with_batch_of(experiment(epochs="auto"), 21, devices=4).batch == 24
    assert base.with_batch_of(experiment(epochs="auto"), 40, devices=1).batch == 32
    with pytest.raises(UsageError) as raised:
        forecasts.prepare(experiment(batch=64))
    assert raised.value.where == "--batch"


@pytest.mark.usefixtures("compiled_quickly")
def test_the_first_command_says_how_long_it_trains_and_resumes_by_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(base, "LEAST_EPOCHS", 1)
    monkeypatch.setattr(base, "MOST_EPOCHS", 3)
    frame().to_csv("sales.csv", index=False)
    small = ["--data.window", str(WINDOW), "--model.hidden", "3", "--batch", "64"]
    assert train.main(["table", "--data.path", "sales.csv", "--data.column", "y", *small, "--out", "whole"]) == 0

    rows = int(ROWS * 0.7) - WINDOW
    assert f"{rows} training rows, 1 step an epoch: at most 3 epochs; training stops after 1" in capsys.readouterr().out
    batch = -(-rows // jax.device_count()) * jax.device_count()
    config = run_folder.read_config(Path("whole"))
    assert (config["epochs"], config["patience"], config["batch"], config["start"]) == (3, 1, batch, "auto")
    trained = len(run_folder.read_metrics(Path("whole")))

    # Trained anew from its first state, it is the same run.
    before = [row["valid_mse"] for row in run_folder.read_metrics(Path("whole"))]
    assert train.main(["--resume", "whole", "--from-epoch", "0"]) == 0
    assert [row["valid_mse"] for row in run_folder.read_metrics(Path("whole"))] == before
    assert len(before) == trained

    refit.refit("whole")
    assert json.loads(Path("whole/refit/config.json").read_text())["ridge"] == config["ridge"]


def test_a_training_from_python_has_a_number_of_epochs() -> None:
    rows = Batch(np.zeros((40, 2), np.float32), np.zeros((40, 1), np.float32))
    with pytest.raises(UsageError) as raised:
        fit.train(nn.Dense(1), rows, valid=rows, loss=optax.squared_error, epochs="auto")  # pyrefly: ignore
    assert raised.value.got == "auto"
