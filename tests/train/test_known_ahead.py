"""Covariates that are known ahead, through training: what only they explain is forecast, and nothing later is read."""

import dataclasses
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from quickened import quicken
from rich.console import Console

from jaxseq import forecast, score
from jaxseq.common.errors import UsageError
from jaxseq.data import calendar
from jaxseq.data.table import Table
from jaxseq.export import __main__ as export
from jaxseq.train import __main__ as train
from jaxseq.train import epoch, forecaster, run
from jaxseq.train.domains import forecasts
from jaxseq.train.experiments import named
from jaxseq.train.experiments.forecasts import Model
from jaxseq.train.job import initial_state
from jaxseq.train.saved_experiment import saved_experiment

pytestmark = pytest.mark.usefixtures("compiled_quickly")

ROWS = 400
DAYS = pd.date_range("2020-01-01", periods=ROWS)
DRAW = np.random.default_rng(5)
DRAWN = DRAW.random(ROWS) < 0.4
"""Days on which something happens that no value foretells."""
VALUES = 4.0 * DRAWN + DRAW.normal(0, 0.3, ROWS)


@pytest.fixture(autouse=True)
def holidays(monkeypatch):
    """A package in which the days that were drawn are holidays of XY, and others those of ZZ."""

    def country_holidays(country, subdiv, years):
        days = DRAWN if country == "XY" else np.random.default_rng(6).permutation(DRAWN)
        return [day.date().isoformat() for day in DAYS[days]]

    monkeypatch.setitem(sys.modules, "holidays", SimpleNamespace(country_holidays=country_holidays))
    calendar._holidays.cache_clear()
    yield
    calendar._holidays.cache_clear()


def job(task="direct", horizon=3, beside=None, **fields):
    frame = pd.DataFrame({"date": DAYS, "y": VALUES}).assign(**(beside or {}))
    data = Table.from_frame(frame, column="y", window=4, **fields)
    model = Model("gru", 12)
    experiment = named("table", data=data, model=model, task=task, horizon=horizon, batch=16, lr=0.02)
    return forecasts.prepare(experiment)


def error(trained_job, epochs=6):
    """Mean squared error of the validation part, relative to the variance of its values."""
    batch = trained_job.experiment.batch
    state = initial_state(trained_job)
    train, valid = trained_job.data.train, trained_job.data.valid
    *_, last = epoch.epochs(trained_job.setup, state, train, valid, batch, range(1, epochs + 1))
    scale = trained_job.material.scaling.scale[0]
    return last.valid["mse"] * scale**2 / VALUES.var()


@pytest.mark.slow
@pytest.mark.parametrize(("task", "horizon"), [("direct", 3), ("one-step", 1)])
def test_what_only_the_calendar_explains_is_forecast_by_it_and_not_by_another(task, horizon):
    known, none, other = (error(job(task, horizon, calendar=text)) for text in ("holidays:XY", "", "holidays:ZZ"))
    print(known, none, other)
    assert known < 0.15 and none > 0.8 and other > 0.8


def test_what_only_a_column_of_later_rows_explains_is_forecast_by_it_and_not_by_another():
    beside = {"plan": DRAWN, "shuffled": np.random.default_rng(6).permutation(DRAWN)}
    known, other = (error(job(beside=beside, future=name)) for name in beside)
    print(known, other)
    assert known < 0.15 and other > 0.8


@pytest.mark.slow
def test_what_only_a_static_column_explains_is_forecast_by_it_and_not_by_another():
    """Two kinds of series at random, one of which doubles the last change where the other takes it back."""
    draw = np.random.default_rng(8)
    frames = []
    for number in range(40):
        is_rising = number % 2
        walk = draw.normal(0, 0.1, 41)
        changes = draw.choice([-1.0, 1.0], 41)
        # Pairs of changes: the second is the first one again, or taken back.
        changes[1::2] = np.where(is_rising, 1, -1) * changes[:-1:2]
        frame = pd.DataFrame({"date": DAYS[:41], "y": np.cumsum(changes + walk), "shop": number})
        frames.append(frame.assign(kind=is_rising, other=number % 3))
    table = pd.concat(frames)
    errors = []
    for static in ("kind", "other"):
        data = Table.from_frame(table, column="y", series="shop", window=3, static=static, test_rows=4)
        experiment = named("table", data=data, model=Model("gru", 12), batch=32, lr=0.02)
        errors.append(error(forecasts.prepare(experiment), epochs=10))
    print(errors)
    assert errors[0] < 0.8 * errors[1]


