"""Is a forecast better than the reference by more than chance, or is it the last value in disguise?

Losses of neighbouring forecasts are correlated (calm and wild weeks, targets that overlap), and so are those of series
that live in the same world. So what is resampled are blocks of time, with all series together, and series; where there
are only a few blocks, their means are compared by Student's t. Forecast and reference are always resampled together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy.special import bdtr, stdtr, stdtrit

from jaxseq.common.errors import UsageError
from jaxseq.forecasting.metrics import Values, errors

MIN_BLOCKS = 10
"""Fewest blocks of time (or, for `diebold_mariano`, rows per lag and one) that are resampled."""
MIN_SERIES = 10
"""Fewest series that are resampled; fewer are taken as all that the question is about."""
MAX_WEIGHTS = 2**24
"""Weights of times that are held at once while resampling: 128 MiB."""

Loss: TypeAlias = Literal["squared", "absolute"]
Weights: TypeAlias = Literal["rectangular", "Bartlett"]
"""Of the autocovariances: see `_long_run_variance`."""


class Losses(NamedTuple):
    """Losses of a forecast and of its reference, "m s": times in their order, series; NaN where a series has no row.

    horizon  steps that each row is the mean of, so that neighbours overlap
    """

    forecast: Float[np.ndarray, "m s"]
    reference: Float[np.ndarray, "m s"]
    horizon: int


class Interval(NamedTuple):
    """Both ends of an interval; NaN where there are too few rows for one."""

    low: float
    high: float


class SkillInterval(NamedTuple):
    """95 % interval of the skill.

    low     NaN where there are too few rows for an interval; so is `high`
    blocks  blocks of time that are taken as independent
    needed  test windows, in time, that would be enough; 0 where there are enough
    """

    low: float
    high: float
    blocks: int
    needed: int = 0


class Scales(NamedTuple):
    """Scale of each row's losses, so that no series weighs more for its unit: `metrics.seasonal_scale` of its series."""

    absolute: Float[np.ndarray, " n"]
    squared: Float[np.ndarray, " n"]


class Rows(NamedTuple):
    """Places of the rows of a test part in time and among the series.

    times    of each row; None for rows of a single series in order of time
    series   number of each row's series; None for a single one
    scales   of each row's losses; None for losses in the series' unit
    """

    times: Shaped[np.ndarray, " n"] | None = None
    series: Int[np.ndarray, " n"] | None = None
    scales: Scales | None = None


IN_ORDER = Rows()
"""Rows of a single series in order of time."""


def pair_losses(
    actual: Values, forecast: Values, reference: Values, rows: Rows = IN_ORDER, loss: Loss = "squared"
) -> Losses:
    """Return the losses of a forecast and its reference, the mean of each row's steps, arranged by time and series.

    Unknown targets (NaN) are left out. Raises `ValueError` with the shapes where they differ, and `UsageError` for
    another loss or a forecast that is not finite.
    """
    known = np.isfinite(actual).any(axis=1)
    pair = [row_losses(actual, values, loss)[known] for values in (forecast, reference)]
    if rows.scales is not None:
        scale = getattr(rows.scales, loss)[known]
        pair = [losses / scale for losses in pair]
    if rows.times is None:
        return Losses(pair[0][:, None], pair[1][:, None], actual.shape[1])

    if rows.times.shape != known.shape:
        raise ValueError(f"times {rows.times.shape} must be one for each of the {len(actual)} rows")
    times, row = np.unique(rows.times[known], return_inverse=True)
    column = np.zeros(len(row), int)
    if rows.series is not None:
        column = np.unique(rows.series[known], return_inverse=True)[1]
    tables = np.full((2, len(times), column.max() + 1), np.nan)
    tables[:, row, column] = pair
    return Losses(tables[0], tables[1], actual.shape[1])


