"""The report's figures, and the numbers that they are drawn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from jaxseq.common import csv_tables, figures
from jaxseq.common.written import Outputs
from jaxseq.forecasting.baselines import NAIVE
from jaxseq.report import document, learning_curves
from jaxseq.report.evidence import RowRuns
from jaxseq.report.plan import CHANGE, LEVEL
from jaxseq.report.plots import Curve, Norms, Panel, Reference, curves, gradients

BAND = (
    "Lines are means over the seeds, bands reach from the least to the most; validation is solid, training dashed. They "
    "end where the first seed was trained no further."
)


def losses(outputs: Outputs, groups: Mapping[str, Sequence[RowRuns]]) -> document.Figure:
    """Figures 1, 4 and 5 of the paper: the share price, by cell, in both set-ups."""
    titles = {LEVEL: "as in the paper: level, scaled to 0..1", CHANGE: "honest: change from the last value"}
    panels = []
    for group, title in titles.items():
        rows = groups[group]
        naive = Reference(f"{NAIVE}, validation", float(rows[0].runs["naive_loss"][0]))
        panels.append(Panel(title, "MSE, in the model's own scale", [_curve(row) for row in rows], True, naive))
    caption = (
        f"Figures 1, 4 and 5 of the paper: loss by epoch on AAPL, {rows_units(groups[LEVEL])} units. {BAND} On the "
        "level, the prices of the "
        "validation part lie above nearly all that was trained on."
    )
    return _figure(
        outputs,
        "figure-losses",
        curves(panels),
        caption,
        "Training and validation loss of RNN, LSTM and GRU on AAPL",
        [*groups[LEVEL], *groups[CHANGE]],
    )


def bach(outputs: Outputs, name: str, rows: Sequence[RowRuns], caption: str) -> document.Figure:
    """Figures 2 and 3 of the paper: loss and accuracy on Bach."""
    accuracy = [Curve(row.row.label, learning_curves.until_first_end(row.epochs["valid_accuracy"])) for row in rows]
    panels = [
        Panel("loss", "nats a note", [_curve(row) for row in rows], False),
        Panel("accuracy, validation", "share of the notes", accuracy, False),
    ]
    labels = ", ".join(row.row.label for row in rows)
    return _figure(
        outputs, name, curves(panels), f"{caption} {BAND}", f"Loss and accuracy by epoch on Bach: {labels}", rows
    )


def back_in_time(outputs: Outputs, norms: Mapping[str, Mapping[str, Mapping[str, np.ndarray]]]) -> document.Figure:
    """How far back each cell feels its loss: by set-up and moment ("before", "after"), the norms by cell, "s t"."""
    panels, lines = [], []
    for setup, moments in norms.items():
        for moment, cells in moments.items():
            panels.append(Norms(f"{setup}, {moment} training", cells))
            for cell, values in cells.items():
                lines += [
                    {"setup": setup, "moment": moment, "cell": cell, "seed": seed, "steps_back": k, "norm": value}
                    for seed, each in enumerate(values)
                    for k, value in enumerate(each)
                ]
    outputs.write("figure-gradients.csv", csv_tables.content(pd.DataFrame(lines)))
    path = outputs.write("figure-gradients.png", figures.drawn(gradients(panels), "png"))
    caption = (
        "How far back the loss is felt on AAPL: the norm of the gradient of the last step's loss with respect to "
        "the state k steps back (of the LSTM, h and c), mean over "
        "validation rows. Where it falls off exponentially, nothing can be learnt from what lies further back."
    )
    return document.Figure(
        path, caption, "Gradient norm against steps back for RNN, LSTM and GRU, before and after training"
    )


def rows_units(rows: Sequence[RowRuns]) -> int:
    """Units of the rows' recurrent layer."""
    return rows[0].row.recipe.model.hidden


def _curve(found: RowRuns) -> Curve:
    valid = learning_curves.until_first_end(found.epochs[found.metric])
    return Curve(found.row.label, valid, learning_curves.until_first_end(found.epochs["train_loss"]))


def _figure(
    outputs: Outputs, name: str, drawn: object, caption: str, alt: str, rows: Sequence[RowRuns]
) -> document.Figure:
    """Write the picture and its numbers: a line an epoch."""
    lines = [
        {
            "table": found.row.group,
            "row": found.row.label,
            "key": found.key,
            "seed": int(found.runs["seed"][k]),
            "epoch": epoch + 1,
        }
        | {metric: values[k, epoch] for metric, values in found.epochs.items()}
        for found in rows
        for k, end in enumerate(learning_curves.ends(found.epochs["train_loss"]))
        for epoch in range(end)
    ]
    outputs.write(f"{name}.csv", csv_tables.content(pd.DataFrame(lines)))
    picture = outputs.write(f"{name}.png", figures.drawn(drawn, "png"))  # pyrefly: ignore[bad-argument-type]
    return document.Figure(picture, caption, alt)
