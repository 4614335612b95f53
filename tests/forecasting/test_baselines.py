"""Naive, seasonal naive, drift and least squares: worked by hand, exact where they should be."""

import numpy as np
import pytest
from forecasts import Past, autoregression, windows_of

from jaxseq.common.errors import UsageError
from jaxseq.data import scaling as scaling_module
from jaxseq.data import seasons
from jaxseq.data.frequency import describe
from jaxseq.data.laid_out import batch
from jaxseq.data.panel import Panel
from jaxseq.data.waves import Waves
from jaxseq.data.windows import Series, lay_out
from jaxseq.forecasting import baselines
from jaxseq.forecasting import least_squares as least_squares_module
from jaxseq.forecasting.baselines import (
    carried_forward,
    drift,
    expanding_means,
    naive,
    seasonal_naive,
    seasonal_naive_of_series,
    simple_smoothing,
    smoothed,
    training_mean,
)
from jaxseq.forecasting.least_squares import least_squares
from jaxseq.forecasting.metrics import relative_mse


def daily(*values, period=7, target="level"):
    """A panel of daily series, loaded with windows of 5 values and a horizon of 3."""
    dates = np.datetime64("2020-01-01") + np.arange(max(map(len, values)))
    series = tuple(Series(dates[: len(v)], np.asarray(v, np.float64)) for v in values)
    names = tuple(f"series {number}" for number in range(len(values)))
    return Panel(names, series, describe("D")._replace(period=period)).load(target, 5, 3)


def test_naive_repeats_the_last_value_and_drift_goes_on_with_the_mean_change():
    past = lay_out(np.array([[1.0, 2.0], [7.0, 4.0]]), np.zeros((2, 3)))
    np.testing.assert_array_equal(naive(past), [[2, 2, 2], [4, 4, 4]])
    train = lay_out(np.array([[5.0, 1.0], [5.0, 9.0]]), np.array([[9.0, 0.0], [2.0, 0.0]]))  # changes 8 and -7
    np.testing.assert_array_equal(drift(past, train), [[2.5, 3, 3.5], [4.5, 5, 5.5]])


def test_every_series_has_a_drift_of_its_own_from_known_targets():
    series = np.array([0, 0, 1])
    train = lay_out(np.zeros((3, 2)), np.array([[2.0], [np.nan], [-4.0]]), series=series)
    past = lay_out(np.zeros((2, 2)), np.zeros((2, 2)), series=np.array([1, 0]))
    np.testing.assert_array_equal(drift(past, train), [[-4, -8], [2, 4]])


def test_of_equal_forecasts_the_first_stays():
    one, other = np.ones((2, 1)), np.zeros((2, 1))
    first = {"a": one, "b": other, "c": one.copy(), "d": other + 1e-12, "e": other}
    kept, notes = baselines.distinct([first, {**first, "e": one}])
    # Equal in one part alone are the forecasts of no twin.
    assert [list(part) for part in kept] == [["a", "b", "d", "e"]] * 2
    assert notes == ["c is left out: it gives the same forecasts as a"]


def test_drift_is_exact_on_a_straight_line():
    line = 3.0 + 0.5 * np.arange(20)
    whole = np.lib.stride_tricks.sliding_window_view(line, 7)
    past = lay_out(whole[:, :4].copy(), whole[:, 4:].copy())
    np.testing.assert_allclose(drift(past, past), whole[:, 4:], rtol=1e-14)


def test_least_squares_finds_the_weights_that_were_planted():
    rng = np.random.default_rng(0)
    x, weights, intercept = rng.standard_normal((200, 5)), rng.standard_normal((5, 2)), np.array([3.0, -100.0])
    fitted = least_squares(x, x @ weights + intercept)
    np.testing.assert_allclose(fitted.weights, weights, atol=1e-12)
    np.testing.assert_allclose(fitted.intercept, intercept, rtol=1e-12)
    np.testing.assert_allclose(least_squares(x[..., None], x @ weights).predict(x[..., None]), x @ weights, atol=1e-12)


def test_least_squares_leaves_errors_that_are_orthogonal_to_every_lag():
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((60, 4)) + 10, rng.standard_normal((60, 1))
    left = y - least_squares(x, y).predict(x)
    np.testing.assert_allclose(np.append(x.T @ left, left.sum()), 0, atol=1e-10)


def test_a_lag_that_is_always_zero_is_no_obstacle():
    rng = np.random.default_rng(2)
    x = np.append(rng.standard_normal((50, 3)), np.zeros((50, 1)), axis=1)
    fitted = least_squares(x, x[:, :1] * 2)
    np.testing.assert_allclose(fitted.weights[:, 0], [2, 0, 0, 0], atol=1e-12)