def row_losses(actual: Values, forecast: Values, loss: Loss = "squared") -> Float[np.ndarray, " n"]:
    """Return the mean loss of each row over its known targets; NaN where none is known.

    Raises `ValueError` with both shapes where they differ, and `UsageError` for another loss or a forecast that is not
    finite.
    """
    if loss not in get_args(Loss):
        raise UsageError("unknown", where="loss", got=loss, needed=", ".join(get_args(Loss)))
    error = errors(actual, forecast)
    bad = ~np.isfinite(forecast)
    if np.any(bad):
        row = int(np.argmax(bad.any(axis=1))) + 1
        raise UsageError(f"{np.count_nonzero(bad)} of {bad.size} forecasts are not finite, the first in row {row}")

    each = np.abs(error)
    if loss == "squared":
        each = error**2
    known = np.isfinite(actual)
    counts = known.sum(axis=1)
    means = np.sum(np.where(known, each, 0.0), axis=1) / np.maximum(counts, 1)
    return np.where(counts > 0, means, np.nan)


def skill(losses: Losses) -> float:
    """Return 1 - mean loss / mean loss of the reference: 0 is as good, 1 is perfect, below 0 is worse.

    For squared errors, Murphy (1988), "Skill scores based on the mean square error", Monthly Weather Review 116(12),
    equation 4. Against a reference that makes no error at all it is 0 for a forecast that makes none, else -inf.
    """
    ours = float(np.nanmean(losses.forecast))
    reference = float(np.nanmean(losses.reference))
    if reference == 0:
        return -math.inf if ours else 0.0
    return 1 - ours / reference


def block_length(rows: int, horizon: int) -> int:
    """Return the rows of a block: ⌈rows^(1/3)⌉, the rate of Künsch (1989), but at least twice the horizon.

    Errors of forecasts of k steps overlap, so they are correlated over k - 1 rows even if the forecast is perfect.
    """
    return max(math.ceil(round(rows ** (1 / 3), 9)), 2 * horizon if horizon > 1 else 1)


