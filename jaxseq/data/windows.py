"""From series in time to windows and their targets.

Nothing here looks ahead: the parts are chronological, and each value to be forecast belongs to exactly one part.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float, Int, Shaped

from jaxseq.common.arrays import Batch, Splits
from jaxseq.common.errors import UsageError


class Series(NamedTuple):
    """One value for each time, in order: `times` are dates (datetime64) or integers."""

    times: Shaped[np.ndarray, " n"]
    values: Float[np.ndarray, " n"]


class Windows(NamedTuple):
    """`t` values and the `k` that follow them, row by row, in the series' own units.

    `times` is the first target's, `series` the number of the series that a row is from, and `covariates` are what is
    known beside each of the `t` values (c may be 0).
    """

    inputs: Float[np.ndarray, "n t"]
    targets: Float[np.ndarray, "n k"]
    times: Shaped[np.ndarray, " n"]
    series: Int[np.ndarray, " n"]
    covariates: Float[np.ndarray, "n t c"]


if TYPE_CHECKING:
    WindowSplits: TypeAlias = Splits[Windows]
    BatchSplits: TypeAlias = Splits[Batch]
else:  # beartype cannot check a generic NamedTuple
    WindowSplits = BatchSplits = tuple


def fingerprint(batches: BatchSplits) -> str:
    """sha256 of all rows of the three parts, as the model sees them."""
    found = hashlib.sha256()
    for part in batches:
        for array in part:
            found.update(f"{array.dtype}{array.shape}".encode())
            found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def check_series(times: Shaped[np.ndarray, " n"], values: Shaped[np.ndarray, " n"], source: str) -> Series:
    """The series in float64, if it is one: at least one row, finite values, times that only increase.

    Rows are counted from 1 in the messages. Raises `UsageError`, which opens with `source`, otherwise.
    """
    values = np.asarray(values, np.float64)
    if not len(values):
        raise UsageError(f"{source}: the series is empty: 0 rows, at least 1 is needed")
    if count := np.count_nonzero(bad := ~np.isfinite(values)):
        row = int(np.argmax(bad))
        raise UsageError(
            f"{source}: {count} of {len(values)} values are not finite, the first in row {row + 1} ({times[row]}): "
            f"{values[row]}; fill or drop these rows"
        )
    if np.any(bad := np.not_equal(times, times)):
        raise UsageError(f"{source}: row {int(np.argmax(bad)) + 1} has no time ({np.count_nonzero(bad)} rows in all)")
    if np.any(late := times[1:] <= times[:-1]):
        row = int(np.argmax(late)) + 1
        same = times[row] == times[row - 1]
        rule = "the same time twice, keep one of them" if same else "times must increase, sort the rows"
        raise UsageError(f"{source}: row {row + 1} ({times[row]}) follows row {row} ({times[row - 1]}): {rule}")
    return Series(times, values)


def called(name: str) -> str:
    """A series in a message, told from a number or a word of the sentence."""
    return f"series {name!r}"


def some_of(fault: str, failures: Sequence[tuple[str, UsageError]], count: int) -> str:
    """One line on the series that cannot be used: the one's own, or how many of `count`, five names, and the first's."""
    first = failures[0][1]
    if len(failures) == 1:
        return str(first)
    few = ", ".join(name for name, _ in failures[:5]) + (", …" if len(failures) > 5 else "")
    return f"{len(failures)} of {count} series are {fault}: {few}; the first: {first}"


def split_rows(n: int, fractions: tuple[float, float] = (0.70, 0.15)) -> tuple[int, int]:
    """The first row of the validation part and the first of the test part, of `n` rows in chronological order.

    `fractions` are the shares of training and validation, read as decimals, and a share is rounded down.
    Raises `UsageError` unless both are positive and leave something for the test part.
    """
    train, valid = (Fraction(str(fraction)) for fraction in fractions)
    if train <= 0 or valid <= 0 or train + valid >= 1:
        raise UsageError(f"fractions {fractions} of training and validation must be positive and add up to less than 1")
    return int(n * train), int(n * (train + valid))


def cut(
    series: Series,
    window: int,
    horizon: int,
    first: int,
    last: int,
    number: int = 0,
    covariates: Float[np.ndarray, "n c"] | None = None,
) -> Windows:
    """Every window of `window` values whose `horizon` targets all lie in the rows `first` to `last - 1`, from 0.

    The inputs may look back beyond `first`: the past is known when a forecast is made. There are
    `last - max(first, window) - horizon + 1` of them; raises `UsageError` if that is none. `number` is the series',
    `covariates` are those of its rows.
    """
    start = max(first - window, 0)
    rows = series.values[start:last]
    if len(rows) < window + horizon:
        raise UsageError(
            f"window {window} + horizon {horizon} needs at least {window + horizon} rows; "
            f"up to the end of rows {first + 1} to {last} there are {len(rows)}"
        )
    whole = np.lib.stride_tricks.sliding_window_view(rows, window + horizon).copy()
    begin, n = start + window, len(whole)
    beside = np.zeros((n, window, 0))
    if covariates is not None:
        known = covariates[start : last - horizon]
        beside = np.lib.stride_tricks.sliding_window_view(known, window, axis=0).swapaxes(1, 2).copy()
    return Windows(whole[:, :window], whole[:, window:], series.times[begin : begin + n], np.full(n, number), beside)


def join(parts: Sequence[Windows]) -> Windows:
    """The rows of several windows, one after the other."""
    return Windows(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def last_window(series: Series, window: int, horizon: int) -> Windows:
    """The window that ends where the series does; its targets are not known (NaN). Raises `UsageError` if it is short."""
    if len(series.values) < window:
        raise UsageError(f"window {window} needs at least {window} rows; there are {len(series.values)}")
    nowhere = np.full((1, horizon), np.nan)
    return Windows(
        series.values[None, -window:], nowhere, series.times[-1:], np.zeros(1, int), np.zeros((1, window, 0))
    )