def test_least_squares_asked_about_other_lags_names_both_numbers():
    with pytest.raises(ValueError, match="fitted on 3 lags, asked to forecast from 4"):
        least_squares(np.eye(3), np.ones((3, 1))).predict(np.ones((2, 4)))


def test_seasonal_naive_repeats_the_last_season_for_as_long_as_the_horizon_is():
    past = Past(np.array([[9.0, 1.0, 2.0, 3.0], [9.0, 4.0, 5.0, 6.0]]), np.zeros((2, 7)))
    np.testing.assert_array_equal(seasonal_naive(past, 3), [[1, 2, 3, 1, 2, 3, 1], [4, 5, 6, 4, 5, 6, 4]])
    short = Past(past.inputs, np.zeros((2, 2)))
    np.testing.assert_array_equal(seasonal_naive(short, 4), [[9, 1], [9, 4]])


def test_seasonal_naive_of_period_one_is_naive():
    past = windows_of(np.random.default_rng(0).standard_normal(30), 6, 3)
    np.testing.assert_array_equal(seasonal_naive(past, 1), naive(past))


def test_seasonal_naive_is_exact_on_a_series_that_repeats_itself():
    past = windows_of(np.tile([4.0, 1.0, 7.0], 10), 5, 8)
    np.testing.assert_array_equal(seasonal_naive(past, 3), past.targets)


@pytest.mark.parametrize("period", [0, 5])
def test_a_window_shorter_than_the_period_is_refused_with_both_numbers(period):
    with pytest.raises(UsageError, match=f"period {period} must be at least 1 and at most the window, which is 4"):
        seasonal_naive(Past(np.ones((2, 4)), np.ones((2, 1))), period)


def test_a_season_longer_than_the_window_is_repeated_from_the_series():
    season = np.random.default_rng(0).standard_normal(12)
    dataset = daily(np.tile(season, 12), period=12)
    test = dataset.windows.test
    np.testing.assert_array_equal(seasonal_naive_of_series(test, dataset.background, 12), test.targets)
    with pytest.raises(UsageError) as error:
        seasonal_naive_of_series(test, dataset.background, 1000)
    assert (error.value.where, error.value.got, error.value.needed) == ("period", 1000, int(test.origins.min()))


def test_a_season_of_the_window_is_the_same_from_window_and_series():
    dataset = daily(np.random.default_rng(0).standard_normal(100), np.random.default_rng(1).standard_normal(80))
    test = dataset.windows.test
    np.testing.assert_array_equal(seasonal_naive_of_series(test, dataset.background, 4), seasonal_naive(test, 4))


def test_means_are_of_the_training_part_and_of_all_that_is_known_at_the_origin():
    values = np.random.default_rng(0).standard_normal(100), 50 + np.random.default_rng(1).standard_normal(60)
    windows, _, background = daily(*values)
    means = training_mean(windows.test, windows.train, background)
    growing = baselines.forecast_all(daily(*values), windows.test)[baselines.EXPANDING_MEAN]
    for row, (number, origin) in enumerate(zip(windows.test.series, windows.test.origins, strict=True)):
        np.testing.assert_allclose(means[row], values[number][: int(0.7 * len(values[number]))].mean())
        np.testing.assert_allclose(growing[row], values[number][:origin].mean())


def test_means_and_fillings_leave_missing_values_out():
    values = np.array([[1.0, np.nan, 4.0, np.nan]])
    np.testing.assert_allclose(expanding_means(values), [[1, 1, 2.5, 2.5]])
    np.testing.assert_array_equal(carried_forward(np.array([np.nan, 2, np.nan, 4, np.nan])), [2, 2, 2, 4, 4])
    np.testing.assert_array_equal(carried_forward(np.array([1.0, 2, np.nan, 4, 5, np.nan]), 2), [1, 2, 1, 4, 5, 4])


def test_smoothing_is_that_of_statsmodels():
    holtwinters = pytest.importorskip("statsmodels.tsa.holtwinters")
    values = np.cumsum(np.random.default_rng(0).standard_normal(60))
    for weight in (0.1, 0.55, 1.0):
        model = holtwinters.SimpleExpSmoothing(values, initialization_method="known", initial_level=values[0])
        theirs = model.fit(smoothing_level=weight, optimized=False).level
        np.testing.assert_allclose(smoothed(values[None], weight)[0], theirs, rtol=1e-12)


def test_the_smoothing_weight_is_that_of_the_planted_level():
    """y = level + noise, where the level walks: the best weight is known from the ratio of both variances."""
    random = np.random.default_rng(0)
    level = np.cumsum(random.standard_normal(5000))
    values = level + 2 * random.standard_normal(5000)
    ratio = 1 / 4
    best = (np.sqrt(ratio**2 + 4 * ratio) - ratio) / 2  # Muth (1960)
    assert baselines.best_weight(values[None]) == pytest.approx(best, abs=0.05)


