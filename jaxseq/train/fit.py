"""Train a Flax module on arrays or batches from outside, with everything that the command has.

    trained = fit.train(
        Tagger(),
        (tokens, tags),
        valid=(valid_tokens, valid_tags),
        loss=optax.softmax_cross_entropy_with_integer_labels,
        optimiser=optax.lion(1e-3),
        epochs=20,
        out="runs/tagger",
    )
    logits = trained.predict(tokens)

The best epoch on the validation rows is kept, epochs are saved and verified, and a run that is stopped resumes bit for
bit. Nothing is judged: test rows stay with the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypedDict, Unpack

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Shaped
from numpy.typing import ArrayLike
from rich.console import Console

from jaxseq.checkpoint import leaves, records, run_seal, store
from jaxseq.common import checks, files, lock, row_counts
from jaxseq.common.arrays import Variables
from jaxseq.common.console import terminal
from jaxseq.common.errors import UsageError
from jaxseq.common.precision import Precision
from jaxseq.common.sealed import DamagedError
from jaxseq.nn import apply, plain_model
from jaxseq.nn.apply import Layer, Model
from jaxseq.nn.objectives import PerRow
from jaxseq.train import descriptions, epoch, notebook, own_training, processes, run, run_folder
from jaxseq.train.callbacks import Callback
from jaxseq.train.domains.base import RunRow
from jaxseq.train.epoch import Setup
from jaxseq.train.experiments.base import OWN, OnNonFinite
from jaxseq.train.experiments.config import ROWS
from jaxseq.train.job import Job, chosen_epoch, run_config
from jaxseq.train.loop import Run
from jaxseq.train.own_training import ADAM, OwnTraining, Pair, Parts, Rows
from jaxseq.train.run_folder import MAY_CHANGE, Row

METRIC = "valid_loss"
"""Metric that chooses the epoch."""


CLOSE = 1e-3
"""Difference of two results, relative to the largest, from which on it is none of rounding."""
_APART: set[Model] = set()
"""Modules whose rows have been seen not to depend on one another."""


class TrainingOptions(TypedDict, total=False):
    """Fields of `jaxseq.train.experiments.base.Training`, which has their defaults."""

    epochs: int
    batch: int
    seed: int
    patience: int | None
    min_gain: float | None
    gain_epochs: int
    min_epochs: int
    on_nonfinite: OnNonFinite
    precision: Precision


class Options(TrainingOptions, total=False):
    """How `train` trains.

    optimiser        any rule of optax; None takes Adam with a learning rate of 0.001
    metrics          further numbers of the validation rows by name, each a function as `loss` is
    steps_per_epoch  batches in an epoch of an iterator that has no end
    resume           go on with the run in `out`, if there is one
    from_epoch       the epoch to resume from; None takes the newest sound one
    console          where progress is shown; None takes the terminal
    callbacks        see `jaxseq.train.callbacks`; loggers come from `jaxseq.train.loggers.named("tensorboard")`
    """

    optimiser: optax.GradientTransformation | None
    metrics: Mapping[str, PerRow]
    steps_per_epoch: int | None
    resume: bool
    from_epoch: int | None
    console: Console | None
    callbacks: Sequence[Callback]


class Trained(NamedTuple):
    """A trained module, in the state after its best epoch.

    model    the module, as `jaxseq.nn.plain_model` calls it
    stats    collections beside the parameters, such as running moments; an empty dict if there is none
    history  a row of metrics for each epoch up to the newest one that is saved
    """

    folder: Path
    epoch: int
    model: Model
    params: Variables
    stats: Variables
    history: tuple[Row, ...]

    def predict(self, x: ArrayLike, batch: int = 512) -> Float[Array, "n *k"]:
        """Return the module's output for every row of x "n *d", computed in batches of at most `batch` rows.

        The output of a row must not depend on the rows beside it: batches are filled up with copies of a row, so that
        numbers of rows that are close share a compiled program. The last digit of a result may depend on the number.

        Raises `UsageError` where there is no row, for a batch that is no positive integer, and for a module that mixes
        rows, which the first prediction by it finds out.
        """
        checks.count(batch=batch)
        batch = int(batch)
        setup = Setup(self.model, own_training.objective(optax.squared_error, ()), ADAM)
        # Inside of another program, such as a gradient by x, its number of rows is compiled in.
        if isinstance(x, jax.core.Tracer):
            return epoch.predict(setup, self.params, self.stats, x, batch)

        def predict(rows: Shaped[np.ndarray, "m *d"]) -> Array:
            return epoch.predict(setup, self.params, self.stats, jnp.asarray(rows), batch)

        rows = np.asarray(x)
        results = row_counts.computed(predict, rows, batch)
        if self.model not in _APART:
            _check_apart(self.model, partial(row_counts.computed, predict, batch=batch), rows[:batch], results[:batch])
        return jnp.asarray(results)

    def __repr__(self) -> str:
        """Return the run and its epoch in one line."""
        return f"Trained(epoch {self.epoch} of {len(self.history)} in {self.folder})"

    def _repr_html_(self) -> str:
        """Return the run as a small page with its loss by epoch, for notebooks."""
        best = self.history[self.epoch - 1]
        facts = {"epoch": f"{self.epoch} of {len(self.history)}", METRIC: f"{best[METRIC]:.5f}", "folder": self.folder}
        return notebook.page(facts, notebook.loss_picture(self.history, METRIC))


def _check_apart(
    model: Model,
    predict: Callable[[Shaped[np.ndarray, "m *d"]], np.ndarray],
    x: Shaped[np.ndarray, "n *d"],
    results: Float[np.ndarray, "n *k"],
) -> None:
    """Raise `UsageError` if results change with the rows beside theirs. `x` are the rows of a single batch.

    The program is that of the results, so that a module of any precision that computes each row by itself passes.
    """
    others = x.copy()
    # The first row as well, which any other may depend on.
    others[::2] = x[-1]
    # One row, or equal ones, tell nothing.
    if np.array_equal(others, x):
        return
    beside_others = predict(others)[1::2]
    # Results that are not finite say nothing of the others.
    with np.errstate(invalid="ignore"):
        differences = np.nan_to_num(np.abs(beside_others - results[1::2]))
    difference = np.max(differences, initial=0.0)
    largest = np.max(np.nan_to_num(np.abs(results)), initial=0.0)
    if difference > CLOSE * largest:
        raise UsageError(
            "the module mixes rows: its output for a row changes with the rows beside it",
            where="predict",
            got=f"a difference of {difference:.2g} between results of up to {largest:.2g}",
            needed="a module that computes each row by itself; apply this one with `params` and `stats` to all rows",
        )
    _APART.add(model)


def train(
    model: Layer,
    rows: Rows,
    *,
    valid: Pair,
    loss: PerRow,
    out: str | Path | None = None,
    **options: Unpack[Options],
) -> Trained:
    """Train a module on rows, choose its best epoch on the validation rows, and return it.

    model    a Flax module from rows to predictions, see `jaxseq.nn.plain_model`
    rows     arrays (x, y), or batches of them for data that do not fit into memory, see `jaxseq.train.stream`
    valid    arrays (x, y) whose mean loss chooses the epoch
    loss     function (prediction, target) -> one number for each row, or for each element of the target
    out      folder of the run; None takes the next number in `runs/`
    options  see `Options`

    Raises `UsageError`, which names the argument, for what cannot be trained, such as NaN in a target, and for a run in
    `out` that was trained otherwise. Raises `Interrupted` on Ctrl-C, after the last finished epoch is saved.
    """
    console = options.get("console") or terminal()
    # Otherwise every line would appear once for each process.
    if not processes.is_first():
        console.quiet = True
    optimiser = options.get("optimiser") or ADAM
    if not hasattr(optimiser, "update") or not hasattr(optimiser, "init"):
        raise UsageError("no rule of optax", where="optimiser", got=optimiser, needed="such as optax.adam(1e-3)")
    parts = Parts(model, loss, optimiser, options.get("metrics", {}))
    fields = {name: value for name, value in options.items() if name in TrainingOptions.__annotations__}
    folder = None if out is None else files.user_path(out)
    resumes = _resumes(folder, options)
    if not resumes:
        processes.from_first(lambda: run_folder.check_writable(folder))
    job = own_training.job_of(parts, rows, valid, options.get("steps_per_epoch"), fields)

    with ExitStack() as locks:
        if resumes:
            assert folder is not None
            _check_same(folder, job)
            processes.from_first(lambda: locks.enter_context(lock.hold(folder)))
            current = run.resume_run(job, folder, options.get("from_epoch"), console)
        else:
            current = run.begin(job, folder, locks)
        run.fit_and_judge(current, console, options.get("callbacks", ()), judge=_best_row)
    return restore(current.folder, model)


def restore(folder: str | Path, model: Layer, number: int | None = None) -> Trained:
    """Return the epoch of a run that was judged, or the best of one that was not, or that of a number, verified.

    Raises `UsageError` if there is no such run or epoch, or if another module was trained, and `DamagedError` if an array
    or a row of the log is not the one that was saved.
    """
    folder = files.user_path(folder)
    config = run_folder.read_config(folder)
    if config.get("experiment") != OWN:
        name = config.get("experiment")
        raise UsageError("a run of another experiment", where=folder, got=name, needed="jaxseq.train.restore.restore")
    row = jax.ShapeDtypeStruct((1, *config["row_shape"]), config["row_dtype"])
    plain = plain_model.of(model, row)
    described = descriptions.of_model(plain)
    if described != config["model"]:
        raise UsageError("another module was trained", where=folder, got=described, needed=config["model"])

    checkpoints = folder / run_seal.CHECKPOINTS
    chosen = number
    if chosen is None:
        chosen = chosen_epoch(checkpoints, run_seal.read_judged(folder))
    if chosen is None:
        raise UsageError("no epoch was finished", where=folder, needed="at least 1")
    records.check_run(checkpoints, chosen, config)
    arrays = store.load_leaves(checkpoints, chosen)
    params, stats = jax.eval_shape(partial(apply.init, plain), jax.random.key(0), row)
    return Trained(
        folder=folder,
        epoch=chosen,
        model=plain,
        params=_filled("params", params, arrays),
        stats=_filled("stats", stats, arrays),
        history=_history(folder),
    )


def _history(folder: Path) -> tuple[Row, ...]:
    """Return the rows of a run's log: all of a finished run, whose judgement has their hash, else those up to the newest
    epoch whose record can be read.

    Raises `DamagedError` if they were changed since.
    """
    judged = run_seal.read_judged(folder)
    if judged is not None:
        run_seal.check_judged_log(folder)
        return tuple(row for row in run_folder.read_metrics(folder) if row["epoch"] <= judged.epochs)

    checkpoints = folder / run_seal.CHECKPOINTS
    sealed_epochs = []
    for number in records.epochs(checkpoints):
        # A caller who names an epoch may have it, whatever happened to others.
        with suppress(DamagedError):
            records.record_of(checkpoints, number)
            sealed_epochs.append(number)
    last_epoch = max(sealed_epochs)
    run_seal.check_log(folder, last_epoch)
    return tuple(row for row in run_folder.read_metrics(folder) if row["epoch"] <= last_epoch)


def _filled(name: str, shapes: Variables, arrays: Mapping[str, np.ndarray]) -> Variables:
    """Return a tree of shapes with the arrays of a checkpoint."""
    paths = leaves.by_path({name: shapes})
    return jax.tree.unflatten(jax.tree.structure(shapes), [jnp.asarray(arrays[path]) for path in paths])


# A run ----------------------------------------------------------------------------------------------------------------


def _resumes(folder: Path | None, options: Options) -> bool:
    """Return whether there is a run to go on with. Raises `UsageError` for `resume` without a folder."""
    if not options.get("resume"):
        return False
    if folder is None:
        raise UsageError("needs the folder of the run", where="resume", got="out=None", needed="out=<folder>")
    return (folder / run_seal.CONFIG).exists()


def _check_same(folder: Path, job: Job[OwnTraining, None]) -> None:
    """Raise `UsageError`, with both values, unless the run in a folder was trained as this one is, on the same rows."""
    saved = run_folder.read_config(folder)
    for name, value in run_config(job).items():
        # JSON has lists alone.
        comparable = list(value) if isinstance(value, tuple) else value
        if name not in MAY_CHANGE and saved.get(name) != comparable:
            rule = f"a resumed run may only change {', '.join(MAY_CHANGE)}"
            if name == ROWS:
                rule = f"{rule}; the rows, or the first batch of the loader or generator, are others"
            raise UsageError(
                rule,
                where=folder / run_seal.CONFIG,
                got=f"{name} {value}",
                needed=f"{name} {saved.get(name)}",
            )


def _best_row(trained: Run) -> RunRow:
    """Return the validation metrics of the best epoch, by which a training from Python is judged."""
    best_epoch = records.best_until(trained.checkpoints, len(trained.rows))
    best_row = trained.rows[best_epoch - 1]
    return {name: value for name, value in best_row.items() if name.startswith("valid_")}
