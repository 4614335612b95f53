"""Ridge regression of the horizon on a window, from which a network may start.

The penalty of a lag grows with its distance, so that short series have short memories; see `fit` for its choice. What the
training needs of its rows are their moments, so that their number costs no memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxseq.data.gathered import RowsOfModel, count, first_row, take
from jaxseq.data.windows import rows_by_series

PENALTIES = tuple(10.0 ** (number / 2) for number in range(-4, 11))
"""Penalties of squared weights among which `fit` chooses, from 0.01 to 100,000 in half decades."""
DECAYS = (0, 1, 2)
"""Powers of the lag by which its numbers are divided before the fit, which multiplies its penalty by their square."""
EARLY = 0.6
"""Share of the training windows of each series to which a fit is tried on the others."""
MOST_INPUTS = 1_000
"""Largest number of inputs in a window: the fit costs their third power."""
LAID_OUT = 2**22
"""Numbers of the windows that are laid out at once in float64: 32 MiB."""


class Ridge(NamedTuple):
    """y = x · weights + intercept, where x is one row of all inputs, with the choices by which it was fitted."""

    weights: Float[np.ndarray, "p k"]
    intercept: Float[np.ndarray, " k"]
    penalty: float
    decay: int


class Ages(NamedTuple):
    """The earlier and the later training windows of each series, without those between whose targets overlap."""

    is_early: Bool[np.ndarray, " n"]
    is_late: Bool[np.ndarray, " n"]


def ages(series: Int[np.ndarray, " n"], horizon: int) -> Ages:
    """Part training windows, in their order of time, by their age in each series."""
    is_early = np.zeros(len(series), bool)
    is_late = np.zeros(len(series), bool)
    for rows in rows_by_series(series).values():
        first_late = int(EARLY * len(rows))
        is_early[rows[:first_late]] = True
        is_late[rows[first_late + horizon - 1 :]] = True
    return Ages(is_early, is_late)


def fit(train: RowsOfModel, valid: RowsOfModel, by_age: Ages) -> Ridge | None:
    """Fit to all training rows, with the penalty and the decay that forecast later rows best.

    Two errors are made small, by the product of their means: that on the later training rows of a fit to the earlier ones,
    and that on the validation rows of a fit to all training rows. Rows with a target that is not known are left out.

    Returns None where a part has no row left, or a window has more than `MOST_INPUTS` inputs.
    """
    steps, features = first_row(train).x.shape[1:]
    if steps * features > MOST_INPUTS:
        return None
    early, late = (_moments(train, np.flatnonzero(rows)) for rows in by_age)
    everything = _moments(train)
    later = _moments(valid)
    if not everything.count or not later.count:
        return None

    errors = {}
    solutions = {}
    for decay in DECAYS:
        of_all = _Solver(everything, decay, steps)
        of_early = None
        # Two rows have one difference, the least that can be fitted.
        if early.count > 1 and late.count:
            of_early = _Solver(early, decay, steps)
        for penalty in PENALTIES:
            solutions[penalty, decay] = of_all.solution(penalty)
            error = later.mean_squared_error(solutions[penalty, decay])
            if of_early is not None:
                error *= late.mean_squared_error(of_early.solution(penalty))
            errors[penalty, decay] = error
    penalty, decay = min(errors, key=errors.__getitem__)
    return _ridge(solutions[penalty, decay], penalty, decay)


def fit_to(rows: RowsOfModel, penalty: float, decay: int) -> Ridge:
    """Fit to rows, at least one of them with all of its targets, with a penalty and a decay that are chosen already."""
    steps = first_row(rows).x.shape[1]
    return _ridge(_Solver(_moments(rows), decay, steps).solution(penalty), penalty, decay)


def _ridge(solution: Float[np.ndarray, "q k"], penalty: float, decay: int) -> Ridge:
    return Ridge(solution[1:], solution[0], penalty, decay)


class _Moments(NamedTuple):
    """Sums over rows of products of [1, x] and y: all that least squares needs of the rows."""

    gram: Float[np.ndarray, "q q"]
    cross: Float[np.ndarray, "q k"]
    square: float
    count: int

    def mean_squared_error(self, solution: Float[np.ndarray, "q k"]) -> float:
        """Return the mean squared error of [1, x] · solution on these rows."""
        explained = np.sum(solution * (2 * self.cross - self.gram @ solution))
        # A perfect fit leaves rounding errors of either sign.
        return max(float(self.square - explained), 0.0) / (self.count * self.cross.shape[1])


def _moments(rows: RowsOfModel, chosen: Int[np.ndarray, "_"] | None = None) -> _Moments:
    """Return the moments of all rows, or of those that are chosen by their numbers."""
    row = first_row(rows)
    inputs = 1 + math.prod(row.x.shape[1:])
    horizon = row.y.shape[1]
    gram = np.zeros((inputs, inputs))
    cross = np.zeros((inputs, horizon))
    square = 0.0
    count = 0
    for x, y in _pieces(rows, chosen):
        ones_and_x = np.concatenate([np.ones((len(x), 1)), x], axis=1)
        gram += ones_and_x.T @ ones_and_x
        cross += ones_and_x.T @ y
        square += float(np.sum(y * y))
        count += len(x)
    return _Moments(gram, cross, square, count)


def _pieces(
    rows: RowsOfModel, chosen: Int[np.ndarray, "_"] | None
) -> Iterator[tuple[Float[np.ndarray, "_ p"], Float[np.ndarray, "_ k"]]]:
    """Yield the rows with known targets in float64, a limited number at a time."""
    size = max(1, LAID_OUT // max(1, math.prod(first_row(rows).x.shape[1:])))
    many = count(rows) if chosen is None else len(chosen)
    for first in range(0, many, size):
        piece = slice(first, first + size)
        # A copy of the chosen rows alone.
        laid_out = take(rows, piece if chosen is None else chosen[piece])
        x = np.asarray(laid_out.x, np.float64)
        y = np.asarray(laid_out.y, np.float64)
        is_known = np.isfinite(y).all(axis=1)
        yield x.reshape(len(x), -1)[is_known], y[is_known]


class _Solver:
    """The ridge regressions of some rows with one decay, whose decomposition serves every penalty."""

    def __init__(self, moments: _Moments, decay: int, steps: int) -> None:
        """`steps` are the time steps of a window, the last one of which is one step before the forecast."""
        count = moments.count
        x_mean = moments.gram[0, 1:] / count
        y_mean = moments.cross[0] / count
        # The intercept has no penalty.
        centred = moments.gram[1:, 1:] - count * np.outer(x_mean, x_mean)
        cross = moments.cross[1:] - count * np.outer(x_mean, y_mean)

        lags = np.arange(steps, 0, -1, dtype=np.float64)
        # The inputs of a time step stand side by side.
        shrinkage = np.repeat(lags**-decay, len(x_mean) // steps)[:, None]
        values, vectors = np.linalg.eigh(centred * shrinkage * shrinkage.T)
        self._values = np.maximum(values, 0.0)[:, None]
        self._left = shrinkage * vectors
        self._right = self._left.T @ cross
        self._x_mean = x_mean
        self._y_mean = y_mean

    def solution(self, penalty: float) -> Float[np.ndarray, "q k"]:
        """Return the intercept and, below it, the weights."""
        weights = self._left @ (self._right / (self._values + penalty))
        intercept = self._y_mean - self._x_mean @ weights
        return np.concatenate([intercept[None], weights])
