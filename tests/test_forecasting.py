"""Baselines, errors, intervals and what may be said: oracles worked by hand, and simulations whose truth is known."""

import math
import time
from typing import NamedTuple

import numpy as np
import pytest

from jaxseq.data.prices import Prices
from jaxseq.errors import UsageError
from jaxseq.forecasting.baselines import drift, least_squares, naive
from jaxseq.forecasting.metrics import mae, mse, relative_mse, rmse
from jaxseq.forecasting.significance import block_bootstrap_interval, block_length, lag_one_copy, skill
from jaxseq.forecasting.verdict import NAIVE, NO_EVIDENCE, Row, compare, copy_sentence, markdown, sentence

ACTUAL = np.array([[1.0, 2.0], [3.0, 5.0]])
FORECAST = np.array([[1.0, 4.0], [2.0, 5.0]])  # errors 0, -2, 1, 0
LAST = np.array([[0.0, 0.0], [4.0, 4.0]])  # errors 1, 2, -1, 1


class Past(NamedTuple):
    inputs: np.ndarray
    targets: np.ndarray


def autoregression(phi, n, seed):
    """n values of y_t = phi y_{t-1} + e_t, from its stationary law."""
    noise = np.random.default_rng(seed).standard_normal(n)
    values = [noise[0] / math.sqrt(1 - phi**2)]
    for shock in noise[1:]:
        values.append(phi * values[-1] + shock)
    return np.array(values)


def best_forecast(phi, n, k, seed):
    """Actual values of an autoregression, the best forecast of them, the naive one, and the true skill."""
    values = autoregression(phi, n + k, seed)
    steps = np.arange(1, k + 1)
    actual = np.stack([values[step : n + step] for step in steps], axis=1)
    last = np.repeat(values[:n, None], k, axis=1)
    best = (1 - phi ** (2 * steps)) / (1 - phi**2)
    truth = 1 - best.sum() / (2 * (1 - phi**steps) / (1 - phi**2)).sum()
    return actual, last * phi**steps, last, truth


def test_errors_are_what_was_worked_by_hand():
    assert mse(ACTUAL, FORECAST) == 5 / 4
    assert rmse(ACTUAL, FORECAST) == math.sqrt(5 / 4)
    assert mae(ACTUAL, FORECAST) == 3 / 4
    assert relative_mse(ACTUAL, FORECAST, LAST) == 5 / 7
    assert skill(ACTUAL, FORECAST, LAST) == pytest.approx(2 / 7, rel=1e-15)


def test_errors_of_float32_values_are_computed_in_float64():
    actual, forecast = np.full((4, 1), 16777216, np.float32), np.full((4, 1), 0.25, np.float32)
    assert mae(actual, forecast) == 16777215.75


@pytest.mark.parametrize("measure", [mse, rmse, mae])
def test_arrays_that_would_broadcast_are_refused_with_both_shapes(measure):
    with pytest.raises(ValueError, match=r"\(4, 1\).*\(4, 2\)"):
        measure(np.ones((4, 1)), np.ones((4, 2)))
    with pytest.raises(ValueError, match=r"\(0, 1\)"):
        measure(np.ones((0, 1)), np.ones((0, 1)))


def test_an_exact_naive_forecast_leaves_nothing_to_compare_with():
    with pytest.raises(UsageError, match="exact on all 4 values"):
        relative_mse(ACTUAL, FORECAST, ACTUAL)


def test_naive_repeats_the_last_value_and_drift_goes_on_with_the_mean_change():
    past = Past(np.array([[1.0, 2.0], [7.0, 4.0]]), np.zeros((2, 3)))
    np.testing.assert_array_equal(naive(past), [[2, 2, 2], [4, 4, 4]])
    train = Past(np.array([[5.0, 1.0], [5.0, 9.0]]), np.array([[9.0, 0.0], [2.0, 0.0]]))  # changes 8 and -7
    np.testing.assert_array_equal(drift(past, train), [[2.5, 3, 3.5], [4.5, 5, 5.5]])
    growth = Past(np.array([[5.0, 1.0], [5.0, 2.0]]), np.array([[8.0, 0.0], [1.0, 0.0]]))  # 8 times, and half of it
    np.testing.assert_allclose(drift(past, growth, logarithmic=True), [[4, 8, 16], [8, 16, 32]])


