"""Loggers: callbacks that copy the rows of a training into the tools that draw them, each an optional extra.

`metrics.jsonl` stays the record of a run: no command reads what a logger wrote.
"""

from __future__ import annotations

import importlib
import pkgutil

from jaxseq.common.errors import UsageError
from jaxseq.train.loggers.base import Logger

SUFFIX = "_log"
"""End of the names of the modules here that log to a tool; the class in each is `Log`."""
TOOLS = tuple(
    module.name.removesuffix(SUFFIX) for module in pkgutil.iter_modules(__path__) if module.name.endswith(SUFFIX)
)
"""Names of the tools, and of the extras that install them: a module for each is all that a tool needs here."""


def named(text: str | None) -> list[Logger]:
    """Return the loggers of a list with commas, such as ``tensorboard,wandb``; none for None.

    Raises `UsageError` for a name that is not in `TOOLS`, one that stands twice, and a tool that is not installed.
    """
    return [_logger(name) for name in check_names(text)]


def check_names(text: str | None) -> list[str]:
    """Return the names in a list with commas. Raises `UsageError` for unknown ones, and for one that stands twice."""
    if text is None:
        return []
    names = text.split(",")
    for name in names:
        if name not in TOOLS or names.count(name) > 1:
            raise UsageError("no list of loggers", where="--log", got=text, needed=f"some of {','.join(TOOLS)}")
    return names


def _logger(name: str) -> Logger:
    try:
        # Imported on demand, since each of them takes seconds.
        module = importlib.import_module(f"{__name__}.{name}{SUFFIX}")
    except ImportError as error:
        missing = error.name or f"{error}"
        raise UsageError(f'{name} needs {missing}: pip install "jaxseq[{name}]"', where="--log") from error
    return module.Log()
