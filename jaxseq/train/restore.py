"""Restore a run of any domain."""

from __future__ import annotations

from pathlib import Path

from jaxseq.train import domains
from jaxseq.train.domains.base import RestoredRun
from jaxseq.train.experiments.base import Experiment
from jaxseq.train.saved_experiment import saved_experiment


def restore(folder: str | Path, epoch: int | None = None, experiment: Experiment | None = None) -> RestoredRun:
    """Restore the best epoch of a run, or the given one; needs neither its data nor a GPU.

    A run of an experiment from outside the package needs that `experiment`, whose fields may have any values: those of the
    run are put in.

    The run's domain decides what is returned: a `forecaster.Trained`, to be called on windows of values, a
    `chorales.Composer`, or a `pianoroll.RollModel`. Every array is verified. Raises `UsageError` if there is no such
    run or epoch, and `records.DamagedError` if an array is not the one that was saved.
    """
    saved = saved_experiment(folder, experiment)
    domain = domains.of(saved)
    return domain.restore(folder, epoch, experiment)
