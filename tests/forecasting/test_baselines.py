"""Naive, seasonal naive, drift and least squares: worked by hand, exact where they should be."""

import numpy as np
import pytest
from forecasts import Past, windows_of

from jaxseq.common.errors import UsageError
from jaxseq.forecasting.baselines import drift, least_squares, naive, seasonal_naive


def test_naive_repeats_the_last_value_and_drift_goes_on_with_the_mean_change():
    past = Past(np.array([[1.0, 2.0], [7.0, 4.0]]), np.zeros((2, 3)))
    np.testing.assert_array_equal(naive(past), [[2, 2, 2], [4, 4, 4]])
    train = Past(np.array([[5.0, 1.0], [5.0, 9.0]]), np.array([[9.0, 0.0], [2.0, 0.0]]))  # changes 8 and -7
    np.testing.assert_array_equal(drift(past, train), [[2.5, 3, 3.5], [4.5, 5, 5.5]])


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
