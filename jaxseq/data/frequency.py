"""The frequency that dates follow, and how they continue.

A frequency has the name of its offset alias in pandas: "D" daily, "B" business days, "W-FRI" weekly, "MS" and "ME" the
first and the last day of a month, "QE-DEC" a quarter, "YS-JAN" a year, "h" hourly, "15min" and so on. Two have names
that pandas does not know: "M-15" is the 15th of every month ("3M-15" of every third), and the name of integer times is
their step: "1".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import MappingProxyType
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
LAST_COMMON_DAY = 28
"""The last day that every month has."""

_HOUR = 3_600_000_000  # microseconds
_DAY = 24 * _HOUR
_ONE_DAY = np.timedelta64(1, "D")
_FIXED = MappingProxyType(
    {"W": 7 * _DAY, "D": _DAY, "h": _HOUR, "min": _HOUR // 60, "s": 1_000_000, "ms": 1000, "us": 1}
)
_CYCLE = MappingProxyType({"W": 52 * 7 * _DAY, "D": 7 * _DAY, "h": _DAY, "min": _DAY, "s": _HOUR})
_SPANS = MappingProxyType({"M": 1, "Q": 3, "Y": 12})
_STEPS = MappingProxyType({**_FIXED, **_SPANS})
_NOUNS = ("week", "day", "hour", "minute", "second", "millisecond", "microsecond", "month", "quarter", "year")
_UNITS = dict(zip(_STEPS, _NOUNS, strict=True))
_ADVERBS = MappingProxyType(
    {"W": "weekly", "D": "daily", "h": "hourly", "M": "monthly", "Q": "quarterly", "Y": "yearly"}
)
_WEEKDAYS = ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays")
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_ANCHORS = MappingProxyType({"W": tuple(day[:3].upper() for day in _WEEKDAYS), "Q": _MONTHS, "Y": _MONTHS})
_NAME = re.compile(r"([1-9]\d{0,9})?(?:(W|D|h|min|s|ms|us)|(B?)([MQY])([SE])|(B)|)(?:-([A-Z]{3}))?")
_DAY_OF_MONTH = re.compile(r"([1-9]\d{0,9})?M-([1-9]\d?)")


class Frequency(NamedTuple):
    """How dates follow each other; three plain fields, so `_asdict` saves it as JSON.

    name    offset alias of pandas, "M-15" for a day of the month, or the step in digits if the times are integers
    period  steps of a season: 7 for daily values, 5 on business days, 24 for hourly ones; 1 is none
    words   the name for a reader: "daily on business days"
    """

    name: str
    period: int
    words: str

    def __str__(self) -> str:
        if self.name.isdigit():
            return self.words
        return f"{self.words} ({self.name})"


class _Rule(NamedTuple):
    """A frequency's name, parsed.

    unit    a key of `_STEPS`; "B" for business days, "" for integers
    edge    "S" or "E", the start or the end of a month; "" for other units, and with a `day`
    anchor  weekday or month, in three letters
    day     of the month; 0 where there is none
    """

    count: int
    unit: str
    business: bool = False
    edge: str = ""
    anchor: str = ""
    day: int = 0

    @property
    def step(self) -> int:
        """Microseconds, months, business days or integers from one time to the next."""
        return self.count * _STEPS.get(self.unit, 1)


def describe(name: str) -> Frequency:
    """Return the frequency of a name, with its seasonal period and its words.

    The period is the number of steps in a year for years, quarters, months and weeks (52), in a week for days, in a day
    for hours and minutes, in an hour for seconds, or 1 if that is no whole number. Raises `UsageError` for an unknown
    name.
    """
    rule = _rule(name)
    if rule.unit == "B":
        return Frequency(name, 5, "daily on business days")
    if not rule.unit:
        return Frequency(name, 1, f"in steps of {rule.count}")

    cycle = _CYCLE.get(rule.unit, 1)
    if rule.unit in _SPANS:
        cycle = 12
    period = 1
    if cycle % rule.step == 0:
        period = cycle // rule.step

    if rule.count > 1:
        words = f"every {rule.count} {_UNITS[rule.unit]}s"
    else:
        words = _ADVERBS.get(rule.unit, f"every {_UNITS[rule.unit]}")
    return Frequency(name, period, words + _place(rule))


def guess(times: Shaped[np.ndarray, " n"]) -> Frequency:
    """Return the frequency that most of the increasing `times` follow. Raises `UsageError` for fewer than 3 dates."""
    if times.dtype.kind != "M":
        step = 1
        if len(times) > 1:
            step = _mode(np.diff(times))
        return describe(str(step))
    if len(times) < 3:
        raise UsageError(f"{len(times)} dates are too few to tell their frequency; at least 3 are needed")

    # Candidates come in order of preference, so a later one has to fit more times to be taken.
    best_name = ""
    most = -1
    for name in _candidates(times):
        count = np.count_nonzero(regular(times, describe(name)))
        if count > most:
            best_name = name
            most = count
        if most == len(times):
            break
    return describe(best_name)


def regular(
    times: Shaped[np.ndarray, " n"], frequency: Frequency, starts: Bool[np.ndarray, " n"] | None = None
) -> Bool[np.ndarray, " n"]:
    """Return which times are of this frequency and one step after the one before.

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
        # A gap of several whole steps is a hole in the grid, not a time beside it.
        steps = np.where((gap > 0) & (gap % rule.step == 0), gap // rule.step, 0)

    # These grids count days, so the time of day has to stay the same.
    if rule.unit == "B" or rule.unit in _SPANS:
        clock = (times - times.astype("datetime64[D]")).astype(np.int64)
        steps = np.where(np.diff(clock, prepend=clock[:1]) == 0, steps, 0)
    return np.where(is_on_grid, np.where(starts, 1, steps), 0)


def positions(times: Shaped[np.ndarray, " n"], frequency: Frequency) -> Int64[np.ndarray, " n"]:
    """Return the number of each time in steps of the frequency, counted from 1970, or from 0 for integers."""
    rule = _rule(frequency.name)
    place, _ = _grid(times, rule)
    return place // rule.step


def days_of_step(frequency: Frequency) -> float:
    """Return about how many days it is from one date to the next."""
    rule = _rule(frequency.name)
    if rule.unit in _SPANS:
        return rule.step * 365 / 12
    if rule.unit in _FIXED:
        return rule.step / _DAY
    return float(rule.step)


def missing_days(
    times: Shaped[np.ndarray, " n"], frequency: Frequency, starts: Bool[np.ndarray, " n"] | None = None
) -> int:
    """Return the number of business days that are left out between the dates of each series.

    It is 0 for every other frequency.
    """
    if frequency.name != "B":
        return 0
    if starts is None:
        starts = np.arange(len(times)) == 0
    place, _ = _grid(times, _rule("B"))
    return int((np.diff(place) - 1)[~starts[1:]].sum())


def irregular(
    before: Shaped[np.ndarray, " n"],
    time: np.datetime64 | np.integer,
    frequency: Frequency,
    where: str,
    others: str = "the others",
) -> str:
    """Return one line about a time that is not `regular`.

    before  the times of its series until then
    where   names its row
    others  the rows that are regular
    """
    rule = f"{others} go on {frequency}"
    if not len(before):
        return f"{where} ({time}) is out of step: {rule}"
    last = before[-1]
    expected = continue_(last, frequency, 1)[0]
    return f"{where} ({time}) comes {_gap(last, time)} after {last} instead of {_gap(last, expected)}: {rule}"


def continue_(times_end: np.datetime64 | np.integer, frequency: Frequency, steps: int) -> Shaped[np.ndarray, " k"]:
    """Return the `steps` times that follow `times_end`; no business day is left out, since holidays are not known.

    Raises `UsageError` for times beyond the last possible date.
    """
    if isinstance(times_end, np.integer):
        return times_end + int(frequency.name) * np.arange(1, steps + 1)

    rule = _rule(frequency.name)
    if rule.day:
        return _continue_on_day(times_end, frequency, steps)
    end = pd.Timestamp(times_end)
    try:
        # The range begins at the end itself where the frequency has that date, so it needs one date more.
        index = pd.date_range(end, periods=steps + 1, freq=frequency.name)
    except (ValueError, OverflowError) as error:
        raise UsageError(_beyond(times_end, frequency, steps)) from error
    future = coarsest(index[index > end][:steps].to_numpy())
    if np.any(np.isnat(microseconds(future))):
        raise UsageError(_beyond(times_end, frequency, steps))
    return future.astype(np.promote_types(times_end.dtype, future.dtype))


def _continue_on_day(end: np.datetime64, frequency: Frequency, steps: int) -> Shaped[np.ndarray, " k"]:
    """Continue on one day of the month, at the same time of day."""
    rule = _rule(frequency.name)
    months = end.astype("datetime64[M]") + rule.step * np.arange(1, steps + 1)
    days = months.astype("datetime64[D]") + (rule.day - 1)
    # Beyond it, a time zone could leave the years that Python has.
    if days[-1] >= np.datetime64("9999-01-01"):
        raise UsageError(_beyond(end, frequency, steps))
    return days.astype(end.dtype) + (end - end.astype("datetime64[D]"))


def _beyond(end: np.datetime64, frequency: Frequency, steps: int) -> str:
    return f"{end}: {steps} steps {frequency.words} reach beyond the last possible date, the end of the year 9998"


def _rule(name: str) -> _Rule:
    """Parse a frequency's name. Raises `UsageError` for an unknown one."""
    # pandas has no alias for a day of the month between the first and the last.
    on_day = _DAY_OF_MONTH.fullmatch(name)
    if on_day is not None and int(on_day[2]) <= LAST_COMMON_DAY:
        return _Rule(int(on_day[1] or 1), "M", day=int(on_day[2]))

    match = _NAME.fullmatch(name)
    if match is None or not name:
        raise UsageError(f"frequency {name!r} is unknown; it is an alias of pandas such as D, B, W-MON, MS or 15min")
    count, fixed, business, span, edge, weekdays, anchor = match.groups(default="")
    unit = fixed or span or weekdays
    has_anchor = anchor in _ANCHORS.get(unit, ("",))
    if not has_anchor or (weekdays and count):
        raise UsageError(f"frequency {name!r} is unknown; it is an alias of pandas such as D, B, W-MON, MS or 15min")
    return _Rule(int(count or 1), unit, business=bool(business), edge=edge, anchor=anchor)


def _place(rule: _Rule) -> str:
    """Return the place of a date within its week or month, for a reader."""
    if rule.unit == "W":
        return f" on {_WEEKDAYS[_ANCHORS['W'].index(rule.anchor)]}"
    if rule.day:
        return f", on day {rule.day}"
    if rule.unit not in _SPANS:
        return ""
    edge = "last"
    if rule.edge == "S":
        edge = "first"
    if rule.business:
        return f", on the {edge} business day"
    return f", on the {edge} day"


def _grid(times: Shaped[np.ndarray, " n"], rule: _Rule) -> tuple[Int64[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Return the number of each time in units of the rule's step, and whether the rule has that time."""
    if not rule.unit:
        return times.astype(np.int64), np.ones(len(times), bool)

    days = times.astype("datetime64[D]")
    if rule.unit == "B":
        return np.busday_count("1970-01-01", days).astype(np.int64), np.is_busday(days)
    if rule.unit in _FIXED:
        is_on_grid = np.ones(len(times), bool)
        if rule.anchor:
            is_on_grid = _weekday(days) == _ANCHORS["W"].index(rule.anchor)
        return times.astype("datetime64[us]").astype(np.int64), is_on_grid

    month = times.astype("datetime64[M]")
    number = month.astype(np.int64)
    if rule.day:
        return number, (days - month.astype("datetime64[D]")).astype(np.int64) == rule.day - 1
    phase = number
    if rule.anchor:
        phase = number - _MONTHS.index(rule.anchor)
    return number, (days == _edge(month, rule.edge, rule.business)) & (phase % _SPANS[rule.unit] == 0)


def _weekday(days: Shaped[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    # 1970-01-01 was a Thursday.
    return (days.astype(np.int64) + 3) % 7


def _edge(month: Shaped[np.ndarray, " n"], edge: str, business: bool) -> Shaped[np.ndarray, " n"]:
    """Return the first or the last (business) day of each month."""
    if edge == "S":
        day = month.astype("datetime64[D]")
        roll = "forward"
    else:
        day = (month + np.timedelta64(1, "M")).astype("datetime64[D]") - _ONE_DAY
        roll = "backward"
    if not business:
        return day
    return np.busday_offset(day, 0, roll=roll)


def _candidates(times: Shaped[np.ndarray, " n"]) -> Iterator[str]:
    """Yield names that may fit; where two fit equally well, the preferred one comes first."""
    days = times.astype("datetime64[D]")
    gaps = np.diff(times.astype("datetime64[us]").astype(np.int64))
    step = _mode(gaps)
    if gaps.max() >= LAST_COMMON_DAY * _DAY:
        yield from _month_candidates(days)

    unit = next(unit for unit, size in _FIXED.items() if step % size == 0)
    name = f"{_count(step // _FIXED[unit])}{unit}"
    if unit == "W":
        weekday = _weekday(days[:-1][gaps == step])[0]
        name += f"-{_ANCHORS['W'][weekday]}"
    yield name

    open_days = np.count_nonzero(np.is_busday(days))
    all_business_days = np.busday_count(days[0], days[-1] + _ONE_DAY)
    if step == _DAY and open_days >= (1 - MAX_HOLIDAYS) * all_business_days:
        yield "B"


def _month_candidates(days: Shaped[np.ndarray, " n"]) -> Iterator[str]:
    month = days.astype("datetime64[M]")
    for business, edge in ((False, "S"), (False, "E"), (True, "S"), (True, "E")):
        months_on_edge = np.unique(month[days == _edge(month, edge, business)].astype(np.int64))
        if len(months_on_edge) > 1:
            steps = np.diff(months_on_edge)
            step = _mode(steps)
            first_month = int(months_on_edge[:-1][steps == step][0]) % 12
            yield _month_name(step, first_month, edge, business)

    # Another day of the month, such as the 15th.
    day_of_month = (days - month.astype("datetime64[D]")).astype(np.int64) + 1
    day = _mode(day_of_month)
    months_on_day = np.unique(month[day_of_month == day].astype(np.int64))
    if 1 < day <= LAST_COMMON_DAY and len(months_on_day) > 1:
        yield f"{_count(_mode(np.diff(months_on_day)))}M-{day}"


def _month_name(step: int, month: int, edge: str, business: bool) -> str:
    """Return pandas' name: a quarter by the first possible month where it starts, by the last one where it ends."""
    span = next(span for span in "YQM" if step % _SPANS[span] == 0)
    name = f"{_count(step // _SPANS[span])}{'B' * business}{span}{edge}"
    if span == "M":
        return name

    anchor = month
    if span == "Q":
        anchor = month % 3
        if edge == "E":
            anchor += 9
    return f"{name}-{_MONTHS[anchor]}"


def _count(number: int) -> str:
    if number == 1:
        return ""
    return str(number)


def _mode(numbers: Int64[np.ndarray, " n"]) -> int:
    """Return the most frequent number, the smallest of several."""
    values, counts = np.unique(numbers, return_counts=True)
    return int(values[np.argmax(counts)])


def _gap(first: np.datetime64 | np.integer, second: np.datetime64 | np.integer) -> str:
    """Return the time between two times, in the largest unit that fits into it."""
    if isinstance(first, np.integer) or isinstance(second, np.integer):
        return str(int(second) - int(first))
    size = int((second - first).astype("timedelta64[us]").astype(np.int64))
    # Weeks are left out: 8 days are easier to read than 1.14286 weeks.
    unit = next(unit for unit, microseconds_of in _FIXED.items() if unit != "W" and size >= microseconds_of)
    number = size / _FIXED[unit]
    return f"{number:.6g} {plural(_UNITS[unit], number)}"
