"""Measures and reference of the M4 competition, by hand and by statsmodels."""

import math

import numpy as np
import pytest

from jaxseq.forecasting import m4, metrics
from jaxseq.forecasting.losses import Scales


def test_errors_are_means_over_the_series_by_hand() -> None:
    actual = np.array([[1.0, 3.0], [10.0, np.nan], [np.nan, np.nan]])
    forecast = np.array([[2.0, 1.0], [14.0, 99.0], [7.0, 7.0]])
    scales = Scales(absolute=np.array([0.5, 2.0, 1.0]), squared=np.array([0.25, 4.0, 1.0]))
    errors = m4.errors(actual, forecast, scales)
    # Series 1: errors 1 and 2; series 2: 4, and one value that has not come; series 3 has none at all.
    assert errors.mase == pytest.approx((1.5 / 0.5 + 4 / 2) / 2)
    assert errors.smape == pytest.approx(((200 / 3 + 400 / 4) / 2 + 800 / 24) / 2)
    assert errors.rmsse == pytest.approx((math.sqrt(2.5 / 0.25) + math.sqrt(16 / 4)) / 2)
    assert errors.mae == pytest.approx((1 + 2 + 4) / 3)
    assert errors.rmse == pytest.approx(math.sqrt((1 + 4 + 16) / 3))

    twice = m4.errors(actual, forecast, Scales(2 * scales.absolute, scales.squared))
    assert m4.owa(errors, twice) == pytest.approx((2 + 1) / 2)
    assert math.isnan(m4.owa(errors, m4.errors(actual, actual, scales)))
    assert math.isnan(m4.errors(actual, forecast, None).mase)


def test_errors_of_full_rows_are_those_of_the_metrics() -> None:
    source = np.random.default_rng(0)
    actual = source.normal(size=(5, 4))
    forecast = source.normal(size=(5, 4))
    scale = source.uniform(1, 2, size=5)
    errors = m4.errors(actual, forecast, Scales(scale, scale))
    assert errors.mase == pytest.approx(metrics.mase(actual, forecast, scale))
    assert errors.smape == pytest.approx(metrics.smape(actual, forecast))


@pytest.mark.parametrize("period", [7, 12])
def test_the_seasonal_indices_are_those_of_statsmodels(period: int) -> None:
    seasonal = pytest.importorskip("statsmodels.tsa.seasonal")
    source = np.random.default_rng(period)
    steps = np.arange(5 * period + 3)
    values = (100 + steps) * (1 + 0.4 * np.sin(2 * np.pi * steps / period)) * source.uniform(0.95, 1.05, len(steps))
    wanted = seasonal.seasonal_decompose(values, model="multiplicative", period=period).seasonal[:period]
    np.testing.assert_allclose(m4.seasonal_indices(values, period), wanted, rtol=1e-12)
    assert m4.is_seasonal(values, period)

    # The last value, adjusted and put back into the season of each step.
    forecast = m4.naive2(values, period, period + 2)
    adjusted = values[-1] / wanted[(len(values) - 1) % period]
    np.testing.assert_allclose(forecast, adjusted * wanted[(len(values) + np.arange(period + 2)) % period])
    assert forecast[period - 1] == pytest.approx(values[-1])


def test_without_a_season_naive2_is_the_last_value() -> None:
    source = np.random.default_rng(1)
    noise = source.uniform(1, 2, size=60)
    season = 5 + np.sin(2 * np.pi * np.arange(60) / 12)
    for values, period in ((noise, 12), (season, 1), (season[:35], 12), (season - 5, 12), (np.ones(60), 12)):
        assert m4.naive2(values, period, 3).tolist() == [values[-1]] * 3
    assert m4.is_seasonal(season, 12) and not m4.is_seasonal(noise, 12)
    with_gap = season.copy()
    with_gap[30] = np.nan
    np.testing.assert_allclose(m4.naive2(with_gap, 12, 12), m4.naive2(season, 12, 12), rtol=1e-3)
