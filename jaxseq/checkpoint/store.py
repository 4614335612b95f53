"""Steps of a run on disk, verified leaf by leaf when they are read. With `writer`, which saves them, the door to Orbax.

On disk a state is the flat mapping from a leaf's path to its array (a typed PRNG key as its key data), so that reading
needs neither the model nor the data, runs no code that was stored, and works on any set of devices. Beside it lies a
sealed record: the metrics, and for every leaf its shape, dtype and sha256, because Orbax loads damaged data silently.

    python -m jaxseq.checkpoint show runs/aapl-0001
    python -m jaxseq.checkpoint verify runs/aapl-0001
    python -m jaxseq.checkpoint diff runs/aapl-0001 runs/aapl-0002
"""

from __future__ import annotations

import contextlib
import gc
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from jaxseq.checkpoint import records
from jaxseq.checkpoint.leaves import Leaf, blank_of, by_path, digest_of, dtype_of
from jaxseq.checkpoint.records import DamagedError
from jaxseq.common.arrays import Tree
from jaxseq.common.errors import UsageError


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the log lines and tracebacks that a failing Orbax call leaves behind from the user."""
    level, hook = logging.root.manager.disable, sys.unraisablehook
    logging.disable(logging.CRITICAL)
    sys.unraisablehook = lambda _: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.unraisablehook = hook
        logging.disable(level)


def _alone() -> contextlib.AbstractContextManager[Any]:
    """Of several processes, one saves and each reads by itself: Orbax waits for no other."""
    if jax.process_count() == 1:
        return contextlib.nullcontext()
    me = jax.process_index()
    options = ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"process-{me}"
    )
    return ocp.Context(multiprocessing_options=options)


def ask(call: Callable[[], Any]) -> tuple[Any, str]:
    """What a call of Orbax returns, and why it failed if it did."""
    inside = logging.root.manager.disable >= logging.CRITICAL
    with _quiet(), _alone():
        try:
            return call(), ""
        except (UsageError, MemoryError):
            raise
        except Exception as error:
            failure = records.root_cause(error)
        if not inside:
            gc.collect()  # the abandoned coroutines complain now, and nobody hears them
    return None, failure


def _read(what: str, call: Callable[[], Any]) -> Any:
    """What Orbax reads; raises DamagedError over anything it cannot read, UsageError if it may not read it."""
    result, failure = ask(call)
    if any(word in failure for word in ("PermissionError", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED")):
        raise UsageError(f"{what} cannot be read ({failure})")
    if failure:
        raise DamagedError(what, [failure])
    return result


def _load(folder: Path, step: int) -> dict[str, np.ndarray]:
    """Every leaf of a step, each with the hash that was recorded; raises DamagedError with all that is wrong."""
    leaves = records.saved_leaves(folder, step)
    arrays = {path: blank_of(leaf) for path, leaf in leaves.items()}
    place = str(folder.expanduser().resolve() / str(step))
    wanted: Any = {path: blank for path, blank in arrays.items() if blank.size}
    with _quiet():
        try:
            arrays |= _read(place, partial(ocp.load, place, wanted))
            reasons = _differing(leaves, arrays)
        except DamagedError:  # which of them, only reading one by one tells
            reasons = _read_one_by_one(place, leaves, wanted)
        if reasons:
            gc.collect()
    if reasons:
        raise DamagedError(f"step {step} of {folder}", reasons)
    return arrays


def _read_one_by_one(place: str, leaves: Mapping[str, Leaf], wanted: Mapping[str, np.ndarray]) -> list[str]:
    """What is wrong with each leaf, which takes 30 ms for each."""
    reasons, skipped = [], dict.fromkeys(wanted, ocp.PLACEHOLDER)
    for path, blank in wanted.items():
        try:
            one: Any = {**skipped, path: blank}
            array = _read(path, partial(ocp.load, place, one))[path]
            reasons += _differing({path: leaves[path]}, {path: array})
        except DamagedError as error:
            reasons.append(f"{path}: {error.reasons[0]}")
    return reasons or ["the arrays cannot be read together"]


def _differing(leaves: Mapping[str, Leaf], arrays: Mapping[str, np.ndarray]) -> list[str]:
    return [
        f"{path}: sha256 differs"
        for path, leaf in leaves.items()
        if digest_of(arrays[path], leaf.shape, leaf.dtype) != leaf.sha256
    ]


def load_leaves(folder: str | Path, step: int) -> dict[str, np.ndarray]:
    """The verified leaves of a step by path, a typed PRNG key as its key data; needs neither model nor data.

    Raises `DamagedError` if any of them is damaged, `UsageError` if there is no such step.
    """
    return _load(Path(folder), step)


def damage(folder: str | Path, step: int) -> list[str]:
    """What is wrong with a step, a line for each damaged leaf; empty if it is sound."""
    try:
        _load(Path(folder), step)
    except DamagedError as error:
        return error.reasons
    return []


def _refuse_difference(leaves: Mapping[str, Leaf], like: Mapping[str, Any], what: str) -> None:
    """Raises UsageError with the first leaves that differ between what was saved and what is wanted."""
    saved = {path: f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in leaves.items()}
    wanted = {path: f"{dtype_of(leaf)}{list(leaf.shape)}" for path, leaf in like.items()}
    lines = [
        f"{path} is {saved.get(path, 'missing')} there and {wanted.get(path, 'missing')} here"
        for path in {**wanted, **saved}
        if saved.get(path) != wanted.get(path)
    ]
    if lines:
        more = f"; and {len(lines) - 3} more" if len(lines) > 3 else ""
        raise UsageError(f"{what} holds another model: {'; '.join(lines[:3])}{more}")


def _put(array: np.ndarray, like: Any, dtype: str) -> jax.Array:
    sharding = getattr(like, "sharding", None) or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    data = jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])
    return jax.random.wrap_key_data(data, impl=dtype[4:-1]) if dtype.startswith("key<") else data


def _restore_step(folder: Path, like: Tree, step: int) -> Tree:
    leaves, wanted = records.saved_leaves(folder, step), by_path(like)
    _refuse_difference(leaves, wanted, f"step {step} of {folder}")
    arrays = _load(folder, step)
    state = [_put(arrays[path], leaf, leaves[path].dtype) for path, leaf in wanted.items()]
    return jax.tree.unflatten(jax.tree.structure(like), state)


def restore(
    folder: str | Path, like: Tree, step: int | None = None, report: Callable[[str], object] = print
) -> tuple[int, Tree]:
    """The newest sound step and its state, bit for bit as it was saved; or exactly `step`, if one is given.

    `like` is the abstract state, `jax.eval_shape(init)`: its structure, shapes and dtypes have to be those that were
    saved; a leaf goes where its sharding says, without one to the first local device. Every leaf is verified, and
    `report` is told of each newer step that is damaged. Raises `DamagedError` if no step is sound (or `step` is not),
    `UsageError` if there is no checkpoint, its format is newer, or it holds another model.
    """
    folder = Path(folder)
    there = records.epochs(folder)
    if not there:
        raise UsageError(f"no checkpoints in {folder}")
    with contextlib.suppress(DamagedError):  # every step has its own record
        records.root_of(folder)
    if step is not None:
        return step, _restore_step(folder, like, step)
    failures: list[DamagedError] = []
    for candidate in reversed(there):
        try:
            state = _restore_step(folder, like, candidate)
        except DamagedError as failure:
            failures.append(failure)
            continue
        for failure in failures:
            report(f"{failure}; using step {candidate}")
        return candidate, state
    raise DamagedError(f"every step in {folder}", [str(failure) for failure in failures])