@pytest.mark.parametrize("task", ["direct", "iterated"])
def test_each_step_of_a_forecast_reads_what_is_known_of_its_row_and_of_none_later(task):
    prepared = job(task, calendar="holidays:XY")
    state = initial_state(prepared)
    part = prepared.material.windows.test
    centre = forecasts.forecaster.forecast(prepared, state, part).centre
    for step in range(3):
        known = part.known.copy()
        known[:, 4 + step] = 1 - known[:, 4 + step]
        changed = forecasts.forecaster.forecast(prepared, state, part._replace(known=known)).centre
        is_other = np.abs(changed - centre).max(axis=0) > 1e-6
        assert is_other.tolist() == [number >= step for number in range(3)]


def test_an_iterated_forecast_is_the_one_step_forecast_of_every_row_after_the_other():
    prepared = job("iterated", calendar="holidays:XY")
    state = initial_state(prepared)
    part = prepared.material.windows.test
    scaling = prepared.material.scaling
    steps = np.diff(forecasts.forecaster.forecast(prepared, state, part).centre, prepend=0, axis=1)

    x = scaling.inputs(part)[:, :4]
    ahead = scaling.ahead(part)
    for step in range(3):
        _, raw = prepared.setup.model.apply({"params": state.params}, jnp.asarray(x, jnp.float32))
        np.testing.assert_allclose(steps[:, step], raw[:, 0], atol=1e-5)
        if step < 2:
            following = np.concatenate([np.asarray(raw), ahead[:, 5 + step]], axis=1)
            x = np.concatenate([x, following[:, None]], axis=1)


@pytest.mark.parametrize("fields", [{"task": "every-step"}, {"task": "every-step", "horizon": 1, "stateful": True}])
def test_a_strategy_that_reads_one_row_ahead_alone_is_refused(fields):
    with pytest.raises(UsageError, match=r"each time step reads what is known of one row ahead.*direct, iterated"):
        job(calendar="weekday", **fields)


def test_a_head_beyond_the_window_is_one_for_all_steps():
    params = initial_state(job(calendar="weekday")).params
    assert params["head"]["kernel"].shape == (12, 1)
    plain = initial_state(job()).params
    assert plain["head"]["kernel"].shape == (12, 3)
    # A value, seven weekdays, and the mark of time steps beyond the window.
    assert jax.tree.leaves(params["recurrent_0"]["cell"]["input_kernel"])[0].shape[0] == 9


def test_a_skip_reads_what_is_known_ahead():
    experiment = job(calendar="weekday").experiment
    model = dataclasses.replace(experiment.model, skip=True)
    skipping = forecasts.prepare(dataclasses.replace(experiment, model=model))
    assert initial_state(skipping).params["skip"]["kernel"].shape == ((4 + 2) * 8, 3)


# Through every command -------------------------------------------------------------------------------------------------

KNOWN = "--data.future plan --data.static kind --data.calendar weekday"
"""Covariates of every kind that is known ahead."""


@pytest.fixture(scope="module")
def shops(tmp_path_factory):
    """Folder of a table of two series, of the rows that came later, and of a finished run with its refit."""
    folder = tmp_path_factory.mktemp("shops")
    frames = []
    for number, shop in enumerate("ab"):
        frame = pd.DataFrame({"date": DAYS[:130], "shop": shop, "sold": VALUES[:130] * (number + 1)})
        frames.append(frame.assign(plan=DRAWN[:130].astype(int), kind=f"kind {shop}"))
    table = pd.concat(frames)
    is_later = table["date"] >= DAYS[125]
    table[~is_later].to_csv(folder / "sales.csv", index=False)
    table[is_later].to_csv(folder / "later.csv", index=False)
    table[is_later].drop(columns=["sold", "kind"]).to_csv(folder / "plan.csv", index=False)
    table.assign(sold=table["sold"].where(~is_later)).to_csv(folder / "planned.csv", index=False)
    words = f"table --data.path {folder}/sales.csv --data.column sold --data.series shop {KNOWN} --data.window 4"
    words += " --task direct --horizon 5 --model.hidden 3 --epochs 2 --batch 32 --refit"
    with pytest.MonkeyPatch.context() as patch:
        quicken(patch)
        assert train.main([*words.split(), "--out", f"{folder}/run"]) == 0
    return folder


