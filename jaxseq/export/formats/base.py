"""Interface of a format, and what the modules of several formats share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import jax
import numpy as np

from jaxseq.common.errors import UsageError
from jaxseq.export.program import Program
from jaxseq.train.domains.base import RestoredRun


@runtime_checkable
class Format(Protocol):
    """A module of this package named `NAME_format.py`, which provides these functions in this order."""

    def takes(self, run: RestoredRun) -> bool:
        """Return whether runs of this kind have the format."""
        ...

    def files(self, run: RestoredRun) -> dict[str, bytes]:
        """Return the content of each file by its name, checked against the run where it computes something.

        Raises `UsageError` if a package is missing, or for a network that the format does not have.
        """
        ...

    def call(self, run: RestoredRun) -> str:
        """Say in Markdown how the files are called."""
        ...


def zeros(exported: Program) -> str:
    """Return the inputs of one row of zeros, in Python; of forecasts, ones, whose logarithm is finite."""
    made_up = []
    for name, shape in exported.shapes.items():
        sizes = [exported.least[size] if isinstance(size, str) else size for size in shape]
        dtype = exported.dtypes[name].name
        if dtype == "float64":
            made_up.append(f'"{name}": np.ones({(1, *sizes)})')
        else:
            made_up.append(f'"{name}": np.zeros({(1, *sizes)}, np.{dtype})')
    return "{" + ", ".join(made_up) + "}"


def as_safetensors(arrays: Mapping[str, np.ndarray | jax.Array]) -> bytes:
    """Return arrays by name as a file of safetensors. Raises `UsageError` if it is not installed."""
    try:
        from safetensors.numpy import save
    except ModuleNotFoundError as error:
        raise missing("safetensors") from error
    return save({name: np.ascontiguousarray(array) for name, array in arrays.items()})


def missing(package: str) -> UsageError:
    """Return the error for a package of the extra that is not installed."""
    return UsageError(f"needs {package}", where="--to", needed='pip install "jaxseq[export]"')
