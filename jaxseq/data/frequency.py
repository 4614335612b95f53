"""The frequency that dates follow, and how they go on.

A frequency has the name that pandas gives it, its offset alias: "D" daily, "B" business days, "W-FRI" weekly, "MS" and
"ME" the first and the last day of a month, "QE-DEC" a quarter, "YS-JAN" a year, "h" hourly, "15min" and so on. Times
that are integers have their step for a name: "1".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int64, Shaped

from jaxseq.common.errors import UsageError
from jaxseq.common.text import plural
from jaxseq.data.dates import coarsest, microseconds

MAX_CLOSED = 10
"""Business days in a row that may be missing: a stock exchange is closed for a week or two over the lunar New Year."""
MAX_HOLIDAYS = 0.10
"""Share of business days that may be missing; the holidays of New York's exchange are 3.6 % of them."""

_HOUR = 3_600_000_000  # microseconds
_DAY = 24 * _HOUR
_ONE_DAY = np.timedelta64(1, "D")
_FIXED = {"W": 7 * _DAY, "D": _DAY, "h": _HOUR, "min": _HOUR // 60, "s": 1_000_000, "ms": 1000, "us": 1}
_CYCLE = {"W": 52 * 7 * _DAY, "D": 7 * _DAY, "h": _DAY, "min": _DAY, "s": _HOUR}
_SPANS = {"M": 1, "Q": 3, "Y": 12}
_STEPS = {**_FIXED, **_SPANS}
_NOUNS = ("week", "day", "hour", "minute", "second", "millisecond", "microsecond", "month", "quarter", "year")
_UNITS = dict(zip(_STEPS, _NOUNS, strict=True))
_ADVERBS = {"W": "weekly", "D": "daily", "h": "hourly", "M": "monthly", "Q": "quarterly", "Y": "yearly"}
_WEEKDAYS = ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays")
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_ANCHORS = {"W": tuple(day[:3].upper() for day in _WEEKDAYS), "Q": _MONTHS, "Y": _MONTHS}
_NAME = re.compile(r"([1-9]\d{0,9})?(?:(W|D|h|min|s|ms|us)|(B?)([MQY])([SE])|(B)|)(?:-([A-Z]{3}))?")


class Frequency(NamedTuple):
    """How dates follow each other; three plain fields, so `_asdict` saves it as JSON."""

    name: str
    """The offset alias of pandas; the step in digits if the times are integers."""
    period: int
    """Steps of the season: 7 for daily values, 5 on business days, 24 for hourly ones; 1 is none."""
    words: str
    """The same for a reader: "daily on business days"."""

    def __str__(self) -> str:
        return self.words if self.name.isdigit() else f"{self.words} ({self.name})"


class _Rule(NamedTuple):
    """An offset alias, parsed."""

    count: int
    unit: str
    """A key of `_STEPS`; "B" for business days, "" for integers."""
    business: bool
    edge: str
    anchor: str

    @property
    def step(self) -> int:
        """Microseconds, months, business days or integers from one time to the next."""
        return self.count * _STEPS.get(self.unit, 1)


def describe(name: str) -> Frequency:
    """The frequency of an alias, with its seasonal period and its words.

    The period is the number of steps in a year for years, quarters, months and weeks (52), in a week for days, in a day
    for hours and minutes, in an hour for seconds, or 1 if that is no whole number. Raises `UsageError` for what is no
    alias of a frequency that this module knows.
    """
    rule = _rule(name)
    if rule.unit == "B":
        return Frequency(name, 5, "daily on business days")
    if not rule.unit:
        return Frequency(name, 1, f"in steps of {rule.count}")
    cycle = 12 if rule.unit in _SPANS else _CYCLE.get(rule.unit, 1)
    every = f"every {rule.count} {_UNITS[rule.unit]}s" if rule.count > 1 else f"every {_UNITS[rule.unit]}"
    words = _ADVERBS.get(rule.unit, every) if rule.count == 1 else every
    return Frequency(name, 1 if cycle % rule.step else cycle // rule.step, words + _place(rule))


def guess(times: Shaped[np.ndarray, " n"]) -> Frequency:
    """The frequency that most of the increasing `times` follow. Raises `UsageError` for fewer than three dates."""
    if times.dtype.kind != "M":
        return describe(str(_mode(np.diff(times))) if len(times) > 1 else "1")
    if len(times) < 3:
        raise UsageError(f"{len(times)} dates are too few to tell their frequency; at least 3 are needed")
    best, most = "", -1
    for name in _candidates(times):
        count = np.count_nonzero(regular(times, describe(name)))
        if count > most:
            best, most = name, count
        if most == len(times):
            break
    return describe(best)


def regular(
    times: Shaped[np.ndarray, " n"], frequency: Frequency, starts: Bool[np.ndarray, " n"] | None = None
) -> Bool[np.ndarray, " n"]:
    """Which times are of this frequency and one step after the one before.

    `starts` marks the rows that have none before: the first of each series that stands in `times`, row 0 if None.
    """
    return steps_between(times, frequency, starts) == 1


def steps_between(
    times: Shaped[np.ndarray, " n"], frequency: Frequency, starts: Bool[np.ndarray, " n"] | None = None
) -> Int64[np.ndarray, " n"]:
    """Return how many steps of the frequency each time is after the one before: 1 if it is regular.

    It is 0 for a time that the frequency does not have, or that is no whole number of steps later; 1 for a row without
    one before (`starts`, as for `regular`), and for business days that follow after up to `MAX_CLOSED` holidays.
    """
    if starts is None:
        starts = np.arange(len(times)) == 0
    rule = _rule(frequency.name)
    place, is_on_grid = _grid(times, rule)
    gap = np.diff(place, prepend=place[:1])
    if rule.unit == "B":
        # Holidays cannot be told from business days that are absent.
        steps = ((gap >= 1) & (gap <= 1 + MAX_CLOSED)).astype(np.int64)
    else:
        steps = np.where((gap > 0) & (gap % rule.step == 0), gap // rule.step, 0)

    # These grids count days, so the time of day has to stay the same.
    if rule.unit == "B" or rule.unit in _SPANS:
        clock = (times - times.astype("datetime64[D]")).astype(np.int64)
        steps = np.where(np.diff(clock, prepend=clock[:1]) == 0, steps, 0)
    return np.where(is_on_grid, np.where(starts, 1, steps), 0)


def missing_days(
    times: Shaped[np.ndarray, " n"], frequency: Frequency, starts: Bool[np.ndarray, " n"] | None = None
) -> int:
    """Business days that are left out between the dates of each series; 0 for every other frequency."""
    if frequency.name != "B":
        return 0
    starts = np.arange(len(times)) == 0 if starts is None else starts
    place, _ = _grid(times, _rule("B"))
    return int((np.diff(place) - 1)[~starts[1:]].sum())


def irregular(
    before: Shaped[np.ndarray, " n"],
    time: np.datetime64 | np.integer,
    frequency: Frequency,
    where: str,
    others: str = "the others",
) -> str:
    """One line about a time that is not `regular`: `before` are those of its series until then, `where` names its row."""
    goes = f"{others} go on {frequency}"
    if not len(before):
        return f"{where} ({time}) is out of step: {goes}"
    last = before[-1]
    expected = continue_(last, frequency, 1)[0]
    return f"{where} ({time}) comes {_gap(last, time)} after {last} instead of {_gap(last, expected)}: {goes}"


def continue_(times_end: np.datetime64 | np.integer, frequency: Frequency, steps: int) -> Shaped[np.ndarray, " k"]:
    """The `steps` times that follow `times_end`; holidays are not known, so no business day is left out.

    Raises `UsageError` if they go beyond the last date that there is.
    """
    if isinstance(times_end, np.integer):
        return times_end + int(frequency.name) * np.arange(1, steps + 1)
    end = pd.Timestamp(times_end)
    try:
        # one date more: the range begins at the end itself where the frequency has it, else with the next date
        index = pd.date_range(end, periods=steps + 1, freq=frequency.name)
    except (ValueError, OverflowError) as error:
        raise UsageError(_beyond(times_end, frequency, steps)) from error
    future = coarsest(index[index > end][:steps].to_numpy())
    if np.any(np.isnat(microseconds(future))):
        raise UsageError(_beyond(times_end, frequency, steps))
    return future.astype(np.promote_types(times_end.dtype, future.dtype))


def _beyond(end: np.datetime64, frequency: Frequency, steps: int) -> str:
    return f"{end}: {steps} steps {frequency.words} go beyond the last date that can be, at the end of the year 9998"


def _rule(name: str) -> _Rule:
    found = _NAME.fullmatch(name)
    count, fixed, business, span, edge, weekdays, anchor = found.groups(default="") if found else ("",) * 7
    unit = fixed or span or weekdays
    if not name or not found or anchor not in _ANCHORS.get(unit, ("",)) or (weekdays and count):
        raise UsageError(f"frequency {name!r} is unknown; it is an alias of pandas such as D, B, W-MON, MS or 15min")
    return _Rule(int(count or 1), unit, bool(business), edge, anchor)


def _place(rule: _Rule) -> str:
    if rule.unit == "W":
        return f" on {_WEEKDAYS[_ANCHORS['W'].index(rule.anchor)]}"
    if rule.unit not in _SPANS:
        return ""
    return f", on the {'first' if rule.edge == 'S' else 'last'} {'business day' if rule.business else 'day'}"


def _grid(times: Shaped[np.ndarray, " n"], rule: _Rule) -> tuple[Int64[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """The number of each time in units of the rule's step, and whether it is one that the rule has."""
    if not rule.unit:
        return times.astype(np.int64), np.ones(len(times), bool)
    days = times.astype("datetime64[D]")
    if rule.unit == "B":
        return np.busday_count("1970-01-01", days).astype(np.int64), np.is_busday(days)
    if rule.unit in _FIXED:
        on = _weekday(days) == _ANCHORS["W"].index(rule.anchor) if rule.anchor else np.ones(len(times), bool)
        return times.astype("datetime64[us]").astype(np.int64), on
    month = times.astype("datetime64[M]")
    number = month.astype(np.int64)
    phase = number - (_MONTHS.index(rule.anchor) if rule.anchor else 0)
    return number, (days == _edge(month, rule.edge, rule.business)) & (phase % _SPANS[rule.unit] == 0)


def _weekday(days: Shaped[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    return (days.astype(np.int64) + 3) % 7  # 1970-01-01 was a Thursday


def _edge(month: Shaped[np.ndarray, " n"], edge: str, business: bool) -> Shaped[np.ndarray, " n"]:
    """The first or the last (business) day of each month."""
    if edge == "S":
        day = month.astype("datetime64[D]")
        roll = "forward"
    else:
        day = (month + np.timedelta64(1, "M")).astype("datetime64[D]") - _ONE_DAY
        roll = "backward"
    return np.busday_offset(day, 0, roll=roll) if business else day


def _candidates(times: Shaped[np.ndarray, " n"]) -> Iterator[str]:
    """Aliases that may fit; where two fit equally well, the wanted one comes first."""
    days, gaps = times.astype("datetime64[D]"), np.diff(times.astype("datetime64[us]").astype(np.int64))
    step = _mode(gaps)
    if gaps.max() >= 28 * _DAY:
        yield from _month_candidates(days)
    unit = next(unit for unit, size in _FIXED.items() if step % size == 0)
    weekday = _ANCHORS["W"][_weekday(days[:-1][gaps == step])[0]]
    yield f"{_count(step // _FIXED[unit])}{unit}{'-' + weekday if unit == 'W' else ''}"
    open_days = np.count_nonzero(np.is_busday(days))
    if step == _DAY and open_days >= (1 - MAX_HOLIDAYS) * np.busday_count(days[0], days[-1] + _ONE_DAY):
        yield "B"


def _month_candidates(days: Shaped[np.ndarray, " n"]) -> Iterator[str]:
    month = days.astype("datetime64[M]")
    for business, edge in ((False, "S"), (False, "E"), (True, "S"), (True, "E")):
        on = np.unique(month[days == _edge(month, edge, business)].astype(np.int64))
        if len(on) > 1:
            step = _mode(np.diff(on))
            yield _month_name(step, int(on[:-1][np.diff(on) == step][0]) % 12, edge, business)


def _month_name(step: int, month: int, edge: str, business: bool) -> str:
    """As pandas names it: a quarter by the first possible month where it starts, by the last one where it ends."""
    span = next(span for span in "YQM" if step % _SPANS[span] == 0)
    anchor = {"Y": month, "Q": month % 3 + (0 if edge == "S" else 9)}.get(span)
    name = f"{_count(step // _SPANS[span])}{'B' if business else ''}{span}{edge}"
    return name if anchor is None else f"{name}-{_MONTHS[anchor]}"


def _count(number: int) -> str:
    return "" if number == 1 else str(number)


def _mode(gaps: Int64[np.ndarray, " n"]) -> int:
    sizes, counts = np.unique(gaps, return_counts=True)
    return int(sizes[np.argmax(counts)])


def _gap(first: np.datetime64 | np.integer, second: np.datetime64 | np.integer) -> str:
    if isinstance(first, np.integer) or isinstance(second, np.integer):
        return str(int(second) - int(first))
    size = int((second - first).astype("timedelta64[us]").astype(np.int64))
    unit = next(unit for unit, one in list(_FIXED.items())[1:] if size >= one)
    number = size / _FIXED[unit]
    return f"{number:.6g} {plural(_UNITS[unit], number)}"
