"""From a panel to a data set: the parts of each series, what the options leave open, and the scaling."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from jaxseq.common.errors import UsageError
from jaxseq.data.categories import Categories, learn
from jaxseq.data.dataset import Background, Dataset
from jaxseq.data.fitting import check_reach, fit_scaling
from jaxseq.data.folds import Fold, folds
from jaxseq.data.panel import Panel
from jaxseq.data.panel_notes import leak_notes, missing_notes, season_notes, split_notes
from jaxseq.data.parts import part_windows
from jaxseq.data.scaling import Scaling
from jaxseq.data.targets import AUTO, Options, Target
from jaxseq.data.windows import Series, called, summarise_failures
from jaxseq.data.zeros import check_zeros, zero_notes


def load(
    panel: Panel,
    target: Options | str,
    window: int,
    horizon: int,
    count: int = 1,
    fold: int = 1,
    *,
    stateful: bool = False,
) -> Dataset:
    """Load a panel as `Panel.load` does; raises as it does."""
    if isinstance(target, str):
        target = Options(target)
    if panel.drops:
        usable = _usable(panel, target, window, horizon, count)
        return usable.load(target, window, horizon, count, fold, stateful=stateful)

    # Before anything is fitted to them.
    check_zeros(panel)
    rows = _split(panel, window, horizon, count, fold)
    if panel.texts:
        encoded = panel.encoded(_learn(panel, rows))
        return encoded.load(target, window, horizon, count, fold, stateful=stateful)
    windows = part_windows(panel, rows, window, horizon, stateful)
    chosen = _choose(panel, target, rows, window, horizon)
    notes = [*panel.notes, *zero_notes(panel), *split_notes(panel, rows, windows)]
    notes += [*missing_notes(panel, rows, windows), *leak_notes(panel, rows, horizon)]
    notes += season_notes(panel, rows, chosen)
    # The pair of seasons and the share are chosen by the rows, whatever is asked for.
    if target.kind in (AUTO, "seasons") and chosen.words not in notes:
        notes.append(chosen.words)
    return Dataset(
        windows=windows,
        scaling=_scaling(panel, chosen, rows),
        background=Background(
            names=panel.names,
            period=panel.frequency.period,
            series=panel.series,
            # Training takes a series from its first row on, in every fold.
            training_rows=tuple(parts.train[1] for parts in rows),
            missing=tuple(missing[:, 0] for missing in panel.missing),
            floor=panel.floor,
            notes=tuple(notes),
            whole_series=panel.whole_series() if stateful else (),
            test_stride=panel.split.stride,
            keys=panel.keys,
        ),
    )


def _usable(
    panel: Panel,
    target: Options,
    window: int,
    horizon: int,
    count: int,
) -> Panel:
    """Return the panel of the series that can be split and scaled, in every fold.

    The first fold decides: its training rows are part of those of all others, so that all have the same series.
    """
    failures = {}
    splits = {}
    for number in range(len(panel.names)):
        try:
            alone = _alone(panel, number)
            check_zeros(alone)
            splits[number] = _split(alone, window, horizon, count, fold=1)
        except UsageError as error:
            failures[number] = error

    if splits:
        # One target for all series, so that they are tried with the one that they will have.
        rows = [parts for (parts,) in splits.values()]
        chosen = _choose(panel.select(list(splits)), target, rows, window, horizon)
        for number, parts in splits.items():
            try:
                _scaling(_alone(panel, number), chosen, parts)
            except UsageError as error:
                failures[number] = error
    return panel.without({panel.names[number]: failures[number] for number in sorted(failures)})


def _alone(panel: Panel, number: int) -> Panel:
    """Return the panel of one series, whose messages do not open with the file: the note on all of them does."""
    return dataclasses.replace(panel.select([number]), source="")


def _choose(
    panel: Panel,
    target: Options,
    rows: Sequence[Fold],
    window: int,
    horizon: int,
) -> Target:
    """Choose what the target leaves open by the training rows."""
    training = [panel.known_values(number)[: parts.train[1]] for number, parts in enumerate(rows)]
    return target.choose(panel.frequency.period, training, window, horizon)


def _split(
    panel: Panel,
    window: int,
    horizon: int,
    count: int,
    fold: int,
) -> list[Fold]:
    """Return the rows of the three parts, for each series."""
    splits = []
    failures = []
    for name, series in zip(panel.names, panel.series, strict=True):
        try:
            starts = _starts(panel, name, series)
            parts = folds(len(series.values), count, window, horizon, starts=starts, source=called(name))
            splits.append(parts[fold - 1])
        except UsageError as error:
            size = f"{len(series.values)} rows"
            if panel.split.is_dated:
                size = f"{series.times[0]} to {series.times[-1]}"
            failures.append((f"{name} ({size})", error))

    if failures:
        fault = "too short"
        if panel.split.is_dated:
            fault = "without rows of all parts"
        rule = summarise_failures(fault, failures, len(panel.names))
        raise UsageError(f"{panel.opening}{rule}{panel.way_out}")
    return splits


def _starts(panel: Panel, name: str, series: Series) -> tuple[int, int]:
    """Return the first rows of validation and test of one series. Raises `UsageError`, which opens with its name."""
    try:
        return panel.split.first_rows(series.times)
    except UsageError as error:
        raise UsageError(f"{called(name)}: {error}") from error


def _scaling(
    panel: Panel,
    target: Target,
    rows: Sequence[Fold],
) -> Scaling:
    """Fit the scaling to the known values of the training rows."""
    training = []
    covariates = []
    masks = set()
    for number, parts in enumerate(rows):
        last = parts.train[1]
        training.append(panel.known_values(number)[:last])

        # A panel without covariates has an empty tuple, not an empty array for each series.
        others = np.zeros((last, 0))
        if panel.covariates:
            others = panel.covariates[number][:last]
        if panel.missing:
            missing = panel.missing[number][:last]
            others = np.where(missing[:, 1:], np.nan, others)
            masks.update(np.flatnonzero(missing.any(axis=0)).tolist())
        covariates.append(np.concatenate([others, panel.known_ahead(number, last)], axis=1))

    try:
        scaling = fit_scaling(target.kind, training, panel.names, covariates, **target.options)
        check_reach(scaling, panel.series, panel.names)
    except UsageError as error:
        raise UsageError(f"{panel.opening}{error}{panel.way_out}") from error
    # A mask that is 0 in all training rows would enter the network with weights that were never trained.
    return dataclasses.replace(
        scaling,
        masks=tuple(sorted(masks)),
        category_columns=panel.categories.columns,
        category_texts=panel.categories.texts,
        category_shares=panel.categories.shares,
    )


def _learn(panel: Panel, rows: Sequence[Fold]) -> Categories:
    """Return the texts of the covariates in the training rows."""
    columns = []
    for column in panel.texts:
        numbers = []
        for number, parts in enumerate(rows):
            last = parts.train[1]
            numbers.append(_places(panel, column.name, number)[:last])
        columns.append((column, np.concatenate(numbers)))
    return learn(columns, panel.source or "covariates")


def _places(panel: Panel, name: str, number: int) -> Float[np.ndarray, "_"]:
    """Return a covariate with texts of one series as their places, NaN where one was missing."""
    if name not in panel.past:
        return panel.known.column(name, number)

    place = panel.past.index(name)
    of_series = panel.covariates[number][:, place]
    # What is filled in is an input, but teaches nothing.
    if panel.missing:
        of_series = np.where(panel.missing[number][:, 1 + place], np.nan, of_series)
    return of_series
