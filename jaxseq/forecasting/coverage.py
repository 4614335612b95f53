"""Measured coverage of forecast intervals: overall, by step of the horizon, over series, and in the worst stretch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from jaxseq.common.markdown import escaped
from jaxseq.data.uncut import PartWindows
from jaxseq.data.windows import rows_by_series
from jaxseq.forecasting import metrics
from jaxseq.forecasting.intervals import Bounds

STRETCH = 60
"""Consecutive forecasts of a series over which the worst coverage is taken."""
MOST_STEPS = 12
"""Most steps of the horizon that the table by step shows."""


class Coverage(NamedTuple):
    """Coverage of the intervals of one level, at one step of the horizon or (step None) over all steps.

    level     nominal coverage
    step      steps ahead, from 1
    measured  share of the values within their interval
    width     mean width in the series' unit; an interval that has vanished counts as 0
    score     mean interval score in the series' unit
    """

    level: float
    step: int | None
    measured: float
    width: float
    score: float


class Spread(NamedTuple):
    """Spread of the coverage of one level, over series and over time.

    by_series  10th, 50th and 90th percentile of the coverage of each series; None for a single series
    worst      smallest coverage of `STRETCH` consecutive forecasts of a series, mean over the steps of the horizon; None
               where no series has as many, or where the rows are not in time
    """

    level: float
    by_series: tuple[float, float, float] | None
    worst: float | None


def coverage_table(
    actual: metrics.Values,
    intervals: Bounds,
) -> list[Coverage]:
    """Return coverage, width and score of the intervals of each level: over all steps, then one by one.

    Arrays are "n k", in the series' unit; unknown (NaN) actual values count nowhere. Raises `ValueError` with both
    shapes where they differ.
    """
    rows = []
    for level, (low, high) in intervals.items():
        for step in (None, *range(1, actual.shape[1] + 1)):
            columns = slice(None)
            if step is not None:
                columns = slice(step - 1, step)
            part = (actual[:, columns], low[:, columns], high[:, columns])
            # An inverted interval is empty: the point in its middle scores for it.
            middle = (part[1] + part[2]) / 2
            ordered = (part[0], np.minimum(part[1], middle), np.maximum(part[2], middle))
            row = Coverage(
                level=level,
                step=step,
                measured=metrics.coverage(*part),
                width=metrics.interval_width(*part),
                score=metrics.interval_score(*ordered, level),
            )
            rows.append(row)
    return rows


def spread(
    windows: PartWindows,
    intervals: Bounds,
    in_time: bool,
) -> list[Spread]:
    """Return the spread of the coverage of each level; `in_time` says whether consecutive rows follow each other."""
    return [_spread(windows, level, ends, in_time) for level, ends in intervals.items()]


def _spread(
    windows: PartWindows,
    level: float,
    ends: tuple[Float[np.ndarray, "n k"], Float[np.ndarray, "n k"]],
    in_time: bool,
) -> Spread:
    inside = metrics.inside(windows.targets, *ends)
    known_steps = ~np.isnan(inside)
    hits = np.where(known_steps, inside, 0).sum(axis=1)
    counts = known_steps.sum(axis=1)

    shares = []
    worst = []
    for rows in rows_by_series(windows.series).values():
        total = counts[rows].sum()
        if total:
            shares.append(hits[rows].sum() / total)
        # Rows that are not in time have no neighbours.
        if in_time:
            in_order = rows[np.argsort(windows.origins[rows], kind="stable")]
            worst.extend(rolling_shares(hits[in_order], counts[in_order]).tolist())

    by_series = None
    # A single series has no spread.
    if len(shares) > 1:
        tenth, median, ninetieth = np.percentile(shares, [10, 50, 90])
        by_series = (float(tenth), float(median), float(ninetieth))
    return Spread(level, by_series, min(worst, default=None))


def rolling_shares(
    hits: Float[np.ndarray, " n"],
    counts: Shaped[np.ndarray, " n"],
) -> Float[np.ndarray, " m"]:
    """Return the share of hits in each stretch of `STRETCH` known rows, in their order; none if there are fewer."""
    # Rows without a known value are no forecasts to count.
    is_known = counts > 0
    if np.count_nonzero(is_known) < STRETCH:
        return np.empty(0)
    return _rolling_sums(hits[is_known]) / _rolling_sums(counts[is_known])


def _rolling_sums(values: Shaped[np.ndarray, " n"]) -> Float[np.ndarray, " m"]:
    sums = np.concatenate([[0.0], np.cumsum(values)])
    return sums[STRETCH:] - sums[:-STRETCH]


# Text.


def sentence(
    coverage: list[Coverage],
    spreads: list[Spread],
) -> str:
    """Return one line: coverage of all values, of the worst stretch, and of the badly covered series; may be empty."""
    overall = [row for row in coverage if row.step is None]
    if not overall:
        return ""
    levels = "/".join(f"{row.level:.0%}".removesuffix("%") for row in overall)
    text = f"{levels} % intervals cover {_percents([row.measured for row in overall])} % of the test values"

    worst = [row.worst for row in spreads if row.worst is not None]
    if worst:
        text = f"{text}, {_percents(worst)} % in the worst {STRETCH} consecutive forecasts"
    tenth = [row.by_series[0] for row in spreads if row.by_series is not None]
    if tenth:
        text = f"{text}, {_percents(tenth)} % in the series at the 10th percentile"
    return text


def _percents(shares: list[float]) -> str:
    return "/".join(f"{100 * share:.1f}" for share in shares)


def markdown(
    coverage: list[Coverage],
    spreads: list[Spread],
    unit: str,
) -> str:
    """Return the coverage as a Markdown table, and a second one by step of the horizon; may be empty."""
    overall = [row for row in coverage if row.step is None]
    if not overall:
        return ""
    suffix = ""
    if unit:
        suffix = f", {unit}"
    titles = ["interval", "coverage", f"worst {STRETCH} in a row", f"mean width{suffix}", f"interval score{suffix}"]
    several_series = any(row.by_series is not None for row in spreads)
    # For one series it would be a column of dashes.
    if several_series:
        titles.insert(2, "10 %, 50 %, 90 % of the series")

    lines = [f"| {' | '.join(map(escaped, titles))} |", "|---|" + "---:|" * (len(titles) - 1)]
    for row, of_level in zip(overall, spreads, strict=True):
        cells = [
            f"{row.level:.0%}",
            f"{row.measured:.1%}",
            _share_cell(of_level.worst),
            f"{row.width:.4g}",
            f"{row.score:.4g}",
        ]
        if several_series:
            cells.insert(2, _spread_cell(of_level))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, *_by_step(coverage)])


def _spread_cell(spread_of_level: Spread) -> str:
    if spread_of_level.by_series is None:
        return "\N{EN DASH}"
    return ", ".join(f"{share:.0%}" for share in spread_of_level.by_series)


def _share_cell(share: float | None) -> str:
    if share is None:
        return "\N{EN DASH}"
    return f"{share:.1%}"


def _by_step(coverage: list[Coverage]) -> list[str]:
    """Return the lines of a table of the coverage at some steps of the horizon; none for a single step."""
    levels = [row.level for row in coverage if row.step is None]
    measured = {(row.step, row.level): row.measured for row in coverage if row.step is not None}
    last = max(step for step, _ in measured)
    if last == 1:
        return []

    # A long horizon is shown by steps at equal distances; its first and last are among them.
    steps = np.unique(np.round(np.linspace(1, last, MOST_STEPS)).astype(int))
    headings = " | ".join(f"{level:.0%} intervals" for level in levels)
    lines = ["", f"| step | {headings} |", "|---:|" + "---:|" * len(levels)]
    for step in steps.tolist():
        shares = " | ".join(f"{measured[step, level]:.1%}" for level in levels)
        lines.append(f"| {step} | {shares} |")
    return lines
