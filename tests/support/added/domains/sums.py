"""Classifiers of sums, judged by nats a row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import jax
import numpy as np
import pandas as pd
from jaxseq.train.experiments.sums import SumExperiment
from rich.console import Console

from jaxseq.checkpoint import run_seal
from jaxseq.common import csv_tables, files
from jaxseq.common.arrays import Batch
from jaxseq.train import run_folder
from jaxseq.train.domains.base import NO_EXTRAS, Extras, Member, RunRow
from jaxseq.train.epoch import Setup, TrainState, evaluate
from jaxseq.train.experiments.base import Experiment
from jaxseq.train.feed import RowSplits
from jaxseq.train.job import Job, build_job, restore_best, restore_epoch
from jaxseq.train.saved_experiment import saved_experiment_of

SumJob: TypeAlias = Job[SumExperiment, RowSplits]


class Classified(NamedTuple):
    """A classifier, restored from its run."""

    experiment: SumExperiment
    epoch: int
    setup: Setup
    state: TrainState
    folder: Path | None = None


def prepare(experiment: SumExperiment) -> SumJob:
    """Draw the rows of the three parts."""
    draw = np.random.default_rng(0)

    def part(rows: int) -> Batch:
        x = draw.normal(size=(rows, experiment.data.steps, 1)).astype(np.float32)
        return Batch(x, (x.sum(axis=1) > 0).astype(np.float32))

    rows = experiment.data.rows
    batches = RowSplits(part(rows), part(rows // 2), part(rows // 2))
    return build_job(experiment, batches, batches)


def restore(folder: str | Path, epoch: int | None = None, experiment: Experiment | None = None) -> Classified:
    """Restore a classifier; see `jaxseq.train.restore.restore`."""
    folder = files.user_path(folder)
    saved = saved_experiment_of(folder, SumExperiment, "which has no sums", experiment)
    row = jax.ShapeDtypeStruct((1, saved.data.steps, 1), np.float32)
    restored = restore_epoch(folder, saved, row, epoch)
    return Classified(saved, restored.epoch, restored.setup, restored.state, folder)


def judge(job: SumJob, folder: Path, console: Console, extras: Extras = NO_EXTRAS) -> RunRow:
    """Score the best epoch on the test part."""
    best_epoch, state = restore_best(job, folder)
    scores = evaluate(job.setup, state.params, state.stats, job.batches.test, job.experiment.batch)
    nats = float(scores["nats"])
    csv_tables.write(folder / run_seal.SCORES, pd.DataFrame([{"predictions": "network", "nats": nats}]))
    files.write_text(folder / run_seal.REPORT, f"# {job.experiment.name}\n\n{nats:.3f} nats a row.\n")
    console.print(f"{nats:.3f} nats a row")

    metrics = run_folder.read_metrics(folder)
    seconds = sum(row["seconds"] for row in metrics)
    return {"epoch": best_epoch, "epochs": len(metrics), "nats": nats, "seconds": seconds}


def check(experiment: SumExperiment) -> None:
    """Accept all data: they are drawn."""


def summary(experiment: SumExperiment, runs: Sequence[Member], table: pd.DataFrame) -> str:
    """Return the mean over the runs."""
    return f"# {experiment.name}\n\n{table['nats'].mean():.3f} nats a row in {len(runs)} runs.\n"
