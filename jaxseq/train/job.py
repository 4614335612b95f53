"""A job: an experiment with its rows on the devices, ready to be trained or restored."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Generic, NamedTuple, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, Sharding

from jaxseq.checkpoint import leaves, records, run_seal, store
from jaxseq.checkpoint.run_seal import Judged
from jaxseq.common import memory
from jaxseq.common.arrays import Tree, Variables
from jaxseq.common.errors import UsageError
from jaxseq.common.sealed import DamagedError
from jaxseq.common.text import counted
from jaxseq.nn import apply
from jaxseq.nn.apply import Carrying, Model
from jaxseq.nn.objectives import Objective
from jaxseq.train import devices, epoch, experiments, feed, footprint, optimiser, overrides, processes, run_folder
from jaxseq.train.epoch import Setup, TrainState
from jaxseq.train.experiments.base import Experiment, Training, with_batch_of, with_epochs_of
from jaxseq.train.experiments.config import OVERRIDES, ROWS
from jaxseq.train.feed import RowSplits, Segments
from jaxseq.train.footprint import Footprint
from jaxseq.train.minibatch import Feed
from jaxseq.train.stream import Source

MOST_LAYERS = 64
"""Maximum number of stacked recurrent layers. XLA compiles each one separately, which would take hours for more."""
LARGE = 10_000_000
"""Parameters of a model that takes a while to draw: the orthogonal kernels cost h³ operations for each gate."""

NO_FIELDS: Mapping[str, object] = MappingProxyType({})

Experiment_ = TypeVar("Experiment_", bound=Experiment)
Training_ = TypeVar("Training_", bound=Training)
Material = TypeVar("Material")


class Start(NamedTuple):
    """Parameters that a training starts from in the place of drawn ones.

    compute  function from the drawn parameters to those that training starts from
    note     remark for the user, one of the job's notes
    fitted   key of its choices among the job's fitted values
    """

    compute: Callable[[Variables], Variables]
    note: str
    fitted: str


@dataclass(frozen=True)
class Job(Generic[Training_, Material]):
    """An experiment, or any other training, and everything that it needs, on the devices.

    batches      the three parts as the model sees them, in host memory
    data         the same parts, replicated over the mesh
    material     the data that the rows were made of, in the form of the experiment's domain
    rows_sha256  fingerprint of the batches; a resumed run must see the same rows
    notes        remarks on the data for the user, one line each
    fitted       values that were fitted to the training part, stored in `config.json`
    source       the training batches of each epoch, for data that are not held on the devices; the training part is then
                 a single row, which says what rows look like
    numbers      the numbers of the optimiser, such as the learning rate, which its state holds; empty for optax's own
    start        parameters that are computed; None keeps those that are drawn
    needed       bytes of memory that training and judging take, an estimate; 0 for any other training
    first        arrays that the first state has in the place of drawn ones, by their paths, as of a warm start
    """

    experiment: Training_
    setup: Setup
    mesh: Mesh
    batches: RowSplits
    data: RowSplits
    material: Material
    rows_sha256: str
    notes: tuple[str, ...]
    fitted: Mapping[str, object]
    source: Source | None = None
    numbers: Mapping[str, np.ndarray] = field(default_factory=dict)
    start: Start | None = None
    first: Mapping[str, np.ndarray] = field(default_factory=dict)
    needed: int | float = 0


def build_job(
    experiment: Experiment_,
    batches: RowSplits,
    material: Material,
    notes: tuple[str, ...] = (),
    fitted: Mapping[str, object] = NO_FIELDS,
    judged_by: tuple[str, ...] = (),
) -> Job[Experiment_, Material]:
    """Build the model and lay the rows over all devices of all processes.

    `judged_by` are the validation metrics that the domain reads when it judges the run.

    Raises `UsageError` if batch, model or number of epochs do not fit the data or the machine, if the objective lacks a
    metric, if a state is to be carried and the model has none, or if the processes have read different data.
    """
    mesh = devices.make()
    train_rows = feed.feed_of(batches.train)
    # The segments of a series are cut for the batch that was asked for.
    if not isinstance(batches.train, Segments):
        experiment = with_batch_of(experiment, train_rows.rows, mesh.size)
    batch_sharding = devices.batch_sharding(mesh, experiment.batch)
    _check_sizes(experiment, train_rows, mesh.size)

    steps_per_epoch = train_rows.steps(experiment.batch)
    experiment = with_epochs_of(experiment, steps_per_epoch)
    _check_steps(experiment, steps_per_epoch)

    chosen = experiment.build_optimiser(steps_per_epoch)
    setup = Setup(
        model=experiment.build(),
        objective=experiment.objective(),
        optimiser=chosen.transformation,
        batch_sharding=batch_sharding,
        precision=experiment.precision,
    )
    _check_metrics(setup.objective, judged_by)
    _check_carries(setup.model, batches)
    needed = _footprint(experiment, setup, batches)
    needed.check_on(mesh)

    rows_sha256 = feed.fingerprint(batches)
    data = RowSplits(*feed.on_devices(mesh, batches))
    processes.check_same(rows_sha256, "read different data: all of them need the same files")
    return Job(
        experiment=experiment,
        setup=setup,
        numbers=chosen.numbers,
        mesh=mesh,
        batches=batches,
        data=data,
        material=material,
        rows_sha256=rows_sha256,
        notes=notes,
        fitted=fitted,
        needed=needed.total,
    )


def _check_sizes(experiment: Experiment, train_rows: Feed, device_count: int) -> None:
    """Raise `UsageError` for a batch or a model that cannot be trained here."""
    # A batch is a multiple of the number of devices, so it may exceed the rows by less than that number.
    if experiment.batch >= train_rows.rows + device_count:
        raise UsageError(
            "more rows than the training part has",
            where="--batch",
            got=experiment.batch,
            needed=f"at most {train_rows.rows}, the number of training windows",
        )

    hidden = experiment.model.hidden
    layers = experiment.model.layers
    if layers > MOST_LAYERS:
        raise UsageError("too many layers", where="--model.layers", got=layers, needed=f"at most {MOST_LAYERS}")

    # A lower bound in float32, before shapes overflow: the weights of plain RNNs, and Adam's two moments of each.
    memory.check(
        f"the training state of {hidden} units in each of {layers} layers does not fit into memory",
        needed=4 * 3 * (2 * layers - 1) * hidden**2,
        where="--model.hidden",
    )


def _check_steps(experiment: Experiment, steps_per_epoch: int) -> None:
    """Raise `UsageError` for more optimiser steps than can be counted."""
    total_steps = experiment.most_epochs * steps_per_epoch
    # The step counter of the training state is an int32.
    if total_steps >= 2**31:
        raise UsageError(
            f"too many optimiser steps in {experiment.epochs} epochs",
            where="--epochs",
            got=total_steps,
            needed=f"at most {2**31 - 1}",
        )


def _check_metrics(objective: Objective, judged_by: tuple[str, ...]) -> None:
    """Raise `UsageError` for an objective from outside without a metric that is read, be it after the training."""
    metrics = [name for name, _ in objective.metrics]
    for name in (objective.select, *judged_by):
        if name not in metrics:
            raise UsageError("lacks a metric", where="objective", got=", ".join(metrics), needed=name)


def _check_carries(model: Model, batches: RowSplits) -> None:
    """Raise `UsageError` for segments of a series, and a network from outside that has no state to carry along it."""
    if isinstance(batches.train, Segments) and not isinstance(model, Carrying):
        raise UsageError(
            "the network has no state that is carried from window to window",
            where="--data.stateful",
            got=type(model).__name__,
            needed="a module with the method start(rows, dtype), such as jaxseq.nn.forecaster.Forecaster",
        )


def _footprint(experiment: Experiment, setup: Setup, batches: RowSplits) -> Footprint:
    """Estimate the memory of a training."""
    return footprint.estimate(
        setup,
        _shapes(setup, *_row_shape(batches)),
        batches,
        batch=experiment.batch,
        layers=experiment.model.layers,
    )


def check_memory_of_lanes(job: Job[Experiment, object], lanes: int) -> None:
    """Raise `UsageError` if so many trainings like this one, in one program, need more memory than there is."""
    _footprint(job.experiment, job.setup, job.batches).of_lanes(lanes).check_on(job.mesh)


def most_lanes(job: Job[Experiment, object], wanted: int) -> int:
    """Return how many trainings like this one fit into memory in one program, from 1 to `wanted`."""
    of_one = _footprint(job.experiment, job.setup, job.batches)
    too_many = wanted + 1
    fitting = 1
    while too_many - fitting > 1:
        tried = (fitting + too_many) // 2
        if of_one.of_lanes(tried).fits_on(job.mesh):
            fitting = tried
        else:
            too_many = tried
    return fitting


def on_local_devices(job: Job[Training_, Material]) -> Job[Training_, Material]:
    """Return the job on this process's devices only; unchanged if there is no other process."""
    if not job.mesh.is_multi_process:
        return job

    mesh = devices.make(jax.local_devices())
    setup = job.setup._replace(batch_sharding=devices.batch_sharding(mesh, job.experiment.batch))
    return dataclasses.replace(job, setup=setup, mesh=mesh, data=RowSplits(*feed.on_devices(mesh, job.batches)))


