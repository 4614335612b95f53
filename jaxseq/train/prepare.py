"""An experiment brought to life: rows on the devices, a setup to train, a state to start from."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
from jaxtyping import Array

from jaxseq.checkpoint import records, store
from jaxseq.common.arrays import Key, Tree
from jaxseq.common.errors import UsageError
from jaxseq.common.text import shown
from jaxseq.data.windows import BatchSplits, fingerprint
from jaxseq.nn import apply
from jaxseq.train import devices as mesh
from jaxseq.train import epoch as fit
from jaxseq.train import experiments, processes, run_folder
from jaxseq.train.experiments.base import Experiment
from jaxseq.train.experiments.config import ROWS

MOST_LAYERS = 64
"""Recurrent layers, one on the other; each is compiled by itself, and that of more would take hours."""
NOTHING: Mapping[str, Any] = MappingProxyType({})


class Job(NamedTuple):
    """All that a training needs, on the devices.

    batches   the three parts as the model sees them, in host memory; `train` and `valid` are also on every device, as
              `data`
    material  what the rows were made of, as the kind of the experiment has it
    notes     what the user should know of the data, a line each
    rows      sha256 of the batches: a run that is gone on with must have the rows that it had
    fitted    what was fitted to the data, for `config.json`
    """

    experiment: Any
    setup: fit.Setup
    mesh: jax.sharding.Mesh
    batches: BatchSplits
    data: BatchSplits
    material: Any
    rows: str
    notes: tuple[str, ...] = ()
    fitted: Mapping[str, Any] = NOTHING


def make(
    experiment: Experiment,
    batches: BatchSplits,
    material: Any,
    notes: tuple[str, ...] = (),
    fitted: Mapping[str, Any] = NOTHING,
) -> Job:
    """Build the model, and lay it and the rows over the devices. Raises `UsageError` where they do not fit."""
    devices = mesh.make()
    sharding = mesh.batch_sharding(devices, experiment.batch)
    rows = len(batches.train.x)
    _check_sizes(experiment, rows, devices.size)
    optimiser = experiment.optimiser(fit.steps_per_epoch(rows, experiment.batch))
    setup = fit.Setup(experiment.build(), experiment.objective(), optimiser, sharding)
    digest, data = fingerprint(batches), mesh.replicate(devices, batches)
    processes.check_same(digest, "read different data: all of them need the same files")
    return Job(experiment, setup, devices, batches, data, material, digest, notes, fitted)


def _check_sizes(experiment: Experiment, rows: int, devices: int) -> None:
    """Raise `UsageError` for a batch, a number of epochs or a model that no training could get through."""
    if experiment.batch >= rows + devices:
        raise UsageError(f"batch {experiment.batch} is more than the {rows} training windows: take a smaller --batch")
    if (steps := experiment.epochs * fit.steps_per_epoch(rows, experiment.batch)) >= 2**31:
        raise UsageError(f"{experiment.epochs} epochs are {steps} steps; they are counted up to {2**31 - 1}")
    hidden, layers = experiment.model.hidden, experiment.model.layers
    if layers > MOST_LAYERS:
        raise UsageError(f"--model.layers {layers}: at most {MOST_LAYERS} are built")
    state = 4 * 3 * (2 * layers - 1) * hidden**2  # at the least, in float32: the weights, and two moments of Adam
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if state > memory:
        raise UsageError(
            f"{hidden} units in each of {layers} layers need at least {state / 2**30:,.1f} GiB for the training state; "
            f"this machine has {memory / 2**30:,.1f} GiB: take a smaller --model.hidden"
        )


def alone(job: Job) -> Job:
    """The job for this process's devices alone; as it is if there is no other process."""
    if not job.mesh.is_multi_process:
        return job
    devices = mesh.make(jax.local_devices())
    setup = job.setup._replace(batch_sharding=mesh.batch_sharding(devices, job.experiment.batch))
    return job._replace(setup=setup, mesh=devices, data=mesh.replicate(devices, job.batches))


def initial_state(job: Job) -> fit.TrainState:
    """The state before the first step, drawn from the experiment's seed, whole on every device."""
    return _initialiser(job.setup, mesh.replicated(job.mesh))(*_seed_and_row(job))


def abstract_state(job: Job) -> Tree:
    """Shapes, dtypes and shardings of the state, without computing it."""
    sharding = mesh.replicated(job.mesh)
    shapes = jax.eval_shape(partial(fit.init, job.setup), *_seed_and_row(job))
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes)


@functools.cache
def _initialiser(setup: fit.Setup, sharding: jax.sharding.Sharding) -> Callable[[Key, Array], fit.TrainState]:
    """One compiled function for one setup, so that a second run of it need not be compiled again."""
    return jax.jit(partial(fit.init, setup), out_shardings=sharding)


def _seed_and_row(job: Job) -> tuple[Key, Array]:
    return jax.random.key(job.experiment.seed), jax.numpy.asarray(job.batches.train.x[:1])


def config(job: Job) -> dict[str, Any]:
    """What `config.json` and every checkpoint say of a run: the recipe, what was fitted to the data, its hash, the axes."""
    params = abstract_state(job).params
    axes = {f"params/{path}": axes for path, axes in apply.axes(params).items()}
    return {**experiments.to_config(job.experiment), **job.fitted, ROWS: job.rows, "axes": axes}


def check_rows(job: Job, folder: Path) -> None:
    """Raise `UsageError`, with both hashes, if the run was trained on other rows; runs of format 1 do not say on which."""
    saved = {**run_folder.read_config(folder), **records.sealed_config(folder / run_folder.CHECKPOINTS)}
    if (then := saved.get(ROWS, job.rows)) != job.rows:
        raise UsageError(
            f"{folder} was trained on other rows (sha256 {shown(then, 14)}, those of now '{job.rows[:12]}): give it the "
            "data that it had, or start a new run"
        )


def best(job: Job, folder: Path) -> tuple[int, fit.TrainState]:
    """The best epoch of a job's run and the state after it, verified. Raises as `restore`."""
    kept = folder / run_folder.CHECKPOINTS
    return store.restore(kept, abstract_state(job), records.best_epoch(kept))


def restore(
    folder: Path, experiment: Experiment, row: jax.ShapeDtypeStruct, epoch: int | None
) -> tuple[int, fit.Setup, Any]:
    """The best epoch of a run (or the one named), verified: its number, the setup, its state. It needs no data, but the
    shape of a row. Raises `UsageError` if there is no such epoch, `records.DamagedError` if it is damaged.
    """
    setup = fit.Setup(experiment.build(), experiment.objective(), experiment.optimiser(1))
    like = jax.eval_shape(partial(fit.init, setup), jax.random.key(0), row)
    kept = folder / run_folder.CHECKPOINTS
    found, state = store.restore(kept, like, records.best_epoch(kept) if epoch is None else epoch)
    return found, setup, state
