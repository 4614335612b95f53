"""Windows of a series, each with the values that follow it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from jaxseq.common import memory
from jaxseq.common.errors import UsageError
from jaxseq.common.text import counted


class Series(NamedTuple):
    """One value for each time, in order.

    times   dates (datetime64) or integers
    values  in the series' own unit
    """

    times: Shaped[np.ndarray, " n"]
    values: Float[np.ndarray, " n"]


LAST_VALUE = np.ones(1, int)
"""Age of the last value of a window in time steps before the first target."""


class Windows(NamedTuple):
    """Windows of `t` values and the `k` values that follow each, in the series' own units.

    targets     NaN where the value is not known: missing, or beyond the end of the series
    times       of the first target
    series      number of the series that the row is from
    covariates  known beside each of the `t` values; c may be 0
    origins     row of the first target in its series, from 0: as many values are known when the forecast is made
    filled      whether the value, and each covariate, was missing and is filled in; m is 0 where nothing is missing
    known       covariates that are known ahead: of the `t` values and of the `k` that follow; s may be 0
    """

    inputs: Float[np.ndarray, "n t"]
    targets: Float[np.ndarray, "n k"]
    times: Shaped[np.ndarray, " n"]
    series: Int[np.ndarray, " n"]
    covariates: Float[np.ndarray, "n t c"]
    origins: Int[np.ndarray, " n"]
    filled: Bool[np.ndarray, "n t m"]
    known: Float[np.ndarray, "n u s"]

    @property
    def steps(self) -> int:
        """Time steps of a window."""
        return self.inputs.shape[1]

    @property
    def horizon(self) -> int:
        """Targets of a window."""
        return self.targets.shape[1]

    def values_ago(self, ages: Int[np.ndarray, " c"]) -> Float[np.ndarray, "n c"]:
        """Return the values 1 to `steps` time steps before the first target; 1 is the last value of the window.

        Raises `ValueError` for any other age.
        """
        check_ages(ages, self.steps)
        return self.inputs[:, -ages]

    def take(self, rows: Int[np.ndarray, "_"] | Bool[np.ndarray, " n"] | slice) -> Windows:
        """Return some of the rows."""
        return Windows(*(array[rows] for array in self))

    choose = take

    def known_until(self, steps: int) -> Windows:
        """Return windows in which covariates are known ahead for the first `steps` targets alone."""
        return self._replace(known=self.known[:, : self.inputs.shape[1] + steps])

    def pieces(self, size: int) -> Iterator[Windows]:
        """Yield the rows in their order, `size` of them at a time; an empty piece where there is none."""
        for first in range(0, max(1, len(self.origins)), size):
            yield self.take(slice(first, first + size))


def check_ages(ages: Int[np.ndarray, " c"], steps: int) -> None:
    """Raise `ValueError`, with both numbers, for a value that a window of `steps` time steps does not have."""
    # As an index, 0 would be the first value of the window.
    if len(ages) and not 1 <= ages.min() <= ages.max() <= steps:
        raise ValueError(f"values {ages.min()} to {ages.max()} time steps ago, of a window of {steps}")


BYTES_A_NUMBER = 44
"""Bytes of a run for each number of its windows: in float64 and float32, on the device, and in the baselines."""


def check_memory(windows: int, steps: int, where: str, columns: int = 1) -> None:
    """Raise `UsageError`, with both numbers, if so many windows of `steps` time steps and targets do not fit into memory.

    columns  numbers in each time step
    """
    memory.check(
        f"{counted(windows, 'window')} of {steps:,} time steps do not fit into memory",
        needed=memory.RUNTIME + windows * steps * columns * BYTES_A_NUMBER,
        where=where,
    )


def lay_out(
    inputs: Float[np.ndarray, "n t"],
    targets: Float[np.ndarray, "n k"],
    *,
    times: Shaped[np.ndarray, " n"] | None = None,
    series: Int[np.ndarray, " n"] | None = None,
    covariates: Float[np.ndarray, "n t c"] | None = None,
    origins: Int[np.ndarray, " n"] | None = None,
    known: Float[np.ndarray, "n u s"] | None = None,
) -> Windows:
    """Lay rows out as windows in which no input is missing.

    By default they are numbered in place of times, of a single series, without covariates, and nothing is known before
    them.
    """
    n, steps = inputs.shape
    if times is None:
        times = np.arange(n)
    if series is None:
        series = np.zeros(n, int)
    if covariates is None:
        covariates = np.zeros((n, steps, 0))
    if origins is None:
        origins = np.full(n, steps)
    if known is None:
        known = np.zeros((n, steps + targets.shape[1], 0))
    return Windows(
        inputs=inputs,
        targets=targets,
        times=times,
        series=series,
        covariates=covariates,
        origins=origins,
        filled=np.zeros((n, steps, 0), bool),
        known=known,
    )


def fingerprint(arrays: Iterable[Shaped[np.ndarray, "..."]]) -> str:
    """Return the sha256 of arrays in their order, say of all rows of the three parts as the model sees them."""
    return fingerprint_of_pieces(ArrayInPieces(array.shape, str(array.dtype), iter([array])) for array in arrays)


class ArrayInPieces(NamedTuple):
    """An array whose rows come in pieces, in their order."""

    shape: tuple[int, ...]
    dtype: str
    pieces: Iterator[Shaped[np.ndarray, "..."]]


def fingerprint_of_pieces(arrays: Iterable[ArrayInPieces]) -> str:
    """Return the `fingerprint` of arrays of which a piece at a time is in memory."""
    digest = hashlib.sha256()
    for array in arrays:
        # Without dtype and shape, arrays of different layouts could share their bytes.
        digest.update(f"{array.dtype}{array.shape}".encode())
        for piece in array.pieces:
            digest.update(np.ascontiguousarray(piece).data)
    return digest.hexdigest()


def check_series(times: Shaped[np.ndarray, " n"], values: Shaped[np.ndarray, " n"], source: str) -> Series:
    """Return the series in float64 if it has a row, finite values and strictly increasing times.

    Raises `UsageError`, which opens with `source` and counts rows from 1, otherwise.
    """
    values = np.asarray(values, np.float64)
    if not len(values):
        raise UsageError(f"{source}: the series is empty: 0 rows, at least 1 is needed")

    infinite = ~np.isfinite(values)
    if np.any(infinite):
        row = int(np.argmax(infinite))
        raise UsageError(
            f"{source}: {np.count_nonzero(infinite)} of {len(values)} values are not finite, "
            f"the first in row {row + 1} ({times[row]}): {values[row]}; fill or drop these rows"
        )

    # NaT is the one time that differs from itself.
    missing = np.not_equal(times, times)
    if np.any(missing):
        row = int(np.argmax(missing))
        raise UsageError(f"{source}: row {row + 1} has no time ({np.count_nonzero(missing)} rows in all)")

    late = times[1:] <= times[:-1]
    if np.any(late):
        row = int(np.argmax(late)) + 1
        rule = "times must increase, sort the rows"
        if times[row] == times[row - 1]:
            rule = "the same time twice, keep one of them"
        raise UsageError(f"{source}: row {row + 1} ({times[row]}) follows row {row} ({times[row - 1]}): {rule}")
    return Series(times, values)


def called(name: str) -> str:
    """Return a series' name as messages write it, so that it differs from a number or a word of the sentence."""
    return f"series {name!r}"


