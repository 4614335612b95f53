"""Seasons are found in dates and values, and none where there is none."""

import numpy as np
import pytest

from jaxseq.data import seasons


def wave(period, n, noise=0.1, seed=0):
    steps = np.arange(n)
    return np.sin(2 * np.pi * steps / period) + noise * np.random.default_rng(seed).standard_normal(n) + 0.01 * steps


@pytest.mark.parametrize("period", [4, 7, 12, 24, 52])
def test_a_season_is_found_in_the_values(period):
    assert seasons.detect([wave(period, 20 * period)]) == period


def test_a_season_is_found_in_most_series_of_a_panel():
    assert seasons.detect([wave(12, 200, seed=seed) for seed in range(5)]) == 12


def test_noise_has_no_season_and_most_random_walks_have_none():
    random = np.random.default_rng(0)
    found = [seasons.detect([values]) for values in random.standard_normal((50, 300))]
    walks = [seasons.detect([values]) for values in random.standard_normal((50, 300)).cumsum(axis=1)]
    assert np.mean(np.array(found) == 1) >= 0.95 and np.mean(np.array(walks) == 1) >= 0.6


def test_missing_and_constant_values_are_no_season_and_no_error():
    values = wave(12, 240)
    values[::17] = np.nan
    assert seasons.detect([values]) == 12
    assert seasons.detect([np.zeros(100)]) == 1
    assert seasons.detect([np.arange(5.0)]) == 1


def test_the_season_of_the_dates_has_a_longer_one_beside_it_if_both_fit_twice_into_the_training_part():
    noise = np.random.default_rng(0).standard_normal(1000)
    assert seasons.plausible(24, [noise]) == (24, 168)
    assert seasons.plausible(24, [noise[:335]]) == (24,)
    assert seasons.plausible(24, [noise[:47]]) == ()
    assert seasons.plausible(7, [wave(30, 600)]) == (7, 30)
    assert seasons.plausible(1, []) == ()
