"""Experiments as JSON: written to the `config.json` of a run, and restored from it with every field checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType, NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from jaxseq.common.errors import UsageError
from jaxseq.common.text import cut, printable
from jaxseq.train.experiments.base import Experiment

ROWS = "rows_sha256"
"""Key of the hash over all rows of the data, which a resumed run must see again."""
BESIDE_THE_FIELDS = ("experiment", "scaling", "series", ROWS, "axes")
"""Keys of `config.json` that are not fields of an experiment: its name, and results of fitting."""
OUTSIDE_JSON = ("name", "about")
"""Fields that are not written: the name stands under "experiment", the help text belongs to the code."""
LONGEST_REASON = 600
"""Characters kept of an error message about a file, whose texts may be of any length."""
LARGEST_INTEGER = 2**63 - 1

Value = TypeVar("Value")


def to_config(experiment: Experiment) -> dict[str, Any]:
    """Return the experiment as nested dictionaries for JSON, its name under "experiment"."""
    fields = {name: value for name, value in dataclasses.asdict(experiment).items() if name not in OUTSIDE_JSON}
    return {"experiment": experiment.name, **fields}


def read_config(config: Mapping[str, Any], default: Experiment, source: str) -> Experiment:
    """Return `default` with the fields of a `config.json`; fields that are missing there keep their default.

    Raises `UsageError`, which names `source`, for an unknown field or a value of another type.
    """
    fields = {key: value for key, value in config.items() if key not in BESIDE_THE_FIELDS}
    parts = {
        name: rebuild(getattr(default, name), fields.pop(name, {}), f"{source}: {name}") for name in ("data", "model")
    }
    return rebuild(default, fields, source, parts)


def rebuild(default: Value, values: Any, source: str, parts: Mapping[str, Any] = MappingProxyType({})) -> Value:
    """Return a copy of the dataclass `default` with the fields of `values`, which come out of JSON.

    `parts` are fields that are already checked. Raises `UsageError`, which names `source`, unless each of the `values`
    is a known field and has its type.
    """
    hints = get_type_hints(type(default))
    fields = [field.name for field in dataclasses.fields(default)]  # pyrefly: ignore[bad-argument-type]
    known_fields = ", ".join(name for name in fields if name not in OUTSIDE_JSON)

    if not isinstance(values, Mapping):
        raise UsageError("not a table of fields", where=source, got=values, needed=known_fields)
    unknown_fields = sorted(set(values).difference(fields) | set(values).intersection(OUTSIDE_JSON))
    if unknown_fields:
        names = ", ".join(printable(str(name))[:40] for name in unknown_fields[:10])
        raise UsageError(f"unknown fields {names}", where=source, needed=known_fields)

    values = {name: _as_field(value, hints[name]) for name, value in values.items()}
    for name, value in values.items():
        if not _fits(value, hints[name]):
            raise UsageError("wrong type", where=f"{source}: {name}", got=value, needed=_type_words(hints[name]))
        if _overflows(value):
            raise UsageError("does not fit into 64 bits", where=f"{source}: {name}", got=value)

    try:
        return dataclasses.replace(default, **values, **parts)  # pyrefly: ignore[bad-specialization]
    except UsageError as error:
        raise UsageError(cut(str(error), LONGEST_REASON), where=source) from error


def _as_field(value: Any, hint: Any) -> Any:
    """Convert a JSON value to its field's type where JSON has none: tuples, and floats that are written as 1."""
    if isinstance(value, list) and get_origin(hint) is tuple:
        return tuple(value)

    types = (hint, *get_args(hint))
    only_floats = float in types and int not in types
    exact = type(value) is int and abs(value) < 2**53
    if only_floats and exact:
        return float(value)
    return value


def _fits(value: Any, hint: Any) -> bool:
    """Return whether a JSON value has its field's type."""
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_fits(item, get_args(hint)[0]) for item in value)
    alternatives = get_args(hint)
    if alternatives:
        return any(_fits(value, alternative) for alternative in alternatives)
    # `type`, not `isinstance`: True is an int in Python, but no number of epochs.
    if hint is float:
        return type(value) in (int, float)
    return type(value) is hint


def _overflows(value: Any) -> bool:
    items = value if isinstance(value, tuple) else (value,)
    return any(type(item) is int and abs(item) > LARGEST_INTEGER for item in items)


def _type_words(hint: Any) -> str:
    """Return a field's type for a message: ``int``, ``float or None``, ``one of constant, cosine``."""
    if get_origin(hint) is Literal:
        return f"one of {', '.join(get_args(hint))}"
    if get_origin(hint) is tuple:
        return f"a list of {get_args(hint)[0].__name__}"
    types = get_args(hint) or (hint,)
    return " or ".join("None" if kind is NoneType else kind.__name__ for kind in types)
