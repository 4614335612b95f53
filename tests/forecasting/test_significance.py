"""Intervals of the skill, copies of the last value, and the test that compares two forecasts."""

import itertools
import math
import time

import numpy as np
import pytest
from forecasts import ACTUAL, FORECAST, LAST, best_forecast
from pairwise import slow_except
from scipy import stats

from jaxseq.common.errors import UsageError
from jaxseq.forecasting import bootstrap, confidence, significance
from jaxseq.forecasting.confidence import block_length, skill_interval, skill_intervals
from jaxseq.forecasting.lag_one import lag_one_copy
from jaxseq.forecasting.losses import Losses, Rows, Scales, pair_losses
from jaxseq.forecasting.significance import holm, series_tests


def interval_of(actual, forecast, reference, **options):
    """Both ends of the skill's interval."""
    return skill_interval(pair_losses(actual, forecast, reference), **options)[:2]


def diebold_mariano(actual, forecast, other, *, loss="squared", lags=None):
    return significance.diebold_mariano(pair_losses(actual, forecast, other, loss=loss), lags=lags)


@pytest.mark.parametrize("many", [bootstrap.MANY_TIMES, 52])
def test_the_interval_is_that_of_blocks_gathered_one_by_one(many, monkeypatch):
    monkeypatch.setattr(bootstrap, "MANY_TIMES", many)
    actual, forecast, last, _ = best_forecast(0.5, 53, 1, seed=3)
    rows, block, draws = 53, 5, 40
    ours, base = (actual - forecast)[:, 0] ** 2, (actual - last)[:, 0] ** 2
    skills = []
    for starts in np.random.default_rng(7).integers(rows, size=(draws, 11)):
        picked = [(start + step) % rows for start in starts for step in range(block)][:rows]
        skills.append(1 - ours[picked].mean() / base[picked].mean())
    skills.sort()
    interval = interval_of(actual, forecast, last, seed=7, draws=draws, block=block, level=0.9)
    assert interval == pytest.approx((skills[1], skills[37]), rel=1e-12)  # 5 % and 95 % of 40


def test_the_same_seed_gives_the_same_interval_and_another_seed_almost():
    case = best_forecast(0.5, 200, 1, seed=0)[:3]
    first = interval_of(*case, seed=1)
    assert interval_of(*case, seed=1) == first
    other = interval_of(*case, seed=2)
    assert other != first
    assert other == pytest.approx(first, abs=0.02)


@pytest.mark.parametrize(
    ("phi", "n", "k"),
    slow_except({(0.5, 64, 1), (0.8, 300, 5)}, [(0.5, 200, 1), (0.8, 491, 1), (0.5, 64, 1), (0.8, 300, 5)]),
)
def test_the_interval_covers_the_true_skill_about_as_often_as_it_says(phi, n, k):
    runs = 300
    hits = 0
    for seed in range(runs):
        *case, truth = best_forecast(phi, n, k, seed)
        low, high = interval_of(*case, seed=seed, draws=400)
        hits += low <= truth <= high
    assert 0.91 <= hits / runs <= 0.995  # nominal 0.95, three standard errors of 300 runs


def test_neighbours_that_go_together_widen_the_interval():
    rng = np.random.default_rng(4)
    wild = np.repeat(rng.uniform(0.2, 3, 40), 25)[:, None]  # the forecast is good for 25 days, then bad for 25
    actual, last, forecast = np.zeros((1000, 1)), np.ones((1000, 1)), wild
    narrow = interval_of(actual, forecast, last, block=1)
    wide = interval_of(actual, forecast, last, block=25)
    assert np.diff(wide) > 3 * np.diff(narrow)


def test_forecast_and_naive_are_resampled_together():
    rng = np.random.default_rng(5)
    actual, last = rng.standard_normal((300, 1)), np.zeros((300, 1))
    low, high = interval_of(actual, actual * 0.1, last)  # every error is 0.9 of the naive one's
    assert (low, high) == pytest.approx((0.19, 0.19), abs=1e-12)


