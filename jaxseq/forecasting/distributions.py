"""Scores of forecasts as distributions: of the model's intervals, and of intervals around each baseline's forecast."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import pandas as pd
from jaxtyping import Float

from jaxseq.common.markdown import escaped
from jaxseq.data.powers import NONE
from jaxseq.forecasting import intervals, metrics
from jaxseq.forecasting.intervals import Bounds, Forecast, Intervals
from jaxseq.forecasting.metrics import Values
from jaxseq.forecasting.part import Part

Forecasts: TypeAlias = Mapping[str, Values]
"""Forecasts of one part in the series' units, by name."""


def around(
    valid: Values,
    test: Values,
    fitted: Intervals,
    valid_part: Part,
    test_part: Part,
) -> Bounds:
    """Return intervals around a forecast of the test part, of the same kind as those of `fitted`, by the same code.

    Both parts' forecasts are in the series' units. Without intervals is a forecast that the model's own scale cannot
    express (a log-return needs a positive one).
    """
    pair = [_scaled(valid, valid_part), _scaled(test, test_part)]
    # Without a forecast in the scale of the scores there are none.
    if pair[0] is None or pair[1] is None:
        return {}
    # Kind and levels are the model's, so that widths differ by the forecasts and by nothing else.
    margins = intervals.fit(fitted.kind, pair[0], valid_part, fitted.size, fitted.levels)
    return intervals.bounds(pair[1], margins._replace(floor=fitted.floor), test_part)


def _scaled(
    forecast: Float[np.ndarray, "n k"],
    part: Part,
) -> Forecast | None:
    """Return a forecast in the model's own scale; None where that is not possible."""
    transform = part.scaling.transform
    if transform.relative and np.any(transform.refused(forecast)):
        return None
    if part.scaling.power != NONE and np.any(forecast <= 0):
        return None
    # Of a simple forecast that the series cannot take, such as one below 0 of a root.
    with np.errstate(invalid="ignore", divide="ignore"):
        numbers = part.scaled(forecast)
    if not np.all(np.isfinite(numbers)):
        return None
    return Forecast(numbers)


def scores(
    actual: Float[np.ndarray, "n k"],
    median: Float[np.ndarray, "n k"],
    ends: Bounds,
    scale: Float[np.ndarray, " n"] | None = None,
) -> list[dict[str, float]]:
    """Return CRPS, pinball loss, and the interval score and coverage of each level; nothing without intervals.

    Over all steps of the horizon first, then of each step. All in the series' unit, but `scaled_crps` in that of each
    row's `scale`, so that the series of a panel count alike.
    """
    steps = [slice(None), *(slice(step, step + 1) for step in range(actual.shape[1]))]
    if not ends:
        return [{} for _ in steps]

    # Once for all steps, as they take the memory of several forecasts.
    quantiles, levels = intervals.quantiles(median, ends)
    losses = metrics.pinball_by_step(actual, quantiles, levels)
    scaled_losses = None
    if scale is not None:
        by_row = scale[:, None]
        # The quantiles in the series' unit are not needed any more.
        quantiles /= by_row[..., None]
        scaled_losses = metrics.pinball_by_step(actual / by_row, quantiles, levels)
    del quantiles

    table = []
    for number, columns in enumerate(steps):
        of_step = actual[:, columns]
        values = {
            "crps": metrics.crps_of_levels(losses[number], levels),
            "pinball": float(np.mean(losses[number])),
        }
        if scaled_losses is not None:
            values["scaled_crps"] = metrics.crps_of_levels(scaled_losses[number], levels)
        for level, (low, high) in ends.items():
            ends_of_step = (low[:, columns], high[:, columns])
            values[f"interval_score_{level:.0%}"] = metrics.interval_score(of_step, *ends_of_step, level)
            values[f"coverage_{level:.0%}"] = metrics.coverage(of_step, *ends_of_step)
        table.append(values)
    return table


def markdown(
    table: pd.DataFrame,
    unit: str,
    scaled: bool,
) -> str:
    """Return the scores over all steps of every forecast that has intervals as a Markdown table; may be empty.

    table   forecast, step, and the columns of `scores`
    scaled  whether the errors of a panel are scaled: its CRPS is, too
    """
    if "crps" not in table:
        return ""
    columns = {"crps": "CRPS", "pinball": "pinball loss"}
    if scaled:
        columns = {"scaled_crps": "scaled CRPS", **columns}
    for name in map(str, table.columns):
        if name.startswith("interval_score"):
            columns[name] = name.replace("_", " ")
    if unit:
        # Scaled by each series' own change, the first one has no unit.
        columns = {name: title if name == "scaled_crps" else f"{title}, {unit}" for name, title in columns.items()}

    lines = [f"| forecast | {' | '.join(map(escaped, columns.values()))} |", "|---|" + "---:|" * len(columns)]
    rows = table[(table["step"] == "all") & table["crps"].notna()]
    for row in rows.to_dict("records"):
        name = escaped(str(row["forecast"]))
        cells = " | ".join(f"{row[column]:.4g}" for column in columns)
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)
