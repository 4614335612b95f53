"""A discriminator that finds a planted difference, and none where there is none; scikit-learn is its oracle."""

import math

import numpy as np
import pytest

from jaxseq.music.evaluation import discriminator
from jaxseq.music.evaluation.discriminator import area_under_curve, discriminate, fit, standard_error

NAMES = ("first", "second", "third", "fourth", "fifth")


def features(seed, rows):
    return np.random.default_rng(seed).normal(size=(rows, len(NAMES)))


def test_sets_of_one_distribution_are_not_told_apart():
    found = [discriminate(features(seed, 40), features(100 + seed, 60), NAMES, seed) for seed in range(4)]
    assert np.mean([one.auc for one in found]) == pytest.approx(0.5, abs=0.08)
    assert all(abs(one.auc - 0.5) < 4 * one.error for one in found)


@pytest.mark.parametrize(("shift", "least", "most"), [(1.0, 0.6, 0.85), (8.0, 0.999, 1.0)])
def test_a_planted_difference_is_found_and_named(shift, least, most):
    first = features(1, 40)
    first[:, 2] += shift
    found = discriminate(first * 100, features(2, 60) * 100, NAMES)
    assert least <= found.auc <= most
    assert found.strongest[0][0] == "third"
    assert found.strongest[0][1] > 0
    # The sets change places: what looks like the second set looks unlike the first.
    assert discriminate(features(2, 60), first, NAMES).strongest[0][1] < 0


def test_values_that_lack_and_columns_that_never_change_tell_nothing():
    first, second = features(3, 30), features(4, 30)
    first[:, 0], second[:, 0] = 7, 7
    first[::2, 1] = math.nan
    second[:, 3] = math.nan
    found = discriminate(first, second, NAMES)
    assert 0.2 < found.auc < 0.8
    assert found.strongest[-1][0] not in ("first", "fourth")


def test_few_pieces_are_not_judged():
    found = discriminate(features(0, discriminator.FEWEST - 1), features(1, 60), NAMES)
    assert math.isnan(found.auc)
    assert math.isnan(found.error)


def test_the_regression_is_that_of_scikit_learn():
    linear_model = pytest.importorskip("sklearn.linear_model")
    x = np.concatenate([features(1, 40) + 0.5, features(2, 30)])
    is_first = np.arange(70) < 40
    found = fit(x, is_first)
    oracle = linear_model.LogisticRegression(C=1 / discriminator.PENALTY, tol=1e-8).fit(x, is_first)
    np.testing.assert_allclose(found.weights, oracle.coef_[0], atol=1e-3)
    assert found.intercept == pytest.approx(oracle.intercept_[0], abs=1e-3)


def test_the_area_is_the_share_of_pairs_in_order_with_ties_as_halves():
    assert area_under_curve(np.array([1.0, 2.0]), np.array([0.0, 2.0])) == (1 + 0 + 1 + 0.5) / 4


def test_the_standard_error_is_that_of_a_table_of_hanley_and_mcneil():
    # Their example: an area of 0.893 over 51 abnormal and 58 normal images has a standard error of 0.032.
    assert standard_error(0.893, 51, 58) == pytest.approx(0.032, abs=6e-4)
    assert standard_error(1.0, 10, 10) == 0
