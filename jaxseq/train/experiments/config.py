"""Experiments as JSON: written to the `config.json` of a run, and restored from it with every field checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType, NoneType
from typing import Any, Literal, TypeAlias, TypeVar, get_args, get_origin, get_type_hints

from jaxseq.common.errors import UsageError
from jaxseq.common.sealed import RUN_ID
from jaxseq.common.text import cut, printable
from jaxseq.train.experiments.base import Experiment, Training

ROWS = "rows_sha256"
"""Key of the hash over all rows of the data, which a resumed run must see again."""
RECIPE = "recipe"
"""Key of the class of an experiment that is not part of this package."""
OVERRIDES = "overrides"
"""Key of what such a class builds by methods of its own, in words."""
WARM_START = "warm_start"
"""Key of the finished run whose parameters a run began with: its path, identity, epoch, and the sha256 of that state."""
RIDGE = "ridge"
"""Key of the penalty and the decay of the ridge regression that a network began as."""
RESULTS = ("scaling", "series", "training_series", "state_start", RIDGE, ROWS, "axes")
"""Keys of results of fitting, and of facts about the rows and the network."""
BESIDE_THE_FIELDS = ("experiment", *RESULTS, RECIPE, OVERRIDES, WARM_START, RUN_ID)
"""Keys of `config.json` that are not fields of an experiment: its name, results of fitting, and the run's identity."""
OUTSIDE_JSON = ("name", "about")
"""Fields that are not written: the name stands under "experiment", the help text belongs to the code."""
BEFORE: Mapping[str, object] = MappingProxyType({"start": "random", "ema": 0.0, "buckets": 1})
"""Values of fields that earlier versions did not write, where the default is another one today."""
BEFORE_IN_MODELS: Mapping[str, object] = MappingProxyType({"conditions": False, "reprises": False})
"""Likewise, of the fields of networks."""
LONGEST_REASON = 600
"""Characters kept of an error message about a file, whose texts may be of any length."""
LARGEST_INTEGER = 2**63 - 1

Hint: TypeAlias = Any
"""A type as `typing.get_type_hints` returns it: a class, a union, a tuple, or a literal."""
Value = TypeVar("Value")


def to_config(experiment: Training) -> dict[str, Any]:
    """Return the experiment as nested dictionaries for JSON, its name under "experiment"."""
    fields: dict[str, Any] = dataclasses.asdict(experiment)
    for name in OUTSIDE_JSON:
        fields.pop(name, None)
    config = {"experiment": experiment.name, **fields}
    # Whoever restores the run has to have the class, whose network and loss the fields do not tell.
    recipe = recipe_of(experiment)
    if recipe is not None:
        config[RECIPE] = recipe
    return config


def recipe_of(experiment: Training) -> str | None:
    """Return module and name of an experiment's class, say ``my_recipes.Deep``; None for one of this package."""
    kind = type(experiment)
    if is_of_package(kind.__module__):
        return None
    return f"{kind.__module__}.{kind.__qualname__}"


def is_of_package(module: str) -> bool:
    """Return whether a module of this name belongs to this package."""
    return module.partition(".")[0] == __name__.partition(".")[0]


def read_config(
    config: Mapping[str, object],
    default: Experiment,
    source: str,
) -> Experiment:
    """Return `default` with the fields of a `config.json`.

    Fields that are missing there keep their default, but for those of `BEFORE` and `BEFORE_IN_MODELS`, whose default was
    another one when the file was written.

    Raises `UsageError`, which names `source`, for an unknown field or a value of another type.
    """
    fields = {key: value for key, value in config.items() if key not in BESIDE_THE_FIELDS}
    fields = {**_known_fields(BEFORE, default), **fields}

    # Their annotations are type variables or protocols: the class to check against is that of the default.
    data = rebuild(default.data, fields.pop("data", {}), f"{source}: data")
    of_model = fields.pop("model", {})
    # Anything else is refused by `rebuild`.
    if isinstance(of_model, Mapping):
        of_model = {**_known_fields(BEFORE_IN_MODELS, default.model), **of_model}
    model = rebuild(default.model, of_model, f"{source}: model")

    return rebuild(default, fields, source, {"data": data, "model": model})


