"""An experiment brought to life: data on the devices, a setup to train, a state to start from, a run to come back to."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from jaxseq import experiments, fit, mesh, models, runlog
from jaxseq.arrays import Batch, Key, Tree
from jaxseq.checkpoint import records, store
from jaxseq.data.windows import BatchSplits, Scaling, WindowSplits, check_series
from jaxseq.errors import UsageError
from jaxseq.experiments import Experiment


class Job(NamedTuple):
    """All that a training needs, on the devices.

    batches  the three parts, scaled, in host memory; `train` and `valid` are also on every device, as `data`
    windows  the three parts in the series' own units
    """

    experiment: Experiment
    setup: fit.Setup
    mesh: jax.sharding.Mesh
    windows: WindowSplits
    batches: BatchSplits
    data: BatchSplits
    scaling: Scaling


def prepare(experiment: Experiment) -> Job:
    """Load the data, build the model, and lay both over the devices. Raises `UsageError` where they do not fit."""
    data = experiment.data
    windows, batches, scaling = data.windows(), data.load(), data.scaling()
    devices = mesh.make()
    sharding = mesh.batch_sharding(devices, experiment.batch)
    _check_sizes(experiment, len(batches.train.x), devices.size)
    steps = fit.steps_per_epoch(len(batches.train.x), experiment.batch)
    setup = fit.Setup(experiment.model.build(data.horizon), experiment.task, experiment.optimiser(steps), sharding)
    return Job(experiment, setup, devices, windows, batches, mesh.replicate(devices, batches), scaling)


def _check_sizes(experiment: Experiment, rows: int, devices: int) -> None:
    """Raise `UsageError` for a batch, a number of epochs or a model that no training could get through."""
    if experiment.batch >= rows + devices:
        raise UsageError(f"batch {experiment.batch} is more than the {rows} training windows: take a smaller --batch")
    if (steps := experiment.epochs * fit.steps_per_epoch(rows, experiment.batch)) >= 2**31:
        raise UsageError(f"{experiment.epochs} epochs are {steps} steps; they are counted up to {2**31 - 1}")
    hidden, layers = experiment.model.hidden, experiment.model.layers
    state = 4 * 3 * (2 * layers - 1) * hidden**2  # at the least, in float32: the weights, and two moments of Adam
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if state > memory:
        raise UsageError(
            f"{hidden} units in each of {layers} layers need at least {state / 2**30:,.1f} GiB for the training state; "
            f"this machine has {memory / 2**30:,.1f} GiB: take a smaller --model.hidden"
        )


def initial_state(job: Job) -> fit.TrainState:
    """The state before the first step, drawn from the experiment's seed, whole on every device."""
    return _initialiser(job.setup, mesh.replicated(job.mesh))(*_seed_and_window(job))


def abstract_state(job: Job) -> Tree:
    """Shapes, dtypes and shardings of the state, without computing it."""
    sharding = mesh.replicated(job.mesh)
    shapes = jax.eval_shape(partial(fit.init, job.setup), *_seed_and_window(job))
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes)


@functools.cache
def _initialiser(setup: fit.Setup, sharding: jax.sharding.Sharding) -> Callable[[Key, Array], fit.TrainState]:
    """One compiled function for one setup, so that a second run of it need not be compiled again."""
    return jax.jit(partial(fit.init, setup), out_shardings=sharding)


def _seed_and_window(job: Job) -> tuple[Key, Array]:
    return jax.random.key(job.experiment.seed), jax.numpy.asarray(job.batches.train.x[:1])


def predict(job: Job, state: fit.TrainState, part: Batch) -> Float[np.ndarray, "n k"]:
    """The model's scaled predictions for one part of the data."""
    rows = fit.EVALUATION_BATCHES * job.experiment.batch
    x = mesh.replicate(job.mesh, part.x)
    return np.asarray(fit.predict(job.setup, state.params, state.stats, x, rows))


def config(job: Job) -> dict[str, Any]:
    """What `config.json` and every checkpoint say of a run: the recipe, what was fitted to the data, the axes."""
    params = abstract_state(job).params
    return {
        **experiments.to_config(job.experiment),
        "scaling": dataclasses.asdict(job.scaling),
        "axes": {f"params/{path}": axes for path, axes in models.axes(params).items()},
    }


class Trained(NamedTuple):
    """A trained forecaster, restored: call it on windows in the series' own units."""

    experiment: Experiment
    epoch: int
    setup: fit.Setup
    state: fit.TrainState
    scaling: Scaling

    def __call__(self, values: Float[np.ndarray, "*n t"]) -> Float[np.ndarray, "*n k"]:
        """Forecasts for one window "t" or for many, "n t", in the same units as the values.

        Raises `UsageError` if a window has another length than the model was trained with, or a value is not finite.
        """
        values = np.asarray(values, np.float64)
        window = self.experiment.data.window
        if values.ndim not in (1, 2) or values.shape[-1] != window:
            raise UsageError(f"the model was trained on windows of {window} values; given were {values.shape}")
        rows = values.reshape(-1, window)
        check_series(np.arange(rows.size), rows.ravel(), "windows")
        x = self.scaling.inputs(rows).astype(np.float32)
        scaled = np.asarray(fit.predict(self.setup, self.state.params, self.state.stats, x, min(len(rows), 512)))
        forecast = self.scaling.invert(scaled, rows[:, -1])
        return forecast[0] if values.ndim == 1 else forecast


def restore(folder: str | Path, epoch: int | None = None) -> Trained:
    """The best epoch of a run (or the one named), verified, ready to forecast; needs neither its data nor a GPU.

    Raises `UsageError` if there is no such run or epoch, `records.DamagedError` if it is damaged.
    """
    folder = Path(folder)
    saved = runlog.read_config(folder)
    experiment = experiments.from_config(saved, str(folder / runlog.CONFIG))
    scaling = experiments.rebuild(
        Scaling("level", 0.0, math.nan), saved.get("scaling"), f"{folder / runlog.CONFIG}: scaling"
    )
    if not math.isfinite(scaling.shift * scaling.scale):
        raise UsageError(f"{folder / runlog.CONFIG}: scaling must be by finite numbers; it is {scaling}")
    setup = fit.Setup(experiment.model.build(experiment.data.horizon), experiment.task, experiment.optimiser(1))
    window = jax.ShapeDtypeStruct((1, experiment.data.window, 1), np.float32)
    like = jax.eval_shape(partial(fit.init, setup), jax.random.key(0), window)
    kept = folder / runlog.CHECKPOINTS
    epoch, state = store.restore(kept, like, records.best_step(kept) if epoch is None else epoch)
    return Trained(experiment, epoch, setup, state, scaling)
