"""A forecast from the end of each series, judged against what came."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Int
from rich.table import Table

from jaxseq.common import notebook_page
from jaxseq.common.markdown import escaped
from jaxseq.common.text import counted
from jaxseq.data.dataset import Background
from jaxseq.data.earlier import Earlier
from jaxseq.data.later import Later
from jaxseq.data.windows import Windows
from jaxseq.forecasting import baselines, coverage, evaluate, m4, significance, verdict
from jaxseq.forecasting.coverage import Coverage, Spread
from jaxseq.forecasting.distributions import Forecasts
from jaxseq.forecasting.intervals import Bounds, above_floor
from jaxseq.forecasting.losses import IN_ORDER, Loss, Rows, Scales
from jaxseq.forecasting.m4 import NAIVE2
from jaxseq.forecasting.metrics import Values
from jaxseq.forecasting.predictions import frame
from jaxseq.forecasting.verdict import DASH, Answer, Comparison

MEASURES = {
    "mase": "MASE",
    "smape": "sMAPE",
    "rmsse": "RMSSE",
    "mae": "MAE",
    "rmse": "RMSE",
    "owa": "OWA",
    "log_loss": "log loss",
    "brier": "Brier score",
    "accuracy": "accuracy",
}
"""Headings of the errors."""
LATER_PART = "the later part"
"""The rows that came, in sentences."""


class Ends(NamedTuple):
    """Forecasts from the end of each series, in the series' units.

    name        of the model
    windows     the window at each end, with unknown targets
    forecast    of the model
    intervals   of the model; empty if it has none
    simple      forecasts by their name: see `simple_forecasts`
    background  of the series; all of their rows are training rows
    """

    name: str
    windows: Windows
    forecast: Values
    intervals: Bounds
    simple: Forecasts
    background: Background


class Score(NamedTuple):
    """Judgement of a model's forecasts by the rows that came after the end of each series.

    errors      a row for each forecast and step of the horizon, and for all steps together (step "all")
    comparison  of the model and every simple forecast with the reference
    answer      verdict on the model: it improves on the reference and on the last value, or not, or it is not decided
    verdict     sentence on the model against the reference
    remarks     sentences on the best forecast and on the number of series that improve
    coverage    of the model's intervals, nominal and measured; empty without intervals
    spread      of that coverage over the series
    values      a row for each series and step that has come: time, actual, every forecast, intervals
    notes       rows that are missing or not judged, measures that cannot be had
    """

    errors: pd.DataFrame
    comparison: Comparison
    answer: Answer
    verdict: str
    remarks: tuple[str, ...]
    coverage: list[Coverage]
    spread: list[Spread]
    values: pd.DataFrame
    notes: tuple[str, ...]

    def _repr_html_(self) -> str:
        """Return the verdict, the errors over all steps and the remarks, for notebooks."""
        lines = _lines(self)
        table = pd.DataFrame(lines.rows, columns=lines.headings).to_html(index=False, border=0)
        covered = coverage.sentence(self.coverage, self.spread)
        texts = [*self.remarks, *([covered] if covered else []), *self.notes]
        return f"<div><p><b>{html.escape(self.verdict)}</b></p>{table}{notebook_page.sentences(texts)}</div>"


def simple_forecasts(ends: Windows, background: Background, one_step: Windows, earlier: Earlier) -> dict[str, Values]:
    """Forecast from the end of each series by the simple forecasts, "n k", the last value first and Naive2 last.

    `earlier` are the values that the network's target is compared with.
    """
    forecasts = baselines.forecast_ends(ends, background, one_step, earlier)
    horizon = ends.targets.shape[1]
    adjusted = [m4.naive2(values, background.period, horizon) for values in background.training]
    forecasts[NAIVE2] = np.stack(adjusted)
    return {name: above_floor(values, background.floor) for name, values in forecasts.items()}


def score(ends: Ends, later: Later, *, reference: str, loss: Loss = "squared", seed: int = 0) -> Score:
    """Judge forecasts from the end of each series against the values that came.

    `reference` is one of the forecasts, chosen without a look at those values; `seed` is that of the bootstrap. Raises
    `UsageError` if a forecast is not finite.
    """
    background = ends.background
    part = ends.windows._replace(targets=later.actual)
    scales, notes = evaluate.series_scales(background)

    (forecasts,), twins = baselines.distinct([ends.simple])
    # A reference that is left out is one of the others by another name.
    if reference not in forecasts:
        reference = _twin(reference, ends.simple, forecasts)
    forecasts[ends.name] = ends.forecast
    rows = rows_of_ends(part.series, scales)
    compared = evaluate.comparisons(part.targets, forecasts, reference, rows=rows, loss=loss, seed=seed)
    deciding = verdict.deciding_comparison(compared.all, compared.last_value)

    table = _errors(ends, forecasts, later, scales, reference)
    comparison = _with_errors(compared.all, table)
    columns = {"forecast": ends.forecast, **forecasts}
    del columns[ends.name]
    values = frame(part, background.names, columns, ends.intervals, later.times, keys=background.keys)
    remarks = [verdict.ranking_sentence(comparison, compared.last_value, LATER_PART)]
    if rows.series is not None:
        remarks.append(verdict.series_sentence(ends.name, significance.series_tests(comparison.losses)))
    return Score(
        errors=table,
        comparison=comparison,
        answer=verdict.answer(deciding.model),
        verdict=verdict.sentence(deciding.model, deciding.reference.name, LATER_PART),
        remarks=tuple(remarks),
        coverage=coverage.coverage_table(later.actual, ends.intervals),
        spread=coverage.spread(part, ends.intervals, in_time=False),
        values=values[values["actual"].notna()].reset_index(drop=True),
        notes=(*later.notes, *notes, *twins),
    )


def _twin(name: str, simple: Forecasts, distinct: Forecasts) -> str:
    """Return the distinct forecast that a simple one equals in all values."""
    return next(other for other, values in distinct.items() if np.array_equal(values, simple[name]))


def rows_of_ends(series: Int[np.ndarray, " n"], scales: Scales | None) -> Rows:
    """Return the places of the forecasts: one of each series, all at the end of what was known."""
    if len(series) == 1:
        return IN_ORDER
    return Rows(times=np.zeros(len(series), int), series=series, scales=scales)


def _errors(ends: Ends, forecasts: Forecasts, later: Later, scales: Scales | None, reference: str) -> pd.DataFrame:
    """Return the errors of every forecast, over all steps and by step."""
    roles = {reference: "reference", ends.name: "model"}
    adjusted = ends.simple[NAIVE2]
    horizon = later.actual.shape[1]
    columns = {"all": slice(None), **{step: slice(step - 1, step) for step in range(1, horizon + 1)}}
    # A step that no series has reached has no errors.
    reached = {step: chosen for step, chosen in columns.items() if np.isfinite(later.actual[:, chosen]).any()}
    of_adjusted = {
        step: m4.errors(later.actual[:, chosen], adjusted[:, chosen], scales) for step, chosen in reached.items()
    }
    table = []
    for name, forecast in forecasts.items():
        for step, chosen in reached.items():
            errors = m4.errors(later.actual[:, chosen], forecast[:, chosen], scales)
            row = {"forecast": name, "role": roles.get(name, "baseline"), "step": step, **errors._asdict()}
            table.append({**row, "owa": m4.owa(errors, of_adjusted[step])})
    return pd.DataFrame(table)


def over_all_steps(errors: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Return the errors over all steps, by the name of the forecast and of the measure."""
    rows = errors[errors["step"] == "all"]
    names = [name for name in MEASURES if name in errors]
    return {str(row["forecast"]): {name: float(row[name]) for name in names} for row in rows.to_dict("records")}


