"""Calls of Orbax: their failures as text, and two of its functions replaced while a checkpoint is saved.

The replacements were tested with orbax-checkpoint 0.12.8, and the package requires 0.12.8 or newer below 0.13. They are
in place only within `folder_made_by_us` and `bytes_uncounted`, so that a user's own calls of Orbax find it unchanged.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.metadata
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import jax
from orbax.checkpoint import checkpoint_manager
from orbax.checkpoint import v1 as ocp
from orbax.checkpoint._src.serialization import tensorstore_utils

from jaxseq.checkpoint.records import root_cause
from jaxseq.common.errors import UsageError

Result = TypeVar("Result")


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """The result of a call, or the reason of its failure; the reason of a success is empty."""

    result: Result | None
    failure: str


def attempt(call: Callable[[], Result]) -> Outcome[Result]:
    """Call a function of Orbax and return its result or why it failed.

    `UsageError` and `MemoryError` are raised.
    """
    nested = logging.root.manager.disable >= logging.CRITICAL
    with quiet(), _single_process():
        try:
            return Outcome(call(), "")
        except (UsageError, MemoryError):
            raise
        except Exception as error:
            failure = root_cause(error)

        # The coroutines of the failed call complain when they are collected: here, nobody hears them. Within another
        # `quiet`, it is left to the caller: a collection takes long.
        if not nested:
            gc.collect()
    return Outcome(None, failure)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress log lines, warnings and the tracebacks that failing coroutines leave behind."""
    level = logging.root.manager.disable
    hook = sys.unraisablehook
    logging.disable(logging.CRITICAL)
    sys.unraisablehook = lambda _: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.unraisablehook = hook
        logging.disable(level)


def wait_for_threads(seconds: float = 10.0) -> None:
    """Wait for the threads in which Orbax tidies up: they print a traceback if the interpreter ends before they do."""
    for thread in threading.enumerate():
        # Of Orbax's threads, those of its pools never end by themselves.
        if type(thread).__name__ == "_SignalingThread":
            thread.join(seconds)


def _single_process() -> contextlib.AbstractContextManager[object]:
    """Return a context in which Orbax waits for no other process: one saves, and each reads by itself."""
    if jax.process_count() == 1:
        return contextlib.nullcontext()
    index = jax.process_index()
    options = ocp.options.MultiprocessingOptions(
        primary_host=index, active_processes={index}, barrier_sync_key_prefix=f"process-{index}"
    )
    return ocp.Context(multiprocessing_options=options)


class _Replacement:
    """A function of a module that is replaced while at least one thread needs it.

    Raises `ImportError` where the module has no such function: at the import, not at the first save of a training.
    """

    def __init__(self, module: object, name: str, function: Callable[..., object]) -> None:
        if not hasattr(module, name):
            version = importlib.metadata.version("orbax-checkpoint")
            raise ImportError(f"orbax-checkpoint {version} has no {name}; jaxseq needs 0.12.8 or newer below 0.13")
        self.module = module
        self.name = name
        self.function = function
        self.lock = threading.Lock()
        self.users = 0
        self.original: object = None

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        with self.lock:
            if self.users == 0:
                self.original = getattr(self.module, self.name)
                setattr(self.module, self.name, self.function)
            self.users += 1
        try:
            yield
        finally:
            with self.lock:
                self.users -= 1
                if self.users == 0:
                    setattr(self.module, self.name, self.original)


def _make_folder(directory: Any, *_: Any, **__: Any) -> None:
    Path(directory).mkdir(parents=True, exist_ok=True)


def _no_bytes(*_: object, **__: object) -> int:
    return 0


folder_made_by_us = _Replacement(checkpoint_manager, "_create_root_directory", _make_folder)
"""Within, a checkpointer makes its folder also where one of several processes saves.

Orbax raises `NotImplementedError` there ("Please create the root directory yourself"), even if the folder exists, and
its v1 interface has no option to leave it out.
"""

bytes_uncounted = _Replacement(tensorstore_utils, "get_tensorstore_raw_bytes", _no_bytes)
"""Within, Orbax logs 0 bytes for a save instead of asking tensorstore, whose answers are never freed.

A process grows by 30 kB a save without it, measured over 800 saves of twelve arrays.
"""
