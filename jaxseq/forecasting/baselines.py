"""Simple forecasts that a network has to beat: last value, means, drift, last season, smoothing, least squares.

Last value, mean, drift and the seasonal naive forecast are in Hyndman & Athanasopoulos, Forecasting: Principles and
Practice, 3rd edition (2021), section 5.2; simple exponential smoothing is in section 8.1. Each is fitted to the training
part alone. It forecasts from the values before the origin of a window: all of its series where the data set has them,
else those of the window.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.signal import lfilter

from jaxseq.common.errors import UsageError
from jaxseq.data.dataset import Background, Dataset
from jaxseq.data.scaling import Scaling, batch, fit_scaling
from jaxseq.data.windows import Windows, rows_by_series
from jaxseq.forecasting import seasons

NAIVE = "naive (last value)"
TRAINING_MEAN = "training mean"
EXPANDING_MEAN = "expanding mean"
DRIFT = "drift"
SIMPLE_SMOOTHING = "simple exponential smoothing"
SEASONAL_NAIVE = "seasonal naive"
LEAST_SQUARES = "least squares on the lags"
LEAST_SQUARES_ON_LEVELS = "least squares on the levels"
SMOOTHING = "exponential smoothing"
THETA = "theta"
"""Names of the baselines in tables, files and figures; the period is added to that of the seasonal naive forecast."""

WEIGHTS = tuple(round(0.05 * number, 2) for number in range(1, 21))
"""Weights of the newest value among which simple exponential smoothing chooses."""

LAID_OUT = 2**22
"""Numbers of the lags that are laid out at once for least squares: 32 MiB in float64."""

Path = Callable[[Float[np.ndarray, "m t"]], Float[np.ndarray, "m t"]]
"""Function that gives, for each value of a series, the level forecast after it."""


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
        """Return the forecast for each row of `x`, in whatever representation it was fitted on. Raises `ValueError`."""
        rows = _rows(x)
        if rows.shape[1] != len(self.weights):
            raise ValueError(f"fitted on {len(self.weights)} lags, asked to forecast from {rows.shape[1]}")
        return rows @ self.weights + self.intercept


def seasonal_name(period: int) -> str:
    """Return the name of the seasonal naive forecast."""
    return f"{SEASONAL_NAIVE} ({period})"


def forecast_all(dataset: Dataset, *parts: Windows) -> dict[str, Float[np.ndarray, "n k"]]:
    """Forecast the rows of one part, or of several one after the other, by every baseline that fits the data.

    In the series' units. The last value comes first. The seasonal naive forecast is made for each season of
    `seasons.plausible`, and least squares on the levels where the network sees something else.
    """
    windows, scaling, background = dataset
    train = windows.train
    # Filled values are no observations: means and smoothing leave them out.
    background = background._replace(series=background.known_series, missing=())

    def of_parts(forecast: Callable[[Windows], Float[np.ndarray, "n k"]]) -> Float[np.ndarray, "n k"]:
        return np.concatenate([forecast(part) for part in parts])

    forecasts = {
        NAIVE: of_parts(naive),
        TRAINING_MEAN: of_parts(lambda part: training_mean(part, train, background)),
        EXPANDING_MEAN: of_parts(lambda part: _flat(part, background, expanding_means)),
        DRIFT: of_parts(lambda part: drift(part, train)),
        SIMPLE_SMOOTHING: of_parts(lambda part: simple_smoothing(part, train, background)),
        LEAST_SQUARES: _least_squares_of_windows(parts, train, scaling),
    }
    # Changes do not show how far a series is from its mean, to which it may return.
    if scaling.kind != "level":
        levels = _scaling_of_levels(scaling, background)
        forecasts[LEAST_SQUARES_ON_LEVELS] = _least_squares_of_windows(parts, train, levels)
    for period in seasons.plausible(background):
        name = seasonal_name(period)
        forecasts[name] = of_parts(partial(seasonal_naive_of_series, background=background, period=period))
    return forecasts


def distinct(
    forecasts: Mapping[str, Float[np.ndarray, "n k"]],
) -> tuple[dict[str, Float[np.ndarray, "n k"]], list[str]]:
    """Leave out every forecast that equals an earlier one in all values; a note names both."""
    kept: dict[str, Float[np.ndarray, "n k"]] = {}
    notes = []
    for name, values in forecasts.items():
        twin = next((other for other in kept if np.array_equal(kept[other], values)), None)
        # Smoothing with all weight on the newest value is the last value, no further baseline.
        if twin is None:
            kept[name] = values
        else:
            notes.append(f"{name} is left out: it gives the same forecasts as {twin}")
    return kept, notes


def naive(windows: Past) -> Float[np.ndarray, "n k"]:
    """Forecast the last value for every step of the horizon: the best forecast of a random walk, in the series' unit."""
    return _for_all_steps(windows.inputs[:, -1], windows)


