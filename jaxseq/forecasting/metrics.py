"""Errors of a forecast, each one number over all rows and all steps of the horizon, in float64.

Point forecasts: definitions as in Hyndman & Koehler (2006), "Another look at measures of forecast accuracy",
International Journal of Forecasting 22(4), section 2, unless another source is named. Forecasts of a distribution:
proper scores, as in Gneiting & Raftery (2007), "Strictly proper scoring rules, prediction, and estimation", JASA
102(477); smaller is better.

An actual value that is NaN is unknown: it counts in no mean, and a mean without any known value is NaN. A forecast that
is NaN where the actual value is known gives NaN. Every function raises `ValueError` with both shapes where they differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
from jaxtyping import Float
from scipy.special import betaln, ndtr, stdtr

from jaxseq.common.errors import UsageError

Values: TypeAlias = Float[np.ndarray, "_ _"]
"""Actual or forecast values, "n k", in the series' unit; every function checks that two agree in shape."""


def errors(
    actual: Values,
    forecast: Values,
) -> Float[np.ndarray, "n k"]:
    """Return actual - forecast, NaN where the actual value is unknown.

    Raises `ValueError` unless both have the same shape, with at least one row and one step.
    """
    if actual.shape != forecast.shape or actual.ndim != 2 or not actual.size:
        raise ValueError(
            f'actual values {actual.shape} and forecast {forecast.shape} must both be "n k": rows by steps of the '
            "horizon, at least one of each"
        )
    return np.asarray(actual, np.float64) - np.asarray(forecast, np.float64)


def _mean(
    values: Float[np.ndarray, "n k"],
    actual: Values,
) -> float:
    """Return the mean of the values whose actual value is known."""
    known_values = values[~np.isnan(actual)]
    # numpy would warn about the mean of nothing.
    if not known_values.size:
        return float("nan")
    return float(np.mean(known_values))


def by_horizon(
    measure: Callable[..., float],
    actual: Values,
    *forecasts: Float[np.ndarray, "_ _ ..."],
    draws: Float[np.ndarray, "m _ _"] | None = None,
    **settings: object,
) -> Float[np.ndarray, " k"]:
    """Apply a measure of this module to each step of the horizon alone: by_horizon(mae, actual, forecast).

    Positional arguments are "n k" or "n k q" and are taken step by step, and so are `draws` "m n k"; `settings` (`scale`,
    `levels`, `level`, `df`) are passed to every step unchanged.
    """
    shapes = [array.shape[:2] for array in forecasts]
    if draws is not None:
        shapes.append(draws.shape[1:])
    for shape in shapes:
        if shape != actual.shape:
            raise ValueError(f'actual values {actual.shape} and forecast {shape} must agree in "n k"')

    values = []
    for step in range(actual.shape[1]):
        # A slice keeps the axis of the horizon.
        column = slice(step, step + 1)
        step_settings = dict(settings)
        if draws is not None:
            step_settings["draws"] = draws[:, :, column]
        step_forecasts = [array[:, column] for array in forecasts]
        values.append(measure(actual[:, column], *step_forecasts, **step_settings))
    return np.array(values)


# Probabilities "n k" of an event, of which the actual value is 1 where it came and 0 where it did not.


def log_losses(
    actual: Values,
    probability: Values,
) -> Float[np.ndarray, "n k"]:
    """Return -log of the probability of what came: of 1 p, of 0 1 - p; NaN where that is not known."""
    came = 1 - np.abs(errors(actual, probability))
    # A probability of 0 for what came is a loss of infinity.
    with np.errstate(divide="ignore"):
        return -np.log(came)


def log_loss(
    actual: Values,
    probability: Values,
) -> float:
    """Return the mean logarithmic loss (Good 1952), strictly proper: smallest at the true probability."""
    return _mean(log_losses(actual, probability), actual)


