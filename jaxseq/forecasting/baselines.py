"""Simple forecasts that a network has to beat: last value, means, drift, last season, smoothing, least squares.

Last value, mean, drift and the seasonal naive forecast are in Hyndman & Athanasopoulos, Forecasting: Principles and
Practice, 3rd edition (2021), section 5.2; simple exponential smoothing is in section 8.1. Each is fitted to the training
part alone. It forecasts from the values before the origin of a window: all of its series where the data set has them,
else those of the window.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from jaxseq.common.errors import UsageError
from jaxseq.data import seasons
from jaxseq.data.dataset import Background, Dataset
from jaxseq.data.earlier import Earlier
from jaxseq.data.fitting import fit_scaling
from jaxseq.data.laid_out import batch
from jaxseq.data.powers import NONE
from jaxseq.data.scaling import Scaling, rows_at_once
from jaxseq.data.uncut import PartWindows
from jaxseq.data.windows import LAST_VALUE, Windows, rows_by_series
from jaxseq.forecasting import intermittent
from jaxseq.forecasting.smoothing import best_weight, smoothed

NAIVE = "naive (last value)"
TRAINING_MEAN = "training mean"
EXPANDING_MEAN = "expanding mean"
DRIFT = "drift"
SIMPLE_SMOOTHING = "simple exponential smoothing"
SEASONAL_NAIVE = "seasonal naive"
ZERO = "zero forecast"
CROSTON = "Croston"
LEAST_SQUARES = "least squares on the lags"
LEAST_SQUARES_ON_LEVELS = "least squares on the levels"
"""Names of the baselines in tables, files and figures; the period is added to that of the seasonal naive forecast."""

CHANGES_AT_ONCE = 2**16
"""Windows whose first change is read together."""

Path = Callable[[Float[np.ndarray, "m t"]], Float[np.ndarray, "m t"]]
"""Function that gives, for each value of a series, the level forecast after it."""

Baseline = Callable[[PartWindows], Float[np.ndarray, "n k"]]
"""Function that forecasts the rows of a part, in the series' unit."""


@runtime_checkable
class Past(Protocol):
    """Windows as the simplest baselines need them."""

    @property
    def steps(self) -> int:
        """Values before the forecast."""

    @property
    def horizon(self) -> int:
        """Values to be forecast."""

    def values_ago(self, ages: Int[np.ndarray, " c"]) -> Float[np.ndarray, "n c"]:
        """Return the values that many time steps before the first target, in the series' unit."""


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


def two_seasons_name(earlier: Earlier) -> str:
    """Return the name of the forecast from two seasons."""
    return f"two seasons ({earlier.lag} and {earlier.longer})"


def forecast_all(dataset: Dataset, part: PartWindows) -> dict[str, Float[np.ndarray, "n k"]]:
    """Forecast the rows of one part by every baseline that fits the data; see `forecast_parts`."""
    return forecast_parts(dataset, [part])[0]


def forecast_parts(dataset: Dataset, parts: Sequence[PartWindows]) -> list[dict[str, Float[np.ndarray, "n k"]]]:
    """Forecast the rows of each part by every baseline that fits the data, fitted once for all parts.

    In the series' units. The last value comes first. The seasonal naive forecast is made for each season of
    `seasons.plausible`, that of two for a target of two seasons, and least squares on the levels where the network sees
    something else. Targets from 0 that are 0 most of the time have the zero forecast and Croston's.
    """
    windows, scaling, background = dataset
    train = windows.train
    background = _observed(background)
    by_baseline = {**_simple(train, background), LEAST_SQUARES: _least_squares_of_windows(train, scaling)}
    # Changes do not show how far a series is from its mean, to which it may return.
    if scaling.kind != "level" or scaling.power != NONE:
        levels = _scaling_of_levels(scaling, background)
        by_baseline[LEAST_SQUARES_ON_LEVELS] = _least_squares_of_windows(train, levels)
    by_baseline |= _seasonal(background)
    by_baseline |= _two_seasons(scaling.earlier)
    if scaling.transform.support != "real" and intermittent.are_intermittent(background.training):
        by_baseline |= _intermittent(background)
    return [{name: forecast(part) for name, forecast in by_baseline.items()} for part in parts]


