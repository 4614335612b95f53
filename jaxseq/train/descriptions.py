"""Descriptions of modules, losses and optimisers from outside, by which a run's record says what was trained.

of_optimiser(optax.lion(1e-3))
'chain(scale_by_lion(b1=0.9, b2=0.99), add_decayed_weights(weight_decay=0.001), scale(step_size=-0.001))'
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping

import optax

from jaxseq.nn.apply import Model
from jaxseq.nn.plain_model import PlainModel

ADDRESS = re.compile(r" at 0x[0-9a-f]+")
"""Place of an object in memory, which another process gives it anew."""
DEEPEST = 6
"""Levels of functions within functions that are described."""


def of_model(model: Model) -> str:
    """Return a module and its fields in one line."""
    module = model.module if isinstance(model, PlainModel) else model
    text = ADDRESS.sub("", repr(module)).replace("# attributes", "")
    return " ".join(text.split())


def of_function(function: Callable[..., object]) -> str:
    """Return a function by module and name, with the values that it was made with."""
    return f"{getattr(function, '__module__', '?')}.{_described(function, DEEPEST)}"


def of_optimiser(optimiser: optax.GradientTransformation) -> str:
    """Return the rules of an optimiser with their numbers."""
    return _described(optimiser, DEEPEST)


def _described(value: object, depth: int) -> str:
    """Return a value as text: functions by name and by the variables that they close over."""
    if isinstance(value, optax.GradientTransformation):
        # The numbers that `inject_hyperparams` puts into the state are known to the first function alone.
        injects = getattr(value.update, "__qualname__", "").startswith("inject_hyperparams")
        return _described(value.init if injects else value.update, depth)
    if isinstance(value, Mapping):
        items = [f"{key}: {_described(item, depth - 1)}" for key, item in value.items()]
        return f"{{{', '.join(items)}}}"
    if isinstance(value, functools.partial):
        words = [_described(value.func, depth - 1), *(f"{name}={item!r}" for name, item in value.keywords.items())]
        return f"partial({', '.join(words)})"
    if not callable(value) or depth == 0:
        return ADDRESS.sub("", repr(value))

    # optax makes its rules by functions such as `scale_by_adam.<locals>.update_fn`.
    name = getattr(value, "__qualname__", type(value).__qualname__).partition(".<locals>")[0]
    if not inspect.isfunction(value):
        return name
    variables = inspect.getclosurevars(value).nonlocals
    if name == "with_extra_args_support":
        # A wrapper that changes the signature alone.
        return _described(variables["tx"], depth)
    words = [_variable(variable, inner, depth - 1) for variable, inner in variables.items() if _tells(inner)]
    if not words:
        return name
    return f"{name}({', '.join(words)})"


def _tells(value: object) -> bool:
    """Return whether a variable of a function says what it computes, and not how it was put together."""
    return callable(value) or isinstance(value, bool | int | float | str | tuple | Mapping)


def _variable(name: str, value: object, depth: int) -> str:
    # The parts of a chain need no name.
    if isinstance(value, tuple) and value and all(callable(part) for part in value):
        return ", ".join(_described(part, depth) for part in value)
    return f"{name}={_described(value, depth)}"
