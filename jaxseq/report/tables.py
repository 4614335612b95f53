"""The report's tables: each as it is printed, and as numbers for a CSV."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from jaxseq.common.text import plural
from jaxseq.forecasting.baselines import LEAST_SQUARES, NAIVE
from jaxseq.music.evaluation.ngram import COPY, GRAM
from jaxseq.report import learning_curves
from jaxseq.report.claims import Claim, Part
from jaxseq.report.document import Table
from jaxseq.report.evidence import FED_BACK, RowRuns
from jaxseq.report.plan import (
    BOOK,
    BOOK_BASELINES,
    BOOK_MSE,
    CELL,
    CHANGE,
    EDITIONS,
    LEVEL,
    NORM,
    ONE,
    PUBLISHED,
    TEN,
    Rates,
)
from jaxseq.report.rates import EPOCHS, FACTORS, PATIENCE, SEED, Choice
from jaxseq.train import experiments
from jaxseq.train.domains.base import measured
from jaxseq.train.experiments.base import Experiment

NOTHING = "\N{EN DASH}"
SECONDS_COLUMN = "CPU s an epoch"
SPREAD = "± is the standard deviation over the seeds."


class Both(NamedTuple):
    """A table to read, and its numbers."""

    name: str
    table: Table
    numbers: pd.DataFrame


def bach(group: str, rows: Sequence[RowRuns], times: Mapping[str, Sequence[float]], caption: str) -> Both:
    """A table of the paper on Bach: its figures beside ours on all three parts, and beside copying and a 5-gram."""
    slowest = max(rows, key=lambda row_runs: float(np.mean(_last_losses(row_runs))))
    target = float(np.mean(_last_losses(slowest)))
    reach_column = f"epochs to {target:.3f}"
    header = [
        "", "paper: loss", "paper: accuracy", "paper: time, s", "last training loss", "validation loss", "test loss",
        "test accuracy", "of changed notes", SECONDS_COLUMN, reach_column, "epochs",
    ]  # fmt: skip
    lines = [_baseline(name, rows[0], len(header)) for name in (COPY, GRAM)]
    for row_runs in rows:
        published = PUBLISHED.get((group, row_runs.row.label))
        runs = row_runs.runs
        paper = [NOTHING] * 3
        if published is not None:
            paper = [_plain(published.loss, ".2f"), _plain(published.accuracy, ".3f"), _plain(published.seconds, ".0f")]
        seconds = times.get(row_runs.row.label)
        # The epochs to its own last loss say nothing of the only row.
        reached = NOTHING
        if len(rows) > 1:
            reached = _reached(row_runs, target)
        lines.append(
            [
                named(row_runs),
                *paper,
                *[_spread(runs[name], 3) for name in BACH_COLUMNS],
                NOTHING if seconds is None else measured(float(np.median(seconds)), digits=1),
                reached,
                _trained(row_runs),
            ]
        )
    table = _without_empty(Table(caption, header, lines))
    notes = [
        f"{_spread_note(rows)}{_seeds(rows)} Losses are nats a note.",
        f"Ours: {EDITIONS[rows[0].row.recipe.data.name]}; windows of 33 chords; of the epoch with the best validation "
        "loss, but for the last training loss.",
    ]
    if any(column.startswith("paper: ") for column in table.header):
        notes.insert(1, "Paper: Saberi 2024, no split, seed or spread given.")
    if reach_column in table.header:
        notes.append(
            f"Epochs to {target:.3f}: the first one whose training loss is no higher, which is the last one of "
            f"{slowest.row.label} on average."
        )
    if SECONDS_COLUMN in table.header:
        notes.append("CPU seconds: the median of rounds in which everybody has a turn, one core.")
    return Both(f"table-{_file(rows)}", table._replace(note=" ".join(notes)), _numbers(rows, times))


def _spread_note(rows: Sequence[RowRuns]) -> str:
    """The explanation of the ±, with a space behind it; empty where no row has more than one seed."""
    if any(len(row_runs.runs) > 1 for row_runs in rows):
        return f"{SPREAD} "
    return ""


def _last_losses(row_runs: RowRuns) -> Float[np.ndarray, " s"]:
    return learning_curves.last_losses(row_runs.epochs["train_loss"])


def named(row_runs: RowRuns) -> str:
    """The label of a row, with its learning rate if that is its own."""
    if row_runs.row.rates == "shared":
        return row_runs.row.label
    return f"{row_runs.row.label}, rate {row_runs.row.recipe.lr:g}"


def _file(rows: Sequence[RowRuns]) -> str:
    """The name of a table's file, without its beginning."""
    row = rows[0].row
    return row.group if row.rates == "shared" else f"{row.group}-own-rates"


