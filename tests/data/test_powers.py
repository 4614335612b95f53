"""Power transforms and scales of a window: by scipy and by their formulas, and the way back."""

import dataclasses
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given
from sales_tables import TABLE, sales

from jaxseq import forecast, score
from jaxseq.common.errors import UsageError
from jaxseq.data import powers, window_scales
from jaxseq.data.fitting import check_reach, fit_scaling
from jaxseq.data.scaling import Scaling
from jaxseq.data.targets import Options
from jaxseq.data.windows import Series, cut, lay_out
from jaxseq.export import __main__ as exporting
from jaxseq.forecasting import calibration
from jaxseq.forecasting.part import Part
from jaxseq.train import __main__ as train
from jaxseq.train import forecaster

WINDOW = 12
exponents = st.floats(powers.LEAST_EXPONENT, 1) | st.just(0.0)


def growing(n=120, seed=0):
    """A series whose changes grow with its level."""
    return 50 * np.exp(np.cumsum(0.05 * np.random.default_rng(seed).standard_normal(n)))


def windows_of(values, horizon=3):
    return cut(Series(np.arange(len(values)), values), WINDOW, horizon, 0, len(values))


@pytest.mark.parametrize("exponent", [0.0, 0.3, 1.0])
def test_values_are_bent_as_scipy_bends_them(exponent):
    values = growing()
    ours = powers.bend(values[None], np.array([[exponent]]))[0]
    np.testing.assert_allclose(ours, scipy.stats.boxcox(values, lmbda=exponent), rtol=1e-12)


@given(value=st.floats(1e-3, 1e9), exponent=exponents)
def test_the_inverse_gives_the_value_back(value, exponent):
    exponent_of_row = np.array([[exponent]])
    back = powers.unbend(powers.bend(np.array([[value]]), exponent_of_row), exponent_of_row)
    assert back[0, 0] == pytest.approx(value, rel=1e-9)


@given(numbers=st.lists(st.floats(-1e6, 300), min_size=2, max_size=9), exponent=exponents)
def test_the_inverse_never_falls_and_stays_above_zero(numbers, exponent):
    values = powers.unbend(np.sort(numbers)[None], np.array([[exponent]]))[0]
    assert np.all(np.diff(values) >= 0)
    # Of a logarithm below -745 float64 has no exponential.
    assert np.all((values > 0) | ((exponent == 0) & (np.sort(numbers) < -700))) and np.all(np.isfinite(values))


def test_the_exponent_of_values_is_that_of_scipy():
    values = np.random.default_rng(0).gamma(2, 10, 400)
    _, theirs = scipy.stats.boxcox(values)
    assert powers.fit("box-cox", values, None) == pytest.approx(theirs, abs=1e-4)
    ours = [powers.likelihood(exponent, values, None) for exponent in (0.0, 0.5, 1.0)]
    scipys = [scipy.stats.boxcox_llf(exponent, values) for exponent in (0.0, 0.5, 1.0)]
    np.testing.assert_allclose(np.diff(ours), np.diff(scipys), rtol=1e-9)


def test_the_exponent_is_the_one_whose_changes_have_one_variance():
    walk = np.cumsum(np.random.default_rng(0).standard_normal(2000))
    assert powers.fit("box-cox", np.exp(0.1 * walk), 1) == 0
    assert powers.fit("box-cox", (walk - walk.min() + 20) ** 2, 1) == pytest.approx(0.5, abs=0.1)
    assert powers.fit("box-cox", walk - walk.min() + 5, 1) > 0.9
    assert powers.fit("log", walk - walk.min() + 5, 1) == 0
    missing = np.exp(0.1 * walk)
    missing[::7] = np.nan
    assert powers.fit("box-cox", missing, 1) == 0


def test_a_change_of_the_logarithm_is_a_log_return():
    values = growing()
    windows = windows_of(values)
    ours = fit_scaling("change", [values], power="log")
    returns = fit_scaling("log-return", [values])
    np.testing.assert_allclose(ours.inputs(windows), returns.inputs(windows), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ours.targets(windows), returns.targets(windows), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        ours.targets_at_every_step(windows), returns.targets_at_every_step(windows), rtol=1e-9, atol=1e-12
    )
    theirs = Part(windows, returns).volatility
    np.testing.assert_allclose(Part(windows, ours).volatility, theirs, rtol=1e-9)
    series = [Series(np.arange(len(values)), values)]
    np.testing.assert_allclose(
        Part(windows, ours, series).volatility, Part(windows, returns, series).volatility, rtol=1e-9
    )
    assert calibration.available(Part(windows, ours)) == calibration.available(Part(windows, returns))


@pytest.mark.parametrize("kind", ["change", "season", "level"])
@pytest.mark.parametrize("scale", ["", *window_scales.SCALES])
@pytest.mark.parametrize("power", ["none", "log", "box-cox"])
def test_every_target_is_given_back_in_units(kind, scale, power):
    values = growing()
    lag = 4 if kind == "season" else 1
    scaling = fit_scaling(kind, [values], lag=lag, by_window=bool(scale), window_scale=scale, power=power)
    windows = windows_of(values)
    targets = scaling.targets(windows)
    np.testing.assert_allclose(scaling.invert(targets, windows), windows.targets, rtol=1e-9)
    # As sample paths have it, with an axis before the rows.
    np.testing.assert_allclose(scaling.invert(targets[None], windows)[0], windows.targets, rtol=1e-9)


