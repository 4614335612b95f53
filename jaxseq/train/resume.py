"""Conditions for a run to resume: the same experiment, apart from `MAY_CHANGE`, and a recipe that nobody has edited."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxseq.checkpoint import run_seal
from jaxseq.common.errors import UsageError
from jaxseq.train import run_folder
from jaxseq.train.experiments import from_config
from jaxseq.train.experiments.base import AUTO, Experiment
from jaxseq.train.experiments.config import ROWS, recipe_of
from jaxseq.train.run_folder import MAY_CHANGE
from jaxseq.train.schedules import RATES


def check_resumable(folder: Path, experiment: Experiment) -> None:
    """Raise `UsageError`, with both values, unless the run in `folder` is this experiment apart from `MAY_CHANGE`.

    The run's recipe is its sealed `config.json`. If the hash of the rows is stored, the path of the data may change:
    `check_rows` compares the rows themselves.
    """
    config_file = folder / run_seal.CONFIG
    config = run_folder.read_config(folder)
    # Fields that an older version did not write have the defaults of the package, not the values that are asked for now.
    recipe = experiment if recipe_of(experiment) else None
    saved = from_config(config, str(config_file), recipe)
    if saved.name != experiment.name:
        raise UsageError("the run has another experiment", where=folder, got=experiment.name, needed=saved.name)

    has_hash = ROWS in config
    change = _first_change(saved, experiment, MAY_CHANGE, may_move=has_hash)
    if change is not None:
        raise UsageError(
            f"a resumed run may only change {', '.join(MAY_CHANGE)}",
            where=folder,
            got=change.new,
            needed=change.old,
        )

    # The learning rate depends on the length of the run: another number of epochs changes every step from the first.
    has_length = saved.schedule in RATES
    decides_again = experiment.epochs == AUTO
    if has_length and not decides_again and saved.epochs != experiment.epochs:
        raise UsageError(
            f"a run with a {saved.schedule} schedule cannot be extended; start a new run",
            where=folder,
            got=f"--epochs {experiment.epochs}",
            needed=f"--epochs {saved.epochs}",
        )


class _Change(NamedTuple):
    """The old and the new value of a field, as ``--field value``."""

    old: str
    new: str


def _first_change(old: Experiment, new: Experiment, may_change: Sequence[str], may_move: bool) -> _Change | None:
    """Return the first field outside `may_change` in which two experiments differ, None if they agree."""
    old_fields: dict[str, Any] = dataclasses.asdict(old)
    new_fields: dict[str, Any] = dataclasses.asdict(new)
    if may_move:
        old_fields["data"].pop("path", None)
        new_fields["data"].pop("path", None)

    for name, new_value in new_fields.items():
        old_value = old_fields.get(name)
        if name in may_change or new_value == old_value:
            continue
        if isinstance(old_value, Mapping) and isinstance(new_value, Mapping):
            return _nested_change(name, old_value, new_value)
        return _Change(_option(name, old_value), _option(name, new_value))
    return None


def _nested_change(name: str, old: Mapping[str, object], new: Mapping[str, object]) -> _Change:
    """Return the fields of `data` or `model` that differ."""
    names = [field for field in old if old[field] != new.get(field)]
    old_words = [_option(f"{name}.{field}", old[field]) for field in names]
    new_words = [_option(f"{name}.{field}", new.get(field)) for field in names]
    return _Change(", ".join(old_words), ", ".join(new_words))


def _option(name: str, value: object) -> str:
    """Return an option as it is typed."""
    if value is True:
        return f"--{name}"
    if value is False:
        *room, field = name.split(".")
        return "--" + ".".join([*room, f"no-{field}"])
    return f"--{name} {value}"