def brier(
    actual: Values,
    probability: Values,
) -> float:
    """Return the mean squared difference of probability and event (Brier 1950), strictly proper, from 0 to 1."""
    return mse(actual, probability)


def accuracy(
    actual: Values,
    probability: Values,
) -> float:
    """Return the share of events that came where the probability is above a half, and did not where it is not."""
    is_right = (probability > 0.5) == (actual > 0.5)
    return _mean(is_right.astype(np.float64), actual)


# Point forecasts.


def mse(
    actual: Values,
    forecast: Values,
) -> float:
    """Return the mean squared error, mean((a - f)²), in the unit squared."""
    return _mean(errors(actual, forecast) ** 2, actual)


def rmse(
    actual: Values,
    forecast: Values,
) -> float:
    """Return the root of the mean squared error, √mean((a - f)²), in the series' unit."""
    return float(np.sqrt(mse(actual, forecast)))


def mae(
    actual: Values,
    forecast: Values,
) -> float:
    """Return the mean absolute error, mean(|a - f|), in the series' unit."""
    return _mean(np.abs(errors(actual, forecast)), actual)


def relative_mse(
    actual: Values,
    forecast: Values,
    reference: Values,
) -> float:
    """Return the MSE of the forecast over that of a reference forecast; below 1 is better than the reference.

    With the last value as reference, the square of Theil's U2 (1966), section 2.3 of Hyndman & Koehler. Raises
    `UsageError` if the reference makes no error at all.
    """
    reference_mse = mse(actual, reference)
    # A ratio to nothing would call every forecast infinitely worse.
    if reference_mse == 0:
        raise UsageError(
            f"the reference forecast is exact on all {actual.size} values: no error to compare with; the series is constant"
        )
    return mse(actual, forecast) / reference_mse


def smape(
    actual: Values,
    forecast: Values,
) -> float:
    """Return the symmetric mean absolute percentage error, mean(200 |a - f| / (|a| + |f|)), from 0 to 200 %.

    The definition of the M4 competition: Makridakis, Spiliotis & Assimakopoulos (2020), International Journal of
    Forecasting 36(1). Where both values are 0 the forecast is exact and the term is 0.
    """
    return _mean(percentage_errors(actual, forecast), actual)


def percentage_errors(
    actual: Values,
    forecast: Values,
) -> Float[np.ndarray, "n k"]:
    """Return the terms of `smape`, 200 |a - f| / (|a| + |f|), NaN where the actual value is unknown."""
    # Both terms of the sum are absolute values: 1 forecast as -1 is wrong by all of the 200 %.
    size = np.abs(errors(actual, forecast))
    total = np.abs(np.asarray(actual, np.float64)) + np.abs(np.asarray(forecast, np.float64))
    return np.divide(200 * size, total, out=np.zeros_like(size), where=total != 0)


def seasonal_scale(
    values: Float[np.ndarray, " t"],
    period: int = 1,
    *,
    squared: bool = False,
    source: str = "the series",
) -> float:
    """Return the mean |y_t - y_{t-m}| of a series' TRAINING part: the in-sample error of the seasonal naive forecast.

    m is `period`; the result is in the series' unit, or with `squared` the mean square, which `rmsse` divides by. Values
    that are NaN are unknown, and so are their differences. Raises `UsageError`, which opens with `source`, if there are
    not more than m values or if none of those differences is more than rounding.
    """
    if period < 1:
        raise UsageError(f"{source}: period is {period}; it must be at least 1")
    if len(values) <= period:
        raise UsageError(
            f"{source}: a scale over period {period} needs at least {period + 1} training values; there are {len(values)}"
        )

    values = np.asarray(values, np.float64)
    changes = values[period:] - values[:-period]
    changes = changes[~np.isnan(changes)]
    scale = 0.0
    if changes.size:
        scale = float(np.mean(np.abs(changes)))

    # Values that repeat exactly may still differ by rounding.
    rounding = 8 * np.finfo(np.float64).eps * np.nanmax(np.abs(values), initial=0)
    if not rounding < scale < np.inf:
        raise UsageError(
            f"{source}: the {len(values)} training values change by {scale:g} on average over period {period}: MASE and "
            "RMSSE would divide by it; leave this series out, or use MAE"
        )
    if squared:
        return float(np.mean(changes**2))
    return scale


