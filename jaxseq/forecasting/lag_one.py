"""Is a forecast the last value in disguise? The changes that it makes, against those of the series."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from jaxseq.forecasting.metrics import Values, errors


class LagOne(NamedTuple):
    """Is the forecast only a copy of the last value? See `lag_one_copy`.

    movement            root mean square of f - v over that of a - v: 0 never moves, 1 moves as far as the series does
    change_correlation  of the forecast change f - v with the actual change a - v; 0 where either of them is constant
    chance_correlation  upper 2.5 % point of that correlation for independent changes
    """

    movement: float
    change_correlation: float
    chance_correlation: float

    @property
    def copies(self) -> bool:
        """Whether it moves less than half as far as the series, and agrees with its moves only by chance."""
        return self.movement < 0.5 and self.change_correlation <= self.chance_correlation


def lag_one_copy(
    actual: Values,
    forecast: Values,
    last: Float[np.ndarray, " n"],
    times: Shaped[np.ndarray, " n"] | None = None,
    overlap: int | None = None,
) -> LagOne:
    """Tell a forecast of the next value from a copy of the last one: a = actual, f = forecast, v = last value.

    A curve of levels that follows the actual one a day late looks like a good forecast (R² of 0.99 is a property of
    the naive one), and so does a good forecast of a random walk. The difference is in the CHANGE from the last value:
    does the forecast make any, and does it agree with the series'? `chance_correlation` is 1.96 / √(n / k), the
    limit for n / k independent pairs (Bartlett 1946); with `times` n is how many different ones there are, and `overlap`
    stands in place of the k steps (`Rows`). Unknown targets are left out. Raises `ValueError` with the shapes where they
    do not fit.
    """
    # Called for its check of the shapes.
    errors(actual, forecast)
    if last.shape != actual.shape[:1]:
        raise ValueError(f"last values {last.shape} must be one for each of the {len(actual)} rows")
    rows = len(actual)
    # Series move together: rows of one time are no independent pairs.
    if times is not None:
        rows = len(np.unique(times))

    known_targets = np.isfinite(actual)
    forecast_change = (forecast - last[:, None])[known_targets]
    actual_change = (actual - last[:, None])[known_targets]
    forecast_size = float(np.sqrt(np.mean(forecast_change**2)))
    actual_size = float(np.sqrt(np.mean(actual_change**2)))
    # A series that never moves leaves nothing to compare a move with.
    movement = math.inf
    if actual_size:
        movement = forecast_size / actual_size

    independent_pairs = rows / (overlap or actual.shape[1])
    return LagOne(
        movement=movement,
        change_correlation=_correlation(forecast_change, actual_change),
        chance_correlation=1.96 / math.sqrt(independent_pairs),
    )


def _correlation(
    a: Float[np.ndarray, " n"],
    b: Float[np.ndarray, " n"],
) -> float:
    """Return Pearson's correlation; 0 where one of the two is constant but for rounding."""
    a_deviations = a - a.mean()
    b_deviations = b - b.mean()
    a_length = float(np.linalg.norm(a_deviations))
    b_length = float(np.linalg.norm(b_deviations))
    # Deviations of a constant are rounding errors, and would correlate by chance.
    if a_length <= 1e-12 * np.linalg.norm(a) or b_length <= 1e-12 * np.linalg.norm(b):
        return 0.0
    return float(np.sum(a_deviations * b_deviations)) / (a_length * b_length)
