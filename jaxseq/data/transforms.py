"""Transforms: reversible maps between the values of a series and the numbers that a model reads and forecasts.

A transform has one shift and one scale a series, fitted on its training rows. Its maps are written for the namespace of
their arrays: in float64 of numpy they prepare the data, in JAX they are part of an exported program.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Array, Bool, Float, Shaped

from jaxseq.common import checks
from jaxseq.common.arrays import Support, namespace
from jaxseq.common.errors import UsageError

LARGEST_COUNT = 2**24
"""Largest whole number below which float32 has all others."""
ROUNDING = 8 * float(np.finfo(np.float64).eps)
"""Spread, relative to the largest value, below which values differ by rounding alone."""

Values: TypeAlias = Float[np.ndarray | Array, "..."]
Map: TypeAlias = Callable[[Values, Values, Values, Values], Values]
"""A function (values or numbers, base, shift, scale) of arrays that broadcast together; base is what changes are from."""
AsInput: TypeAlias = Callable[[Values], Values]
"""A function from a model's target to the same value as its input."""
Mask: TypeAlias = Callable[[Float[np.ndarray, "..."]], Bool[np.ndarray, "..."]]
Fit: TypeAlias = Callable[[Float[np.ndarray, " n"], str, int], tuple[float, float]]
"""A function (training values, name of the series, lag of changes) -> (shift, scale).

Raises `UsageError` where there is no scale."""
FitRows: TypeAlias = Callable[[Values, int], tuple[Values, Values]]
"""A function (values "n t", lag of changes) -> shift and scale "n 1" of each row; the scale may be 0."""


class Transform(NamedTuple):
    """A reversible map of a series, by its shift and scale.

    inputs      (values "n t", the value before each, shift, scale) -> the model's inputs x
    targets     (values "n k", the known value that each is compared with, shift, scale) -> the model's targets y
    invert      inverse of `targets`, for the same known values; never falls, for all numbers: quantiles pass through it
    fit         shift and scale from training values that are not all the same
    fit_rows    shift and scale of each window from its own values; None where a window has none of its own
    refused     values of a series that the model cannot read; NaN, a missing one, never is
    rule        what `refused` says, for the error: "... values above 0"
    way_out     what to do instead
    path        values -> those whose one-step changes the forecast errors grow with
    relative    whether y is relative to the last value, so that equal errors mean equal shares of it
    adds_up     whether one-step y that are fed back add up to the y of several steps
    bounded     whether x and y of all readable values are numbers of which float32 holds the square
    as_input    y -> the next x, if the forecast y is the next value; None where it is y itself
    support     the targets y
    seasonal    whether values are compared with those one season before, in place of the one before and the last one
    from_last   whether y is above 0 where the value is above the last known one, and nowhere else
    """

    inputs: Map
    targets: Map
    invert: Map
    fit: Fit
    refused: Mask
    rule: str = ""
    way_out: str = ""
    path: Callable[[Values], Values] = lambda values: values
    relative: bool = False
    adds_up: bool = True
    bounded: bool = False
    as_input: AsInput | None = None
    support: Support = "real"
    seasonal: bool = False
    from_last: bool = False
    fit_rows: FitRows | None = None


def _none(values: Float[np.ndarray, "*shape"]) -> Bool[np.ndarray, "*shape"]:
    return np.zeros(values.shape, bool)


# Level: the value itself.


def _scaled_level(values: Values, base: Values, shift: Values, scale: Values) -> Values:
    return (values - shift) / scale


def _level(y: Values, base: Values, shift: Values, scale: Values) -> Values:
    return y * scale + shift


def _fit_range(values: Float[np.ndarray, " n"], name: str, lag: int) -> tuple[float, float]:
    low = float(np.nanmin(values))
    return low, float(np.nanmax(values)) - low


def _fit_spread_of_rows(values: Values, lag: int) -> tuple[Values, Values]:
    return values.mean(axis=-1, keepdims=True), values.std(axis=-1, keepdims=True)


LEVEL = Transform(
    inputs=_scaled_level,
    targets=_scaled_level,
    invert=_level,
    fit=_fit_range,
    refused=_none,
    adds_up=False,
    fit_rows=_fit_spread_of_rows,
)
"""x = (v - shift) / scale, with the smallest training value as shift and the range of the training values as scale; by the
window, with its mean and standard deviation (Kim et al. 2022, ICLR, "RevIN")."""