def test_smoothing_of_a_series_goes_on_to_the_origin_and_is_flat():
    values = np.cumsum(np.random.default_rng(0).standard_normal(100))
    windows, _, background = daily(values)
    found = simple_smoothing(windows.test, windows.train, background)
    weight = baselines.best_weight(values[None, :70])
    expected = [smoothed(values[None, :origin], weight)[0, -1] for origin in windows.test.origins]
    np.testing.assert_allclose(found, np.repeat(np.array(expected)[:, None], 3, axis=1))


def test_a_change_after_an_origin_changes_no_forecast_made_there():
    values = np.cumsum(np.random.default_rng(0).standard_normal(100))
    changed = values.copy()
    changed[90:] += 100
    before, after = daily(values), daily(changed)
    forecasts = [baselines.forecast_all(dataset, dataset.windows.test) for dataset in (before, after)]
    early = before.windows.test.origins <= 90
    assert early.any() and set(forecasts[0]) == set(forecasts[1])
    for name, values_before in forecasts[0].items():
        np.testing.assert_array_equal(values_before[early], forecasts[1][name][early], err_msg=name)


def test_waves_have_every_baseline_that_needs_no_series():
    dataset = Waves(count=50).load(2)
    test = dataset.windows.test
    forecasts = baselines.forecast_all(dataset, test)
    assert next(iter(forecasts)) == baselines.NAIVE and not any("seasonal" in name for name in forecasts)
    whole = np.concatenate([dataset.windows.train.inputs, dataset.windows.train.targets], axis=1)
    np.testing.assert_allclose(forecasts[baselines.TRAINING_MEAN], whole.mean())
    np.testing.assert_allclose(forecasts[baselines.EXPANDING_MEAN][:, 0], test.inputs.mean(axis=1))
    assert all(values.shape == test.targets.shape for values in forecasts.values())


def forecast_of(path, target="change", part="test"):
    """Windows of a part of a daily series, and the forecasts of all baselines."""
    dates = np.datetime64("2020-01-01") + np.arange(len(path))
    panel = Panel(("y",), (Series(dates, np.asarray(path, np.float64)),), describe("D"))
    dataset = panel.load(target, 10, 1)
    windows = getattr(dataset.windows, part)
    return windows, baselines.forecast_all(dataset, windows)


@pytest.mark.parametrize("numbers", [scaling_module.LAID_OUT, 1000])
@pytest.mark.parametrize("target", ["change", "log-return"])
def test_least_squares_on_the_levels_is_the_regression_of_scikit_learn_on_the_values_themselves(
    target, numbers, monkeypatch
):
    whole = forecast_of(500 + autoregression(0.9, 600, seed=1), target)[1]
    # In pieces of 100 windows, as those of a long series; the last change of a window is 0 in all of them.
    monkeypatch.setattr(scaling_module, "LAID_OUT", numbers)
    linear_model = pytest.importorskip("sklearn.linear_model")

    path = 500 + autoregression(0.9, 600, seed=1)
    windows, found = forecast_of(path, target)
    train, _ = forecast_of(path, target, part="train")
    oracle = linear_model.LinearRegression().fit(train.inputs, train.targets).predict(windows.inputs)
    np.testing.assert_allclose(found[baselines.LEAST_SQUARES_ON_LEVELS], oracle, atol=1e-4)
    np.testing.assert_allclose(found[baselines.LEAST_SQUARES], whole[baselines.LEAST_SQUARES], rtol=1e-9)


def test_a_forecast_that_returns_to_the_mean_has_no_skill_over_least_squares_on_the_levels():
    """0.7 y_t is the best forecast of this series; ten changes do not show it, ten levels do."""
    skills = {name: [] for name in (baselines.LEAST_SQUARES, baselines.LEAST_SQUARES_ON_LEVELS)}
    for seed in range(20):
        windows, found = forecast_of(autoregression(0.7, 800, seed))
        optimum = 0.7 * windows.inputs[:, -1:]
        for name, of_seeds in skills.items():
            of_seeds.append(1 - relative_mse(windows.targets, optimum, found[name]))
    assert np.mean(skills[baselines.LEAST_SQUARES]) > 0.06
    assert abs(np.mean(skills[baselines.LEAST_SQUARES_ON_LEVELS])) < 0.04


def test_least_squares_on_the_levels_finds_nothing_in_a_random_walk():
    ratios = []
    for seed in range(20):
        windows, found = forecast_of(np.random.default_rng(seed).standard_normal(800).cumsum())
        ratios.append(relative_mse(windows.targets, found[baselines.LEAST_SQUARES_ON_LEVELS], found[baselines.NAIVE]))
    # Eleven coefficients on 550 rows cost 2 % within the training range, more beyond it.
    assert 1 < np.mean(ratios) < 1.3


