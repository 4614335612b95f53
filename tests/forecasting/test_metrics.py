"""Errors and scores: worked by hand, against scikit-learn, and against the integrals that define them."""

import functools
import math

import numpy as np
import pytest
from forecasts import ACTUAL, FORECAST, LAST
from scipy import integrate, stats

from jaxseq.common.errors import UsageError
from jaxseq.forecasting.losses import Losses, row_losses, skill
from jaxseq.forecasting.metrics import (
    by_horizon,
    coverage,
    crps_ensemble,
    crps_gaussian,
    crps_quantiles,
    crps_student_t,
    interval_score,
    interval_width,
    mae,
    mase,
    mse,
    quantile_loss,
    relative_mse,
    rmse,
    rmsse,
    seasonal_scale,
    smape,
)
from jaxseq.nn import heads

RNG = np.random.default_rng(0)
WALK, GUESS = RNG.standard_normal((2, 30, 4)).cumsum(axis=2)
LEVELS = np.array([0.1, 0.5, 0.8])
QUANTILES = np.sort(RNG.standard_normal((30, 4, 3)), axis=2)
SPREAD = np.abs(WALK) + 0.1
DRAWS = RNG.standard_normal((6, 30, 4))


def test_errors_are_what_was_worked_by_hand():
    assert mse(ACTUAL, FORECAST) == 5 / 4
    assert rmse(ACTUAL, FORECAST) == math.sqrt(5 / 4)
    assert mae(ACTUAL, FORECAST) == 3 / 4
    assert relative_mse(ACTUAL, FORECAST, LAST) == 5 / 7
    losses = [row_losses(ACTUAL, forecast, "squared") for forecast in (FORECAST, LAST)]
    assert skill(Losses(*losses, horizon=2)) == pytest.approx(2 / 7, rel=1e-15)


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


def test_point_errors_and_pinball_loss_are_those_of_scikit_learn():
    sklearn = pytest.importorskip("sklearn.metrics")
    pair = WALK.ravel(), GUESS.ravel()
    assert mae(WALK, GUESS) == pytest.approx(sklearn.mean_absolute_error(*pair), rel=1e-13)
    assert mse(WALK, GUESS) == pytest.approx(sklearn.mean_squared_error(*pair), rel=1e-13)
    assert rmse(WALK, GUESS) == pytest.approx(sklearn.root_mean_squared_error(*pair), rel=1e-13)
    theirs = [
        sklearn.mean_pinball_loss(WALK.ravel(), QUANTILES[..., q].ravel(), alpha=level)
        for q, level in enumerate(LEVELS)
    ]
    assert quantile_loss(WALK, QUANTILES, LEVELS) == pytest.approx(np.mean(theirs), rel=1e-13)


def test_smape_is_what_was_worked_by_hand_and_goes_from_0_to_200():
    assert smape(ACTUAL, FORECAST) == pytest.approx((200 * 2 / 6 + 200 * 1 / 5) / 4)
    assert smape(np.array([[0.0, -2.0]]), np.array([[0.0, -2.0]])) == 0
    assert smape(np.array([[0.0, -2.0]]), np.array([[3.0, 5.0]])) == 200


def test_a_value_that_is_not_a_number_is_not_hidden():
    hole = np.array([[1.0, np.nan], [3.0, 5.0]])
    for measure in (mse, mae, rmse, smape):
        assert math.isnan(measure(ACTUAL, hole))
    assert math.isnan(coverage(ACTUAL, hole - 1, hole + 1))


def with_holes(values):
    """The same values, every third of them unknown, and those that remain as a single column each."""
    holes = values.copy()
    holes.ravel()[::3] = np.nan
    return holes, ~np.isnan(holes)


@pytest.mark.parametrize("name", ["mse", "mae", "smape", "quantile_loss", "crps_quantiles", "crps_gaussian"])
def test_an_unknown_value_counts_in_no_mean(name):
    measure, forecasts, settings = MEASURES[name]
    holes, known = with_holes(WALK)
    remaining = [forecast[known][:, None] for forecast in forecasts]
    assert measure(holes, *forecasts, **settings) == pytest.approx(
        measure(WALK[known][:, None], *remaining, **settings)
    )
    assert math.isnan(measure(np.full_like(WALK, np.nan), *forecasts, **settings))