# Change from the last value.


def _scaled_change(values: Values, base: Values, shift: Values, scale: Values) -> Values:
    return (values - base) / scale


def _changed(y: Values, base: Values, shift: Values, scale: Values) -> Values:
    return base + y * scale


def _fit_changes(values: Float[np.ndarray, " n"], name: str, lag: int) -> tuple[float, float]:
    return 0.0, _spread_of_changes(values, "change", name, lag)


def _fit_changes_of_rows(values: Values, lag: int) -> tuple[Values, Values]:
    changes = namespace(values).abs(values[..., lag:] - values[..., :-lag])
    scale = changes.mean(axis=-1, keepdims=True)
    return namespace(values).zeros_like(scale), scale


CHANGE = Transform(
    inputs=_scaled_change,
    targets=_scaled_change,
    invert=_changed,
    fit=_fit_changes,
    refused=_none,
    from_last=True,
    fit_rows=_fit_changes_of_rows,
)
"""x = (v - previous) / scale, with the standard deviation of the training changes as scale; by the window, with its mean
absolute change."""


# Change from the value one season before.


def _fit_course_of_rows(values: Values, lag: int) -> tuple[Values, Values]:
    scale = values.std(axis=-1, keepdims=True)
    return namespace(values).zeros_like(scale), scale


SEASON = CHANGE._replace(seasonal=True, from_last=False, adds_up=False, fit_rows=_fit_course_of_rows)
"""x = (v - v one season before) / scale, y likewise: y = 0 is the seasonal naive forecast.

By the window, the scale is the standard deviation of its values: a regular season has hardly any change from one time to
the next, but always a course."""


# Change of the logarithm.


def _log(values: Values) -> Values:
    return namespace(values).log(values)


def _scaled_return(values: Values, base: Values, shift: Values, scale: Values) -> Values:
    return (_log(values) - _log(base)) / scale


def _grown(y: Values, base: Values, shift: Values, scale: Values) -> Values:
    return base * namespace(y).exp(y * scale)


def _not_above_zero(values: Float[np.ndarray, "*shape"]) -> Bool[np.ndarray, "*shape"]:
    return values <= 0


def _fit_returns(values: Float[np.ndarray, " n"], name: str, lag: int) -> tuple[float, float]:
    return 0.0, _spread_of_changes(np.log(values), "log-return", name, lag)


def _fit_returns_of_rows(values: Values, lag: int) -> tuple[Values, Values]:
    return _fit_changes_of_rows(_log(values), lag)


LOG_RETURN = Transform(
    inputs=_scaled_return,
    targets=_scaled_return,
    invert=_grown,
    fit=_fit_returns,
    refused=_not_above_zero,
    rule="a log-return needs values above 0",
    way_out='use target "change"',
    path=_log,
    relative=True,
    bounded=True,
    from_last=True,
    fit_rows=_fit_returns_of_rows,
)
"""x = log(v / previous) / scale, with the standard deviation of the training log-returns as scale."""


# Counts: the model reads their logarithm and forecasts the counts themselves.


def _as_log_count(values: Values) -> Values:
    return namespace(values).log1p(values)


def _log_count(values: Values, base: Values, shift: Values, scale: Values) -> Values:
    return _as_log_count(values)


def _unchanged(values: Values, base: Values, shift: Values, scale: Values) -> Values:
    return values


def _no_count(values: Float[np.ndarray, "*shape"]) -> Bool[np.ndarray, "*shape"]:
    is_count = (values >= 0) & (values <= LARGEST_COUNT) & (np.round(values) == values)
    return ~(is_count | np.isnan(values))


def _fit_nothing(values: Float[np.ndarray, " n"], name: str, lag: int) -> tuple[float, float]:
    return 0.0, 1.0


COUNT = Transform(
    inputs=_log_count,
    targets=_unchanged,
    invert=_unchanged,
    fit=_fit_nothing,
    refused=_no_count,
    rule=f"a count is a whole number from 0 to {LARGEST_COUNT:,}",
    way_out='use target "change" and another head',
    adds_up=False,
    bounded=True,
    as_input=_as_log_count,
    support="counts",
)
"""x = log(1 + v), and y is the count itself: a distribution over whole numbers needs it (Salinas et al. 2020, section 3).

Nothing is fitted: the network has to see how high a series is, because its forecast is no multiple of a scale."""


