"""How a model sees a series, and the way back into the series' own units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int, Shaped

from jaxseq.common.arrays import Batch
from jaxseq.common.errors import UsageError
from jaxseq.common.text import counted
from jaxseq.data.windows import Series, Windows, called, summarise_failures

Kind = Literal["change", "log-return", "level"]
"""What a model is given and asked for: see `Scaling`."""
MIN_SPREAD = 1e-100
"""How far apart the training rows must be: squares of less come near the smallest numbers of float64."""
MAX_REACH = 1e15
"""How many scales a value may be away: squares of more come near the largest numbers of float32."""


@dataclass(frozen=True)
class Scaling:
    """Two numbers for each series, fitted on its training rows; `dataclasses.asdict` saves it as JSON.

    With v_t a value of the window, v its last one and w_k the value k steps later:

        change       x_t = (v_t - v_{t-1}) / scale        y_k = (w_k - v) / scale
        log-return   x_t = log(v_t / v_{t-1}) / scale     y_k = log(w_k / v) / scale
        level        x_t = (v_t - shift) / scale          y_k = (w_k - shift) / scale

    In the first two the window's first x is 0, y = 0 is the naive forecast, and nothing depends on how high the series
    has risen; on the level, a series that has left its training range is outside of all that the model has seen. In
    all three y_1 is the next x, so what is forecast one step ahead can be fed back. All arithmetic is float64.

    Covariates are given beside x as (c - mean) / standard deviation of their training rows, over all series.
    """

    kind: Kind
    shift: tuple[float, ...]
    scale: tuple[float, ...]
    covariate_shift: tuple[float, ...] = ()
    covariate_scale: tuple[float, ...] = ()

    def inputs(self, windows: Windows) -> Float[np.ndarray, "n t d"]:
        """What the model is given: x, and the covariates beside it. Raises `UsageError` for another number of those."""
        if (given := windows.covariates.shape[2]) != (fitted := len(self.covariate_shift)):
            raise UsageError(f"{counted(given, 'covariate')} given, where there were {fitted} in training")
        values, before = windows.inputs, np.concatenate([windows.inputs[:, :1], windows.inputs[:, :-1]], axis=1)
        x = self._forward(values, before, windows.series)
        beside = (windows.covariates - np.asarray(self.covariate_shift)) / np.asarray(self.covariate_scale)
        return np.concatenate([x[..., None], beside], axis=2)

    def targets(self, windows: Windows) -> Float[np.ndarray, "n k"]:
        """What the model is asked for."""
        return self._forward(windows.targets, windows.inputs[:, -1:], windows.series)

    def targets_at_every_step(self, windows: Windows) -> Float[np.ndarray, "n t k"]:
        """What it is asked for after each step of the window: the values that follow that step."""
        whole = np.concatenate([windows.inputs, windows.targets], axis=1)
        ahead = np.lib.stride_tricks.sliding_window_view(whole[:, 1:], windows.targets.shape[1], axis=1)
        rows, steps, horizon = ahead.shape
        each = np.repeat(windows.series, steps)
        flat = self._forward(ahead.reshape(-1, horizon), windows.inputs.reshape(-1, 1), each)
        return flat.reshape(rows, steps, horizon)

    def invert(self, y: Float[np.ndarray, "*m n k"], windows: Windows) -> Float[np.ndarray, "*m n k"]:
        """A model's output in the series' units: the inverse of `targets`, for the inputs of these windows."""
        y, last = np.asarray(y, np.float64), windows.inputs[:, -1:]
        scaled = y * self._of(self.scale, windows.series)
        if self.kind == "level":
            return scaled + self._of(self.shift, windows.series)
        return last + scaled if self.kind == "change" else last * np.exp(scaled)

    def add_up(self, steps: Float[np.ndarray, "*m n k"]) -> Float[np.ndarray, "*m n k"]:
        """One-step outputs that were fed back, as outputs of 1 to k steps: changes add up, levels are what they are."""
        return np.asarray(steps) if self.kind == "level" else np.cumsum(np.asarray(steps, np.float64), axis=-1)

    def _of(self, numbers: tuple[float, ...], series: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n 1"]:
        return np.asarray(numbers, np.float64)[series][:, None]

    def _forward(
        self, values: Float[np.ndarray, "n t"], base: Float[np.ndarray, "n _"], series: Int[np.ndarray, " n"]
    ) -> Float[np.ndarray, "n t"]:
        scale = self._of(self.scale, series)
        if self.kind == "level":
            return (values - self._of(self.shift, series)) / scale
        if self.kind == "change":
            return (values - base) / scale
        return (_log(values) - _log(base)) / scale


def fit_scaling(
    kind: Kind,
    training: Sequence[Float[np.ndarray, "_"]],
    names: Sequence[str] = ("value",),
    covariates: Sequence[Float[np.ndarray, "_ c"]] = (),
) -> Scaling:
    """The scaling of the training rows of each series: its range for "level", else the spread of its (log) changes.

    `covariates` are those of the same rows. Raises `UsageError`, which names the series, for fewer than three rows, for
    values that do not vary or by less than `MIN_SPREAD`, and for "log-return" where a value is not positive.
    """
    fitted, failures = [], []
    for values, name in zip(training, names, strict=True):
        try:
            fitted.append(_fit(kind, values, called(name)))
        except UsageError as error:
            failures.append((name, error))
    if failures:
        raise UsageError(summarise_failures("without a scale", failures, len(names)))
    shift, scale = (tuple(numbers) for numbers in zip(*fitted, strict=True))
    if not covariates or not covariates[0].shape[1]:
        return Scaling(kind, shift, scale)
    rows = np.concatenate(covariates)
    spread = rows.std(axis=0)
    spread = np.where(spread > 8 * np.finfo(np.float64).eps * np.abs(rows).max(axis=0), spread, 1)  # 1 where constant
    return Scaling(kind, shift, scale, tuple(map(float, rows.mean(axis=0))), tuple(map(float, spread)))


def _fit(kind: Kind, values: Float[np.ndarray, " n"], name: str) -> tuple[float, float]:
    """Shift and scale of one series."""
    if len(values) < 3:
        raise UsageError(f"{name}: a scaling needs at least 3 training rows; there are {len(values)}")
    low, high = float(values.min()), float(values.max())
    if low == high:
        raise UsageError(f"{name}: the {len(values)} training rows are constant ({low:g}): nothing can be learnt")
    if high - low < MIN_SPREAD:
        raise UsageError(
            f"{name}: the {len(values)} training rows differ by {high - low:g}, less than {MIN_SPREAD:g}: their squares "
            "vanish; take another unit"
        )
    if kind == "level":
        return low, high - low
    path = _log(values, f"{name}: ") if kind == "log-return" else values
    changes = np.diff(path)
    scale = float(changes.std())
    if scale <= 8 * np.finfo(np.float64).eps * np.abs(path).max():
        raise UsageError(
            f'{name}: the {len(changes)} one-step changes ("{kind}") of the training rows are constant '
            f'({changes[0]:g}): there is no scale in them; use target "level"'
        )
    return 0.0, scale


def check_reach(scaling: Scaling, series: Sequence[Series], names: Sequence[str]) -> None:
    """Raises `UsageError`, which names series and time, for a value of any part that the scaling cannot take.

    That is one more than `MAX_REACH` scales away from the first (or from the smallest training row, for "level"), and
    for "log-return" one not above 0. Nothing is fitted to what is seen here.
    """
    for (times, values), name, shift, scale in zip(series, names, scaling.shift, scaling.scale, strict=True):
        if scaling.kind == "log-return":
            _log(values, f"{called(name)}: ", times)
            continue
        reach = np.abs(values - (shift if scaling.kind == "level" else values[0])) / scale
        if np.any(bad := reach > MAX_REACH):
            at = int(np.argmax(bad))
            raise UsageError(
                f"{called(name)}: {values[at]:g} at {times[at]} lies {reach[at]:.0e} times the spread of the training rows "
                f"away, at most {MAX_REACH:.0e} can be calculated with; correct it"
            )


def batch(windows: Windows, scaling: Scaling, every_step: bool = False, steps: int | None = None) -> Batch:
    """What a model is given and asked for, in float32: x "n t d" and y "n k", or "n t k" with `every_step`.

    `steps` leaves so many of the k.
    """
    y = scaling.targets_at_every_step(windows) if every_step else scaling.targets(windows)
    return Batch(scaling.inputs(windows).astype(np.float32), y[..., :steps].astype(np.float32))


def _log(
    values: Float[np.ndarray, "*shape"], source: str = "", times: Shaped[np.ndarray, " n"] | None = None
) -> Float[np.ndarray, "*shape"]:
    if count := np.count_nonzero(low := values <= 0):
        row = int(np.argmax(low.reshape(len(values), -1).any(axis=1)))
        where = f"in row {row + 1}" if times is None else f"at {times[row]}"
        raise UsageError(
            f"{source}a log-return needs values above 0; {count} of {values.size} are not, the first {where} "
            f'({values[low][0]:g}); use target "change"'
        )
    return np.log(values)