def test_an_unknown_value_counts_in_no_interval():
    holes, known = with_holes(WALK)
    low, high = GUESS - SPREAD, GUESS + SPREAD
    remaining = [array[known][:, None] for array in (WALK, low, high)]
    assert coverage(holes, low, high) == coverage(*remaining)
    assert interval_width(holes, low, high) == pytest.approx(interval_width(*remaining))
    assert interval_score(holes, low, high, 0.8) == pytest.approx(interval_score(*remaining, 0.8))
    assert interval_width(*remaining) == pytest.approx(2 * SPREAD[known].mean())


def test_an_unknown_training_value_counts_in_no_scale():
    values = np.array([1.0, 3.0, np.nan, 2.0, 6.0])
    assert seasonal_scale(values) == (2 + 4) / 2
    with pytest.raises(UsageError, match="shop 7"):
        seasonal_scale(np.array([np.nan, 1.0, np.nan]), source="shop 7")


def test_the_seasonal_scale_is_what_was_worked_by_hand():
    values = np.array([1.0, 3.0, 2.0, 6.0])
    assert seasonal_scale(values) == pytest.approx((2 + 1 + 4) / 3)
    assert seasonal_scale(values, squared=True) == (4 + 1 + 16) / 3
    assert seasonal_scale(values, 2) == (1 + 3) / 2
    assert seasonal_scale(values, 2, squared=True) == (1 + 9) / 2


@pytest.mark.parametrize("period", [1, 7])
def test_on_the_training_part_the_seasonal_naive_forecast_scores_one(period):
    values = WALK.ravel()
    late, early = values[period:, None], values[:-period, None]
    for measure, squared in ((mase, False), (rmsse, True)):
        scale = np.full(len(late), seasonal_scale(values, period, squared=squared))
        assert measure(late, early, scale) == pytest.approx(1, rel=1e-13)


def test_scaled_errors_are_what_was_worked_by_hand():
    assert mase(ACTUAL, FORECAST, np.array([2.0, 4.0])) == (2 / 2 + 1 / 4) / 4
    assert rmsse(ACTUAL, FORECAST, np.array([2.0, 4.0])) == math.sqrt((4 / 2 + 1 / 4) / 4)


@pytest.mark.parametrize("values", [np.full(20, 3.0), 0.1 + np.array([0, 1, 2, 1] * 5) / 1e17])
def test_a_constant_training_part_is_refused_and_named(values):
    with pytest.raises(UsageError, match=r"shop 7: the 20 training values change by \S+ on average over period 1: "):
        seasonal_scale(values, source="shop 7")


def test_a_training_part_that_repeats_itself_has_no_scale_over_its_period():
    values = np.tile([1.0, 2.0, 5.0], 4)
    with pytest.raises(UsageError, match="the 12 training values change by 0 on average over period 3"):
        seasonal_scale(values, 3, squared=True)
    assert seasonal_scale(values, 2) > 0


def test_a_scale_that_cannot_be_is_refused_with_both_numbers():
    with pytest.raises(UsageError, match="over period 12 needs at least 13 training values; there are 12"):
        seasonal_scale(np.arange(12.0), 12)
    with pytest.raises(UsageError, match="period is 0; it must be at least 1"):
        seasonal_scale(np.arange(12.0), 0)
    for bad in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(UsageError, match=f"the scale of row 2 is {bad:g}; it must be above 0"):
            mase(ACTUAL, FORECAST, np.array([1.0, bad]))
    with pytest.raises(ValueError, match=r"scales \(3,\) must be one for each of the 2 rows"):
        rmsse(ACTUAL, FORECAST, np.ones(3))


