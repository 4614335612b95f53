"""How the runs of a domain are exported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from jaxseq.export.program import Program
from jaxseq.train.domains.base import RestoredRun

if TYPE_CHECKING:
    from onnx import ModelProto


def network_title(run: RestoredRun) -> str:
    """Say which network it is."""
    network = run.experiment.model
    return f"A {network.cell} of {network.hidden} units, trained as {run.experiment.name}."


def no_interface(run: RestoredRun) -> list[str]:
    """Return no lines: what the arrays of the inputs mean is known to the domain alone."""
    del run
    return []


def no_remarks(run: RestoredRun, folder: Path) -> list[str]:
    """Return no remarks: the table of figures says how good the predictions are."""
    del run, folder
    return []


class Kind(NamedTuple):
    """How the runs of a domain are exported. A kind without a program is exported as its weights alone.

    program    restored run -> the run as a program; raises `UsageError` for one that is no function of its inputs
    graph      (restored run, its program) -> an ONNX model of the same inputs and outputs
    title      restored run -> a sentence that says what the model does
    interface  restored run -> what goes in and comes out, a line each
    remarks    (restored run, its folder) -> remarks on the results, a line each
    tag        of its models on the Hugging Face hub
    task       as the hub names it, which has none for most
    """

    program: Callable[[RestoredRun], Program] | None = None
    graph: Callable[[RestoredRun, Program], ModelProto] | None = None
    title: Callable[[RestoredRun], str] = network_title
    interface: Callable[[RestoredRun], list[str]] = no_interface
    remarks: Callable[[RestoredRun, Path], list[str]] = no_remarks
    tag: str = "sequence-modeling"
    task: str = "other"
