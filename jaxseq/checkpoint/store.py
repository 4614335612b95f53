"""Checkpoints on disk, verified leaf by leaf when they are read.

On disk a state is the flat mapping from a leaf's path to its array (a typed PRNG key as its key data), so that reading
needs neither the model nor the data, runs no stored code, and works on any set of devices. Beside it lies a sealed
record: the metrics, and for every leaf its shape, dtype and sha256, because Orbax loads damaged data silently.

    python -m jaxseq.checkpoint show runs/aapl-0001
    python -m jaxseq.checkpoint verify runs/aapl-0001
    python -m jaxseq.checkpoint diff runs/aapl-0001 runs/aapl-0002
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from jaxseq.checkpoint import records
from jaxseq.checkpoint.leaves import blank_of, by_path, digest_of, dtype_of, is_key_dtype, key_impl
from jaxseq.checkpoint.migration import migrated
from jaxseq.checkpoint.orbax_calls import attempt, quiet
from jaxseq.checkpoint.records import Leaf
from jaxseq.common import files
from jaxseq.common.arrays import Tree
from jaxseq.common.errors import UsageError
from jaxseq.common.sealed import DamagedError

ARRAYS = "d"
"""Name of the folders in which Orbax keeps the values of arrays; the other files describe them."""
ENVIRONMENT_FAILURES = ("PermissionError", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED")
"""Failures to read that say nothing about the data."""


def restore(
    folder: str | Path,
    like: Tree,
    epoch: int | None = None,
    report: Callable[[str], object] = print,
    config: Mapping[str, object] | None = None,
) -> tuple[int, Tree]:
    """Restore the newest sound checkpoint, or that of `epoch`; return its epoch and its state, bit for bit as saved.

    `like` is the abstract state, `jax.eval_shape(init)`: its structure, shapes and dtypes must be those that were
    saved; an older format is `migrated` first. A leaf is put where its sharding says, without one on the first local
    device. Every leaf is verified, and `report` receives a line for each newer epoch that is damaged. With the `config`
    of a run, an epoch that another run saved counts as damaged.

    Raises `DamagedError` if no epoch is sound (or `epoch` is not), `UsageError` if there is no checkpoint, its format is
    newer, or it holds another model.
    """
    folder = Path(folder)
    available = records.epochs(folder)
    if not available:
        raise UsageError("no checkpoints", where=folder)

    # A newer format is refused here; a damaged root is not, since every epoch has its own record.
    with contextlib.suppress(DamagedError):
        records.root_of(folder)

    if epoch is not None:
        return epoch, _restore_epoch(folder, like, epoch, config)

    failures: list[DamagedError] = []
    for candidate in reversed(available):
        try:
            state = _restore_epoch(folder, like, candidate, config)
        except DamagedError as failure:
            failures.append(failure)
            continue
        for failure in failures:
            report(f"{failure}; using epoch {candidate}")
        return candidate, state
    raise DamagedError(f"every epoch in {folder}", [str(failure) for failure in failures])


def load_leaves(folder: str | Path, epoch: int) -> dict[str, np.ndarray]:
    """Return the verified leaves of an epoch by path, a typed PRNG key as its key data.

    Needs neither model nor data. Raises `DamagedError` if a leaf is damaged, `UsageError` if there is no such epoch.
    """
    return _load(Path(folder), epoch)


def damage(folder: str | Path, epoch: int, config: Mapping[str, object] | None = None) -> list[str]:
    """Return a line for each damaged leaf of an epoch; empty if it is sound, and saved by the run of the `config`."""
    try:
        if config is not None:
            records.check_run(Path(folder), epoch, config)
        _load(Path(folder), epoch)
    except DamagedError as error:
        return error.reasons
    return []


def _restore_epoch(folder: Path, like: Tree, epoch: int, config: Mapping[str, object] | None) -> Tree:
    # The arrays of another run may have the same shapes.
    if config is not None:
        records.check_run(folder, epoch, config)
    expected = by_path(like)
    abstract = {path: Leaf(path, tuple(leaf.shape), dtype_of(leaf), "") for path, leaf in expected.items()}
    saved = migrated(records.format_of(folder, epoch), records.saved_leaves(folder, epoch), abstract)
    _check_same_model(saved, abstract, records.place(folder, epoch))

    arrays = _load(folder, epoch)
    state = []
    for path, leaf in expected.items():
        source = saved[path]
        array = arrays.get(source.path)
        # Older formats lack some leaves.
        if array is None:
            array = blank_of(source)
        state.append(_put(array, leaf, source.dtype))
    return jax.tree.unflatten(jax.tree.structure(like), state)


def _check_same_model(saved: Mapping[str, Leaf], expected: Mapping[str, Leaf], where: str) -> None:
    """Raise `UsageError` with the first leaves whose shapes or dtypes differ between the checkpoint and the model."""
    there = {path: f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in saved.items()}
    here = {path: f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in expected.items()}
    lines = [
        f"{path} is {there.get(path, 'missing')} there and {here.get(path, 'missing')} here"
        for path in {**here, **there}
        if there.get(path) != here.get(path)
    ]
    if lines:
        more = f"; and {len(lines) - 3} more" if len(lines) > 3 else ""
        raise UsageError(f"the checkpoint of another model: {'; '.join(lines[:3])}{more}", where=where)


def _put(array: np.ndarray, like: object, dtype: str) -> jax.Array:
    """Put an array where the abstract leaf says."""
    sharding = getattr(like, "sharding", None) or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    data = jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])
    # The generator is that of the checkpoint, which `_check_same_model` has compared with the abstract key's.
    if is_key_dtype(dtype):
        return jax.random.wrap_key_data(data, impl=key_impl(dtype))
    return data


def _load(folder: Path, epoch: int) -> dict[str, np.ndarray]:
    """Return every leaf of an epoch, each with the recorded hash; raise `DamagedError` with everything that is wrong."""
    leaves = records.saved_leaves(folder, epoch)
    _check_files(folder, epoch)
    arrays = {path: blank_of(leaf) for path, leaf in leaves.items()}
    path = str(folder.resolve() / str(epoch))
    # Orbax refuses empty arrays; they are never saved.
    stored = {name: blank for name, blank in arrays.items() if blank.size}

    with quiet():
        is_read = False
        with contextlib.suppress(DamagedError):
            arrays |= _read(path, stored)
            is_read = True
        # Orbax stops at the first failure and does not say which leaf it was. That failure is no longer being handled here:
        # it would pass for the cause of the next ones.
        reasons = _differing(leaves, arrays) if is_read else _read_one_by_one(path, leaves, stored)
        # Abandoned coroutines complain when they are collected: here, nobody hears them.
        if reasons:
            gc.collect()
    if reasons:
        raise DamagedError(records.place(folder, epoch), reasons)
    return arrays


def _check_files(folder: Path, epoch: int) -> None:
    """Raise `DamagedError` for files in an epoch's folder on which Orbax would spend hours.

    For a pipe or a device it waits without an end; a description, of any size, it reads as a whole for each leaf.
    """
    for parent, _, names in os.walk(folder / str(epoch)):
        most = sys.maxsize if Path(parent).name == ARRAYS else files.MOST_JSON
        for name in names:
            path = Path(parent, name)
            try:
                files.check_size(path, most)
            except FileNotFoundError:
                # A link to nothing is Orbax's to report.
                continue
            except (OSError, ValueError) as error:
                raise DamagedError(records.place(folder, epoch), [f"{name}: {records.root_cause(error)}"]) from None


def _read(path: str, arrays: Mapping[str, Any]) -> Mapping[str, Any]:
    """Load arrays with the shapes and dtypes of those given.

    Raises `UsageError` where the machine and not the data is at fault, `DamagedError` for every other failure.
    """
    abstract: Any = dict(arrays)
    outcome = attempt(partial(ocp.load, path, abstract))
    if any(word in outcome.failure for word in ENVIRONMENT_FAILURES):
        raise UsageError(f"cannot be read ({outcome.failure})", where=path)
    if outcome.failure:
        raise DamagedError(path, [outcome.failure])
    result: Any = outcome.result
    return result


def _read_one_by_one(path: str, leaves: Mapping[str, Leaf], stored: Mapping[str, np.ndarray]) -> list[str]:
    """Return a reason for each damaged leaf; takes 30 ms a leaf."""
    reasons = []
    skipped = dict.fromkeys(stored, ocp.PLACEHOLDER)
    for name, blank in stored.items():
        try:
            array = _read(path, {**skipped, name: blank})[name]
            reasons += _differing({name: leaves[name]}, {name: array})
        except DamagedError as error:
            reasons.append(f"{name}: {error.reasons[0]}")
    return reasons or ["the arrays cannot be read together"]


def _differing(leaves: Mapping[str, Leaf], arrays: Mapping[str, np.ndarray]) -> list[str]:
    """Return a reason for each leaf whose array does not have the recorded hash."""
    return [
        f"{path}: sha256 differs"
        for path, leaf in leaves.items()
        if digest_of(arrays[path], leaf.shape, leaf.dtype) != leaf.sha256
    ]