def test_levels_and_quantiles_that_do_not_fit_are_refused():
    for levels in ([0.1, 0.8, 0.5], [0.0, 0.5, 0.8], [0.1, 0.5, 1.0], [0.1, 0.5, np.nan]):
        with pytest.raises(UsageError, match="must lie between 0 and 1 and increase"):
            quantile_loss(WALK, QUANTILES, np.array(levels))
    for shape in ((30, 4, 2), (30, 3, 3)):
        with pytest.raises(ValueError, match=r"quantiles \(30, ., .\) must be .* \(30, 4\) .* the 3 levels"):
            crps_quantiles(WALK, np.ones(shape), LEVELS)


def test_the_median_alone_gives_the_mean_absolute_error():
    assert crps_quantiles(WALK, GUESS[..., None], np.array([0.5])) == pytest.approx(mae(WALK, GUESS), rel=1e-13)


def test_quantiles_in_the_middle_of_equal_shares_give_twice_their_loss():
    levels = (np.arange(3) + 0.5) / 3
    assert crps_quantiles(WALK, QUANTILES, levels) == pytest.approx(2 * quantile_loss(WALK, QUANTILES, levels))


def test_unequal_levels_weigh_as_worked_by_hand():
    losses = [quantile_loss(WALK, QUANTILES[..., [q]], LEVELS[[q]]) for q in range(3)]
    assert crps_quantiles(WALK, QUANTILES, LEVELS) == pytest.approx(2 * np.dot([0.3, 0.35, 0.35], losses))


def test_many_quantiles_come_near_the_score_of_the_whole_distribution():
    levels = (np.arange(400) + 0.5) / 400
    quantiles = GUESS[..., None] + 0.7 * stats.norm.ppf(levels)
    exact = crps_gaussian(WALK, GUESS, np.full_like(GUESS, 0.7))
    assert crps_quantiles(WALK, quantiles, levels) == pytest.approx(exact, rel=1e-4)


def integrated(distribution, actual):
    """∫ (F(x) - 1{x >= a})² dx, the definition."""
    below = integrate.quad(lambda x: distribution.cdf(x) ** 2, -np.inf, actual)[0]
    return below + integrate.quad(lambda x: distribution.sf(x) ** 2, actual, np.inf)[0]


@pytest.mark.parametrize("actual", [-3.0, 0.0, 1.2, 9.0])
def test_the_scores_of_distributions_are_the_integrals_that_define_them(actual):
    def cell(value):
        return np.array([[value]])

    gaussian = crps_gaussian(cell(actual), cell(0.5), cell(2.0))
    assert gaussian == pytest.approx(integrated(stats.norm(0.5, 2), actual), rel=1e-7)
    for df in (1.5, 2.0, 5.0, 30.0):
        student = crps_student_t(cell(actual), cell(0.5), cell(2.0), df)
        assert student == pytest.approx(integrated(stats.t(df, 0.5, 2), actual), rel=1e-6)


def test_the_scores_of_distributions_are_means_over_rows_and_steps():
    df = 2 + np.abs(GUESS)
    one_by_one = [
        (crps_gaussian(*cells[:3]), crps_student_t(*cells))
        for cells in zip(*(array.reshape(-1, 1, 1) for array in (WALK, GUESS, SPREAD, df)), strict=True)
    ]
    both = crps_gaussian(WALK, GUESS, SPREAD), crps_student_t(WALK, GUESS, SPREAD, df)
    assert both == pytest.approx(np.mean(one_by_one, axis=0), rel=1e-13)


def test_student_t_with_many_degrees_of_freedom_is_gaussian():
    spread = np.full_like(WALK, 1.5)
    exact = crps_gaussian(WALK, GUESS, spread)
    assert crps_student_t(WALK, GUESS, spread, 1e6) == pytest.approx(exact, rel=1e-5)


def test_the_score_of_a_standard_normal_at_its_mean_is_the_textbook_one():
    zero, one = np.zeros((1, 1)), np.ones((1, 1))
    assert crps_gaussian(zero, zero, one) == pytest.approx((math.sqrt(2) - 1) / math.sqrt(math.pi), rel=1e-14)


