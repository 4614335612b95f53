"""The report's tables: each as it is printed, and as numbers for a CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from jaxseq.common.text import plural
from jaxseq.forecasting.baselines import LEAST_SQUARES, NAIVE
from jaxseq.music.evaluation.ngram import COPY, GRAM
from jaxseq.report import document, learning_curves
from jaxseq.report.claims import Claim
from jaxseq.report.evidence import RowRuns
from jaxseq.report.plan import BOOK, BOOK_MSE, CELL, CHANGE, EDITIONS, LEVEL, NORM, ONE, PUBLISHED, TEN
from jaxseq.train.domains.base import measured

NOTHING = "\N{EN DASH}"
SPREAD = "± is the standard deviation over the seeds."


class Both(NamedTuple):
    """A table to read, and its numbers."""

    name: str
    table: document.Table
    numbers: pd.DataFrame


def bach(group: str, rows: Sequence[RowRuns], times: Mapping[str, Sequence[float]], caption: str) -> Both:
    """A table of the paper on Bach: its figures beside ours on all three parts, and beside copying and a 5-gram."""
    slowest = max(rows, key=lambda row_runs: float(row_runs.epochs["train_loss"][:, -1].mean()))
    target = float(slowest.epochs["train_loss"][:, -1].mean())
    header = [
        "", "paper: loss", "accuracy", "time, s", "last training loss", "training accuracy", "validation nats",
        "test nats", "test accuracy", "of changed notes", "CPU s an epoch", f"epochs to {target:.3f}",
        "parameters", "key",
    ]  # fmt: skip
    lines = [_baseline(name, rows[0], len(header)) for name in (COPY, GRAM)]
    for row_runs in rows:
        said, runs = PUBLISHED.get((group, row_runs.row.label)), row_runs.runs
        paper = [NOTHING] * 3
        if said is not None:
            paper = [_plain(said.loss, ".2f"), _plain(said.accuracy, ".3f"), _plain(said.seconds, ".0f")]
        ours = [_spread(runs[name], digits) for name, digits in BACH_COLUMNS.items()]
        seconds = times.get(row_runs.row.label)
        clock = NOTHING if seconds is None else measured(float(np.median(seconds)), digits=1)
        lines.append(
            [
                row_runs.row.label,
                *paper,
                *ours,
                clock,
                _reached(row_runs, target),
                f"{runs['parameters'][0]:,.0f}",
                row_runs.key,
            ]
        )
    note = (
        f"{SPREAD} {_seeds(rows)} Paper: Saberi 2024, no split, seed or spread given. Ours: "
        f"{EDITIONS[rows[0].row.recipe.data.name]}; windows of 33 chords. The training "
        f"loss is that of the last epoch, everything else that of the epoch with the best validation. Epochs to "
        f"{target:.3f}: the "
        f"first one whose training loss is no higher, which is the last one of {slowest.row.label} on average. CPU "
        "seconds: the median of rounds in which "
        "everybody has a turn, one core."
    )
    return Both(f"table-{group}", document.Table(caption, header, lines, note), _numbers(rows, times))


BACH_COLUMNS = {
    "train_loss": 3,
    "train_accuracy": 3,
    "valid_nats": 3,
    "nats": 3,
    "accuracy": 3,
    "changed_accuracy": 3,
}
"""Of a run's line, what a table on Bach shows, with its digits."""


def _baseline(name: str, row_runs: RowRuns, columns: int) -> list[str]:
    """The row of a baseline, which has figures on the test part alone."""
    line = row_runs.runs.attrs["baselines"][name]
    figures = [measured(float(line[column]), digits=3) for column in ("nats", "accuracy", "changed_accuracy")]
    return [name, *[NOTHING] * 6, *figures, *[NOTHING] * (columns - 10)]


def prices(rows: Sequence[RowRuns]) -> Both:
    """The share price: the paper's set-up and the honest one, each against the last value."""
    header = [
        "", "last training loss", "last validation loss", "best validation loss", "at epoch", "test MSE / naive",
        "RMSE, USD",
        "still falling, an epoch", "parameters", "key",
    ]  # fmt: skip
    lines = []
    for row_runs in rows:
        runs, falling = row_runs.runs, learning_curves.flattened(row_runs.epochs["train_loss"])
        words = {LEVEL: "level, scaled to 0..1", CHANGE: "change"}[row_runs.row.group]
        lines.append(
            [
                f"{row_runs.row.label}, {words}",
                _few(runs["train_loss"]),
                _few(runs["valid_mse_last_epoch"]),
                _few(runs["valid_mse"]),
                _spread(runs["epoch"], 0),
                _spread(runs["relative_mse"], 3),
                _spread(runs["rmse"], 2),
                _percent(falling),
                f"{runs['parameters'][0]:,.0f}",
                row_runs.key,
            ]
        )
    note = (
        f"{SPREAD} {_seeds(rows)} Losses are MSE in the model's own scale, so those of level and change are not to "
        "be compared; test MSE / naive is. "
        "Above 1 the last value alone is the better forecast. Still falling: the slope of the training loss over "
        "the last fifth of the epochs, as a share of it."
    )
    return Both(
        "table-prices",
        document.Table("AAPL, one day ahead: training, validation and test", header, lines, note),
        _numbers(rows, {}),
    )


