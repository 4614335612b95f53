"""Bootstrap intervals of skills: circular blocks of time, with all series together, and series, are resampled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jaxseq.forecasting.losses import Losses

MIN_SERIES = 10
"""Fewest series that are resampled; fewer are taken as the whole population."""
MAX_WEIGHTS = 2**24
"""Weights of times that are held at once while resampling: 128 MiB."""
MANY_TIMES = 2**16
"""Times from which on blocks are summed by running sums, whose cost does not grow with the length of a block."""


class Interval(NamedTuple):
    """Both ends of an interval; NaN where there are too few rows for one."""

    low: float
    high: float


def skills_of_blocks(
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
