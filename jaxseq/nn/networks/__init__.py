"""Networks around the cells, a module for each kind: `--model.kind`.

A kind is a Flax module with the fields and the call of `Forecaster`. A module here with a `KIND` is all that a new one
needs.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, TypeAlias

from jaxseq.common.errors import UsageError
from jaxseq.nn.networks.base import Kind, Use

__all__ = ["DEFAULT", "KINDS", "Kind", "KindName", "Use", "named"]

DEFAULT = "stacked"


def available() -> Mapping[str, Kind]:
    """Return the kinds of all modules of this room by their name, the default first."""
    names = [module.name for module in pkgutil.iter_modules(__path__)]
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    kinds = [module.KIND for module in modules if hasattr(module, "KIND")]
    kinds.sort(key=lambda kind: (kind.name != DEFAULT, kind.name))
    return MappingProxyType({kind.name: kind for kind in kinds})


KINDS = available()
"""Kinds of networks by their name."""

if TYPE_CHECKING:
    KindName: TypeAlias = str
else:  # A type checker reads no list of names that is computed; the command line, its help and `config.json` do.
    KindName = Literal[tuple(KINDS)]


def named(name: str) -> Kind:
    """Return the kind of a name; raises `UsageError`, which lists the names, if there is none."""
    if name not in KINDS:
        raise UsageError("unknown kind of network", got=name, needed=f"one of {', '.join(KINDS)}")
    return KINDS[name]
