"""Dates that are written as text, and those of a place."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int, Shaped

from jaxseq.common.errors import UsageError

INTEGER, ISO, ZONED, QUARTER = "integer", "ISO 8601", "ISO 8601 with an offset from UTC", "2020Q1"
"""Ways to write a time, beside the formats of `strptime`."""

_DATES = tuple(form.replace("/", mark) for mark in "/.-" for form in ("%d/%m/%Y", "%m/%d/%Y", "%d/%b/%Y", "%b/%Y"))
_DATES += tuple(form.replace("%b", month) for month in ("%b", "%B") for form in ("%d %b %Y", "%b %d, %Y", "%b %Y"))
_FORMATS = tuple(day + clock for day in _DATES for clock in ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p"))
_PATTERNS = {
    ZONED: (r"([\d./-]+[T ]\d\d[\d:.,]*) ?(?:Z|[+-]\d\d(?::?\d\d)?)", r"\1"),
    QUARTER: (r"(\d{4})[- ]?Q([1-4])", lambda found: f"{found[1]}-{3 * int(found[2]) - 2:02}-01"),
}


class Dates(NamedTuple):
    """Texts that were read as times in one form; what could not be read has any value, and `read` is false."""

    times: Shaped[np.ndarray, " n"]
    """datetime64[us], on the clock of the place where they were written; or int64."""
    offset: Shaped[np.ndarray, " n"] | None
    """Offset of that clock from UTC as timedelta64[us]; None if it is not written."""
    read: Bool[np.ndarray, " n"]

    def take(self, rows: Int[np.ndarray, " m"]) -> Dates:
        """The dates of some rows, in their order."""
        return Dates(self.times[rows], None if self.offset is None else self.offset[rows], self.read[rows])


def coarsest(times: Shaped[np.ndarray, " n"]) -> Shaped[np.ndarray, " n"]:
    """The same dates, as days if all are at midnight, else as seconds if that is exact, else as microseconds."""
    for unit in ("datetime64[D]", "datetime64[s]"):
        coarse = times.astype(unit)
        if np.array_equal(coarse, times):
            return coarse
    return times.astype("datetime64[us]")


def microseconds(times: Shaped[np.ndarray, " n"]) -> Shaped[np.ndarray, " n"]:
    """The same dates as datetime64[us]; not a time where that is not exact, or outside the years 2 to 9998.

    Python's own dates end with 1 and 9999; a year is left for time zones.
    """
    same = times.astype("datetime64[us]")
    year = times.astype("datetime64[Y]").astype(np.int64) + 1970
    return np.where((same == times) & (year >= 2) & (year <= 9998), same, np.datetime64("NaT", "us"))


def forms(text: str) -> tuple[str, ...]:
    """All the ways in which one text may be a time, for `parse`; several if day and month may change places."""
    found = tuple(form for form in ("%Y%m%d", INTEGER, ISO, ZONED, QUARTER) if _reads(text, form))
    return found or tuple(form for form in _FORMATS if _reads(text, form))  # which have the year at their end


def parse(texts: pd.Index, form: str) -> Dates:
    """Texts as times, each by itself and strictly in the given form, one of `forms`."""
    if form == INTEGER:
        read = np.asarray(texts.str.fullmatch(r"[+-]?[0-9]{1,18}"), bool)
        return Dates(np.where(read, texts, "0").astype(np.int64), None, read)
    read = ~np.asarray(texts.str.lower().isin(["now", "today"]))  # pandas reads these in any format
    bare = texts
    if form in _PATTERNS:
        pattern, replacement = _PATTERNS[form]
        read &= np.asarray(texts.str.fullmatch(pattern), bool)
        bare = texts.str.replace(pattern, replacement, regex=True)
    elif form == ISO and _may_have_offset("\n".join(texts)):
        read &= ~np.asarray(texts.str.fullmatch(_PATTERNS[ZONED][0]), bool)
    times = _moments(bare, form)
    offset = times - _moments(texts, form) if form == ZONED else None
    return Dates(times, offset, read & ~np.isnat(times if offset is None else times - offset))


def timestamps(column: pd.Series) -> Dates:
    """A column that has dates and not texts, with a time zone or without one."""
    if not isinstance(column.dtype, pd.DatetimeTZDtype):
        times = microseconds(column.to_numpy())
        return Dates(times, None, ~np.isnat(times))
    world = microseconds(column.dt.tz_convert(None).to_numpy())
    known = ~np.isnat(world)
    local = microseconds(column.where(known).dt.tz_localize(None).to_numpy())
    return Dates(local, local - world, known)


def settle(
    readings: dict[str, list[Dates]], where: Callable[[int], str]
) -> tuple[Shaped[np.ndarray, " n"], tuple[str, ...]]:
    """The times of all rows; raises `UsageError` if day and month may change places in every one of them."""
    whole = [np.concatenate([part.times for part in parts]) for parts in readings.values()]
    times = whole[0]
    for other in whole[1:]:
        if times.dtype == other.dtype and np.any(differ := times != other):
            row = int(np.argmax(differ))
            both = " or ".join(str(dates[row].astype("datetime64[D]")) for dates in (times, other))
            raise UsageError(
                f"{where(row)}: this is {both}, and no row tells day from month; write dates as 2020-01-31"
            )
    if times.dtype.kind != "M":
        return times, ()
    offsets = [part.offset for part in next(iter(readings.values())) if part.offset is not None]
    if not offsets:
        return coarsest(times), ()
    offset = np.concatenate(offsets)
    if np.all(offset == offset[0]):
        return coarsest(times), (f"times are kept as written, {offset[0] / np.timedelta64(1, 'h'):+g} hours from UTC",)
    if np.all(times == times.astype("datetime64[D]")):
        return coarsest(times), ("days are kept as written, though their offset from UTC changes",)
    return coarsest(times - offset), ("times are turned to UTC, because their offset from it changes",)


def _may_have_offset(lines: str) -> bool:
    """A quick look, which saves most files a slow one."""
    return "+" in lines or "Z" in lines or re.search(r"[T ].*-", lines) is not None


def _reads(text: str, form: str) -> bool:
    return bool(parse(pd.Index([text], dtype=object), form).read[0])


def _moments(texts: pd.Index, form: str) -> Shaped[np.ndarray, " n"]:
    style = form if form.startswith("%") else "ISO8601"
    return microseconds(pd.to_datetime(texts, format=style, errors="coerce", utc=True).tz_localize(None).to_numpy())
