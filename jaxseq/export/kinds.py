"""The kinds of run that can be exported, one a domain: forecasts, chorales and piano rolls, each a module of this room."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, runtime_checkable

from jaxseq.common.errors import UsageError
from jaxseq.export import chorales, forecasts, pianoroll
from jaxseq.export.program import Program
from jaxseq.train.domains.base import RestoredRun


@runtime_checkable
class Kind(Protocol):
    """A module with these functions of a restored run of its domain."""

    TAG: str
    TASK: str

    def program_of(self, run: RestoredRun) -> Program:
        """Return the run as a program. Raises `UsageError` for one that is no function of its inputs."""
        ...

    def title(self, run: RestoredRun) -> str:
        """Say what the model does, in a sentence."""
        ...

    def inputs_and_results(self, run: RestoredRun) -> list[str]:
        """Say what goes in and comes out, a line each."""
        ...

    def notes(self, run: RestoredRun, folder: Path) -> list[str]:
        """Return remarks on the results of a run in a folder, a line each; may be empty."""
        ...


KINDS: Mapping[str, Kind] = MappingProxyType({"forecasts": forecasts, "chorales": chorales, "pianoroll": pianoroll})
"""The kinds by the domain of their experiments."""


def of(run: RestoredRun) -> Kind:
    """Return the kind of a restored run. Raises `UsageError` for one of another domain."""
    domain = run.experiment.domain
    if domain not in KINDS:
        raise UsageError("runs of this domain have no exported form", got=domain, needed=", ".join(KINDS))
    return KINDS[domain]
