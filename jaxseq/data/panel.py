"""Panels: one series or many in chronological order, split into training, validation and test, and cut into windows."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, TypedDict

import numpy as np
from jaxtyping import Bool, Float

from jaxseq.common import checks
from jaxseq.common.errors import UsageError
from jaxseq.common.text import counted
from jaxseq.data import leaks
from jaxseq.data.categories import NO_CATEGORIES, Categories, Texts, encode, learn
from jaxseq.data.covariates import NOTHING_KNOWN, Known
from jaxseq.data.dataset import Background, Dataset
from jaxseq.data.folds import Fold, folds
from jaxseq.data.frequency import Frequency
from jaxseq.data.keys import NO_KEYS, Keys
from jaxseq.data.powers import PowerName
from jaxseq.data.scaling import Scaling, check_reach, fit_scaling
from jaxseq.data.split import SHARES, Split
from jaxseq.data.targets import AUTO, Options, ScaleChoice, Target, TargetChoice
from jaxseq.data.uncut import SeriesRows, TrainingWindows, WindowSplits, cut_or_not, join_series, windows_of
from jaxseq.data.windows import (
    Series,
    Windows,
    called,
    check_memory,
    cut,
    every_window,
    join,
    last_window,
    mark_missing,
    summarise_failures,
    with_known,
    with_known_targets,
)

CHECKED_AT_ONCE = 2**16
"""Windows of a part that are read together where one of them may decide."""
FEWEST_ZEROS = 10
"""Zeros at the beginning of a series from which on it may be one that began later."""


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
        if isinstance(target, str):
            target = Options(target)
        if self.drops:
            usable = self._usable(target, window, horizon, count)
            return usable.load(target, window, horizon, count, fold, stateful=stateful)

        self._check_zeros()
        rows = self._split(window, horizon, count, fold)
        if self.texts:
            encoded = self.encoded(self._learn(rows))
            return encoded.load(target, window, horizon, count, fold, stateful=stateful)
        windows = self._windows(rows, window, horizon, stateful)
        chosen = self._choose(target, rows, window, horizon)
        notes = [*self.notes, *self._zero_notes(), *self._split_notes(rows, windows)]
        notes += [*self._missing_notes(rows, windows), *self._leak_notes(rows, horizon)]
        if target.kind == AUTO:
            notes.append(chosen.words)
        return Dataset(
            windows=windows,
            scaling=self._scaling(chosen, rows),
            background=Background(
                names=self.names,
                period=self.frequency.period,
                series=self.series,
                # Training takes a series from its first row on, in every fold.
                training_rows=tuple(parts.train[1] for parts in rows),
                missing=tuple(missing[:, 0] for missing in self.missing),
                floor=self.floor,
                notes=tuple(notes),
                whole_series=self.whole_series() if stateful else (),
                test_stride=self.split.stride,
                keys=self.keys,
            ),
        )

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
            raise UsageError(f"{self._opening}{error}") from error

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

    def _learn(self, rows: Sequence[Fold]) -> Categories:
        """Return the texts of the covariates in the training rows."""
        columns = []
        for column in self.texts:
            numbers = []
            for number, parts in enumerate(rows):
                last = parts.train[1]
                numbers.append(self._places(column.name, number)[:last])
            columns.append((column, np.concatenate(numbers)))
        return learn(columns, self.source or "covariates")

    def _places(self, name: str, number: int) -> Float[np.ndarray, "_"]:
        """Return a covariate with texts of one series as their places, NaN where one was missing."""
        if name not in self.past:
            return self.known.column(name, number)

        place = self.past.index(name)
        of_series = self.covariates[number][:, place]
        # What is filled in is an input, but teaches nothing.
        if self.missing:
            of_series = np.where(self.missing[number][:, 1 + place], np.nan, of_series)
        return of_series

    def _usable(self, target: Options, window: int, horizon: int, count: int) -> Panel:
        """Return the panel of the series that can be split and scaled, in every fold.

        The first fold decides: its training rows are part of those of all others, so that all have the same series.
        """
        failures = {}
        splits = {}
        for number in range(len(self.names)):
            try:
                alone = self._alone(number)
                alone._check_zeros()
                splits[number] = alone._split(window, horizon, count, fold=1)
            except UsageError as error:
                failures[number] = error

        if splits:
            # One target for all series, so that they are tried with the one that they will have.
            rows = [parts for (parts,) in splits.values()]
            chosen = self.select(list(splits))._choose(target, rows, window, horizon)
            for number, parts in splits.items():
                try:
                    self._alone(number)._scaling(chosen, parts)
                except UsageError as error:
                    failures[number] = error
        return self.without({self.names[number]: failures[number] for number in sorted(failures)})

    def _alone(self, number: int) -> Panel:
        """Return the panel of one series, whose messages do not open with the file: the note on all of them does."""
        return dataclasses.replace(self.select([number]), source="")

    def _choose(self, target: Options, rows: Sequence[Fold], window: int, horizon: int) -> Target:
        """Choose what the target leaves open by the training rows."""
        training = [self.known_values(number)[: parts.train[1]] for number, parts in enumerate(rows)]
        return target.choose(self.frequency.period, training, window, horizon)

    def without(self, failures: Mapping[str, UsageError]) -> Panel:
        """Return the panel without the series that failed, by name, and with a note on them; it drops no more.

        Raises `UsageError` where no series is left.
        """
        rest = [number for number, name in enumerate(self.names) if name not in failures]
        if not failures:
            return dataclasses.replace(self, drops=False)
        if not rest:
            raise UsageError(self._opening + summarise_failures("unusable", list(failures.items()), len(self.names)))

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
            known = self._known_ahead(number, len(series.values) + horizon)
            last = last._replace(known=known[None, -window - horizon :])
            if self.missing:
                last = mark_missing(last, self.missing[number])
            windows.append(last)
        return join(windows)

    def all_windows(self, window: int, horizon: int) -> TrainingWindows:
        """Return every window of every series with its targets, those without a known target left out.

        Raises `UsageError` for a series that is too short for one.
        """
        bounds = [(0, len(series.values)) for series in self.series]
        return cut_or_not(windows_of(self._joined(), bounds, steps=window, horizon=horizon))

    def _joined(self) -> SeriesRows:
        """Lay the rows of all series one after the other."""
        ahead = []
        if self.known.width:
            ahead = [self._known_ahead(number, len(series.values)) for number, series in enumerate(self.series)]
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
        windows = with_known(windows, self._known_ahead(number, rows))
        if self.missing:
            windows = mark_missing(windows, self.missing[number])
        return windows

    def _known_ahead(self, number: int, rows: int) -> Float[np.ndarray, "_ s"]:
        """Return the covariates that are known ahead of the first `rows` rows of a series, or of as many and later ones."""
        return self.known.rows(number, self.series[number], self.frequency, rows)

    @property
    def _opening(self) -> str:
        return f"{self.source}: " if self.source else ""

    @property
    def way_out(self) -> str:
        """End of a message about some of the series; nothing where there is no other series."""
        if len(self.names) == 1:
            return ""
        return "; --data.unusable drop leaves such series out"

    def _check_zeros(self) -> None:
        """Raise `UsageError` for series of which every known value is 0."""
        failures = []
        for number, name in enumerate(self.names):
            values = self.known_values(number)
            if not np.any(np.nan_to_num(values)):
                rule = f"all {len(values):,} values are 0: nothing can be learnt"
                failures.append((name, UsageError(f"{called(name)}: {rule}")))
        if failures:
            raise UsageError(
                f"{self._opening}{summarise_failures('0 throughout', failures, len(self.names))}{self.way_out}"
            )

    def _zero_notes(self) -> tuple[str, ...]:
        """Name the series that begin with zeros as if they began later; no note if there is none."""
        zeros = {}
        for number, name in enumerate(self.names):
            leading = leading_zeros(self.known_values(number))
            if leading:
                zeros[name] = leading
        if not zeros:
            return ()

        listed = ", ".join(f"{called(name)} ({leading:,} zeros)" for name, leading in list(zeros.items())[:5])
        if len(zeros) > 5:
            listed = f"{listed}, …"
        subject = f"{len(zeros):,} of {len(self.names):,} series may begin later than the data, with zeros before"
        return (f"{subject}: {listed}; the network learns from these rows unless you leave them out",)

    def _split(self, window: int, horizon: int, count: int, fold: int) -> list[Fold]:
        """Return the rows of the three parts, for each series."""
        splits = []
        failures = []
        for name, series in zip(self.names, self.series, strict=True):
            try:
                splits.append(self._folds(name, series, window, horizon, count)[fold - 1])
            except UsageError as error:
                size = f"{len(series.values)} rows"
                if self.split.is_dated:
                    size = f"{series.times[0]} to {series.times[-1]}"
                failures.append((f"{name} ({size})", error))

        if failures:
            fault = "too short"
            if self.split.is_dated:
                fault = "without rows of all parts"
            rule = summarise_failures(fault, failures, len(self.names))
            raise UsageError(f"{self._opening}{rule}{self.way_out}")
        return splits

    def _folds(self, name: str, series: Series, window: int, horizon: int, count: int) -> tuple[Fold, ...]:
        """Return the folds of one series. Raises `UsageError`, which opens with its name."""
        try:
            starts = self.split.first_rows(series.times)
        except UsageError as error:
            raise UsageError(f"{called(name)}: {error}") from error
        return folds(len(series.values), count, window, horizon, starts=starts, source=called(name))

    def _windows(
        self,
        rows: Sequence[Fold],
        window: int,
        horizon: int,
        stateful: bool,
    ) -> WindowSplits:
        count = sum(max(0, len(series.values) - window) for series in self.series)
        columns = 1
        if self.covariates:
            columns += self.covariates[0].shape[1]
        columns += self.known.width
        # Those of one long series stay views of it; a selection, as where values are missing, makes copies.
        as_views = stateful and len(self.series) == 1
        if not as_views or self.missing:
            check_memory(count, window + horizon, columns=columns, where="--data.window")

        if as_views:
            views = [self._views(part, rows[0], window, horizon) for part in WindowSplits._fields]
            splits = WindowSplits(*views)
        else:
            joined = self._joined()
            bounds = {part: [getattr(parts, part) for parts in rows] for part in WindowSplits._fields}
            of_part = partial(windows_of, joined, steps=window, horizon=horizon)
            splits = WindowSplits(
                train=cut_or_not(of_part(bounds["train"])),
                valid=of_part(bounds["valid"]).take(slice(None)),
                test=of_part(bounds["test"], stride=self.split.stride).take(slice(None)),
            )

        # In this order: a part without a target would pass for one that does not move.
        self._check_targets(splits)
        self._check_moves(splits)
        return splits

    def _views(self, part: str, parts: Fold, window: int, horizon: int) -> Windows:
        """Return the windows of one part of a single series as views of it."""
        first, last = getattr(parts, part)
        covariates = self.covariates[0] if self.covariates else None
        windows = cut(self.series[0], window, horizon, first, last, covariates=covariates)
        windows = with_known(windows, self._known_ahead(0, last))
        if part == "test":
            windows = every_window(windows, self.split.stride)
        if self.missing:
            windows = with_known_targets(mark_missing(windows, self.missing[0]))
        return windows

    def _check_targets(self, parts: Sequence[TrainingWindows]) -> None:
        """Raise `UsageError` for a part in which every target is missing."""
        for name, part in zip(("training", "validation", "test"), parts, strict=True):
            if not len(part.origins):
                raise UsageError(f"{self._opening}all targets of the {name} part are missing: it has no window")

    def _check_moves(self, parts: Sequence[TrainingWindows]) -> None:
        """Raise `UsageError` if the last value is exact in all parts, or in the whole test part."""
        still = [_repeats_last_value(part) for part in parts]
        if all(still):
            value = parts[0].take(slice(1)).inputs[0, -1]
            raise UsageError(
                f"{self._opening}no target moves from the last value of its window ({value:g} in the first): nothing can "
                "be learnt"
            )
        if still[-1]:
            raise UsageError(
                f"{self._opening}none of the {len(parts[-1].targets)} test windows moves from its last value: the naive "
                "forecast is exact, and no other can be compared with it; leave out the constant rows at the end"
            )

    def _scaling(self, target: Target, rows: Sequence[Fold]) -> Scaling:
        """Fit the scaling to the known values of the training rows."""
        training = []
        covariates = []
        masks = set()
        for number, parts in enumerate(rows):
            last = parts.train[1]
            training.append(self.known_values(number)[:last])

            # A panel without covariates has an empty tuple, not an empty array for each series.
            others = np.zeros((last, 0))
            if self.covariates:
                others = self.covariates[number][:last]
            if self.missing:
                missing = self.missing[number][:last]
                others = np.where(missing[:, 1:], np.nan, others)
                masks.update(np.flatnonzero(missing.any(axis=0)).tolist())
            covariates.append(np.concatenate([others, self._known_ahead(number, last)], axis=1))

        try:
            scaling = fit_scaling(target.kind, training, self.names, covariates, **target.options)
            check_reach(scaling, self.series, self.names)
        except UsageError as error:
            raise UsageError(f"{self._opening}{error}{self.way_out}") from error
        # A mask that is 0 in all training rows would enter the network with weights that were never trained.
        return dataclasses.replace(
            scaling,
            masks=tuple(sorted(masks)),
            category_columns=self.categories.columns,
            category_texts=self.categories.texts,
            category_shares=self.categories.shares,
        )

    def _split_notes(self, rows: Sequence[Fold], windows: WindowSplits) -> tuple[str, ...]:
        """Say how the rows are split and which test windows are judged, where that is not the default."""
        notes = []
        words = self.split.words
        if self.split.is_dated:
            # Series may end at different times.
            sizes = [parts.test[1] - parts.test[0] for parts in rows]
            size = f"{min(sizes):,} to {max(sizes):,}"
            if min(sizes) == max(sizes):
                size = f"{min(sizes):,}"
            words = f"{words} ({size} test rows)"
        if words:
            notes.append(words)
        if self.split.stride > 1:
            count = counted(len(windows.test.targets), "window")
            notes.append(f"one of every {self.split.stride} windows of the test part is judged, {count}")
        return tuple(notes)

    def _leak_notes(self, rows: Sequence[Fold], horizon: int) -> tuple[str, ...]:
        """Name the covariates of the table that are nearly its values, shifted, in the training rows."""
        lasts = [parts.train[1] for parts in rows]
        values = [self.known_values(number)[:last] for number, last in enumerate(lasts)]
        beside = []
        for column, name in enumerate(self.past):
            of_series = [of_all[:last, column] for of_all, last in zip(self.covariates, lasts, strict=True)]
            beside.append(leaks.Beside(name, of_series, least=1))
        # Columns of the table come after those of the calendar, and before what is static.
        first = self.known.width - len(self.known.static) - len(self.known.future)
        for column, name in enumerate(self.known.future, first):
            of_series = [of_all[:last, column] for of_all, last in zip(self.known.columns, lasts, strict=True)]
            beside.append(leaks.Beside(name, of_series, least=0))
        return leaks.notes(values, beside, horizon)

    def _missing_notes(self, rows: Sequence[Fold], windows: WindowSplits) -> tuple[str, ...]:
        """Count the missing values and the targets without weight of each part; no note if nothing is missing."""
        if not self.missing:
            return ()

        values = []
        targets = []
        for name, part in zip(("training", "validation", "test"), WindowSplits._fields, strict=True):
            bounds = [getattr(parts, part) for parts in rows]
            missing = [of_series[slice(*ends)] for of_series, ends in zip(self.missing, bounds, strict=True)]
            missing_values = sum(int(of_series[:, 0].sum()) for of_series in missing)
            values.append(f"{missing_values:,} of {sum(map(len, missing)):,} in {name}")

            # Windows without a known target were left out before, so their targets are counted by what fits into the rows.
            kept = getattr(windows, part).targets
            window = windows.test.inputs.shape[1]
            horizon = kept.shape[1]
            stride = self.split.stride if part == "test" else 1
            all_windows = sum(-(-(last - max(first, window) - horizon + 1) // stride) for first, last in bounds)
            without_weight = all_windows * horizon - int(np.isfinite(kept).sum())
            targets.append(f"{without_weight:,} of {all_windows * horizon:,} in {name}")
        return (
            f"missing values: {', '.join(values)}",
            f"targets without weight, because they are missing: {', '.join(targets)}",
        )


def leading_zeros(values: Float[np.ndarray, "_"]) -> int:
    """Return the zeros that a series begins with; 0 where they are few, or where it has such stretches later as well.

    Few are less than `FEWEST_ZEROS`, and a later stretch is one that is more than half as long.
    """
    # A missing value among the zeros ends no stretch.
    others = np.flatnonzero(np.nan_to_num(values))
    if not len(others) or others[0] < FEWEST_ZEROS:
        return 0
    ends = np.append(others, len(values))
    longest_later = int(np.diff(ends).max()) - 1
    if 2 * longest_later > others[0]:
        return 0
    return int(others[0])


def _repeats_last_value(part: TrainingWindows) -> bool:
    """Return whether every known target is the last value of its window."""
    # As a rule the first piece decides.
    for piece in part.pieces(CHECKED_AT_ONCE):
        is_same = piece.targets == piece.inputs[:, -1:]
        if not np.all(is_same | np.isnan(piece.targets)):
            return False
    return True


def check_fold(source: str, count: int, fold: int) -> None:
    """Raise `UsageError` unless `fold` is one of `count`."""
    checks.count(1, where=source, folds=count, fold=fold)
    if fold > count:
        raise UsageError(f"{source}: fold is {fold}; there are {count}")


class PanelFields(TypedDict, total=False):
    """The fields of `PanelData`, for functions that take them as keywords: type checkers then know them."""

    window: int
    target: TargetChoice
    scale: ScaleChoice
    transform: PowerName
    scale_input: bool
    folds: int
    fold: int
    stateful: bool
    test_rows: int | None
    valid_rows: int | None
    test_from: str | None
    valid_from: str | None
    test_stride: int


@dataclass(frozen=True)
class PanelData(ABC):
    """Base of the data sets that are read as a `Panel`, and can be forecast beyond their end."""

    window: int = 50
    """Time steps of the model's input."""
    target: TargetChoice = "change"
    """Values the model sees and forecasts: change from the last value or a season ago, log-return, level, count, amount."""
    scale: ScaleChoice = "auto"
    """Scale: the training rows of a series (series), each window by itself (window; auto takes it for season), or a
    window's mean, median deviation or last value."""
    transform: PowerName = "none"
    """Transform of values above 0 before all else: none, log, or box-cox with an exponent fitted to each series."""
    scale_input: bool = False
    """Let the network read the scale of each window, relative to that of its series."""
    folds: int = 1
    """Folds of a backtest over the rows of the test part; --backtest trains all of them."""
    fold: int = 1
    """Fold to train and test, from 1; training takes the rows before its test block."""
    stateful: bool = False
    """Read one long series in consecutive windows, and carry the state from each into the next; --task every-step."""
    test_rows: int | None = None
    """Rows at the end of each series for the test; None takes the latest 15 % of its rows."""
    valid_rows: int | None = None
    """Rows before those for validation; None takes as many."""
    test_from: str | None = None
    """First date of the test part in every series, in place of a number of rows: 2023-01-01."""
    valid_from: str | None = None
    """First date of the validation part; None takes as many rows as the test part of the series has."""
    test_stride: int = 1
    """Judge every so many windows of the test part: 24 for one forecast a day of hourly rows."""

    unit: ClassVar[str] = ""
    """Unit of the values; empty where it is not known."""

    def __post_init__(self) -> None:
        """Raise `UsageError` for an invalid field."""
        checks.count(2, where=self.name, window=self.window)
        self._target.check(self.name)
        check_fold(self.name, self.folds, self.fold)
        self.split.check()

    @property
    def _target(self) -> Options:
        """The target as it is asked for."""
        return Options(self.target, self.scale, self.transform, self.scale_input)

    @property
    def split(self) -> Split:
        """The rule for the parts of each series."""
        return Split(
            test_rows=self.test_rows,
            valid_rows=self.valid_rows,
            test_from=self.test_from,
            valid_from=self.valid_from,
            stride=self.test_stride,
        )

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of the data set, for titles and messages."""

    @property
    def masks_targets(self) -> bool:
        """Whether targets may be NaN, not known; those have no weight in training."""
        return False

    @property
    def knows_ahead(self) -> bool:
        """Whether there are covariates that are known ahead."""
        return False

    @abstractmethod
    def panel(self) -> Panel:
        """Read the series. Raises `UsageError` where they cannot be used."""

    def load(self, horizon: int) -> Dataset:
        """Read the series and cut them into windows with `horizon` targets each.

        Raises `UsageError` for series that cannot be read, split or scaled.
        """
        # Before the file is read, which may take a while.
        self.split.check_horizon(horizon, self.folds)
        panel = dataclasses.replace(self.panel(), split=self.split)
        return panel.load(self._target, self.window, horizon, self.folds, self.fold, stateful=self.stateful)
