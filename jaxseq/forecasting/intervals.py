"""Forecast intervals: conformal margins that grow with a size of each row, fitted and chosen on the validation part.

A row's interval of one level and step of the horizon is [low - s q, high + s q]: s is the size of the row (see `sizes`),
q a quantile of the calibration rows' scores max(low - y, y - high) / s. For a point forecast low and high are both the
forecast (split conformal), for a distribution its own quantiles (conformalised quantile regression). All of this is in
the model's own scale; `bounds` returns the series' units.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from jaxtyping import Float

from jaxseq.common.arrays import Arrays, namespace
from jaxseq.common.errors import UsageError
from jaxseq.data.transforms import Transform
from jaxseq.forecasting import adaptive, conformal, sizes
from jaxseq.forecasting.part import Part
from jaxseq.forecasting.sizes import Size

Kind = Literal["split", "scaled", "volatility", "adaptive"]
Choice = Literal["auto", "split", "scaled", "volatility", "adaptive"]
SIZES: tuple[Size, ...] = get_args(Size)
LEVELS = (0.5, 0.8, 0.95)
"""Nominal coverages of the intervals that a forecast comes with, unless its quantiles are at other levels."""
READ_AT_ONCE = 2**16
"""Windows that are read together."""
LEAST_SIZE = 0.01
"""Least size of a row, relative to the median of the calibration rows: a series at rest has no interval of width 0."""


class Forecast(NamedTuple):
    """Forecasts in the model's own scale; `quantiles` are None for a point forecast.

    levels     of the quantiles, q of them, the median among them
    """

    centre: Float[np.ndarray, "n k"]
    quantiles: Float[np.ndarray, "n k q"] | None = None
    levels: tuple[float, ...] = ()

    @property
    def median(self) -> Float[np.ndarray, "n k"]:
        """The median of a distribution, or the point forecast."""
        if self.quantiles is None:
            return self.centre
        return self.quantiles[..., self.levels.index(0.5)]

    @property
    def coverages(self) -> tuple[float, ...]:
        """Nominal coverages of its intervals."""
        if self.quantiles is None:
            return LEVELS
        return coverages_of(self.levels)


class Intervals(NamedTuple):
    """Fitted intervals of a model.

    kind    split, scaled, volatility or adaptive
    levels  nominal coverages, increasing
    sizes   margins in sizes of the row, for each level and step of the horizon
    size    size of a row that the scores were divided by: `kind`, unless that is adaptive
    least   smallest size of a row
    series  size of each series; empty unless rows have the size of their series
    until   last time of each series whose value was used, empty for a new series; none where rows are not in time
    scores  order statistics of the scores, for each level and step: of adaptive intervals only
    floor   smallest possible value in the series' unit; None is none
    """

    kind: Kind
    levels: tuple[float, ...]
    sizes: tuple[tuple[float, ...], ...]
    size: Size = "split"
    least: float = 0.0
    series: tuple[float, ...] = ()
    until: tuple[str, ...] = ()
    scores: tuple[tuple[tuple[float, ...], ...], ...] = ()
    floor: float | None = None


Bounds: TypeAlias = dict[float, tuple[Float[np.ndarray, "n k"], Float[np.ndarray, "n k"]]]
"""Low and high ends of the intervals, by level."""


def end_names(level: float) -> tuple[str, str]:
    """Return the names of the ends of an interval, such as low_80 and high_80; tables add a percent sign."""
    percent = f"{level:.0%}".removesuffix("%")
    return f"low_{percent}", f"high_{percent}"


def coverages_of(levels: Sequence[float]) -> tuple[float, ...]:
    """Return the coverages of the intervals between quantiles at `levels`, each with its mirror image, in order."""
    below = [level for level in levels if level < 0.5]
    return tuple(round(1 - 2 * level, 6) for level in reversed(below))


# Fit.


def fit(
    kind: Kind,
    forecast: Forecast,
    part: Part,
    size: Size = "split",
    coverages: Sequence[float] = (),
) -> Intervals:
    """Fit the margins to the known targets of a part; levels that it has too few rows for are left out.

    `size` is that of adaptive intervals; the other kinds name their own. `coverages` are those of the forecast unless they
    are given. Raises `UsageError` for a forecast that is not
    finite.
    """
    check_finite(forecast)
    if kind != "adaptive":
        size = kind
    # In the model's own scale the series of a panel are alike, and log-returns add.
    y = part.targets
    series_sizes = ()
    if size == "scaled" and len(part.scaling.scale) > 1:
        errors = y - forecast.centre
        series_sizes = tuple(sizes.mean_absolute_errors(errors, part.windows, len(part.scaling.scale)).tolist())

    row_sizes = _unbounded_sizes(size, part, series_sizes)
    counted_rows = np.isfinite(row_sizes) & np.any(np.isfinite(y), axis=1)
    least = 0.0
    if np.any(counted_rows):
        least = LEAST_SIZE * float(np.median(row_sizes[counted_rows]))
    row_sizes = _at_least(row_sizes, least)

    levels = []
    margins = []
    order_statistics = []
    for level in coverages or forecast.coverages:
        if _rows_of_each_step(y).min() < conformal.least_rows(level):
            continue
        # Each step has its own margin: errors grow with the horizon.
        scores = _scores(y, forecast, level) / row_sizes[:, None]
        levels.append(level)
        margins.append(tuple(_quantile(column, level) for column in scores.T))
        # The others need no score but the quantile.
        if kind == "adaptive":
            order_statistics.append(tuple(adaptive.thin(column) for column in scores.T))

    return Intervals(
        kind=kind,
        levels=tuple(levels),
        sizes=tuple(margins),
        size=size,
        least=least,
        series=series_sizes,
        scores=tuple(order_statistics),
    )


def _rows_of_each_step(y: Float[np.ndarray, "n k"]) -> np.ndarray:
    return np.sum(~np.isnan(y), axis=0)


def _scores(
    y: Float[np.ndarray, "n k"],
    forecast: Forecast,
    level: float,
) -> Float[np.ndarray, "n k"]:
    """Return the distance of each value outside of the forecast's own interval, negative inside; NaN where unknown."""
    low, high = own_interval(forecast, level)
    return np.maximum(low - y, y - high)