def summarise_failures(fault: str, failures: Sequence[tuple[str, UsageError]], count: int) -> str:
    """Return one line on the series that failed: a single failure itself, or their number, five names and the first.

    failures  name and error of each series that failed, at least one
    count     number of all series
    """
    first_error = failures[0][1]
    if len(failures) == 1:
        return str(first_error)

    names = [name for name, _ in failures[:5]]
    if len(failures) > 5:
        names.append("…")
    return f"{len(failures)} of {count} series are {fault}: {', '.join(names)}; the first: {first_error}"


def check_length(window: int, horizon: int, *, first: int, last: int, start: int) -> None:
    """Raise `UsageError` if the rows from `start` to `last - 1` have no window with targets from row `first` on."""
    if last - start < window + horizon:
        raise UsageError(
            f"window {window} + horizon {horizon} needs at least {window + horizon} rows; "
            f"up to the end of rows {first + 1} to {last} there are {last - start}"
        )


def cut(
    series: Series,
    window: int,
    horizon: int,
    first: int,
    last: int,
    number: int = 0,
    covariates: Float[np.ndarray, "n c"] | None = None,
) -> Windows:
    """Cut out every window of `window` values whose `horizon` targets all lie in the rows `first` to `last - 1`.

    Rows are counted from 0. There are `last - max(first, window) - horizon + 1` windows; raises `UsageError` if that
    is none. `number` is that of the series, `covariates` are those of all its rows. Inputs, targets and covariates are
    views of the series, which take no memory of their own.
    """
    # Inputs may look back beyond `first`: the past is known when a forecast is made.
    start = max(first - window, 0)
    values = series.values[start:last]
    check_length(window, horizon, first=first, last=start + len(values), start=start)

    paths = np.lib.stride_tricks.sliding_window_view(values, window + horizon)
    n = len(paths)
    first_target = start + window

    beside = None
    if covariates is not None:
        # Covariates of the targets' own rows are not known when the forecast is made.
        past = covariates[start : last - horizon]
        beside = np.lib.stride_tricks.sliding_window_view(past, window, axis=0).swapaxes(1, 2)

    return lay_out(
        inputs=paths[:, :window],
        targets=paths[:, window:],
        times=series.times[first_target : first_target + n],
        series=np.full(n, number),
        covariates=beside,
        origins=np.arange(first_target, first_target + n),
    )


