"""The README.md beside exported files: what the model is, what it was trained on, and how it is called.

Its first lines are the metadata that the Hugging Face hub reads from a model card.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jaxseq.checkpoint import records, run_seal
from jaxseq.export.formats import FORMATS
from jaxseq.train import run_folder
from jaxseq.train.experiments.config import ROWS
from jaxseq.train.forecaster import Trained

NO_METRICS = ("epoch", "epochs", "seconds")
"""Columns of a run's row that say nothing about its forecasts."""
FORWARD = {
    "every-step": "        return self.head(self.recurrent(x)[0][:, -1])",
    "end": """        _, last = self.recurrent(x)
        h = last[0] if isinstance(last, tuple) else last
        h = h.view({layers}, {directions}, len(x), {hidden})[-1]
        return self.head(h.transpose(0, 1).flatten(1))""",
}


def card(trained: Trained, folder: Path, formats: Iterable[str], licence: str) -> str:
    """Return the card of a run's exported files; `licence` is that of the model, by its name on the hub."""
    config = run_folder.read_config(folder)
    judged = run_seal.read_judged(folder)
    metrics: dict[str, int | float] = {}
    # The figures are those of the epoch that was judged, and of no other.
    if judged is not None and judged.epoch == trained.epoch:
        metrics = {name: value for name, value in judged.row.items() if name not in NO_METRICS}
    state_sha256 = records.state_sha256(folder / run_seal.CHECKPOINTS, trained.epoch)
    experiment = trained.experiment
    lines = [
        "---",
        "library_name: jaxseq",
        f"license: {licence}",
        "tags: [time-series-forecasting, jax, recurrent]",
        *_model_index(experiment.name, metrics),
        "---",
        "",
        f"# {experiment.name}, epoch {trained.epoch}",
        "",
        f"A {experiment.model.cell} of {experiment.model.hidden} units that forecasts {experiment.horizon} from "
        f"{experiment.data.window} values.",
        "",
        *_inputs(trained),
        "",
        *_table(metrics),
        "",
        f"sha256 of the rows of its data: `{config.get(ROWS)}`",
        "",
        f"sha256 of the arrays of this epoch: `{state_sha256}`",
        "",
        "The run's intervals follow the errors of the past and are not inside.",
    ]
    for name in formats:
        lines += ["", f"## {name}", _call(trained, name)]
    lines += ["", "## The recipe", "", "```json", json.dumps(_recipe(config), indent=2), "```", ""]
    return "\n".join(lines)


def _table(metrics: Mapping[str, int | float]) -> list[str]:
    """Return the figures of the run's judgement as a table."""
    if not metrics:
        return ["This epoch was not judged on the test part."]
    rows = [f"| {name} | {value:.6g} |" for name, value in metrics.items()]
    return ["| figure, of the test part but for `valid` | |", "|---|---:|", *rows]


def _model_index(name: str, metrics: Mapping[str, int | float]) -> list[str]:
    """Return the results in the form that the hub shows beside a model."""
    # The hub refuses an index without results.
    if not metrics:
        return []
    lines = ["model-index:", f"- name: {name}", "  results:", "  - task:", "      type: time-series-forecasting"]
    lines += ["    dataset:", f"      name: {name}", f"      type: {name}", "    metrics:"]
    for metric, value in metrics.items():
        lines += [f"    - type: {json.dumps(metric)}", f"      value: {json.dumps(value)}"]
    return lines


def _inputs(trained: Trained) -> list[str]:
    """Say what the inputs are."""
    scaling = trained.scaling
    lines = [f'- `values` "n {trained.experiment.data.window}": windows in the unit of the series, float64']
    if scaling.covariate_shift:
        lines.append(f'- `covariates` "n {trained.experiment.data.window} {len(scaling.covariate_shift)}", float64')
    if len(scaling.scale) > 1:
        lines.append('- `series` "n": the number of each row\'s series in the training, int32')
    return [*lines, f'- result `forecast` "n {trained.experiment.horizon}", in the unit of the series, float64']


def _call(trained: Trained, name: str) -> str:
    model = trained.experiment.model
    directions = 1 + model.bidirectional
    layer = {"rnn": "RNN", "lstm": "LSTM", "gru": "GRU"}.get(model.cell, model.cell)
    arguments = [f"{trained.scaling.features}, {model.hidden}", "batch_first=True"]
    if model.layers > 1:
        arguments.insert(1, f"num_layers={model.layers}")
    if model.bidirectional:
        arguments.append("bidirectional=True")

    # The head reads the last state of the last layer, which is no output of a backward layer's last step.
    reads = "end"
    if trained.experiment.task == "every-step":
        reads = "every-step"
    forward = FORWARD[reads]
    return FORMATS[name].call.format(
        window=trained.experiment.data.window,
        layer=layer,
        arguments=", ".join(arguments),
        width=directions * model.hidden,
        outputs=trained.experiment.steps_out * trained.experiment.head.width,
        features=trained.scaling.features,
        forward=forward.format(layers=model.layers, directions=directions, hidden=model.hidden),
        scaling=f"{trained.scaling.kind}, shift {trained.scaling.shift[0]!r}, scale {trained.scaling.scale[0]!r}",
    )


def _recipe(config: Mapping[str, object]) -> dict[str, Any]:
    # Facts about the training rows, which may be of thousands of series.
    left_out = ("training_series", "axes", "series")
    return {name: value for name, value in config.items() if name not in left_out}
