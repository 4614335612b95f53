"""Intervals of a run, read back from JSON and checked."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, TypeVar, get_args

import numpy as np

from jaxseq.common.errors import UsageError
from jaxseq.data.fitting import MAX_REACH
from jaxseq.forecasting.adaptive import KEPT_SCORES
from jaxseq.forecasting.intervals import Intervals, Kind
from jaxseq.forecasting.sizes import Size

Choice = TypeVar("Choice", bound=str)

MOST_LEVELS = 99
"""Most levels that a file may have."""
INTEGER = re.compile(r"-?\d{1,18}")
DATE = re.compile(r"-?\d{4,}-\d\d")
"""Number of a row and beginning of a date, as text."""
LARGEST = MAX_REACH**2
"""Largest size, margin or score: in the model's own scale no value is farther away than `MAX_REACH`."""


def parse(
    saved: Mapping[str, object],
    *,
    source: str,
    horizon: int,
    series: int,
    point: bool,
) -> Intervals:
    """Return the intervals of a run; those without a kind are split, as all runs once were.

    horizon  steps that the run forecasts
    series   number of series that the run was trained on
    point    whether its forecasts are points: their margins are widths, which are not negative and grow with the level

    Raises `UsageError`, which names `source` and the field, for a field of another type or length, a number that is not
    finite, a level not between 0 and 1, and for levels, margins or scores that do not increase.
    """
    kind = _one_of(saved.get("kind", "split"), get_args(Kind), f"{source}: kind")
    # Every kind but the adaptive one is the name of a size.
    fallback = "split" if kind == "adaptive" else kind
    size = _one_of(saved.get("size", fallback), get_args(Size), f"{source}: size")
    levels = _levels(saved.get("levels"), f"{source}: levels")
    margins = _margins(saved.get("sizes"), len(levels), horizon, f"{source}: sizes")
    # Around a distribution's own quantiles a margin may have either sign.
    if point:
        _check_widths(margins, f"{source}: sizes")

    least = _bounded(_numbers([saved.get("least", 0.0)], 1, f"{source}: least"), f"{source}: least")[0]
    series_sizes = _bounded(_numbers(saved.get("series", []), None, f"{source}: series"), f"{source}: series")
    if least < 0 or any(value <= 0 for value in series_sizes):
        raise UsageError("a size that is not positive", where=source)
    if len(series_sizes) not in (0, series):
        raise UsageError("another number of sizes", where=f"{source}: series", got=len(series_sizes), needed=series)
    # In a panel the last values of different series are no common measure, so that each has a size.
    if size == "scaled" and series > 1 and not series_sizes:
        raise UsageError("no sizes", where=f"{source}: series", got=0, needed=series)

    scores = ()
    # The other kinds have no use for scores.
    if kind == "adaptive":
        scores = _scores(saved.get("scores"), len(levels), horizon, f"{source}: scores")
    floor = saved.get("floor")
    if floor is not None:
        floor = _numbers([floor], 1, f"{source}: floor")[0]
    return Intervals(
        kind=kind,
        levels=levels,
        sizes=margins,
        size=size,
        least=least,
        series=series_sizes,
        until=_until(saved.get("until", []), series, f"{source}: until"),
        scores=scores,
        floor=floor,
    )


def _one_of(
    value: object,
    choices: tuple[Choice, ...],
    where: str,
) -> Choice:
    for choice in choices:
        if value == choice:
            return choice
    raise UsageError("unknown", where=where, got=value, needed=f"one of {', '.join(choices)}")


def _list(
    value: object,
    length: int | None,
    where: str,
) -> list[Any]:
    """Return a list that has `length` items, where that is not None."""
    if not isinstance(value, list):
        raise UsageError("not a list", where=where, got=value, needed="a list")
    if length is not None and len(value) != length:
        raise UsageError("another length", where=where, got=len(value), needed=length)
    return value


def _numbers(
    value: object,
    length: int | None,
    where: str,
) -> tuple[float, ...]:
    numbers = _list(value, length, where)
    for number in numbers:
        # JSON's true would pass as the number 1.
        is_number = isinstance(number, int | float) and not isinstance(number, bool)
        if not is_number or not math.isfinite(number):
            raise UsageError("not a finite number", where=where, got=number)
    return tuple(float(number) for number in numbers)


def _bounded(
    numbers: tuple[float, ...],
    where: str,
) -> tuple[float, ...]:
    """Return the numbers. Raises `UsageError` for one with which a bound would leave the range of float64."""
    for number in numbers:
        if abs(number) > LARGEST:
            raise UsageError("too large", where=where, got=number, needed=f"at most {LARGEST:g}")
    return numbers


def _levels(
    value: object,
    where: str,
) -> tuple[float, ...]:
    levels = _numbers(value, None, where)
    # A damaged file must not take all memory.
    if len(levels) > MOST_LEVELS:
        raise UsageError("too many", where=where, got=len(levels), needed=f"at most {MOST_LEVELS}")
    for level in levels:
        if not 0 < level < 1:
            raise UsageError("not a coverage", where=where, got=level, needed="between 0 and 1")
    if not _increase(levels, strictly=True):
        raise UsageError("not in order", where=where, got=list(levels), needed="increasing levels")
    return levels


def _margins(
    value: object,
    levels: int,
    horizon: int,
    where: str,
) -> tuple[tuple[float, ...], ...]:
    return tuple(_bounded(_numbers(margins, horizon, where), where) for margins in _list(value, levels, where))


def _check_widths(
    margins: tuple[tuple[float, ...], ...],
    where: str,
) -> None:
    """Raise `UsageError` for a negative width, and for intervals that are narrower than those of a lower level."""
    for of_step in zip(*margins, strict=True):
        if of_step[0] < 0 or not _increase(of_step):
            raise UsageError("not widths", where=where, got=list(of_step), needed="margins that grow with the level")


def _scores(
    value: object,
    levels: int,
    horizon: int,
    where: str,
) -> tuple[tuple[tuple[float, ...], ...], ...]:
    scores = []
    for of_level in _list(value, levels, where):
        of_steps = [
            _bounded(_numbers(of_step, KEPT_SCORES, where), where) for of_step in _list(of_level, horizon, where)
        ]
        if not all(_increase(of_step) for of_step in of_steps):
            raise UsageError("not in order", where=where, needed="increasing scores")
        scores.append(tuple(of_steps))
    return tuple(scores)


def _until(
    value: object,
    series: int,
    where: str,
) -> tuple[str, ...]:
    times = _list(value, None, where)
    if len(times) not in (0, series) or not all(isinstance(time, str) for time in times):
        raise UsageError("not a time for each series", where=where, got=len(times), needed=series)
    for time in times:
        # A run writes no time for a series that had no row in validation.
        if time and not _is_time(time):
            raise UsageError("not a time", where=where, got=time, needed="a date or the number of a row")
    return tuple(times)


def _is_time(text: str) -> bool:
    if INTEGER.fullmatch(text):
        return True
    # NumPy reads "NaT" and "now" as well.
    if not DATE.match(text):
        return False
    try:
        np.datetime64(text)
    except ValueError:
        return False
    return True


def _increase(
    numbers: tuple[float, ...],
    strictly: bool = False,
) -> bool:
    if strictly and len(set(numbers)) < len(numbers):
        return False
    return all(earlier <= later for earlier, later in pairwise(numbers))