@pytest.fixture
def quickened(monkeypatch):
    quicken(monkeypatch)


def line_of(capsys):
    """The last line of what a command says of a mistake."""
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_a_forecast_needs_the_rows_that_are_known_ahead(shops, quickened, capsys):
    assert forecast.main([f"{shops}/run", "--out", f"{shops}/none.csv"]) == 2
    assert "sales.csv: row 126, column 'plan', series 'a'" in line_of(capsys)
    assert not (shops / "none.csv").exists()

    assert forecast.main([f"{shops}/run", f"{shops}/plan.csv", "--out", f"{shops}/by_plan.csv"]) == 0
    assert "forecast by the refit" in capsys.readouterr().out
    words = [f"{shops}/run", "--data.path", f"{shops}/planned.csv", "--out", f"{shops}/by_rows.csv"]
    assert forecast.main(words) == 0
    assert (shops / "by_plan.csv").read_bytes() == (shops / "by_rows.csv").read_bytes()

    # Only the rows that are asked for are read.
    plan = pd.read_csv(shops / "plan.csv")
    plan.groupby("shop").head(2).to_csv(shops / "two_rows.csv", index=False)
    fewer = [f"{shops}/run", f"{shops}/two_rows.csv", "--horizon", "2", "--out", f"{shops}/fewer.csv"]
    assert forecast.main(fewer) == 0
    by_plan, first = (pd.read_csv(shops / f"{name}.csv") for name in ("by_plan", "fewer"))
    pd.testing.assert_frame_equal(first, by_plan[by_plan["step"] <= 2].reset_index(drop=True))


def test_other_covariates_than_in_training_are_refused(shops, quickened, capsys):
    assert forecast.main([f"{shops}/run", f"{shops}/plan.csv", "--data.future", "kind"]) == 2
    line = line_of(capsys)
    assert "--data.future" in line and "needed plan" in line


def test_a_score_judges_the_forecast_by_the_rows_that_came(shops, quickened):
    result = score.score(shops / "run", shops / "later.csv", refit=False)
    trained = forecaster.restore(shops / "run")
    expected = trained.predict(shops / "planned.csv").table["forecast"]
    np.testing.assert_allclose(result.values["forecast"], expected, rtol=1e-6)


def test_the_report_says_that_true_values_stood_for_plans(shops):
    report = (shops / "run/report.md").read_text()
    assert "plan; validation and test read their true values" in report
    assert "covariates with texts, an input of the network for each text of the training rows: 'kind' (2)" in report


def test_only_the_parameters_are_exported(shops, tmp_path, capsys):
    assert export.main([f"{shops}/run", "--to", "stablehlo", "--out", str(tmp_path / "export")]) == 2
    assert "covariates that are known ahead" in line_of(capsys)
    assert export.main([f"{shops}/run", "--to", "safetensors", "--out", str(tmp_path / "export")]) == 0


@pytest.mark.slow
def test_a_run_resumes_bit_for_bit(shops, quickened, tmp_path):
    experiment = saved_experiment(shops / "run")
    longer = dataclasses.replace(experiment, epochs=3)
    quiet = Console(quiet=True)
    whole = run.train(longer, out=tmp_path / "whole", console=quiet)
    stopped = run.train(experiment, out=tmp_path / "stopped", console=quiet)
    run.train(longer, resume=stopped, console=quiet)
    assert (whole / "predictions.csv").read_bytes() == (stopped / "predictions.csv").read_bytes()


@pytest.mark.slow
def test_a_frame_is_forecast_as_its_file(shops, quickened):
    trained = forecaster.restore(shops / "run")
    by_frame = trained.predict(pd.read_csv(shops / "planned.csv")).table
    by_file = trained.predict(shops / "planned.csv").table
    pd.testing.assert_frame_equal(by_frame, by_file)