def check_finite(forecast: Forecast) -> None:
    """Raise `UsageError` for a forecast that is not finite: its scores would pass for those of unknown targets."""
    values = forecast.centre[..., None]
    if forecast.quantiles is not None:
        values = forecast.quantiles
    not_finite = ~np.all(np.isfinite(values), axis=-1)
    if np.any(not_finite):
        row = int(np.argmax(not_finite.any(axis=1))) + 1
        raise UsageError(
            f"{np.count_nonzero(not_finite)} of {not_finite.size} calibration residuals are not finite, "
            f"the first in row {row}"
        )


def _quantile(
    scores: Float[np.ndarray, " n"],
    level: float,
) -> float:
    # Unknown targets have no score.
    known_scores = scores[~np.isnan(scores)]
    return float(conformal.quantile(known_scores[:, None], level)[0])


def own_interval(
    forecast: Forecast,
    level: float,
) -> tuple[Float[np.ndarray, "n k"], Float[np.ndarray, "n k"]]:
    """Return the interval between a distribution's own quantiles, or the point forecast as both ends."""
    if forecast.quantiles is None:
        return forecast.centre, forecast.centre
    low, high = tails(level, forecast.levels)
    return forecast.quantiles[..., low], forecast.quantiles[..., high]


def tails(level: float, levels: Sequence[float]) -> tuple[int, int]:
    """Return the numbers of the two quantiles, of those at `levels`, that an interval lies between."""
    tail = round((1 - level) / 2, 6)
    return levels.index(tail), levels.index(round(1 - tail, 6))


