"""Every experiment by its name, and recipes as the JSON of a run's folder. A new one is a class and a line here."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from jaxseq.common.errors import UsageError
from jaxseq.common.text import shown
from jaxseq.train.experiments import chorales, forecasts, pianoroll
from jaxseq.train.experiments.base import Recipe, rebuild

EXPERIMENTS: MappingProxyType[str, Recipe] = MappingProxyType(
    {e.name: e for e in (*forecasts.ALL, *chorales.ALL, *pianoroll.ALL)}
)


def named(name: str) -> Recipe:
    """The experiment of that name; `UsageError` lists the right ones if there is none."""
    if name not in EXPERIMENTS:
        raise UsageError(f"unknown experiment {shown(name)}: choose one of {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]


def to_config(experiment: Recipe) -> dict[str, Any]:
    """The experiment as JSON-able nested dictionaries, its name under "experiment"."""
    return {"experiment": experiment.name, **dataclasses.asdict(experiment)}


ROWS = "rows_sha256"
BESIDE_THE_RECIPE = ("experiment", "scaling", "series", ROWS, "axes")
"""What a run's config holds that is no field of an experiment: its name, and what follows from the rest."""


def from_config(config: Mapping[str, Any], source: str) -> Recipe:
    """The experiment that `to_config` wrote; `UsageError`, which opens with `source`, for anything else."""
    fields = {key: value for key, value in config.items() if key not in BESIDE_THE_RECIPE}
    name = config.get("experiment")
    if not isinstance(name, str):
        raise UsageError(f"{source}: no experiment is named in it")
    try:
        default = named(name)
    except UsageError as error:
        raise UsageError(f"{source}: {error}") from error
    nested = {key: rebuild(getattr(default, key), fields.pop(key, {}), f"{source}: {key}") for key in ("data", "model")}
    return rebuild(default, fields, source, nested)
