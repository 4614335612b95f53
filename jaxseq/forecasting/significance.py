"""Is a forecast better than the reference by more than chance, or is it the last value in disguise?

Losses of neighbouring forecasts are correlated (calm and wild weeks, targets that overlap), and so are those of series
of the same market. The bootstrap therefore resamples blocks of time, with all series together, and series; where there
are only a few blocks, their means are compared by Student's t. A test part of a single block leaves the series alone to
be compared so, if they are enough. Forecast and reference are always taken together.
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
"""Fewest series that are resampled; fewer are taken as the whole population."""
MAX_WEIGHTS = 2**24
"""Weights of times that are held at once while resampling: 128 MiB."""
MANY_TIMES = 2**16
"""Times from which on blocks are summed by running sums, whose cost does not grow with the length of a block."""

Loss: TypeAlias = Literal["squared", "absolute"]
Weights: TypeAlias = Literal["rectangular", "Bartlett"]
"""Weights of the autocovariances: see `_long_run_variance`."""


class Losses(NamedTuple):
    """Losses of a forecast and of its reference, "m s": times in their order, series; NaN where a series has no row.

    horizon  windows in time that share targets with a row, itself among them: the steps that it is the mean of, or fewer
             where not every window is judged
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

    low      NaN where there are too few rows for an interval; so is `high`
    blocks   blocks of time that are taken as independent
    needed   windows in time that would be enough for one; 0 where there are enough
    windows  windows in time that there are
    horizon  windows in time that share targets with one of them
    series   series that are taken as independent, where a single block of time leaves them alone to be compared; `needed`
             is then a number of series. Else 0
    """

    low: float
    high: float
    blocks: int
    needed: int = 0
    windows: int = 0
    horizon: int = 1
    series: int = 0


class Scales(NamedTuple):
    """Scale of each row's losses, so that no series weighs more for its unit: `metrics.seasonal_scale` of its series."""

    absolute: Float[np.ndarray, " n"]
    squared: Float[np.ndarray, " n"]

    def of(self, loss: Loss) -> Float[np.ndarray, " n"]:
        """Return the scales of a loss."""
        if loss == "squared":
            return self.squared
        return self.absolute


class Rows(NamedTuple):
    """Places of the rows of a test part in time and among the series.

    times    of each row; None for rows of a single series in order of time
    series   number of each row's series; None for a single one
    scales   of each row's losses; None for losses in the series' unit
    overlap  windows in time that share targets with one of them, itself among them; None for the horizon, if every
             window is judged
    """

    times: Shaped[np.ndarray, " n"] | None = None
    series: Int[np.ndarray, " n"] | None = None
    scales: Scales | None = None
    overlap: int | None = None


IN_ORDER = Rows()
"""Rows of a single series in order of time."""


def pair_losses(
    actual: Values,
    forecast: Values,
    reference: Values,
    rows: Rows = IN_ORDER,
    loss: Loss = "squared",
) -> Losses:
    """Return the losses of a forecast and its reference, the mean of each row's steps, arranged by time and series.

    Unknown targets (NaN) are left out. Raises `ValueError` with the shapes where they differ, and `UsageError` for
    another loss or a forecast that is not finite.
    """
    has_target = np.isfinite(actual).any(axis=1)
    forecast_losses = row_losses(actual, forecast, loss)[has_target]
    reference_losses = row_losses(actual, reference, loss)[has_target]
    if rows.scales is not None:
        scale = rows.scales.of(loss)[has_target]
        forecast_losses = forecast_losses / scale
        reference_losses = reference_losses / scale

    horizon = rows.overlap or actual.shape[1]
    # Without times the rows are in order already: one column, as they come.
    if rows.times is None:
        return Losses(forecast_losses[:, None], reference_losses[:, None], horizon)
    if rows.times.shape != has_target.shape:
        raise ValueError(f"times {rows.times.shape} must be one for each of the {len(actual)} rows")

    times, time_of_row = np.unique(rows.times[has_target], return_inverse=True)
    series_of_row = np.zeros(len(time_of_row), int)
    if rows.series is not None:
        series_of_row = np.unique(rows.series[has_target], return_inverse=True)[1]
    # A series without a row at a time has NaN there, which every mean leaves out.
    tables = np.full((2, len(times), series_of_row.max() + 1), np.nan)
    tables[0, time_of_row, series_of_row] = forecast_losses
    tables[1, time_of_row, series_of_row] = reference_losses
    return Losses(tables[0], tables[1], horizon)