def _unbounded_sizes(
    size: Size,
    part: Part,
    series_sizes: Sequence[float],
) -> Float[np.ndarray, " n"]:
    """Return the size of each row; NaN where nothing is known."""
    if size == "volatility":
        return part.volatility
    # Of a panel: the last values of different series are no common measure.
    if size == "scaled" and series_sizes:
        return np.asarray(series_sizes, np.float64)[part.windows.series]
    if size == "scaled":
        return part.last_value
    return np.ones(len(part.windows.origins))


def _at_least(
    row_sizes: Float[np.ndarray, " n"],
    least: float,
) -> Float[np.ndarray, " n"]:
    # A row without any known change has the least size rather than none.
    return np.fmax(row_sizes, least)


def row_sizes(
    intervals: Intervals,
    part: Part,
) -> Float[np.ndarray, " n"]:
    """Return the size of each row that its margins are multiplied by."""
    return _at_least(_unbounded_sizes(intervals.size, part, intervals.series), intervals.least)


# Apply.


def bounds(
    forecast: Forecast,
    intervals: Intervals,
    part: Part,
) -> Bounds:
    """Return the intervals of each level in the series' units; each lies within those of higher levels.

    Adaptive intervals follow the known targets of the part's own rows, in time order, as far as they are known when each
    forecast is made.
    """
    ends = scaled_bounds(forecast, intervals, part)
    return in_units(ends, intervals, part.scaling.transform, part.invert)


def in_units(
    ends: Mapping[float, tuple[Arrays, Arrays]],
    intervals: Intervals,
    transform: Transform,
    invert: Callable[[Arrays], Arrays],
) -> dict[float, tuple[Arrays, Arrays]]:
    """Return intervals "n k" of the model's own scale in the series' units; `invert` is the inverse of the scaling."""
    inverted = {}
    for level, (low, high) in ends.items():
        low = invert(low)
        high = invert(high)
        if transform.support == "counts":
            low, high = _whole_ends(low, high)
        inverted[level] = (above_floor(low, intervals.floor), above_floor(high, intervals.floor))
    return inverted


def _whole_ends(low: Arrays, high: Arrays) -> tuple[Arrays, Arrays]:
    """Return the smallest and the largest whole number of each interval, or the nearest one if there is none in it."""
    arrays = namespace(low)
    least = arrays.ceil(low)
    most = arrays.floor(high)
    nearest = arrays.round((low + high) / 2)
    has_none = least > most
    return arrays.where(has_none, nearest, least), arrays.where(has_none, nearest, most)


def above_floor(values: Arrays, floor: float | None) -> Arrays:
    """Return the values, those below the floor raised to it."""
    if floor is None:
        return values
    return namespace(values).maximum(values, floor)


def scaled_bounds(
    forecast: Forecast,
    intervals: Intervals,
    part: Part,
) -> Bounds:
    """Return the intervals of each level in the model's own scale."""
    row_size = row_sizes(intervals, part)[:, None]
    margins = _margins(forecast, intervals, part, row_size)
    own = {level: own_interval(forecast, level) for level in intervals.levels}
    return nested(own, margins, row_size)


def nested(
    own: Mapping[float, tuple[Arrays, Arrays]],
    margins: Sequence[Float[np.ndarray, "_ k"]],
    row_size: Arrays,
) -> dict[float, tuple[Arrays, Arrays]]:
    """Return intervals "n k" that are widened by their margins, each within those of higher levels.

    own       the forecast's own interval of each level, in increasing order
    margins   in sizes of the row, of each level: "n k", or "1 k" for all rows
    row_size  "n 1"
    """
    ends = {}
    inner = None
    for (level, (low, high)), margin in zip(own.items(), margins, strict=True):
        arrays = namespace(low)
        low = low - margin * row_size
        high = high + margin * row_size
        # A negative margin may close an interval: it is then the point in its middle.
        middle = (low + high) / 2
        low = arrays.minimum(low, middle)
        high = arrays.maximum(high, middle)
        # Margins are fitted level by level, so that those of a distribution may cross.
        if inner is not None:
            low = arrays.minimum(low, inner[0])
            high = arrays.maximum(high, inner[1])
        inner = (low, high)
        ends[level] = inner
    return ends