def mase(
    actual: Values,
    forecast: Values,
    scale: Float[np.ndarray, " _"],
) -> float:
    """Return the mean absolute scaled error, mean(|a - f| / scale).

    Below 1 is better than the naive forecast was in training. `scale` "n" is the `seasonal_scale` of each row's series.
    Hyndman & Koehler, section 3. Raises `UsageError` for a scale that is not above 0.
    """
    scaled = np.abs(errors(actual, forecast)) / _checked_scale(scale, actual)
    return _mean(scaled, actual)


def rmsse(
    actual: Values,
    forecast: Values,
    scale: Float[np.ndarray, " _"],
) -> float:
    """Return the root mean squared scaled error, √mean((a - f)² / scale); the root comes last, over all rows together.

    `scale` "n" is the `seasonal_scale` of each row's series with `squared=True`. For one row, the measure of the M5
    competition: Makridakis, Spiliotis & Assimakopoulos (2022), International Journal of Forecasting 38(4). Raises
    `UsageError` for a scale that is not above 0.
    """
    scaled = errors(actual, forecast) ** 2 / _checked_scale(scale, actual)
    return float(np.sqrt(_mean(scaled, actual)))


def _checked_scale(
    scale: Float[np.ndarray, " _"],
    actual: Values,
) -> Float[np.ndarray, "n 1"]:
    # A single scale would be broadcast over the series.
    if scale.shape != actual.shape[:1]:
        raise ValueError(f"scales {scale.shape} must be one for each of the {len(actual)} rows")
    unusable = ~((scale > 0) & np.isfinite(scale))
    if np.any(unusable):
        row = int(np.argmax(unusable))
        raise UsageError(f"the scale of row {row + 1} is {scale[row]:g}; it must be above 0 and finite")
    return np.asarray(scale, np.float64)[:, None]


# Forecasts of a distribution.


def _pinball_losses(
    actual: Values,
    quantiles: Float[np.ndarray, "_ _ _"],
    levels: Float[np.ndarray, " _"],
) -> Iterator[Float[np.ndarray, "n k"]]:
    """Yield the losses at each level, one after the other: a long test part has millions of values of each."""
    if quantiles.shape != (*actual.shape, *levels.shape) or not quantiles.size:
        raise ValueError(
            f'quantiles {quantiles.shape} must be "n k q": the shape of the actual values {actual.shape} and then one '
            f"for each of the {levels.size} levels, at least one of each"
        )
    # Levels out of order would give weights below 0.
    if not (np.all(levels > 0) and np.all(levels < 1) and np.all(np.diff(levels) > 0)):
        raise UsageError(f"levels {levels.tolist()} must lie between 0 and 1 and increase")

    for number, level in enumerate(levels):
        error = np.asarray(actual, np.float64) - quantiles[..., number]
        yield np.maximum(level * error, (level - 1) * error)


def pinball_by_step(
    actual: Values,
    quantiles: Float[np.ndarray, "_ _ _"],
    levels: Float[np.ndarray, " _"],
) -> Float[np.ndarray, "s q"]:
    """Return the mean pinball loss at each level: over all steps of the horizon in the first row, then of each step."""
    steps = [slice(None), *(slice(step, step + 1) for step in range(actual.shape[1]))]
    by_level = []
    for losses in _pinball_losses(actual, quantiles, levels):
        by_level.append([_mean(losses[:, columns], actual[:, columns]) for columns in steps])
    return np.array(by_level).T


