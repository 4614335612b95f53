"""Network, loss and optimiser that a class from outside the package builds itself, which its fields do not tell."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from jaxseq.common.errors import UsageError
from jaxseq.nn import networks
from jaxseq.nn.objectives import Objective
from jaxseq.train import descriptions, run_folder
from jaxseq.train.epoch import Setup
from jaxseq.train.experiments.base import Experiment, Training
from jaxseq.train.experiments.config import OVERRIDES, is_of_package

METHODS = ("build", "objective", "build_optimiser")
"""Methods that decide what is trained: of which network, by which loss and which optimiser."""


def of(experiment: Training) -> tuple[str, ...]:
    """Return the names of the `METHODS` that a class from outside the package has overridden."""
    methods = {name: getattr(type(experiment), name, None) for name in METHODS}
    return tuple(
        name for name, method in methods.items() if method is not None and not is_of_package(method.__module__)
    )


def network_name(experiment: Experiment) -> str:
    """Return the name of the trained network for tables: that of its cell, or of a class that builds another one.

    The kind of a network stands before its cell, unless it is a plain stack, or in its place where it has none.
    """
    if "build" in of(experiment):
        return type(experiment).__name__
    kind = getattr(experiment.model, "kind", networks.DEFAULT)
    if kind == networks.DEFAULT:
        return experiment.model.cell
    if not networks.KINDS[kind].reads_cell:
        return kind
    return f"{kind} {experiment.model.cell}"


def network_words(experiment: Experiment) -> str:
    """Return the trained network in words: its cell and size, or the name of a class that builds another one."""
    if "build" in of(experiment):
        return f"network of {type(experiment).__name__}"
    return f"{network_name(experiment)} of {experiment.model.hidden} units"


def described(experiment: Training, setup: Setup, numbers: Mapping[str, object]) -> dict[str, str]:
    """Return what the overridden methods have built, in words; `numbers` are those of the optimiser's state."""
    optimiser = [descriptions.of_optimiser(setup.optimiser), *(f"{name}={number}" for name, number in numbers.items())]
    words = {
        "build": descriptions.of_model(setup.model),
        "objective": of_objective(setup.objective),
        "build_optimiser": ", ".join(optimiser),
    }
    return {name: words[name] for name in of(experiment)}


def of_objective(objective: Objective) -> str:
    """Return the loss of an objective and the metric that chooses the epoch."""
    return f"{descriptions.of_function(objective.loss)}; {objective.select} chooses the epoch"


def check_same(ours: object, folder: Path) -> None:
    """Raise `UsageError`, with both, if the run in `folder` was trained by other overridden methods than `ours`.

    `ours` are those of the run's config. An older run, which does not say, is not checked.
    """
    saved = run_folder.read_config(folder).get(OVERRIDES, ours)
    if saved != ours:
        raise UsageError("the run was trained by other methods of its class", where=folder, got=ours, needed=saved)
