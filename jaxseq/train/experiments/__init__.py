"""Every experiment by its name. A new one is an entry in the table of its domain's module."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from jaxseq.common.errors import UsageError
from jaxseq.train.experiments import chorales, config, forecasts, pianoroll
from jaxseq.train.experiments.base import OWN, Experiment
from jaxseq.train.experiments.config import to_config

__all__ = ["EXPERIMENTS", "Experiment", "from_config", "named", "to_config"]

EXPERIMENTS: Mapping[str, Experiment] = MappingProxyType(
    {
        experiment.name: experiment
        for experiment in (*forecasts.EXPERIMENTS, *chorales.EXPERIMENTS, *pianoroll.EXPERIMENTS)
    }
)


def named(name: str, **fields: Any) -> Experiment:
    """Return the experiment of that name, with other `fields` than its defaults.

    ``named("aapl", model=Model(cell="lstm"), epochs=3)``. Raises `UsageError`, which lists the names, for an unknown
    name, and for a field that is invalid.
    """
    if name not in EXPERIMENTS:
        raise UsageError("unknown experiment", got=name, needed=f"one of {', '.join(EXPERIMENTS)}")
    return dataclasses.replace(EXPERIMENTS[name], **fields)


def from_config(saved: Mapping[str, Any], source: str) -> Experiment:
    """Return the experiment that `to_config` wrote. Raises `UsageError`, which names `source`, for anything else."""
    name = saved.get("experiment")
    if not isinstance(name, str):
        raise UsageError("names no experiment", where=source)
    if name == OWN:
        raise UsageError("trained from Python", where=source, needed="jaxseq.train.fit.restore with its module")
    try:
        default = named(name)
    except UsageError as error:
        raise UsageError(error.rule, where=source, got=error.got, needed=error.needed) from error
    return config.read_config(saved, default, source)