def test_a_block_has_the_cube_root_of_the_rows_and_two_horizons():
    assert block_length(491, 1) == 8
    assert block_length(1000, 1) == 10
    assert block_length(491, 10) == 20


def test_weights_count_how_often_a_time_is_drawn():
    weights = bootstrap._block_weights(np.array([[4, 1], [0, 0]]), times=5, size=3)
    np.testing.assert_array_equal(weights, [[1, 2, 1, 0, 1], [2, 2, 1, 0, 0]])  # 4 0 1 | 1 2 and 0 1 2 | 0 1


def test_a_bootstrap_of_many_times_in_parts_is_that_of_all_at_once(monkeypatch):
    case = best_forecast(0.5, 200, 1, seed=0)[:3]
    whole = interval_of(*case, seed=1)
    monkeypatch.setattr(bootstrap, "MAX_WEIGHTS", 1000)
    assert interval_of(*case, seed=1) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("n", [12, 200])
def test_forecasts_that_are_resampled_together_have_the_intervals_that_each_has_alone(n):
    actual, forecast, reference, _ = best_forecast(0.5, n, 1, seed=0)
    pairs = [pair_losses(actual, values, reference) for values in (forecast, 0.5 * (forecast + reference), actual)]
    assert skill_intervals(pairs, seed=1) == [skill_interval(losses, seed=1) for losses in pairs]
    still = [pair_losses(actual, values, actual) for values in (actual, forecast)]
    assert [interval.low for interval in skill_intervals(still)] == [0, -np.inf]
    assert skill_intervals([]) == []


@pytest.mark.parametrize(("n", "k"), [(30, 1), (12, 1), (60, 6), (100, 12)])
def test_few_blocks_cover_the_true_skill_at_least_as_often_as_they_say(n, k):
    hits = 0
    for seed in range(300):
        *case, truth = best_forecast(0.5, n, k, seed)
        low, high = interval_of(*case)
        hits += not low > truth and not high < truth
    assert hits / 300 >= 0.91


@pytest.mark.parametrize(("n", "k"), [(30, 1), (12, 1), (60, 6), (100, 12)])
def test_equally_good_forecasts_of_few_rows_seldom_look_better(n, k):
    better = sum(interval_of(*equally_good(n, k, seed))[0] > 0 for seed in range(300))
    assert better / 300 <= 0.05


def test_the_interval_of_two_blocks_is_what_was_worked_by_hand():
    """Losses 1 and 2 against 4 and 6: the ratios θ with (3 - 10 θ)² <= t² ((1 - 2θ)² of the difference of the sums)."""
    losses = Losses(np.array([[0.5, 0.5, 1, 1]]).T, np.array([[2.0, 2, 3, 3]]).T, horizon=1)
    t = stats.t.ppf(0.75, 1)  # a 50 % interval: t is 1
    interval = skill_interval(losses, level=0.5)
    thetas = np.linspace(0, 1, 100_001)
    inside = thetas[(3 - 10 * thetas) ** 2 <= t**2 * (1 - 2 * thetas) ** 2]
    assert (interval.low, interval.high) == pytest.approx((1 - inside.max(), 1 - inside.min()), abs=2e-5)
    assert interval.blocks == 2


def one_stretch(series, seed, gain=0.0):
    """Losses of a window of each series, of two forecasts whose errors differ by chance, but for the gain of the first."""
    random = np.random.default_rng(seed)
    size = np.exp(0.3 * random.standard_normal(series))
    shared = random.standard_normal((series, 48))
    errors = size[:, None, None] * (shared[:, None] + random.standard_normal((series, 2, 48)))
    errors[:, 0] *= 1 - gain
    losses = (errors**2).mean(axis=2).T
    return Losses(losses[:1], losses[1:], horizon=48)