def quantile_loss(
    actual: Values,
    quantiles: Float[np.ndarray, "_ _ _"],
    levels: Float[np.ndarray, " _"],
) -> float:
    """Return the mean pinball loss, mean(max(τ (a - q), (τ - 1)(a - q))), over all values and levels τ.

    In the series' unit. `quantiles` are "n k q", `levels` "q" increase between 0 and 1, or `UsageError` is raised. At
    τ = ½ it is half the MAE. Koenker & Bassett (1978), "Regression quantiles", Econometrica 46(1).
    """
    means = [_mean(losses, actual) for losses in _pinball_losses(actual, quantiles, levels)]
    return float(np.mean(means))


def crps_quantiles(
    actual: Values,
    quantiles: Float[np.ndarray, "_ _ _"],
    levels: Float[np.ndarray, " _"],
) -> float:
    """Return the continuous ranked probability score 2 ∫₀¹ pinball(τ) dτ from quantiles, in the series' unit.

    The integral is the trapezoid rule between the levels; beyond the outermost two their loss is held constant. So the
    weights add up to 1: the median alone gives the MAE, and levels (i - ½) / q give twice `quantile_loss`. Arguments and
    errors as for `quantile_loss`.
    """
    means = [_mean(losses, actual) for losses in _pinball_losses(actual, quantiles, levels)]
    return crps_of_levels(np.array(means), levels)


def crps_of_levels(
    loss: Float[np.ndarray, " q"],
    levels: Float[np.ndarray, " q"],
) -> float:
    """Return the CRPS from the mean pinball loss at each level; see `crps_quantiles`."""
    # The loss at a level stands for all levels nearer to it than to its neighbours.
    edges = np.concatenate([[0.0], (levels[1:] + levels[:-1]) / 2, [1.0]])
    return 2 * float(np.sum(np.diff(edges) * loss))


def crps_gaussian(
    actual: Values,
    mean: Values,
    sd: Values,
) -> float:
    """Return the CRPS of normal distributions, mean(σ (z (2Φ(z) - 1) + 2φ(z) - 1/√π)) with z = (a - μ) / σ.

    In the series' unit. Gneiting & Raftery, section 4.2, with the sign turned. Raises `UsageError` for a σ that is not
    above 0.
    """
    z = errors(actual, mean) / _positive(sd, actual, "standard deviation")
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    score = z * (2 * ndtr(z) - 1) + 2 * density - 1 / np.sqrt(np.pi)
    return _mean(sd * score, actual)


def crps_student_t(
    actual: Values,
    location: Values,
    scale: Values,
    df: float | Values,
) -> float:
    """Return the CRPS of Student's t distributions with location, scale and ν = `df` degrees of freedom.

    In the series' unit; `df` is one number or "n k". Jordan, Krüger & Lerch (2019), "Evaluating probabilistic forecasts
    with scoringRules", Journal of Statistical Software 90(12), appendix A. Raises `UsageError` unless ν > 1 (the score
    is infinite otherwise) and the scale is above 0.
    """
    nu = np.broadcast_to(np.asarray(df, np.float64), actual.shape)
    # With one degree of freedom or less there is no mean distance.
    if not np.all(nu > 1):
        raise UsageError(f"the smallest of the degrees of freedom is {np.min(nu):g}; the CRPS needs more than 1")

    z = errors(actual, location) / _positive(scale, actual, "scale")
    # By logarithms: the beta function leaves the range of float64 for many degrees of freedom.
    log_beta = betaln(0.5, nu / 2)
    density = np.exp(-(nu + 1) / 2 * np.log1p(z**2 / nu) - log_beta) / np.sqrt(nu)
    spread = 2 * np.sqrt(nu) * np.exp(betaln(0.5, nu - 0.5) - 2 * log_beta)
    score = z * (2 * stdtr(nu, z) - 1) + (2 * density * (nu + z**2) - spread) / (nu - 1)
    return _mean(scale * score, actual)