def nominal_margins(intervals: Intervals) -> list[Float[np.ndarray, "1 k"]]:
    """Return the margins of each level, in sizes of the row; of adaptive intervals before any value has moved them."""
    if intervals.kind == "adaptive" and intervals.levels:
        return list(adaptive.nominal(intervals.levels, np.asarray(intervals.scores))[:, None])
    return [np.asarray(size)[None] for size in intervals.sizes]


def uncalibrated(horizon: int, coverages: Sequence[float] = LEVELS) -> Intervals:
    """Return the intervals between a distribution's own quantiles."""
    return Intervals("split", tuple(coverages), sizes=((0.0,) * horizon,) * len(coverages))


def _margins(
    forecast: Forecast, intervals: Intervals, part: Part, row_size: Float[np.ndarray, "n 1"]
) -> Sequence[Float[np.ndarray, "_ k"]]:
    """Return the margins in sizes of the row: for each level those of all rows, "n k", or of any row, "1 k"."""
    if intervals.kind != "adaptive" or not intervals.levels:
        return nominal_margins(intervals)

    y = part.targets
    scores = np.stack([_scores(y, forecast, level) for level in intervals.levels], axis=-1)
    scores /= row_size[..., None]
    walked = adaptive.walk(
        scores,
        windows=part.windows,
        levels=intervals.levels,
        order_statistics=np.asarray(intervals.scores),
    )
    return list(np.moveaxis(walked, -1, 0))


def extend(
    intervals: Intervals,
    steps: int,
) -> Intervals:
    """Return intervals of `steps` steps: the first ones, beyond the fitted ones the last margin again."""

    def lengthen(per_step: tuple) -> tuple:
        beyond = (per_step[-1],) * (steps - len(per_step))
        return (*per_step, *beyond)[:steps]

    return intervals._replace(
        sizes=tuple(lengthen(margins) for margins in intervals.sizes),
        scores=tuple(lengthen(scores) for scores in intervals.scores),
    )


def for_series(
    intervals: Intervals,
    trained: Sequence[str],
    names: Sequence[str],
    new: Collection[str] = (),
) -> Intervals:
    """Return the intervals for series of other names and order; a series that is new has the median size of all.

    trained  names of the series that the intervals were fitted to
    new      names among them that are of other series by now
    """
    fitted_size = dict(zip(trained, intervals.series, strict=False))
    fitted_until = dict(zip(trained, intervals.until, strict=False))
    series_sizes = ()
    if fitted_size:
        # Nothing is known of the errors of a new series.
        median = float(np.median(intervals.series))
        series_sizes = tuple(median if name in new else fitted_size.get(name, median) for name in names)
    until = tuple("" if name in new else fitted_until.get(name, "") for name in names)
    return intervals._replace(series=series_sizes, until=until)


def quantiles(
    median: Float[np.ndarray, "n k"], ends: Bounds
) -> tuple[Float[np.ndarray, "n k q"], Float[np.ndarray, " q"]]:
    """Return the quantiles that intervals stand for, with the median among them, and their levels."""
    levels = sorted(ends)
    tails = [(1 - level) / 2 for level in levels]
    low = [ends[level][0] for level in levels]
    high = [ends[level][1] for level in levels]
    stacked = np.stack([*low[::-1], median, *high], axis=-1)
    # Conformal margins may move the narrowest interval beside the median. In place: a long test part has gigabytes.
    stacked.sort(axis=-1)
    below = np.array(tails[::-1])
    return stacked, np.round(np.concatenate([below, [0.5], 1 - below[::-1]]), 6)
