"""The README.md beside exported files: what the model is, what it was trained on, and how it is called.

Its first lines are the metadata that the Hugging Face hub reads from a model card.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from jaxseq.checkpoint import records, run_seal
from jaxseq.export import formats, kinds
from jaxseq.train import run_folder
from jaxseq.train.domains.base import RestoredRun
from jaxseq.train.experiments.config import ROWS

NO_METRICS = ("epoch", "epochs", "seconds")
"""Columns of a run's row that say nothing about its forecasts."""


def card(run: RestoredRun, folder: Path, names: Iterable[str], licence: str) -> str:
    """Return the card of a run's files in the formats of these `names`, in the order of the alphabet.

    `licence` is that of the model, by its name on the hub.
    """
    config = run_folder.read_config(folder)
    judged = run_seal.read_judged(folder)
    metrics: dict[str, int | float] = {}
    # The figures are those of the epoch that was judged, and of no other.
    if judged is not None and judged.epoch == run.epoch:
        metrics = {name: value for name, value in judged.row.items() if name not in NO_METRICS}
    state_sha256 = records.state_sha256(folder / run_seal.CHECKPOINTS, run.epoch)
    kind = kinds.of(run)
    name = run.experiment.name
    lines = [
        "---",
        "library_name: jaxseq",
        f"license: {licence}",
        f"tags: [{kind.tag}, jax, recurrent]",
        *_model_index(name, kind.task, metrics),
        "---",
        "",
        f"# {name}, epoch {run.epoch}",
        "",
        kind.title(run),
        "",
        *_paragraph(kind.interface(run)),
        *_table(metrics),
        "",
        *_paragraph(kind.remarks(run, folder)),
        f"sha256 of the rows of its data: `{config.get(ROWS)}`",
        "",
        f"sha256 of the arrays of this epoch: `{state_sha256}`",
    ]
    for format_name in sorted(names):
        lines += ["", f"## {format_name}", formats.named(format_name).call(run)]
    lines += ["", "## The recipe", "", "```json", json.dumps(_recipe(config), indent=2), "```", ""]
    return "\n".join(lines)


def _paragraph(lines: list[str]) -> list[str]:
    """Return lines with an empty one behind them, or none."""
    if not lines:
        return []
    return [*lines, ""]


def _table(metrics: Mapping[str, int | float]) -> list[str]:
    """Return the figures of the run's judgement as a table."""
    if not metrics:
        return ["This epoch was not judged on the test part."]
    rows = [f"| {name} | {value:.6g} |" for name, value in metrics.items()]
    return ["| figure, of the test part but for `valid` | |", "|---|---:|", *rows]


def _model_index(name: str, task: str, metrics: Mapping[str, int | float]) -> list[str]:
    """Return the results in the form that the hub shows beside a model."""
    # The hub refuses an index without results.
    if not metrics:
        return []
    lines = ["model-index:", f"- name: {name}", "  results:", "  - task:", f"      type: {task}"]
    lines += ["    dataset:", f"      name: {name}", f"      type: {name}", "    metrics:"]
    for metric, value in metrics.items():
        lines += [f"    - type: {json.dumps(metric)}", f"      value: {json.dumps(value)}"]
    return lines


def _recipe(config: Mapping[str, object]) -> dict[str, object]:
    # Facts about the training rows, which may be of thousands of series.
    left_out = ("training_series", "axes", "series")
    return {name: value for name, value in config.items() if name not in left_out}
