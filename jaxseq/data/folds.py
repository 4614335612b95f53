"""Folds of a backtest: the model is trained on a growing past, and tested on the block that follows.

    fold 1    train ─────────────── | valid ─── | test ──
    fold 2    train ────────────────────── | valid ─── | test ──
    fold 3    train ───────────────────────────── | valid ─── | test ──

Leakage: where the targets of two windows overlap, a value that the model was fitted to (or chosen by) would be a target
of a later part too. So each part is a range of ROWS of the series, and a window belongs to a part only if all its
targets are rows of it, which is what `jaxseq.data.windows.cut` gives for (first, last). The `horizon` - 1 windows whose
targets reach over a boundary then belong to no part: this is the purging of López de Prado (2018), Advances in Financial
Machine Learning, chapter 7, and no further gap is needed for it. Inputs may look back over a boundary: the past is
known when a forecast is made, and the last training target is known when the first validation forecast is.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple, TypeAlias

from jaxseq.common import checks
from jaxseq.common.errors import UsageError

FRACTIONS = (0.70, 0.15)
"""Shares of the rows for training and validation unless a data set has others; the rest is the test region."""

Rows: TypeAlias = tuple[int, int]
"""The rows `first` to `last` - 1, counted from 0."""


class Fold(NamedTuple):
    """Three disjoint ranges of rows, in chronological order."""

    train: Rows
    valid: Rows
    test: Rows


def split_rows(n: int, fractions: tuple[float, float] = FRACTIONS) -> tuple[int, int]:
    """Return the first row of the validation part and that of the test part, of `n` rows in chronological order.

    `fractions` are the shares of training and validation, read as decimals; a share is rounded down. Raises
    `UsageError` unless both are positive and leave something for the test part.
    """
    # As a binary number 0.7 + 0.1 lies below 0.8, and its share of 10 rows would be 7.
    train, valid = (Fraction(str(fraction)) for fraction in fractions)
    if train <= 0 or valid <= 0 or train + valid >= 1:
        raise UsageError(f"fractions {fractions} of training and validation must be positive and add up to less than 1")
    return int(n * train), int(n * (train + valid))


def folds(
    n: int,
    count: int,
    window: int,
    horizon: int,
    *,
    fractions: tuple[float, float] = FRACTIONS,
    starts: tuple[int, int] | None = None,
    source: str = "the series",
) -> tuple[Fold, ...]:
    """Divide the `n` rows of a series, in chronological order, into `count` folds with an expanding training part.

    fractions  shares of training and validation in the first fold, read as decimals; the blocks of the folds tile the
               rest, the test region, in sizes that differ by one row at most
    starts     first row of the validation part of the first fold, and that of the test region, in place of the shares
    source     opens every message

    The validation part has the same length in every fold and ends where the test block begins. Training takes all rows
    before it, so that a later fold may learn from the test block of an earlier one. One fold is the split of
    `split_rows`.

    Raises `UsageError` if a part has no window: training needs `window` + `horizon` rows, the other two `horizon` each.
    Also if `count`, `window` or `horizon` is below 1, or the fractions leave nothing for the test.
    """
    checks.count(1, where=source, count=count, window=window, horizon=horizon)
    if starts is None:
        starts = split_rows(n, fractions)
    valid_start, test_start = starts
    _check_test_region(n - test_start, n, count=count, horizon=horizon, source=source)

    edges = [test_start + (n - test_start) * number // count for number in range(count + 1)]
    valid_rows = test_start - valid_start
    result = tuple(_fold(test, valid_rows) for test in pairwise(edges))

    # The first fold has the fewest rows to train on; all have the same number for validation.
    which = "" if count == 1 else " of the first fold"
    _check_part(
        f"{source}: the training part{which}",
        rows=_length(result[0].train),
        n=n,
        least=window + horizon,
        subject=f"window {window} and horizon {horizon} need",
        advice="a smaller window",
    )
    _check_part(
        f"{source}: the validation part{which}",
        rows=_length(result[0].valid),
        n=n,
        least=horizon,
        subject=f"horizon {horizon} needs",
        advice="a shorter horizon",
    )
    return result


def _fold(test: Rows, valid_rows: int) -> Fold:
    valid_start = test[0] - valid_rows
    return Fold(train=(0, valid_start), valid=(valid_start, test[0]), test=test)


def _length(rows: Rows) -> int:
    first, last = rows
    return last - first


def _check_test_region(rows: int, n: int, *, count: int, horizon: int, source: str) -> None:
    subject = f"horizon {horizon} needs"
    advice = "a shorter horizon"
    if count > 1:
        subject = f"{count} folds with horizon {horizon} need"
        advice = "fewer folds, a shorter horizon"
    _check_part(f"{source}: the test part", rows=rows, n=n, least=count * horizon, subject=subject, advice=advice)


def _check_part(part: str, *, rows: int, n: int, least: int, subject: str, advice: str) -> None:
    if rows < least:
        raise UsageError(f"{part} has {rows} of {n} rows; {subject} at least {least}: take {advice} or more rows")
