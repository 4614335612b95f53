"""Simple forecasts of intermittent demand: Croston's method by hand and against statsforecast, and their place."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from jaxseq.data.table import Table
from jaxseq.forecasting import baselines, evaluate, intermittent
from jaxseq.forecasting.calibration import Calibrated
from jaxseq.forecasting.distributions import scores
from jaxseq.forecasting.intervals import Forecast, uncalibrated

DEMAND = np.array([0, 0, 4, 0, 2, 0, 0, 0, 10, 0], float)


def table(share=0.3, rows=200):
    random = np.random.default_rng(5)
    sold = random.integers(1, 9, rows) * (random.random(rows) < share)
    return Table.from_frame(pd.DataFrame({"sold": sold}), column="sold", window=8, target="count")


def test_crostons_rate_is_the_smoothed_size_over_the_smoothed_time_between_demands():
    size, interval = 4.0, 3.0
    expected = [0, 0, size / interval]
    for newest, between in ((2, 2), (10, 4)):
        size, interval = 0.1 * newest + 0.9 * size, 0.1 * between + 0.9 * interval
        expected += [expected[-1]] * (between - 1) + [size / interval]
    found = intermittent.croston(DEMAND[None])[0]
    np.testing.assert_allclose(found, [*expected, expected[-1]])
    assert not intermittent.croston(np.zeros((1, 5))).any()


def test_crostons_forecasts_are_statsforecasts():
    models = pytest.importorskip("statsforecast.models")
    for seed in range(5):
        random = np.random.default_rng(seed)
        values = random.poisson(3, 60) * (random.random(60) < 0.3) + 0.0
        theirs = models.CrostonClassic().forecast(values, 1)["mean"][0]
        assert intermittent.croston(values[None])[0, -1] == pytest.approx(theirs, rel=1e-6)


def test_series_are_intermittent_from_a_mean_interval_of_1_32_time_steps():
    assert not intermittent.are_intermittent([np.array([1, 1, 0, 2.0, 1])])
    assert intermittent.are_intermittent([np.array([1, 0, 0, 2.0]), np.array([np.nan, 0])])
    assert not intermittent.are_intermittent([])


def test_counts_that_are_mostly_zero_have_the_zero_forecast_and_crostons():
    dataset = table().load(3)
    part = dataset.windows.test
    forecasts = baselines.forecast_all(dataset, part)
    assert not forecasts[baselines.ZERO].any() and forecasts[baselines.ZERO].shape == part.targets.shape
    path = intermittent.croston(dataset.background.series[0].values[None])[0]
    np.testing.assert_array_equal(forecasts[baselines.CROSTON][:, 2], path[part.origins - 1])

    for other in (table(share=1.0), dataclasses.replace(table(), target="change")):
        names = baselines.forecast_all(other.load(3), part)
        assert baselines.ZERO not in names and baselines.CROSTON not in names


def test_the_training_mean_of_counts_stands_for_the_distribution_of_the_training_values():
    dataset = table().load(2)
    part = dataset.windows.test
    centre = np.ones(part.targets.shape)
    forecast = Forecast(centre, np.repeat(centre[..., None], 7, axis=2), (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975))
    judged = evaluate.judge("model", dataset, evaluate.Entry(forecast, Calibrated(uncalibrated(2), ())), seed=0)
    training = dataset.background.training[0]
    ends = {}
    for level in (0.5, 0.8, 0.95):
        low, high = np.quantile(training, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
        ends[level] = (np.full_like(centre, low), np.full_like(centre, high))
    expected = scores(part.targets, np.full_like(centre, np.quantile(training, 0.5, method="inverted_cdf")), ends)[0]
    rows = judged.scores[(judged.scores["forecast"] == baselines.TRAINING_MEAN) & (judged.scores["step"] == "all")]
    assert rows.iloc[0][list(expected)].to_dict() == pytest.approx(expected)