@pytest.mark.parametrize("series", [10, 25, 200])
def test_one_stretch_of_many_series_covers_equal_skill_as_often_as_it_says_and_finds_a_better_one(series):
    intervals = [skill_interval(one_stretch(series, seed)) for seed in range(400)]
    assert all((interval.blocks, interval.series) == (1, series) for interval in intervals)
    assert sum(interval.low > 0 for interval in intervals) / 400 <= 0.05
    better = [skill_interval(one_stretch(series, seed, gain=0.3)) for seed in range(100)]
    assert sum(interval.low > 0 for interval in better) >= 95


def test_one_stretch_of_few_series_decides_nothing_and_of_one_series_neither():
    for series in (1, 9):
        interval = skill_interval(one_stretch(series, 0))
        assert math.isnan(interval.low) and interval.series == 0 and interval.needed > 1


def test_the_interval_of_one_stretch_is_that_of_the_ratio_of_paired_means():
    losses = one_stretch(12, 3)
    interval = skill_interval(losses, level=0.9)
    c = stats.t.ppf(0.95, 11)
    thetas = np.linspace(0, 3, 300_001)
    differences = losses.forecast[0] - thetas[:, None] * losses.reference[0]
    inside = thetas[np.abs(differences.mean(axis=1)) <= c * differences.std(axis=1, ddof=1) / math.sqrt(12)]
    assert (interval.low, interval.high) == pytest.approx((1 - inside.max(), 1 - inside.min()), abs=2e-5)


def test_one_stretch_in_which_not_even_a_perfect_forecast_would_show_says_how_many_series_would_do():
    reference = np.zeros((1, 12))
    reference[0, 4] = 1
    interval = skill_interval(Losses(np.zeros((1, 12)), reference, horizon=7))
    assert math.isnan(interval.low) and interval.series == 12 < interval.needed


def test_windows_that_do_not_overlap_are_blocks_of_their_own():
    actual, forecast, last, _ = best_forecast(0.8, 400, 8, seed=1)
    strided = [values[::8] for values in (actual, forecast, last)]
    apart = pair_losses(*strided, rows=Rows(overlap=1))
    assert apart.horizon == 1 and pair_losses(*strided).horizon == 8
    assert skill_interval(apart).blocks == 12
    assert skill_interval(pair_losses(*strided)).blocks < 12
    assert not significance.diebold_mariano(apart).reason
    copy, rows = strided[2][:, 0], 50
    assert lag_one_copy(*strided[:2], copy, overlap=1).chance_correlation == 1.96 / math.sqrt(rows)


def test_targets_of_separate_blocks_do_not_overlap():
    for times in (2, 3, 5, 17, 40, 59, 100, 239):
        for horizon in (1, 2, 7, 12, 48):
            blocks = confidence._separate_blocks(times, horizon)
            for early, late in itertools.pairwise(blocks):
                assert early.stop - 1 + horizon <= late.start
            assert all(0 <= block.start < block.stop <= times for block in blocks) and len(blocks) < 10


@pytest.mark.parametrize("k", [1, 2, 5, 12, 48])
@pytest.mark.parametrize("n", [1, 2, 3, 5, 9, 10, 21, 58, 200, 1000])
def test_a_perfect_forecast_is_found_or_there_are_too_few_rows_and_more_would_be_enough(n, k):
    actual, _, last, _ = best_forecast(0.8, n, k, seed=0)
    interval = skill_interval(pair_losses(actual, actual, last))
    if math.isnan(interval.low):
        assert interval.needed > n
    else:
        assert interval.low == interval.high == 1 and not interval.needed


def test_no_row_at_all_would_be_too_few_where_needed_says_enough():
    actual, _, last, _ = best_forecast(0.8, 10, 12, seed=0)
    interval = skill_interval(pair_losses(actual, actual, last))
    assert math.isnan(interval.low) and interval.needed == 17  # two blocks of three windows, eleven between them


def test_a_naive_forecast_that_is_seldom_wrong_gives_no_improvement_by_division_by_zero():
    actual, last = np.zeros((64, 1)), np.zeros((64, 1))
    actual[0] = 1
    low, high = interval_of(actual, np.full((64, 1), 0.01), last)
    assert low == -math.inf and high <= 1


