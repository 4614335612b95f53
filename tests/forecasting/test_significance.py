"""Intervals of the skill, copies of the last value, and the test that compares two forecasts."""

import math
import time

import numpy as np
import pytest
from forecasts import ACTUAL, FORECAST, LAST, best_forecast
from scipy import stats

from jaxseq.common.errors import UsageError
from jaxseq.forecasting.significance import (
    block_bootstrap_interval,
    block_length,
    by_time,
    diebold_mariano,
    lag_one_copy,
)


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


def test_the_diagnosis_is_what_was_worked_by_hand():
    last = np.array([1.0, 2.0])
    lag = lag_one_copy(np.array([[3.0], [1.0]]), np.array([[2.0], [2.0]]), last)  # moves 1, 0; actual 2, -1
    assert lag.movement == pytest.approx(math.sqrt(1 / 5))
    assert lag.change_correlation == pytest.approx(1)
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


def losses(*values):
    """Actual values 0, a forecast with these squared errors, and one with none."""
    actual = np.zeros((len(values), 1))
    return actual, np.sqrt(values)[:, None], actual


def test_errors_of_one_time_are_added_up_in_the_order_of_the_times():
    error = np.array([[3.0, 1.0], [2.0, 0.0], [-4.0, 1.0], [0.0, -1.0]])
    found = by_time(error, np.array([7, 5, 7, 7]))
    np.testing.assert_allclose(found, [[2, 0], [5, math.sqrt(3)]], rtol=1e-15)
    np.testing.assert_allclose(by_time(1e200 * error, np.array([7, 5, 7, 7])), 1e200 * found, rtol=1e-15)
    np.testing.assert_array_equal(by_time(np.zeros((2, 1)), np.array([1, 1])), [[0]])
    with pytest.raises(ValueError, match=r"times \(3,\) must be one for each of the 4 rows"):
        by_time(error, np.arange(3))


def test_chance_is_that_of_the_times_where_series_share_them():
    actual, forecast, last, _ = best_forecast(0.5, 60, 2, seed=0)
    alone = lag_one_copy(actual, forecast, last[:, 0])
    twice = [np.concatenate([array, array]) for array in (actual, forecast, last[:, 0])]
    days = np.tile(np.arange(60), 2)
    assert lag_one_copy(*twice, days).chance_correlation == alone.chance_correlation == 1.96 / math.sqrt(30)
    assert lag_one_copy(*twice).chance_correlation == 1.96 / math.sqrt(60)
    assert lag_one_copy(*twice, days).movement == pytest.approx(alone.movement)


def test_with_no_lag_the_comparison_is_the_paired_t_test():
    actual, forecast, last, _ = best_forecast(0.5, 60, 1, seed=0)
    for loss, power in (("squared", 2), ("absolute", 1)):
        found = diebold_mariano(actual, forecast, last, loss=loss)
        theirs = stats.ttest_rel(np.abs(actual - forecast)[:, 0] ** power, np.abs(actual - last)[:, 0] ** power)
        assert (found.statistic, found.p_value) == pytest.approx((theirs.statistic, theirs.pvalue), rel=1e-12)
        assert found.lags == 0 and found.reason == ""


def test_the_comparison_with_one_lag_is_what_was_worked_by_hand():
    found = diebold_mariano(*losses(*[3, 3, 1, 1] * 5), lags=1)  # covariances 1 and 1/20
    statistic = 2 / math.sqrt((1 + 2 / 20) / 20) * math.sqrt((20 + 1 - 4 + 2 / 20) / 20)
    assert found.statistic == pytest.approx(statistic, rel=1e-12)
    assert found.p_value == pytest.approx(2 * stats.t.sf(statistic, 19), rel=1e-9)
    assert (found.lags, found.weights) == (1, "rectangular")


@pytest.mark.parametrize("unit", [1e-95, 1e-60, 1e60, 1e95])
def test_the_comparison_has_no_unit_however_large_or_small_the_values(unit):
    actual, forecast, last, _ = best_forecast(0.5, 60, 2, seed=0)
    mine, scaled = (diebold_mariano(u * actual, u * forecast, u * last) for u in (1.0, unit))
    assert scaled.statistic == pytest.approx(mine.statistic, rel=1e-9)
    assert scaled.p_value == pytest.approx(mine.p_value, rel=1e-9)
    with_lags = diebold_mariano(unit * actual, unit * forecast, unit * last, lags=3)
    assert with_lags.p_value == pytest.approx(diebold_mariano(actual, forecast, last, lags=3).p_value, rel=1e-9)