def seasonal_naive(
    windows: Past,
    period: int,
) -> Float[np.ndarray, "n k"]:
    """Forecast the value of the same season, one period ago, in the series' unit; with period 1, the last value.

    The last `period` values are repeated for as long as the horizon is. Raises `UsageError` with both numbers if the
    window is shorter than the period.
    """
    length = windows.inputs.shape[1]
    if not 1 <= period <= length:
        raise UsageError(f"period {period} must be at least 1 and at most the window, which is {length} values long")
    ahead = np.arange(windows.targets.shape[1]) % period
    return windows.inputs[:, length - period + ahead]


def seasonal_naive_of_series(
    windows: Windows,
    background: Background,
    period: int,
) -> Float[np.ndarray, "n k"]:
    """Forecast the value of the same season, one period ago; the period may be longer than the window.

    A value that is missing is replaced by that of the season before. Raises `UsageError` with both numbers if fewer than
    `period` values are known at an origin.
    """
    earliest = int(windows.origins.min())
    if not 1 <= period <= earliest:
        raise UsageError("too few values before the first forecast", where="period", got=period, needed=earliest)

    ahead = np.arange(windows.targets.shape[1]) % period
    forecast = np.empty(windows.targets.shape)
    for number, rows in rows_by_series(windows.series).items():
        values = carried_forward(background.series[number].values, period)
        last_season = windows.origins[rows] - period
        forecast[rows] = values[last_season[:, None] + ahead]
    return forecast


def training_mean(
    windows: Windows,
    train: Windows,
    background: Background,
) -> Float[np.ndarray, "n k"]:
    """Forecast the mean of each series' training values; of all training windows where there are no series."""
    if background.series:
        means = np.array([np.nanmean(values) for values in background.training])
    else:
        # Windows without series are draws from one population.
        values = np.concatenate([train.inputs, train.targets], axis=1)
        means = np.array([np.nanmean(values)])
    return _for_all_steps(means[windows.series], windows)


def expanding_means(values: Float[np.ndarray, "m t"]) -> Float[np.ndarray, "m t"]:
    """Return the mean of all values up to each one; missing values (NaN) are left out."""
    is_known = np.isfinite(values)
    sums = np.cumsum(np.where(is_known, values, 0.0), axis=1)
    counts = np.cumsum(is_known, axis=1)
    # Before the first known value the sum is 0, and so is its mean.
    return sums / np.maximum(counts, 1)


def drift(
    windows: Windows,
    train: Windows,
) -> Float[np.ndarray, "n k"]:
    """Forecast the last value + h · the mean one-step change of the series' training windows, for h = 1 … k.

    The change is fitted once and not updated from row to row; in the series' unit.
    """
    changes = train.targets[:, 0] - train.inputs[:, -1]
    is_known = np.isfinite(changes)
    changes = changes[is_known]
    series = train.series[is_known]

    # A series without training windows has no drift.
    number_of_series = max(int(windows.series.max()), int(train.series.max())) + 1
    counts = np.bincount(series, minlength=number_of_series)
    sums = np.bincount(series, weights=changes, minlength=number_of_series)
    mean_changes = sums / np.maximum(counts, 1)

    steps = np.arange(1, windows.targets.shape[1] + 1)
    return naive(windows) + mean_changes[windows.series][:, None] * steps


