"""Errors and coverage in groups, as a section of a run's page whose reader chooses how they are grouped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

import numpy as np
import pandas as pd

from jaxseq.common import html_page
from jaxseq.forecasting import chart
from jaxseq.forecasting.predictions import interval_levels
from jaxseq.forecasting.residuals import KINDS

TEMPLATE = Path(__file__).with_name("chart_errors.html")
SCRIPT = Path(__file__).with_name("chart_errors.js")

ORDER = ("step", "series", "season")
"""Kinds of groups to choose from, the first one shown."""
MEASURES = {
    "mae": "Mean absolute error",
    "mase": "MASE",
}


def section(residuals: pd.DataFrame, shown_series: Sequence[str], reference: str, unit: str = "") -> str:
    """Return the errors as HTML, which stands below the chart of forecasts; empty where there is but one group.

    residuals     `residuals.table` of the test part
    shown_series  names of the series in the chart of forecasts, in its order
    reference     name of the forecast whose errors stand beside those of the model
    """
    measure = next(name for name in MEASURES if name in residuals)
    levels = interval_levels(residuals)
    kinds = []
    for kind in ORDER:
        rows = residuals[residuals["by"] == kind].set_index("group")
        if kind == "series" and len(rows):
            # Choosing a series here shows it there, by its place; one without a known target has no errors.
            rows = rows.reindex(list(shown_series))
        if len(rows) > 1:
            kinds.append(_kind(rows, kind, measure, levels))
    if not kinds:
        return ""

    title = MEASURES[measure]
    # A scaled error has no unit.
    if unit and measure == "mae":
        title = f"{title}, {unit}"
    content = {"kinds": kinds, "levels": levels, "measure": title, "reference": reference}
    claim_hidden = ""
    if not levels:
        claim_hidden = ' hidden=""'
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        measure=escape(title),
        claim_hidden=claim_hidden,
        reference=escape(reference),
        data=html_page.script_data(content),
        script=SCRIPT.read_text(encoding="utf-8"),
    )


def _kind(rows: pd.DataFrame, kind: str, measure: str, levels: Sequence[int]) -> dict[str, object]:
    """Return one kind of groups as the script reads it."""
    covered = []
    for level in levels:
        outside = rows[f"low_{level}%"] + rows[f"high_{level}%"]
        percent = 100 * (1 - outside)
        covered.append(chart.numbers(percent.to_numpy(np.float64)))
    return {
        "name": KINDS[kind],
        "ordered": kind != "series",
        "groups": [str(group) for group in rows.index],
        "error": chart.numbers(rows[measure].to_numpy(np.float64)),
        "reference": chart.numbers(rows[f"reference_{measure}"].to_numpy(np.float64)),
        "covered": covered,
    }