def test_a_variance_that_is_not_positive_is_taken_with_the_weights_of_bartlett():
    found = diebold_mariano(*losses(*[3, 1] * 10), lags=1)  # covariances 1 and -19/20: 1 - 1.9 is below 0
    assert found.weights == "Bartlett"
    assert found.statistic == pytest.approx(2 / math.sqrt((1 - 19 / 20) / 20) * math.sqrt(17.1 / 20), rel=1e-12)


@pytest.mark.parametrize("lags", [0, 3, 8])
def test_the_variance_is_that_of_statsmodels(lags):
    sandwich = pytest.importorskip("statsmodels.stats.sandwich_covariance")
    linear = pytest.importorskip("statsmodels.regression.linear_model")
    actual, forecast, last, _ = best_forecast(0.8, 200, 1, seed=1)
    difference = ((actual - forecast) ** 2 - (actual - last) ** 2)[:, 0]
    fit = linear.OLS(difference, np.ones(200)).fit()
    variance = sandwich.cov_hac_simple(fit, lags, sandwich.weights_uniform, use_correction=False)[0, 0]
    found = diebold_mariano(actual, forecast, last, lags=lags)
    h = lags + 1
    small = math.sqrt((201 - 2 * h + h * (h - 1) / 200) / 200)
    assert found.statistic == pytest.approx(difference.mean() / math.sqrt(variance) * small, rel=1e-10)


def test_swapping_the_forecasts_turns_the_sign_and_below_zero_favours_the_first():
    actual, forecast, last, _ = best_forecast(0.5, 200, 3, seed=0)
    one, other = diebold_mariano(actual, forecast, last), diebold_mariano(actual, last, forecast)
    assert one.statistic == -other.statistic < 0 and one.p_value == other.p_value
    assert one.lags == 2


def equally_good(n, k, seed):
    """Forecasts of 1 … k steps of a random walk that see the same shocks, each through noise of its own."""

    def sums():
        path = np.append(0, rng.standard_normal(n + k).cumsum())
        return np.stack([path[step : step + n] - path[:n] for step in range(1, k + 1)], axis=1)

    rng = np.random.default_rng(seed)
    actual = sums()
    return actual, 0.5 * sums(), 0.5 * sums()


@pytest.mark.parametrize(
    ("n", "k", "most"), [(10, 1, 0.08), (100, 1, 0.08), (200, 5, 0.10), (50, 5, 0.13), (100, 10, 0.13)]
)
def test_equally_good_forecasts_differ_about_once_in_twenty_times(n, k, most):
    p_values = [diebold_mariano(*equally_good(n, k, seed)).p_value for seed in range(600)]
    assert 0.02 <= np.mean(np.array(p_values) < 0.05) <= most  # three standard errors of 600 runs


def test_a_better_forecast_is_found():
    found = [diebold_mariano(*best_forecast(0.5, 491, 1, seed)[:3]) for seed in range(100)]
    assert sum(one.p_value < 0.05 and one.statistic < 0 for one in found) >= 95


def test_too_few_rows_give_no_comparison_and_say_why():
    for n, k, least in ((9, 1, 10), (29, 3, 30)):
        actual, forecast, last, _ = best_forecast(0.5, n, k, seed=0)
        found = diebold_mariano(actual, forecast, last)
        assert math.isnan(found.statistic) and math.isnan(found.p_value)
        assert found.reason == f"{n} rows; at least {least} are needed with {k - 1} lags"
        assert not diebold_mariano(*best_forecast(0.5, least, k, seed=0)[:3]).reason


def test_losses_that_differ_by_the_same_in_every_row_give_no_comparison():
    actual, forecast, _, _ = best_forecast(0.5, 40, 1, seed=0)
    same = diebold_mariano(actual, forecast, forecast)
    assert math.isnan(same.p_value) and "by the same in all 40 rows" in same.reason
    shifted = diebold_mariano(actual, actual - 0.3, actual)
    assert math.isnan(shifted.statistic) and "by the same in all 40 rows" in shifted.reason


def test_a_comparison_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"\(2, 2\) and forecast \(2, 1\)"):
        diebold_mariano(ACTUAL, FORECAST, LAST[:, :1])
    with pytest.raises(UsageError, match="lags is -1; it must be at least 0"):
        diebold_mariano(ACTUAL, FORECAST, LAST, lags=-1)
    with pytest.raises(UsageError, match="loss 'square' is unknown; choose one of squared, absolute"):
        diebold_mariano(ACTUAL, FORECAST, LAST, loss="square")
    with pytest.raises(UsageError, match="1 of 4 errors are not finite, the first in row 2"):
        diebold_mariano(ACTUAL, FORECAST, np.array([[1.0, 2.0], [np.nan, 0.0]]))
