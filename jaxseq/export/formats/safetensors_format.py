"""safetensors: the parameters alone, of any run."""

from __future__ import annotations

from jaxseq.checkpoint import leaves
from jaxseq.export.formats.base import as_safetensors
from jaxseq.train.domains.base import RestoredRun


def takes(run: RestoredRun) -> bool:
    """Return True: every run has parameters."""
    del run
    return True


def files(run: RestoredRun) -> dict[str, bytes]:
    """Return the parameters by their path, such as ``recurrent_0/cell/input_kernel``, and running moments if there are."""
    arrays = leaves.by_path(run.state.params) | leaves.by_path({"stats": run.state.stats})
    return {"parameters.safetensors": as_safetensors(arrays)}


def call(run: RestoredRun) -> str:
    """Say which module takes the parameters."""
    network = type(run.experiment.build())
    path = f"{network.__module__}.{network.__qualname__}"
    return f"\n`parameters.safetensors` has the network's parameters by their path, as `{path}` takes them.\n"