def _trained(row_runs: RowRuns) -> str:
    """The epochs of the seeds, if a plateau ended them."""
    if row_runs.row.recipe.min_gain is None:
        return NOTHING
    return _spread(pd.Series(learning_curves.ends(row_runs.epochs["train_loss"]), dtype=float), 0)


def _without_empty(table: Table) -> Table:
    """Return a table without the columns that have no value in any row."""
    columns = [column for column in range(len(table.header)) if any(row[column] != NOTHING for row in table.rows)]
    rows = [[row[column] for column in columns] for row in table.rows]
    return table._replace(header=[table.header[column] for column in columns], rows=rows)


BACH_COLUMNS = ("train_loss", "valid_nats", "nats", "accuracy", "changed_accuracy")
"""Of a run's line, the columns that a table on Bach shows."""


def _baseline(name: str, row_runs: RowRuns, columns: int) -> list[str]:
    """The row of a baseline, which has figures on the test part alone."""
    line = row_runs.runs.attrs["baselines"][name]
    figures = [measured(float(line[column]), digits=3) for column in BACH_COLUMNS[2:]]
    before = [NOTHING] * 5
    return [name, *before, *figures, *[NOTHING] * (columns - 1 - len(before) - len(figures))]


def prices(rows: Sequence[RowRuns], caption: str) -> Both:
    """The share price: the paper's set-up and the honest one, each against the last value."""
    header = [
        "", "last training loss", "best validation loss", "at epoch", "test MSE / naive", "test RMSE, USD",
        "change of the training loss, % an epoch", "epochs",
    ]  # fmt: skip
    lines = []
    for row_runs in rows:
        runs = row_runs.runs
        falling = learning_curves.flattened(row_runs.epochs["train_loss"])
        words = {LEVEL: "level, scaled to 0..1", CHANGE: "change"}[row_runs.row.group]
        lines.append(
            [
                f"{named(row_runs)}, {words}",
                _few(runs["train_loss"]),
                _few(runs["valid_mse"]),
                _spread(runs["epoch"], 0),
                _spread(runs["relative_mse"], 3),
                _spread(runs["rmse"], 2),
                _percent(falling),
                _trained(row_runs),
            ]
        )
    note = (
        f"{_spread_note(rows)}{_seeds(rows)} Losses are MSE in the model's own scale, so those of level and change "
        "cannot be compared; test MSE / naive can. Above 1 the last value alone is the better forecast. The change of the "
        "training loss is its slope over the last fifth of the epochs, as a share of it."
    )
    name = "table-prices" if rows[0].row.rates == "shared" else "table-prices-own-rates"
    return Both(name, _without_empty(Table(caption, header, lines, note)), _numbers(rows, {}))


def book(group: str, rows: Sequence[RowRuns], caption: str) -> Both:
    """A table of the book's chapter 15 on the waves."""
    header = ["", "book: validation", "validation, last epoch", "validation, best epoch", "test"]
    lines = []
    for name, value in _waves(rows[0]).items():
        lines.append([name, _plain(BOOK_BASELINES.get((group, name)), ".4f"), NOTHING, NOTHING, f"{value:.5f}"])
    for row_runs in rows:
        runs = row_runs.runs
        is_fed_back = row_runs.row.recipe.task == "iterated"
        # It is trained and validated on one step, which is no figure of ten.
        validation = (
            [NOTHING, _spread(runs[FED_BACK], 5)]
            if is_fed_back
            else [_spread(runs[each], 5) for each in ("valid_mse_last_epoch", "valid_mse")]
        )
        published = BOOK_MSE.get((group, row_runs.row.label))
        lines.append([row_runs.row.label, _plain(published, ".4f"), *validation, _spread(runs["mse"], 5)])
    note = (
        f"{_spread_note(rows)}{_seeds(rows)} All figures are MSE, the mean over all steps of the horizon. Book: Géron "
        "2019, notebook of chapter 15, one seed, the last of 20 epochs; its linear model stands beside our least squares."
    )
    if any(row_runs.row.recipe.model.kind == "convolved" for row_runs in rows):
        note += " The book's convolution has a stride of 2, ours reads every step."
    return Both(f"table-{group}", _without_empty(Table(caption, header, lines, note)), _numbers(rows, {}))


