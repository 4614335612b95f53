"""An experiment brought to life: data on the devices, a setup to train, a state to start from, a run to come back to."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from jaxseq import checkpoint, experiments, fit, mesh, models, runlog
from jaxseq.arrays import Batch, Tree
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
    steps = fit.steps_per_epoch(len(batches.train.x), experiment.batch)
    setup = fit.Setup(
        experiment.model.build(data.horizon),
        experiment.task,
        experiment.optimiser(steps),
        mesh.batch_sharding(devices, experiment.batch),
    )
    return Job(experiment, setup, devices, windows, batches, mesh.replicate(devices, batches), scaling)


def initial_state(job: Job) -> fit.TrainState:
    """The state before the first step, drawn from the experiment's seed, whole on every device."""
    return jax.jit(_initialiser(job), out_shardings=mesh.replicated(job.mesh))()


def abstract_state(job: Job) -> Tree:
    """Shapes, dtypes and shardings of the state, without computing it."""
    sharding = mesh.replicated(job.mesh)
    shapes = jax.eval_shape(_initialiser(job))
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes)


def _initialiser(job: Job) -> Any:
    window = job.batches.train.x[:1]

    def start() -> fit.TrainState:
        return fit.init(job.setup, jax.random.key(job.experiment.seed), jax.numpy.asarray(window))

    return start


def predict(job: Job, state: fit.TrainState, part: Batch) -> Float[np.ndarray, "n k"]:
    """The model's scaled predictions for one part of the data."""
    rows = fit.EVALUATION_BATCHES * job.experiment.batch
    x = mesh.replicate(job.mesh, part.x)
    return np.asarray(fit.predict(job.setup, state.params, state.stats, x, rows))


def config(job: Job) -> dict[str, Any]:
    """What `config.json` and every checkpoint say of a run: the recipe, what was fitted to the data, the axes."""
    state = jax.eval_shape(_initialiser(job))
    return {
        **experiments.to_config(job.experiment),
        "scaling": dataclasses.asdict(job.scaling),
        "axes": {f"params/{path}": axes for path, axes in models.axes(state.params).items()},
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

    Raises `UsageError` if there is no such run or epoch, `checkpoint.DamagedError` if it is damaged.
    """
    folder = Path(folder)
    saved = runlog.read_config(folder)
    experiment = experiments.from_config(saved, str(folder / runlog.CONFIG))
    try:
        scaling = Scaling(**saved["scaling"])
    except (KeyError, TypeError) as error:
        raise UsageError(f"{folder / runlog.CONFIG}: no scaling is stored in it: {error}") from error
    setup = fit.Setup(experiment.model.build(experiment.data.horizon), experiment.task, experiment.optimiser(1))
    window = jax.ShapeDtypeStruct((1, experiment.data.window, 1), np.float32)
    like = jax.eval_shape(partial(fit.init, setup), jax.random.key(0), window)
    store = folder / runlog.CHECKPOINTS
    epoch, state = checkpoint.restore(store, like, checkpoint.best_step(store) if epoch is None else epoch)
    return Trained(experiment, epoch, setup, state, scaling)
