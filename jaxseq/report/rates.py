"""Each row's own best learning rate, chosen from a small grid on the validation part.

The paper gives no rates. The rule was fixed before any run was looked at: the rate whose run has the lowest validation loss
of its best epoch, of one seed that no table has, trained until validation is no better for `PATIENCE` epochs.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

from jaxseq.checkpoint import run_seal
from jaxseq.report.plan import CELL, LEVEL, NORM, Row
from jaxseq.sweep.planned import PlannedRun, is_finished, log_of, read_metrics
from jaxseq.train import run_folder
from jaxseq.train.experiments.base import Experiment

GROUPS = (LEVEL, CELL, NORM)
"""Tables that the paper's claims are judged by."""
FACTORS = (1 / 3, 1.0, 3.0)
"""Rates of the grid by the shared one, rounded to one digit."""
SEED = 1000
EPOCHS = 100
PATIENCE = 10


class Choice(NamedTuple):
    """The rates that were tried for a row, and the best validation loss of each; infinite where training diverged."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]

    @property
    def best(self) -> float:
        """The rate of the lowest loss."""
        return self.rates[self.losses.index(min(self.losses))]


def grid(shared: float) -> tuple[float, ...]:
    """Return the rates that are tried beside a shared one, in ascending order."""
    return tuple(float(f"{factor * shared:.0e}") for factor in FACTORS)


def searches(recipe: Experiment) -> list[Experiment]:
    """Return the recipes whose validation chooses the rate of a row, one for each rate of the grid."""
    return [
        dataclasses.replace(recipe, lr=rate, seed=SEED, epochs=EPOCHS, patience=PATIENCE, min_gain=None)
        for rate in grid(recipe.lr)
    ]


def choice(runs: Sequence[PlannedRun]) -> Choice:
    """Return the rates and losses of the runs of `searches`, which are finished or have diverged."""
    losses = []
    for run in runs:
        if not is_finished(run):
            losses.append(math.inf)
            continue
        # An edited log must not choose.
        run_seal.check_judged_log(run.folder)
        metric = f"valid_{run.experiment.objective().select}"
        losses.append(float(run_folder.best_row(read_metrics(run), metric)[metric]))
    return Choice(tuple(run.experiment.lr for run in runs), tuple(losses))


def has_diverged(run: PlannedRun) -> bool:
    """Return whether the last training of a run ended because it was not finite, by the last line of its output."""
    log = log_of(run.folder)
    if is_finished(run) or not log.is_file():
        return False
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return bool(lines) and lines[-1].startswith(run_folder.NOT_FINITE)


def own(row: Row, rate: float) -> Row:
    """Return a row with its own rate in the place of the shared one."""
    return row._replace(recipe=dataclasses.replace(row.recipe, lr=rate), rates="own")
