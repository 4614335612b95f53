"""Errors of a forecast, each one number over all rows and all steps of the horizon, in float64.

Point forecasts: definitions as in Hyndman & Koehler (2006), "Another look at measures of forecast accuracy",
International Journal of Forecasting 22(4), section 2, unless said. Forecasts of a distribution: proper scores, as in
Gneiting & Raftery (2007), "Strictly proper scoring rules, prediction, and estimation", JASA 102(477); smaller is
better. Every function raises `ValueError` with both shapes where they differ; a value that is not a number gives NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from jaxtyping import Float
from scipy.special import betaln, ndtr, stdtr

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


def by_horizon(
    measure: Callable[..., float],
    actual: Values,
    *forecasts: Float[np.ndarray, "_ _ ..."],
    draws: Float[np.ndarray, "m _ _"] | None = None,
    **whole: object,
) -> Float[np.ndarray, " k"]:
    """Any measure of this module for each step of the horizon by itself: by_horizon(mae, actual, forecast).

    Positional arguments are "n k" or "n k q" and are taken step by step, and so are `draws` "m n k"; what is passed
    by name (`scale`, `levels`, `level`, `df`) goes to every step whole.
    """
    shapes = [array.shape[:2] for array in forecasts] + ([] if draws is None else [draws.shape[1:]])
    for shape in shapes:
        if shape != actual.shape:
            raise ValueError(f'actual values {actual.shape} and forecast {shape} must agree in "n k"')

    def step(h: slice) -> float:
        drawn = {} if draws is None else {"draws": draws[:, :, h]}
        return measure(actual[:, h], *(array[:, h] for array in forecasts), **drawn, **whole)

    return np.array([step(slice(h, h + 1)) for h in range(actual.shape[1])])


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


def _pinball(
    actual: Values, quantiles: Float[np.ndarray, "_ _ _"], levels: Float[np.ndarray, " _"]
) -> Float[np.ndarray, " q"]:
    """The mean loss at each level."""
    if quantiles.shape != (*actual.shape, *levels.shape) or not quantiles.size:
        raise ValueError(
            f'quantiles {quantiles.shape} must be "n k q": the shape of the actual values {actual.shape} and then one '
            f"for each of the {levels.size} levels, at least one of each"
        )
    if not (np.all(levels > 0) and np.all(levels < 1) and np.all(np.diff(levels) > 0)):
        raise UsageError(f"levels {levels.tolist()} must lie between 0 and 1 and increase")
    error = np.asarray(actual, np.float64)[..., None] - np.asarray(quantiles, np.float64)
    return np.mean(np.maximum(levels * error, (levels - 1) * error), axis=(0, 1))


def quantile_loss(actual: Values, quantiles: Float[np.ndarray, "_ _ _"], levels: Float[np.ndarray, " _"]) -> float:
    """Mean pinball loss, mean(max(τ (a - q), (τ - 1)(a - q))), over all values and levels τ, in the series' unit.

    `quantiles` are "n k q", `levels` "q" increase between 0 and 1, or `UsageError` is raised. At τ = ½ it is half the
    MAE. Koenker & Bassett (1978), "Regression quantiles", Econometrica 46(1).
    """
    return float(np.mean(_pinball(actual, quantiles, levels)))


def crps_quantiles(actual: Values, quantiles: Float[np.ndarray, "_ _ _"], levels: Float[np.ndarray, " _"]) -> float:
    """Continuous ranked probability score 2 ∫₀¹ pinball(τ) dτ from quantiles, in the series' unit.

    The integral is the trapezoid rule between the levels, and beyond the outermost two their loss is held as it is.
    So the weights add up to 1: the median alone gives the MAE, and levels (i - ½) / q give twice `quantile_loss`.
    Arguments and errors as `quantile_loss`.
    """
    loss = _pinball(actual, quantiles, levels)
    edges = np.concatenate([[0.0], (levels[1:] + levels[:-1]) / 2, [1.0]])
    return 2 * float(np.sum(np.diff(edges) * loss))


def crps_gaussian(actual: Values, mean: Values, sd: Values) -> float:
    """CRPS of normal distributions, mean(σ (z (2Φ(z) - 1) + 2φ(z) - 1/√π)) with z = (a - μ) / σ, in the series' unit.

    Gneiting & Raftery, section 4.2, with the sign turned. Raises `UsageError` for a σ that is not above 0.
    """
    z = errors(actual, mean) / _positive(sd, actual, "standard deviation")
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    return float(np.mean(sd * (z * (2 * ndtr(z) - 1) + 2 * density - 1 / np.sqrt(np.pi))))


def crps_student_t(actual: Values, location: Values, scale: Values, df: float | Values) -> float:
    """CRPS of Student's t distributions with location, scale and ν = `df` degrees of freedom, in the series' unit.

    `df` is one number or "n k". Jordan, Krüger & Lerch (2019), "Evaluating probabilistic forecasts with
    scoringRules", Journal of Statistical Software 90(12), appendix A. Raises `UsageError` unless ν > 1 (the score is
    infinite otherwise) and the scale is above 0.
    """
    nu = np.broadcast_to(np.asarray(df, np.float64), actual.shape)
    if not np.all(nu > 1):
        raise UsageError(f"the smallest of the degrees of freedom is {np.min(nu):g}; the CRPS needs more than 1")
    z = errors(actual, location) / _positive(scale, actual, "scale")
    log_beta = betaln(0.5, nu / 2)
    density = np.exp(-(nu + 1) / 2 * np.log1p(z**2 / nu) - log_beta) / np.sqrt(nu)
    spread = 2 * np.sqrt(nu) * np.exp(betaln(0.5, nu - 0.5) - 2 * log_beta)
    score = z * (2 * stdtr(nu, z) - 1) + (2 * density * (nu + z**2) - spread) / (nu - 1)
    return float(np.mean(scale * score))


def _positive(spread: Values, actual: Values, name: str) -> Float[np.ndarray, "n k"]:
    errors(actual, spread)  # its check of the shapes
    if np.any(bad := ~(spread > 0)):
        row = int(np.argmax(bad.any(axis=1)))
        raise UsageError(f"the {name} must be above 0; {np.count_nonzero(bad)} are not, the first in row {row + 1}")
    return np.asarray(spread, np.float64)


def crps_ensemble(actual: Values, draws: Float[np.ndarray, "m _ _"], fair: bool = True) -> float:
    """CRPS from m draws of each value, mean |x - a| - ½ mean |x - x'|, in the series' unit; `draws` are "m n k".

    `fair` takes the second mean over pairs of different draws, so that the score of few draws estimates without bias
    that of the distribution which they come from (Ferro 2014, "Fair scores for ensemble forecasts", QJRMS 140); else
    over all m² pairs, which scores the draws themselves. Raises `UsageError` for fewer than 2 fair draws.
    """
    m = len(draws)
    if m < (least := 2 if fair else 1):
        raise UsageError(f"{m} draws of each value; at least {least} are needed")
    if draws.shape[1:] != actual.shape or not actual.size:
        raise ValueError(f'draws {draws.shape} must be "m n k": m times the shape of the actual values {actual.shape}')
    x = np.sort(np.asarray(draws, np.float64), axis=0)
    # of the sorted draws, the i-th is the larger one in i pairs and the smaller one in m - 1 - i
    ranks = (2 * np.arange(m) - m + 1)[:, None, None]
    pairs = np.sum(ranks * x, axis=0) / (m * (m - 1 if fair else m))
    return float(np.mean(np.mean(np.abs(x - actual), axis=0) - pairs))


def coverage(actual: Values, low: Values, high: Values) -> float:
    """Share of the values within their interval, ends included: low <= a <= high."""
    above, below = errors(actual, low), -errors(actual, high)
    inside = ((above >= 0) & (below >= 0)).astype(np.float64)
    return float(np.mean(np.where(np.isnan(above) | np.isnan(below), np.nan, inside)))


def interval_score(actual: Values, low: Values, high: Values, level: float) -> float:
    """Winkler's interval score: mean width, plus 2/α times how far a value lies outside; α = 1 - `level`.

    In the series' unit. Gneiting & Raftery, equation 43; Winkler (1972), JASA 67(337). Raises `UsageError` for a
    level not between 0 and 1, and for an interval whose ends are the wrong way round.
    """
    if not 0 < level < 1:
        raise UsageError(f"level {level} must lie between 0 and 1")
    under, over = -errors(actual, low), errors(actual, high)
    if count := np.count_nonzero(low > high):
        raise UsageError(f"{count} of {low.size} intervals have their low end above their high one")
    width = np.asarray(high, np.float64) - np.asarray(low, np.float64)
    return float(np.mean(width + 2 / (1 - level) * (np.maximum(under, 0) + np.maximum(over, 0))))
