"""From one series in time to windows and their targets, and the scaling that a model sees them in.

Nothing here looks ahead: the parts are chronological, a scaling is fitted on the training rows alone, and each value
to be forecast belongs to exactly one part.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float, Shaped

from jaxseq.arrays import Batch, Splits
from jaxseq.errors import UsageError

Kind = Literal["change", "log-return", "level"]
"""What a model is given and asked for: see `Scaling`."""


class Series(NamedTuple):
    """One value for each time, in order: `times` are dates (datetime64) or integers."""

    times: Shaped[np.ndarray, " n"]
    values: Float[np.ndarray, " n"]


class Windows(NamedTuple):
    """`t` values and the `k` that follow them, row by row, in the series' own units; `times` is the first target's."""

    inputs: Float[np.ndarray, "n t"]
    targets: Float[np.ndarray, "n k"]
    times: Shaped[np.ndarray, " n"]


if TYPE_CHECKING:
    WindowSplits: TypeAlias = Splits[Windows]
    BatchSplits: TypeAlias = Splits[Batch]
else:  # beartype cannot check a generic NamedTuple
    WindowSplits = BatchSplits = tuple


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


def check_at_least(least: int, source: str, **fields: int | float) -> None:
    """Raises `UsageError` for the first field whose value is below `least`."""
    for name, value in fields.items():
        if value < least:
            raise UsageError(f"{source}: {name} is {value}; it must be at least {least}")


def check_choice(choices: tuple[str, ...], source: str, **fields: str) -> None:
    """Raises `UsageError` for the first field whose value is none of `choices`."""
    for name, value in fields.items():
        if value not in choices:
            raise UsageError(f"{source}: {name} {value!r} is unknown; choose one of {', '.join(choices)}")


def split_rows(n: int, fractions: tuple[float, float] = (0.70, 0.15)) -> tuple[int, int]:
    """The first row of the validation part and the first of the test part, of `n` rows in chronological order.

    `fractions` are the shares of training and validation, read as decimals, and a share is rounded down.
    Raises `UsageError` unless both are positive and leave something for the test part.
    """
    train, valid = (Fraction(str(fraction)) for fraction in fractions)
    if train <= 0 or valid <= 0 or train + valid >= 1:
        raise UsageError(f"fractions {fractions} of training and validation must be positive and add up to less than 1")
    return int(n * train), int(n * (train + valid))


def cut(series: Series, window: int, horizon: int, first: int, last: int) -> Windows:
    """Every window of `window` values whose `horizon` targets all lie in the rows `first` to `last - 1`, from 0.

    The inputs may look back beyond `first`: the past is known when a forecast is made. There are
    `last - max(first, window) - horizon + 1` of them; raises `UsageError` if that is none.
    """
    start = max(first - window, 0)
    rows = series.values[start:last]
    if len(rows) < window + horizon:
        raise UsageError(
            f"window {window} + horizon {horizon} needs at least {window + horizon} rows; "
            f"up to the end of rows {first + 1} to {last} there are {len(rows)}"
        )
    whole = np.lib.stride_tricks.sliding_window_view(rows, window + horizon).copy()
    begin = start + window
    return Windows(whole[:, :window], whole[:, window:], series.times[begin : begin + len(whole)])


def split_windows(
    series: Series, window: int, horizon: int, source: str, fractions: tuple[float, float] = (0.70, 0.15)
) -> WindowSplits:
    """All windows of a series by the part their targets are in; training windows lie wholly within the training rows.

    Raises `UsageError` with both numbers if a part is too short for one window.
    """
    n = len(series.values)
    valid, test = split_rows(n, fractions)
    needs = f"window {window} + horizon {horizon} needs at least {window + horizon} rows"
    if valid < window + horizon:
        raise UsageError(f"{needs}; {source}'s training part has {valid}")
    for part, rows in (("validation", test - valid), ("test", n - test)):
        if rows < horizon:
            raise UsageError(f"horizon {horizon} needs at least {horizon} rows; {source}'s {part} part has {rows}")
    bounds = ((0, valid), (valid, test), (test, n))
    return Splits(*(cut(series, window, horizon, first, last) for first, last in bounds))


@dataclass(frozen=True)
class Scaling:
    """How a model sees a series, and the way back; two numbers, so `dataclasses.asdict` saves it as JSON.

    With v a value of the window, v_0 its last one and w a target:

        change       x = (v - v_0) / scale           y = (w - v_0) / scale
        log-return   x = log(v / v_0) / scale        y = log(w / v_0) / scale
        level        x = (v - shift) / scale         y = (w - shift) / scale

    In the first two, y = 0 is the naive forecast and nothing depends on how high the series has risen; on the level
    a series that has left its training range is outside of all that the model has seen. All arithmetic is float64.
    """

    kind: Kind
    shift: float
    scale: float

    def inputs(self, values: Float[np.ndarray, "n t"]) -> Float[np.ndarray, "n t 1"]:
        """What the model is given for windows in the series' units."""
        return self._forward(values, values[:, -1])[..., None]

    def targets(self, values: Float[np.ndarray, "n k"], last: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n k"]:
        """What the model is asked for: `values` are the targets, `last` the last value of each window."""
        return self._forward(values, last)

    def invert(self, prediction: Float[np.ndarray, "n k"], last: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n k"]:
        """A model's output in the series' units: the inverse of `targets`."""
        scaled = np.asarray(prediction, np.float64) * self.scale
        if self.kind == "level":
            return scaled + self.shift
        return last[:, None] + scaled if self.kind == "change" else last[:, None] * np.exp(scaled)

    def _forward(self, values: Float[np.ndarray, "n k"], last: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n k"]:
        if self.kind == "level":
            return (values - self.shift) / self.scale
        if self.kind == "change":
            return (values - last[:, None]) / self.scale
        return (_log(values) - _log(last)[:, None]) / self.scale


def fit_scaling(kind: Kind, training_values: Float[np.ndarray, " n"]) -> Scaling:
    """The scaling of the training rows: their range for "level", else the standard deviation of their (log) changes.

    Raises `UsageError` for fewer than three rows, for values that do not vary, and for "log-return" where a value is
    not positive.
    """
    if len(training_values) < 3:
        raise UsageError(f"a scaling needs at least 3 training rows; there are {len(training_values)}")
    low, high = float(training_values.min()), float(training_values.max())
    if low == high:
        raise UsageError(f"the {len(training_values)} training rows are constant ({low:g}): nothing can be learnt")
    if kind == "level":
        return Scaling(kind, low, high - low)
    path = _log(training_values) if kind == "log-return" else training_values
    changes = np.diff(path)
    scale = float(changes.std())
    if scale <= 8 * np.finfo(np.float64).eps * np.abs(path).max():
        raise UsageError(
            f'the {len(changes)} one-step changes ("{kind}") of the training rows are constant ({changes[0]:g}): '
            'there is no scale in them; use target "level"'
        )
    return Scaling(kind, 0.0, scale)


def batch(windows: Windows, scaling: Scaling) -> Batch:
    """What a model is given and asked for, in float32: x "n t 1" and y "n k"."""
    y = scaling.targets(windows.targets, windows.inputs[:, -1])
    return Batch(scaling.inputs(windows.inputs).astype(np.float32), y.astype(np.float32))


def _log(values: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    if count := np.count_nonzero(low := values <= 0):
        row = int(np.argmax(low.reshape(len(values), -1).any(axis=1)))
        raise UsageError(
            f"a log-return needs values above 0; {count} of {values.size} are not, the first in row {row + 1} "
            f'({values[low][0]:g}); use target "change"'
        )
    return np.log(values)
