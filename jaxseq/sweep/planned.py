"""Runs of a sweep: their recipes, their folders, and whether they are finished."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxseq.checkpoint import run_seal
from jaxseq.common.errors import UsageError
from jaxseq.train import experiments, run_folder
from jaxseq.train.callbacks import Callback
from jaxseq.train.experiments.base import Experiment

LOG = ".log"
"""Suffix of the file beside a run's folder that holds the run's output."""


PRUNED = "pruned"
"""Outcome of a run that a search ended before its last epoch."""


class PrunedError(Exception):
    """Raised by a callback to end a run that need not be judged."""


class PlannedRun(NamedTuple):
    """A run to train, or trained already.

    name        for messages and the display
    experiment  the recipe
    folder      the run's folder, which may not exist yet
    callbacks   makes the callbacks of its training, in the process that trains it; pickled
    """

    name: str
    experiment: Experiment
    folder: Path
    callbacks: Callable[[], Sequence[Callback]] = tuple


def log_of(folder: Path) -> Path:
    """Return the file beside a run's folder that holds the run's output."""
    # `with_suffix` would cut the name of a run at a dot, as in lr-0.001.
    return folder.with_name(f"{folder.name}{LOG}")


def is_finished(run: PlannedRun) -> bool:
    """Return whether the run is trained and judged. Raises `UsageError` if its folder holds a run of another recipe."""
    config = run.folder / run_seal.CONFIG
    if not config.is_file():
        return False

    # A run of another recipe must never be taken for this one.
    saved = experiments.from_config(run_folder.read_config(run.folder), str(config))
    if saved != run.experiment:
        raise UsageError(f"{config} is of another recipe than {run.name}: name another --out")

    # The seal of the judgement is written last; a run whose files were changed since is judged again.
    return not run_seal.judged_damage(run.folder)


def read_metrics(run: PlannedRun) -> list[run_folder.Row]:
    """Return a row for each epoch so far; none before the run has begun."""
    if not (run.folder / run_seal.METRICS).is_file():
        return []
    return run_folder.read_metrics(run.folder)