# Amounts from 0, by their mean: what is 0 stays 0.


def _scaled_amount(values: Values, base: Values, shift: Values, scale: Values) -> Values:
    return values / scale


def _as_log_amount(values: Values) -> Values:
    return namespace(values).log1p(values)


def _log_amount(values: Values, base: Values, shift: Values, scale: Values) -> Values:
    return _as_log_amount(values / scale)


def _amount(y: Values, base: Values, shift: Values, scale: Values) -> Values:
    return y * scale


def _below_zero(values: Float[np.ndarray, "*shape"]) -> Bool[np.ndarray, "*shape"]:
    return values < 0


def _fit_mean(values: Float[np.ndarray, " n"], name: str, lag: int) -> tuple[float, float]:
    return 0.0, float(np.nanmean(values))


def _fit_mean_of_rows(values: Values, lag: int) -> tuple[Values, Values]:
    scale = values.mean(axis=-1, keepdims=True)
    return namespace(values).zeros_like(scale), scale


AMOUNT = Transform(
    inputs=_log_amount,
    targets=_scaled_amount,
    invert=_amount,
    fit=_fit_mean,
    refused=_below_zero,
    rule="an amount is a number from 0",
    way_out='use target "change" and another head',
    adds_up=False,
    as_input=_as_log_amount,
    support="amounts",
    fit_rows=_fit_mean_of_rows,
)
"""x = log(1 + v / scale) and y = v / scale, with the mean of the training values as scale, or of the window's own."""


def _spread_of_changes(path: Float[np.ndarray, " n"], kind: str, name: str, lag: int) -> float:
    """Return the standard deviation of changes over `lag` time steps, or their own size where all are the same.

    A change next to a missing value is missing. Raises `UsageError` for fewer than two changes, and for changes of 0.
    """
    changes = path[lag:] - path[:-lag]
    changes = changes[np.isfinite(changes)]
    neighbours = "neighbouring known values"
    steps = "one-step"
    if lag > 1:
        neighbours = f"known values {lag} time steps apart"
        steps = f"{lag}-step"
    if len(changes) < 2:
        raise UsageError(
            f'{name}: a scaling by changes ("{kind}") needs at least 2 between {neighbours} of the training '
            f'rows; there are {len(changes)}: use target "level"'
        )
    scale = float(changes.std())
    rounding = ROUNDING * np.nanmax(np.abs(path))
    # A straight line: its changes do not spread, and their own size is the only scale there is.
    if scale <= rounding:
        scale = abs(float(changes.mean()))
    if scale <= rounding:
        raise UsageError(
            f'{name}: the {len(changes)} {steps} changes ("{kind}") of the training rows are '
            f'{changes[0]:g} throughout: there is no scale in them; use target "level"'
        )
    return scale


TRANSFORMS: MappingProxyType[str, Transform] = MappingProxyType(
    {
        "change": CHANGE,
        "season": SEASON,
        # The same maps, of a change from the values of two seasons.
        "seasons": SEASON,
        "log-return": LOG_RETURN,
        "level": LEVEL,
        "count": COUNT,
        "amount": AMOUNT,
    }
)
"""Transforms by the name that `--data.target` gives them."""
LINEAR = ("change", "season", "seasons", "level")
"""Targets that are linear in the values, so that another scale of the window, or a power, goes with them."""


def is_from_zero(name: str) -> bool:
    """Return whether a target of that name takes values from 0 alone; False for "auto"."""
    return name in TRANSFORMS and TRANSFORMS[name].support != "real"


def check_readable(
    transform: Transform,
    values: Float[np.ndarray, "*shape"],
    source: str = "",
    times: Shaped[np.ndarray, " n"] | None = None,
) -> None:
    """Raise `UsageError`, which begins with `source` and names the first row or its time, for values that are refused."""
    checks.none_refused(
        values, transform.refused(values), rule=transform.rule, way_out=transform.way_out, source=source, times=times
    )
