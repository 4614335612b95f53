"""Errors of a forecast, each one number over all rows and all steps of the horizon, in float64.

Definitions as in Hyndman & Koehler (2006), "Another look at measures of forecast accuracy", International Journal of
Forecasting 22(4), section 2. Every function raises `ValueError` with both shapes where they differ.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from jaxtyping import Float

from jaxseq.errors import UsageError

Values: TypeAlias = Float[np.ndarray, "_ _"]
"""Actual or forecast values, "n k", in the series' unit; that two agree in shape is checked on every call."""


def errors(actual: Values, forecast: Values) -> Float[np.ndarray, "n k"]:
    """actual - forecast, "n k". Raises `ValueError` unless both are of that one shape and have a row."""
    if actual.shape != forecast.shape or actual.ndim != 2 or not actual.size:
        raise ValueError(
            f'actual values {actual.shape} and forecast {forecast.shape} must both be "n k": rows by steps of the '
            "horizon, at least one of each"
        )
    return np.asarray(actual, np.float64) - np.asarray(forecast, np.float64)


def mse(actual: Values, forecast: Values) -> float:
    """Mean squared error, mean((a - f)²), in the unit squared."""
    return float(np.mean(errors(actual, forecast) ** 2))


def rmse(actual: Values, forecast: Values) -> float:
    """Root of the mean squared error, √mean((a - f)²), in the series' unit."""
    return float(np.sqrt(mse(actual, forecast)))


def mae(actual: Values, forecast: Values) -> float:
    """Mean absolute error, mean(|a - f|), in the series' unit."""
    return float(np.mean(np.abs(errors(actual, forecast))))


def relative_mse(actual: Values, forecast: Values, naive: Values) -> float:
    """MSE of the forecast over the MSE of the naive one: below 1 is better than repeating the last value.

    The square of Theil's U2 (1966), section 2.3 of Hyndman & Koehler. Raises `UsageError` if the naive forecast makes
    no error at all.
    """
    base = mse(actual, naive)
    if base == 0:
        raise UsageError(
            f"the naive forecast is exact on all {actual.size} values: no error to compare with; the series is constant"
        )
    return mse(actual, forecast) / base
