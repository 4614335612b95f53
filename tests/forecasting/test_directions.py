"""Directions: proper scores, shares counted by hand, a persistent series found and a random walk not."""

import dataclasses

import jax
import numpy as np
import pandas as pd
import pytest
from problems import quickly
from scipy import optimize, stats
from scipy.special import expit

from jaxseq.common.errors import UsageError
from jaxseq.data.table import Table
from jaxseq.data.windows import lay_out
from jaxseq.forecasting import metrics, reliability, rises, verdict
from jaxseq.forecasting.calibration import Calibrated
from jaxseq.forecasting.evaluate import Entry
from jaxseq.forecasting.intervals import Forecast, Intervals
from jaxseq.forecasting.quantities import directions
from jaxseq.nn import heads
from jaxseq.train import preparation
from jaxseq.train.domains import forecasts
from jaxseq.train.domains.base import Extras
from jaxseq.train.experiments import named
from jaxseq.train.experiments.forecasts import Model

NAN = np.nan
NO_INTERVALS = Calibrated(Intervals("split", (), ()), ())


def test_the_log_loss_is_scipys_and_both_scores_are_smallest_at_the_true_probability():
    source = np.random.default_rng(0)
    actual = source.integers(0, 2, (30, 2)).astype(float)
    probability = source.uniform(0.01, 0.99, (30, 2))
    assert metrics.log_loss(actual, probability) == pytest.approx(-stats.bernoulli.logpmf(actual, probability).mean())
    assert metrics.brier(actual, probability) == pytest.approx(np.mean((actual - probability) ** 2))
    assert metrics.accuracy(actual, probability) == np.mean((probability > 0.5) == (actual == 1))
    assert metrics.log_loss(np.array([[1.0, NAN]]), np.array([[0.5, 0.9]])) == pytest.approx(np.log(2))
    assert metrics.log_loss(np.array([[1.0]]), np.array([[0.0]])) == np.inf

    for truth in (0.1, 0.35, 0.8):
        # As many of 100 events as their probability says.
        events = (np.arange(100) < 100 * truth).astype(float)[:, None]
        for score in (metrics.log_loss, metrics.brier):
            best = optimize.minimize_scalar(
                lambda p, score=score, events=events: score(events, np.full(events.shape, p)),
                bounds=(0.001, 0.999),
                method="bounded",
            )
            assert best.x == pytest.approx(truth, abs=1e-4)


def test_the_heads_loss_is_scipys_of_a_rise_and_a_tie_is_none():
    raw = np.array([[[-2.0], [0.3], [30.0], [-30.0]]], np.float32)
    change = np.array([[0.5, 0.0, -1.0, 1e-30]], np.float32)
    head = heads.named("direction")
    rise = [[1, 0, 0, 1]]
    logits = raw[..., 0].astype(np.float64)
    # The probability of the other direction keeps its digits where that of a rise rounds to 1.
    came = np.where(rise, stats.logistic.logcdf(logits), stats.logistic.logsf(logits))
    np.testing.assert_allclose(quickly(head.loss)(raw, change), -came, rtol=1e-5)
    np.testing.assert_allclose(quickly(head.centre)(raw), expit(logits), rtol=1e-5)
    np.testing.assert_array_equal(head.outcome(jax.numpy.asarray(change)), rise)
    assert head.draw is None and head.quantiles is None


def test_shares_are_counted_with_one_of_either_and_unknown_targets_are_not():
    inputs = np.array([[1.0, 2.0], [2.0, 2.0], [3.0, 1.0], [1.0, 2.0]])
    targets = np.array([[3.0, 2.0], [1.0, NAN], [2.0, 1.0], [NAN, 9.0]])
    part = lay_out(inputs, targets, series=np.array([0, 0, 0, 1]))
    np.testing.assert_array_equal(rises.of(part), [[1, 0], [0, NAN], [1, 0], [NAN, 1]])
    assert rises.ties(part) == 2
    shares = rises.fit(part.pieces(2), 2)
    np.testing.assert_allclose(shares.rises, [[3 / 5, 1 / 4], [1 / 2, 2 / 3]])
    # The last directions are up, none, down, and up.
    np.testing.assert_allclose(shares.repeated, [[3 / 5, 2 / 4], [1 / 2, 2 / 3]])
    by_name = rises.forecasts(shares, part)
    np.testing.assert_allclose(by_name[rises.SHARE][3], shares.rises[1])
    np.testing.assert_allclose(
        by_name[rises.REPEATED], [[3 / 5, 1 / 2], [2 / 5, 1 / 2], [2 / 5, 1 / 2], [1 / 2, 2 / 3]]
    )
    one_value = lay_out(inputs[:, 1:], targets)
    assert list(rises.forecasts(rises.fit([one_value], 1), one_value)) == [rises.SHARE]


