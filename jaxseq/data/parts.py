"""The windows of the three parts of a panel."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from jaxseq.common.errors import UsageError
from jaxseq.data.folds import Fold
from jaxseq.data.panel import Panel
from jaxseq.data.uncut import MOST_NUMBERS, PartWindows, WindowSplits, cut_or_not, windows_of
from jaxseq.data.windows import (
    Windows,
    check_memory,
    cut,
    every_window,
    mark_missing,
    with_known,
    with_known_targets,
)

CHECKED_AT_ONCE = 2**16
"""Windows of a part that are read together where one of them may decide."""


def part_windows(
    panel: Panel,
    rows: Sequence[Fold],
    window: int,
    horizon: int,
    stateful: bool,
) -> WindowSplits:
    """Cut the windows of the three parts. Raises `UsageError` for a part that has none, or that cannot be judged."""
    # Those of one long series stay views of it; a selection, as where values are missing, makes copies.
    as_views = stateful and len(panel.series) == 1
    if not as_views or panel.missing:
        _check_memory(panel, rows, window, horizon, are_copies=as_views)

    if as_views:
        views = [_views(panel, part, rows[0], window, horizon) for part in WindowSplits._fields]
        splits = WindowSplits(*views)
    else:
        joined = panel.joined()
        bounds = {part: [getattr(parts, part) for parts in rows] for part in WindowSplits._fields}
        of_part = partial(windows_of, joined, steps=window, horizon=horizon)
        splits = WindowSplits(
            train=cut_or_not(of_part(bounds["train"])),
            valid=cut_or_not(of_part(bounds["valid"])),
            test=cut_or_not(of_part(bounds["test"], stride=panel.split.stride)),
        )

    # In this order: a part without a target would pass for one that does not move.
    _check_targets(panel, splits)
    _check_moves(panel, splits)
    return splits


def _check_memory(
    panel: Panel,
    rows: Sequence[Fold],
    window: int,
    horizon: int,
    *,
    are_copies: bool,
) -> None:
    """Raise `UsageError` if the windows that are laid out as arrays do not fit into memory.

    `are_copies` says that all of them are, however many.
    """
    columns = 1
    if panel.covariates:
        columns += panel.covariates[0].shape[1]
    columns += panel.known.width
    counts = {}
    # As many as `windows_of` cuts, before it does.
    for part in WindowSplits._fields:
        bounds = [getattr(parts, part) for parts in rows]
        stride = panel.split.stride if part == "test" else 1
        counts[part] = sum(-(-max(0, last - max(first, window) - horizon + 1) // stride) for first, last in bounds)
        # Those of a large part are cut when they are read.
        if not are_copies and counts[part] * (window + horizon) > MOST_NUMBERS:
            counts[part] = 0
    check_memory(sum(counts.values()), window + horizon, columns=columns, where="--data.window")


def _views(
    panel: Panel,
    part: str,
    parts: Fold,
    window: int,
    horizon: int,
) -> Windows:
    """Return the windows of one part of a single series as views of it."""
    first, last = getattr(parts, part)
    covariates = None
    if panel.covariates:
        covariates = panel.covariates[0]
    windows = cut(panel.series[0], window, horizon, first, last, covariates=covariates)
    windows = with_known(windows, panel.known_ahead(0, last))
    if part == "test":
        windows = every_window(windows, panel.split.stride)
    if panel.missing:
        windows = with_known_targets(mark_missing(windows, panel.missing[0]))
    return windows


def _check_targets(panel: Panel, parts: Sequence[PartWindows]) -> None:
    """Raise `UsageError` for a part in which every target is missing."""
    for name, part in zip(("training", "validation", "test"), parts, strict=True):
        if not len(part.origins):
            raise UsageError(f"{panel.opening}all targets of the {name} part are missing: it has no window")


def _check_moves(panel: Panel, parts: Sequence[PartWindows]) -> None:
    """Raise `UsageError` if the last value is exact in all parts, or in the whole test part."""
    still = [_repeats_last_value(part) for part in parts]
    if all(still):
        value = parts[0].take(slice(1)).inputs[0, -1]
        raise UsageError(
            f"{panel.opening}no target moves from the last value of its window ({value:g} in the first): nothing can "
            "be learnt"
        )
    if still[-1]:
        raise UsageError(
            f"{panel.opening}none of the {len(parts[-1].origins)} test windows moves from its last value: the naive "
            "forecast is exact, and no other can be compared with it; leave out the constant rows at the end"
        )


def _repeats_last_value(part: PartWindows) -> bool:
    """Return whether every known target is the last value of its window."""
    # As a rule the first piece decides.
    for piece in part.pieces(CHECKED_AT_ONCE):
        is_same = piece.targets == piece.inputs[:, -1:]
        if not np.all(is_same | np.isnan(piece.targets)):
            return False
    return True