def _waves(row_runs: RowRuns) -> dict[str, float]:
    """Test MSE of the baselines that need no training, from any run's scores."""
    return {name: float(row_runs.runs.attrs["baselines"][name]["mse"]) for name in (NAIVE, LEAST_SQUARES)}


def comparisons(judged: Mapping[Rates, Sequence[Claim]]) -> Both:
    """Every comparison behind a verdict, by the rates that the rows were trained with."""
    header = ["claim", "comparison", "rates", "verdict", "difference", "95 % interval"]
    lines, numbers = [], []
    for rates, claims in judged.items():
        for claim in claims:
            for part in claim.parts:
                found = part.comparison
                lines.append([f"{claim.number}", part.subject, rates, part.verdict, *_difference(part)])
                numbers.append(
                    {
                        "claim": claim.number,
                        "comparison": part.subject,
                        "unit": part.unit,
                        **found._asdict(),
                        "verdict": part.verdict,
                        "rates": rates,
                    }
                )
    if len(judged) == 1:
        header.remove("rates")
        lines = [[*line[:2], *line[3:]] for line in lines]
    note = (
        "Differences are first minus second, seed by seed (CPU times: round by round), those of slopes minus the limit; "
        "the interval is Student's. It speaks of further trainings on the same data, not of other data. A claim holds if "
        "all of its comparisons do; each is denied by chance at most once in 40 times, and nothing is corrected for their "
        "number. Effect sizes and p are in comparisons.csv."
    )
    if any(" plateau " in line[1] for line in lines):
        note += (
            " Training that ends at a plateau makes every curve flat at its end, so the first claim asks whether the RNN "
            "reached its plateau before the last epoch that it was allowed: the difference is its epochs minus those, and "
            "the verdict is that of all seeds."
        )
    return Both("comparisons", Table("All comparisons", header, lines, note), pd.DataFrame(numbers))


def _difference(part: Part) -> tuple[str, str]:
    """A difference with its unit, and its interval, to the two digits that the interval is wide."""
    mean, low, high = part.comparison.mean, part.comparison.low, part.comparison.high
    if np.isnan(mean):
        return NOTHING, NOTHING
    half_width = (high - low) / 2
    size = half_width if half_width > 0 else abs(mean)
    digits = 3 if not size else max(0, 1 - math.floor(math.log10(size)))
    difference = f"{_signed(mean, digits)} {part.unit}"
    return difference, NOTHING if np.isnan(low) else f"{_signed(low, digits)} to {_signed(high, digits)}"


def _signed(value: float, digits: int) -> str:
    """A number with its sign; one that is 0 in these digits has none."""
    text = f"{value:+.{digits}f}"
    if float(text) == 0:
        return text[1:]
    return text


def _numbers(rows: Sequence[RowRuns], times: Mapping[str, Sequence[float]]) -> pd.DataFrame:
    """A line a run, with its row, its key, and the row's CPU seconds."""
    frames = []
    for row_runs in rows:
        seconds = times.get(row_runs.row.label)
        frame = row_runs.runs.drop(columns="seconds").assign(
            cpu_seconds_an_epoch=np.nan if seconds is None else float(np.median(seconds))
        )
        frame.insert(0, "rates", row_runs.row.rates)
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
        return f"> {np.max(reached.last)}"
    epochs_reached = reached.epochs[~np.isnan(reached.epochs)]
    missing = "" if reached.seeds == len(reached.epochs) else f" ({reached.seeds} of {len(reached.epochs)} seeds)"
    return _spread(pd.Series(epochs_reached), 1) + missing


def _spread(values: pd.Series, digits: int) -> str:
    return measured(float(values.mean()), float(values.std(ddof=1)), digits)


def _few(values: pd.Series) -> str:
    """Two digits of the spread, and as many of the mean, for losses of any size; three of a single one."""
    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    size = spread or abs(float(values.mean())) / 10
    digits = max(0, 1 - math.floor(math.log10(size))) if size else 3
    return _spread(values, digits)


def _percent(values: Float[np.ndarray, " s"]) -> str:
    spread = f" ± {100 * values.std(ddof=1):.2f}" if len(values) > 1 else ""
    return NOTHING if np.isnan(values).any() else f"{_signed(100 * float(values.mean()), 2)}{spread}"


def _plain(value: float | None, form: str) -> str:
    return NOTHING if value is None else format(value, form)


