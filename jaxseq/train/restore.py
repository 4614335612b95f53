"""Restore a run of any domain."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from jaxseq.common.errors import UsageError
from jaxseq.train import domains, experiments, run_folder
from jaxseq.train.domains import RestoredRun
from jaxseq.train.experiments.base import Experiment

AnyExperiment = TypeVar("AnyExperiment", bound=Experiment)


def restore(folder: str | Path, epoch: int | None = None) -> RestoredRun:
    """Restore the best epoch of a run, or the given one; needs neither its data nor a GPU.

    The run's domain decides what is returned: a `forecaster.Trained`, to be called on windows of values, a
    `chorales.Composer`, or a `pianoroll.RollModel`. Every array is verified. Raises `UsageError` if there is no such
    run or epoch, and `records.DamagedError` if an array is not the one that was saved.
    """
    experiment = saved_experiment(folder)
    domain = domains.of(experiment)
    return domain.restore(folder, epoch)


def saved_experiment(folder: str | Path) -> Experiment:
    """Return the experiment of a run. Raises `UsageError` if there is no such run."""
    folder = Path(folder)
    config = run_folder.read_config(folder)
    return experiments.from_config(config, str(folder / run_folder.CONFIG))


def saved_experiment_of(
    folder: str | Path,
    kind: type[AnyExperiment],
    hint: str,
) -> AnyExperiment:
    """Return the experiment of a run of one domain. Raises `UsageError`, with the `hint`, for a run of another."""
    experiment = saved_experiment(folder)
    if not isinstance(experiment, kind):
        raise UsageError(f"{folder} is a run of {experiment.name}, {hint}")
    return experiment