def test_levels_are_regressed_in_the_unit_of_each_series_and_not_twice_where_the_network_sees_them():
    paths = [50 + autoregression(0.7, 300, seed) for seed in range(3)]
    plain, in_pence = daily(*paths, target="change"), daily(paths[0], 100 * paths[1], paths[2], target="change")
    name = baselines.LEAST_SQUARES_ON_LEVELS
    ours = baselines.forecast_all(plain, plain.windows.test)[name]
    factor = np.where(plain.windows.test.series == 1, 100.0, 1.0)[:, None]
    theirs = baselines.forecast_all(in_pence, in_pence.windows.test)[name]
    np.testing.assert_allclose(theirs / factor, ours, rtol=1e-5)
    assert name not in forecast_of(paths[0], "level")[1]
    assert name not in baselines.forecast_all(Waves(count=50).load(1), Waves(count=50).load(1).windows.test)


@pytest.mark.parametrize("numbers", [scaling_module.LAID_OUT, 100])
def test_least_squares_takes_the_rows_whose_target_is_known(numbers, monkeypatch):
    monkeypatch.setattr(scaling_module, "LAID_OUT", numbers)
    values = np.random.default_rng(0).standard_normal(60).cumsum()
    dataset = daily(values)
    train = dataset.windows.train
    targets = train.targets.copy()
    targets[3:9, 1] = np.nan
    windows = dataset.windows._replace(train=train._replace(targets=targets))
    found = baselines.forecast_all(dataset._replace(windows=windows), windows.test)[baselines.LEAST_SQUARES]
    rows = np.delete(np.arange(len(targets)), np.arange(3, 9))
    model = least_squares(train.inputs[rows], train.targets[rows, 1:2])
    np.testing.assert_allclose(found[:, 1:2], model.predict(windows.test.inputs), atol=1e-4)


def test_a_piece_without_a_known_target_of_a_step_is_passed_over(monkeypatch):
    dataset = daily(np.random.default_rng(0).standard_normal(60).cumsum())
    train = dataset.windows.train
    targets = train.targets.copy()
    # The last window is a piece by itself.
    targets[-1, 1] = np.nan
    given = dataset._replace(windows=dataset.windows._replace(train=train._replace(targets=targets)))
    whole = baselines.forecast_all(given, given.windows.test)[baselines.LEAST_SQUARES]
    rows = len(targets)
    piece = next(size for size in range(5, rows) if rows % size == 1)
    monkeypatch.setattr(scaling_module, "LAID_OUT", piece * train.inputs.shape[1] * dataset.scaling.features)
    laid_out = []
    monkeypatch.setattr(least_squares_module, "batch", lambda *given: laid_out.append(given) or batch(*given))
    in_pieces = baselines.forecast_all(given, given.windows.test)[baselines.LEAST_SQUARES]
    np.testing.assert_allclose(in_pieces, whole, rtol=1e-9)
    # Once for all steps of the horizon.
    assert len(laid_out) == -(-rows // piece)

    targets[:, 1] = np.nan
    with pytest.raises(UsageError) as error:
        baselines.forecast_all(given, given.windows.test)
    assert error.value.where == "step 2"


def test_a_series_of_a_panel_has_the_baselines_that_it_has_alone():
    random = np.random.default_rng(0)
    dataset = daily(*random.standard_normal((30, 60)))
    forecasts = baselines.forecast_all(dataset, dataset.windows.test)
    alone = daily(dataset.background.series[29].values)
    last = dataset.windows.test.series == 29
    for name in (baselines.SIMPLE_SMOOTHING, baselines.DRIFT, baselines.EXPANDING_MEAN, baselines.TRAINING_MEAN):
        np.testing.assert_allclose(forecasts[name][last], baselines.forecast_all(alone, alone.windows.test)[name])


def test_the_forecast_from_two_seasons_is_the_target_that_is_zero(monkeypatch):
    monkeypatch.setitem(seasons.LONGER_SEASON, 4, 12)
    series = Series(np.arange(200), np.random.default_rng(0).standard_normal(200).cumsum())
    panel = Panel(("y",), (series,), describe("1")._replace(period=4))
    dataset = panel.load("seasons", 20, 6)
    assert (dataset.scaling.lag, dataset.scaling.longer) == (4, 12)
    test = dataset.windows.test
    forecasts = baselines.forecast_all(dataset, test)
    none = np.zeros((len(test.origins), 6))
    np.testing.assert_array_equal(forecasts["two seasons (4 and 12)"], dataset.scaling.invert(none, test))
    # The levels have no season to be compared with.
    assert np.isfinite(forecasts[baselines.LEAST_SQUARES_ON_LEVELS]).all()
