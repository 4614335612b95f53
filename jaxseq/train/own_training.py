"""The job of a training from Python: a module, rows and a loss from outside, checked before anything is written."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Shaped
from numpy.typing import ArrayLike

from jaxseq.common import checks
from jaxseq.common.arrays import Batch
from jaxseq.common.errors import UsageError
from jaxseq.data.windows import fingerprint
from jaxseq.nn import apply, plain_model
from jaxseq.nn.apply import Layer
from jaxseq.nn.objectives import Objective, PerRow, whole_output
from jaxseq.train import descriptions, devices, stream
from jaxseq.train.epoch import Setup
from jaxseq.train.experiments.base import OWN, Training
from jaxseq.train.feed import RowSplits
from jaxseq.train.job import Job
from jaxseq.train.stream import Batches, Source

Pair: TypeAlias = tuple[ArrayLike, ArrayLike]
"""Rows x "n *d" and targets y "n *k"; whatever `numpy.asarray` takes, such as a DataFrame."""
Rows: TypeAlias = Pair | Batches
"""Arrays, or batches of them for data that do not fit into memory: a `stream.Source`, a loader, a generator."""

ADAM = optax.adam(1e-3)
"""The optimiser of whoever names none. One object, so that equal trainings share their compiled functions."""


@dataclass(frozen=True, kw_only=True)
class OwnTraining(Training):
    """The record of a training from Python, of which `config.json` can only describe the parts.

    row_shape, row_dtype  of one row of x
    """

    model: str
    loss: str
    metrics: Mapping[str, str]
    optimiser: str
    row_shape: tuple[int, ...]
    row_dtype: str

    domain: ClassVar[str] = OWN

    def __post_init__(self) -> None:
        super().__post_init__()
        # An iterator may have no end, so that its rows decide nothing.
        if isinstance(self.epochs, str):
            raise UsageError("decides no number of epochs here", where="epochs", got=self.epochs, needed="a number")


class Parts(NamedTuple):
    """The parts of a training that are functions, and no numbers.

    metrics  further numbers of the validation rows by name, each a function as `loss` is
    """

    model: Layer
    loss: PerRow
    optimiser: optax.GradientTransformation = ADAM
    metrics: Mapping[str, PerRow] = {}


def job_of(
    parts: Parts,
    rows: Rows,
    valid: Pair,
    steps_per_epoch: int | None,
    fields: Mapping[str, Any],
) -> Job[OwnTraining, None]:
    """Build the model and lay the rows over the devices; `fields` are those of `Training`.

    Raises `UsageError`, which names the argument, for what cannot be trained.
    """
    mesh = devices.make()
    train, batch, source = _training_rows(rows, steps_per_epoch, fields.get("batch"), mesh.size)
    checked_valid = _as_batch(valid, "valid")
    _check_alike(train, checked_valid)

    row = jax.ShapeDtypeStruct((1, *train.x.shape[1:]), train.x.dtype)
    model = plain_model.of(parts.model, row)
    fields_of_training: dict[str, Any] = {**fields, "batch": batch}
    training = OwnTraining(
        name=OWN,
        model=descriptions.of_model(model),
        loss=descriptions.of_function(parts.loss),
        metrics={name: descriptions.of_function(metric) for name, metric in parts.metrics.items()},
        optimiser=descriptions.of_optimiser(parts.optimiser),
        row_shape=row.shape[1:],
        row_dtype=str(row.dtype),
        **fields_of_training,
    )
    setup = Setup(
        model=model,
        objective=objective(parts.loss, tuple(parts.metrics.items())),
        optimiser=parts.optimiser,
        batch_sharding=devices.batch_sharding(mesh, training.batch),
        precision=training.precision,
    )
    _check_training(setup, train, training.batch, has_source=source is not None)

    batches = RowSplits(train, checked_valid, Batch(checked_valid.x[:0], checked_valid.y[:0]))
    return Job(
        experiment=training,
        setup=setup,
        mesh=mesh,
        batches=batches,
        data=devices.replicate(mesh, batches),
        material=None,
        rows_sha256=fingerprint(jax.tree.leaves(batches)),
        notes=(),
        fitted={},
        source=source,
    )


class _TrainingRows(NamedTuple):
    """The training part, the rows of a batch, and the source of batches from outside, of which the part is one row."""

    part: Batch
    batch: int
    source: Source | None


def _training_rows(rows: Rows, steps_per_epoch: int | None, batch: int | None, device_count: int) -> _TrainingRows:
    """Check the rows, and choose the size of a batch where none is given."""
    if isinstance(rows, tuple):
        if steps_per_epoch is not None:
            raise UsageError("only an iterator takes it", where="steps_per_epoch", got=steps_per_epoch, needed="None")
        part = _as_batch(cast("Pair", rows), "rows")
        size = Training.batch if batch is None else batch
        if size > len(part.x):
            raise UsageError("more rows than there are", where="batch", got=size, needed=f"at most {len(part.x)}")
        return _TrainingRows(part, size, None)

    if steps_per_epoch is not None:
        checks.count(steps_per_epoch=steps_per_epoch)
    opened = stream.opened(rows, steps_per_epoch)
    first = _as_batch(opened.first, "rows")
    # The devices share a batch evenly; rows of weight zero fill it up.
    rounded_up = len(first.x) + -len(first.x) % device_count
    # One row says what the rows of a batch look like.
    return _TrainingRows(Batch(first.x[:1], first.y[:1]), rounded_up if batch is None else batch, opened.source)


# Rows -----------------------------------------------------------------------------------------------------------------


def _as_batch(pair: Pair, where: str) -> Batch:
    """Return rows and targets in the dtypes that JAX computes with.

    Raises `UsageError` unless there is a target for each row, and each number is finite.
    """
    if len(pair) != 2:
        raise UsageError("not a pair of rows and targets", where=where, got=f"{len(pair)} arrays", needed="(x, y)")
    x, y = (_as_array(part, f"{where}: {name}") for part, name in zip(pair, "xy", strict=True))
    if len(x) != len(y):
        raise UsageError("rows and targets differ in number", where=where, got=f"{len(x)} and {len(y)}")
    return Batch(x, y)


def _as_array(part: object, where: str) -> Shaped[np.ndarray, "n *d"]:
    array = np.asarray(part)
    if array.dtype.kind not in "biuf":
        raise UsageError("not an array of numbers", where=where, got=f"dtype {array.dtype}", needed="numbers")
    if not array.ndim or not array.size:
        raise UsageError("no rows", where=where, got=f"the shape {array.shape}", needed="at least one row")
    if array.dtype.kind == "f":
        is_unknown = ~np.isfinite(array).reshape(len(array), -1).all(axis=1)
        if is_unknown.any():
            raise UsageError(
                f"{np.count_nonzero(is_unknown)} of {len(array)} rows are not finite",
                where=where,
                got=f"row {np.argmax(is_unknown)} first",
                needed="numbers; leave such rows out, or fill them in",
            )
    # float64 and int64 would be narrowed silently at each call.
    return array.astype(jax.dtypes.canonicalize_dtype(array.dtype))


def _check_alike(train: Batch, valid: Batch) -> None:
    """Raise `UsageError` if validation rows have another shape or dtype than those of training."""
    for name, train_part, valid_part in zip("xy", train, valid, strict=True):
        row = f"{train_part.dtype}{list(train_part.shape[1:])}"
        valid_row = f"{valid_part.dtype}{list(valid_part.shape[1:])}"
        if row != valid_row:
            raise UsageError("other rows than in training", where=f"valid: {name}", got=valid_row, needed=row)


# The objective --------------------------------------------------------------------------------------------------------


# Objectives are static arguments of compiled functions: another object would be compiled again.
@functools.lru_cache(maxsize=64)
def objective(loss: PerRow, metrics: tuple[tuple[str, PerRow], ...]) -> Objective:
    """Build the objective of a loss, whose value chooses the best epoch; each function may give a number an element."""
    by_row = partial(_by_row, loss)
    return Objective(
        loss=by_row,
        metrics=(("loss", by_row), *((name, partial(_by_row, metric)) for name, metric in metrics)),
        select="loss",
        at_end=whole_output,
    )


def _by_row(function: Callable[[Array, Array], Array], prediction: Array, target: Array) -> Float[Array, "b"]:
    """Return the mean of a function over the elements of each row.

    Raises `UsageError` unless it gives a number for each row, or for each leading element of the target.
    """
    values = function(prediction, target)
    # A prediction "b 1" and a target "b" would be broadcast to "b b", and every row compared with every other.
    fits = values.ndim > 0 and values.shape == target.shape[: values.ndim]
    if not fits:
        raise UsageError(
            "does not give a number for each row",
            where=descriptions.of_function(function),
            got=f"the shape {values.shape} for predictions {prediction.shape} and targets {target.shape}",
            needed=f"{target.shape[:1]}, or that of the targets",
        )
    return jnp.mean(values.reshape(values.shape[0], -1), axis=-1)


def _check_training(setup: Setup, train: Batch, batch: int, has_source: bool) -> None:
    """Trace loss and metrics; raise `UsageError` for those that fail, and for moments over unequal batches."""
    two_rows = [jax.ShapeDtypeStruct((2, *part.shape[1:]), part.dtype) for part in train]
    x, y = two_rows
    params, stats = jax.eval_shape(partial(apply.init, setup.model), jax.random.key(0), x)
    prediction = jax.eval_shape(partial(apply.apply, setup.model), params, stats, x)
    for _, metric in setup.objective.metrics:
        try:
            jax.eval_shape(metric, prediction, y)
        except (TypeError, ValueError, AssertionError) as error:
            raise UsageError(
                f"the loss or a metric cannot be computed for predictions {prediction.shape} {prediction.dtype} and "
                f"targets {y.shape} {y.dtype}: {error}",
                where="loss",
            ) from error

    # Rows that fill up a last batch have no weight in the loss, but they would count in the module's own moments.
    rows = len(train.x)
    if plain_model.counts_padding(setup.model, stats) and not has_source and rows % batch:
        raise UsageError(
            f"a module with running moments ({', '.join(stats)}) needs batches of one size",
            where="batch",
            got=f"{batch} for {rows} rows",
            needed=f"a divisor of {rows}",
        )
