"""Measures and reference forecast of the M4 competition, of one forecast from the end of each series.

Makridakis, Spiliotis & Assimakopoulos (2020), "The M4 Competition: 100,000 time series and 61 forecasting methods",
International Journal of Forecasting 36(1), sections 2.2 and 3.1. An actual value that is NaN is unknown: a series counts
by the mean over its known values, and one without any known value does not count.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxseq.forecasting import metrics
from jaxseq.forecasting.baselines import carried_forward
from jaxseq.forecasting.losses import Scales
from jaxseq.forecasting.metrics import Values

NAIVE2 = "Naive2"
"""Name of the last value of the seasonally adjusted series."""
LEAST_SEASONS = 3
"""Seasons that a series needs for the test of seasonality."""
CRITICAL = 1.645
"""Standard errors that the autocorrelation at the season must exceed, for a test at 90 %."""


class Errors(NamedTuple):
    """Errors of one forecast of several series.

    mase   mean over the series of mean |a - f| / scale; NaN without scales, as is `rmsse`
    smape  mean over the series of mean 200 |a - f| / (|a| + |f|), from 0 to 200 %
    rmsse  mean over the series of √(mean (a - f)² / scale)
    mae    mean |a - f| of all values, in the series' unit
    rmse   √ mean (a - f)² of all values, in the series' unit
    """

    mase: float
    smape: float
    rmsse: float
    mae: float
    rmse: float


def errors(actual: Values, forecast: Values, scales: Scales | None) -> Errors:
    """Return the errors of a forecast with one row for each series; `scales` are those of each series, or None."""
    error = metrics.errors(actual, forecast)
    absolute = _series_means(np.abs(error))
    squared = _series_means(error**2)
    mase = math.nan
    rmsse = math.nan
    if scales is not None:
        mase = _mean(absolute / scales.absolute)
        rmsse = _mean(np.sqrt(squared / scales.squared))
    return Errors(
        mase=mase,
        smape=_mean(_series_means(metrics.percentage_errors(actual, forecast))),
        rmsse=rmsse,
        mae=metrics.mae(actual, forecast),
        rmse=metrics.rmse(actual, forecast),
    )


def owa(of_forecast: Errors, of_reference: Errors) -> float:
    """Return the overall weighted average: the mean of MASE and sMAPE, each relative to the reference's.

    NaN without scales, or where the reference makes no error.
    """
    if not (of_reference.mase > 0 and of_reference.smape > 0):
        return math.nan
    return (of_forecast.mase / of_reference.mase + of_forecast.smape / of_reference.smape) / 2


def _series_means(values: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " n"]:
    """Return the mean of the known values of each series; NaN where there is none."""
    is_known = ~np.isnan(values)
    counts = is_known.sum(axis=1)
    sums = np.where(is_known, values, 0.0).sum(axis=1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _mean(of_series: Float[np.ndarray, " n"]) -> float:
    """Return the mean over the series that have a value."""
    known = of_series[~np.isnan(of_series)]
    if not len(known):
        return math.nan
    return float(known.mean())


def naive2(values: Float[np.ndarray, " t"], period: int, horizon: int) -> Float[np.ndarray, " k"]:
    """Forecast the last value of the seasonally adjusted series, times the seasonal index of each step.

    Without a season that passes the test (`is_seasonal`), or with values that are not positive, it is the last value. A
    missing value (NaN) is replaced by that of the season before.
    """
    values = carried_forward(values, period)
    ahead = np.arange(len(values), len(values) + horizon) % period
    if np.any(values <= 0) or not is_seasonal(values, period):
        return np.full(horizon, values[-1])
    indices = seasonal_indices(values, period)
    return values[-1] / indices[(len(values) - 1) % period] * indices[ahead]


def is_seasonal(values: Float[np.ndarray, " t"], period: int) -> bool:
    """Return whether the autocorrelation at the period exceeds `CRITICAL` of Bartlett's standard errors.

    M4's program takes autocorrelations up to a lag of 10 log10(t) alone, and a longer season for none; there is no such
    limit here.
    """
    if period == 1 or len(values) < LEAST_SEASONS * period:
        return False
    deviations = values - values.mean()
    variance = float(deviations @ deviations)
    if not variance:
        return False
    correlations = np.array([deviations[lag:] @ deviations[:-lag] for lag in range(1, period + 1)]) / variance
    limit = CRITICAL * math.sqrt((1 + 2 * float(np.sum(correlations[:-1] ** 2))) / len(values))
    return abs(float(correlations[-1])) > limit


def seasonal_indices(values: Float[np.ndarray, " t"], period: int) -> Float[np.ndarray, " m"]:
    """Return the index of each season, from that of the first value on, by classical multiplicative decomposition.

    The trend is the moving average of one period, centred; an index is the mean ratio of values to trend, and the mean of
    all indices is 1. The values, positive and of at least two periods, have no gaps.
    """
    weights = np.full(period, 1 / period)
    if period % 2 == 0:
        # The mean of the two averages of an even period around a value.
        weights = np.concatenate([[0.5], np.ones(period - 1), [0.5]]) / period
    trend = np.convolve(values, weights, mode="valid")
    first = (len(weights) - 1) // 2
    ratios = values[first : first + len(trend)] / trend
    season = (first + np.arange(len(trend))) % period
    indices = np.bincount(season, weights=ratios, minlength=period) / np.bincount(season, minlength=period)
    return indices / indices.mean()
