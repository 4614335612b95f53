"""Errors of a forecast, each one number over all rows and all steps of the horizon, in float64.

Definitions as in Hyndman & Koehler (2006), "Another look at measures of forecast accuracy", International Journal of
Forecasting 22(4), section 2, unless stated otherwise. Every function raises `ValueError` with both shapes where they
differ; a value that is not a number gives NaN.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from jaxtyping import Float

from jaxseq.common.errors import UsageError

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


def smape(actual: Values, forecast: Values) -> float:
    """Symmetric mean absolute percentage error, mean(200 |a - f| / (|a| + |f|)), from 0 to 200 %.

    The definition of the M4 competition: Makridakis, Spiliotis & Assimakopoulos (2020), International Journal of
    Forecasting 36(1). Where both values are 0 the forecast is exact and the term is 0.
    """
    size = np.abs(errors(actual, forecast))
    total = np.abs(np.asarray(actual, np.float64)) + np.abs(np.asarray(forecast, np.float64))
    return float(np.mean(np.divide(200 * size, total, out=np.zeros_like(size), where=total != 0)))


def seasonal_scale(
    values: Float[np.ndarray, " t"], period: int = 1, *, squared: bool = False, source: str = "the series"
) -> float:
    """Mean |y_t - y_{t-m}| of a series' TRAINING part, in its unit: the in-sample error of the seasonal naive forecast.

    m is `period`; `squared` gives the mean square, which `rmsse` divides by. Raises `UsageError`, which opens with
    `source`, if there are not more than m values or if none of those changes is more than rounding.
    """
    if period < 1:
        raise UsageError(f"{source}: period is {period}; it must be at least 1")
    if len(values) <= period:
        raise UsageError(
            f"{source}: a scale over period {period} needs at least {period + 1} training values; there are {len(values)}"
        )
    early, late = (np.asarray(part, np.float64) for part in (values[:-period], values[period:]))
    scale = float(np.mean(np.abs(late - early)))
    if not 8 * np.finfo(np.float64).eps * np.abs(values).max() < scale < np.inf:  # no change but rounding
        raise UsageError(
            f"{source}: the {len(values)} training values change by {scale:g} on average over period {period}: MASE and "
            "RMSSE would divide by it; leave this series out, or use MAE"
        )
    return float(np.mean((late - early) ** 2)) if squared else scale


def mase(actual: Values, forecast: Values, scale: Float[np.ndarray, " _"]) -> float:
    """Mean absolute scaled error, mean(|a - f| / scale): below 1 is better than the naive forecast was in training.

    `scale` "n" is the `seasonal_scale` of each row's series. Hyndman & Koehler, section 3. Raises `UsageError` for a
    scale that is not above 0.
    """
    return float(np.mean(np.abs(errors(actual, forecast)) / _checked(scale, actual)))


def rmsse(actual: Values, forecast: Values, scale: Float[np.ndarray, " _"]) -> float:
    """Root mean squared scaled error, √mean((a - f)² / scale); the root comes last, over all rows together.

    `scale` "n" is the `seasonal_scale` of each row's series with `squared=True`. For one row, the measure of the M5
    competition: Makridakis, Spiliotis & Assimakopoulos (2022), International Journal of Forecasting 38(4). Raises
    `UsageError` for a scale that is not above 0.
    """
    return float(np.sqrt(np.mean(errors(actual, forecast) ** 2 / _checked(scale, actual))))


def _checked(scale: Float[np.ndarray, " _"], actual: Values) -> Float[np.ndarray, "n 1"]:
    if scale.shape != actual.shape[:1]:
        raise ValueError(f"scales {scale.shape} must be one for each of the {len(actual)} rows")
    if np.any(bad := ~((scale > 0) & np.isfinite(scale))):
        row = int(np.argmax(bad))
        raise UsageError(f"the scale of row {row + 1} is {scale[row]:g}; it must be above 0 and finite")
    return np.asarray(scale, np.float64)[:, None]


def coverage(actual: Values, low: Values, high: Values) -> float:
    """Share of the values within their interval, ends included: low <= a <= high."""
    above, below = errors(actual, low), -errors(actual, high)
    inside = ((above >= 0) & (below >= 0)).astype(np.float64)
    return float(np.mean(np.where(np.isnan(above) | np.isnan(below), np.nan, inside)))
