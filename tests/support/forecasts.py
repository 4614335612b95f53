"""Windows and forecasts whose truth is known, for the tests of forecasting."""

import math
from typing import NamedTuple

import numpy as np

ACTUAL = np.array([[1.0, 2.0], [3.0, 5.0]])
FORECAST = np.array([[1.0, 4.0], [2.0, 5.0]])  # errors 0, -2, 1, 0
LAST = np.array([[0.0, 0.0], [4.0, 4.0]])  # errors 1, 2, -1, 1


class Past(NamedTuple):
    inputs: np.ndarray
    targets: np.ndarray

    @property
    def steps(self):
        return self.inputs.shape[1]

    @property
    def horizon(self):
        return self.targets.shape[1]

    def values_ago(self, ages):
        return self.inputs[:, -ages]


def autoregression(phi, n, seed):
    """n values of y_t = phi y_{t-1} + e_t, from its stationary law."""
    noise = np.random.default_rng(seed).standard_normal(n)
    values = [noise[0] / math.sqrt(1 - phi**2)]
    for shock in noise[1:]:
        values.append(phi * values[-1] + shock)
    return np.array(values)


def best_forecast(phi, n, k, seed):
    """Actual values of an autoregression, the best forecast of them, the naive one, and the true skill."""
    values = autoregression(phi, n + k, seed)
    steps = np.arange(1, k + 1)
    actual = np.stack([values[step : n + step] for step in steps], axis=1)
    last = np.repeat(values[:n, None], k, axis=1)
    best = (1 - phi ** (2 * steps)) / (1 - phi**2)
    truth = 1 - best.sum() / (2 * (1 - phi**steps) / (1 - phi**2)).sum()
    return actual, last * phi**steps, last, truth


def windows_of(values, window, horizon):
    """Every window of a series and the values that follow it."""
    whole = np.lib.stride_tricks.sliding_window_view(values, window + horizon)
    return Past(whole[:, :window], whole[:, window:])