def rates(choices: Mapping[tuple[str, str], Choice]) -> Both:
    """The learning rates that were tried for each row, and the one that validation chose."""
    header = ["", *(f"shared rate x {factor:.2g}" for factor in FACTORS), "chosen"]
    lines, numbers = [], []
    for (group, label), choice in choices.items():
        tried = [f"{loss:.4g} ({rate:g})" for rate, loss in zip(choice.rates, choice.losses, strict=True)]
        lines.append([f"{label}, {CAPTIONS[group]}", *tried, f"{choice.best:g}"])
        for rate, loss in zip(choice.rates, choice.losses, strict=True):
            numbers.append(
                {"table": group, "row": label, "rate": rate, "valid_loss": loss, "chosen": rate == choice.best}
            )
    note = (
        f"Best validation loss (rate) of one further seed, {SEED}, trained until it was no better for {PATIENCE} epochs, "
        f"at most {EPOCHS}; inf where training was no longer finite. The rule was fixed before any run was looked at."
    )
    return Both("table-rates", Table("Learning rates by validation", header, lines, note), pd.DataFrame(numbers))


def hyperparameters(rows: Sequence[RowRuns]) -> Both:
    """Every option of every row: those in which rows differ as columns, those of all rows in the note."""
    names, options = [], []
    for row_runs in rows:
        recipe = row_runs.row.recipe
        names.append({"table": row_runs.row.group, "row": named(row_runs), "key": row_runs.key})
        options.append({**_options(recipe), "parameters": int(row_runs.runs["parameters"][0])})

    # As objects: an option that a row lacks would make the integers of the others floats.
    frame = pd.DataFrame(options, dtype=object)
    frame = frame.where(frame.notna(), NOTHING)
    differs = [name for name in SHOWN_OPTIONS if name in frame and frame[name].nunique() > 1]
    lines = [
        [name["row"], SHORT_CAPTIONS[name["table"]], *(f"{row[option]}" for option in differs)]
        for name, row in zip(names, frame.to_dict("records"), strict=True)
    ]
    same = [f"{name} {frame[name].iloc[0]}" for name in SHOWN_OPTIONS if name in frame and name not in differs]
    note = (
        f"Of all rows: {', '.join(same)}. table-hyperparameters.csv has every option of each, and the key of its runs."
    )
    table = Table("Hyperparameters", ["", "table", *differs], lines, note)
    return Both("table-hyperparameters", table, pd.concat([pd.DataFrame(names), frame], axis=1))


SHOWN_OPTIONS = (
    "parameters", "kind", "cell", "hidden", "layers", "norm", "convolutions", "task", "lr", "schedule", "clip", "batch",
    "optimiser", "epochs", "min_gain", "gain_epochs", "min_epochs", "target", "window",
)  # fmt: skip
"""Options that the table of hyperparameters shows, its columns' names."""


def _options(recipe: Experiment) -> dict[str, object]:
    """The fields of a recipe, those of its network and data among them; sequences as words, no cell for a WaveNet."""
    fields = experiments.to_config(recipe)
    flat = {**fields.pop("data"), **fields.pop("model"), **fields}
    # A WaveNet is made of convolutions alone.
    if flat.get("kind") == "wavenet":
        flat["cell"] = NOTHING
    unused = {"path", "seed"}
    if recipe.min_gain is None:
        unused |= {"min_gain", "gain_epochs", "min_epochs"}
    return {
        name: " ".join(map(str, value)) or NOTHING if isinstance(value, tuple | list) else value
        for name, value in flat.items()
        if name not in unused
    }


SHORT_CAPTIONS = {
    LEVEL: "share price",
    CHANGE: "share price, changes",
    NORM: "table I, norms",
    CELL: "table II, cells",
    BOOK: "convolutions",
    ONE: "waves, one step",
    TEN: "waves, ten steps",
}
"""By group, the table of a row in few words."""
CAPTIONS = {
    LEVEL: "The share price as the paper has it: AAPL, one day ahead",
    CHANGE: "The share price as changes: AAPL, one day ahead",
    NORM: "Table I of the paper: normalisation on Bach",
    CELL: "Table II of the paper: cells on Bach",
    BOOK: "The paper's network: convolutions and an LSTM",
    ONE: "The book's chapter 15: waves, one step ahead",
    TEN: "The book's chapter 15: waves, ten steps ahead",
}
"""By group, what its table is of."""
