"""Covariates: what is known beside the values of a series, and how far ahead.

A past covariate is known up to the present, as the values are. All others are known ahead of them, so that a forecast reads
those of the rows that it is for: the calendar of a date, columns of the table that have rows beyond the last value, and
static ones, which are the same in all rows of a series.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from jaxseq.common.errors import UsageError
from jaxseq.data import calendar
from jaxseq.data.categories import Categories, Texts, encode
from jaxseq.data.frequency import Frequency, continue_
from jaxseq.data.windows import Series


class Plan(NamedTuple):
    """Future-known covariates of the rows after the end of a series, by its number in a panel.

    series  its rows up to the end
    end     last row of the plan, for messages
    """

    number: int
    series: Series
    future: Float[np.ndarray, "k f"]
    end: str


class Known(NamedTuple):
    """Covariates that are known ahead of the values of a panel's series, in the order of their columns.

    calendar  entries of `calendar`
    future    columns of a table that are known as far as it has rows
    static    columns of a table that are the same in all rows of a series
    columns   of each series, for its rows and those beyond its end of which they are known; empty where there are none
    ends      last row of each series that has them, for messages; empty without `future`
    """

    calendar: tuple[str, ...] = ()
    future: tuple[str, ...] = ()
    static: tuple[str, ...] = ()
    columns: tuple[Float[np.ndarray, "_ s"], ...] = ()
    ends: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """Number of columns."""
        if not self.columns:
            return 0
        return self.columns[0].shape[1]

    def labels(self, series: Series, frequency: Frequency) -> tuple[str, ...]:
        """Return the name of the covariate that each column is of; an entry of the calendar may have several."""
        names = []
        for entry in self.calendar:
            names += [entry] * calendar.columns([entry], series.times[:1], frequency).shape[1]
        return (*names, *self.future, *self.static)

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks on the covariates, a sentence each."""
        notes = []
        if self.calendar:
            notes.append(f"calendar of each row, also of those that are forecast: {', '.join(self.calendar)}")
        if self.future:
            notes.append(
                f"known ahead: {', '.join(self.future)}; validation and test read their true values of the rows that are "
                "forecast, which plans for these rows may have missed"
            )
        if self.static:
            notes.append(f"static, one value in each series: {', '.join(self.static)}")
        return tuple(notes)

    def select(self, numbers: Sequence[int]) -> Known:
        """Return the covariates of some of the series, in the order of `numbers`."""
        if not self.columns:
            return self
        ends = tuple(self.ends[number] for number in numbers) if self.ends else ()
        return self._replace(columns=tuple(self.columns[number] for number in numbers), ends=ends)

    @property
    def of_table(self) -> tuple[str, ...]:
        """Names of the columns of the table, which come after those of the calendar."""
        return (*self.future, *self.static)

    def column(self, name: str, number: int) -> Float[np.ndarray, "_"]:
        """Return a column of the table of one series."""
        first = self.width - len(self.of_table)
        return self.columns[number][:, first + self.of_table.index(name)]

    def encoded(self, texts: Sequence[Texts], learnt: Categories) -> tuple[Known, tuple[str, ...]]:
        """Return the covariates with a column for each text that was learnt, and notes on those that were not.

        Raises `UsageError` as `categories.encode`.
        """
        # The calendar has numbers alone.
        first = self.width - len(self.of_table)
        of_table = [columns[:, first:] for columns in self.columns]
        encoded = encode(self.of_table, of_table, texts, learnt)

        columns = []
        for before, after in zip(self.columns, encoded.rows, strict=True):
            columns.append(np.concatenate([before[:, :first], after], axis=1))
        # Columns of one text after the other stand where that of the texts stood.
        future = int(np.count_nonzero(encoded.sources < len(self.future)))
        covariates = self._replace(
            future=encoded.names[:future],
            static=encoded.names[future:],
            columns=tuple(columns),
        )
        return covariates, encoded.notes

    def until(self, number: int, count: int) -> int:
        """Return how many of the first `count` rows of a series have their covariates known."""
        # The calendar and what is static go on by themselves.
        if not self.future:
            return count
        return min(count, len(self.columns[number]))

    def rows(self, number: int, series: Series, frequency: Frequency, count: int) -> Float[np.ndarray, "_ s"]:
        """Return the covariates of the first `count` rows of a series, of which the last ones may lie beyond its end.

        Raises `UsageError`, which names the last row that has them, where columns of the table have no row.
        """
        if not self.columns:
            return np.zeros((count, 0))
        columns = self.columns[number]
        if count <= len(columns):
            return columns[:count]

        # The rows that the file has beyond the end come first, of which everything is there already.
        steps = count - len(series.times)
        times = continue_(series.times[-1], frequency, steps)[len(columns) - count :]
        if self.future:
            raise UsageError(
                f"the last row with {', '.join(self.future)}, which the forecast needs of {times[0]} to {times[-1]}",
                where=self.ends[number],
                needed="a row for each of these times, with an empty cell of the value",
            )
        return np.concatenate([columns, self._beyond(number, times, frequency, np.zeros((len(times), 0)))])

    def extended(self, frequency: Frequency, plans: Sequence[Plan]) -> Known:
        """Return the covariates with those of rows after the end of some of the series, one plan for each."""
        # One list for all series: a tuple for each of many would be copied as often.
        columns = list(self.columns)
        ends = list(self.ends)
        for plan in plans:
            rows = len(plan.series.times)
            times = continue_(plan.series.times[-1], frequency, len(plan.future))
            beyond = self._beyond(plan.number, times, frequency, plan.future)
            columns[plan.number] = np.concatenate([columns[plan.number][:rows], beyond])
            ends[plan.number] = plan.end
        return self._replace(columns=tuple(columns), ends=tuple(ends))

    def _beyond(
        self,
        number: int,
        times: Shaped[np.ndarray, "k"],
        frequency: Frequency,
        future: Float[np.ndarray, "k f"],
    ) -> Float[np.ndarray, "k s"]:
        """Return the columns of rows beyond those that are known, with their future-known covariates."""
        static = self.columns[number][-1:, self.width - len(self.static) :]
        of_dates = calendar.columns(self.calendar, times, frequency)
        return np.concatenate([of_dates, future, np.repeat(static, len(times), axis=0)], axis=1)


NOTHING_KNOWN = Known()
"""No covariates that are known ahead."""


def names(text: str) -> tuple[str, ...]:
    """Return the names of an option, which are separated by commas."""
    parts = (name.strip() for name in text.split(","))
    return tuple(name for name in parts if name)