def skill_interval(
    losses: Losses, *, seed: int = 0, draws: int = 2000, block: int | None = None, level: float = 0.95
) -> SkillInterval:
    """Return the interval of the skill: a bootstrap of blocks, or Student's t where there are fewer than `MIN_BLOCKS`.

    `block` is `block_length` unless given, and the same seed gives the same interval.
    """
    if not np.nanmax(losses.reference):
        return SkillInterval(skill(losses), skill(losses), len(losses.reference))
    # Squares of sums of squares would leave float64 for values that fit into it.
    unit = np.nanmax(losses.reference)
    losses = Losses(losses.forecast / unit, losses.reference / unit, losses.horizon)

    times = len(losses.forecast)
    size = block_length(times, losses.horizon) if block is None else block
    if times >= MIN_BLOCKS * size:
        low, high = _bootstrap(losses, size, seed=seed, draws=draws, level=level)
        return SkillInterval(low, high, times // size)
    return _student_interval(losses, level)


def _bootstrap(losses: Losses, size: int, *, seed: int, draws: int, level: float) -> tuple[float, float]:
    """Return the percentile interval of the skill from resampled blocks of time and, from `MIN_SERIES` on, series.

    Circular blocks of time: Künsch (1989), Annals of Statistics 17(3); Politis & Romano (1992). Times and series are
    drawn independently, which is conservative for their interaction: Owen (2007), "The pigeonhole bootstrap", Annals of
    Applied Statistics 1(2). Every draw has as many times as the original (its last block is cut), and its skill is a
    ratio of sums.
    """
    times, series = losses.forecast.shape
    generator = np.random.default_rng(seed)
    starts = generator.integers(times, size=(draws, -(-times // size)))
    series_weights = np.ones((draws, series))
    if series >= MIN_SERIES:
        series_weights = generator.multinomial(series, np.full(series, 1 / series), size=draws).astype(np.float64)

    # A time at which a series has no row adds nothing to either sum.
    ours = np.nan_to_num(losses.forecast)
    base = np.nan_to_num(losses.reference)
    chunk = max(1, MAX_WEIGHTS // (times + size))
    sums = []
    for first in range(0, draws, chunk):
        rows = slice(first, first + chunk)
        time_weights = _block_weights(starts[rows], times, size)
        sums.append([np.sum((time_weights @ table) * series_weights[rows], axis=1) for table in (ours, base)])
    our_sums, base_sums = np.concatenate(sums, axis=1)

    # A draw in which the reference makes no error has no finite skill unless the forecast makes none either.
    exact = np.where(our_sums > 0, -np.inf, 0.0)
    skills = np.where(base_sums > 0, 1 - our_sums / np.where(base_sums > 0, base_sums, 1.0), exact)
    tail = (1 - level) / 2
    low, high = np.quantile(skills, [tail, 1 - tail], method="inverted_cdf")
    return float(low), float(high)


def _block_weights(starts: Int[np.ndarray, "r b"], times: int, size: int) -> Float[np.ndarray, "r m"]:
    """Return how often each time is in the circular blocks of each draw; the last block is cut to `times` in all."""
    draws, blocks = starts.shape
    lengths = np.full(blocks, size)
    lengths[-1] = times - size * (blocks - 1)

    # A block adds 1 from its first time on and takes it back after its last: the running sum counts the blocks.
    width = times + size + 1
    first = np.arange(draws)[:, None] * width + starts
    changes = np.bincount(first.ravel(), minlength=draws * width).astype(np.float64)
    changes -= np.bincount((first + lengths).ravel(), minlength=draws * width)
    changes = changes.reshape(draws, width)
    counts = np.cumsum(changes, axis=1)
    weights = counts[:, :times]
    weights[:, :size] += counts[:, times : times + size]
    return weights


def _student_interval(losses: Losses, level: float) -> SkillInterval:
    """Return the interval of the skill from a few blocks of time, by Student's t and Fieller's theorem.

    Sums of blocks whose targets do not overlap are nearly independent, whatever the correlation within them: Ibragimov
    & Müller (2010), Journal of Business & Economic Statistics 28(4). The ratio θ of both losses is within its interval
    where the mean of (forecast - θ · reference) does not differ from 0: Fieller (1954), JRSS B 16(2). Series, if there
    are enough, add their own variance. Both ends are NaN where not even a perfect forecast would be told from the
    reference.
    """
    times, series = losses.forecast.shape
    blocks = _separate_blocks(times, losses.horizon)
    if len(blocks) < 2:
        needed = times
        while len(_separate_blocks(needed, losses.horizon)) < 2:
            needed += 1
        return SkillInterval(math.nan, math.nan, len(blocks), needed)

    ours = np.nan_to_num(losses.forecast)
    base = np.nan_to_num(losses.reference)
    pairs = np.array([[ours[block].sum(), base[block].sum()] for block in blocks])
    covariance = _covariance_of_sum(pairs)
    degrees = len(blocks) - 1
    if series >= MIN_SERIES:
        rows = np.concatenate([np.arange(times)[block] for block in blocks])
        by_series = np.stack([ours[rows].sum(axis=0), base[rows].sum(axis=0)], axis=1)
        covariance = covariance + _covariance_of_sum(by_series)
        degrees = min(degrees, series - 1)

    # (a - θ r)² <= c² Var(A - θ R) is a quadratic inequality in θ.
    ours_sum, base_sum = pairs.sum(axis=0)
    c = stdtrit(degrees, (1 + level) / 2)
    square = base_sum**2 - c**2 * covariance[1, 1]
    if square <= 0:
        needed = _needed(pairs[:, 1], times, losses.horizon, level)
        return SkillInterval(math.nan, math.nan, len(blocks), needed)
    middle = ours_sum * base_sum - c**2 * covariance[0, 1]
    constant = ours_sum**2 - c**2 * covariance[0, 0]
    root = math.sqrt(max(middle**2 - square * constant, 0.0))

    # The blocks leave out windows between them, so that the skill of all windows might lie outside.
    low = min(1 - (middle + root) / square, skill(losses))
    high = max(1 - (middle - root) / square, skill(losses))
    return SkillInterval(low, high, len(blocks))


def _separate_blocks(times: int, horizon: int) -> list[slice]:
    """Return at most `MIN_BLOCKS` - 1 blocks of windows, of at least times^(1/3) each, whose targets do not overlap."""
    least = math.ceil(round(times ** (1 / 3), 9))
    for count in range(MIN_BLOCKS - 1, 0, -1):
        width = (times - (count - 1) * (horizon - 1)) // count
        if width >= least:
            starts = [number * (times - width) // max(count - 1, 1) for number in range(count)]
            return [slice(start, start + width) for start in starts]
    return []


def _covariance_of_sum(pairs: Float[np.ndarray, "g 2"]) -> Float[np.ndarray, "2 2"]:
    """Return the covariance of the sum of g independent pairs."""
    deviations = pairs - pairs.mean(axis=0)
    return len(pairs) / (len(pairs) - 1) * deviations.T @ deviations


def _needed(reference: Float[np.ndarray, " g"], times: int, horizon: int, level: float) -> int:
    """Return the windows in whose blocks a perfect forecast would be told from a reference that varies as this one does."""
    variation = float(np.std(reference, ddof=1) / np.mean(reference))
    blocks = len(reference) + 1
    while blocks < stdtrit(blocks - 1, (1 + level) / 2) ** 2 * variation**2:
        blocks += 1
    width = (times - (len(reference) - 1) * (horizon - 1)) // len(reference)
    return blocks * width + (blocks - 1) * (horizon - 1)


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
    if not untied:
        return SeriesTests(len(differences), 0, 1.0, 1.0)

    fewer = min(improved, untied - improved)
    sign = min(1.0, 2 * float(bdtr(fewer, untied, 0.5)))
    # Imported here: scipy.stats takes most of a second.
    from scipy.stats import wilcoxon

    return SeriesTests(len(differences), improved, sign, float(wilcoxon(differences).pvalue))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number, which keep the chance of any false one; NaN stays and does not count.

    Holm (1979), "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6(2).
    """
    values = np.asarray(p_values, np.float64)
    adjusted = values.copy()
    known = np.flatnonzero(~np.isnan(values))
    largest = 0.0
    for rank, place in enumerate(known[np.argsort(values[known], kind="stable")]):
        largest = max(largest, min(1.0, (len(known) - rank) * values[place]))
        adjusted[place] = largest
    return adjusted.tolist()


class LagOne(NamedTuple):
    """Is the forecast only a copy of the last value? See `lag_one_copy`.

    movement            root mean square of f - v over that of a - v: 0 never moves, 1 moves as far as the series does
    change_correlation  of the forecast change f - v with the actual change a - v; 0 where either of them is constant
    chance_correlation  upper 2.5 % point of that correlation for independent changes
    """

    movement: float
    change_correlation: float
    chance_correlation: float

    @property
    def copies(self) -> bool:
        """Whether it moves less than half as far as the series, and agrees with its moves only by chance."""
        return self.movement < 0.5 and self.change_correlation <= self.chance_correlation


def lag_one_copy(
    actual: Values, forecast: Values, last: Float[np.ndarray, " n"], times: Shaped[np.ndarray, " n"] | None = None
) -> LagOne:
    """Tell a forecast of the next value from a copy of the last one: a = actual, f = forecast, v = last value.

    A curve of levels that follows the actual one a day late looks like a good forecast (R² of 0.99 is a property of
    the naive one), and so does a good forecast of a random walk. What tells them apart is the CHANGE from the last
    value: does the forecast make any, and does it go with the series'? `chance_correlation` is 1.96 / √(n / k), the
    limit for n / k independent pairs (Bartlett 1946); with `times` n is how many different ones there are. Unknown
    targets are left out. Raises `ValueError` with the shapes where they do not fit.
    """
    errors(actual, forecast)
    if last.shape != actual.shape[:1]:
        raise ValueError(f"last values {last.shape} must be one for each of the {len(actual)} rows")
    rows = len(actual) if times is None else len(np.unique(times))

    known = np.isfinite(actual)
    forecast_change = (forecast - last[:, None])[known]
    actual_change = (actual - last[:, None])[known]
    forecast_size = float(np.sqrt(np.mean(forecast_change**2)))
    actual_size = float(np.sqrt(np.mean(actual_change**2)))
    return LagOne(
        # A series that never moves leaves nothing to compare a move with.
        movement=forecast_size / actual_size if actual_size else math.inf,
        change_correlation=_correlation(forecast_change, actual_change),
        chance_correlation=1.96 / math.sqrt(rows / actual.shape[1]),
    )


def _correlation(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"]) -> float:
    """Return Pearson's correlation; 0 where one of the two is constant but for rounding."""
    deviations = [array - array.mean() for array in (a, b)]
    lengths = [float(np.linalg.norm(deviation)) for deviation in deviations]
    if any(length <= 1e-12 * np.linalg.norm(array) for length, array in zip(lengths, (a, b), strict=True)):
        return 0.0
    return float(np.sum(deviations[0] * deviations[1])) / (lengths[0] * lengths[1])


class DieboldMariano(NamedTuple):
    """See `diebold_mariano`.

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


def diebold_mariano(losses: Losses, *, lags: int | None = None) -> DieboldMariano:
    """Test whether forecast and reference are equally good, by their mean losses at each time.

    `lags` is the horizon - 1 unless given: rows one apart share horizon - 1 of their values. The variance is that of
    Diebold & Mariano (1995), Journal of Business & Economic Statistics 13(3), with equal weights; where it is not
    positive, with Bartlett's, which cannot fail so (Newey & West 1987, Econometrica 55(3)). The statistic is corrected
    for small samples and held against Student's t: Harvey, Leybourne & Newbold (1997), International Journal of
    Forecasting 13(2), equation 9. With no lag it is the paired t test of the losses.

    Fewer than `MIN_BLOCKS` times for each of the lags + 1 give no test; with just as many, up to one in ten of equally
    good forecasts of several steps differ at the level of 5 % (tests/forecasting/test_significance.py). Raises
    `UsageError` for lags below 0.
    """
    lags = losses.horizon - 1 if lags is None else lags
    if lags < 0:
        raise UsageError(f"lags is {lags}; it must be at least 0")

    # Series of one time are one draw of the world: their differences are added up.
    differences = np.nansum(losses.forecast - losses.reference, axis=1)
    n = len(differences)
    least = MIN_BLOCKS * (lags + 1)
    if n < least:
        reason = f"{n} rows; at least {least} are needed with {lags} lags"
        return DieboldMariano(math.nan, math.nan, lags, reason=reason)
    mean = float(np.mean(differences))
    size = float(np.max(np.abs(differences)))
    if np.max(np.abs(differences - mean)) <= 1e-12 * size:
        reason = f"the losses differ by the same in all {n} rows"
        return DieboldMariano(math.nan, math.nan, lags, reason=reason)

    # Scaled to at most 1: the statistic has no unit, and squares of squared errors soon leave float64.
    variance, weights = _long_run_variance((differences - mean) / size, lags)
    h = lags + 1
    correction = math.sqrt((n + 1 - 2 * h + h * (h - 1) / n) / n)
    statistic = correction * (mean / size) / math.sqrt(variance / n)
    return DieboldMariano(statistic, 2 * float(stdtr(n - 1, -abs(statistic))), lags, weights)


def _long_run_variance(centred: Float[np.ndarray, " n"], lags: int) -> tuple[float, Weights]:
    """Return γ_0 + 2 Σ w_j γ_j over j = 1 … lags, γ_j the autocovariances: w = 1, or 1 - j / (lags + 1) if that is <= 0."""
    n = len(centred)
    covariances = np.array([np.dot(centred[j:], centred[: n - j]) / n for j in range(lags + 1)])
    covariances[1:] *= 2
    variance = float(np.sum(covariances))
    if variance > 0:
        return variance, "rectangular"
    weights = 1 - np.arange(lags + 1) / (lags + 1)
    return float(np.sum(covariances * weights)), "Bartlett"