def book(group: str, rows: Sequence[RowRuns], caption: str) -> Both:
    """A table of the book's chapter 15 on the waves."""
    header = ["", "book: validation MSE", "ours: validation, last epoch", "best epoch", "test MSE", "parameters", "key"]
    lines = [
        [name, NOTHING, NOTHING, NOTHING, f"{value:.5f}", NOTHING, NOTHING] for name, value in _waves(rows[0]).items()
    ]
    for row_runs in rows:
        runs, fed_back = row_runs.runs, row_runs.row.recipe.task == "iterated"
        valid = (
            [NOTHING] * 2 if fed_back else [_spread(runs[name], 5) for name in ("valid_mse_last_epoch", "valid_mse")]
        )
        published = BOOK_MSE.get((group, row_runs.row.label))
        lines.append(
            [
                row_runs.row.label,
                _plain(published, ".4f"),
                *valid,
                _spread(runs["mse"], 5),
                f"{runs['parameters'][0]:,.0f}",
                row_runs.key,
            ]
        )
    note = (
        f"{SPREAD} {_seeds(rows)} Book: Géron 2019, notebook of chapter 15, one seed. MSE is the mean over all "
        "steps of the horizon. A model that "
        "is fed back is trained and validated on one step, so its validation is no figure of ten."
    )
    return Both(f"table-{group}", document.Table(caption, header, lines, note), _numbers(rows, {}))


def _waves(row_runs: RowRuns) -> dict[str, float]:
    """Test MSE of the baselines that need no training, from any run's scores."""
    return {name: float(row_runs.runs.attrs["baselines"][name]["mse"]) for name in (NAIVE, LEAST_SQUARES)}


def comparisons(row_runs: Sequence[Claim]) -> Both:
    """Every comparison behind a verdict."""
    header = ["comparison", "claim", "verdict", "difference", "95 % interval", "d_z", "p", "unit"]
    lines, numbers = [], []
    for claim in row_runs:
        for part in claim.parts:
            mean, low, high, effect, p = part.comparison[1:]
            small = "< 0.001" if p < 0.001 else f"{p:.3f}"
            figures = [
                _signed(mean, ".3g"),
                NOTHING if np.isnan(low) else f"{low:+.3g} to {high:+.3g}",
                _signed(effect, ".1f"),
                NOTHING if np.isnan(p) else small,
            ]
            lines.append([part.subject, f"{claim.number}", part.verdict, *figures, part.unit])
            numbers.append(
                {
                    "claim": claim.number,
                    "comparison": part.subject,
                    "unit": part.unit,
                    **part.comparison._asdict(),
                    "verdict": part.verdict,
                }
            )
    note = (
        "Differences are first minus second, seed by seed (CPU times: round by round); the interval is Student's, "
        "d_z is Cohen's. It speaks of further trainings on the "
        "same data, not of other data. A claim holds if all of its comparisons do; each is denied by chance at "
        "most once in 40 times, and nothing is corrected for their number."
    )
    return Both("comparisons", document.Table("All comparisons", header, lines, note), pd.DataFrame(numbers))


def _signed(value: float, form: str) -> str:
    return NOTHING if np.isnan(value) else format(value, f"+{form}")


def _numbers(rows: Sequence[RowRuns], times: Mapping[str, Sequence[float]]) -> pd.DataFrame:
    """A line a run, with its row, its key, and the row's CPU seconds."""
    frames = []
    for row_runs in rows:
        seconds = times.get(row_runs.row.label)
        frame = row_runs.runs.drop(columns="seconds").assign(
            cpu_seconds_an_epoch=np.nan if seconds is None else float(np.median(seconds))
        )
        frame.insert(0, "key", row_runs.key)
        frame.insert(0, "row", row_runs.row.label)
        frame.insert(0, "table", row_runs.row.group)
        frame.attrs = {}
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def _seeds(rows: Sequence[RowRuns]) -> str:
    counts = sorted({len(row_runs.runs) for row_runs in rows})
    return f"{' or '.join(map(str, counts))} {plural('seed', counts[-1])} a row."


def _reached(row_runs: RowRuns, target: float) -> str:
    reached = learning_curves.epochs_to_reach(row_runs.epochs["train_loss"], target)
    if not reached.seeds:
        return f"> {reached.last}"
    epochs_reached = reached.epochs[~np.isnan(reached.epochs)]
    missing = "" if reached.seeds == len(reached.epochs) else f" ({reached.seeds} of {len(reached.epochs)} seeds)"
    return _spread(pd.Series(epochs_reached), 1) + missing


def _spread(values: pd.Series, digits: int) -> str:
    return measured(float(values.mean()), float(values.std(ddof=1)), digits)


def _few(values: pd.Series) -> str:
    """Three significant digits, for losses of any size."""
    return f"{values.mean():.3g}" + (f" ± {values.std(ddof=1):.1g}" if len(values) > 1 else "")


def _percent(values: Float[np.ndarray, " s"]) -> str:
    spread = f" ± {100 * values.std(ddof=1):.2f}" if len(values) > 1 else ""
    return NOTHING if np.isnan(values).any() else f"{100 * values.mean():+.2f}{spread} %"


def _plain(value: float | None, form: str) -> str:
    return NOTHING if value is None else format(value, form)


CAPTIONS = {
    NORM: "Table I of the paper: normalisation on Bach",
    CELL: "Table II of the paper: cells on Bach",
    BOOK: "The paper's network: convolutions and an LSTM",
    ONE: "The book's chapter 15: waves, one step ahead",
    TEN: "The book's chapter 15: waves, ten steps ahead",
}
"""By group, what its table is of."""
