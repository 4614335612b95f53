"""Verdicts on forecasts of a test set: a table with the naive forecast first, and a sentence for each row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped
from rich.table import Table

from jaxseq.common.errors import UsageError
from jaxseq.forecasting.baselines import NAIVE
from jaxseq.forecasting.metrics import Values, errors, mae, relative_mse, rmse
from jaxseq.forecasting.significance import LagOne, block_bootstrap_interval, by_time, diebold_mariano

NO_EVIDENCE = "no evidence of improvement over the last value"


class Row(NamedTuple):
    """One forecast's errors (`rmse` and `mae` in the series' unit), the 95 % interval of its skill, and the p-value of the
    Diebold-Mariano test against the last value; NaN where there is none."""

    name: str
    rmse: float
    mae: float
    relative_mse: float
    skill: float
    low: float
    high: float
    p_value: float = math.nan


def compare(
    actual: Values, forecasts: Mapping[str, Values], seed: int = 0, times: Shaped[np.ndarray, " n"] | None = None
) -> list[Row]:
    """One row for each forecast, in the order given: chronological rows "n k", in the series' unit.

    `times` "n" are needed where rows of several series share them: interval and p-value then take each time for one
    draw, with all its series together (see `by_time`), and the rows may be in any order. The first forecast must be
    `NAIVE`; its skill is 0 and has no interval. Raises `UsageError` if it is not there, is exact, or if a value is not
    finite, and `ValueError` with both shapes if they differ.
    """
    if next(iter(forecasts), None) != NAIVE:
        raise UsageError(f"the first forecast must be {NAIVE!r}; given were {', '.join(forecasts) or 'none'}")
    for name, values in {"actual": actual, **forecasts}.items():
        if count := np.count_nonzero(bad := ~np.isfinite(values)):
            row = int(np.argmax(bad.any(axis=-1))) + 1
            raise UsageError(f"{name}: {count} of {values.size} values are not finite, the first in row {row}")
    return [_row(name, actual, values, forecasts[NAIVE], seed, times) for name, values in forecasts.items()]


def _row(
    name: str,
    actual: Values,
    forecast: Values,
    naive: Values,
    seed: int,
    times: Shaped[np.ndarray, " n"] | None,
) -> Row:
    ratio = relative_mse(actual, forecast, naive)
    interval, p = (math.nan, math.nan), math.nan
    if name != NAIVE:
        trio = actual, forecast, naive
        if times is not None:
            ours, base = (by_time(errors(actual, values), times) for values in (forecast, naive))
            trio = np.zeros_like(ours), ours, base
        interval = block_bootstrap_interval(*trio, seed=seed)
        p = diebold_mariano(*trio).p_value
    return Row(name, rmse(actual, forecast), mae(actual, forecast), ratio, 1 - ratio, *interval, p)


def sentence(row: Row) -> str:
    """Return the verdict on a forecast: an improvement only if the whole interval of its skill is above zero."""
    if row.name == NAIVE:
        return f"{row.name}: what the others are measured against"
    if math.isnan(row.low):
        return f"{row.name}: {NO_EVIDENCE}: skill {row.skill:+.4f}, too few test rows for an interval"
    found = f"skill {row.skill:+.4f} (95 % interval {row.low:+.4f} to {row.high:+.4f})"
    if row.low > 0:
        return f"{row.name}: improves on the last value: {found}"
    return f"{row.name}: {NO_EVIDENCE}: {'it is worse, ' if row.high < 0 else ''}{found}"


def copy_sentence(name: str, lag: LagOne) -> str:
    """The answer to "is it only copying the last value?", with the numbers that it rests on."""
    if lag.change_correlation > lag.chance_correlation:
        answer, side = "does not only copy the last value", "above"
    elif lag.copies:
        answer, side = "only copies the last value", "within"
    else:
        answer, side = "strays from the last value at random", "within"
    return (
        f"{name}: {answer}: it moves {lag.movement:.0%} as far as the series, and its moves correlate "
        f"{lag.change_correlation:+.3f} with the actual ones ({side} chance, {lag.chance_correlation:.3f})"
    )


def number(value: float) -> str:
    """An error with four decimals, or with four digits where those would say nothing or never end."""
    return f"{value:.4f}" if value == 0 or 0.01 <= abs(value) < 1e6 else f"{value:.4g}"


def chance(p: float) -> str:
    """A p-value with three decimals, which is never 0."""
    return "<0.001" if p < 0.0005 else f"{p:.3f}"


def written(row: Row, to: str) -> tuple[str, ...]:
    """A row's RMSE, MAE, MSE / naive, skill, interval (with `to` between its ends) and p, as people read them."""
    interval = "\N{EN DASH}" if math.isnan(row.low) else f"{row.low:+.4f}{to}{row.high:+.4f}"
    skill = "0" if row.name == NAIVE else f"{row.skill:+.4f}"
    p = "\N{EN DASH}" if math.isnan(row.p_value) else chance(row.p_value)
    return number(row.rmse), number(row.mae), f"{row.relative_mse:.4f}", skill, interval, p


def markdown(rows: list[Row], unit: str) -> str:
    """The rows as a Markdown table; `unit` may be empty."""
    suffix = f", {unit}" if unit else ""
    lines = [
        f"| forecast | RMSE{suffix} | MAE{suffix} | MSE / naive | skill | 95 % interval | p |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        name = row.name.replace("|", "\\|")
        lines.append(f"| {' | '.join([name, *written(row, ' to ')])} |")
    return "\n".join(lines)


def score_table(rows: list[Row], unit: str, title: str) -> Table:
    """Return the forecasts' scores as a table for a terminal of 80 columns.

    "vs naive" is MSE over that of the last value, p that of the Diebold-Mariano test against it.
    """
    if unit:
        title = f"{title}, errors in {unit}"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1), collapse_padding=True, pad_edge=False)
    # In a narrow terminal the names wrap, so that no digit is cut.
    table.add_column("forecast", overflow="fold")
    for heading in ("RMSE", "MAE", "vs naive", "skill", "95 % interval", "p"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(row.name, *written(row, " "))
    return table
