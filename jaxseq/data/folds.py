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

from jaxseq.data.windows import check_at_least, split_rows
from jaxseq.errors import UsageError

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
    if n - start < count * horizon:
        raise UsageError(
            f"{source}: the test part has {n - start} of {n} rows; {count} folds with horizon {horizon} need at least "
            f"{count * horizon}: take fewer folds, a shorter horizon or smaller fractions than {fractions}"
        )
    edges = [start + (n - start) * number // count for number in range(count + 1)]
    found = tuple(_fold(first, last, start - valid, purge) for first, last in pairwise(edges))
    _check(found[0], window, horizon, source)  # later ones have more to train on, and as much to validate
    return found


def _fold(first: int, last: int, size: int, purge: int) -> Fold:
    """The fold whose test block is `first` to `last`, with `size` rows of validation before it."""
    end = first - purge
    return Fold((0, max(end - size - purge, 0)), (end - size, end), (first, last))


def _check(fold: Fold, window: int, horizon: int, source: str) -> None:
    needs = {"training": (fold.train, window + horizon), "validation": (fold.valid, horizon)}
    for part, ((first, last), least) in needs.items():
        if last - first < least:
            raise UsageError(
                f"{source}: the {part} part of the first fold has {last - first} rows; window {window} and horizon "
                f"{horizon} need at least {least}"
            )
