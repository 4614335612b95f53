"""Baselines of a network: the last value, the last season, drift, least squares on the lags.

The first three are in Hyndman & Athanasopoulos, Forecasting: Principles and Practice, 3rd edition (2021), section 5.2.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from jaxseq.common.errors import UsageError

NAIVE = "naive (last value)"
DRIFT = "drift"
LEAST_SQUARES = "least squares on the lags"
SMOOTHING = "exponential smoothing"
THETA = "theta"
"""Names of the baselines in tables, files and figures; that of the seasonal naive forecast has its period."""


@runtime_checkable
class Past(Protocol):
    """Windows as the baselines need them: `inputs`, and the shape of `targets`."""

    @property
    def inputs(self) -> Float[np.ndarray, "n t"]:
        """Values before the forecast, in the series' unit."""

    @property
    def targets(self) -> Float[np.ndarray, "n k"]:
        """Values to be forecast."""


class LinearForecast(NamedTuple):
    """y = x · weights + intercept, where x is one row of all lags."""

    weights: Float[np.ndarray, "t k"]
    intercept: Float[np.ndarray, " k"]

    def predict(self, x: Float[np.ndarray, "n ..."]) -> Float[np.ndarray, "n k"]:
        """The forecast for each row of `x`, in whatever representation it was fitted on. Raises `ValueError`."""
        rows = _rows(x)
        if rows.shape[1] != len(self.weights):
            raise ValueError(f"fitted on {len(self.weights)} lags, asked to forecast from {rows.shape[1]}")
        return rows @ self.weights + self.intercept


def seasonal_name(period: int) -> str:
    """Return the name of the seasonal naive forecast."""
    return f"seasonal naive ({period})"


def naive(windows: Past) -> Float[np.ndarray, "n k"]:
    """The last value, for every step of the horizon: the best forecast of a random walk, in the series' unit."""
    return np.repeat(windows.inputs[:, -1:], windows.targets.shape[1], axis=1)


def seasonal_naive(windows: Past, period: int) -> Float[np.ndarray, "n k"]:
    """The value of the same season, last time round, in the series' unit; with period 1, the last value.

    The last `period` values are repeated for as long as the horizon is. Raises `UsageError` with both numbers if the
    window is shorter than the period.
    """
    length = windows.inputs.shape[1]
    if not 1 <= period <= length:
        raise UsageError(f"period {period} must be at least 1 and at most the window, which is {length} values long")
    return windows.inputs[:, length - period + np.arange(windows.targets.shape[1]) % period]


def drift(windows: Past, train: Past) -> Float[np.ndarray, "n k"]:
    """The last value + h · the mean one-step change of the training windows, for h = 1 … k, in the series' unit.

    The change is fitted once and not updated from row to row.
    """
    last, first_target = train.inputs[:, -1], train.targets[:, 0]
    change = np.mean(first_target - last)
    path = change * np.arange(1, windows.targets.shape[1] + 1)
    return naive(windows) + path


def least_squares(train_x: Float[np.ndarray, "n ..."], train_y: Float[np.ndarray, "n k"]) -> LinearForecast:
    """Least squares on the lags: one regression with intercept for each step of the horizon, in float64.

    The result has the smallest norm where the lags are linearly dependent (the last lag of "change" is always 0).
    """
    rows, y = _rows(train_x), np.asarray(train_y, np.float64)
    centre, mean = rows.mean(axis=0), y.mean(axis=0)
    weights = np.linalg.lstsq(rows - centre, y - mean, rcond=None)[0]
    return LinearForecast(weights, mean - centre @ weights)


def _rows(x: Float[np.ndarray, "n ..."]) -> Float[np.ndarray, "n lags"]:
    return np.asarray(x, np.float64).reshape(len(x), -1)
