"""The ridge regression that a network may begin as, against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge as Oracle

from jaxseq.common.arrays import Batch
from jaxseq.forecasting import ridge

STEPS, FEATURES, HORIZON = 6, 2, 3


def rows_of(count: int, seed: int = 0) -> Batch:
    """Draw windows whose targets depend on the last time step, with noise."""
    source = np.random.default_rng(seed)
    x = 5 + source.normal(size=(count, STEPS, FEATURES)).astype(np.float32)
    y = x[:, -1, :1] * np.arange(1, HORIZON + 1) + 0.5 * source.normal(size=(count, HORIZON))
    return Batch(x, y.astype(np.float32))


@pytest.mark.parametrize("decay", ridge.DECAYS)
@pytest.mark.parametrize("penalty", [0.01, 10.0, 1e5])
def test_it_is_that_of_scikit_learn_on_lags_divided_by_their_distance(decay: int, penalty: float) -> None:
    rows = rows_of(40)
    divisors = np.repeat(np.arange(STEPS, 0, -1.0) ** decay, FEATURES)
    flat = rows.x.reshape(40, -1).astype(float) / divisors
    oracle = Oracle(alpha=penalty, solver="svd").fit(flat, rows.y.astype(float))

    fitted = ridge.fit_to(rows, penalty, decay)

    np.testing.assert_allclose(fitted.weights * divisors[:, None], oracle.coef_.T, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(fitted.intercept, oracle.intercept_, rtol=1e-6, atol=1e-9)


def test_pieces_and_unknown_targets_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of(30)
    unknown = rows.y.copy()
    unknown[::3, 1] = np.nan
    known = np.isfinite(unknown).all(axis=1)
    expected = ridge.fit_to(Batch(rows.x[known], rows.y[known]), 1.0, 1)

    monkeypatch.setattr(ridge, "LAID_OUT", 5 * STEPS * FEATURES)
    fitted = ridge.fit_to(Batch(rows.x, unknown), 1.0, 1)

    np.testing.assert_allclose(fitted.weights, expected.weights, rtol=1e-9, atol=1e-12)


def test_the_choice_has_the_smallest_product_of_the_errors_on_later_rows() -> None:
    train = rows_of(25)
    valid = rows_of(20, seed=1)
    by_age = ridge.ages(np.zeros(25, int), HORIZON)
    early, late = (Batch(train.x[rows], train.y[rows]) for rows in by_age)

    def error(fitted: ridge.Ridge, rows: Batch) -> float:
        forecast = rows.x.reshape(len(rows.x), -1).astype(float) @ fitted.weights + fitted.intercept
        return float(np.mean((forecast - rows.y) ** 2))

    products = {}
    for decay in ridge.DECAYS:
        for penalty in ridge.PENALTIES:
            of_all = error(ridge.fit_to(train, penalty, decay), valid)
            products[penalty, decay] = of_all * error(ridge.fit_to(early, penalty, decay), late)

    chosen = ridge.fit(train, valid, by_age)
    assert chosen is not None
    assert (chosen.penalty, chosen.decay) == min(products, key=products.__getitem__)
    # Only the last time step counts here, so that the penalty of the others is worth its price.
    assert chosen.decay == 2


def test_the_ages_of_each_series_are_apart_by_the_overlap_of_their_targets() -> None:
    series = np.array([0] * 10 + [1] * 5)

    is_early, is_late = ridge.ages(series, horizon=3)

    assert np.flatnonzero(is_early).tolist() == [0, 1, 2, 3, 4, 5, 10, 11, 12]
    assert np.flatnonzero(is_late).tolist() == [8, 9]


def test_there_is_none_of_too_many_inputs_or_of_a_part_without_known_targets() -> None:
    rows = rows_of(8)
    by_age = ridge.ages(np.zeros(8, int), HORIZON)
    wide = Batch(np.zeros((8, ridge.MOST_INPUTS + 1, 1), np.float32), rows.y)
    unknown = Batch(rows.x, np.full_like(rows.y, np.nan))

    assert ridge.fit(wide, wide, by_age) is None
    assert ridge.fit(rows, unknown, by_age) is None
    assert ridge.fit(unknown, rows, by_age) is None