def test_two_thousand_rows_take_less_than_a_second():
    rng = np.random.default_rng(0)
    case = [rng.standard_normal((2000, 10)) for _ in range(3)]
    began = time.perf_counter()
    interval_of(*case)
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


def test_losses_are_arranged_by_time_and_series_scaled_and_without_unknown_targets():
    actual = np.array([[1.0, 3.0], [2.0, np.nan], [4.0, 0.0], [np.nan, np.nan]])
    forecast = np.zeros((4, 2))
    reference = np.ones((4, 2))
    scales = Scales(absolute=np.array([1.0, 2, 1, 1]), squared=np.array([1.0, 4, 1, 1]))
    rows = Rows(np.array([7, 5, 5, 7]), np.array([0, 1, 0, 1]), scales)
    losses = pair_losses(actual, forecast, reference, rows)
    np.testing.assert_array_equal(losses.forecast, [[8, 1], [5, np.nan]])  # 16/2 and 4/4 at time 5; (1 + 9)/2 at 7
    np.testing.assert_array_equal(losses.reference, [[5, 0.25], [2, np.nan]])
    absolute = pair_losses(actual, forecast, reference, rows, "absolute")
    np.testing.assert_array_equal(absolute.forecast, [[2, 1], [2, np.nan]])
    in_order = pair_losses(actual, forecast, reference)
    np.testing.assert_array_equal(in_order.forecast[:, 0], [5, 4, 8])
    with pytest.raises(ValueError, match=r"times \(3,\) must be one for each of the 4 rows"):
        pair_losses(actual, forecast, reference, Rows(np.arange(3)))


def test_values_as_large_as_a_series_may_have_keep_the_interval():
    case = best_forecast(0.5, 30, 1, seed=0)[:3]
    large = [1e99 * values for values in case]
    assert interval_of(*large) == pytest.approx(interval_of(*case), rel=1e-9)


def test_series_by_series_the_tests_are_those_of_scipy():
    random = np.random.default_rng(0)
    losses = Losses(random.normal(0.9, 0.3, (20, 15)), random.normal(1.0, 0.3, (20, 15)), horizon=1)
    differences = np.mean(losses.forecast - losses.reference, axis=0)
    found = series_tests(losses)
    assert (found.series, found.improved) == (15, np.sum(differences < 0))
    assert found.sign == pytest.approx(stats.binomtest(found.improved, 15).pvalue)
    assert found.wilcoxon == pytest.approx(stats.wilcoxon(differences).pvalue)
    same = series_tests(Losses(losses.forecast, losses.forecast, horizon=1))
    assert (same.improved, same.sign, same.wilcoxon) == (0, 1, 1)


def test_adjusted_p_values_are_those_of_statsmodels():
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    p_values = np.random.default_rng(0).uniform(0, 0.2, 7)
    adjusted = holm(p_values.tolist())
    np.testing.assert_allclose(adjusted, multitest.multipletests(p_values, method="holm")[1])
    assert holm([math.nan, 0.03, math.nan]) == pytest.approx([math.nan, 0.03, math.nan], nan_ok=True)


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


@pytest.mark.usefixtures("unannotated")
def test_a_comparison_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"\(2, 2\) and forecast \(2, 1\)"):
        diebold_mariano(ACTUAL, FORECAST, LAST[:, :1])
    with pytest.raises(UsageError) as error:
        diebold_mariano(ACTUAL, FORECAST, LAST, lags=-1)
    assert (error.value.where, error.value.got, error.value.needed) == ("lags", -1, "at least 0")
    with pytest.raises(UsageError) as error:
        diebold_mariano(ACTUAL, FORECAST, LAST, loss="square")
    assert (error.value.where, error.value.got, error.value.needed) == ("loss", "square", "squared, absolute, log")
    with pytest.raises(UsageError, match="1 of 4 forecasts are not finite, the first in row 2"):
        diebold_mariano(ACTUAL, FORECAST, np.array([[1.0, 2.0], [np.nan, 0.0]]))