def test_a_window_is_scaled_by_its_mean_its_median_or_its_last_value():
    values = growing()
    windows = windows_of(values)
    of_series = fit_scaling("level", [values])
    last = windows.inputs[:, -1:]
    median = np.median(windows.inputs, axis=1, keepdims=True)
    wanted = {
        "window-mean": (0 * last, windows.inputs.mean(axis=1, keepdims=True)),
        "window-median": (median, np.median(np.abs(windows.inputs - median), axis=1, keepdims=True)),
        "window-last": (last, last),
    }
    for name, (shift, scale) in wanted.items():
        scaling = fit_scaling("level", [values], by_window=True, window_scale=name, scale_input=True)
        scale = np.maximum(scale, 0.1 * of_series.scale[0])
        x = scaling.inputs(windows)
        assert x.shape[2] == scaling.features == 2
        np.testing.assert_allclose(x[..., 0], (windows.inputs - shift) / scale, rtol=1e-12)
        np.testing.assert_allclose(x[..., 1], np.log(scale / of_series.scale[0]) * np.ones(WINDOW), rtol=1e-12)
        np.testing.assert_allclose(scaling.targets(windows), (windows.targets - shift) / scale, rtol=1e-12)


def test_values_that_are_not_above_zero_are_refused_with_their_place():
    values = growing()
    values[7] = 0
    with pytest.raises(UsageError, match=r"north': transform log .* the first in row 8 \(0\)"):
        fit_scaling("change", [values], ["north"], power="log")
    scaling = fit_scaling("change", [growing()], power="log")
    with pytest.raises(UsageError, match="in row 1"):
        scaling.inputs(windows_of(values))


def test_a_value_beyond_reach_is_refused_with_a_power_as_without():
    values = growing()
    scaling = fit_scaling("change", [values], ["north"], power="box-cox")
    values = np.append(values, 1e60)
    with pytest.raises(UsageError, match=r"'north': 1e\+60 at 120 lies .* away"):
        check_reach(dataclasses.replace(scaling, exponents=(1.0,)), [Series(np.arange(121), values)], ["north"])


def test_the_scale_of_a_series_is_read_relative_to_the_geometric_mean_of_all():
    source = np.random.default_rng(0)
    walks = [size * np.cumsum(source.normal(size=60)) for size in (1.0, 10.0)]
    scaling = fit_scaling("change", walks, ["small", "large"], scale_input=True)
    logs = np.log([np.diff(values).std() for values in walks])
    part = lay_out(np.stack([values[:5] for values in walks]), np.zeros((2, 1)), series=np.array([0, 1]))
    x = scaling.inputs(part)
    assert x.shape == (2, 5, 2) and scaling.features == 2
    np.testing.assert_allclose(x[..., 1], np.repeat((logs - logs.mean())[:, None], 5, axis=1))
    # That of a new series is relative to those of the training.
    alone = dataclasses.replace(scaling, shift=scaling.shift[1:], scale=scaling.scale[1:])
    np.testing.assert_array_equal(alone.inputs(part.take(np.array([1]))._replace(series=np.array([0]))), x[1:])


@pytest.mark.parametrize(
    ("options", "where"),
    [
        (Options("log-return", power="log"), "--data.transform"),
        (Options("count", power="box-cox"), "--data.transform"),
        (Options("amount", "window-mean"), "--data.scale"),
    ],
)
def test_what_does_not_go_together_is_refused(options, where):
    with pytest.raises(UsageError) as raised:
        options.check("table")
    assert raised.value.where == where
    with pytest.raises(UsageError):
        Scaling("change", (0.0,), (1.0,), power="root")


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_quickly")
def test_a_run_with_a_power_is_trained_forecast_scored_and_refitted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sales(tmp_path / "sales.csv", "north", "south")
    words = ["table", "--data.path", str(path), "--data.column", "sales", "--data.series", "store", *TABLE]
    words += [
        "--data.window",
        "16",
        "--data.transform",
        "box-cox",
        "--data.scale",
        "window-median",
        "--data.scale-input",
    ]
    words += ["--task", "direct", "--horizon", "3", "--seeds", "2", "--ensemble", "--refit"]
    assert train.main([*words, "--out", str(tmp_path / "study")]) == 0
    assert forecast.main([str(tmp_path / "study"), "--paths", "5"]) == 0
    run = tmp_path / "study" / "fold-1-seed-0"
    scaling = forecaster.restore(run).scaling
    assert (scaling.power, scaling.window_scale, scaling.scale_input) == ("box-cox", "window-median", True)
    assert len(scaling.exponents) == 2

    # A series that the run does not know has an exponent of its own.
    frame = pd.read_csv(path)
    assert forecast.main([str(run), "--data.path", str(sales(tmp_path / "new.csv", "east", "north"))]) == 0
    later = frame[frame.date == frame.date.max()].assign(date="2021-05-01")
    assert np.isfinite(score.score(run, later).comparison.model.skill)
    for form, status in {"onnx": 2, "stablehlo": 2, "torch": 2, "safetensors": 0}.items():
        assert exporting.main([str(run), "--to", form, "--out", str(tmp_path / form)]) == status
    assert "--data.transform box-cox" in capsys.readouterr().err
