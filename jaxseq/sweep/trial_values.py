"""Values of the metric of a trial: those in the sealed records and the log of its run, and those it has reported."""

from __future__ import annotations

import math
from collections.abc import Mapping

from optuna.trial import FrozenTrial

from jaxseq.checkpoint import records, run_seal
from jaxseq.common.errors import UsageError
from jaxseq.sweep.planned import PlannedRun, read_metrics

MOST_APART = 1e-4
"""Largest relative difference between a reported value and that of the same epoch trained again by another processor."""


def best_value(run: PlannedRun, metric: str) -> float:
    """Return the metric of a run's best epoch so far, by its sealed record; NaN if no epoch is saved."""
    checkpoints = run.folder / run_seal.CHECKPOINTS
    best_epoch = records.best_epoch(checkpoints)
    if best_epoch is None:
        return math.nan
    return records.metrics(checkpoints, best_epoch)[metric]


def has_reports(trial: FrozenTrial, run: PlannedRun, metric: str) -> bool:
    """Return whether the values that a trial has reported, by epoch, are those of its run."""
    checkpoints = run.folder / run_seal.CHECKPOINTS
    if records.latest_epoch(checkpoints) is None:
        return False
    reported = trial.intermediate_values
    logged = logged_values(run, metric)
    # Of a log that was changed, the records of the saved epochs are left.
    if _has_sound_log(run) and logged.keys() != reported.keys():
        return False
    return all(epoch in reported and is_equal(reported[epoch], value) for epoch, value in logged.items())


def is_equal(reported: float | None, value: float) -> bool:
    """Return whether a run may have reported a value, which is now `value`.

    An epoch that was reported before it was saved is trained again after a kill, on a cluster by a processor that may
    round otherwise.
    """
    if reported is None:
        return False
    if not math.isfinite(value):
        return repr(reported) == repr(value)
    return math.isclose(reported, value, rel_tol=MOST_APART)


def logged_values(run: PlannedRun, metric: str) -> Mapping[int, float]:
    """Return a metric of a run by epoch: of each epoch in its log or, if the log was changed, of each saved epoch."""
    # A log cannot be made again.
    if not _has_sound_log(run):
        return records.deciding_values(run.folder / run_seal.CHECKPOINTS)
    return {int(row["epoch"]): float(row[metric]) for row in read_metrics(run)}


def _has_sound_log(run: PlannedRun) -> bool:
    """Return whether the rows of a run's log are those that were there when its last epoch was saved."""
    latest_epoch = records.latest_epoch(run.folder / run_seal.CHECKPOINTS)
    if latest_epoch is None:
        return False
    try:
        run_seal.check_log(run.folder, latest_epoch)
    except UsageError:
        return False
    return True