def simple_smoothing(
    windows: Windows,
    train: Windows,
    background: Background,
) -> Float[np.ndarray, "n k"]:
    """Forecast the level of simple exponential smoothing, for every step of the horizon, in the series' unit.

    Each series has the weight of the newest value, one of `WEIGHTS`, with the smallest squared error one step ahead on
    its training values; windows without series have one weight for all.
    """
    if not background.series:
        # Of several targets only the first is one step ahead.
        weight = best_weight(np.column_stack([train.inputs, train.targets[:, :1]]))
        return _flat(windows, background, lambda values: smoothed(values, weight))

    levels = np.empty(len(windows.origins))
    for number, rows in rows_by_series(windows.series).items():
        training = carried_forward(background.training[number])
        weight = best_weight(training[None])
        values = carried_forward(background.series[number].values)
        path = smoothed(values[None], weight)[0]
        levels[rows] = path[windows.origins[rows] - 1]
    return _for_all_steps(levels, windows)


def smoothed(
    values: Float[np.ndarray, "m t"],
    weight: float,
) -> Float[np.ndarray, "m t"]:
    """Return the levels l_t = weight · y_t + (1 - weight) · l_(t-1) of simple exponential smoothing, with l_1 = y_1."""
    # The filter's state before the first value is chosen so that the first level is that value.
    state = (1 - weight) * values[:, :1]
    levels, _ = lfilter([weight], [1, weight - 1], values, axis=1, zi=state)
    return levels


def best_weight(values: Float[np.ndarray, "m t"]) -> float:
    """Return the weight in `WEIGHTS` with the smallest squared error one step ahead."""
    squared_errors = []
    for weight in WEIGHTS:
        levels = smoothed(values, weight)
        errors = values[:, 1:] - levels[:, :-1]
        squared_errors.append(np.mean(errors**2))
    return WEIGHTS[int(np.argmin(squared_errors))]


def least_squares(
    train_x: Float[np.ndarray, "n ..."],
    train_y: Float[np.ndarray, "n k"],
) -> LinearForecast:
    """Fit least squares on the lags: one regression with intercept for each step of the horizon, in float64.

    The result has the smallest norm where the lags are linearly dependent (the last lag of "change" is always 0).
    """
    x = _rows(train_x)
    y = np.asarray(train_y, np.float64)
    x_mean = x.mean(axis=0)
    y_mean = y.mean(axis=0)
    # Centred, so that the intercept is no part of the norm that is made small.
    weights = np.linalg.lstsq(x - x_mean, y - y_mean, rcond=None)[0]
    return LinearForecast(weights, intercept=y_mean - x_mean @ weights)


def _least_squares_of_windows(
    parts: Sequence[Windows],
    train: Windows,
    scaling: Scaling,
) -> Float[np.ndarray, "n k"]:
    """Fit least squares to the training windows, as `scaling` lays them out, and forecast in the series' units."""
    model = _fit_least_squares(train, scaling)
    forecasts = []
    for part in parts:
        for piece in _pieces(part, scaling):
            # In float32, as `batch` gives the training inputs.
            inputs = scaling.inputs(piece).astype(np.float32)
            forecasts.append(scaling.invert(model.predict(inputs), piece))
    return np.concatenate(forecasts)


def _fit_least_squares(train: Windows, scaling: Scaling) -> LinearForecast:
    pieces = [_LaidOut(piece, scaling) for piece in _pieces(train, scaling)]
    is_known = np.isfinite(scaling.targets(train))
    if np.all(is_known):
        return _least_squares_of_pieces(piece.rows() for piece in pieces)

    # Each step of the horizon has its own rows, those whose target is known.
    steps = [
        _least_squares_of_pieces(piece.rows_of_step(step) for piece in pieces) for step in range(is_known.shape[1])
    ]
    return LinearForecast(
        weights=np.concatenate([step.weights for step in steps], axis=1),
        intercept=np.concatenate([step.intercept for step in steps]),
    )


class _LaidOut(NamedTuple):
    """Training windows that are laid out as rows when they are needed."""

    windows: Windows
    scaling: Scaling

    def rows(self) -> tuple[Float[np.ndarray, "n ..."], Float[np.ndarray, "n k"]]:
        """Return inputs and targets in float32."""
        rows = batch(self.windows, self.scaling)
        return np.asarray(rows.x), np.asarray(rows.y)

    def rows_of_step(self, step: int) -> tuple[Float[np.ndarray, "n ..."], Float[np.ndarray, "n 1"]]:
        """Return those with a known target of one step, and this target alone."""
        x, y = self.rows()
        is_known = np.isfinite(y[:, step])
        return x[is_known], y[is_known, step : step + 1]


