"""Residuals of a forecast, summed up by series, by step of the horizon, and by place in the season."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int, Shaped

from jaxseq.common.markdown import escaped
from jaxseq.data.frequency import Frequency, days_of_step, positions
from jaxseq.data.uncut import PartWindows
from jaxseq.data.windows import rows_by_series
from jaxseq.forecasting import metrics
from jaxseq.forecasting.losses import Scales
from jaxseq.forecasting.metrics import Values
from jaxseq.forecasting.predictions import Judged

WEEKDAYS = (
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
)
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
KINDS = {
    "series": "series",
    "step": "step of the horizon",
    "season": "place in the season",
}
"""Kinds of groups, in words."""
MINUTES = 24 * 60
"""Minutes of a day."""
MOST_ROWS = 24
"""Most rows of one kind in a report's table; the file has all."""


class Places(NamedTuple):
    """Place in the season of every target, and the name of each place."""

    number: Int[np.ndarray, "n k"]
    names: tuple[str, ...]


def places(times: Shaped[np.ndarray, "n k"], frequency: Frequency) -> Places | None:
    """Return the places of times in the season of their frequency; None without a season."""
    period = frequency.period
    if period == 1:
        return None
    flat = times.ravel()
    named = None
    if times.dtype.kind == "M":
        named = _named_places(flat, frequency)
    if named is None:
        number = positions(flat, frequency) % period
        named = Places(number, tuple(str(place + 1) for place in range(period)))
    return Places(named.number.reshape(times.shape), named.names)


def _named_places(times: Shaped[np.ndarray, " n"], frequency: Frequency) -> Places | None:
    """Return weekdays, months or times of day; None for any other season."""
    period = frequency.period
    days_in_season = days_of_step(frequency) * period
    # Business days are five in a week.
    if frequency.name == "B" and period == 5:
        return Places(_weekdays(times), WEEKDAYS[:5])
    if round(days_in_season, 9) == 7 and period == 7:
        return Places(_weekdays(times), WEEKDAYS)
    if round(days_in_season) == 365 and period == 12:
        months = times.astype("datetime64[M]").astype(np.int64)
        return Places(months % 12, MONTHS)
    # Names have minutes: other seasons of a day, say in steps of 90 seconds, have numbers.
    if round(days_in_season, 9) == 1 and MINUTES % period == 0:
        return _times_of_day(times, period)
    return None


