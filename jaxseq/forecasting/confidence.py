"""Intervals of a forecast's skill: is it better than the reference by more than chance?

Losses of neighbouring forecasts are correlated (calm and wild weeks, targets that overlap), and so are those of series
of the same market. The bootstrap therefore resamples blocks of time, with all series together, and series; where there
are only a few blocks, their means are compared by Student's t. A test part of a single block leaves the series alone to
be compared so, if they are enough. Forecast and reference are always taken together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import stdtrit

from jaxseq.forecasting import bootstrap
from jaxseq.forecasting.bootstrap import MIN_SERIES, Interval
from jaxseq.forecasting.losses import Losses, skill

MIN_BLOCKS = 10
"""Fewest blocks of time that are resampled."""


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
    intervals = bootstrap.skills_of_blocks(scaled, block, seed=seed, draws=draws, level=level)
    blocks = times // block
    return [SkillInterval(*ends, blocks=blocks, windows=times, horizon=horizon) for ends in intervals]


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
