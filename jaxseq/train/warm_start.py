"""A run that begins with the parameters of a finished one, and goes on with other rows.

Parameters and running moments are those of the epoch that was judged. The optimiser's state is fresh, the draws are those
of the new seed, and the scaling is fitted to the new training rows: what the network reads is then as spread as before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import jax
import numpy as np

from jaxseq.checkpoint import leaves, records, run_seal, store
from jaxseq.common import files
from jaxseq.common.errors import UsageError
from jaxseq.data.scaling import Scaling
from jaxseq.train import run_folder
from jaxseq.train.experiments.base import Experiment
from jaxseq.train.experiments.config import WARM_START, to_config
from jaxseq.train.job import Job, abstract_state
from jaxseq.train.saved_experiment import saved_experiment

OPTION = "--warm-start"
PARTS = ("params/", "stats/")
"""Beginnings of the paths of arrays that are taken."""
AVERAGE = "opt/average/"
"""Beginning of the paths of averaged weights, and of the weight that they are divided by (`optimiser.Average`)."""
TRAINING_FIELDS = ("dropout", "recurrent_dropout", "voice_dropout", "momentum", "chunk")
"""Fields of a network that may differ: they act in training alone."""
SAME_FIELDS = ("task", "horizon")
"""Fields of an experiment, besides its network, by which the network's outputs are other ones."""
SAME_SCALING = MappingProxyType(
    {
        "kind": "--data.target",
        "lag": "season of --data.target",
        "by_window": "--data.scale window",
        "window_scale": "--data.scale",
        "scale_input": "--data.scale-input",
        "power": "--data.transform",
        "category_columns": "covariates with texts",
        "category_texts": "texts of covariates",
    }
)
"""Fields of a scaling that say what the network reads and forecasts, each with its place for messages."""


class Source(NamedTuple):
    """A finished run, the epoch of it that was judged, and the sha256 of that state."""

    path: str
    run_id: str | None
    epoch: int
    state_sha256: str


def begun(job: Job, folder: str | Path) -> Job:
    """Return the job of a new run that begins with the parameters of the run in a folder.

    Raises `UsageError`, with both values, for another architecture, and `DamagedError` for a source that is damaged.
    """
    folder = files.user_path(folder)
    source = _source(folder)
    check(job.experiment, folder)
    _check_scaling(job, folder)
    note = (
        f"{OPTION}: parameters of {folder}, epoch {source.epoch}; optimiser state fresh, scaling fitted to the new "
        "training rows"
    )
    first = _arrays(job, folder, source)
    job = _recorded(job, source)
    return dataclasses.replace(job, first=first, notes=(note, *job.notes))


def continued(job: Job, folder: Path, anew: bool = False) -> Job:
    """Return the job of a run that resumes, as it began; unchanged for a run that began with drawn parameters.

    The source is read again if no epoch is saved, or with `anew`. Raises `UsageError` if it is not as it was by then.
    """
    saved = run_folder.read_config(folder).get(WARM_START)
    if saved is None:
        return job
    source = _parsed(saved, folder)
    job = _recorded(job, source)
    if records.epochs(folder / run_seal.CHECKPOINTS) and not anew:
        return job
    present = _source(Path(source.path))
    if present != source:
        raise UsageError(
            "it was trained or judged again since the run began with it",
            where=source.path,
            got=f"epoch {present.epoch}",
            needed=f"epoch {source.epoch} as it was",
        )
    return dataclasses.replace(job, first=_arrays(job, Path(source.path), source))


def _recorded(job: Job, source: Source) -> Job:
    """Return a job that names its source, and nothing of the parameters that it would have started from without one."""
    fitted = {**job.fitted, WARM_START: source._asdict()}
    notes = job.notes
    if job.start is not None:
        fitted.pop(job.start.fitted)
        notes = tuple(note for note in notes if note != job.start.note)
    return dataclasses.replace(job, fitted=fitted, notes=notes, start=None)