def row_losses(
    actual: Values,
    forecast: Values,
    loss: Loss = "squared",
) -> Float[np.ndarray, " n"]:
    """Return the mean loss of each row over its known targets; NaN where none is known.

    Raises `ValueError` with both shapes where they differ, and `UsageError` for another loss or a forecast that is not
    finite.
    """
    if loss not in get_args(Loss):
        raise UsageError("unknown", where="loss", got=loss, needed=", ".join(get_args(Loss)))
    error = errors(actual, forecast)
    not_finite = ~np.isfinite(forecast)
    if np.any(not_finite):
        row = int(np.argmax(not_finite.any(axis=1))) + 1
        count = np.count_nonzero(not_finite)
        raise UsageError(f"{count} of {not_finite.size} forecasts are not finite, the first in row {row}")

    step_losses = np.abs(error)
    if loss == "squared":
        step_losses = error**2
    known_targets = np.isfinite(actual)
    counts = known_targets.sum(axis=1)
    sums = np.sum(np.where(known_targets, step_losses, 0.0), axis=1)
    means = sums / np.maximum(counts, 1)
    return np.where(counts > 0, means, np.nan)


def skill(losses: Losses) -> float:
    """Return 1 - mean loss / mean loss of the reference: 0 is as good, 1 is perfect, below 0 is worse.

    For squared errors, Murphy (1988), "Skill scores based on the mean square error", Monthly Weather Review 116(12),
    equation 4. Against a reference that makes no error at all it is 0 for a forecast that makes none, else -inf.
    """
    forecast_mean = float(np.nanmean(losses.forecast))
    reference_mean = float(np.nanmean(losses.reference))
    # The ratio to a perfect reference is not defined.
    if reference_mean == 0:
        if forecast_mean:
            return -math.inf
        return 0.0
    return 1 - forecast_mean / reference_mean


def block_length(
    rows: int,
    horizon: int,
) -> int:
    """Return the rows of a block: ⌈rows^(1/3)⌉, the rate of Künsch (1989), but at least twice the horizon.

    Errors of forecasts of k steps overlap, so they are correlated over k - 1 rows even if the forecast is perfect.
    """
    # Targets of a single step do not overlap.
    least = 1
    if horizon > 1:
        least = 2 * horizon
    return max(_cube_root(rows), least)


def _cube_root(rows: int) -> int:
    """Return ⌈rows^(1/3)⌉."""
    # Rounded: the power of an exact cube may lie just above its root.
    return math.ceil(round(rows ** (1 / 3), 9))


def skill_interval(
    losses: Losses,
    *,
    seed: int = 0,
    draws: int = 2000,
    block: int | None = None,
    level: float = 0.95,
) -> SkillInterval:
    """Return the interval of the skill: a bootstrap of blocks, or Student's t where there are fewer than `MIN_BLOCKS`.

    `block` is `block_length` unless given, and the same seed gives the same interval.
    """
    return skill_intervals([losses], seed=seed, draws=draws, block=block, level=level)[0]


