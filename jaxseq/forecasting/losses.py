"""Losses of a forecast and its reference, a mean for each row, arranged by time and series; and the skill they give."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from jaxtyping import Float, Int, Shaped

from jaxseq.common.errors import UsageError
from jaxseq.forecasting.metrics import Values, errors, log_losses

Loss: TypeAlias = Literal["squared", "absolute", "log"]
"""Loss of a forecast; the logarithmic one is of a probability, of what is 0 or 1."""


class Losses(NamedTuple):
    """Losses of a forecast and of its reference, "m s": times in their order, series; NaN where a series has no row.

    horizon  windows in time that share targets with a row, itself among them: the steps that it is the mean of, or fewer
             where not every window is judged
    """

    forecast: Float[np.ndarray, "m s"]
    reference: Float[np.ndarray, "m s"]
    horizon: int


class Scales(NamedTuple):
    """Scale of each row's losses, so that no series weighs more for its unit: `metrics.seasonal_scale` of its series."""

    absolute: Float[np.ndarray, " n"]
    squared: Float[np.ndarray, " n"]

    def of(self, loss: Loss) -> Float[np.ndarray, " n"]:
        """Return the scales of a loss."""
        if loss == "squared":
            return self.squared
        return self.absolute


class Rows(NamedTuple):
    """Places of the rows of a test part in time and among the series.

    times    of each row; None for rows of a single series in order of time
    series   number of each row's series; None for a single one
    scales   of each row's losses; None for losses in the series' unit
    overlap  windows in time that share targets with one of them, itself among them; None for the horizon, if every
             window is judged
    """

    times: Shaped[np.ndarray, " n"] | None = None
    series: Int[np.ndarray, " n"] | None = None
    scales: Scales | None = None
    overlap: int | None = None


IN_ORDER = Rows()
"""Rows of a single series in order of time."""


def pair_losses(
    actual: Values,
    forecast: Values,
    reference: Values,
    rows: Rows = IN_ORDER,
    loss: Loss = "squared",
) -> Losses:
    """Return the losses of a forecast and its reference, the mean of each row's steps, arranged by time and series.

    Unknown targets (NaN) are left out. Raises `ValueError` with the shapes where they differ, and `UsageError` for
    another loss or a forecast that is not finite.
    """
    has_target = np.isfinite(actual).any(axis=1)
    forecast_losses = row_losses(actual, forecast, loss)[has_target]
    reference_losses = row_losses(actual, reference, loss)[has_target]
    if rows.scales is not None:
        scale = rows.scales.of(loss)[has_target]
        forecast_losses = forecast_losses / scale
        reference_losses = reference_losses / scale

    horizon = rows.overlap or actual.shape[1]
    # Without times the rows are in order already: one column, as they come.
    if rows.times is None:
        return Losses(forecast_losses[:, None], reference_losses[:, None], horizon)
    if rows.times.shape != has_target.shape:
        raise ValueError(f"times {rows.times.shape} must be one for each of the {len(actual)} rows")

    times, time_of_row = np.unique(rows.times[has_target], return_inverse=True)
    series_of_row = np.zeros(len(time_of_row), int)
    if rows.series is not None:
        series_of_row = np.unique(rows.series[has_target], return_inverse=True)[1]
    # A series without a row at a time has NaN there, which every mean leaves out.
    tables = np.full((2, len(times), series_of_row.max() + 1), np.nan)
    tables[0, time_of_row, series_of_row] = forecast_losses
    tables[1, time_of_row, series_of_row] = reference_losses
    return Losses(tables[0], tables[1], horizon)


_STEP_LOSSES: Mapping[Loss, Callable[[Values, Values], Float[np.ndarray, "n k"]]] = {
    "squared": lambda actual, forecast: errors(actual, forecast) ** 2,
    "absolute": lambda actual, forecast: np.abs(errors(actual, forecast)),
    "log": log_losses,
}


def row_losses(
    actual: Values,
    forecast: Values,
    loss: Loss = "squared",
) -> Float[np.ndarray, " n"]:
    """Return the mean loss of each row over its known targets; NaN where none is known.

    Raises `ValueError` with both shapes where they differ, and `UsageError` for another loss or a forecast that is not
    finite.
    """
    if loss not in get_args(Loss):
        raise UsageError("unknown", where="loss", got=loss, needed=", ".join(get_args(Loss)))
    step_losses = _STEP_LOSSES[loss](actual, forecast)
    not_finite = ~np.isfinite(forecast)
    if np.any(not_finite):
        row = int(np.argmax(not_finite.any(axis=1))) + 1
        count = np.count_nonzero(not_finite)
        raise UsageError(f"{count} of {not_finite.size} forecasts are not finite, the first in row {row}")

    known_targets = np.isfinite(actual)
    counts = known_targets.sum(axis=1)
    sums = np.sum(np.where(known_targets, step_losses, 0.0), axis=1)
    means = sums / np.maximum(counts, 1)
    return np.where(counts > 0, means, np.nan)


def skill(losses: Losses) -> float:
    """Return 1 - mean loss / mean loss of the reference: 0 is as good, 1 is perfect, below 0 is worse.

    For squared errors, Murphy (1988), "Skill scores based on the mean square error", Monthly Weather Review 116(12),
    equation 4. Against a reference that makes no error at all it is 0 for a forecast that makes none, else -inf.
    """
    forecast_mean = float(np.nanmean(losses.forecast))
    reference_mean = float(np.nanmean(losses.reference))
    # The ratio to a perfect reference is not defined.
    if reference_mean == 0:
        if forecast_mean:
            return -math.inf
        return 0.0
    return 1 - forecast_mean / reference_mean