def _with_errors(comparison: Comparison, table: pd.DataFrame) -> Comparison:
    """Return a comparison whose rows have the errors of the table: those of a panel are means over its series."""
    squared = "rmse"
    absolute = "mae"
    if comparison.scaled:
        squared = "rmsse"
        absolute = "mase"
    errors = over_all_steps(table)
    rows = [row._replace(errors=(errors[row.name][squared], errors[row.name][absolute])) for row in comparison.rows]
    return comparison._replace(rows=rows)


# Text ------------------------------------------------------------------------------------------------------------------


def measures(errors: pd.DataFrame) -> list[str]:
    """Return the measures that the errors have: without scales there is no MASE, and of values no log loss."""
    return [name for name in MEASURES if name in errors and errors[name].notna().any()]


def _cells(score: Score, row: verdict.Row, names: Sequence[str]) -> list[str]:
    """Return the errors and the skill of a forecast as texts."""
    errors = over_all_steps(score.errors)[row.name]
    cells = [_error_cell(errors[name]) for name in names]
    skill = verdict.signed(row.skill)
    if row.interval is None:
        skill = "0"
    return [*cells, skill]


def _error_cell(value: float) -> str:
    if math.isnan(value):
        return DASH
    return verdict.format_error(value)


def terminal_table(score: Score, title: str) -> Table:
    """Return the errors over all steps as a table for a terminal."""
    names = measures(score.errors)
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1), collapse_padding=True, pad_edge=False)
    # In a narrow terminal the names wrap, so that no digit is cut.
    table.add_column("forecast", overflow="fold")
    for heading in (*(MEASURES[name] for name in names), "skill"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in verdict.shown(score.comparison).rows:
        table.add_row(row.name, *_cells(score, row, names))
    return table


def markdown(score: Score) -> str:
    """Return the errors over all steps as a Markdown table, with the interval of the skill."""
    lines = _lines(score)
    table = [f"| {' | '.join(lines.headings)} |", f"|---|{'---:|' * (len(lines.headings) - 1)}"]
    for name, *cells in lines.rows:
        table.append(f"| {' | '.join([escaped(name), *cells])} |")
    return "\n".join(table)


class _Lines(NamedTuple):
    """Errors over all steps as texts, a row for each forecast that is shown, which begins with its name."""

    headings: list[str]
    rows: list[list[str]]


def _lines(score: Score) -> _Lines:
    """Return the errors over all steps with the interval of the skill."""
    names = measures(score.errors)
    rows = []
    for row in verdict.shown(score.comparison).rows:
        name = row.name
        ends = DASH
        if row.interval is None:
            name = f"{name} (reference)"
        elif not math.isnan(row.interval.low):
            ends = f"{verdict.signed(row.interval.low)} to {verdict.signed(row.interval.high)}"
        rows.append([name, *_cells(score, row, names), ends])
    return _Lines(["forecast", *(MEASURES[name] for name in names), "skill", "95 % interval"], rows)


def counts_sentence(values: pd.DataFrame) -> str:
    """Return how many values of how many series are judged, and in which time."""
    series = ""
    if "series" in values:
        series = f" of {values['series'].nunique():,} series"
    times = values.iloc[:, 0]
    if pd.api.types.is_datetime64_any_dtype(times):
        times = times.map(str)
    return f"{counted(len(values), 'value')}{series}, {times.min()} to {times.max()}"
