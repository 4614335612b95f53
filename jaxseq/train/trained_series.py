"""Series that a run was trained on, and how a later one of the same name is told from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool

from jaxseq.data.dataset import Background
from jaxseq.data.windows import Series

CONFIG_KEY = "training_series"
"""Key of the facts in a run's config."""
SAME = 1e-6
"""Relative difference of mean and deviation up to which they are of the same values, but for rounding."""
SIMILAR = 4.0
"""Deviations that the mean may have moved, and factor of the deviation, in rows after the training."""


class TrainedSeries(NamedTuple):
    """Facts about the training rows of one series, saved in the run's config.

    first, last      times, as text
    mean, deviation  of the known values, in the series' unit
    """

    first: str
    last: str
    mean: float
    deviation: float


def describe(background: Background) -> list[TrainedSeries]:
    """Return the facts about every series; none where each window is a series of its own."""
    facts = []
    for series, rows in zip(background.series, background.training_rows, strict=True):
        values = series.values[:rows]
        facts.append(
            TrainedSeries(
                first=str(series.times[0]),
                last=str(series.times[rows - 1]),
                mean=float(np.nanmean(values)),
                deviation=float(np.nanstd(values)),
            )
        )
    return facts


def read(config: Mapping[str, Any], names: Sequence[str]) -> dict[str, TrainedSeries]:
    """Return the facts of a run's config by the name of the series.

    There are none for runs that were made without them, and where each window is a series of its own.
    """
    saved = config.get(CONFIG_KEY)
    if not saved:
        return {}
    return {name: TrainedSeries(*fields) for name, fields in zip(names, saved, strict=True)}


def is_same(trained: TrainedSeries, series: Series) -> bool:
    """Return whether a series is the one that the run was trained on, or goes on like it.

    Rows that cover the time of the training must have its mean and deviation; others must be of similar level and
    spread, since a series may have moved since. Rows without dates cannot be placed beside a training with dates.
    """
    period = _time_of_training(trained, series)
    if period is not None:
        return _has_moments(trained, series, period)

    moved = abs(float(np.nanmean(series.values)) - trained.mean)
    deviation = float(np.nanstd(series.values))
    # A few rows spread less than many, so that only a larger spread tells another unit.
    return moved <= SIMILAR * trained.deviation and deviation <= SIMILAR * trained.deviation


def rows_of_training(trained: TrainedSeries, series: Series) -> slice | None:
    """Return the rows of a series that the run was trained on; None unless all of them are there, with equal values."""
    period = _time_of_training(trained, series)
    if period is None or not _has_moments(trained, series, period):
        return None
    rows = np.flatnonzero(period)
    return slice(int(rows[0]), int(rows[-1]) + 1)


def row_at(series: Series, time: str) -> int:
    """Return the first row of a series at a time that a run has written, or later. Both have dates, or neither."""
    return int(np.searchsorted(series.times, time_of(time)))


def time_of(time: str) -> np.datetime64 | int:
    """Read a time that a run has written. Raises `ValueError` for any other text."""
    # Not in the unit of some rows: hours are no days.
    if is_dated(time):
        return np.datetime64(time)
    return int(time)


def has_dates(series: Series) -> bool:
    """Return whether the rows of a series have dates; others are numbered."""
    return np.issubdtype(series.times.dtype, np.datetime64)


def is_dated(time: str) -> bool:
    """Return whether a time that a run has written is a date; others are integers."""
    # A date has dashes between its numbers; an integer at most a sign before it.
    return "-" in time[1:]


def _time_of_training(trained: TrainedSeries, series: Series) -> Bool[np.ndarray, " n"] | None:
    """Return which rows lie in the time of the training; None where they do not cover it."""
    times = series.times
    if has_dates(series) != is_dated(trained.first):
        return None

    first = time_of(trained.first)
    last = time_of(trained.last)
    if times[0] > first or times[-1] < last:
        return None
    return (times >= first) & (times <= last)


def _has_moments(trained: TrainedSeries, series: Series, period: Bool[np.ndarray, " n"]) -> bool:
    """Return whether the rows of a period have the mean and the deviation of the training."""
    values = series.values[period]
    mean = float(np.nanmean(values))
    deviation = float(np.nanstd(values))
    tolerance = SAME * (abs(trained.mean) + trained.deviation)
    return abs(mean - trained.mean) <= tolerance and abs(deviation - trained.deviation) <= tolerance
