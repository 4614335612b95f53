"""Folds of a backtest: the model is fitted again and again on a growing past, and judged on the block that follows.

    fold 1    train ─────────────── | valid ─── | test ──
    fold 2    train ────────────────────── | valid ─── | test ──
    fold 3    train ───────────────────────────── | valid ─── | test ──

What may leak: where the targets of two windows overlap, a value that the model was fitted to (or chosen by) is asked
for again in a later part. So each part is a range of ROWS of the series, and a window belongs to a part only if all its
targets are rows of it, which is what `jaxseq.data.windows.cut` gives for (first, last). The `horizon` - 1 windows whose
targets reach over a boundary then belong to no part: this is the purging of López de Prado (2018), Advances in Financial
Machine Learning, chapter 7, and no further gap is needed for it. Inputs may look back over a boundary: the past is
known when a forecast is made, and the last training target is known when the first validation forecast is.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple, TypeAlias

from jaxseq.common.checks import check_at_least
from jaxseq.common.errors import UsageError
from jaxseq.data.windows import split_rows

Rows: TypeAlias = tuple[int, int]
"""The rows `first` to `last` - 1, counted from 0."""


class Fold(NamedTuple):
    """Three ranges of rows, in this order and apart from each other."""

    train: Rows
    valid: Rows
    test: Rows


def folds(
    n: int,
    count: int,
    window: int,
    horizon: int,
    *,
    fractions: tuple[float, float] = (0.70, 0.15),
    purge: int = 0,
    source: str = "the series",
) -> tuple[Fold, ...]:
    """`count` folds with an expanding window over the `n` rows of one series in order of time.

    `fractions` are the shares of training and validation in the first fold, read as decimals; the rest is the test
    region, which the blocks of the folds tile (their sizes differ by one row at most). The validation part is as long
    in every fold and ends where the test block begins; training takes all rows before it, so what one fold was tested
    on, a later one may learn from. `purge` rows are left out at each boundary of a fold, before the validation part
    and before the test block: 0 unless the values are known late, or are smoothed over their neighbours. One fold
    without purge is the split of `jaxseq.data.windows.split_rows`.

    Raises `UsageError` with both numbers, after `source`, if a part has no window: training needs `window` +
    `horizon` rows, the other two `horizon` each. And if `count`, `window` or `horizon` is below 1, `purge` below 0, or
    the fractions leave nothing for the test.
    """
    check_at_least(1, source, count=count, window=window, horizon=horizon)
    check_at_least(0, source, purge=purge)
    valid, start = split_rows(n, fractions)
    who, rule = f"{count} folds with horizon {horizon} need", "fewer folds, a shorter horizon"
    if count == 1:
        who, rule = f"horizon {horizon} needs", "a shorter horizon"
    _check(f"{source}: the test part", n - start, n, count * horizon, who, rule)
    edges = [start + (n - start) * number // count for number in range(count + 1)]
    found = tuple(_fold(first, last, start - valid, purge) for first, last in pairwise(edges))
    _check_first(found[0], n, window, horizon, source, "" if count == 1 else " of the first fold")
    return found


def _fold(first: int, last: int, size: int, purge: int) -> Fold:
    """The fold whose test block is `first` to `last`, with `size` rows of validation before it."""
    end = first - purge
    return Fold((0, max(end - size - purge, 0)), (end - size, end), (first, last))


def _check_first(fold: Fold, n: int, window: int, horizon: int, source: str, which: str) -> None:
    """The first fold has least to train on, and as much to validate as any."""
    (first, last), who = fold.train, f"window {window} and horizon {horizon} need"
    _check(f"{source}: the training part{which}", last - first, n, window + horizon, who, "a smaller window")
    (first, last), who = fold.valid, f"horizon {horizon} needs"
    _check(f"{source}: the validation part{which}", last - first, n, horizon, who, "a shorter horizon")


def _check(part: str, rows: int, n: int, least: int, who: str, rule: str) -> None:
    if rows < least:
        raise UsageError(f"{part} has {rows} of {n} rows; {who} at least {least}: take {rule} or more rows")
