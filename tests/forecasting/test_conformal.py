"""Conformal intervals: the guarantee is exact, so it is tested exactly."""

import math
from fractions import Fraction

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from jaxseq.common.errors import UsageError
from jaxseq.forecasting.conformal import conformal_margin, conformal_radius, least_rows, quantile

RNG = np.random.default_rng(0)
LEVEL = st.sampled_from([0.05, 0.1, 0.5, 0.8, 0.9])


def column(*values):
    return np.array(values, np.float64)[:, None]


def guarantee(rows, level):
    """Probability with which so many calibration rows cover a new value: Lei et al. (2018), theorem 2.2."""
    return math.ceil((rows + 1) * Fraction(str(level))) / (rows + 1)


def left_out(scores, quantile):
    """How many of the scores lie within the quantile of all the others."""
    return sum(scores[one] <= quantile(np.delete(scores, one, axis=0)) for one in range(len(scores)))


def test_the_radius_is_what_was_worked_by_hand():
    residuals = column(3, -1, 4, -2, 6, 9, -8, 5, 7)
    for level, rank in ((0.8, 8), (0.81, 9), (0.9, 9), (0.1, 1), (0.11, 2)):
        assert conformal_radius(residuals, level) == rank


def test_each_step_of_the_horizon_has_its_own_radius():
    residuals = RNG.standard_normal((19, 3)) * [1, 5, 0]
    each = [conformal_radius(residuals[:, [step]], 0.9)[0] for step in range(3)]
    np.testing.assert_array_equal(conformal_radius(residuals, 0.9), each)
    assert 0 == each[2] < each[0] < each[1]


def test_a_level_is_read_as_a_decimal():
    assert conformal_radius(column(*range(1, 100)), 0.07) == 7  # 100 · 0.07 is 7.000000000000001 in binary
    assert conformal_radius(column(*range(1, 20)), 0.95) == 19


@pytest.mark.parametrize(("level", "least"), [(0.5, 1), (0.9, 9), (0.91, 11), (0.95, 19), (0.99, 99), (0.999, 999)])
def test_too_few_calibration_rows_for_the_level_are_refused_with_both_numbers(level, least):
    assert least_rows(level) == least
    assert conformal_radius(np.ones((least, 1)), level) == 1
    with pytest.raises(
        UsageError, match=f"level {level} needs at least {least} calibration rows; there are {least - 1}"
    ):
        conformal_radius(np.ones((least - 1, 1)), level)


@given(level=LEVEL, seed=st.integers(0, 10_000), rows=st.integers(10, 40))
def test_of_any_different_residuals_exactly_the_guaranteed_share_is_covered_by_the_others(level, seed, rows):
    residuals = np.random.default_rng(seed).standard_cauchy((rows, 1))
    covered = left_out(np.abs(residuals), lambda others: conformal_radius(others, level)[0])
    assert covered == pytest.approx(rows * guarantee(rows - 1, level)) and covered >= rows * level


@given(level=LEVEL, residuals=st.lists(st.integers(-3, 3), min_size=10, max_size=30))
def test_residuals_that_are_equal_only_cover_more(level, residuals):
    scores = np.abs(column(*residuals))
    assert left_out(scores, lambda others: conformal_radius(others, level)[0]) >= len(scores) * level


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95])
def test_new_values_are_covered_as_often_as_guaranteed(level):
    rng, runs, rows = np.random.default_rng(1), 4000, 24
    residuals = rng.standard_t(2, (rows + 1, runs)) * rng.gamma(1, size=(rows + 1, runs))
    radius = conformal_radius(residuals[:rows], level)
    share = np.mean(np.abs(residuals[rows]) <= radius)
    truth = guarantee(rows, level)
    assert abs(share - truth) <= 3.5 * math.sqrt(truth * (1 - truth) / runs)
    assert truth >= level


@given(level=LEVEL, seed=st.integers(0, 10_000), rows=st.integers(10, 40))
def test_whatever_the_quantiles_exactly_the_guaranteed_share_is_covered_after_the_margin(level, seed, rows):
    rng = np.random.default_rng(seed)
    actual, low = rng.standard_normal((2, rows, 1))
    high = low + rng.gamma(1, size=(rows, 1))
    covered = 0
    for one in range(rows):
        others = np.arange(rows) != one
        margin = conformal_margin(actual[others], low[others], high[others], level)
        covered += bool(np.all((low[one] - margin <= actual[one]) & (actual[one] <= high[one] + margin)))
    assert covered == pytest.approx(rows * guarantee(rows - 1, level))


def test_the_margin_of_a_point_forecast_is_the_radius():
    actual, forecast = RNG.standard_normal((2, 30, 4))
    margin = conformal_margin(actual, forecast, forecast, 0.9)
    np.testing.assert_array_equal(margin, conformal_radius(actual - forecast, 0.9))


def test_the_margin_is_what_was_worked_by_hand():
    actual = column(*[0.0] * 9)
    low, high = column(*range(-9, 0)), column(*[1.0] * 4, *[20.0] * 5)
    # distances outside: max(low, -high) = -1 four times (from high), then -5, -4, -3, -2, -1
    assert conformal_margin(actual, low, high, 0.4) == -2
    assert conformal_margin(actual, low, high, 0.2) == -4
    assert conformal_margin(actual, low + 10, high + 10, 0.9) == 9


def test_intervals_too_wide_are_narrowed_and_too_narrow_ones_widened():
    actual, centre = np.random.default_rng(2).standard_normal((2, 200, 1)) * [[[1]], [[0]]]
    assert conformal_margin(actual, centre - 9, centre + 9, 0.9)[0] < -6
    assert conformal_margin(actual, centre - 0.1, centre + 0.1, 0.9)[0] > 1


def test_scores_of_either_sign_have_their_quantile():
    assert quantile(column(-3, -1, 4, 2), 0.5) == 2 and quantile(column(-3, -1, 4, 2), 0.2) == -3


def test_residuals_that_are_not_finite_and_levels_that_are_none_are_refused():
    residuals = np.ones((20, 2))
    residuals[4, 1] = residuals[7, 0] = np.nan
    with pytest.raises(UsageError, match="2 of 40 calibration residuals are not finite, the first in row 5"):
        conformal_radius(residuals, 0.9)
    for level in (0.0, 1.0, -0.1, math.nan, math.inf):
        with pytest.raises(UsageError, match=f"level {level} must lie between 0 and 1"):
            conformal_radius(np.ones((20, 2)), level)
    with pytest.raises(ValueError, match=r"\(20, 2\) and forecast \(20, 1\)"):
        conformal_margin(np.ones((20, 2)), np.ones((20, 2)), np.ones((20, 1)), 0.9)
