"""Flax models as pure functions of parameters, statistics and inputs."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Protocol, runtime_checkable

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer, Shaped

from jaxseq.cells.base import AnyCell
from jaxseq.common import precision
from jaxseq.common.arrays import DType, Key, Tree, Variables
from jaxseq.nn import fields
from jaxseq.nn.recurrent import STATS


@runtime_checkable
class Layer(Protocol):
    """A Flax module of any kind, such as `Recurrent`."""

    def init(self, rngs: Key, *args: Any, **kwargs: Any) -> Variables:
        """Make the module's variables for these inputs, as `flax.linen.Module.init`."""
        ...

    def lazy_init(self, rngs: Key, *args: Any, **kwargs: Any) -> Variables:
        """Make the module's variables for inputs of these shapes, as `flax.linen.Module.lazy_init`."""
        ...


@runtime_checkable
class Model(Layer, Protocol):
    """A Flax module that predicts, such as `Forecaster`.

    Its `__call__` takes (x, lengths, train, carries, first) and returns (last carries, predictions).
    """

    @property
    def draws(self) -> bool:
        """Whether a training step draws random numbers."""
        ...

    def apply(self, variables: Tree, *args: Any, **kwargs: Any) -> Any:
        """Call the module with these variables, as `flax.linen.Module.apply`."""
        ...


@runtime_checkable
class Carrying(Protocol):
    """A model whose state can be carried from the end of a batch into the next one, such as `Forecaster`."""

    def start(self, rows: int, dtype: DType) -> Tree:
        """Return the carries before the first time step of `rows` rows."""
        ...


@runtime_checkable
class Recurring(Protocol):
    """A module whose recurrent layers all have one cell."""

    cell: AnyCell


@precision.in_full()
def init(
    model: Layer,
    key: Key,
    x: Shaped[Array, "b *d"],
    by_layer: bool = False,
) -> tuple[Variables, Variables]:
    """Initialise a module for inputs shaped like x.

    Outside of `jax.jit`, `by_layer` draws one layer after the other without calling the module: equal layers share their
    compiled functions, where one function for the draws of all layers takes minutes to compile.

    Returns the parameters and the statistics (running moments; an empty dict if the module keeps none).
    """
    if by_layer:
        variables = dict(model.lazy_init(key, jax.ShapeDtypeStruct(x.shape, x.dtype)))
    else:
        variables = dict(model.init(key, x))
    params = variables.pop("params")
    return params, variables


def apply(
    model: Model,
    params: Tree,
    stats: Tree,
    x: Shaped[Array, "b *d"],
) -> Float[Array, "b *k"]:
    """Predict without training: no dropout, and statistics are read, not changed."""
    _, predictions = resume(model, params, stats, x, carries=None, first=0)
    return predictions


@precision.in_full()
def resume(
    model: Model,
    params: Tree,
    stats: Tree,
    x: Shaped[Array, "b *d"],
    carries: Tree,
    first: int | Integer[Array, ""],
) -> tuple[Tree, Float[Array, "b *k"]]:
    """Predict from the carries of an earlier call that saw `first` time steps; None starts anew.

    Returns the carries after x and the predictions.
    """
    variables = {"params": params, **stats}
    carries, predictions = model.apply(variables, x, carries=carries, first=first)
    return carries, jnp.asarray(predictions)


def apply_train(
    model: Model,
    params: Tree,
    stats: Tree,
    x: Shaped[Array, "b *d"],
    rows: Float[Array, "b"],
    key: Key,
) -> tuple[Float[Array, "b *k"], Tree]:
    """Predict in a training step; returns the predictions and the statistics after it.

    rows  weight of each row; a row of weight zero stays out of the moments of the batch
    key   what dropout draws from
    """
    chex.assert_shape(rows, x.shape[:1])
    lengths = whole_or_none(x, rows, stats)
    trained = resume_train(model, params, stats, x, carries=None, lengths=lengths, key=key)
    return trained.predictions, trained.stats


def whole_or_none(x: Shaped[Array, "b *d"], rows: Float[Array, "b"], stats: Tree) -> Integer[Array, "b"] | None:
    """Return the time steps of each row that count in the moments of a batch: all of them, or none of a row of padding.

    None for a model without moments, whose rows may have no time steps.
    """
    if not stats:
        return None
    # A row that is a single number has one time step.
    steps = math.prod(x.shape[1:2])
    return jnp.where(rows > 0, steps, 0)


class Resumed(NamedTuple):
    """Predictions of a training step, with the statistics and the carries after it."""

    predictions: Float[Array, "b *k"]
    stats: Tree
    carries: Tree


@precision.in_full()
def resume_train(
    model: Model,
    params: Tree,
    stats: Tree,
    x: Shaped[Array, "b *d"],
    *,
    carries: Tree,
    lengths: Integer[Array, "b"] | None,
    key: Key,
) -> Resumed:
    """Predict in a training step from the carries of the batch before; None starts anew.

    lengths  time steps of each row that count in the moments of the batch
    key      what dropout draws from
    """
    # Only batch moments mix rows: without them, lengths would cost time and change nothing.
    if not stats:
        lengths = None
    rngs = {"dropout": key} if model.draws else None

    variables = {"params": params, **stats}
    outputs, changed = model.apply(
        variables, x, lengths=lengths, train=True, carries=carries, mutable=[STATS], rngs=rngs
    )
    last_carries, predictions = outputs
    return Resumed(jnp.asarray(predictions), {**stats, **changed}, last_carries)


def axes(model: Layer, params: Tree) -> dict[str, str]:
    """Return the axes of each parameter by its path, say ``{"recurrent_0/cell/input_kernel": "d g"}``.

    They are read from the annotations of the NamedTuples of the model's cell and of norms; the letters are those of
    `jaxseq.common.arrays`. Parameters of Flax's own layers, which have no annotation, are left out but for the head.
    """
    cell = None
    if isinstance(model, Recurring):
        cell = model.cell
    axes_by_field = fields.axes_by_field(cell)

    axes_by_path = {"head/kernel": "h k", "head/bias": "k"}
    for key_path, _ in jax.tree_util.tree_leaves_with_path(params):
        path = jax.tree_util.keystr(key_path, simple=True, separator="/")
        # The parameters of a module without submodules have no part in their path.
        *_, part, field = ("", *path.split("/"))
        if field in axes_by_field.get(part, {}):
            axes_by_path[path] = axes_by_field[part][field]
    return axes_by_path


def table(
    model: nn.Module,
    x: jax.ShapeDtypeStruct,
) -> str:
    """Return Flax's table of modules, parameters and shapes, for inputs shaped like x."""
    zeros = jnp.zeros(x.shape, x.dtype)
    return nn.tabulate(model, jax.random.key(0), console_kwargs={"width": 120})(zeros)