def test_reliability_keeps_equal_probabilities_together():
    probability = np.repeat([0.2, 0.7], [30, 10])
    came = np.concatenate([np.arange(30) < 6, np.arange(10) < 8]).astype(float)
    came[0] = NAN
    low, high = reliability.by_deciles(came, probability)
    assert low == (29, pytest.approx(0.2), pytest.approx(5 / 29)) and high == (10, pytest.approx(0.7), 0.8)
    assert reliability.markdown([high]).endswith("| 10 | 0.700 | 0.800 |")
    assert reliability.by_deciles(np.array([NAN]), np.array([0.5])) == []


def persistent(persistence: float, rows: int = 900) -> tuple[pd.DataFrame, np.ndarray]:
    """A sum of AR(1) changes, and the true probability that each value is above the one before it."""
    source = np.random.default_rng(3)
    noise = source.normal(size=rows)
    changes = np.zeros(rows)
    for row in range(1, rows):
        changes[row] = persistence * changes[row - 1] + noise[row]
    truth = stats.norm.cdf(persistence * np.concatenate([[0.0], changes[:-1]]))
    return pd.DataFrame({"y": np.cumsum(changes)}), truth


@pytest.mark.parametrize(("persistence", "answer"), [(0.8, "improves"), (0.0, "no evidence")])
def test_true_probabilities_of_a_persistent_series_are_found_and_those_of_a_random_walk_are_none(persistence, answer):
    frame, truth = persistent(persistence)
    dataset = Table.from_frame(frame, window=4, target="change").load(1)
    part = dataset.windows.test
    # Of a random walk the last of the persistent one's: noise that says nothing.
    probability = truth if persistence else persistent(0.8)[1][::-1]
    entry = Entry(Forecast(probability[part.origins][:, None]), NO_INTERVALS)
    judged = directions.judge("the truth", dataset, entry, seed=0)
    assert judged.answer == answer, judged.verdict
    names = [row.name for row in judged.comparison.rows]
    assert sorted(names[:2]) == sorted([rises.SHARE, rises.REPEATED]) and names[2] == "the truth"
    assert verdict.headings("USD", False, "log")[:3] == ("log loss", "Brier score", "accuracy")
    over_all = judged.scores[judged.scores["step"] == "all"].set_index("forecast")
    assert judged.comparison.model.errors == pytest.approx(tuple(over_all.loc["the truth", list(directions.MEASURES)]))
    assert set(judged.predictions["actual"]) == {0.0, 1.0} and not judged.coverage
    assert not judged.comparison.has_unit


def test_the_typical_probability_has_the_mean_loss_of_all():
    actual = np.array([[1.0, 0.0, NAN]])
    seeds = [np.array([[0.9, 0.2, 0.5]]), np.array([[0.4, 0.6, 0.5]])]
    mean = np.mean([metrics.log_losses(actual, seed) for seed in seeds], axis=0)
    typical = directions.typical(actual, seeds)
    np.testing.assert_allclose(metrics.log_losses(actual, typical), mean)
    assert np.isfinite(typical).all()


def test_what_needs_values_is_refused_in_one_line():
    direction = named("aapl", model=Model(head="direction"))
    for change, where in (({"task": "iterated"}, "--task iterated"), ({"intervals": "split"}, "--intervals")):
        with pytest.raises(UsageError) as raised:
            dataclasses.replace(direction, **change)
        assert (raised.value.where, raised.value.got) == (where, "--model.head direction")
    for extras, where in ((Extras(classical=True), "--classical"), (Extras(explain=True), "--explain")):
        with pytest.raises(UsageError) as raised:
            forecasts.check_extras(direction, extras)
        assert (raised.value.where, raised.value.got) == (where, "--model.head direction")
    with pytest.raises(UsageError) as raised:
        preparation.check(direction, "--auto")
    assert raised.value.where == "--auto"

    frame, _ = persistent(0.5, rows=80)
    for target in ("season", "level"):
        data = Table.from_frame(frame, window=14, target=target, period=7)
        with pytest.raises(UsageError) as raised:
            forecasts.prepare(named("table", data=data, model=Model(head="direction")))
        assert (raised.value.where, raised.value.got) == ("--data.target", target)
        assert raised.value.needed == "change or log-return"
    # Left open, it is the change from the last value.
    data = Table.from_frame(frame, window=14, target="auto", period=7)
    assert named("table", data=data, model=Model(head="direction")).load().scaling.kind == "change"