def _pieces(windows: Windows, scaling: Scaling) -> list[Windows]:
    """Cut windows into pieces of at most `LAID_OUT` numbers, the windows of a long series being views of it."""
    rows, steps = windows.inputs.shape
    piece = max(1, LAID_OUT // (steps * scaling.features))
    return [Windows(*(array[first : first + piece] for array in windows)) for first in range(0, rows, piece)]


def _least_squares_of_pieces(
    pieces: Iterable[tuple[Float[np.ndarray, "n ..."], Float[np.ndarray, "n k"]]],
) -> LinearForecast:
    """Fit `least_squares` to rows that come in pieces: one alone as it is, several by their triangular factors.

    The factor R of [1, x, y] = QR holds all that least squares needs of the rows, and that of two pieces is the factor of
    their factors (Golub & Van Loan 2013, Matrix Computations, section 5.3). Its first row gives the means.
    """
    pieces = iter(pieces)
    x, y = next(pieces)
    following = next(pieces, None)
    if following is None:
        return least_squares(x, y)

    count = len(x)
    factor = _triangular(_beside_ones(x, y))
    while following is not None:
        count += len(following[0])
        factor = _triangular(np.concatenate([factor, _beside_ones(*following)]))
        following = next(pieces, None)

    lags = factor.shape[1] - 1 - y.shape[1]
    x_mean, y_mean = np.split(factor[0, 1:] / factor[0, 0], [lags])
    centred = factor[1 : 1 + lags, 1:]
    # As `lstsq` takes it for all rows: lags that are linearly dependent but for rounding have no weight of their own.
    rcond = np.finfo(np.float64).eps * count
    weights = np.linalg.lstsq(centred[:, :lags], centred[:, lags:], rcond=rcond)[0]
    return LinearForecast(weights, intercept=y_mean - x_mean @ weights)


def _triangular(rows: Float[np.ndarray, "n m"]) -> Float[np.ndarray, "_ m"]:
    return np.asarray(np.linalg.qr(rows, mode="r"))


def _beside_ones(x: Float[np.ndarray, "n ..."], y: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n _"]:
    return np.concatenate([np.ones((len(x), 1)), _rows(x), y], axis=1, dtype=np.float64)


def _scaling_of_levels(
    scaling: Scaling,
    background: Background,
) -> Scaling:
    """Return the scaling of each series by the range of its training values; covariates and masks stay as they are."""
    levels = fit_scaling("level", background.training, background.names)
    return dataclasses.replace(scaling, kind="level", shift=levels.shift, scale=levels.scale)


def carried_forward(
    values: Float[np.ndarray, " t"],
    period: int = 1,
) -> Float[np.ndarray, " t"]:
    """Replace each missing value (NaN) by the last known one of its season; the first ones by the first known value."""
    if np.all(np.isfinite(values)):
        return values
    phase = np.arange(len(values)) % period
    filled = pd.Series(values).groupby(phase).ffill()
    # A phase of the season may begin with missing values: those of its neighbours stand in.
    return filled.bfill().ffill().to_numpy()


def _flat(
    windows: Windows,
    background: Background,
    path: Path,
) -> Float[np.ndarray, "n k"]:
    """Forecast one level for all steps: that of `path` after the last value before the origin."""
    if not background.series:
        return _for_all_steps(path(windows.inputs)[:, -1], windows)

    levels = np.empty(len(windows.origins))
    for number, rows in rows_by_series(windows.series).items():
        values = background.series[number].values
        levels[rows] = path(values[None])[0, windows.origins[rows] - 1]
    return _for_all_steps(levels, windows)


def _for_all_steps(
    levels: Float[np.ndarray, " n"],
    windows: Past,
) -> Float[np.ndarray, "n k"]:
    """Repeat each row's level for every step of the horizon."""
    return np.repeat(levels[:, None], windows.targets.shape[1], axis=1)


def _rows(x: Float[np.ndarray, "n ..."]) -> Float[np.ndarray, "n lags"]:
    return np.asarray(x, np.float64).reshape(len(x), -1)