def initial_state(job: Job) -> TrainState:
    """Return the state before the first step, replicated over the mesh: drawn from the seed, computed, or given in part."""
    state = _drawn_state(job)
    if job.start is not None:
        state = state._replace(params=devices.replicate(job.mesh, job.start.compute(state.params)))
    if not job.first:
        return state
    first = leaves.by_path(state)
    first.update(job.first)
    given = jax.tree.unflatten(jax.tree.structure(state), list(first.values()))
    return jax.jit(lambda tree: tree, out_shardings=devices.replicated(job.mesh))(given)


def _drawn_state(job: Job) -> TrainState:
    sharding = devices.replicated(job.mesh)
    key = jax.random.key(job.experiment.seed)
    row = jax.numpy.asarray(feed.feed_of(job.batches.train).row.x)
    if not job.experiment.draws_by_layer:
        return _compiled_init(job.setup, sharding)(key, row, numbers=dict(job.numbers))

    state = epoch.init(job.setup, key, row, by_layer=True, numbers=job.numbers)
    replicate = jax.jit(lambda tree: tree, out_shardings=sharding, donate_argnums=0)
    return replicate(state)


def with_numbers(job: Job, state: TrainState) -> TrainState:
    """Return a restored state with the numbers of the job's optimiser, which checkpoints before format 4 lack."""
    numbers = devices.replicate(job.mesh, dict(job.numbers))
    return state._replace(opt=optimiser.with_numbers(state.opt, numbers))


