"""Any Flax module from rows to predictions, as a `jaxseq.nn.apply.Model` that can be trained.

    class Tagger(nn.Module):
        @nn.compact
        def __call__(self, tokens, train=False):        # "b t" -> "b t k"
            ...

    model = plain_model.of(Tagger(), tokens)

Whether a module draws random numbers in training, and whether it keeps running moments, is found by tracing it once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeVar

import flax.errors
import flax.linen as nn
import jax
from jaxtyping import Array, Integer, Shaped

from jaxseq.common.arrays import Key, Tree
from jaxseq.common.errors import UsageError
from jaxseq.nn.apply import Layer, Model

Shapes = TypeVar("Shapes")

TRAINING_FLAGS: Mapping[str, bool] = {
    "train": True,
    "training": True,
    "is_training": True,
    "deterministic": False,
    "use_running_average": False,
}
"""Arguments that say whether a call is part of training, as Flax's users name them, with their value in training."""


class PlainModel(NamedTuple):
    """A Flax module that is called with rows alone, behind the interface of `Model`.

    It hashes and compares as its module does, so that equal modules share their compiled functions.

    flag   the argument among `TRAINING_FLAGS` that the module takes; None if it takes none
    draws  whether a training step draws random numbers
    """

    module: nn.Module
    flag: str | None
    draws: bool

    def init(self, rngs: Key, x: Shaped[Array, "b *d"]) -> Tree:
        """Make the module's variables for these rows."""
        return self.module.init(rngs, x, **self._mode(train=False))

    def lazy_init(self, rngs: Key, x: jax.ShapeDtypeStruct) -> Tree:
        """Make the module's variables for rows of this shape."""
        return self.module.lazy_init(rngs, x, **self._mode(train=False))

    def apply(
        self,
        variables: Tree,
        x: Shaped[Array, "b *d"],
        lengths: Integer[Array, "b"] | None = None,
        train: bool = False,
        carries: Tree = None,
        first: int | Integer[Array, ""] = 0,
        **options: Any,
    ) -> Any:
        """Call the module; returns no carries, and the predictions. `options` are those of `flax.linen.Module.apply`.

        Raises `ValueError` for `carries`, which a plain module does not have. Rows of length 0 are computed like others.
        """
        del lengths, first
        if carries is not None:
            raise ValueError(f"carries were given to {type(self.module).__name__}; expected None: it has no state")

        if options.get("rngs"):
            # Flax takes "params" for every stream that has no key of its name.
            options["rngs"] = {"params": options["rngs"]["dropout"], **options["rngs"]}
        if not options.get("mutable"):
            return (), self.module.apply(variables, x, **self._mode(train), **options)

        # Every collection but the parameters is a statistic, whatever its name is.
        options["mutable"] = [name for name in variables if name != "params"]
        predictions, changed = self.module.apply(variables, x, **self._mode(train), **options)
        return ((), predictions), changed

    def _mode(self, train: bool) -> dict[str, Any]:
        # Modules without dropout and moments compute the same in both.
        if self.flag is None:
            return {}
        return {self.flag: TRAINING_FLAGS[self.flag] is train}


def of(module: Layer, x: jax.ShapeDtypeStruct) -> Model:
    """Return a module as a `Model`: itself if it is one, or a `PlainModel` for rows shaped like x.

    Raises `UsageError`, which names what is missing, if the module cannot be trained on such rows.
    """
    if not isinstance(module, nn.Module):
        raise UsageError(
            "not a Flax module",
            where="model",
            got=f"{type(module).__module__}.{type(module).__name__}",
            needed="a flax.linen.Module; flax.nnx.bridge.to_linen turns a module of nnx into one",
        )
    arguments = inspect.signature(type(module).__call__).parameters
    if "carries" in arguments and hasattr(module, "draws"):
        assert isinstance(module, Model)
        return module

    flag = next((name for name in TRAINING_FLAGS if name in arguments), None)
    _check_arguments(module, arguments, flag)
    model = PlainModel(module, flag, draws=False)
    variables = _traced(module, partial(model.init, jax.random.key(0)), x)
    if "params" not in variables:
        # An optimiser would take steps that change nothing.
        raise UsageError("the module has no parameters to train", where="model", got=repr(type(module).__name__))

    if _needs_key(model, variables, x):
        model = model._replace(draws=True)
    _check_predictions(model, variables, x)
    return model


def counts_padding(model: Model, stats: Tree) -> bool:
    """Return whether rows of weight zero count in the moments of a model; a `Model` itself leaves them out."""
    return isinstance(model, PlainModel) and bool(jax.tree.leaves(stats))


def _check_arguments(module: nn.Module, arguments: Mapping[str, inspect.Parameter], flag: str | None) -> None:
    """Raise `UsageError` if the module needs more than rows and a training flag."""
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    # *args and **kwargs take nothing that the module would miss.
    named = [name for name, parameter in arguments.items() if parameter.kind not in kinds]
    # The module itself and its rows come first.
    others = [name for name in named[2:] if name != flag and arguments[name].default is inspect.Parameter.empty]
    if others:
        raise UsageError(
            "the module needs arguments that training does not have",
            where=f"{type(module).__name__}.__call__",
            got=", ".join(others),
            needed=f"rows, and at most one of {', '.join(TRAINING_FLAGS)}; others with a default",
        )


def _traced(module: nn.Module, function: Callable[[jax.ShapeDtypeStruct], Shapes], x: jax.ShapeDtypeStruct) -> Shapes:
    """Return the shapes of a function's result for rows x; its own errors become a `UsageError` that names the module."""
    # Tracing costs milliseconds; the first epoch would fail only after it is compiled.
    try:
        return jax.eval_shape(function, x)
    except (TypeError, ValueError, flax.errors.FlaxError) as error:
        raise UsageError(
            f"{type(module).__name__} cannot be called with rows of the shape {x.shape} and dtype {x.dtype}: {error}",
            where="model",
        ) from error
    except KeyError as error:
        # A module of nnx holds the mode of its dropout itself, where no training can switch it.
        raise UsageError(
            f"{type(module).__name__} asks for a stream of random numbers that an evaluation has not: {error.args[0]}",
            where="model",
            needed="dropout of flax.linen, or a module of nnx without it",
        ) from error


def _needs_key(model: PlainModel, variables: Tree, x: jax.ShapeDtypeStruct) -> bool:
    """Return whether a training step of the module draws random numbers."""
    # Without a key, Flax raises where one is asked for.
    step = partial(model.apply, train=True, mutable=True)
    try:
        jax.eval_shape(step, variables, x)
    except flax.errors.InvalidRngError:
        return True
    return False


def _check_predictions(model: PlainModel, variables: Tree, x: jax.ShapeDtypeStruct) -> None:
    """Raise `UsageError` unless the module returns one array with an entry for each row."""
    _, predictions = jax.eval_shape(model.apply, variables, x)
    where = f"{type(model.module).__name__}.__call__"
    if not isinstance(predictions, jax.ShapeDtypeStruct):
        raise UsageError("does not return one array", where=where, got=type(predictions).__name__, needed="predictions")
    if not predictions.shape or predictions.shape[0] != x.shape[0]:
        raise UsageError(
            "does not return a prediction for each row",
            where=where,
            got=f"the shape {predictions.shape} for {x.shape[0]} rows",
            needed=f"({x.shape[0]}, ...)",
        )
