"""Scores of forecasts as distributions, and intervals around the forecasts of baselines."""

import numpy as np
import pandas as pd
import pytest
import simulated

from jaxseq.data import fitting, scaling, transforms
from jaxseq.forecasting import distributions, metrics
from jaxseq.forecasting.intervals import bounds, fit
from jaxseq.forecasting.predictions import target_times


def in_units(part):
    return np.repeat(part.windows.inputs[:, -1:], part.windows.targets.shape[1], axis=1)


@pytest.mark.parametrize("kind", ["split", "volatility", "adaptive"])
def test_a_baseline_has_the_intervals_that_a_model_with_its_forecasts_would_have(kind):
    valid, test = simulated.parts(simulated.garch(800, 0), horizon=2)
    fitted = fit(kind, simulated.naive(valid), valid, "volatility")
    expected = bounds(simulated.naive(test), fitted, test)
    found = distributions.around(in_units(valid), in_units(test), fitted, valid, test)
    assert list(found) == list(expected)
    for level, ends in expected.items():
        np.testing.assert_allclose(found[level], ends, rtol=1e-9)


def root(values, base, shift, scale):
    return (np.sqrt(values) - shift) / scale


ROOT = transforms.LEVEL._replace(inputs=root, targets=root)


@pytest.mark.parametrize("kind", ["log-return", "root"])
def test_a_forecast_that_its_scale_cannot_express_has_no_intervals(kind, monkeypatch):
    for module in (scaling, fitting):
        monkeypatch.setattr(module, "TRANSFORMS", {**transforms.TRANSFORMS, "root": ROOT})
    valid, test = simulated.parts(simulated.trending(800, 0), kind=kind)
    fitted = fit("split", simulated.naive(valid), valid)
    forecasts = [in_units(part) for part in (valid, test)]
    assert list(distributions.around(*forecasts, fitted, valid, test)) == list(fitted.levels)
    assert distributions.around(*(-forecast for forecast in forecasts), fitted, valid, test) == {}


def test_scores_are_those_of_the_quantiles_and_scaled_ones_are_by_row():
    random = np.random.default_rng(0)
    actual = random.standard_normal((40, 2))
    centre = np.zeros((40, 2))
    ends = {0.5: (centre - 0.7, centre + 0.7), 0.8: (centre - 1.3, centre + 1.3)}
    scale = np.repeat([1.0, 4.0], 20)
    found, first, _ = distributions.scores(actual, centre, ends, scale)
    levels = np.array([0.1, 0.25, 0.5, 0.75, 0.9])
    quantiles = np.broadcast_to([-1.3, -0.7, 0, 0.7, 1.3], (40, 2, 5))
    assert found["crps"] == pytest.approx(metrics.crps_quantiles(actual, quantiles, levels))
    assert found["pinball"] == pytest.approx(metrics.quantile_loss(actual, quantiles, levels))
    halves = [metrics.crps_quantiles(actual[rows], quantiles[rows], levels) for rows in (slice(20), slice(20, 40))]
    assert found["scaled_crps"] == pytest.approx((halves[0] + halves[1] / 4) / 2)
    assert found["interval_score_80%"] == metrics.interval_score(actual, *ends[0.8], 0.8)
    assert found["coverage_50%"] == metrics.coverage(actual, *ends[0.5])
    # Each step by itself is a part of a single step.
    of_first = {level: (low[:, :1], high[:, :1]) for level, (low, high) in ends.items()}
    assert first == distributions.scores(actual[:, :1], centre[:, :1], of_first, scale)[0]
    assert distributions.scores(actual, centre, {}) == [{}] * 3


def test_the_table_has_the_forecasts_with_intervals_over_all_steps():
    table = pd.DataFrame(
        {
            "forecast": ["[a|b](c)", "[a|b](c)", "none"],
            "step": ["all", 1, "all"],
            "crps": [1.5, 1.0, np.nan],
            "pinball": [0.5, 0.4, np.nan],
            "scaled_crps": [0.25, 0.2, np.nan],
            "interval_score_80%": [3.0, 2.0, np.nan],
        }
    )
    lines = distributions.markdown(table, "USD", scaled=False).splitlines()
    assert lines[0] == "| forecast | CRPS, USD | pinball loss, USD | interval score 80%, USD |"
    assert lines[2:] == ["| \\[a\\|b\\](c) | 1.5 | 0.5 | 3 |"]
    scaled = distributions.markdown(table, "", scaled=True).splitlines()
    assert scaled[0].startswith("| forecast | scaled CRPS | CRPS |")
    assert scaled[2].startswith("| \\[a\\|b\\](c) | 0.25 | 1.5 |")
    assert distributions.markdown(table[["forecast", "step"]], "", scaled=False) == ""


def test_targets_have_the_times_of_their_own_rows():
    _, test = simulated.parts(simulated.stationary(100, 0), simulated.stationary(80, 1), horizon=3)
    times = target_times(test.windows, test.series)
    np.testing.assert_array_equal(times, test.windows.origins[:, None] + [0, 1, 2])