def abstract_state(job: Job) -> Tree:
    """Return shapes, dtypes and shardings of the state without computing it."""
    sharding = devices.replicated(job.mesh)
    shapes = _shapes(job.setup, *_row_shape(job.batches))
    # Without a sharding on every leaf Orbax restores onto the devices that saved, which may be others than these.
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes)


# Cached, so that a second run of the same setup does not compile the initialisation again. Compiled at all, because Orbax
# refuses to save what a single process made for itself: the state has to be replicated from the start.
@functools.cache
def _compiled_init(setup: Setup, sharding: Sharding) -> Callable[..., TrainState]:
    return jax.jit(partial(epoch.init, setup), out_shardings=sharding)


# Cached, because deep stacks take seconds to trace.
@functools.lru_cache(maxsize=8)
def _shapes(setup: Setup, shape: tuple[int, ...], dtype: str) -> TrainState:
    """Return shapes and dtypes of the state for input rows of this shape and dtype."""
    row = jax.ShapeDtypeStruct(shape, dtype)
    return jax.eval_shape(partial(epoch.init, setup), jax.random.key(0), row)


def _row_shape(batches: RowSplits) -> tuple[tuple[int, ...], str]:
    """Return the shape of one input row, "1 t d", and its dtype."""
    x = feed.feed_of(batches.train).row.x
    return x.shape, str(x.dtype)


def size_note(job: Job[Experiment, object]) -> str | None:
    """Return a sentence on a model that takes minutes to draw and to compile; None for any other."""
    model = job.experiment.model
    parameters = sum(leaf.size for leaf in jax.tree.leaves(abstract_state(job).params))
    if not job.experiment.draws_by_layer and parameters < LARGE:
        return None
    return (
        f"{counted(model.layers, 'layer')} of {model.hidden:,} units, {counted(parameters, 'parameter')}: drawing and "
        "compiling them may take minutes"
    )


def epochs_note(job: Job[Experiment, object]) -> str:
    """Return a sentence on a number of epochs that the training rows decided, and on when training stops."""
    experiment = job.experiment
    rows = feed.feed_of(job.batches.train)
    steps = counted(rows.steps(experiment.batch), "step")
    length = f"{counted(rows.rows, 'training row')}, {steps} an epoch: at most {experiment.epochs} epochs"
    stops = []
    if experiment.patience is not None:
        stops.append(f"after {experiment.patience} without a better validation score")
    if experiment.min_gain is not None:
        stops.append(f"at a plateau of the training loss, from epoch {experiment.min_epochs} on")
    if not stops:
        return length
    return f"{length}; training stops {' or '.join(stops)}"


def run_config(job: Job) -> dict[str, object]:
    """Return what `config.json` and the checkpoints store: the recipe, fitted values, the rows' hash, the axes.

    The run's identity is added where the run begins.
    """
    params = abstract_state(job).params
    axes = {f"params/{path}": names for path, names in apply.axes(job.setup.model, params).items()}
    built_outside = overrides.described(job.experiment, job.setup, job.numbers)
    return {
        **experiments.to_config(job.experiment),
        **({OVERRIDES: built_outside} if built_outside else {}),
        **job.fitted,
        ROWS: job.rows_sha256,
        "axes": axes,
    }


