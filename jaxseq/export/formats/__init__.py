"""The formats that `--to` names, a module for each: stablehlo, onnx, safetensors and torch."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from jaxseq.common.errors import UsageError

if TYPE_CHECKING:
    from jaxseq.export.formats.base import Format
    from jaxseq.train.domains.base import RestoredRun

SUFFIX = "_format"
"""End of the names of the modules here that write a format."""


def available() -> tuple[str, ...]:
    """Return the names of the formats; a module for each is all that a format needs."""
    modules = [module.name for module in pkgutil.iter_modules(__path__)]
    return tuple(name.removesuffix(SUFFIX) for name in modules if name.endswith(SUFFIX))


NAMES = available()
"""The formats by the name that `--to` gives them, which --help reads without loading JAX."""


def check_names(text: str) -> list[str]:
    """Return the names in a list with commas, each once. Raises `UsageError` for one that is not known."""
    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise UsageError("no such format", where="--to", got=unknown[0], needed=f"one of {', '.join(NAMES)}")
    return list(dict.fromkeys(names))


def named(name: str) -> Format:
    """Return the format of that name, which is in `NAMES`."""
    # Imported on demand: each of them needs packages of its own.
    module = importlib.import_module(f"{__name__}.{name}{SUFFIX}")
    return cast("Format", module)


def check_taken(names: Iterable[str], run: RestoredRun) -> None:
    """Raise `UsageError`, which names the formats that there are, for one that does not take a run of this kind."""
    offered = [name for name in NAMES if named(name).takes(run)]
    for name in names:
        if name not in offered:
            rule = f"takes no run of {run.experiment.name} ({run.experiment.domain})"
            raise UsageError(rule, where="--to", got=name, needed=" or ".join(offered))
