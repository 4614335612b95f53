"""Géron's synthetic waves, to the digits that his notebook printed."""

import numpy as np
import pytest

from jaxseq.common.errors import UsageError
from jaxseq.data.dataset import Background
from jaxseq.data.laid_out import batch
from jaxseq.data.waves import Waves, generate
from jaxseq.forecasting.baselines import naive
from jaxseq.forecasting.least_squares import least_squares
from jaxseq.forecasting.metrics import mse


@pytest.mark.parametrize(("horizon", "published", "tolerance"), [(1, 0.020211367, 1e-8), (10, 0.256974, 1e-6)])
def test_the_naive_error_on_validation_is_the_published_one(horizon, published, tolerance):
    valid = Waves().load(horizon).windows.valid
    assert mse(valid.targets, naive(valid)) == pytest.approx(published, abs=tolerance)


@pytest.mark.parametrize(("horizon", "known"), [(1, 0.002931), (10, 0.015488)])
def test_least_squares_on_50_lags_reaches_its_known_error(horizon, known):
    windows, scaling, _ = Waves().load(horizon)
    train, valid, _ = (batch(part, scaling) for part in windows)
    forecast = least_squares(train.x, train.y).predict(valid.x)
    assert mse(valid.y, forecast) == pytest.approx(known, abs=1e-5)


def test_the_parts_are_7000_2000_and_1000_series_and_share_none():
    parts = Waves().load(1).windows
    assert [len(part.inputs) for part in parts] == [7000, 2000, 1000]
    np.testing.assert_array_equal(np.concatenate([part.times for part in parts]), np.arange(10_000))


def test_a_model_sees_the_waves_as_they_are():
    dataset = Waves(count=100).load(3)
    scaling = dataset.scaling
    for windows in dataset.windows:
        part = batch(windows, scaling)
        assert part.x.dtype == part.y.dtype == np.float32
        np.testing.assert_array_equal(part.x[..., 0], windows.inputs)
        np.testing.assert_array_equal(part.y, windows.targets)
        np.testing.assert_array_equal(scaling.invert(part.y, windows), windows.targets)


def test_the_same_seed_gives_the_same_waves_and_another_seed_others():
    np.testing.assert_array_equal(generate(20, 8, seed=1), generate.__wrapped__(20, 8, seed=1))
    assert not np.array_equal(generate(20, 8, seed=1), generate(20, 8, seed=2))


def test_without_noise_the_waves_are_smooth_and_noise_has_its_variance():
    still, noisy = generate(2000, 30, noise=0.0), generate(2000, 30, noise=0.3)
    assert np.var(noisy - still) == pytest.approx(0.3**2 / 12, rel=0.02)
    assert np.abs(still).max() <= 0.7


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"count": 9}, "waves: count: too small; got 9, needed at least 10"),
        ({"window": 1}, "waves: window: too small; got 1"),
        ({"folds": 0}, "waves: folds: too small; got 0, needed at least 1"),
        ({"folds": 2, "fold": 3}, "waves: fold is 3; there are 2"),
        ({"seed": -1}, "waves: seed: too small; got -1"),
        ({"seed": 2**32}, "waves: seed: too large; got 4294967296"),
        ({"noise": -0.1}, "waves: noise: too small; got -0.1"),
        ({"noise": float("nan")}, "waves: noise: too small; got nan"),
    ],
)
def test_a_field_that_cannot_be_is_refused(fields, message):
    with pytest.raises(UsageError, match=message):
        Waves(**fields)


def test_ten_series_fill_three_parts():
    assert [len(part.inputs) for part in Waves(count=10).load(1).windows] == [7, 2, 1]


def test_a_horizon_that_cannot_be_is_refused():
    with pytest.raises(UsageError, match="waves: horizon: too small; got 0, needed at least 1"):
        Waves(count=10).load(0)


def test_the_waves_have_no_season_no_training_rows_and_no_notes():
    assert Waves(count=10).load(1).background == Background(("waves",), period=1)


def test_folds_test_the_last_tenth_of_the_series_in_turn_and_train_on_those_before():
    folds = [Waves(count=100, folds=2, fold=fold).load(2).windows for fold in (1, 2)]
    assert [[(part.times[0], part.times[-1]) for part in parts] for parts in folds] == [
        [(0, 69), (70, 89), (90, 94)],
        [(0, 74), (75, 94), (95, 99)],
    ]
    with pytest.raises(UsageError, match="waves: the test part has 1 of 10 rows; 2 folds"):
        Waves(count=10, folds=2).load(1)
