"""The calendar as covariates: hour, weekday, month, position in each season, and the only door to holidays.

A cycle without an end stands as a sine and a cosine, so that its last step is as near to the first as any other two
neighbours; a weekday, which need not be like its neighbours, as one column for each. Public holidays are those of the
package `holidays`, which is optional: pip install "jaxseq[calendar]".
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from jaxtyping import Float, Int, Shaped

from jaxseq.common.errors import UsageError
from jaxseq.data.frequency import Frequency, days_of_step, positions
from jaxseq.data.seasons import LONGER_SEASON

Feature: TypeAlias = Callable[[Shaped[np.ndarray, "_"], Frequency], Float[np.ndarray, "_ c"]]
"""A function (dates, frequency) -> columns."""

HOLIDAYS = "holidays:"
"""Beginning of an entry for public holidays; a country follows, as in holidays:US, or a part of one: holidays:US-CA."""
OPTION = "--data.calendar"
WEEKDAYS = 7
LONGEST_STEP = MappingProxyType({"hour": 1, "weekday": 7, "month": 365, HOLIDAYS: 2})
"""Days from one row to the next from which on an entry says nothing: the hour of daily rows is always the same."""


def _hour(times: Shaped[np.ndarray, "_"], frequency: Frequency) -> Float[np.ndarray, "_ 2"]:
    # Minutes count as well: rows every quarter of an hour differ.
    since_midnight = times - times.astype("datetime64[D]")
    return _circle(since_midnight / np.timedelta64(1, "h") / 24)


def _weekday(times: Shaped[np.ndarray, "_"], frequency: Frequency) -> Float[np.ndarray, "_ 7"]:
    # 1970-01-01 was a Thursday; weeks begin on Mondays.
    weekday = (times.astype("datetime64[D]").astype(np.int64) + 3) % WEEKDAYS
    return np.eye(WEEKDAYS)[weekday]


def _month(times: Shaped[np.ndarray, "_"], frequency: Frequency) -> Float[np.ndarray, "_ 2"]:
    month = times.astype("datetime64[M]").astype(np.int64) % 12
    return _circle(month / 12)


def _season(times: Shaped[np.ndarray, "_"], frequency: Frequency) -> Float[np.ndarray, "_ c"]:
    # Counted from one day for all tables: another file of the same series begins elsewhere.
    place = positions(times, frequency)
    return np.concatenate([_circle(place % period / period) for period in _seasons(frequency)], axis=1)


FEATURES: MappingProxyType[str, Feature] = MappingProxyType(
    {"hour": _hour, "weekday": _weekday, "month": _month, "season": _season}
)
"""Columns by the name of an entry, but for holidays."""


def columns(entries: Sequence[str], times: Shaped[np.ndarray, "_"], frequency: Frequency) -> Float[np.ndarray, "_ s"]:
    """Return the columns of all entries, in their order. Raises `UsageError` as `_is_holiday`."""
    parts = [np.zeros((len(times), 0))]
    for entry in entries:
        if entry.startswith(HOLIDAYS):
            parts.append(_is_holiday(entry, times))
        else:
            parts.append(FEATURES[entry](times, frequency))
    return np.concatenate(parts, axis=1)


def check(entries: Sequence[str]) -> None:
    """Raise `UsageError` for an unknown entry, or one that is there twice."""
    for number, entry in enumerate(entries):
        is_known = entry in FEATURES or (entry.startswith(HOLIDAYS) and entry != HOLIDAYS)
        if not is_known:
            needed = f"{', '.join(FEATURES)}, or {HOLIDAYS} and a country, as {HOLIDAYS}US"
            raise UsageError("no entry of a calendar", where=OPTION, got=entry, needed=needed)
        if entry in entries[:number]:
            raise UsageError("the same entry twice", where=OPTION, got=entry)


def check_rows(entries: Sequence[str], times: Shaped[np.ndarray, "_"], frequency: Frequency, source: str) -> None:
    """Raise `UsageError` for rows without dates, or so far apart that an entry is the same in all of them."""
    if entries and times.dtype.kind != "M":
        raise UsageError(
            "its rows have no dates", where=source, got=f"{OPTION} {','.join(entries)}", needed="--data.time"
        )
    for entry in entries:
        # The country is another question than whether rows are days.
        kind = HOLIDAYS if entry.startswith(HOLIDAYS) else entry
        longest = LONGEST_STEP.get(kind, np.inf)
        if days_of_step(frequency) >= longest:
            raise UsageError(f"rows that are {frequency} do not tell it", where=source, got=f"{OPTION} {entry}")
        if kind == "season" and not _seasons(frequency):
            raise UsageError(
                f"rows that are {frequency} have no season",
                where=source,
                got=f"{OPTION} {entry}",
                needed="--data.period N",
            )


def _circle(share: Float[np.ndarray, "_"]) -> Float[np.ndarray, "_ 2"]:
    """Return sine and cosine of shares of a turn."""
    angle = 2 * np.pi * share
    return np.stack([np.sin(angle), np.cos(angle)], axis=1)


def _seasons(frequency: Frequency) -> tuple[int, ...]:
    """Return the seasons of the dates: the shortest, and the next longer one."""
    first = frequency.period
    return tuple(period for period in (first, LONGER_SEASON.get(first, 1)) if period > 1)


def _is_holiday(entry: str, times: Shaped[np.ndarray, "_"]) -> Float[np.ndarray, "_ 1"]:
    """Return 1 on public holidays, else 0. Raises `UsageError` without the package, and for an unknown country."""
    days = times.astype("datetime64[D]")
    years = days.astype("datetime64[Y]").astype(np.int64) + 1970
    # Only the years of these rows: a package may not know those of long ago.
    holidays = _holidays(entry, int(years.min()), int(years.max()))
    return np.isin(days.astype(np.int64), holidays).astype(np.float64)[:, None]


@functools.lru_cache(maxsize=32)
def _holidays(entry: str, first: int, last: int) -> Int[np.ndarray, "_"]:
    """Return the days of the public holidays of some years, counted from 1970."""
    try:
        import holidays
    except ModuleNotFoundError as error:
        needed = 'pip install "jaxseq[calendar]"'
        raise UsageError("holidays is not installed", where=OPTION, got=entry, needed=needed) from error
    country, _, part = entry.removeprefix(HOLIDAYS).partition("-")
    # The package has a second name for some countries, and for their parts.
    try:
        by_day = holidays.country_holidays(country, subdiv=part or None, years=range(first, last + 1))
    except NotImplementedError as error:
        raise UsageError("a country that is not known", where=OPTION, got=entry, needed=f"{HOLIDAYS}US") from error
    return np.array(sorted(by_day), "datetime64[D]").astype(np.int64)
