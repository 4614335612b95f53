"""Remarks on a panel: how it is split, what is missing, and which covariates are its values, shifted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxseq.common.text import counted
from jaxseq.data import leaks
from jaxseq.data.folds import Fold
from jaxseq.data.panel import Panel
from jaxseq.data.targets import Target
from jaxseq.data.uncut import WindowSplits
from jaxseq.data.windows import called


def split_notes(
    panel: Panel,
    rows: Sequence[Fold],
    windows: WindowSplits,
) -> tuple[str, ...]:
    """Say how the rows are split and which test windows are judged, where that is not the default."""
    notes = []
    # Empty for the default.
    words = panel.split.words
    if panel.split.is_dated:
        # Series may end at different times.
        sizes = [parts.test[1] - parts.test[0] for parts in rows]
        size = f"{min(sizes):,} to {max(sizes):,}"
        if min(sizes) == max(sizes):
            size = f"{min(sizes):,}"
        words = f"{words} ({size} test rows)"
    if words:
        notes.append(words)
    if panel.split.stride > 1:
        count = counted(len(windows.test.targets), "window")
        notes.append(f"one of every {panel.split.stride} windows of the test part is judged, {count}")
    return tuple(notes)


def season_notes(panel: Panel, rows: Sequence[Fold], target: Target) -> tuple[str, ...]:
    """Say that a season does not fit twice into the training rows, and what a seasonal target takes in its place."""
    period = panel.frequency.period
    ends = [parts.train[1] for parts in rows]
    shortest = min(ends)
    if 2 * period <= shortest or period == 1:
        return ()
    name = called(panel.names[ends.index(shortest)])
    note = (
        f"{name}: a season of {period} time steps does not fit twice into {shortest} training rows: no seasonal naive "
        "forecast"
    )
    if target.earlier.lag > 1:
        return (note, target.words)
    return (note,)


def leak_notes(panel: Panel, rows: Sequence[Fold], horizon: int) -> tuple[str, ...]:
    """Name the covariates of the table that are nearly its values, shifted, in the training rows."""
    lasts = [parts.train[1] for parts in rows]
    values = [panel.known_values(number)[:last] for number, last in enumerate(lasts)]
    beside = []
    for column, name in enumerate(panel.past):
        of_series = [of_all[:last, column] for of_all, last in zip(panel.covariates, lasts, strict=True)]
        beside.append(leaks.Beside(name, of_series, least=1))
    # Columns of the table come after those of the calendar, and before what is static.
    first = panel.known.width - len(panel.known.static) - len(panel.known.future)
    for column, name in enumerate(panel.known.future, first):
        of_series = [of_all[:last, column] for of_all, last in zip(panel.known.columns, lasts, strict=True)]
        beside.append(leaks.Beside(name, of_series, least=0))
    return leaks.notes(values, beside, horizon)


def missing_notes(
    panel: Panel,
    rows: Sequence[Fold],
    windows: WindowSplits,
) -> tuple[str, ...]:
    """Count the missing values and the targets without weight of each part; no note if nothing is missing."""
    if not panel.missing:
        return ()

    values = []
    targets = []
    for name, part in zip(("training", "validation", "test"), WindowSplits._fields, strict=True):
        bounds = [getattr(parts, part) for parts in rows]
        missing = [of_series[slice(*ends)] for of_series, ends in zip(panel.missing, bounds, strict=True)]
        missing_values = sum(int(of_series[:, 0].sum()) for of_series in missing)
        values.append(f"{missing_values:,} of {sum(map(len, missing)):,} in {name}")

        # Windows without a known target were left out before, so their targets are counted by what fits into the rows.
        kept = getattr(windows, part).targets
        window = windows.test.steps
        horizon = kept.shape[1]
        stride = panel.split.stride if part == "test" else 1
        all_windows = sum(-(-(last - max(first, window) - horizon + 1) // stride) for first, last in bounds)
        without_weight = all_windows * horizon - int(np.isfinite(kept).sum())
        targets.append(f"{without_weight:,} of {all_windows * horizon:,} in {name}")
    return (
        f"missing values: {', '.join(values)}",
        f"targets without weight, because they are missing: {', '.join(targets)}",
    )
