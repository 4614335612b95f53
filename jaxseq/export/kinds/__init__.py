"""The kinds of run that are exported: forecasts, chorales and pianoroll, a module for each domain with its `KIND`."""

from __future__ import annotations

import importlib
import pkgutil

from jaxseq.common.errors import UsageError
from jaxseq.export.kinds.base import Kind
from jaxseq.export.program import Program
from jaxseq.train import domains
from jaxseq.train.domains.base import RestoredRun

NAMES = tuple(module.name for module in pkgutil.iter_modules(__path__) if module.name != "base")
"""Domains of this package whose runs are exported as programs: a module for each is all that a kind needs."""


def of(run: RestoredRun) -> Kind:
    """Return the kind of a restored run; of a domain that says nothing of exports, the one of weights alone.

    A domain from outside the package may have a `KIND` itself.
    """
    domain = run.experiment.domain
    if domain in NAMES:
        return importlib.import_module(f"{__name__}.{domain}").KIND
    return getattr(domains.of(run.experiment), "KIND", Kind())


def program_of(run: RestoredRun) -> Program:
    """Return a restored run as a program. Raises `UsageError` for one that is no function of its inputs, or has none."""
    kind = of(run)
    if kind.program is None:
        raise UsageError("runs of this domain have no program", got=run.experiment.domain, needed=", ".join(NAMES))
    return kind.program(run)