def forecast_ends(
    ends: Windows, background: Background, one_step: Windows, earlier: Earlier
) -> dict[str, Float[np.ndarray, "n k"]]:
    """Forecast beyond the end of each series by the baselines that are fitted to all of its rows.

    In the series' units; the last value comes first. All rows are in the past there, so `background` has them as training
    rows.

    ends      the window at the end of each series
    one_step  every value of every series with the one before it
    earlier   values that the network's target is compared with
    """
    background = _observed(background)
    by_baseline = {**_simple(one_step, background), **_seasonal(background), **_two_seasons(earlier)}
    # At the end of a series it is the mean of all rows, which is there already.
    del by_baseline[EXPANDING_MEAN]
    return {name: forecast(ends) for name, forecast in by_baseline.items()}


def _observed(background: Background) -> Background:
    """Return the background without filled values, which are no observations: means and smoothing leave them out."""
    return background._replace(series=background.known_series, missing=())


def _simple(train: PartWindows, background: Background) -> dict[str, Baseline]:
    """Return the baselines that need neither a season nor the scaling of the network."""
    return {
        NAIVE: naive,
        TRAINING_MEAN: lambda part: training_mean(part, train, background),
        EXPANDING_MEAN: lambda part: _flat(part, background, expanding_means),
        DRIFT: lambda part: drift(part, train),
        SIMPLE_SMOOTHING: partial(_smoothed_at, background=background, weights=smoothing_weights(train, background)),
    }


def _seasonal(background: Background) -> dict[str, Baseline]:
    """Return the seasonal naive forecast of each plausible season."""
    by_baseline = {}
    for period in seasons.plausible(background.period, background.training):
        forecast = partial(seasonal_naive_of_series, background=background, period=period)
        by_baseline[seasonal_name(period)] = forecast
    return by_baseline


def _two_seasons(earlier: Earlier) -> dict[str, Baseline]:
    """Return the forecast that a target of two seasons is the change from: it is to be beaten, too."""
    if not earlier.longer:
        return {}
    return {two_seasons_name(earlier): partial(of_two_seasons, earlier=earlier)}


def _intermittent(background: Background) -> dict[str, Baseline]:
    """Return the baselines of series that are 0 most of the time."""
    return {
        ZERO: lambda part: np.zeros((len(part.origins), part.horizon)),
        CROSTON: lambda part: _flat(part, background, intermittent.croston),
    }


def distinct(
    forecasts: Sequence[Mapping[str, Float[np.ndarray, "_ k"]]],
) -> tuple[list[dict[str, Float[np.ndarray, "_ k"]]], list[str]]:
    """Leave out every forecast that equals an earlier one in all values of all parts; a note names both."""
    kept: list[str] = []
    notes = []
    for name in forecasts[0]:
        twin = next((other for other in kept if _are_equal(forecasts, name, other)), None)
        # Smoothing with all weight on the newest value is the last value, no further baseline.
        if twin is None:
            kept.append(name)
        else:
            notes.append(f"{name} is left out: it gives the same forecasts as {twin}")
    return [{name: of_part[name] for name in kept} for of_part in forecasts], notes


def _are_equal(forecasts: Sequence[Mapping[str, Float[np.ndarray, "_ k"]]], name: str, other: str) -> bool:
    return all(np.array_equal(of_part[name], of_part[other]) for of_part in forecasts)


def naive(windows: Past) -> Float[np.ndarray, "n k"]:
    """Forecast the last value for every step of the horizon: the best forecast of a random walk, in the series' unit."""
    return _for_all_steps(windows.values_ago(LAST_VALUE)[:, 0], windows)


def seasonal_naive(
    windows: Past,
    period: int,
) -> Float[np.ndarray, "n k"]:
    """Forecast the value of the same season, one period ago, in the series' unit; with period 1, the last value.

    The last `period` values are repeated for as long as the horizon is. Raises `UsageError` with both numbers if the
    window is shorter than the period.
    """
    length = windows.steps
    if not 1 <= period <= length:
        raise UsageError(f"period {period} must be at least 1 and at most the window, which is {length} values long")
    return Earlier(period).ahead(windows.values_ago, windows.horizon)