def mark_missing(part: Windows, missing: Bool[np.ndarray, "rows m"]) -> Windows:
    """Mark what was missing in windows of one series: inputs that are filled in, and targets, which become NaN.

    `missing` says of each row of the series whether its value, and each covariate, is filled in.
    """
    steps = part.inputs.shape[1]
    horizon = part.targets.shape[1]
    input_rows = part.origins[:, None] - steps + np.arange(steps)

    # A window at the end of the series has targets beyond it, which are NaN already.
    target_rows = part.origins[:, None] + np.arange(horizon)
    beyond = target_rows >= len(missing)
    is_missing = missing[np.where(beyond, 0, target_rows), 0] & ~beyond
    return part._replace(
        targets=np.where(is_missing, np.nan, part.targets),
        filled=missing[input_rows],
    )


def every_window(part: Windows, stride: int) -> Windows:
    """Return the first of the windows, and then one of every `stride`, as views."""
    return part.take(slice(None, None, stride))


def with_known(part: Windows, known: Float[np.ndarray, "rows s"]) -> Windows:
    """Return windows, as `cut` gives them of one series, with the covariates that are `known` ahead of all its rows.

    They are views. There must be a row for every target, also for those beyond the end of the series.
    """
    steps = part.inputs.shape[1]
    horizon = part.targets.shape[1]
    first = int(part.origins[0]) - steps
    last = int(part.origins[-1]) + horizon
    of_windows = np.lib.stride_tricks.sliding_window_view(known[first:last], steps + horizon, axis=0)
    return part._replace(known=of_windows.swapaxes(1, 2))


def first_targets(part: Windows, steps: int) -> Windows:
    """Return windows with the first `steps` targets alone."""
    return part._replace(targets=part.targets[:, :steps])


def with_known_targets(part: Windows) -> Windows:
    """Return the windows that have at least one known target: nothing can be learnt from the others, or tested."""
    has_target = np.isfinite(part.targets).any(axis=1)
    return part.take(np.flatnonzero(has_target))


def join(parts: Sequence[Windows]) -> Windows:
    """Concatenate the rows of several windows, as copies."""
    return Windows(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def rows_by_series(series: Int[np.ndarray, " n"]) -> dict[int, Int[np.ndarray, "_"]]:
    """Return the rows of each series, in their order; one sort, so that the time is linear in the series."""
    # Splitting nothing would still give one part.
    if not len(series):
        return {}
    order = np.argsort(series, kind="stable")
    numbers, starts = np.unique(series[order], return_index=True)
    return dict(zip(numbers.tolist(), np.split(order, starts[1:]), strict=True))


def last_window(series: Series, window: int, horizon: int) -> Windows:
    """Return the window at the end of a series, with unknown (NaN) targets.

    Raises `UsageError` for a series shorter than the window.
    """
    if len(series.values) < window:
        raise UsageError(f"window {window} needs at least {window} rows; there are {len(series.values)}")
    return lay_out(
        inputs=series.values[None, -window:],
        targets=np.full((1, horizon), np.nan),
        times=series.times[-1:],
        origins=np.array([len(series.values)]),
    )