def check(experiment: Experiment, folder: Path) -> None:
    """Raise `UsageError`, with the first difference, unless an experiment has the architecture of the run in a folder."""
    saved = saved_experiment(folder)
    if saved.domain != experiment.domain:
        raise UsageError("is a run of another kind", where=folder, got=saved.name, needed=experiment.name)
    old = to_config(saved)["model"]
    new = to_config(experiment)["model"]
    for name in {**old, **new}:
        if name in TRAINING_FIELDS:
            continue
        _check_equal(f"--model.{name}", new.get(name), old.get(name), folder)
    for name in SAME_FIELDS:
        _check_equal(f"--{name}", getattr(experiment, name, None), getattr(saved, name, None), folder)


def _check_scaling(job: Job, folder: Path) -> None:
    """Raise `UsageError` where the network would read or forecast something else."""
    old = run_folder.read_config(folder).get("scaling")
    new = job.fitted.get("scaling")
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return
    for name, where in SAME_SCALING.items():
        value = new.get(name)
        # JSON has no tuples.
        if isinstance(value, tuple):
            value = list(value)
        # What an older config does not say had its default.
        default = Scaling.__dataclass_fields__[name].default
        if isinstance(default, tuple):
            default = list(default)
        _check_equal(where, value, old.get(name, default), folder)


def _check_equal(where: str, new: object, old: object, folder: Path) -> None:
    if new != old:
        raise UsageError(f"must be that of {folder}, whose parameters it begins with", where=where, got=new, needed=old)


def _source(folder: Path) -> Source:
    """Return a finished run. Raises `UsageError` if it has not been judged, `DamagedError` for a broken seal."""
    config = run_folder.read_config(folder)
    judged = run_seal.read_judged(folder)
    if judged is None:
        raise UsageError("the run is not finished", where=folder, needed=f"python -m jaxseq.train --resume {folder}")
    run_seal.check_judged_log(folder)
    records.check_run(folder / run_seal.CHECKPOINTS, judged.epoch, config)
    return Source(str(folder.resolve()), judged.run_id, judged.epoch, judged.state_sha256)


def _arrays(job: Job, folder: Path, source: Source) -> Mapping[str, np.ndarray]:
    """Return parameters and moments of a source by their paths, verified; they fit the job's own.

    Raises `DamagedError` for an array that is not as it was saved, `UsageError` for one of another shape.
    """
    checkpoints = folder / run_seal.CHECKPOINTS
    if records.state_sha256(checkpoints, source.epoch) != source.state_sha256:
        raise UsageError(
            "the epoch is not in the state that was judged", where=records.place(checkpoints, source.epoch)
        )
    saved = store.load_leaves(checkpoints, source.epoch)
    expected = leaves.by_path(abstract_state(job))
    paths = [path for path in {**expected, **saved} if path.startswith(PARTS)]
    for path in paths:
        old = _shape(saved.get(path))
        new = _shape(expected.get(path))
        if new != old:
            raise UsageError(f"{path} has another shape than in {folder}", where=OPTION, got=new, needed=old)
    return {path: _predicting(saved, path) for path in paths}


def _predicting(saved: Mapping[str, np.ndarray], path: str) -> np.ndarray:
    """Return an array of a saved state as the run predicts with it: averaged, if the run averages its weights."""
    average = saved.get(AVERAGE + path)
    if average is None:
        return saved[path]
    return average / saved[AVERAGE + "weight"].astype(average.dtype)


def _shape(leaf: jax.ShapeDtypeStruct | np.ndarray | None) -> str:
    """Return dtype and shape of an array as text."""
    if leaf is None:
        return "none"
    return f"{leaf.dtype}{list(leaf.shape)}"


def _parsed(saved: object, folder: Path) -> Source:
    where = f"{folder / run_seal.CONFIG}: {WARM_START}"
    if not isinstance(saved, Mapping) or set(saved) != set(Source._fields):
        raise UsageError("names no source", where=where, got=saved)
    return Source(**saved)