def of_two_seasons(windows: Past, earlier: Earlier) -> Float[np.ndarray, "n k"]:
    """Forecast by the values of two seasons, which a target "seasons" is the change from; see `jaxseq.data.earlier`."""
    return earlier.ahead(windows.values_ago, windows.horizon)


def seasonal_naive_of_series(
    windows: PartWindows,
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

    ahead = np.arange(windows.horizon) % period
    forecast = np.empty((len(windows.origins), windows.horizon))
    for number, rows in rows_by_series(windows.series).items():
        values = carried_forward(background.series[number].values, period)
        last_season = windows.origins[rows] - period
        forecast[rows] = values[last_season[:, None] + ahead]
    return forecast


def training_mean(
    windows: PartWindows,
    train: PartWindows,
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
    windows: PartWindows,
    train: PartWindows,
) -> Float[np.ndarray, "n k"]:
    """Forecast the last value + h · the mean one-step change of the series' training windows, for h = 1 … k.

    The change is fitted once and not updated from row to row; in the series' unit.
    """
    pieces = train.pieces(CHANGES_AT_ONCE)
    changes = np.concatenate([piece.targets[:, 0] - piece.inputs[:, -1] for piece in pieces])
    is_known = np.isfinite(changes)
    changes = changes[is_known]
    series = train.series[is_known]

    # A series without training windows has no drift.
    number_of_series = max(int(windows.series.max()), int(train.series.max())) + 1
    counts = np.bincount(series, minlength=number_of_series)
    sums = np.bincount(series, weights=changes, minlength=number_of_series)
    mean_changes = sums / np.maximum(counts, 1)

    steps = np.arange(1, windows.horizon + 1)
    return naive(windows) + mean_changes[windows.series][:, None] * steps


def simple_smoothing(
    windows: PartWindows,
    train: PartWindows,
    background: Background,
) -> Float[np.ndarray, "n k"]:
    """Forecast the level of simple exponential smoothing, for every step of the horizon, in the series' unit.

    Each series has the weight of the newest value, one of `smoothing.WEIGHTS`, with the smallest squared error one step
    ahead on its training values; windows without series have one weight for all.
    """
    return _smoothed_at(windows, background, smoothing_weights(train, background))


def smoothing_weights(train: PartWindows, background: Background) -> list[float]:
    """Return the weight of simple exponential smoothing of each series; one for all windows where there are no series."""
    if not background.series:
        # Of several targets only the first is one step ahead.
        return [best_weight(np.column_stack([train.inputs, train.targets[:, :1]]))]
    return [best_weight(carried_forward(values)[None]) for values in background.training]


def _smoothed_at(windows: PartWindows, background: Background, weights: Sequence[float]) -> Float[np.ndarray, "n k"]:
    """Forecast the smoothed level before each origin for every step of the horizon."""
    if not background.series:
        return _flat(windows, background, lambda values: smoothed(values, weights[0]))

    levels = np.empty(len(windows.origins))
    for number, rows in rows_by_series(windows.series).items():
        values = carried_forward(background.series[number].values)
        path = smoothed(values[None], weights[number])[0]
        levels[rows] = path[windows.origins[rows] - 1]
    return _for_all_steps(levels, windows)


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


def _least_squares_of_windows(train: PartWindows, scaling: Scaling) -> Baseline:
    """Fit least squares to the training windows, as `scaling` lays them out; the function forecasts in the series' units.

    Raises `UsageError` if a step of the horizon has no known target.
    """
    model = _fit_least_squares(train, scaling)

    def forecast(part: PartWindows) -> Float[np.ndarray, "n k"]:
        forecasts = []
        for piece in part.pieces(rows_at_once(part, scaling)):
            # In float32, as `batch` gives the training inputs.
            inputs = scaling.inputs(piece).astype(np.float32)
            forecasts.append(scaling.invert(model.predict(inputs), piece))
        return np.concatenate(forecasts)

    return forecast


def _fit_least_squares(train: PartWindows, scaling: Scaling) -> LinearForecast:
    size = rows_at_once(train, scaling)
    is_known = np.concatenate([np.isfinite(scaling.targets(piece)) for piece in train.pieces(size)])
    horizon = is_known.shape[1]
    # Each step of the horizon has its own rows, those whose target is known.
    groups = [slice(step, step + 1) for step in range(horizon)]
    if np.all(is_known):
        groups = [slice(0, horizon)]
    for group in groups:
        if not np.any(is_known[:, group]):
            raise UsageError("least squares has no known target to be fitted to", where=f"step {group.stop}", got=0)

    models = _of_groups(groups, train.pieces(size), scaling, alone=len(is_known) <= size)
    return LinearForecast(
        weights=np.concatenate([model.weights for model in models], axis=1),
        intercept=np.concatenate([model.intercept for model in models]),
    )


def _of_groups(
    groups: Sequence[slice], pieces: Iterable[Windows], scaling: Scaling, *, alone: bool
) -> list[LinearForecast]:
    """Fit least squares to the steps of each group, on the rows of the pieces in which all of them are known.

    Each piece is laid out once for all groups; `alone` says that there is one.
    """
    fits = [_Factor() for _ in groups]
    models = []
    for piece in pieces:
        rows = batch(piece, scaling)
        x = np.asarray(rows.x)
        y = np.asarray(rows.y)
        for number, group in enumerate(groups):
            is_known = np.isfinite(y[:, group]).all(axis=1)
            known_x = x if np.all(is_known) else x[is_known]
            known_y = y[is_known, group]
            if alone:
                models.append(least_squares(known_x, known_y))
            # A piece may have no known target of a step.
            elif len(known_y):
                fits[number] = fits[number].with_rows(known_x, known_y)
    return models or [fit.solution() for fit in fits]


class _Factor(NamedTuple):
    """The rows of a least-squares fit that came in pieces, as the triangular factor of all of them.

    The factor R of [1, x, y] = QR holds all that least squares needs of the rows, and that of two pieces is the factor of
    their factors (Golub & Van Loan 2013, Matrix Computations, section 5.3). Its first row gives the means.

    steps  columns of y
    """

    triangle: Float[np.ndarray, "_ _"] | None = None
    count: int = 0
    steps: int = 0

    def with_rows(self, x: Float[np.ndarray, "n ..."], y: Float[np.ndarray, "n k"]) -> _Factor:
        """Return the factor with further rows, at least one."""
        rows = _beside_ones(x, y)
        if self.triangle is not None:
            rows = np.concatenate([self.triangle, rows])
        return _Factor(np.asarray(np.linalg.qr(rows, mode="r")), self.count + len(x), y.shape[1])

    def solution(self) -> LinearForecast:
        """Return the fit with the smallest norm, as `least_squares`."""
        assert self.triangle is not None, "the caller has a row"
        lags = self.triangle.shape[1] - 1 - self.steps
        x_mean, y_mean = np.split(self.triangle[0, 1:] / self.triangle[0, 0], [lags])
        centred = self.triangle[1 : 1 + lags, 1:]
        # As `lstsq` takes it for all rows: lags that are linearly dependent but for rounding have no weight of their own.
        rcond = np.finfo(np.float64).eps * self.count
        weights = np.linalg.lstsq(centred[:, :lags], centred[:, lags:], rcond=rcond)[0]
        return LinearForecast(weights, intercept=y_mean - x_mean @ weights)


def _beside_ones(x: Float[np.ndarray, "n ..."], y: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n _"]:
    return np.concatenate([np.ones((len(x), 1)), _rows(x), y], axis=1, dtype=np.float64)


def _scaling_of_levels(
    scaling: Scaling,
    background: Background,
) -> Scaling:
    """Return the scaling of each series by the range of its training values; covariates and masks stay as they are."""
    levels = fit_scaling("level", background.training, background.names)
    return dataclasses.replace(
        scaling,
        kind="level",
        shift=levels.shift,
        scale=levels.scale,
        lag=1,
        by_window=False,
        window_scale="",
        scale_input=False,
        power=NONE,
        exponents=(),
    )


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
    windows: PartWindows,
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
    return np.repeat(levels[:, None], windows.horizon, axis=1)


def _rows(x: Float[np.ndarray, "n ..."]) -> Float[np.ndarray, "n lags"]:
    return np.asarray(x, np.float64).reshape(len(x), math.prod(x.shape[1:]))
