"""Missing values through training: targets without weight, a mask as an input, and forecasts from filled windows."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from pairwise import slow_except
from problems import quickly

from jaxseq import forecast
from jaxseq.common.errors import UsageError
from jaxseq.data.table import Table
from jaxseq.nn import apply
from jaxseq.train import __main__ as train
from jaxseq.train import epoch, forecaster
from jaxseq.train.domains import forecasts
from jaxseq.train.experiments import named
from jaxseq.train.experiments.forecasts import Model
from jaxseq.train.job import initial_state

pytestmark = pytest.mark.usefixtures("compiled_quickly")

WINDOW = 6
DAYS = pd.date_range("2021-01-01", periods=120).astype(str)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A daily series with a fifth of its values missing, the last two among them."""
    random = np.random.default_rng(3)
    values = 50 + np.cumsum(random.normal(size=len(DAYS)))
    is_missing = random.random(len(DAYS)) < 0.2
    is_missing[:2] = False
    is_missing[-2:] = True
    file = tmp_path_factory.mktemp("missing") / "walk.csv"
    rows = [f"{day},{'' if missing else value}" for day, value, missing in zip(DAYS, values, is_missing, strict=True)]
    file.write_text("\n".join(["date,value", *rows]) + "\n")
    return file


def experiment(path, **fields):
    data = Table(path=str(path), window=WINDOW, missing="fill")
    return named("table", data=data, batch=16, **fields)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "horizon", "head"),
    slow_except(
        {("direct", 3, "quantile"), ("every-step", 3, "student-t")},
        [
            ("one-step", 1, "point"),
            ("direct", 3, "quantile"),
            ("every-step", 3, "student-t"),
            ("iterated", 3, "gaussian"),
        ],
    ),
)
def test_every_strategy_trains_on_the_known_targets_alone(path, task, horizon, head):
    job = forecasts.prepare(experiment(path, task=task, horizon=horizon, model=Model("rnn", 3, head=head)))
    train_y = job.batches.train.y
    assert job.batches.train.x.shape[2] == 2 and np.all(np.isfinite(job.batches.train.x))
    if horizon > 1 and task != "iterated":
        assert np.isnan(train_y).any()
    assert np.isfinite(train_y).reshape(len(train_y), -1).any(axis=1).all()

    state, log = epoch.epoch(job.setup, initial_state(job), job.data.train, job.experiment.batch)
    assert np.isfinite(log.loss).all() and np.isfinite(log.gradient_norm).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))

    metrics = epoch.evaluate(job.setup, state.params, state.stats, job.data.valid, 64)
    raw = quickly(apply.apply, "model")(job.setup.model, state.params, state.stats, jnp.asarray(job.batches.valid.x))
    at_end = job.setup.objective.at_end
    centre = job.experiment.head.centre(at_end(raw).reshape(len(raw), -1, job.experiment.head.width))
    errors = np.asarray(centre) - np.asarray(at_end(jnp.asarray(job.batches.valid.y)))
    np.testing.assert_allclose(metrics["mse"], np.nanmean(errors**2), rtol=1e-5)


def test_without_missing_values_the_objective_is_the_plain_one(path):
    plain = named("table", data=Table(path=str(path), window=WINDOW))
    assert plain.objective() is named("aapl").objective()
    assert plain.objective() is not experiment(path).objective()


@pytest.fixture(scope="module")
def run(path, tmp_path_factory):
    """A finished run of one step ahead."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    words = f"table --data.path {path} --data.missing fill --data.window {WINDOW} --model.cell rnn --model.hidden 3"
    assert train.main([*words.split(), "--epochs", "2", "--lr", "0.05", "--batch", "16", "--out", str(folder)]) == 0
    return folder


def test_a_run_keeps_its_mask_and_forecasts_what_it_wrote(run, path):
    assert json.loads((run / "config.json").read_text())["scaling"]["masks"] == [0]
    trained = forecaster.restore(run)
    assert trained.scaling.masks == (0,)
    test = Table(path=str(path), window=WINDOW, missing="fill").load(1).windows.test
    written = pd.read_csv(run / "predictions.csv")
    centre, _ = trained.forecast(test, trained.scaling)
    np.testing.assert_allclose(centre[:, 0], written["forecast"], atol=1e-4)
    unmasked, _ = trained.forecast(test._replace(filled=np.zeros_like(test.filled)), trained.scaling)
    assert np.abs(centre - unmasked).max() > 1e-3


def test_missing_values_at_the_end_are_filled_for_the_forecast(run, path):
    table, notes = forecast.forecast(run)
    trained = forecaster.restore(run)
    panel = Table(path=str(path), window=WINDOW, missing="fill").panel()
    last = panel.last_windows(WINDOW, 1)
    assert last.filled[0, -2:, 0].tolist() == [True, True]
    assert last.inputs[0, -1] == last.inputs[0, -3]
    expected, _ = trained.forecast(last, trained.scaling)
    np.testing.assert_allclose(table["forecast"], expected[0], rtol=1e-6)
    assert str(table["date"][0])[:10] == "2021-05-01"
    assert any("filled with the last known one" in note for note in notes)


def test_data_without_a_missing_value_are_forecast_with_a_mask_of_zeros(run, tmp_path):
    file = tmp_path / "whole.csv"
    values = 50 + np.cumsum(np.random.default_rng(4).normal(size=len(DAYS)))
    file.write_text("date,value\n" + "".join(f"{day},{value}\n" for day, value in zip(DAYS, values, strict=True)))
    panel = Table(path=str(file), window=WINDOW).panel()
    trained = forecaster.restore(run)
    last = panel.last_windows(WINDOW, 1)
    assert last.filled.shape == (1, WINDOW, 0) and len(forecast.forecast(run, panel).table) == 1
    centre, _ = trained.forecast(last, trained.scaling)
    np.testing.assert_allclose(centre[0], trained(values[-WINDOW:]), rtol=1e-6)
    with pytest.raises(UsageError, match="not finite"):
        trained(np.where(np.arange(WINDOW) == 2, np.nan, values[-WINDOW:]))