def check_rows(job: Job, folder: Path) -> None:
    """Raise `UsageError`, with both hashes, if the run in `folder` was trained on other rows.

    Runs of format 1 have no hash; they are not checked.
    """
    saved_sha256 = run_folder.read_config(folder).get(ROWS, job.rows_sha256)
    if saved_sha256 != job.rows_sha256:
        raise UsageError(
            "the data differs from the rows that the run was trained on; restore the data, or start a new run",
            where=folder,
            got=f"sha256 {job.rows_sha256[:12]}",
            needed=f"sha256 {str(saved_sha256)[:12]}",
        )


def restore_best(job: Job, folder: Path) -> tuple[int, TrainState]:
    """Return the best epoch of the job's run and the state after it, verified, to predict with.

    Its parameters are the averaged ones, if the run averages them. Raises as `restore_epoch`.
    """
    config = run_folder.read_config(folder)
    checkpoints = folder / run_seal.CHECKPOINTS
    best_epoch = records.best_epoch(checkpoints)
    restored_epoch, state = store.restore(checkpoints, abstract_state(job), best_epoch, config=config)
    return restored_epoch, predicting(state)


def predicting(state: TrainState) -> TrainState:
    """Return the state with the weights that predict in the place of those of the last step."""
    return state._replace(params=optimiser.weights(state.opt, state.params))


class Restored(NamedTuple):
    """The state after an epoch of a finished run, with the setup that it belongs to."""

    epoch: int
    setup: Setup
    state: TrainState


def setup_of(experiment: Experiment) -> Setup:
    """Return the setup of a run that is restored to be used, not to be trained."""
    return Setup(
        model=experiment.build(),
        objective=experiment.objective(),
        # Its numbers play no part in restoring, so the number of steps in an epoch may be any.
        optimiser=experiment.build_optimiser(1).transformation,
        precision=experiment.precision,
    )


def state_shapes(setup: Setup, row: jax.ShapeDtypeStruct) -> TrainState:
    """Return shapes and dtypes of the state for one input row, "1 t d"."""
    return _shapes(setup, row.shape, str(row.dtype))


def restore_epoch(folder: Path, experiment: Experiment, row: jax.ShapeDtypeStruct, number: int | None) -> Restored:
    """Restore an epoch of a run without its data, verified; without a number, the epoch that was judged, or the best.

    `row` has the shape "1 t d" and the dtype of one input row. Raises `UsageError` if there is no such epoch,
    `sealed.DamagedError` if it is damaged: another epoch must be asked for by its number.
    """
    setup = setup_of(experiment)
    abstract = state_shapes(setup, row)
    # The run may come from a larger machine.
    memory.check(
        "the state of this run does not fit into memory",
        needed=memory.RUNTIME + footprint.bytes_of(abstract),
        where=str(folder),
    )

    config = run_folder.read_config(folder)
    checkpoints = folder / run_seal.CHECKPOINTS
    judged = run_seal.read_judged(folder)
    try:
        chosen = number
        if chosen is None:
            chosen = chosen_epoch(checkpoints, judged)
        restored_epoch, state = store.restore(checkpoints, abstract, chosen, config=config)
    except DamagedError as error:
        raise _with_other_epochs(error, checkpoints, config) from None

    steps_per_epoch = int(state.step) // restored_epoch
    numbers = experiment.build_optimiser(steps_per_epoch).numbers
    state = state._replace(opt=optimiser.with_numbers(state.opt, numbers))
    return Restored(restored_epoch, setup, predicting(state))


def chosen_epoch(checkpoints: Path, judged: Judged | None) -> int | None:
    """Return the epoch of a run that was judged; of a run that was not, the best one so far.

    Raises `DamagedError` if that epoch is not there any more, or not in the state that was judged.
    """
    if judged is None:
        return records.best_epoch(checkpoints)

    where = records.place(checkpoints, judged.epoch)
    if judged.epoch not in records.epochs(checkpoints):
        raise DamagedError(where, [f"the epoch that {run_seal.JUDGED} names is missing"])
    if records.state_sha256(checkpoints, judged.epoch) != judged.state_sha256:
        raise DamagedError(where, [f"it is not in the state that {run_seal.JUDGED} names"])
    return judged.epoch


def _with_other_epochs(error: DamagedError, checkpoints: Path, config: Mapping[str, object]) -> DamagedError:
    """Add how another epoch can be had on purpose to the first reason of an error."""
    sound = [number for number in records.epochs(checkpoints) if not store.damage(checkpoints, number, config)]
    if not sound:
        return error
    choices = ", ".join(f"--epoch {number}" for number in sound)
    first, *others = error.reasons
    return DamagedError(str(error.where), [f"{first}; {choices} takes another one on purpose", *others])
