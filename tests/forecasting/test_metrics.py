"""Errors: worked by hand, and against scikit-learn."""

import math

import numpy as np
import pytest
from forecasts import ACTUAL, FORECAST, LAST

from jaxseq.common.errors import UsageError
from jaxseq.forecasting.metrics import (
    coverage,
    mae,
    mase,
    mse,
    relative_mse,
    rmse,
    rmsse,
    seasonal_scale,
    smape,
)
from jaxseq.forecasting.significance import skill

RNG = np.random.default_rng(0)
WALK, GUESS = RNG.standard_normal((2, 30, 4)).cumsum(axis=2)


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


def test_errors_are_those_of_scikit_learn():
    sklearn = pytest.importorskip("sklearn.metrics")
    pair = WALK.ravel(), GUESS.ravel()
    assert mae(WALK, GUESS) == pytest.approx(sklearn.mean_absolute_error(*pair), rel=1e-13)
    assert mse(WALK, GUESS) == pytest.approx(sklearn.mean_squared_error(*pair), rel=1e-13)
    assert rmse(WALK, GUESS) == pytest.approx(sklearn.root_mean_squared_error(*pair), rel=1e-13)


def test_smape_is_what_was_worked_by_hand_and_goes_from_0_to_200():
    assert smape(ACTUAL, FORECAST) == pytest.approx((200 * 2 / 6 + 200 * 1 / 5) / 4)
    assert smape(np.array([[0.0, -2.0]]), np.array([[0.0, -2.0]])) == 0
    assert smape(np.array([[0.0, -2.0]]), np.array([[3.0, 5.0]])) == 200


def test_a_value_that_is_not_a_number_is_not_hidden():
    hole = np.array([[1.0, np.nan], [3.0, 5.0]])
    for measure in (mse, mae, rmse, smape):
        assert math.isnan(measure(ACTUAL, hole))
    assert math.isnan(coverage(ACTUAL, hole - 1, hole + 1))


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


def test_an_interval_covers_its_ends():
    assert coverage(ACTUAL, np.array([[1.0, 2.5], [2.0, 0.0]]), np.array([[2.0, 3.0], [3.0, 4.0]])) == 2 / 4
    assert coverage(ACTUAL, np.full((2, 2), -np.inf), ACTUAL) == 1
