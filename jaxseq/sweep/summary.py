"""Tables of a sweep: a row for each run, and mean and standard deviation over seeds."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from jaxseq.checkpoint import run_seal
from jaxseq.sweep.grid import Point
from jaxseq.sweep.planned import PlannedRun

TABLE = "sweep.csv"
SUMMARY = "sweep.md"


def table(grid: Sequence[Point], runs: Sequence[PlannedRun]) -> pd.DataFrame:
    """Return a row for each finished run: the values that vary, then the scores of its domain."""
    rows = []
    for point, run in zip(grid, runs, strict=True):
        rows.append({**point.values, **run_seal.judged_row(run.folder)})
    return pd.DataFrame(rows)


def markdown(grid: Sequence[Point], scores: pd.DataFrame) -> str:
    """Return a table in Markdown: mean and standard deviation over seeds for each combination of the other fields."""
    varied = grid[0].values
    fields = [name for name in varied if name != "seed"]
    measures = [name for name in scores.columns if name not in varied and name != "epochs"]

    header = " | ".join([*fields, "runs", *measures])
    alignment = "---|" * len(fields) + "---:|" * (1 + len(measures))
    lines = [f"| {header} |", f"|{alignment}"]
    # pandas refuses to group by no field; then all runs are one group.
    groups = scores.groupby(fields, sort=False) if fields else [((), scores)]
    for values, group in groups:
        cells = [str(value) for value in values]
        cells.append(str(len(group)))
        cells.extend(_mean_and_deviation(group[name]) for name in measures)
        lines.append(f"| {' | '.join(cells)} |")

    rows = "\n".join(lines)
    return f"""# {grid[0].experiment.name}: {len(grid)} runs

{rows}

± is the standard deviation over the runs of a row. Choose by a validation column; use the test columns only for the
combination that was chosen. A row for each run: `{TABLE}`.
"""


def _mean_and_deviation(values: pd.Series) -> str:
    mean = f"{values.mean():.5g}"
    # The deviation of a single run is not defined.
    if len(values) == 1:
        return mean
    return f"{mean} ± {values.std(ddof=1):.2g}"