def _weekdays(times: Shaped[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Return the weekday of each time, 0 for Monday."""
    days = times.astype("datetime64[D]").astype(np.int64)
    # 1970-01-01 was a Thursday.
    return (days + 3) % 7


def _times_of_day(times: Shaped[np.ndarray, " n"], period: int) -> Places:
    """Return the place of each time in its day, which has `period` of them."""
    midnight = times.astype("datetime64[D]")
    minutes = (times - midnight) // np.timedelta64(1, "m")
    step = MINUTES // period
    names = []
    for place in range(period):
        hours, rest = divmod(step * place, 60)
        names.append(f"{hours:02}:{rest:02}")
    return Places(minutes.astype(np.int64) // step, tuple(names))


def table(
    judged: Judged,
    part: PartWindows,
    names: Sequence[str],
    scales: Scales | None = None,
    season: Places | None = None,
) -> pd.DataFrame:
    """Return the residuals, actual - forecast, in groups: all, of each series, step and place in the season.

    by, group        kind and name of the group
    count            known targets
    bias             mean residual
    mae, rmse        mean absolute and root mean squared residual
    reference_mae    that of the reference
    low_80%          share of the values below the interval, for each level
    high_80%         share above it

    With `scales`, of each series, residuals are divided by the series' own change, so that no series counts for its unit:
    the columns are then bias, mase, rmsse and reference_mase.
    """
    columns = _columns(judged, part, scales)
    has_target = np.isfinite(judged.actual)
    frames = []
    for kind, grouping in _groupings(part, names, season).items():
        means = _means(columns, has_target, grouping)
        frame = pd.DataFrame({"by": kind, "group": list(grouping.names), **means})
        frames.append(frame[frame["count"] > 0])
    joined = pd.concat(frames, ignore_index=True)

    error_names = _error_names(scales)
    joined[error_names.squared] = np.sqrt(joined.pop("square"))
    first = ["by", "group", "count", "bias", *error_names]
    others = [name for name in joined if name not in first]
    return joined[[*first, *others]]


def _groupings(part: PartWindows, names: Sequence[str], season: Places | None) -> dict[str, Places]:
    """Return the group of every target, by the kind of the groups."""
    shape = (len(part.origins), part.horizon)
    groupings = {"all": Places(np.zeros(shape, int), ("",))}
    # A group of everything says what the first row does.
    if len(names) > 1:
        series = np.broadcast_to(part.series[:, None], shape)
        groupings["series"] = Places(series, tuple(names))
    if shape[1] > 1:
        steps = np.broadcast_to(np.arange(shape[1]), shape)
        groupings["step"] = Places(steps, tuple(str(step + 1) for step in range(shape[1])))
    if season is not None:
        groupings["season"] = season
    return groupings


class _ErrorNames(NamedTuple):
    """Names of the columns of absolute and squared errors."""

    absolute: str
    squared: str


def _error_names(scales: Scales | None) -> _ErrorNames:
    if scales is None:
        return _ErrorNames("mae", "rmse")
    return _ErrorNames("mase", "rmsse")


def _columns(judged: Judged, part: PartWindows, scales: Scales | None) -> dict[str, Float[np.ndarray, "n k"]]:
    """Return the numbers of which means are taken, for every target."""
    actual = judged.actual
    residual = metrics.errors(actual, judged.forecast)
    reference_residual = metrics.errors(actual, judged.reference)
    absolute_scale = np.ones((len(residual), 1))
    squared_scale = absolute_scale
    if scales is not None:
        absolute_scale = scales.absolute[part.series][:, None]
        squared_scale = scales.squared[part.series][:, None]

    name = _error_names(scales).absolute
    columns = {
        "bias": residual / absolute_scale,
        name: np.abs(residual) / absolute_scale,
        "square": residual**2 / squared_scale,
        f"reference_{name}": np.abs(reference_residual) / absolute_scale,
    }
    for level, (low, high) in judged.ends.items():
        is_below = actual < low
        is_above = actual > high
        columns[f"low_{level:.0%}"] = is_below.astype(np.float64)
        columns[f"high_{level:.0%}"] = is_above.astype(np.float64)
    return columns


def _means(
    columns: Mapping[str, Float[np.ndarray, "n k"]],
    has_target: Bool[np.ndarray, "n k"],
    grouping: Places,
) -> dict[str, Shaped[np.ndarray, " g"]]:
    """Return the number of known targets of each group, and their mean in each column."""
    numbers = grouping.number[has_target]
    count = len(grouping.names)
    sizes = np.bincount(numbers, minlength=count)
    means: dict[str, Shaped[np.ndarray, " g"]] = {"count": sizes}
    for name, values in columns.items():
        sums = np.bincount(numbers, weights=values[has_target], minlength=count)
        # A group without a target is left out later.
        means[name] = sums / np.maximum(sizes, 1)
    return means


def ratios(judged: Judged, series: Int[np.ndarray, " n"]) -> dict[int, float]:
    """Return the mean absolute error of the forecast over that of the reference, by series, the worst first.

    NaN, and last, where the reference has no error or nothing is known.
    """
    error = absolute_sums(judged.actual, judged.forecast)
    of_reference = absolute_sums(judged.actual, judged.reference)
    by_series = {}
    for number, rows in rows_by_series(series).items():
        by_series[number] = ratio(error[rows], of_reference[rows])
    return dict(sorted(by_series.items(), key=lambda item: -np.nan_to_num(item[1], nan=-np.inf)))


def absolute_sums(actual: Values, forecast: Values) -> Float[np.ndarray, " n"]:
    """Return the sum of the absolute errors of each row; unknown targets have none."""
    return np.nansum(np.abs(metrics.errors(actual, forecast)), axis=1)


def ratio(error: Float[np.ndarray, " n"], of_reference: Float[np.ndarray, " n"]) -> float:
    """Return the ratio of two sums; NaN where the reference makes no error."""
    total = float(of_reference.sum())
    if not total:
        return float("nan")
    return float(error.sum()) / total


def relative(of_group: pd.DataFrame) -> pd.Series:
    """Return the absolute error of each group over that of the reference; NaN where that has none."""
    name = "mase" if "mase" in of_group else "mae"
    reference = of_group[f"reference_{name}"]
    return of_group[name] / reference.where(reference > 0)


def markdown(residuals: pd.DataFrame, unit: str) -> str:
    """Return the residuals as Markdown tables, by series the worst ones alone, relative to the reference."""
    tables = []
    for kind, heading in KINDS.items():
        rows = residuals[residuals["by"] == kind]
        if len(rows):
            rows = rows.assign(relative=relative(rows))
            tables.append(_markdown_table(rows, kind, heading, unit))
    return "\n\n".join(tables)


def _markdown_table(rows: pd.DataFrame, kind: str, heading: str, unit: str) -> str:
    """Return one kind of groups as a Markdown table with a caption."""
    caption = f"**By {heading}**"
    shown = rows
    if kind == "series":
        shown = rows.sort_values("relative", ascending=False, kind="stable").head(MOST_ROWS)
        chosen_by = "the worst of"
    else:
        places = np.linspace(0, len(rows) - 1, min(MOST_ROWS, len(rows))).round()
        shown = rows.iloc[places.astype(int)]
        chosen_by = "at equal distances, of"
    if len(shown) < len(rows):
        caption = f"{caption} ({len(shown)} rows, {chosen_by} {len(rows):,})"

    headings = {
        "bias": "bias",
        "mae": "MAE",
        "rmse": "RMSE",
        "mase": "MASE",
        "rmsse": "RMSSE",
    }
    present = [name for name in headings if name in rows]
    suffix = ""
    # Scaled residuals have no unit.
    if unit and "mae" in rows:
        suffix = f", {unit}"
    cells = [heading, "values"]
    cells += [escaped(f"{headings[name]}{suffix}") for name in present]
    cells.append(f"{headings[present[1]]} / reference")
    lines = [caption, "", f"| {' | '.join(cells)} |", f"|---|{'---:|' * (len(cells) - 1)}"]
    for row in shown.to_dict("records"):
        name = escaped(str(row["group"]))
        numbers = [f"{row[column]:.4g}" for column in (*present, "relative")]
        lines.append(f"| {name} | {row['count']:,} | {' | '.join(numbers)} |")
    return "\n".join(lines)