def test_drift_is_exact_on_a_straight_line():
    line = 3.0 + 0.5 * np.arange(20)
    whole = np.lib.stride_tricks.sliding_window_view(line, 7)
    past = Past(whole[:, :4], whole[:, 4:])
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


def test_the_interval_is_that_of_blocks_gathered_one_by_one():
    actual, forecast, last, _ = best_forecast(0.5, 53, 1, seed=3)
    rows, block, draws = 53, 5, 40
    ours, base = (actual - forecast)[:, 0] ** 2, (actual - last)[:, 0] ** 2
    skills = []
    for starts in np.random.default_rng(7).integers(rows, size=(draws, 11)):
        picked = [(start + step) % rows for start in starts for step in range(block)][:rows]
        skills.append(1 - ours[picked].mean() / base[picked].mean())
    skills.sort()
    interval = block_bootstrap_interval(actual, forecast, last, seed=7, draws=draws, block=block, level=0.9)
    assert interval == pytest.approx((skills[1], skills[37]), rel=1e-12)  # 5 % and 95 % of 40


def test_the_same_seed_gives_the_same_interval_and_another_seed_almost():
    case = best_forecast(0.5, 200, 1, seed=0)[:3]
    first = block_bootstrap_interval(*case, seed=1)
    assert block_bootstrap_interval(*case, seed=1) == first
    other = block_bootstrap_interval(*case, seed=2)
    assert other != first
    assert other == pytest.approx(first, abs=0.02)


@pytest.mark.parametrize(("phi", "n", "k"), [(0.5, 200, 1), (0.8, 491, 1), (0.5, 64, 1), (0.8, 300, 5)])
def test_the_interval_covers_the_true_skill_about_as_often_as_it_says(phi, n, k):
    runs = 300
    hits = 0
    for seed in range(runs):
        *case, truth = best_forecast(phi, n, k, seed)
        low, high = block_bootstrap_interval(*case, seed=seed, draws=400)
        hits += low <= truth <= high
    assert 0.91 <= hits / runs <= 0.995  # nominal 0.95, three standard errors of 300 runs


def test_neighbours_that_go_together_widen_the_interval():
    rng = np.random.default_rng(4)
    wild = np.repeat(rng.uniform(0.2, 3, 40), 25)[:, None]  # the forecast is good for 25 days, then bad for 25
    actual, last, forecast = np.zeros((1000, 1)), np.ones((1000, 1)), wild
    narrow = block_bootstrap_interval(actual, forecast, last, block=1)
    wide = block_bootstrap_interval(actual, forecast, last, block=25)
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)


def test_forecast_and_naive_are_resampled_together():
    rng = np.random.default_rng(5)
    actual, last = rng.standard_normal((300, 1)), np.zeros((300, 1))
    low, high = block_bootstrap_interval(actual, actual * 0.1, last)  # every error is 0.9 of the naive one's
    assert (low, high) == pytest.approx((0.19, 0.19), abs=1e-12)


def test_too_few_rows_give_no_interval():
    assert block_length(491, 1) == 8
    assert block_length(1000, 1) == 10
    assert block_length(491, 10) == 20
    case = best_forecast(0.5, 29, 1, seed=0)[:3]
    assert all(map(math.isnan, block_bootstrap_interval(*case)))
    row = compare(case[0], {NAIVE: case[2], "model": case[1]})[1]
    assert NO_EVIDENCE in sentence(row) and "too few test rows" in sentence(row)


def test_a_naive_forecast_that_is_seldom_wrong_gives_no_improvement_by_division_by_zero():
    actual, last = np.zeros((64, 1)), np.zeros((64, 1))
    actual[0] = 1
    low, high = block_bootstrap_interval(actual, np.full((64, 1), 0.01), last)
    assert low == -math.inf and high <= 1


