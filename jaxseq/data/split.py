"""Rules by which the rows of each series are split into training, validation and test."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Shaped

from jaxseq.common import checks
from jaxseq.common.errors import UsageError
from jaxseq.data.dates import DAY, INTEGER, ISO, MONTH, QUARTER, WEEK, forms, parse
from jaxseq.data.folds import split_rows

DATES = (DAY, MONTH, ISO, QUARTER, WEEK)
"""Notations of a date in which the first one of a part may be given."""


class Split(NamedTuple):
    """Rule for the parts of each series; without a number or a time they are the shares of `folds.FRACTIONS`.

    test_rows   rows at the end of each series
    valid_rows  rows before those; None takes as many
    test_from   first time of the test part, in the notation of `DATES`, or a number where the times are integers
    valid_from  first time of the validation part; None takes as many rows of each series as its test part has
    stride      windows of the test part from one that is judged to the next
    """

    test_rows: int | None = None
    valid_rows: int | None = None
    test_from: str | None = None
    valid_from: str | None = None
    stride: int = 1

    def check(self) -> None:
        """Raise `UsageError` for an invalid field, for rows and dates at once, and for a validation part alone."""
        for name in ("test_rows", "valid_rows", "stride"):
            number = getattr(self, name)
            if number is not None:
                checks.count(1, **{_option(name): number})

        rows = self._given("test_rows", "valid_rows")
        times = self._given("test_from", "valid_from")
        if rows and times:
            raise UsageError(
                "rows and dates at once",
                where=rows[0],
                got=f"{', '.join((*rows[1:], *times))}",
                needed="one kind alone",
            )
        if (self.test_rows is None and self.valid_rows is not None) or (self.test_from is None and self.valid_from):
            needed = "--data.test-rows as well" if rows else "--data.test-from as well"
            raise UsageError(
                "the validation part ends where the test part begins", where=(*rows, *times)[0], needed=needed
            )

        readings = {name: _readings(getattr(self, name), name) for name in ("test_from", "valid_from")}
        for kind, test_time in readings["test_from"].items():
            valid_time = readings["valid_from"].get(kind)
            if valid_time is not None and valid_time >= test_time:
                raise UsageError(
                    "the validation part comes before the test part",
                    where="--data.valid-from",
                    got=self.valid_from,
                    needed=f"before --data.test-from {self.test_from}",
                )

    def check_horizon(self, horizon: int, folds: int) -> None:
        """Raise `UsageError` for numbers of rows that are too small for a window of each fold."""
        least = horizon * folds
        if self.test_rows is not None and self.test_rows < least:
            needed = f"at least {least}"
            if folds > 1:
                needed = f"at least {least}, for {folds} folds"
            raise UsageError(
                f"fewer rows than the horizon of {horizon}", where="--data.test-rows", got=self.test_rows, needed=needed
            )
        if self.valid_rows is not None and self.valid_rows < horizon:
            raise UsageError(
                f"fewer rows than the horizon of {horizon}",
                where="--data.valid-rows",
                got=self.valid_rows,
                needed=f"at least {horizon}",
            )

    def first_rows(self, times: Shaped[np.ndarray, " n"]) -> tuple[int, int]:
        """Return the first row of the validation part and that of the test part of a series.

        Raises `UsageError`, which names the option, for a series that has no row of a part.
        """
        if self.test_from is not None:
            return self._rows_of_dates(times, self.test_from)
        if self.test_rows is None:
            return split_rows(len(times))

        valid_rows = self.test_rows if self.valid_rows is None else self.valid_rows
        test_start = len(times) - self.test_rows
        valid_start = test_start - valid_rows
        if valid_start <= 0:
            raise UsageError(
                f"there are {len(times)} rows; --data.test-rows {self.test_rows} and {valid_rows} for validation leave "
                "none for training"
            )
        return valid_start, test_start

    def _rows_of_dates(self, times: Shaped[np.ndarray, " n"], test_from: str) -> tuple[int, int]:
        test_start = _first_row(times, test_from, "test_from")
        if self.valid_from is not None:
            return _first_row(times, self.valid_from, "valid_from"), test_start

        valid_start = 2 * test_start - len(times)
        if valid_start <= 0:
            raise UsageError(
                f"{len(times) - test_start} of {len(times)} rows are from --data.test-from {test_from} on; as many for "
                "validation leave none for training: say --data.valid-from"
            )
        return valid_start, test_start

    @property
    def is_dated(self) -> bool:
        """Whether the parts begin at the same time in each series."""
        return self.test_from is not None

    @property
    def words(self) -> str:
        """The rule as a note; empty where the parts are shares of the rows."""
        if self.test_rows is not None:
            valid_rows = self.test_rows if self.valid_rows is None else self.valid_rows
            test = f"the last {self.test_rows:,} rows of each series are for the test"
            return f"{test}, {valid_rows:,} before them for validation"
        if self.test_from is None:
            return ""
        valid = "as many rows before it are for validation"
        if self.valid_from is not None:
            valid = f"rows from {self.valid_from} on for validation"
        return f"rows from {self.test_from} on are for the test, {valid}"

    def _given(self, *names: str) -> tuple[str, ...]:
        """Return those of some options that are set, as they are written."""
        values = {name: getattr(self, name) for name in names}
        return tuple(f"{_option(name)} {value}" for name, value in values.items() if value is not None)


SHARES = Split()
"""The rule where nothing else is said: shares of the rows, and every window."""


def _option(name: str) -> str:
    """Return a field as the command line has it."""
    if name == "stride":
        name = "test_stride"
    return f"--data.{name.replace('_', '-')}"


def _readings(text: str | None, name: str) -> dict[str, np.datetime64 | np.integer]:
    """Return a time as a date ("M") and as an integer ("i"), as far as it is one. Raises `UsageError` if it is neither."""
    if text is None:
        return {}
    readings = {}
    for form in forms(text.strip()):
        if form != INTEGER and form not in DATES:
            continue
        time = parse(pd.Index([text.strip()], dtype=object), form).times[0]
        # 202001 is a month before it is a number; of two notations of a date the shorter one is meant.
        readings.setdefault("i" if form == INTEGER else "M", time)
    if not readings:
        raise UsageError(
            "no time",
            where=_option(name),
            got=text,
            needed="a date such as 2023-01-31, or a number where times are integers",
        )
    return readings


def _first_row(times: Shaped[np.ndarray, " n"], text: str, name: str) -> int:
    """Return the first row of a series at a time or later. Raises `UsageError` where no row comes before, or after."""
    time = _readings(text, name).get(times.dtype.kind)
    if time is None:
        kind = "dates"
        if times.dtype.kind == "i":
            kind = "numbers"
        raise UsageError(f"its times are {kind}, {times[0]} to {times[-1]}; {_option(name)} is {text}")

    row = int(np.searchsorted(times, time))
    if row == len(times):
        raise UsageError(f"it ends at {times[-1]}, before {_option(name)} {text}")
    if row == 0:
        raise UsageError(f"it begins at {times[0]}, so that no row is before {_option(name)} {text}")
    return row
