"""Every experiment by its name. A new one is an entry in the table of its domain's module.

A module of this room with a table `EXPERIMENTS` is all that a new domain needs here.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from jaxseq.common.errors import UsageError
from jaxseq.train.experiments import config
from jaxseq.train.experiments.base import OWN, Experiment
from jaxseq.train.experiments.config import to_config

__all__ = ["EXPERIMENTS", "Experiment", "from_config", "named", "to_config"]

FIRST = "forecasts"
"""Domain whose experiments the help lists first."""


def available() -> Mapping[str, Experiment]:
    """Return the experiments of all modules of this room, by their name."""
    names = sorted((module.name for module in pkgutil.iter_modules(__path__)), key=lambda name: (name != FIRST, name))
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    tables = [getattr(module, "EXPERIMENTS", ()) for module in modules]
    return MappingProxyType({experiment.name: experiment for table in tables for experiment in table})


EXPERIMENTS = available()


def named(name: str, **fields: object) -> Experiment:
    """Return the experiment of that name, with other `fields` than its defaults.

    ``named("aapl", model=Model(cell="lstm"), epochs=3)``. Which fields there are depends on the name, so a type checker
    knows none; it knows those of the class, as in ``ForecastExperiment(name="aapl", data=Prices(), epochs=3)``.

    Raises `UsageError`, which lists the names, for an unknown name, and for a field that is invalid.
    """
    if name not in EXPERIMENTS:
        raise UsageError("unknown experiment", got=name, needed=f"one of {', '.join(EXPERIMENTS)}")
    # The class of the name checks its own fields.
    return dataclasses.replace(EXPERIMENTS[name], **fields)  # pyrefly: ignore[bad-argument-type]


def from_config(saved: Mapping[str, Any], source: str, recipe: Experiment | None = None) -> Experiment:
    """Return the experiment that `to_config` wrote; one from outside the package as `recipe` with the saved fields.

    Raises `UsageError`, which names `source`, for anything else, and for a `recipe` of another name or class than that of
    the run.
    """
    name = saved.get("experiment")
    if not isinstance(name, str):
        raise UsageError("names no experiment", where=source)
    if name == OWN:
        raise UsageError("trained from Python", where=source, needed="jaxseq.train.fit.restore with its module")

    saved_recipe = saved.get(config.RECIPE)
    if recipe is not None:
        _check_recipe(name, saved_recipe, recipe, source)
        return config.read_config(saved, recipe, source)
    # The class is not imported by the name that a file gives: that would run whatever is there.
    if saved_recipe is not None:
        way_in = "jaxseq.train.restore.restore(folder, experiment=...)"
        raise UsageError("an experiment from outside the package", where=source, got=saved_recipe, needed=way_in)
    try:
        default = named(name)
    except UsageError as error:
        raise UsageError(error.rule, where=source, got=error.got, needed=error.needed) from error
    return config.read_config(saved, default, source)


def _check_recipe(name: str, saved_recipe: str | None, recipe: Experiment, source: str) -> None:
    """Raise `UsageError` if a run is of another experiment, or of another class."""
    if recipe.name != name:
        raise UsageError("the run has another experiment", where=source, got=recipe.name, needed=name)
    # A script has another name when it is imported, so that the name of the class alone counts.
    class_name = (config.recipe_of(recipe) or "").rpartition(".")[2]
    saved_class_name = (saved_recipe or "").rpartition(".")[2]
    if class_name != saved_class_name:
        raise UsageError(
            "the run was trained by another class",
            where=source,
            got=config.recipe_of(recipe) or type(recipe).__qualname__,
            needed=saved_recipe or f"the {name} of this package",
        )
