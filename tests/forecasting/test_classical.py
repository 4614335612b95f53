"""Exponential smoothing and theta: published forecasts, an independent theta, and every fit that goes wrong counted."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from forecasts import Past, windows_of
from scipy.optimize import minimize_scalar

from jaxseq.common.errors import UsageError
from jaxseq.forecasting import classical
from jaxseq.forecasting.classical import exponential_smoothing, theta

ets = pytest.importorskip("statsmodels.tsa.exponential_smoothing.ets")

# Hyndman & Athanasopoulos, Forecasting: Principles and Practice, 2nd edition (2018), tables 7.1 and 7.2
OIL = [445.36, 453.20, 454.41, 422.38, 456.04, 440.39, 425.19, 486.21, 500.43]  # Saudi Arabia, from 1996
OIL += [521.28, 508.95, 488.89, 509.87, 456.72, 473.82, 525.95, 549.83, 542.34]
AIR = [17.55, 21.86, 23.89, 26.93, 26.89, 28.83, 30.08, 30.95, 30.19, 31.58, 32.58, 33.48, 39.02, 41.39]  # Australia
AIR += [41.60, 44.66, 46.95, 48.73, 51.49, 50.03, 60.64, 63.36, 66.36, 68.20, 68.12, 69.78, 72.60]  # from 1990
WALK = 50 + np.random.default_rng(0).standard_normal(60).cumsum()
SEASON = np.array([3.0, -1.0, 4.0, -6.0])


def past(values, horizon):
    return Past(np.array(values, np.float64)[None], np.zeros((1, horizon)))


def test_simple_exponential_smoothing_forecasts_what_the_textbook_does():
    np.testing.assert_allclose(exponential_smoothing(past(OIL, 3)).forecast, [[542.68] * 3], atol=0.01)


def test_exponential_smoothing_with_a_trend_forecasts_what_the_textbook_does():
    np.testing.assert_allclose(exponential_smoothing(past(AIR, 3)).forecast, [[74.60, 76.70, 78.80]], atol=0.02)


def test_exponential_smoothing_goes_on_with_a_straight_line():
    windows = windows_of(3 + 0.5 * np.arange(24), 20, 3)
    np.testing.assert_allclose(exponential_smoothing(windows).forecast, windows.targets, rtol=1e-9)


@pytest.mark.parametrize("slope", [0.0, 0.3])
def test_exponential_smoothing_with_a_period_goes_on_with_the_season(slope):
    noise = 0.01 * np.random.default_rng(1).standard_normal(34)
    windows = windows_of(np.tile(SEASON, 9)[:34] + slope * np.arange(34) + noise, 28, 6)
    np.testing.assert_allclose(exponential_smoothing(windows, 4).forecast, windows.targets, atol=0.06)
    assert np.abs(exponential_smoothing(windows).forecast - windows.targets).max() > 1


@pytest.mark.parametrize("period", [1, 4])
def test_the_model_with_the_least_corrected_information_criterion_is_taken(period):
    windows = windows_of(WALK[:33] + np.tile(SEASON, 9)[:33] * (period > 1), 30, 3)
    (values,) = windows.inputs[:1]
    fits = [
        ets.ETSModel(values, trend=trend, seasonal=season, seasonal_periods=period if season else None).fit(disp=False)
        for trend in (None, "add")
        for season in ((None, "add") if period > 1 else (None,))
    ]
    count = np.array([len(fit.params) + 1 for fit in fits])
    criteria = 2 * count - 2 * np.array([fit.llf for fit in fits]) + 2 * count * (count + 1) / (30 - count - 1)
    chosen = fits[int(np.argmin(criteria))]
    np.testing.assert_allclose(exponential_smoothing(windows, period).forecast[0], chosen.forecast(3), atol=0.02)


def ses_theta(values, horizon):
    """Hyndman & Billah (2003): simple exponential smoothing from the first value, and half the slope of a line."""

    def level(alpha):
        state, squares = values[0], 0.0
        for value in values:
            squares += (value - state) ** 2
            state += alpha * (value - state)
        return state, squares

    alpha = minimize_scalar(lambda alpha: level(alpha)[1], bounds=(1e-4, 0.9999), method="bounded").x
    n, slope = len(values), np.polyfit(np.arange(len(values)), values, 1)[0]
    drift = np.arange(horizon) + 1 / alpha - (1 - alpha) ** n / alpha
    return level(alpha)[0] + slope / 2 * drift


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_theta_is_simple_exponential_smoothing_with_half_the_slope_of_a_line(seed):
    rng = np.random.default_rng(seed)
    values = 20 + 0.3 * np.arange(40) + rng.standard_normal(40) + 0.3 * rng.standard_normal(40).cumsum()
    np.testing.assert_allclose(theta(past(values, 4)).forecast[0], ses_theta(values, 4), rtol=2e-4)


@pytest.mark.parametrize("sign", [1, -1])
def test_theta_with_a_period_goes_on_with_a_season_that_is_plain(sign):
    windows = windows_of(sign * np.tile([1.0, 5.0, 3.0, 2.0], 9), 28, 6)
    np.testing.assert_allclose(theta(windows, 4).forecast, windows.targets, rtol=1e-6)


def test_theta_leaves_a_season_alone_that_may_be_chance():
    noise = np.random.default_rng(6).standard_normal(40)  # its autocorrelation at lag 4 is -0.02
    np.testing.assert_array_equal(theta(past(noise, 3), 4).forecast, theta(past(noise, 3)).forecast)
    seasonal = noise + np.resize(SEASON, 40)
    assert np.abs(theta(past(seasonal, 3), 4).forecast - theta(past(seasonal, 3)).forecast).max() > 1


@pytest.mark.parametrize("method", [exponential_smoothing, theta])
@pytest.mark.parametrize("scale", [2.0**-40, 2.0**40, 2.0**900])
def test_rescaling_a_window_rescales_its_forecast(method, scale):
    windows = windows_of(WALK[:23], 20, 2)
    large = Past(windows.inputs * scale, windows.targets)
    np.testing.assert_allclose(method(large).forecast / scale, method(windows).forecast, rtol=1e-9)


@pytest.mark.parametrize("method", [exponential_smoothing, theta])
def test_a_forecast_knows_its_own_window_alone(method):
    windows = windows_of(WALK[:24], 20, 2)
    forecast = method(windows).forecast
    turned = method(Past(windows.inputs[::-1], windows.targets * np.nan)).forecast
    np.testing.assert_array_equal(turned, forecast[::-1])


@pytest.mark.parametrize("method", [exponential_smoothing, theta])
def test_constant_windows_are_forecast_as_they_are_and_counted(method):
    rows = np.stack([np.full(12, 0.1), WALK[:12], np.zeros(12), np.full(12, 3.0) + np.tile([0, 4e-16], 6)])
    fits = method(Past(rows, np.zeros((4, 3))), 2)
    assert (fits.constant, fits.failures) == (3, ())
    np.testing.assert_array_equal(fits.forecast[[0, 2, 3]], np.repeat(rows[[0, 2, 3], -1:], 3, axis=1))
    np.testing.assert_array_equal(fits.forecast[[1]], method(Past(rows[[1]], np.zeros((1, 3))), 2).forecast)


def test_a_fit_that_fails_is_counted_with_its_reason_and_seasonal_naive_stands_in(monkeypatch):
    fit = ets.ETSModel.fit
    rows = np.stack([WALK[:12], WALK[20:32], WALK[40:52]])
    sound = exponential_smoothing(Past(rows, np.zeros((3, 3))), 2)

    def broken(model, *args, **options):
        if (
            abs(np.asarray(model.endog)[0] - (rows[1, 0] - rows[1].mean()) / np.abs(rows[1] - rows[1].mean()).max())
            < 1e-9
        ):
            raise np.linalg.LinAlgError("singular")
        return fit(model, *args, **options)

    monkeypatch.setattr(ets.ETSModel, "fit", broken)
    fits = exponential_smoothing(Past(rows, np.zeros((3, 3))), 2)
    assert fits.failures == (classical.Failure(1, "LinAlgError: singular"),)
    np.testing.assert_array_equal(fits.forecast[1], rows[1, [-2, -1, -2]])
    np.testing.assert_array_equal(fits.forecast[[0, 2]], sound.forecast[[0, 2]])


def test_a_forecast_that_is_not_finite_is_a_failure(monkeypatch):
    monkeypatch.setattr(ets.ETSResultsWrapper, "forecast", lambda fit, steps: np.full(steps, np.inf))
    fits = exponential_smoothing(past(WALK[:12], 2))
    assert fits.failures == (classical.Failure(0, "the forecast is not finite"),)
    np.testing.assert_array_equal(fits.forecast, [[WALK[11]] * 2])


def test_a_mistake_in_the_program_is_no_failed_fit(monkeypatch):
    def broken(*args, **options):
        raise TypeError("no such thing")

    monkeypatch.setattr(ets.ETSModel, "fit", broken)
    with pytest.raises(TypeError, match="no such thing"):
        exponential_smoothing(past(WALK[:12], 2))


def test_an_optimiser_that_stops_short_is_counted_and_makes_no_noise(monkeypatch, recwarn, capfd):
    fit = ets.ETSModel.fit
    monkeypatch.setattr(ets.ETSModel, "fit", lambda model, **options: fit(model, maxiter=1, **options))
    windows = windows_of(WALK[:23], 20, 2)
    fits = exponential_smoothing(windows)
    assert fits.unconverged == len(windows.inputs) == 2 and not fits.failures
    assert not recwarn.list
    assert capfd.readouterr() == ("", "")


def test_progress_is_told_after_each_window():
    told = []
    theta(windows_of(WALK[:23], 20, 2), progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]


@pytest.mark.parametrize(
    ("method", "period", "least"),
    [
        (exponential_smoothing, 1, 10),
        (exponential_smoothing, 4, 10),
        (exponential_smoothing, 5, 11),
        (exponential_smoothing, 7, 14),
        (theta, 1, 4),
        (theta, 4, 8),
    ],
)
def test_windows_too_short_are_refused_with_both_numbers(method, period, least):
    values = np.resize(np.arange(period), least + 1) + 0.1 * WALK[: least + 1]
    assert not method(windows_of(values, least, 1), period).failures
    message = f"period {period} needs a window of at least {least} values; it has {least - 1}"
    with pytest.raises(UsageError, match=message):
        method(windows_of(values, least - 1, 1), period)
    with pytest.raises(UsageError, match="period 0 must be at least 1"):
        method(windows_of(WALK, 20, 1), 0)


@pytest.mark.parametrize("method", [exponential_smoothing, theta])
def test_a_value_that_is_not_finite_is_refused_with_its_row(method):
    rows = np.stack([WALK[:12], WALK[:12]])
    rows[1, 5] = np.nan
    with pytest.raises(UsageError, match="1 of 24 values of the windows are not finite, the first in row 2"):
        method(Past(rows, np.zeros((2, 1))))


@pytest.mark.parametrize("method", [exponential_smoothing, theta])
def test_without_statsmodels_one_line_says_what_to_install(method, monkeypatch):
    assert classical.available()
    monkeypatch.setitem(sys.modules, "statsmodels", None)
    assert not classical.available()
    with pytest.raises(UsageError, match=re.escape('statsmodels: pip install "jaxseq[classical]"')):
        method(past(WALK, 1))


def test_statsmodels_is_imported_when_it_is_needed_and_nowhere_else():
    package = Path(classical.__file__).parent.parent
    assert [path.name for path in package.rglob("*.py") if "import statsmodels" in path.read_text()] == []
    assert [path.name for path in package.rglob("*.py") if "from statsmodels" in path.read_text()] == ["classical.py"]
    code = "import sys, jaxseq.forecasting.classical; sys.exit('statsmodels' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=package.parent).returncode == 0
