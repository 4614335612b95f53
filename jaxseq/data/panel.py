"""Panels: one series or many in chronological order, split into training, validation and test, and cut into windows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from jaxseq.common.errors import UsageError
from jaxseq.data.categories import NO_CATEGORIES, Categories, Texts, encode
from jaxseq.data.covariates import NOTHING_KNOWN, Known
from jaxseq.data.dataset import Dataset
from jaxseq.data.frequency import Frequency
from jaxseq.data.keys import NO_KEYS, Keys
from jaxseq.data.split import SHARES, Split
from jaxseq.data.targets import Options
from jaxseq.data.uncut import PartWindows, SeriesRows, cut_or_not, join_series, windows_of
from jaxseq.data.windows import (
    Series,
    Windows,
    called,
    cut,
    join,
    last_window,
    mark_missing,
    summarise_failures,
    with_known,
)


@dataclass(frozen=True)
class Panel:
    """One series or many, each split by itself: the latest rows are for the test, those before them for validation.

    names       of the series
    covariates  known up to each value, "n c"; an empty tuple where there are none
    known       covariates that are known ahead
    past        names of `covariates`; empty where nobody has named them
    keys        of the series, where several columns of a table name them
    texts       of the covariates that have some, until they are `encoded`
    categories  the texts by which they are encoded
    source      opens every message: the file; may be empty
    frequency   of the times of all series, with the time steps of a season
    notes       what the user should know about how the data were read
    missing     which values (column 0) and covariates were missing and are filled in; an empty tuple if none was
    floor       least value that the series can take; None where there is no bound
    drops       whether series that cannot be used are left out with a note, where an error would name them
    split       rule for the parts of each series
    """

    names: tuple[str, ...]
    series: tuple[Series, ...]
    frequency: Frequency
    covariates: tuple[Float[np.ndarray, "_ c"], ...] = ()
    notes: tuple[str, ...] = ()
    source: str = ""
    missing: tuple[Bool[np.ndarray, "_ m"], ...] = ()
    floor: float | None = None
    drops: bool = False
    split: Split = SHARES
    known: Known = NOTHING_KNOWN
    past: tuple[str, ...] = ()
    keys: Keys = NO_KEYS
    texts: tuple[Texts, ...] = ()
    categories: Categories = NO_CATEGORIES

    def load(
        self,
        target: Options | str,
        window: int,
        horizon: int,
        count: int = 1,
        fold: int = 1,
        *,
        stateful: bool = False,
    ) -> Dataset:
        """Split the series into the three parts of one of `count` folds, cut their windows and fit their scaling.

        What `target` leaves open is chosen by the training rows, and noted.

        With `stateful`, windows are views of a series without missing values, and its background has the series as a whole.

        Raises `UsageError`, which names the series, if a part is too short for a window, if the last value is exact in
        the whole test part (no forecast can be compared with it), and as `fit_scaling` and `check_reach` do.
        """
        # It loads this class.
        from jaxseq.data import loading

        return loading.load(self, target, window, horizon, count=count, fold=fold, stateful=stateful)

    def encoded(self, learnt: Categories) -> Panel:
        """Return the panel with a column for each text of its covariates that was learnt, in the place of their own.

        Raises `UsageError` for texts where the training had numbers, and the reverse.
        """
        if not self.texts and learnt == self.categories:
            return self
        try:
            past = encode(self.past, self.covariates, self.texts, learnt)
            ahead, ahead_notes = self.known.encoded(self.texts, learnt)
        except UsageError as error:
            raise UsageError(f"{self.opening}{error}") from error

        missing = []
        for of_all in self.missing:
            # A text that is filled in is so in all of its columns; the first column is that of the value.
            of_columns = of_all[:, 1:][:, past.sources]
            missing.append(np.concatenate([of_all[:, :1], of_columns], axis=1))
        return dataclasses.replace(
            self,
            covariates=past.rows,
            past=past.names,
            missing=tuple(missing),
            known=ahead,
            notes=(*self.notes, *past.notes, *ahead_notes),
            texts=(),
            categories=learnt,
        )

    def without(self, failures: Mapping[str, UsageError]) -> Panel:
        """Return the panel without the series that failed, by name, and with a note on them; it drops no more.

        Raises `UsageError` where no series is left.
        """
        rest = [number for number, name in enumerate(self.names) if name not in failures]
        if not failures:
            return dataclasses.replace(self, drops=False)
        if not rest:
            raise UsageError(self.opening + summarise_failures("unusable", list(failures.items()), len(self.names)))

        first = next(iter(failures))
        listed = ", ".join(called(name) for name in list(failures)[:5])
        if len(failures) > 5:
            listed = f"{listed}, …"
        note = (
            f"left out: {len(failures)} of {len(self.names)} series that cannot be used: {listed}; "
            f"the first: {failures[first]}"
        )
        return dataclasses.replace(self.select(rest), notes=(*self.notes, note), drops=False)

    def select(self, numbers: Sequence[int]) -> Panel:
        """Return the panel of some of its series, in the order of `numbers`."""

        def chosen(of_each: tuple) -> tuple:
            # Without covariates, or without missing values, there is an empty tuple.
            return tuple(of_each[number] for number in numbers) if of_each else ()

        return dataclasses.replace(
            self,
            names=chosen(self.names),
            series=chosen(self.series),
            covariates=chosen(self.covariates),
            missing=chosen(self.missing),
            known=self.known.select(numbers),
            keys=self.keys.select(numbers),
        )

    def known_values(self, number: int) -> Float[np.ndarray, "_"]:
        """Return the values of one series, NaN where they were missing."""
        values = self.series[number].values
        if not self.missing:
            return values
        # The filled values are inputs, but nothing may be fitted to them.
        return np.where(self.missing[number][:, 0], np.nan, values)

    def whole_series(self) -> tuple[Windows, ...]:
        """Return all rows of each series as a single window, with one unknown target."""
        windows = []
        for number, series in enumerate(self.series):
            window = self.select([number]).last_windows(len(series.values), 1)
            windows.append(window._replace(series=np.full(1, number)))
        return tuple(windows)

    def last_windows(self, window: int, horizon: int) -> Windows:
        """Return the window at the end of every series, with unknown targets.

        Raises `UsageError`, which names the series, if one is too short.
        """
        windows = []
        for number, series in enumerate(self.series):
            try:
                last = last_window(series, window, horizon)
            except UsageError as error:
                name = self.names[number]
                raise UsageError(f"{self.source or name}: {called(name)}: {error}{self.way_out}") from error

            last = last._replace(series=np.full(1, number))
            # A panel without covariates has an empty tuple; `last_window` makes their empty array.
            if self.covariates:
                last = last._replace(covariates=self.covariates[number][None, -window:])
            known = self.known_ahead(number, len(series.values) + horizon)
            last = last._replace(known=known[None, -window - horizon :])
            if self.missing:
                last = mark_missing(last, self.missing[number])
            windows.append(last)
        return join(windows)

    def all_windows(self, window: int, horizon: int) -> PartWindows:
        """Return every window of every series with its targets, those without a known target left out.

        Raises `UsageError` for a series that is too short for one.
        """
        bounds = [(0, len(series.values)) for series in self.series]
        return cut_or_not(windows_of(self.joined(), bounds, steps=window, horizon=horizon))

    def joined(self) -> SeriesRows:
        """Lay the rows of all series one after the other."""
        ahead = []
        if self.known.width:
            ahead = [self.known_ahead(number, len(series.values)) for number, series in enumerate(self.series)]
        return join_series(self.series, self.covariates, self.missing, ahead)

    def windows_from(self, number: int, first: int, window: int, horizon: int) -> Windows:
        """Return the windows of one series with origins from row `first` to its last row.

        Targets beyond the end of the series are unknown (NaN). Windows whose covariates are not known ahead are left out.
        """
        series = self.series[number]
        # The last row is the last origin: `horizon - 1` of its targets lie beyond the end.
        beyond = horizon - 1
        padded = Series(
            times=np.concatenate([series.times, np.repeat(series.times[-1:], beyond)]),
            values=np.concatenate([series.values, np.full(beyond, np.nan)]),
        )
        covariates = None
        if self.covariates:
            covariates = np.pad(self.covariates[number], ((0, beyond), (0, 0)))
        # A forecast needs what is known ahead of its whole horizon.
        rows = self.known.until(number, len(series.values) + beyond)
        windows = cut(padded, window, horizon, first, rows, number=number, covariates=covariates)
        windows = with_known(windows, self.known_ahead(number, rows))
        if self.missing:
            windows = mark_missing(windows, self.missing[number])
        return windows

    def known_ahead(self, number: int, rows: int) -> Float[np.ndarray, "_ s"]:
        """Return the covariates that are known ahead of the first `rows` rows of a series, or of as many and later ones."""
        return self.known.rows(number, self.series[number], self.frequency, rows)

    @property
    def opening(self) -> str:
        """Beginning of a message: the file, if there is one."""
        return f"{self.source}: " if self.source else ""

    @property
    def way_out(self) -> str:
        """End of a message about some of the series; nothing where there is no other series."""
        if len(self.names) == 1:
            return ""
        return "; --data.unusable drop leaves such series out"
