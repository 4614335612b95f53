"""Tests of equally good forecasts: over time (Diebold & Mariano) and series by series; p-values of several (Holm)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float
from scipy.special import bdtr, stdtr

from jaxseq.common.errors import UsageError
from jaxseq.forecasting.losses import Losses

MIN_ROWS = 10
"""Fewest times of `diebold_mariano` for each lag and one."""

Weights: TypeAlias = Literal["rectangular", "Bartlett"]
"""Weights of the autocovariances: see `_long_run_variance`."""


class SeriesTests(NamedTuple):
    """How many of the series a forecast improves on, and two tests of it that take series as independent.

    series    series with a row
    improved  series in which the forecast's mean loss is below the reference's
    sign      two-sided p-value of the sign test
    wilcoxon  two-sided p-value of Wilcoxon's signed-rank test of the differences
    """

    series: int
    improved: int
    sign: float
    wilcoxon: float


def series_tests(losses: Losses) -> SeriesTests:
    """Compare forecast and reference series by series. Ties count for neither."""
    differences = np.nanmean(losses.forecast - losses.reference, axis=0)
    improved = int(np.sum(differences < 0))
    untied = int(np.sum(differences != 0))
    # Wilcoxon's test is not defined for ties alone.
    if not untied:
        return SeriesTests(len(differences), improved=0, sign=1.0, wilcoxon=1.0)

    # scipy.stats takes most of a second to import.
    from scipy.stats import wilcoxon

    fewer = min(improved, untied - improved)
    # Both tails hold the middle value of an even number of series: together they may exceed 1.
    sign = min(1.0, 2 * float(bdtr(fewer, untied, 0.5)))
    return SeriesTests(
        series=len(differences),
        improved=improved,
        sign=sign,
        wilcoxon=float(wilcoxon(differences).pvalue),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number: below a level, any one is false with at most that probability.

    NaN stays and does not count. Holm (1979), "A simple sequentially rejective multiple test procedure", Scandinavian
    Journal of Statistics 6(2).
    """
    values = np.asarray(p_values, np.float64)
    adjusted = values.copy()
    tested = np.flatnonzero(~np.isnan(values))
    ascending = tested[np.argsort(values[tested], kind="stable")]

    largest = 0.0
    for rank, place in enumerate(ascending):
        hypotheses_left = len(tested) - rank
        bounded = min(1.0, hypotheses_left * values[place])
        # A hypothesis is rejected only after all with smaller p-values.
        largest = max(largest, bounded)
        adjusted[place] = largest
    return adjusted.tolist()


class DieboldMariano(NamedTuple):
    """Test of equally good forecasts; see `diebold_mariano`.

    statistic  Student's t with rows - 1 degrees of freedom if the two are equally good; below 0 favours the forecast
    p_value    two-sided: how often two equally good forecasts differ by as much
    lags       rows over which the loss differences are taken to be correlated
    reason     against the test, in which case statistic and p_value are NaN
    """

    statistic: float
    p_value: float
    lags: int
    weights: Weights = "rectangular"
    reason: str = ""


def diebold_mariano(
    losses: Losses,
    *,
    lags: int | None = None,
) -> DieboldMariano:
    """Test whether forecast and reference are equally good, by their mean losses at each time.

    `lags` is the horizon - 1 unless given: rows one apart share horizon - 1 of their values. The variance is that of
    Diebold & Mariano (1995), Journal of Business & Economic Statistics 13(3), with equal weights; where it is not
    positive, with Bartlett's, which cannot fail so (Newey & West 1987, Econometrica 55(3)). The statistic is corrected
    for small samples and held against Student's t: Harvey, Leybourne & Newbold (1997), International Journal of
    Forecasting 13(2), equation 9. With no lag it is the paired t test of the losses.

    Fewer than `MIN_ROWS` times for each of the lags + 1 give no test; with just as many, up to one in ten of equally
    good forecasts of several steps differ at the level of 5 % (tests/forecasting/test_significance.py). Raises
    `UsageError` for lags below 0.
    """
    if lags is None:
        lags = losses.horizon - 1
    if lags < 0:
        raise UsageError("too few", where="lags", got=lags, needed="at least 0")

    # Series of one time are one draw of the world: their differences are added up.
    differences = np.nansum(losses.forecast - losses.reference, axis=1)
    n = len(differences)
    least = MIN_ROWS * (lags + 1)
    if n < least:
        reason = f"{n} rows; at least {least} are needed with {lags} lags"
        return DieboldMariano(math.nan, math.nan, lags, reason=reason)

    mean = float(np.mean(differences))
    largest = float(np.max(np.abs(differences)))
    # Without variance there is no statistic; what is left of it would be rounding.
    if np.max(np.abs(differences - mean)) <= 1e-12 * largest:
        reason = f"the losses differ by the same in all {n} rows"
        return DieboldMariano(math.nan, math.nan, lags, reason=reason)

    # Scaled to at most 1: the statistic has no unit, and squares of squared errors soon leave float64.
    variance, weights = _long_run_variance((differences - mean) / largest, lags)
    standard_error = math.sqrt(variance / n)
    h = lags + 1
    correction = math.sqrt((n + 1 - 2 * h + h * (h - 1) / n) / n)
    statistic = correction * (mean / largest) / standard_error
    p_value = 2 * float(stdtr(n - 1, -abs(statistic)))
    return DieboldMariano(statistic, p_value, lags, weights)


def _long_run_variance(
    centred: Float[np.ndarray, " n"],
    lags: int,
) -> tuple[float, Weights]:
    """Return γ_0 + 2 Σ w_j γ_j over j = 1 … lags, γ_j the autocovariances: w = 1, or 1 - j / (lags + 1) if that is <= 0."""
    n = len(centred)
    products = [np.dot(centred[lag:], centred[: n - lag]) for lag in range(lags + 1)]
    covariances = np.array(products) / n
    # Each lag stands for itself and for its mirror image.
    covariances[1:] *= 2
    variance = float(np.sum(covariances))
    if variance > 0:
        return variance, "rectangular"

    bartlett = 1 - np.arange(lags + 1) / (lags + 1)
    return float(np.sum(covariances * bartlett)), "Bartlett"
