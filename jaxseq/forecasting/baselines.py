"""Simple forecasts that a network has to beat: last value, means, drift, last season, smoothing, least squares.

Last value, mean, drift and the seasonal naive forecast are in Hyndman & Athanasopoulos, Forecasting: Principles and
Practice, 3rd edition (2021), section 5.2; simple exponential smoothing is in section 8.1. Each is fitted to the training
part alone. It forecasts from the values before the origin of a window: all of its series where the data set has them,
else those of the window.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from jaxseq.common.errors import UsageError
from jaxseq.data import seasons
from jaxseq.data.dataset import Background, Dataset
from jaxseq.data.earlier import Earlier
from jaxseq.data.powers import NONE
from jaxseq.data.uncut import PartWindows
from jaxseq.data.windows import LAST_VALUE, Windows, rows_by_series
from jaxseq.forecasting import intermittent, least_squares
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
    by_baseline = {**_simple(train, background), LEAST_SQUARES: least_squares.of_windows(train, scaling)}
    # Changes do not show how far a series is from its mean, to which it may return.
    if scaling.kind != "level" or scaling.power != NONE:
        levels = least_squares.scaling_of_levels(scaling, background)
        by_baseline[LEAST_SQUARES_ON_LEVELS] = least_squares.of_windows(train, levels)
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

    ages, _, _ = Earlier(period).reaches(windows.horizon) - np.arange(windows.horizon)
    forecast = np.empty((len(windows.origins), windows.horizon))
    for number, rows in rows_by_series(windows.series).items():
        values = carried_forward(background.series[number].values, period)
        forecast[rows] = values[windows.origins[rows][:, None] - ages]
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