def test_a_spread_or_freedom_that_gives_no_score_is_refused():
    spread = np.ones((30, 4))
    spread[2, 1] = spread[5, 0] = 0
    with pytest.raises(UsageError, match="the standard deviation must be above 0; 2 are not, the first in row 3"):
        crps_gaussian(WALK, GUESS, spread)
    with pytest.raises(UsageError, match="the scale must be above 0; 2 are not, the first in row 3"):
        crps_student_t(WALK, GUESS, spread, 4.0)
    with pytest.raises(UsageError, match="the smallest of the degrees of freedom is 1; the CRPS needs more than 1"):
        crps_student_t(WALK, GUESS, np.ones((30, 4)), 1.0)


@pytest.mark.parametrize("m", [2, 5])
def test_the_score_of_draws_is_that_of_all_their_pairs(m):
    draws = DRAWS[:m]
    far = np.abs(draws - WALK).mean()
    pairs = np.abs(draws[:, None] - draws[None]).sum(axis=(0, 1)).mean()
    assert crps_ensemble(WALK, draws) == pytest.approx(far - pairs / (2 * m * (m - 1)), rel=1e-12)
    assert crps_ensemble(WALK, draws, fair=False) == pytest.approx(far - pairs / (2 * m**2), rel=1e-12)


def test_the_plain_score_of_draws_is_the_integral_of_their_steps():
    draws = np.array([0.3, -1.0, 2.0, 0.3])
    grid = np.linspace(-4, 4, 80_001)
    for actual in (-2.0, 0.5, 3.0):
        steps = np.mean(draws[:, None] <= grid, axis=0) - (grid >= actual)
        exact = integrate.trapezoid(steps**2, grid)
        assert crps_ensemble(np.array([[actual]]), draws[:, None, None], fair=False) == pytest.approx(exact, abs=1e-3)


def test_three_fair_draws_score_their_distribution_without_bias_and_plain_ones_do_not():
    rng = np.random.default_rng(1)
    actual, zero = rng.standard_normal((20_000, 1)), np.zeros((20_000, 1))
    draws = rng.standard_normal((3, 20_000, 1))
    exact = crps_gaussian(actual, zero, zero + 1)
    assert crps_ensemble(actual, draws) == pytest.approx(exact, abs=0.02)
    assert crps_ensemble(actual, draws, fair=False) > exact + 0.1


def test_one_draw_is_a_point_forecast_and_has_no_fair_score():
    assert crps_ensemble(WALK, GUESS[None], fair=False) == pytest.approx(mae(WALK, GUESS), rel=1e-13)
    with pytest.raises(UsageError, match="1 draws of each value; at least 2 are needed"):
        crps_ensemble(WALK, GUESS[None])
    with pytest.raises(ValueError, match=r"draws \(2, 4, 30\) must be .* \(30, 4\)"):
        crps_ensemble(WALK, np.ones((2, 4, 30)))


def test_an_interval_covers_its_ends():
    assert coverage(ACTUAL, np.array([[1.0, 2.5], [2.0, 0.0]]), np.array([[2.0, 3.0], [3.0, 4.0]])) == 2 / 4
    assert coverage(ACTUAL, np.full((2, 2), -np.inf), ACTUAL) == 1


def test_the_interval_score_is_what_was_worked_by_hand():
    actual, low, high = np.array([[1.0, 3.0, -1.0]]), np.zeros((1, 3)), np.full((1, 3), 2.0)
    assert interval_score(actual, low, high, 0.8) == pytest.approx((2 + 12 + 12) / 3)
    with pytest.raises(UsageError, match="3 of 3 intervals have their low end above their high one"):
        interval_score(actual, high, low, 0.8)
    with pytest.raises(UsageError, match=r"level 1\.0 must lie between 0 and 1"):
        interval_score(actual, low, high, 1.0)


