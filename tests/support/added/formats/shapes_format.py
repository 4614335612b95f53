"""shapes: the shape of each parameter, as JSON. A format as CONTRIBUTING.md describes it."""

from __future__ import annotations

import json

from jaxseq.checkpoint import leaves
from jaxseq.train.domains.base import RestoredRun


def takes(run: RestoredRun) -> bool:
    """Return True: every run has parameters."""
    return True


def files(run: RestoredRun) -> dict[str, bytes]:
    """Return the shapes by the path of the parameter."""
    arrays = leaves.by_path(run.state.params)
    shapes = {path: array.shape for path, array in arrays.items()}
    return {"shapes.json": json.dumps(shapes).encode()}


def call(run: RestoredRun) -> str:
    """Say what the file has."""
    return "\n`shapes.json` has the shape of each parameter.\n"