def skill_intervals(
    pairs: Sequence[Losses],
    *,
    seed: int = 0,
    draws: int = 2000,
    block: int | None = None,
    level: float = 0.95,
) -> list[SkillInterval]:
    """Return the `skill_interval` of each of several forecasts, which have rows, reference and bootstrap in common."""
    # A reference alone has no skill to resample.
    if not pairs:
        return []
    times = len(pairs[0].reference)
    horizon = pairs[0].horizon
    largest = np.nanmax(pairs[0].reference)
    # Against a perfect reference every draw has the same skill.
    if not largest:
        points = [skill(losses) for losses in pairs]
        return [SkillInterval(low=point, high=point, blocks=times, windows=times, horizon=horizon) for point in points]

    # Squares of sums of squares would leave float64 for values that fit into it.
    scaled = [Losses(losses.forecast / largest, losses.reference / largest, horizon) for losses in pairs]
    if block is None:
        block = block_length(times, horizon)
    # The interval of a bootstrap of few blocks is too narrow.
    if times < MIN_BLOCKS * block:
        return [_student_interval(losses, level) for losses in scaled]
    intervals = _bootstrap(scaled, block, seed=seed, draws=draws, level=level)
    blocks = times // block
    return [SkillInterval(*ends, blocks=blocks, windows=times, horizon=horizon) for ends in intervals]


