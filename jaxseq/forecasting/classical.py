"""Classical forecasts, fitted to each window's own values alone: exponential smoothing and the theta method.

It imports statsmodels, which is optional: pip install "jaxseq[classical]". Per window of 50 prices,
on one idle core, exponential smoothing and theta take 8 ms each; with a period of 5, 26 and 7 ms:

    OMP_NUM_THREADS=1 python -c "import time
    from jaxseq.data.aapl import Prices; from jaxseq.forecasting.classical import theta
    windows = Prices().load(1).windows.test; start = time.perf_counter(); theta(windows)
    print(1000 * (time.perf_counter() - start) / len(windows.inputs), 'ms a window')"

One thread, because the matrices are small: on a busy machine more threads only wait for each other.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float

from jaxseq.common.errors import UsageError
from jaxseq.forecasting.baselines import Past, seasonal_naive

Progress: TypeAlias = Callable[[int, int], None]
"""A function of the number of windows done and of all windows, called after each."""

Method: TypeAlias = Callable[[Float[np.ndarray, " t"]], Float[np.ndarray, " k"]]


class Failure(NamedTuple):
    """A window that could not be fitted; `row` counts from 0."""

    row: int
    reason: str


class Fits(NamedTuple):
    """Forecasts, and how well the fits behind them went.

    forecast     in the series' unit
    constant     number of windows of one value but for rounding: it is repeated, nothing is fitted
    unconverged  number of windows where an optimiser stopped short; its last estimate is used
    failures     windows whose fit raised an error or was not finite: they have the seasonal naive forecast
    """

    forecast: Float[np.ndarray, "n k"]
    constant: int
    unconverged: int
    failures: tuple[Failure, ...]


def available() -> bool:
    """Return whether statsmodels is installed."""
    return importlib.util.find_spec("statsmodels") is not None


def exponential_smoothing(
    windows: Past,
    period: int = 1,
    progress: Progress | None = None,
) -> Fits:
    """Forecast by exponential smoothing with additive errors, fitted by maximum likelihood: simple, or Holt's with trend.

    With a `period` above 1 also each with an additive season (Holt-Winters). Each window takes the model with the least
    AICc: Hyndman, Koehler, Ord & Snyder (2008), Forecasting with Exponential Smoothing, chapter
    7. Rescaling or shifting a window does the same to its forecast; windows without a fit are counted in `Fits`.
    Raises `UsageError` with both numbers for windows of less than 10 values, of less than two periods, or of less than
    `period` + 6 (the number of parameters of a season), with the row of a value that is not finite, and if statsmodels is
    missing.
    """
    least = 10
    seasons: list[str | None] = [None]
    if period > 1:
        least = max(10, 2 * period, period + 6)
        seasons.append("add")
    _require(windows, period, least)
    # statsmodels is optional, and takes a second to import.
    from statsmodels.tsa.exponential_smoothing.ets import ETSModel

    horizon = windows.targets.shape[1]

    def method(values: Float[np.ndarray, " t"]) -> Float[np.ndarray, " k"]:
        centre = values.mean()
        # The optimiser's steps and tolerances are absolute.
        scale = _spread(values)
        standard = (values - centre) / scale
        fits: list[Any] = []
        for season in seasons:
            seasonal_periods = None
            if season:
                seasonal_periods = period
            for trend in (None, "add"):
                model = ETSModel(standard, trend=trend, seasonal=season, seasonal_periods=seasonal_periods)
                fits.append(model.fit(disp=False))
        best = min(fits, key=lambda fit: fit.aicc)
        return centre + scale * np.asarray(best.forecast(horizon))

    return _each(windows, period, method, progress)


def theta(
    windows: Past,
    period: int = 1,
    progress: Progress | None = None,
) -> Fits:
    """Forecast by the theta method: simple exponential smoothing, with half the slope of a line through the window.

    With a `period` above 1, a season is removed first, if it is significant at 10 % (multiplicative if all values are
    positive, else additive), and restored at the end. Assimakopoulos & Nikolopoulos (2000), International Journal of
    Forecasting 16(4); the form used: Hyndman & Billah (2003), ibid. 19(2). Windows without a fit are counted in `Fits`.
    Raises `UsageError` with both numbers for windows of less than 4 values or of less than two periods, with the row of
    a value that is not finite, and if statsmodels is missing.
    """
    least = 4
    if period > 1:
        least = max(4, 2 * period)
    _require(windows, period, least)
    # statsmodels is optional, and takes a second to import.
    from statsmodels.tsa.forecasting.theta import ThetaModel

    horizon = windows.targets.shape[1]

    def method(values: Float[np.ndarray, " t"]) -> Float[np.ndarray, " k"]:
        scale = _spread(values)
        fit = ThetaModel(values / scale, period=period, deseasonalize=period > 1).fit()
        return scale * np.asarray(fit.forecast(horizon))

    return _each(windows, period, method, progress)


def _require(
    windows: Past,
    period: int,
    least: int,
) -> None:
    if not available():
        raise UsageError('the classical forecasts need statsmodels: pip install "jaxseq[classical]"')
    length = windows.inputs.shape[1]
    if length < least:
        raise UsageError(f"period {period} needs a window of at least {least} values; it has {length}")
    not_finite = ~np.isfinite(windows.inputs)
    if np.any(not_finite):
        row = int(np.argmax(not_finite.any(axis=1))) + 1
        count = np.count_nonzero(not_finite)
        raise UsageError(f"{count} of {not_finite.size} values of the windows are not finite, the first in row {row}")


def _spread(values: Float[np.ndarray, " t"]) -> float:
    return float(np.max(np.abs(values - values.mean())))


def _each(
    windows: Past,
    period: int,
    method: Method,
    progress: Progress | None,
) -> Fits:
    """Apply `method` to each window; the seasonal naive forecast where there is nothing to fit, or no fit."""
    inputs = np.asarray(windows.inputs, np.float64)
    forecast = np.array(seasonal_naive(windows, period), np.float64)
    constant = 0
    unconverged = 0
    failures = []
    for row, values in enumerate(inputs):
        rounding = 8 * np.finfo(np.float64).eps * np.abs(values).max()
        if _spread(values) <= rounding:
            constant += 1
            forecast[row] = values[-1]
        else:
            fit = _quietly(method, values)
            unconverged += not fit.converged
            if fit.path is None:
                failures.append(Failure(row, fit.reason))
            else:
                forecast[row] = fit.path
        if progress:
            progress(row + 1, len(inputs))
    return Fits(forecast, constant, unconverged, tuple(failures))


class _Fit(NamedTuple):
    """Forecast of one window; None, and the reason, where there is none. `converged` is that of the optimiser."""

    path: Float[np.ndarray, " k"] | None
    converged: bool
    reason: str = ""


def _quietly(
    method: Method,
    values: Float[np.ndarray, " t"],
) -> _Fit:
    """Fit one window without any warning."""
    from statsmodels.tools.sm_exceptions import ConvergenceWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            path = method(values)
        # LinAlgError is a ValueError.
        except (ValueError, ArithmeticError) as error:
            return _Fit(None, converged=True, reason=f"{type(error).__name__}: {error}")

    converged = not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
    if not np.all(np.isfinite(path)):
        return _Fit(None, converged, "the forecast is not finite")
    return _Fit(path, converged)
