"""The classical forecasts, fitted on each window's own values alone: exponential smoothing and the theta method.

The only door to statsmodels, which is optional: pip install "jaxseq[classical]". Per window of 50 prices, on one idle core,
exponential smoothing and theta take 8 ms each; with a period of 5, 26 and 7 ms:

    OMP_NUM_THREADS=1 python -c "import time
    from jaxseq.data.aapl import Prices; from jaxseq.forecasting.classical import theta
    windows = Prices().load(1).windows.test; start = time.perf_counter(); theta(windows)
    print(1000 * (time.perf_counter() - start) / len(windows.inputs), 'ms a window')"

One thread, because the matrices are so small that on a busy machine more of them only wait for each other.
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
"""Told after each window how many are done, and of how many."""

Method: TypeAlias = Callable[[Float[np.ndarray, " t"]], Float[np.ndarray, " k"]]


class Failure(NamedTuple):
    """A window that could not be fitted."""

    row: int
    """Which one, from 0."""
    reason: str


class Fits(NamedTuple):
    """Forecasts, and how well the fits behind them went."""

    forecast: Float[np.ndarray, "n k"]
    """In the series' unit."""
    constant: int
    """Windows of one value but for rounding: it is forecast as it is, nothing is fitted."""
    unconverged: int
    """Windows where an optimiser stopped short; its last estimate is used."""
    failures: tuple[Failure, ...]
    """Windows whose fit raised an error or was not finite: the seasonal naive forecast stands in for it."""


def available() -> bool:
    """Is statsmodels installed?"""
    return importlib.util.find_spec("statsmodels") is not None


def exponential_smoothing(windows: Past, period: int = 1, progress: Progress | None = None) -> Fits:
    """Exponential smoothing with additive errors, by maximum likelihood: simple, or Holt's with a trend.

    With a `period` above 1 also each with an additive season (Holt-Winters). The model with the least AICc is taken
    for each window by itself: Hyndman, Koehler, Ord & Snyder (2008), Forecasting with Exponential Smoothing, chapter
    7. Rescaling or shifting a window does the same to its forecast; windows without a fit are counted in `Fits`.
    Raises `UsageError` with both numbers for windows of less than 10 values, of less than two periods, or of less than
    `period` + 6 (a season takes so many parameters), with the row of a value that is not finite, and if statsmodels is
    missing.
    """
    _require(windows, period, 10 if period == 1 else max(10, 2 * period, period + 6))
    from statsmodels.tsa.exponential_smoothing.ets import ETSModel

    horizon = windows.targets.shape[1]
    shapes = [(trend, season) for season in ([None] if period == 1 else [None, "add"]) for trend in (None, "add")]

    def method(values: Float[np.ndarray, " t"]) -> Float[np.ndarray, " k"]:
        centre = values.mean()
        scale = _spread(values)  # the optimiser's steps and tolerances are absolute
        fits: list[Any] = [
            ETSModel(
                (values - centre) / scale, trend=trend, seasonal=season, seasonal_periods=period if season else None
            ).fit(disp=False)
            for trend, season in shapes
        ]
        best = min(fits, key=lambda fit: fit.aicc)
        return centre + scale * np.asarray(best.forecast(horizon))

    return _each(windows, period, method, progress)


def theta(windows: Past, period: int = 1, progress: Progress | None = None) -> Fits:
    """The theta method: simple exponential smoothing, with half the slope of a straight line through the window.

    With a `period` above 1, a season is taken out first, if it is significant at 10 % (multiplicative if all values
    are positive, else additive), and put back at last. Assimakopoulos & Nikolopoulos (2000), International Journal of
    Forecasting 16(4); the form used: Hyndman & Billah (2003), ibid. 19(2). Windows without a fit are counted in `Fits`.
    Raises `UsageError` with both numbers for windows of less than 4 values or of less than two periods, with the row of
    a value that is not finite, and if statsmodels is missing.
    """
    _require(windows, period, 4 if period == 1 else max(4, 2 * period))
    from statsmodels.tsa.forecasting.theta import ThetaModel

    horizon = windows.targets.shape[1]

    def method(values: Float[np.ndarray, " t"]) -> Float[np.ndarray, " k"]:
        scale = _spread(values)
        fit = ThetaModel(values / scale, period=period, deseasonalize=period > 1).fit()
        return scale * np.asarray(fit.forecast(horizon))

    return _each(windows, period, method, progress)


def _require(windows: Past, period: int, least: int) -> None:
    if not available():
        raise UsageError('the classical forecasts need statsmodels: pip install "jaxseq[classical]"')
    length = windows.inputs.shape[1]
    if length < least:
        raise UsageError(f"period {period} needs a window of at least {least} values; it has {length}")
    if count := np.count_nonzero(bad := ~np.isfinite(windows.inputs)):
        row = int(np.argmax(bad.any(axis=1))) + 1
        raise UsageError(f"{count} of {bad.size} values of the windows are not finite, the first in row {row}")


def _spread(values: Float[np.ndarray, " t"]) -> float:
    return float(np.max(np.abs(values - values.mean())))


def _each(windows: Past, period: int, method: Method, progress: Progress | None) -> Fits:
    """`method` on each window, quietly; the seasonal naive forecast where there is nothing to fit, or no fit."""
    inputs = np.asarray(windows.inputs, np.float64)
    forecast = np.array(seasonal_naive(windows, period), np.float64)
    constant, unconverged, failures = 0, 0, []
    for row, values in enumerate(inputs):
        if _spread(values) <= 8 * np.finfo(np.float64).eps * np.abs(values).max():
            constant += 1
            forecast[row] = values[-1]
        else:
            path, converged = _quietly(method, values)
            unconverged += not converged
            if isinstance(path, str):
                failures.append(Failure(row, path))
            else:
                forecast[row] = path
        if progress:
            progress(row + 1, len(inputs))
    return Fits(forecast, constant, unconverged, tuple(failures))


def _quietly(method: Method, values: Float[np.ndarray, " t"]) -> tuple[Float[np.ndarray, " k"] | str, bool]:
    """The forecast, or the reason why there is none; and whether the optimiser converged. No warning gets out."""
    from statsmodels.tools.sm_exceptions import ConvergenceWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            path = method(values)
        except (ValueError, ArithmeticError) as error:  # LinAlgError is a ValueError
            return f"{type(error).__name__}: {error}", True
    converged = not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
    return (path if np.all(np.isfinite(path)) else "the forecast is not finite"), converged