def _positive(
    spread: Values,
    actual: Values,
    name: str,
) -> Float[np.ndarray, "n k"]:
    # Called for its check of the shapes.
    errors(actual, spread)
    not_positive = ~(spread > 0)
    if np.any(not_positive):
        row = int(np.argmax(not_positive.any(axis=1)))
        count = np.count_nonzero(not_positive)
        raise UsageError(f"the {name} must be above 0; {count} are not, the first in row {row + 1}")
    return np.asarray(spread, np.float64)


def crps_ensemble(
    actual: Values,
    draws: Float[np.ndarray, "m _ _"],
    fair: bool = True,
) -> float:
    """Return the CRPS from m draws of each value, mean |x - a| - ½ mean |x - x'|; `draws` are "m n k".

    In the series' unit. `fair` takes the second mean over pairs of different draws, so that the score of few draws
    estimates without bias that of their distribution (Ferro 2014, "Fair scores for ensemble forecasts", QJRMS 140);
    else over all m² pairs, which scores the draws themselves. Raises `UsageError` for fewer than 2 fair draws.
    """
    m = len(draws)
    least = 1
    pairs_of_each = m
    if fair:
        least = 2
        pairs_of_each = m - 1
    if m < least:
        raise UsageError(f"{m} draws of each value; at least {least} are needed")
    if draws.shape[1:] != actual.shape or not actual.size:
        raise ValueError(f'draws {draws.shape} must be "m n k": m times the shape of the actual values {actual.shape}')

    x = np.sort(np.asarray(draws, np.float64), axis=0)
    # Of the sorted draws, the i-th is the larger one in i pairs and the smaller one in m - 1 - i.
    ranks = (2 * np.arange(m) - m + 1)[:, None, None]
    pairs = np.sum(ranks * x, axis=0) / (m * pairs_of_each)
    distance = np.mean(np.abs(x - actual), axis=0)
    return _mean(distance - pairs, actual)


# Intervals.


def inside(
    actual: Values,
    low: Values,
    high: Values,
) -> Float[np.ndarray, "n k"]:
    """Return 1 where low <= a <= high and 0 elsewhere; NaN where one of the three is NaN."""
    above_low = errors(actual, low)
    below_high = -errors(actual, high)
    covered = ((above_low >= 0) & (below_high >= 0)).astype(np.float64)
    # Comparisons with NaN are false: it would count as a value outside.
    undefined = np.isnan(above_low) | np.isnan(below_high)
    return np.where(undefined, np.nan, covered)


def coverage(
    actual: Values,
    low: Values,
    high: Values,
) -> float:
    """Return the share of the values within their interval, ends included: low <= a <= high."""
    return _mean(inside(actual, low, high), actual)


def interval_width(
    actual: Values,
    low: Values,
    high: Values,
) -> float:
    """Return the mean width of the intervals of known values; an inverted interval has width 0."""
    return _mean(np.maximum(errors(high, low), 0), actual)


def interval_score(
    actual: Values,
    low: Values,
    high: Values,
    level: float,
) -> float:
    """Return Winkler's interval score: the mean width, plus 2/α times the distance of a value outside; α = 1 - `level`.

    In the series' unit. Gneiting & Raftery, equation 43; Winkler (1972), JASA 67(337). Raises `UsageError` for a level
    not between 0 and 1, and for an interval whose low end is above its high end.
    """
    if not 0 < level < 1:
        raise UsageError(f"level {level} must lie between 0 and 1")
    # Its width would be negative, a reward.
    inverted = np.count_nonzero(low > high)
    if inverted:
        raise UsageError(f"{inverted} of {low.size} intervals have their low end above their high one")

    below_low = np.maximum(-errors(actual, low), 0)
    above_high = np.maximum(errors(actual, high), 0)
    width = errors(high, low)
    return _mean(width + 2 / (1 - level) * (below_low + above_high), actual)
