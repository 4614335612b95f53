"""The experiment of a run, read from its folder."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from jaxseq.checkpoint import run_seal
from jaxseq.common.errors import UsageError
from jaxseq.common.files import user_path
from jaxseq.train import experiments, run_folder
from jaxseq.train.experiments.base import Experiment

AnyExperiment = TypeVar("AnyExperiment", bound=Experiment)


def saved_experiment(folder: str | Path, recipe: Experiment | None = None) -> Experiment:
    """Return the experiment of a run, one from outside the package by its `recipe`.

    Raises `UsageError` if there is no such run, or if it has another recipe.
    """
    folder = user_path(folder)
    config = run_folder.read_config(folder)
    return experiments.from_config(config, str(folder / run_seal.CONFIG), recipe)


def saved_experiment_of(
    folder: str | Path,
    kind: type[AnyExperiment],
    hint: str,
    recipe: Experiment | None = None,
) -> AnyExperiment:
    """Return the experiment of a run of one domain. Raises `UsageError`, with the `hint`, for a run of another."""
    experiment = saved_experiment(folder, recipe)
    if not isinstance(experiment, kind):
        raise UsageError(f"{folder} is a run of {experiment.name}, {hint}")
    return experiment