def _known_fields(values: Mapping[str, object], of: object) -> dict[str, object]:
    """Return the values of those fields that a dataclass has."""
    names = {field.name for field in dataclasses.fields(of)}  # pyrefly: ignore[bad-argument-type]
    return {name: value for name, value in values.items() if name in names}


def rebuild(
    default: Value,
    values: object,
    source: str,
    parts: Mapping[str, object] = MappingProxyType({}),
) -> Value:
    """Return a copy of the dataclass `default` with the fields of `values`, which come out of JSON.

    `parts` are fields that are already checked. Raises `UsageError`, which names `source`, unless each of the `values`
    is a known field and has its type.
    """
    fields = [field.name for field in dataclasses.fields(default)]  # pyrefly: ignore[bad-argument-type]
    known_fields = [name for name in fields if name not in OUTSIDE_JSON]
    if not isinstance(values, Mapping):
        raise UsageError("not a table of fields", where=source, got=values, needed=", ".join(known_fields))
    _check_names(values, known_fields, source)

    hints = get_type_hints(type(default))
    checked = {}
    for name, value in values.items():
        checked[name] = _as_field(value, hints[name])
        _check_value(checked[name], hints[name], f"{source}: {name}")

    try:
        return dataclasses.replace(default, **checked, **parts)  # pyrefly: ignore[bad-specialization]
    except UsageError as error:
        # The fields are checked by the dataclass itself, which does not know the file that they come from.
        raise UsageError(cut(str(error), LONGEST_REASON), where=source) from error


def _check_names(
    values: Mapping[str, object],
    known_fields: Sequence[str],
    source: str,
) -> None:
    """Raise `UsageError` for a field that an experiment does not have."""
    unknown_fields = sorted(set(values).difference(known_fields))
    if not unknown_fields:
        return

    # The file may hold any text, of any length.
    names = ", ".join(printable(str(name))[:40] for name in unknown_fields[:10])
    raise UsageError(f"unknown fields {names}", where=source, needed=", ".join(known_fields))


def _check_value(value: object, hint: Hint, where: str) -> None:
    """Raise `UsageError` for a value of another type than its field's."""
    if not _fits(value, hint):
        raise UsageError("wrong type", where=where, got=value, needed=_type_words(hint))
    # Python's integers have no limit, those of NumPy and JAX do.
    if _overflows(value):
        raise UsageError("does not fit into 64 bits", where=where, got=value)


def _as_field(value: object, hint: Hint) -> object:
    """Convert a JSON value to its field's type where JSON has none: tuples, and floats that are written as 1."""
    if isinstance(value, list) and get_origin(hint) is tuple:
        return tuple(value)

    types = (hint, *get_args(hint))
    only_floats = float in types and int not in types
    # A float holds no larger integer exactly; such a value is left for the check of its range.
    is_exact = type(value) is int and abs(value) < 2**53
    if only_floats and is_exact:
        return float(value)
    return value


def _fits(value: object, hint: Hint) -> bool:
    """Return whether a JSON value has its field's type."""
    arguments = get_args(hint)
    if get_origin(hint) is Literal:
        return value in arguments
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_fits(item, arguments[0]) for item in value)
    # Only a union is left: a type of several alternatives.
    if arguments:
        return any(_fits(value, alternative) for alternative in arguments)

    # `type`, not `isinstance`: True is an int in Python, but no number of epochs.
    if hint is float:
        return type(value) in (int, float)
    return type(value) is hint


def _overflows(value: object) -> bool:
    items = (value,)
    if isinstance(value, tuple):
        items = value
    return any(type(item) is int and abs(item) > LARGEST_INTEGER for item in items)


def _type_words(hint: Hint) -> str:
    """Return a field's type for a message: ``int``, ``float or None``, ``one of constant, cosine``."""
    arguments = get_args(hint)
    if get_origin(hint) is Literal:
        return f"one of {', '.join(arguments)}"
    if get_origin(hint) is tuple:
        return f"a list of {arguments[0].__name__}"

    kinds = arguments or (hint,)
    return " or ".join("None" if kind is NoneType else kind.__name__ for kind in kinds)