def test_the_interval_score_is_the_loss_of_its_two_quantiles():
    ends = QUANTILES[..., [0, 2]]
    loss = quantile_loss(WALK, ends, np.array([0.1, 0.9]))
    assert interval_score(WALK, ends[..., 0], ends[..., 1], 0.8) == pytest.approx(4 / 0.2 * loss, rel=1e-12)


MEASURES = {
    "mse": (mse, (GUESS,), {}),
    "mae": (mae, (GUESS,), {}),
    "smape": (smape, (GUESS,), {}),
    "mase": (mase, (GUESS,), {"scale": SPREAD[:, 0]}),
    "quantile_loss": (quantile_loss, (QUANTILES,), {"levels": LEVELS}),
    "crps_quantiles": (crps_quantiles, (QUANTILES,), {"levels": LEVELS}),
    "crps_gaussian": (crps_gaussian, (GUESS, SPREAD), {}),
    "crps_student_t": (crps_student_t, (GUESS, SPREAD), {"df": 3.0}),
    "crps_ensemble": (crps_ensemble, (), {"draws": DRAWS}),
    "coverage": (coverage, (GUESS - 1, GUESS + 1), {}),
    "interval_score": (interval_score, (GUESS - 1, GUESS + 1), {"level": 0.8}),
}


@pytest.mark.parametrize("name", MEASURES)
def test_every_mean_is_the_mean_of_its_steps(name):
    measure, forecasts, whole = MEASURES[name]
    steps = by_horizon(measure, WALK, *forecasts, **whole)
    assert steps.shape == (4,) and len(set(steps)) > 1
    assert steps.mean() == pytest.approx(measure(WALK, *forecasts, **whole), rel=1e-12)


def test_a_step_is_measured_on_its_own_column():
    np.testing.assert_allclose(by_horizon(rmse, WALK, GUESS), np.sqrt(((WALK - GUESS) ** 2).mean(axis=0)), rtol=1e-13)
    ratio = ((WALK - GUESS) ** 2).mean(axis=0) / (WALK**2).mean(axis=0)
    np.testing.assert_allclose(by_horizon(relative_mse, WALK, GUESS, np.zeros((30, 4))), ratio, rtol=1e-13)
    scale = SPREAD[:, 0]
    each = np.sqrt(((WALK - GUESS) ** 2 / scale[:, None]).mean(axis=0))
    np.testing.assert_allclose(by_horizon(rmsse, WALK, GUESS, scale=scale), each, rtol=1e-13)
    plain = functools.partial(crps_ensemble, fair=False)
    assert by_horizon(plain, WALK, draws=DRAWS)[2] == plain(WALK[:, 2:3], DRAWS[:, :, 2:3])


def test_forecasts_of_another_horizon_are_refused_with_both_shapes():
    with pytest.raises(ValueError, match=r"\(30, 4\) and forecast \(30, 5\)"):
        by_horizon(mae, WALK, np.ones((30, 5)))
    with pytest.raises(ValueError, match=r"\(30, 4\) and forecast \(30, 5\)"):
        by_horizon(crps_ensemble, WALK, draws=np.ones((2, 30, 5)))


@pytest.mark.parametrize(
    ("sd", "shift", "bias"), [(1.0, 0.0, -0.030), (0.5, 0.0, -0.022), (2.0, 0.0, -0.020), (1.0, 1.0, -0.029)]
)
def test_the_crps_of_seven_quantiles_is_two_to_three_percent_below_that_of_the_whole_normal(sd, shift, bias):
    """Standard normal values, forecast by a normal of another spread and mean; exact is Gneiting & Raftery's formula."""
    actual = stats.norm.ppf((np.arange(20_000)[:, None] + 0.5) / 20_000)
    quantiles = np.broadcast_to(shift + sd * stats.norm.ppf(heads.LEVELS), (*actual.shape, len(heads.LEVELS)))
    exact = crps_gaussian(actual, np.full_like(actual, shift), np.full_like(actual, sd))
    assert crps_quantiles(actual, quantiles, np.array(heads.LEVELS)) / exact - 1 == pytest.approx(bias, abs=1e-3)
