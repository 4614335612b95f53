"""Is a forecast better than the last value by more than chance, or is it the last value in disguise?

The skill's interval resamples blocks of neighbouring rows, and forecast and naive forecast together, because squared
errors are correlated in time (calm and wild weeks) and with each other. Two forecasts of the same rows are compared
by the test of Diebold & Mariano, two models over seeds or folds by their paired differences.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float, Shaped
from scipy.special import stdtr

from jaxseq.common.errors import UsageError
from jaxseq.forecasting.metrics import Values, errors, relative_mse

MIN_BLOCKS = 10
"""Fewer blocks (or, for `diebold_mariano`, rows per lag and one) than this say too little about the spread."""

Weights: TypeAlias = Literal["rectangular", "Bartlett"]
"""Of the autocovariances: see `_long_run_variance`."""


class Interval(NamedTuple):
    """Both ends of an interval; NaN where there were too few rows for one."""

    low: float
    high: float


def skill(actual: Values, forecast: Values, naive: Values) -> float:
    """1 - MSE / MSE of the naive forecast: 0 is as good as the last value, 1 is perfect, below 0 is worse.

    Murphy (1988), "Skill scores based on the mean square error", Monthly Weather Review 116(12), equation 4.
    """
    return 1 - relative_mse(actual, forecast, naive)


def by_time(error: Values, times: Shaped[np.ndarray, " n"]) -> Float[np.ndarray, "m k"]:
    """One row for each of the m different times, in their order: the root of the sum of its squared errors.

    Rows of many series share their times, and what happens at a time happens to many of them: they are one draw of
    the world, not as many as there are series. The mean square of what comes out is proportional to that of `error`.
    Raises `ValueError` unless there is one time for each row.
    """
    if times.shape != error.shape[:1]:
        raise ValueError(f"times {times.shape} must be one for each of the {len(error)} rows")
    different, place = np.unique(times, return_inverse=True)
    largest = float(np.max(np.abs(error))) or 1.0  # or squares of large errors would leave float64
    total = np.zeros((len(different), error.shape[1]))
    np.add.at(total, place, (error / largest) ** 2)
    return largest * np.sqrt(total)


def block_length(rows: int, horizon: int) -> int:
    """Rows of a block: ⌈rows^(1/3)⌉, the rate of Künsch (1989), but at least twice the horizon.

    Errors of forecasts of k steps overlap, so they are correlated over k - 1 rows even if the forecast is perfect.
    """
    return max(math.ceil(round(rows ** (1 / 3), 9)), 2 * horizon if horizon > 1 else 1)


def block_bootstrap_interval(
    actual: Values,
    forecast: Values,
    naive: Values,
    *,
    seed: int = 0,
    draws: int = 2000,
    block: int | None = None,
    level: float = 0.95,
) -> Interval:
    """The percentile interval of the skill, from `draws` paired circular-block bootstrap samples of the rows.

    Rows are in chronological order; `block` is `block_length` unless given, and the same seed gives the same interval.
    Every sample has as many rows as the original (the last block is cut) and its skill is a ratio of means. With fewer
    than `MIN_BLOCKS` blocks both ends are NaN. Künsch (1989), Annals of Statistics 17(3); circular blocks: Politis &
    Romano (1992), in Exploring the Limits of Bootstrap. Raises what `skill` raises.
    """
    skill(actual, forecast, naive)  # its checks
    losses = np.stack([np.mean(errors(actual, f) ** 2, axis=1) for f in (forecast, naive)])
    rows = losses.shape[1]
    size = block_length(rows, actual.shape[1]) if block is None else block
    if size < 1 or rows < MIN_BLOCKS * size:
        return Interval(math.nan, math.nan)
    blocks = -(-rows // size)
    starts = np.random.default_rng(seed).integers(rows, size=(draws, blocks))
    lengths = np.full(blocks, size)
    lengths[-1] = rows - size * (blocks - 1)
    circle = np.concatenate([np.zeros((2, 1)), losses, losses[:, :size]], axis=1).cumsum(axis=1)
    ours, base = (circle[:, starts + lengths] - circle[:, starts]).sum(axis=2)
    exact = np.where(ours > 0, -np.inf, 0.0)  # a sample in which the naive forecast makes no error
    skills = np.where(base > 0, 1 - ours / np.where(base > 0, base, 1.0), exact)
    tail = (1 - level) / 2
    low, high = np.quantile(skills, [tail, 1 - tail], method="inverted_cdf")
    return Interval(float(low), float(high))


class LagOne(NamedTuple):
    """Is the forecast only a copy of the last value? See `lag_one_copy`."""

    movement: float
    """Root mean square of f - v over that of a - v: 0 never moves, 1 moves as far as the series does."""
    change_correlation: float
    """Correlation of the forecast change f - v with the actual change a - v; 0 where either of them is constant."""
    chance_correlation: float
    """Upper 2.5 % point of that correlation for independent changes."""

    @property
    def copies(self) -> bool:
        """Moves less than half as far as the series does, and its moves agree with the series' only by chance."""
        return self.movement < 0.5 and self.change_correlation <= self.chance_correlation