def test_two_thousand_rows_take_less_than_a_second():
    rng = np.random.default_rng(0)
    case = [rng.standard_normal((2000, 10)) for _ in range(3)]
    began = time.perf_counter()
    block_bootstrap_interval(*case)
    assert time.perf_counter() - began < 1


def test_on_a_random_walk_a_fitted_forecast_is_almost_never_called_an_improvement():
    said = 0
    for seed in range(100):
        values = np.cumsum(np.random.default_rng(seed).standard_normal(700))
        whole = np.lib.stride_tricks.sliding_window_view(values, 11)
        x, y, last = whole[:, :10] - whole[:, 9:10], whole[:, 10:] - whole[:, 9:10], whole[:, 9:10]
        forecast = last + least_squares(x[:400], y[:400]).predict(x)
        rows = compare(whole[400:, 10:], {NAIVE: last[400:], "least squares": forecast[400:]}, seed)
        said += NO_EVIDENCE in sentence(rows[1])
    assert said >= 90


def test_forecasts_that_move_at_random_are_almost_never_called_an_improvement():
    said = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        last = np.cumsum(rng.standard_normal((300, 1)), axis=0)
        actual, forecast = (last + scale * rng.standard_normal((300, 1)) for scale in (1.0, 0.05))
        said += NO_EVIDENCE in sentence(compare(actual, {NAIVE: last, "model": forecast}, seed)[1])
    assert said >= 90


def test_planted_skill_is_found_and_planted_harm_is_called_worse():
    found = worse = 0
    for seed in range(40):
        actual, forecast, last, _ = best_forecast(0.5, 491, 1, seed)
        found += "improves on the last value: skill" in sentence(compare(actual, {NAIVE: last, "m": forecast})[1])
        away = 2 * last - forecast
        text = sentence(compare(actual, {NAIVE: last, "m": away})[1])
        worse += NO_EVIDENCE in text and "worse" in text
    assert found >= 38
    assert worse >= 38


def row(low, high):
    return Row("GRU", 1.0, 0.5, 0.9, 0.1, low, high)


def test_only_an_interval_wholly_above_zero_is_called_an_improvement():
    assert sentence(row(0.02, 0.18)) == (
        "GRU: improves on the last value: skill +0.1000 (95 % interval +0.0200 to +0.1800)"
    )
    for low, high in [(-0.02, 0.18), (0.0, 0.18), (-0.2, -0.1), (math.nan, math.nan)]:
        assert NO_EVIDENCE in sentence(row(low, high))
        assert "improves" not in sentence(row(low, high))
    assert "worse" in sentence(row(-0.2, -0.1))
    assert "worse" not in sentence(row(-0.2, 0.1))
    assert NO_EVIDENCE == "no evidence of improvement over the last value"


def test_a_comparison_keeps_the_order_and_starts_with_naive_at_skill_zero():
    actual, forecast, last, _ = best_forecast(0.5, 100, 2, seed=0)
    rows = compare(actual, {NAIVE: last, "b": forecast, "a": last}, seed=1)
    assert [found.name for found in rows] == [NAIVE, "b", "a"]
    assert rows[0].skill == 0 and rows[0].relative_mse == 1 and math.isnan(rows[0].low)
    assert (rows[2].low, rows[2].high) == (0, 0) and NO_EVIDENCE in sentence(rows[2])
    assert rows[1].rmse == rmse(actual, forecast) and rows[1].mae == mae(actual, forecast)
    assert rows[1].low < rows[1].skill < rows[1].high


def test_a_comparison_without_naive_or_with_a_value_that_is_not_finite_is_refused():
    with pytest.raises(UsageError, match=r"first forecast must be 'naive \(last value\)'; given were GRU"):
        compare(ACTUAL, {"GRU": FORECAST, NAIVE: LAST})
    with pytest.raises(UsageError, match="given were none"):
        compare(ACTUAL, {})
    with pytest.raises(UsageError, match="GRU: 1 of 4 values are not finite, the first in row 2"):
        compare(ACTUAL, {NAIVE: LAST, "GRU": np.array([[1.0, 2.0], [np.nan, 0.0]])})


