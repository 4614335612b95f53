"""Least squares on the values of a window, as a network reads them or on the levels: fitted in pieces, in float64."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxseq.common.errors import UsageError
from jaxseq.data.dataset import Background
from jaxseq.data.fitting import fit_scaling
from jaxseq.data.laid_out import batch
from jaxseq.data.powers import NONE
from jaxseq.data.scaling import Scaling, rows_at_once
from jaxseq.data.uncut import PartWindows
from jaxseq.data.windows import Windows


class LinearForecast(NamedTuple):
    """y = x · weights + intercept, where x is one row of all lags."""

    weights: Float[np.ndarray, "t k"]
    intercept: Float[np.ndarray, " k"]

    def predict(self, x: Float[np.ndarray, "n ..."]) -> Float[np.ndarray, "n k"]:
        """Return the forecast for each row of `x`, in whatever representation it was fitted on. Raises `ValueError`."""
        rows = _rows(x)
        if rows.shape[1] != len(self.weights):
            raise ValueError(f"fitted on {len(self.weights)} lags, asked to forecast from {rows.shape[1]}")
        return rows @ self.weights + self.intercept


def least_squares(
    train_x: Float[np.ndarray, "n ..."],
    train_y: Float[np.ndarray, "n k"],
) -> LinearForecast:
    """Fit least squares on the lags: one regression with intercept for each step of the horizon, in float64.

    The result has the smallest norm where the lags are linearly dependent (the last lag of "change" is always 0).
    """
    x = _rows(train_x)
    y = np.asarray(train_y, np.float64)
    x_mean = x.mean(axis=0)
    y_mean = y.mean(axis=0)
    # Centred, so that the intercept is no part of the norm that is made small.
    weights = np.linalg.lstsq(x - x_mean, y - y_mean, rcond=None)[0]
    return LinearForecast(weights, intercept=y_mean - x_mean @ weights)


def of_windows(train: PartWindows, scaling: Scaling) -> Callable[[PartWindows], Float[np.ndarray, "n k"]]:
    """Fit least squares to the training windows, as `scaling` lays them out; the function forecasts in the series' units.

    Raises `UsageError` if a step of the horizon has no known target.
    """
    model = _fit(train, scaling)

    def forecast(part: PartWindows) -> Float[np.ndarray, "n k"]:
        forecasts = []
        for piece in part.pieces(rows_at_once(part, scaling)):
            # In float32, as `batch` gives the training inputs.
            inputs = scaling.inputs(piece).astype(np.float32)
            forecasts.append(scaling.invert(model.predict(inputs), piece))
        return np.concatenate(forecasts)

    return forecast


def _fit(train: PartWindows, scaling: Scaling) -> LinearForecast:
    size = rows_at_once(train, scaling)
    is_known = np.concatenate([np.isfinite(scaling.targets(piece)) for piece in train.pieces(size)])
    horizon = is_known.shape[1]
    # Each step of the horizon has its own rows, those whose target is known.
    groups = [slice(step, step + 1) for step in range(horizon)]
    if np.all(is_known):
        groups = [slice(0, horizon)]
    for group in groups:
        if not np.any(is_known[:, group]):
            raise UsageError("least squares has no known target to be fitted to", where=f"step {group.stop}", got=0)

    models = _of_groups(groups, train.pieces(size), scaling, alone=len(is_known) <= size)
    return LinearForecast(
        weights=np.concatenate([model.weights for model in models], axis=1),
        intercept=np.concatenate([model.intercept for model in models]),
    )


def _of_groups(
    groups: Sequence[slice], pieces: Iterable[Windows], scaling: Scaling, *, alone: bool
) -> list[LinearForecast]:
    """Fit least squares to the steps of each group, on the rows of the pieces in which all of them are known.

    Each piece is laid out once for all groups; `alone` says that there is one.
    """
    fits = [_Factor() for _ in groups]
    models = []
    for piece in pieces:
        rows = batch(piece, scaling)
        x = np.asarray(rows.x)
        y = np.asarray(rows.y)
        for number, group in enumerate(groups):
            is_known = np.isfinite(y[:, group]).all(axis=1)
            known_x = x if np.all(is_known) else x[is_known]
            known_y = y[is_known, group]
            if alone:
                models.append(least_squares(known_x, known_y))
            # A piece may have no known target of a step.
            elif len(known_y):
                fits[number] = fits[number].with_rows(known_x, known_y)
    return models or [fit.solution() for fit in fits]


class _Factor(NamedTuple):
    """The rows of a least-squares fit that came in pieces, as the triangular factor of all of them.

    The factor R of [1, x, y] = QR holds all that least squares needs of the rows, and that of two pieces is the factor of
    their factors (Golub & Van Loan 2013, Matrix Computations, section 5.3). Its first row gives the means.

    steps  columns of y
    """

    triangle: Float[np.ndarray, "_ _"] | None = None
    count: int = 0
    steps: int = 0

    def with_rows(self, x: Float[np.ndarray, "n ..."], y: Float[np.ndarray, "n k"]) -> _Factor:
        """Return the factor with further rows, at least one."""
        rows = _beside_ones(x, y)
        if self.triangle is not None:
            rows = np.concatenate([self.triangle, rows])
        return _Factor(np.asarray(np.linalg.qr(rows, mode="r")), self.count + len(x), y.shape[1])

    def solution(self) -> LinearForecast:
        """Return the fit with the smallest norm, as `least_squares`."""
        assert self.triangle is not None, "the caller has a row"
        lags = self.triangle.shape[1] - 1 - self.steps
        x_mean, y_mean = np.split(self.triangle[0, 1:] / self.triangle[0, 0], [lags])
        centred = self.triangle[1 : 1 + lags, 1:]
        # As `lstsq` takes it for all rows: lags that are linearly dependent but for rounding have no weight of their own.
        rcond = np.finfo(np.float64).eps * self.count
        weights = np.linalg.lstsq(centred[:, :lags], centred[:, lags:], rcond=rcond)[0]
        return LinearForecast(weights, intercept=y_mean - x_mean @ weights)


def _beside_ones(x: Float[np.ndarray, "n ..."], y: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n _"]:
    return np.concatenate([np.ones((len(x), 1)), _rows(x), y], axis=1, dtype=np.float64)


def scaling_of_levels(
    scaling: Scaling,
    background: Background,
) -> Scaling:
    """Return the scaling of each series by the range of its training values; covariates and masks stay as they are."""
    levels = fit_scaling("level", background.training, background.names)
    return dataclasses.replace(
        scaling,
        kind="level",
        shift=levels.shift,
        scale=levels.scale,
        lag=1,
        longer=0,
        share=0.0,
        by_window=False,
        window_scale="",
        scale_input=False,
        power=NONE,
        exponents=(),
    )


def _rows(x: Float[np.ndarray, "n ..."]) -> Float[np.ndarray, "n lags"]:
    return np.asarray(x, np.float64).reshape(len(x), math.prod(x.shape[1:]))