def lag_one_copy(
    actual: Values, forecast: Values, last: Float[np.ndarray, " n"], times: Shaped[np.ndarray, " n"] | None = None
) -> LagOne:
    """Tells a forecast of the next value from a copy of the last one: a = actual, f = forecast, v = last value.

    A curve of levels that follows the actual one a day late looks like a good forecast (R² of 0.99 is a property of
    the naive one), and so does a good forecast of a random walk. What tells them apart is the CHANGE from the last
    value: does the forecast make any, and does it go with the series'? `chance_correlation` is 1.96 / √(n / k), the
    limit for n / k independent pairs (Bartlett 1946); with `times` n is how many different ones there are. Raises
    `ValueError` with the shapes where they do not fit.
    """
    error = errors(actual, forecast)
    if last.shape != actual.shape[:1]:
        raise ValueError(f"last values {last.shape} must be one for each of the {len(actual)} rows")
    rows = len(actual) if times is None else len(by_time(error, times))
    forecast_change = forecast - last[:, None]
    actual_change = actual - last[:, None]
    forecast_size = float(np.sqrt(np.mean(forecast_change**2)))
    actual_size = float(np.sqrt(np.mean(actual_change**2)))
    return LagOne(
        # A series that never moves leaves nothing to compare a move with.
        movement=forecast_size / actual_size if actual_size else math.inf,
        change_correlation=_correlation(forecast_change, actual_change),
        chance_correlation=1.96 / math.sqrt(rows / actual.shape[1]),
    )


def _correlation(a: Float[np.ndarray, "n k"], b: Float[np.ndarray, "n k"]) -> float:
    """Pearson's; 0 where one of the two is constant but for rounding."""
    deviations = [array - array.mean() for array in (a, b)]
    lengths = [float(np.linalg.norm(deviation)) for deviation in deviations]
    if any(length <= 1e-12 * np.linalg.norm(array) for length, array in zip(lengths, (a, b), strict=True)):
        return 0.0
    return float(np.sum(deviations[0] * deviations[1])) / (lengths[0] * lengths[1])


class DieboldMariano(NamedTuple):
    """See `diebold_mariano`; `statistic` and `p_value` are NaN where there is a `reason` against the test."""

    statistic: float
    """Student's t with rows - 1 degrees of freedom if the two are equally good; below 0 favours the forecast."""
    p_value: float
    """Two-sided: how often two equally good forecasts differ by so much."""
    lags: int
    """Rows over which the loss differences are taken to be correlated."""
    weights: Weights = "rectangular"
    reason: str = ""


def diebold_mariano(
    actual: Values,
    forecast: Values,
    other: Values,
    *,
    loss: str = "squared",
    lags: int | None = None,
) -> DieboldMariano:
    """Are two forecasts of the same rows equally good? On the row's mean loss over its k steps, rows in order of time.

    `loss` is the "squared" or the "absolute" error. `lags` is k - 1 unless given: rows one apart share k - 1 of their
    values. The variance is that of Diebold & Mariano (1995), Journal of Business & Economic Statistics 13(3), with
    equal weights; where it is not positive, with Bartlett's, which cannot fail so (Newey & West 1987, Econometrica
    55(3)). The statistic is corrected for small samples and held against Student's t: Harvey, Leybourne & Newbold
    (1997), International Journal of Forecasting 13(2), equation 9. With no lag it is the paired t test of the losses.

    Fewer than `MIN_BLOCKS` rows for each of the lags + 1 give no test; with just as many, up to one in ten of equally
    good forecasts of several steps differ at the level of 5 % (tests/test_significance.py). Raises `ValueError` with
    the shapes where they differ, `UsageError` for another loss, lags below 0, or a value that is not finite.
    """
    d = np.mean(_losses(actual, forecast, loss) - _losses(actual, other, loss), axis=1)
    lags = actual.shape[1] - 1 if lags is None else lags
    if lags < 0:
        raise UsageError(f"lags is {lags}; it must be at least 0")

    n = len(d)
    mean = float(np.mean(d))
    least = MIN_BLOCKS * (lags + 1)
    if n < least:
        reason = f"{n} rows; at least {least} are needed with {lags} lags"
        return DieboldMariano(math.nan, math.nan, lags, reason=reason)
    size = float(np.max(np.abs(d)))
    if np.max(np.abs(d - mean)) <= 1e-12 * size:
        reason = f"the losses differ by the same in all {n} rows"
        return DieboldMariano(math.nan, math.nan, lags, reason=reason)
    # of losses at most 1: the statistic has no unit, and squares of squared errors leave float64 soon
    variance, weights = _long_run_variance((d - mean) / size, lags)
    small = math.sqrt((n - lags - 1) * (n - lags)) / n  # their √((n + 1 - 2h + h(h - 1) / n) / n), h = lags + 1
    statistic = small * (mean / size) / math.sqrt(variance / n)
    return DieboldMariano(statistic, 2 * float(stdtr(n - 1, -abs(statistic))), lags, weights)


def _long_run_variance(centred: Float[np.ndarray, " n"], lags: int) -> tuple[float, Weights]:
    """γ_0 + 2 Σ w_j γ_j over j = 1 … lags, γ_j the autocovariances: w = 1, or 1 - j / (lags + 1) if that is <= 0."""
    n = len(centred)
    covariances = np.array([np.dot(centred[j:], centred[: n - j]) / n for j in range(lags + 1)])
    covariances[1:] *= 2
    if (variance := float(np.sum(covariances))) > 0:
        return variance, "rectangular"
    return float(np.sum(covariances * (1 - np.arange(lags + 1) / (lags + 1)))), "Bartlett"


def _losses(actual: Values, forecast: Values, loss: str) -> Float[np.ndarray, "n k"]:
    if loss not in ("squared", "absolute"):
        raise UsageError(f"loss {loss!r} is unknown; choose one of squared, absolute")
    error = errors(actual, forecast)
    if count := np.count_nonzero(bad := ~np.isfinite(error)):
        row = int(np.argmax(bad.any(axis=1))) + 1
        raise UsageError(f"{count} of {error.size} errors are not finite, the first in row {row}")
    return error**2 if loss == "squared" else np.abs(error)