def _bootstrap(
    pairs: Sequence[Losses],
    size: int,
    *,
    seed: int,
    draws: int,
    level: float,
) -> list[Interval]:
    """Return the percentile interval of each skill from resampled blocks of time and, from `MIN_SERIES` on, series.

    Circular blocks of time: Künsch (1989), Annals of Statistics 17(3); Politis & Romano (1992). Times and series are
    drawn independently, which is conservative for their interaction: Owen (2007), "The pigeonhole bootstrap", Annals of
    Applied Statistics 1(2). Every draw has as many times as the original (its last block is cut), and its skill is a
    ratio of sums.
    """
    times, series = pairs[0].forecast.shape
    generator = np.random.default_rng(seed)
    blocks = -(-times // size)
    starts = generator.integers(times, size=(draws, blocks))
    series_weights = np.ones((draws, series))
    if series >= MIN_SERIES:
        equal_shares = np.full(series, 1 / series)
        series_weights = generator.multinomial(series, equal_shares, size=draws).astype(np.float64)

    # A time at which a series has no row adds nothing to any sum. The reference comes last.
    tables = [np.nan_to_num(losses.forecast) for losses in pairs]
    tables.append(np.nan_to_num(pairs[0].reference))
    sums = np.empty((len(tables), draws))
    # In chunks: the weights of all draws at once would need gigabytes for a long panel.
    chunk = max(1, MAX_WEIGHTS // (times + size))
    if times > MANY_TIMES:
        # Of each block there are positions, and the sums of every series.
        chunk = max(1, MAX_WEIGHTS // (8 * blocks * series))
        tables = [_running_sums(losses) for losses in tables]
    for first in range(0, draws, chunk):
        rows = slice(first, first + chunk)
        if times > MANY_TIMES:
            series_sums = [_sums_of_blocks(starts[rows], losses, size) for losses in tables]
        else:
            time_weights = _block_weights(starts[rows], times, size)
            series_sums = [time_weights @ losses for losses in tables]
        for number, of_series in enumerate(series_sums):
            sums[number, rows] = np.sum(of_series * series_weights[rows], axis=1)

    return [_percentiles(forecast_sums, sums[-1], level) for forecast_sums in sums[:-1]]


def _percentiles(
    forecast_sums: Float[np.ndarray, " r"],
    reference_sums: Float[np.ndarray, " r"],
    level: float,
) -> Interval:
    """Return the interval that holds the middle `level` of the skills of all draws."""
    # A draw in which the reference makes no error has no finite skill unless the forecast makes none either.
    has_errors = reference_sums > 0
    ratios = forecast_sums / np.where(has_errors, reference_sums, 1.0)
    skill_without_errors = np.where(forecast_sums > 0, -np.inf, 0.0)
    skills = np.where(has_errors, 1 - ratios, skill_without_errors)

    tail = (1 - level) / 2
    low, high = np.quantile(skills, [tail, 1 - tail], method="inverted_cdf")
    return Interval(float(low), float(high))


def _running_sums(losses: Float[np.ndarray, "m s"]) -> Float[np.ndarray, "m_1 s"]:
    """Return the sum of the losses before each time, and of all."""
    return np.concatenate([np.zeros((1, losses.shape[1])), np.cumsum(losses, axis=0)])


def _sums_of_blocks(
    starts: Int[np.ndarray, "r b"],
    before: Float[np.ndarray, "m_1 s"],
    size: int,
) -> Float[np.ndarray, "r s"]:
    """Return the sum of the losses in the circular blocks of each draw, from their running sums.

    The last block is cut, so that each draw has as many times as there are.
    """
    times = len(before) - 1
    lengths = np.full(starts.shape[1], size)
    lengths[-1] = times - size * (len(lengths) - 1)

    # The sum of a block is the difference of the running sums at its ends.
    ends = starts + lengths
    # A block that runs over the end continues at the beginning.
    over = np.maximum(ends - times, 0)
    blocks = before[np.minimum(ends, times)] - before[starts] + before[over]
    return blocks.sum(axis=1)


def _block_weights(
    starts: Int[np.ndarray, "r b"],
    times: int,
    size: int,
) -> Float[np.ndarray, "r m"]:
    """Return how often each time is in the circular blocks of each draw; the last block is cut to `times` in all."""
    draws, blocks = starts.shape
    lengths = np.full(blocks, size)
    lengths[-1] = times - size * (blocks - 1)

    # A block adds 1 from its first time on and takes it back after its last: the running sum counts the blocks.
    width = times + size + 1
    firsts = np.arange(draws)[:, None] * width + starts
    ends = firsts + lengths
    changes = np.bincount(firsts.ravel(), minlength=draws * width).astype(np.float64)
    changes -= np.bincount(ends.ravel(), minlength=draws * width)
    counts = np.cumsum(changes.reshape(draws, width), axis=1)

    # A block that runs over the end continues at the beginning.
    weights = counts[:, :times]
    weights[:, :size] += counts[:, times : times + size]
    return weights


def _student_interval(
    losses: Losses,
    level: float,
) -> SkillInterval:
    """Return the interval of the skill from a few blocks of time, by Student's t and Fieller's theorem.

    Sums of blocks whose targets do not overlap are nearly independent, whatever the correlation within them: Ibragimov
    & Müller (2010), Journal of Business & Economic Statistics 28(4). The ratio θ of both losses is within its interval
    where the mean of (forecast - θ · reference) does not differ from 0: Fieller (1954), JRSS B 16(2). Series, if there
    are enough, add their own variance; with a single block theirs is all that there is. Both ends are NaN where not even
    a perfect forecast would be told from the reference.
    """
    times, series = losses.forecast.shape
    blocks = _separate_blocks(times, losses.horizon)
    # One block has no variance, and then the interval is that of other series at the same time.
    if len(blocks) < 2 and series >= MIN_SERIES:
        return _interval_of_series(losses, level)
    if len(blocks) < 2:
        needed = _windows_of_two_blocks(times, losses.horizon)
        return SkillInterval(math.nan, math.nan, len(blocks), needed, windows=times, horizon=losses.horizon)

    forecast_losses = np.nan_to_num(losses.forecast)
    reference_losses = np.nan_to_num(losses.reference)
    block_sums = np.array([[forecast_losses[block].sum(), reference_losses[block].sum()] for block in blocks])
    covariance = _covariance_of_sum(block_sums)
    degrees = len(blocks) - 1
    if series >= MIN_SERIES:
        rows = np.concatenate([np.arange(times)[block] for block in blocks])
        series_sums = np.stack([forecast_losses[rows].sum(axis=0), reference_losses[rows].sum(axis=0)], axis=1)
        covariance = covariance + _covariance_of_sum(series_sums)
        degrees = min(degrees, series - 1)

    ends = _fieller_interval(block_sums.sum(axis=0), covariance, degrees, level)
    if ends is None:
        needed = _needed_windows(block_sums[:, 1], times, losses.horizon, level)
        return SkillInterval(math.nan, math.nan, len(blocks), needed, windows=times, horizon=losses.horizon)
    # The blocks leave out windows between them, so that the skill of all windows might lie outside.
    point = skill(losses)
    return SkillInterval(
        low=min(ends.low, point),
        high=max(ends.high, point),
        blocks=len(blocks),
        windows=times,
        horizon=losses.horizon,
    )


def _interval_of_series(losses: Losses, level: float) -> SkillInterval:
    """Return the interval of the skill from the sums of each series, which are taken as independent.

    It is that of other series of the same kind at the same time: what a single block has in common, such as the weather
    of its days, cannot be told from it.
    """
    times, series = losses.forecast.shape
    sums = np.stack([np.nansum(losses.forecast, axis=0), np.nansum(losses.reference, axis=0)], axis=1)
    measured = SkillInterval(math.nan, math.nan, 1, windows=times, horizon=losses.horizon, series=series)
    ends = _fieller_interval(sums.sum(axis=0), _covariance_of_sum(sums), series - 1, level)
    if ends is None:
        return measured._replace(needed=_needed_draws(sums[:, 1], level))
    return measured._replace(low=ends.low, high=ends.high)


def _fieller_interval(
    sums: Float[np.ndarray, "2"],
    covariance: Float[np.ndarray, "2 2"],
    degrees: int,
    level: float,
) -> Interval | None:
    """Return the interval of 1 - A / R for sums A and R of a forecast's and the reference's losses; None without bounds."""
    # (A - θ R)² <= c² Var(A - θ R) is the inequality square θ² - 2 middle θ + constant <= 0.
    forecast_sum, reference_sum = sums
    c = stdtrit(degrees, (1 + level) / 2)
    square = reference_sum**2 - c**2 * covariance[1, 1]
    # The reference's own loss may be 0 within chance, so that any ratio to it is possible.
    if square <= 0:
        return None
    middle = forecast_sum * reference_sum - c**2 * covariance[0, 1]
    constant = forecast_sum**2 - c**2 * covariance[0, 0]
    # Rounding may leave a discriminant of 0 slightly below it.
    root = math.sqrt(max(middle**2 - square * constant, 0.0))
    return Interval(low=float(1 - (middle + root) / square), high=float(1 - (middle - root) / square))


def separate_windows(
    windows: int,
    horizon: int,
) -> int:
    """Return how many of consecutive windows have targets that do not overlap: one in `horizon`."""
    return -(-windows // horizon)


def _separate_blocks(
    times: int,
    horizon: int,
) -> list[slice]:
    """Return at most `MIN_BLOCKS` - 1 blocks of windows, of at least times^(1/3) each, whose targets do not overlap."""
    least = _cube_root(times)
    for count in range(MIN_BLOCKS - 1, 0, -1):
        # Targets overlap over horizon - 1 windows, which are left out between two blocks.
        left_out = (count - 1) * (horizon - 1)
        width = (times - left_out) // count
        if width >= least:
            gaps = max(count - 1, 1)
            starts = [number * (times - width) // gaps for number in range(count)]
            return [slice(start, start + width) for start in starts]
    return []


def _windows_of_two_blocks(
    times: int,
    horizon: int,
) -> int:
    """Return the fewest windows, from `times` on, that make two separate blocks."""
    needed = times
    while len(_separate_blocks(needed, horizon)) < 2:
        needed += 1
    return needed


def _covariance_of_sum(pairs: Float[np.ndarray, "g 2"]) -> Float[np.ndarray, "2 2"]:
    """Return the covariance of the sum of g independent pairs."""
    g = len(pairs)
    deviations = pairs - pairs.mean(axis=0)
    return g / (g - 1) * deviations.T @ deviations


def _needed_windows(
    reference: Float[np.ndarray, " g"],
    times: int,
    horizon: int,
    level: float,
) -> int:
    """Return the windows, in time, that would be enough to tell a perfect forecast from the reference.

    `reference` are the reference's losses in g blocks; further blocks are assumed to vary as these do.
    """
    blocks = _needed_draws(reference, level)
    left_out = (len(reference) - 1) * (horizon - 1)
    width = (times - left_out) // len(reference)
    return blocks * width + (blocks - 1) * (horizon - 1)


def _needed_draws(
    reference: Float[np.ndarray, " g"],
    level: float,
) -> int:
    """Return the blocks, or series, that would be enough to tell a perfect forecast from the reference, by its losses."""
    variation = float(np.std(reference, ddof=1) / np.mean(reference))
    draws = len(reference) + 1
    while draws < stdtrit(draws - 1, (1 + level) / 2) ** 2 * variation**2:
        draws += 1
    return draws


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
    actual: Values,
    forecast: Values,
    last: Float[np.ndarray, " n"],
    times: Shaped[np.ndarray, " n"] | None = None,
    overlap: int | None = None,
) -> LagOne:
    """Tell a forecast of the next value from a copy of the last one: a = actual, f = forecast, v = last value.

    A curve of levels that follows the actual one a day late looks like a good forecast (R² of 0.99 is a property of
    the naive one), and so does a good forecast of a random walk. The difference is in the CHANGE from the last value:
    does the forecast make any, and does it agree with the series'? `chance_correlation` is 1.96 / √(n / k), the
    limit for n / k independent pairs (Bartlett 1946); with `times` n is how many different ones there are, and `overlap`
    stands in place of the k steps (`Rows`). Unknown targets are left out. Raises `ValueError` with the shapes where they
    do not fit.
    """
    # Called for its check of the shapes.
    errors(actual, forecast)
    if last.shape != actual.shape[:1]:
        raise ValueError(f"last values {last.shape} must be one for each of the {len(actual)} rows")
    rows = len(actual)
    # Series move together: rows of one time are no independent pairs.
    if times is not None:
        rows = len(np.unique(times))

    known_targets = np.isfinite(actual)
    forecast_change = (forecast - last[:, None])[known_targets]
    actual_change = (actual - last[:, None])[known_targets]
    forecast_size = float(np.sqrt(np.mean(forecast_change**2)))
    actual_size = float(np.sqrt(np.mean(actual_change**2)))
    # A series that never moves leaves nothing to compare a move with.
    movement = math.inf
    if actual_size:
        movement = forecast_size / actual_size

    independent_pairs = rows / (overlap or actual.shape[1])
    return LagOne(
        movement=movement,
        change_correlation=_correlation(forecast_change, actual_change),
        chance_correlation=1.96 / math.sqrt(independent_pairs),
    )


def _correlation(
    a: Float[np.ndarray, " n"],
    b: Float[np.ndarray, " n"],
) -> float:
    """Return Pearson's correlation; 0 where one of the two is constant but for rounding."""
    a_deviations = a - a.mean()
    b_deviations = b - b.mean()
    a_length = float(np.linalg.norm(a_deviations))
    b_length = float(np.linalg.norm(b_deviations))
    # Deviations of a constant are rounding errors, and would correlate by chance.
    if a_length <= 1e-12 * np.linalg.norm(a) or b_length <= 1e-12 * np.linalg.norm(b):
        return 0.0
    return float(np.sum(a_deviations * b_deviations)) / (a_length * b_length)


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

    Fewer than `MIN_BLOCKS` times for each of the lags + 1 give no test; with just as many, up to one in ten of equally
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
    least = MIN_BLOCKS * (lags + 1)
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
