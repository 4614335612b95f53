"""Dates written as text, and time stamps with a time zone."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int, Shaped

from jaxseq.common.errors import UsageError

# Notations of a time, beside the formats of `strptime`.
INTEGER = "integer"
ISO = "ISO 8601"
ZONED = "ISO 8601 with an offset from UTC"
QUARTER = "2020Q1"
WEEK = "2020-W05"
UNIX_SECONDS = "seconds since 1970"
UNIX_MILLISECONDS = "milliseconds since 1970"
DAY = "%Y%m%d"
MONTH = "%Y%m"

NUMBERS = (INTEGER, DAY, MONTH, UNIX_SECONDS, UNIX_MILLISECONDS)
"""Notations in digits alone, which other numbers may share."""

_DATES = tuple(form.replace("/", mark) for mark in "/.-" for form in ("%d/%m/%Y", "%m/%d/%Y", "%d/%b/%Y", "%b/%Y"))
_DATES += tuple(form.replace("%b", month) for month in ("%b", "%B") for form in ("%d %b %Y", "%b %d, %Y", "%b %Y"))
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
# These have the year at their end.
_FORMATS = tuple(day + clock for day in _DATES for clock in _CLOCKS)
_FIXED = (DAY, MONTH, UNIX_SECONDS, UNIX_MILLISECONDS, INTEGER, ISO, ZONED, QUARTER, WEEK)

# Texts of other shapes are not read in these forms, though pandas might.
_PATTERNS = MappingProxyType(
    {
        DAY: r"\d{8}",
        MONTH: r"(?:19|20)\d\d(?:0[1-9]|1[0-2])",
        # Ten digits are the years 2001 to 2286.
        UNIX_SECONDS: r"\d{10}",
        UNIX_MILLISECONDS: r"\d{13}",
        INTEGER: r"[+-]?[0-9]{1,18}",
        ZONED: r"([\d./-]+[T ]\d\d[\d:.,]*) ?(?:Z|[+-]\d\d(?::?\d\d)?)",
        QUARTER: r"(\d{4})[- ]?Q([1-4])",
        WEEK: r"(\d{4})-?W(\d\d)(?:-?1)?",
    }
)
_NOTES = MappingProxyType(
    {
        MONTH: "months are written as 202001",
        WEEK: "a week is dated by its Monday",
        UNIX_SECONDS: "times are seconds since 1970, in UTC",
        UNIX_MILLISECONDS: "times are milliseconds since 1970, in UTC",
    }
)


class Dates(NamedTuple):
    """Texts that were read as times in one form.

    times   datetime64[us], on the clock of the place where they were written; or int64
    offset  offset of that clock from UTC as timedelta64[us]; None if it is not written
    read    whether a text has this form; `times` holds any value where it has not
    """

    times: Shaped[np.ndarray, " n"]
    offset: Shaped[np.ndarray, " n"] | None
    read: Bool[np.ndarray, " n"]

    def take(self, rows: Int[np.ndarray, " m"]) -> Dates:
        """Return the dates of some rows, in their order."""
        offset = self.offset
        if offset is not None:
            offset = offset[rows]
        return Dates(self.times[rows], offset, self.read[rows])


def coarsest(times: Shaped[np.ndarray, " n"]) -> Shaped[np.ndarray, " n"]:
    """Return the same times, as days if all are at midnight, else as seconds if that is exact, else as microseconds."""
    for unit in ("datetime64[D]", "datetime64[s]"):
        coarse = times.astype(unit)
        if np.array_equal(coarse, times):
            return coarse
    return times.astype("datetime64[us]")


def microseconds(times: Shaped[np.ndarray, " n"]) -> Shaped[np.ndarray, " n"]:
    """Return the same times as datetime64[us]; NaT where that is not exact, or outside the years 2 to 9998.

    Python's own dates end with the years 1 and 9999; one year is left for time zones.
    """
    exact = times.astype("datetime64[us]")
    year = times.astype("datetime64[Y]").astype(np.int64) + 1970
    is_valid = (exact == times) & (year >= 2) & (year <= 9998)
    return np.where(is_valid, exact, np.datetime64("NaT", "us"))


def forms(text: str) -> tuple[str, ...]:
    """Return all forms in which one text is a time, for `parse`; several if day and month may be either way round."""
    # Names of columns are asked, too, and most have none.
    if re.search(r"\d", text) is None:
        return ()
    # Digits and ISO 8601 have one order of day and month, so the others are not tried.
    readable = tuple(form for form in _FIXED if _is_readable(text, form))
    if readable:
        return readable
    return tuple(form for form in _FORMATS if _is_readable(text, form))


def parse(texts: pd.Index, form: str) -> Dates:
    """Read each text as a time in the given form, one of `forms`, and in no other."""
    # pandas reads these two in any format.
    is_read = ~np.asarray(texts.str.lower().isin(["now", "today"]))
    if form in _PATTERNS:
        is_read &= np.asarray(texts.str.fullmatch(_PATTERNS[form]), bool)
    elif form == ISO and _may_have_offset("\n".join(texts)):
        is_read &= ~np.asarray(texts.str.fullmatch(_PATTERNS[ZONED]), bool)

    if form == INTEGER:
        return Dates(np.where(is_read, texts, "0").astype(np.int64), None, is_read)
    if form in (UNIX_SECONDS, UNIX_MILLISECONDS):
        unit = "s" if form == UNIX_SECONDS else "ms"
        numbers = np.where(is_read, texts, "0").astype(np.int64)
        times = microseconds(numbers.astype(f"datetime64[{unit}]"))
        return Dates(times, None, is_read & ~np.isnat(times))

    offset = None
    local = texts
    if form == ZONED:
        local = texts.str.replace(_PATTERNS[ZONED], r"\1", regex=True)
    elif form == QUARTER:
        local = texts.str.replace(_PATTERNS[QUARTER], _first_day_of_quarter, regex=True)
    elif form == WEEK:
        local = texts.str.replace(_PATTERNS[WEEK], r"\1-W\2-1", regex=True)
    times = _moments(local, form)
    is_read &= ~np.isnat(times)
    if form == ZONED:
        offset = times - _moments(texts, form)
        is_read &= ~np.isnat(offset)
    return Dates(times, offset, is_read)


def timestamps(column: pd.Series) -> Dates:
    """Return the times of a column that has dates and not texts, with a time zone or without one."""
    if not isinstance(column.dtype, pd.DatetimeTZDtype):
        times = microseconds(column.to_numpy())
        return Dates(times, None, ~np.isnat(times))

    world = microseconds(column.dt.tz_convert(None).to_numpy())
    is_valid = ~np.isnat(world)
    local = microseconds(column.where(is_valid).dt.tz_localize(None).to_numpy())
    return Dates(local, local - world, is_valid)


def settle(
    readings: dict[str, list[Dates]], where: Callable[[int], str]
) -> tuple[Shaped[np.ndarray, " n"], tuple[str, ...]]:
    """Return the times of all rows, and notes on how they were read.

    readings  for each form that fits all rows, the times in pieces
    where     names a row, for messages

    Raises `UsageError` if two forms differ in a date, so that day and month may be either way round.
    """
    form = next(iter(readings))
    all_times = [np.concatenate([part.times for part in parts]) for parts in readings.values()]
    times = all_times[0]
    for other in all_times[1:]:
        # An integer is another kind of time, not another date.
        if times.dtype != other.dtype:
            continue
        differs = times != other
        if np.any(differs):
            row = int(np.argmax(differs))
            dates = " or ".join(str(reading[row].astype("datetime64[D]")) for reading in (times, other))
            raise UsageError(
                f"{where(row)}: this is {dates}, and no row tells day from month; write dates as 2020-01-31"
            )
    if times.dtype.kind != "M":
        return times, ()

    notes = ()
    if form in _NOTES:
        notes = (_NOTES[form],)
    offsets = [part.offset for part in readings[form] if part.offset is not None]
    if not offsets:
        return coarsest(times), notes

    # Hours are regular on a clock with one offset, or in UTC; days are regular on the local clock.
    offset = np.concatenate(offsets)
    if np.all(offset == offset[0]):
        hours = offset[0] / np.timedelta64(1, "h")
        return coarsest(times), (*notes, f"times are kept as written, {hours:+g} hours from UTC")
    if np.all(times == times.astype("datetime64[D]")):
        return coarsest(times), (*notes, "days are kept as written, though their offset from UTC changes")
    return coarsest(times - offset), (*notes, "times are turned to UTC, because their offset from it changes")


def _first_day_of_quarter(match: re.Match[str]) -> str:
    month = 3 * int(match[2]) - 2
    return f"{match[1]}-{month:02}-01"


def _may_have_offset(lines: str) -> bool:
    """Return quickly whether an offset is possible, which spares most files the slow match."""
    return "+" in lines or "Z" in lines or re.search(r"[T ].*-", lines) is not None


def _is_readable(text: str, form: str) -> bool:
    # pandas takes a hundred times as long to refuse a text as these two do.
    if form in _PATTERNS and re.fullmatch(_PATTERNS[form], text) is None:
        return False
    if form in _FORMATS and not set(_marks(form)) <= set(text):
        return False
    return bool(parse(pd.Index([text], dtype=object), form).read[0])


def _marks(form: str) -> str:
    """Return the marks that a text in a format of `strptime` must have, such as `//:`."""
    return re.sub(r"%.|\s", "", form)


def _moments(texts: pd.Index, form: str) -> Shaped[np.ndarray, " n"]:
    """Return the times of texts in a format of `strptime`, in UTC; NaT where they do not fit."""
    style = "ISO8601"
    if form == WEEK:
        style = "%G-W%V-%u"
    elif form.startswith("%"):
        style = form
    moments = pd.to_datetime(texts, format=style, errors="coerce", utc=True)
    return microseconds(moments.tz_localize(None).to_numpy())