def test_the_table_has_the_unit_and_a_dash_where_there_is_no_interval():
    lines = markdown([Row(NAIVE, 1.2098, 0.8, 1.0, 0.0, math.nan, math.nan), row(0.02, 0.18)], "USD").split("\n")
    assert lines[0] == "| forecast | RMSE, USD | MAE, USD | MSE / naive | skill | 95 % interval |"
    assert lines[2] == "| naive (last value) | 1.2098 | 0.8000 | 1.0000 | 0 | \N{EN DASH} |"
    assert lines[3] == "| GRU | 1.0000 | 0.5000 | 0.9000 | +0.1000 | +0.0200 to +0.1800 |"
    assert len({line.count("|") for line in lines}) == 1
    assert "RMSE | MAE |" in markdown([row(0, 0)], "")


def test_a_copy_of_the_last_value_is_told_from_a_forecast():
    actual, forecast, last, _ = best_forecast(0.5, 491, 1, seed=0)
    copy = lag_one_copy(actual, last, last[:, 0])
    assert copy.copies and copy.explained_by_last == 1 and copy.movement == 0 and copy.change_correlation == 0
    good = lag_one_copy(actual, forecast, last[:, 0])
    assert not good.copies and good.change_correlation == pytest.approx(0.5, abs=0.1)
    assert "only copies the last value: it moves 0%" in copy_sentence("naive", copy)
    astray = last + 3 * np.random.default_rng(1).standard_normal(actual.shape)
    far = lag_one_copy(actual, astray, last[:, 0])
    assert not far.copies and "strays from the last value at random" in copy_sentence("far", far)
    assert "does not only copy" in copy_sentence("AR", good)


def test_the_diagnosis_is_what_was_worked_by_hand():
    last = np.array([1.0, 2.0])
    lag = lag_one_copy(np.array([[3.0], [1.0]]), np.array([[2.0], [2.0]]), last)  # moves 1, 0; actual 2, -1
    assert lag.distance_to_last == math.sqrt(1 / 2)
    assert lag.distance_to_actual == 1
    assert lag.movement == pytest.approx(math.sqrt(1 / 5))
    assert lag.change_correlation == pytest.approx(1)
    assert lag.explained_by_last == 0  # the forecast itself does not vary
    assert lag.chance_correlation == pytest.approx(1.96 / math.sqrt(2))
    with pytest.raises(ValueError, match=r"\(3,\) must be one for each of the 2 rows"):
        lag_one_copy(ACTUAL, FORECAST, np.ones(3))


def test_an_independent_small_move_is_called_a_copy_about_as_often_as_chance_allows():
    copies = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        last = np.cumsum(rng.standard_normal(300))
        actual, forecast = ((last + scale * rng.standard_normal(300))[:, None] for scale in (1.0, 0.1))
        copies += lag_one_copy(actual, forecast, last).copies
    assert 0.94 <= copies / 200 <= 1  # nominal 0.975


@pytest.mark.parametrize(("target", "known"), [("change", 1.1569), ("log-return", 1.0279), ("level", 1.1581)])
def test_on_apple_least_squares_does_not_beat_the_last_value(target, known):
    recipe = Prices(target=target)
    train, _, test = recipe.load()
    windows = recipe.windows().test
    last = windows.inputs[:, -1]
    forecast = recipe.scaling().invert(least_squares(train.x, train.y).predict(test.x), last)
    rows = compare(windows.targets, {NAIVE: naive(windows), "least squares": forecast})
    assert rows[0].rmse == pytest.approx(1.2098, abs=5e-5)
    assert rows[1].relative_mse == pytest.approx(known, abs=2e-3)
    assert NO_EVIDENCE in sentence(rows[1])
    assert lag_one_copy(windows.targets, forecast, last).copies


def test_on_apple_neither_drift_differs_from_the_last_value():
    parts = Prices().windows()
    windows = parts.test
    for logarithmic, known in [(False, 0.9998), (True, 1.00075)]:
        forecast = drift(windows, parts.train, logarithmic)
        assert relative_mse(windows.targets, forecast, naive(windows)) == pytest.approx(known, abs=5e-5)
        assert NO_EVIDENCE in sentence(compare(windows.targets, {NAIVE: naive(windows), "drift": forecast})[1])
