"""Steps of a run on disk: written in the background, verified leaf by leaf when they are read. The only door to Orbax.

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
import hashlib
import json
import logging
import math
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from jaxseq.arrays import Tree
from jaxseq.errors import UsageError

FORMAT = 1
"""Number of the layout described above; stored with the folder and with every step, and a newer one is refused."""


class DamagedError(UsageError):
    """What is stored is not what was saved: `what` is damaged, for `reasons`, one for each leaf or file."""

    def __init__(self, what: str, reasons: list[str]) -> None:
        more = f"; and {len(reasons) - 1} more" if len(reasons) > 1 else ""
        super().__init__(f"{what} is damaged ({reasons[0]}{more})")
        self.reasons = reasons


class Leaf(NamedTuple):
    """What is known of a leaf without its values; a typed PRNG key has the dtype `key<threefry2x32>`."""

    path: str
    shape: tuple[int, ...]
    dtype: str
    sha256: str


# Leaves ---------------------------------------------------------------------------------------------------------------


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _named(tree: Tree) -> dict[str, Any]:
    """The leaves of a tree by path, as `params/cell/bias`."""
    pairs = [
        (jax.tree_util.keystr(path, simple=True, separator="/"), leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]
    for path, leaf in pairs:
        if not hasattr(leaf, "dtype"):
            raise TypeError(f"every leaf of a state has to be an array, but {path} is a {type(leaf).__name__}")
    named = dict(pairs)
    if len(named) != len(pairs):
        raise ValueError("two leaves of the state have the same path")
    return named


def _data(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _dtype(leaf: Any) -> str:
    """The dtype's name, also of an abstract leaf; for a key the generator's full name."""
    if not _is_key(leaf):
        return str(leaf.dtype)
    names: list[str] = []
    jax.eval_shape(lambda key: names.append(str(jax.random.key_impl(key))), leaf)
    return f"key<{names[0]}>"


def _hash(data: np.ndarray, shape: tuple[int, ...], dtype: str) -> str:
    raw = data.astype(data.dtype.newbyteorder("<")) if sys.byteorder == "big" else data
    head = f"{dtype} {list(shape)} ".encode()
    return hashlib.sha256(head + np.ascontiguousarray(raw).tobytes()).hexdigest()


def fingerprints(tree: Tree) -> dict[str, Leaf]:
    """The shape, dtype and sha256 of every leaf, by path.

    The hash is over dtype, shape and the little-endian bytes; for a typed PRNG key, its generator and key data.
    Raises `TypeError` if a leaf is not an array.
    """
    leaves = {}
    for path, leaf in _named(tree).items():
        shape, dtype = tuple(leaf.shape), _dtype(leaf)
        leaves[path] = Leaf(path, shape, dtype, _hash(np.asarray(_data(leaf)), shape, dtype))
    return leaves


# The door -------------------------------------------------------------------------------------------------------------


def _root_cause(error: BaseException) -> str:
    """The first line of what went wrong at the bottom of a chain of exceptions."""
    while (below := error.__cause__ or error.__context__) is not None and not isinstance(error, OSError):
        error = below
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200] if lines else ''}"


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


def _not_orbax(record: logging.LogRecord) -> bool:
    """Passes log lines but those of Orbax, whose background threads print pages about a failure that `wait` raises."""
    return "orbax" not in record.pathname


def _ask(call: Callable[[], Any]) -> tuple[Any, str]:
    """What a call of Orbax returns, and why it failed if it did."""
    inside = logging.root.manager.disable >= logging.CRITICAL
    with _quiet():
        try:
            return call(), ""
        except (UsageError, MemoryError):
            raise
        except Exception as error:
            failure = _root_cause(error)
        if not inside:
            gc.collect()  # the abandoned coroutines complain now, and nobody hears them
    return None, failure


def _read(what: str, call: Callable[[], Any]) -> Any:
    """What Orbax reads; raises DamagedError over anything it cannot read, UsageError if it may not read it."""
    result, failure = _ask(call)
    if any(word in failure for word in ("PermissionError", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED")):
        raise UsageError(f"{what} cannot be read ({failure})")
    if failure:
        raise DamagedError(what, [failure])
    return result


def _write(folder: Path, call: Callable[[], Any]) -> Any:
    result, failure = _ask(call)
    if failure:
        raise UsageError(f"cannot write a checkpoint to {folder} ({failure}); earlier steps there are intact")
    return result


def _digest(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _seal(**record: Any) -> dict[str, Any]:
    record = json.loads(json.dumps({"format": FORMAT, **record}))
    return {**record, "sha256": _digest(record)}


def _unseal(file: Path, what: str) -> dict[str, Any]:
    """The record that Orbax keeps in one of its files, which it would not read without opening every array as well.

    Raises DamagedError if the seal is broken, UsageError if the format is newer.
    """
    try:
        record = dict(json.loads(file.read_bytes())["custom_metadata"])
        sound = record.pop("sha256") == _digest(record)
    except PermissionError as error:
        raise UsageError(f"{what} cannot be read ({_root_cause(error)})") from None
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DamagedError(what, [f"{file.name}: {_root_cause(error)}"]) from None
    if not sound:
        raise DamagedError(what, [f"{file.name}: sha256 differs"])
    if record["format"] > FORMAT:
        raise UsageError(f"{what} has format {record['format']}, this version of jaxseq reads up to format {FORMAT}")
    return record


# Writing --------------------------------------------------------------------------------------------------------------


class _Keep:
    """Preserves the last two steps and the best; steps after the one just saved wait until they are saved again."""

    def __init__(self, values: dict[int, float]) -> None:
        self.values, self.newest = values, -1

    def should_preserve(self, checkpoints: Any, *, context: Any) -> list[bool]:
        past = sorted(info.step for info in checkpoints if info.step <= self.newest)
        kept = {*past[-2:], *_best({step: self.values.get(step, math.inf) for step in past})}
        return [info.step in kept or info.step > self.newest for info in checkpoints]


def _best(values: Mapping[int, float]) -> list[int]:
    """The step with the smallest value, in a list; NaN is the worst, and of equal steps the newest is taken."""
    return sorted(values, key=lambda step: (math.inf if math.isnan(values[step]) else values[step], -step))[:1]


class Writer:
    """Saves steps of a run in the background; use it in a `with` block.

    `folder` is created if needed; `config` (anything that JSON can hold) is stored with it once, when it is new;
    `best` names the metric whose smallest value marks the best step. Kept are the last two steps and the best.
    Raises `UsageError` if the folder cannot be written or has a newer format.
    """

    def __init__(self, folder: str | Path, config: Mapping[str, Any], best: str) -> None:
        self.folder, self.best = Path(folder).expanduser().resolve(), best
        self._pending: Any = None
        self._keep = _Keep(_values(self.folder))
        if self.folder.is_dir():
            try:
                _root(self.folder)
            except DamagedError:  # Orbax writes the root once, and never again over a damaged one
                shutil.rmtree(self.folder / "metadata", ignore_errors=True)
        logging.getLogger("absl").addFilter(_not_orbax)
        options = {"preservation_policy": self._keep, "custom_metadata": _seal(config=dict(config))}
        open_folder = partial(ocp.training.Checkpointer, str(self.folder), cleanup_tmp_directories=True, **options)
        self._checkpointer = _write(self.folder, open_folder)

    def save(self, step: int, state: Tree, metrics: Mapping[str, float]) -> None:
        """Starts to save a state and returns; the state may be donated right afterwards. Replaces an equal step.

        First waits for the save before it and raises what went wrong there: `UsageError` if it could not be written.
        Raises `ValueError` if `metrics` lack the one that decides which step is best.
        """
        if self.best not in metrics:
            raise ValueError(f"the metrics of step {step} lack {self.best}, they are {', '.join(metrics) or 'none'}")
        self.wait()
        values = {name: float(value) for name, value in metrics.items()}
        record = _seal(step=step, best=self.best, metrics=values, leaves=list(fingerprints(state).values()))
        arrays = {path: _data(leaf) for path, leaf in _named(state).items() if leaf.size}  # Orbax refuses empty arrays
        self._keep.values[step], self._keep.newest = values[self.best], step
        save = partial(self._checkpointer.save_async, overwrite=True, force=True, custom_metadata=record)
        _write(self.folder, self._probe)
        self._pending = _write(self.folder, lambda: save(step, arrays))

    def _probe(self) -> None:
        """Fails at once where Orbax, unable to make its folder, would leave threads that hold up the exit for minutes."""
        with tempfile.TemporaryDirectory(dir=self.folder) as probe:
            (Path(probe) / "probe").write_bytes(bytes(4096))

    def wait(self) -> None:
        """Waits until the last save is on disk; raises `UsageError` if it could not be written."""
        pending, self._pending = self._pending, None
        if pending is not None:
            _write(self.folder, pending.result)

    def close(self) -> None:
        """Waits for the last save and lets go of the folder; raises as `wait` does."""
        try:
            self.wait()
        finally:
            _ask(self._checkpointer.close)  # a failure of the save was raised by wait
            logging.getLogger("absl").removeFilter(_not_orbax)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if error is None:
            self.close()
        else:
            with contextlib.suppress(UsageError):  # the error on its way out says more
                self.close()


# Reading --------------------------------------------------------------------------------------------------------------


def steps(folder: str | Path) -> list[int]:
    """The steps that are in a folder, ascending, sound or not; none if there is no such folder."""
    folder = Path(folder).expanduser()
    return sorted(int(entry.name) for entry in folder.iterdir() if entry.name.isdecimal()) if folder.is_dir() else []


def latest_step(folder: str | Path) -> int | None:
    """The newest step, None if there is none."""
    return max(steps(folder), default=None)


def best_step(folder: str | Path) -> int | None:
    """The step with the smallest value of the metric that its writer named; None if no step has a readable record."""
    return next(iter(_best(_values(Path(folder)))), None)


def metrics(folder: str | Path, step: int) -> dict[str, float]:
    """The metrics that were saved with a step, without loading it; raises `DamagedError` if its record is damaged."""
    return _record(Path(folder), step)["metrics"]


def saved_leaves(folder: str | Path, step: int) -> dict[str, Leaf]:
    """The shape, dtype and sha256 of every leaf as it was saved, without loading it; raises as `metrics` does."""
    return {
        path: Leaf(path, tuple(shape), dtype, sha256)
        for path, shape, dtype, sha256 in _record(Path(folder), step)["leaves"]
    }


def config(folder: str | Path) -> dict[str, Any]:
    """The configuration that was stored with the folder when it was new.

    Raises `UsageError` if there is no such folder or its format is newer, `DamagedError` if it cannot be read.
    """
    return _root(Path(folder))["config"]


def _root(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise UsageError(f"{folder} does not exist")
    return _unseal(folder / "metadata" / "_ROOT_METADATA", f"the configuration in {folder}")


def _record(folder: Path, step: int) -> dict[str, Any]:
    if step not in (there := steps(folder)):
        raise UsageError(f"no step {step} in {folder}, there {_listing(there)}")
    return _unseal(folder / str(step) / "_CHECKPOINT_METADATA", f"step {step} of {folder}")


def _listing(there: list[int]) -> str:
    return f"are the steps {', '.join(map(str, there))}" if there else "are none"


def _values(folder: Path) -> dict[int, float]:
    """What decides which step is best, for every step with a readable record."""
    values = {}
    for step in steps(folder):
        with contextlib.suppress(DamagedError):
            record = _record(folder, step)
            values[step] = record["metrics"][record["best"]]
    return values


def _blank(leaf: Leaf) -> np.ndarray:
    """An array of the stored shape and dtype; for a key those of its data."""
    if not leaf.dtype.startswith("key<"):
        return np.zeros(leaf.shape, np.dtype(leaf.dtype))
    key = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0, impl=leaf.dtype[4:-1])))
    return np.zeros((*leaf.shape, *key.shape), key.dtype)


def _load(folder: Path, step: int) -> dict[str, np.ndarray]:
    """Every leaf of a step, each with the hash that was recorded; raises DamagedError with all that is wrong."""
    leaves = saved_leaves(folder, step)
    arrays = {path: _blank(leaf) for path, leaf in leaves.items()}
    place, reasons = str(folder.expanduser().resolve() / str(step)), []
    skipped = {path: ocp.PLACEHOLDER for path, blank in arrays.items() if blank.size}
    with _quiet():
        # One at a time: of several, those in flight when one fails would call back into an event loop that is closed.
        for path in skipped:
            leaf = leaves[path]
            wanted: Any = {**skipped, path: arrays[path]}
            try:
                arrays[path] = _read(path, partial(ocp.load, place, wanted))[path]
            except DamagedError as error:
                reasons.append(f"{path}: {error.reasons[0]}")
            else:
                if _hash(arrays[path], leaf.shape, leaf.dtype) != leaf.sha256:
                    reasons.append(f"{path}: sha256 differs")
        if reasons:
            gc.collect()
    if reasons:
        raise DamagedError(f"step {step} of {folder}", reasons)
    return arrays


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
    wanted = {path: f"{_dtype(leaf)}{list(leaf.shape)}" for path, leaf in like.items()}
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
    leaves, wanted = saved_leaves(folder, step), _named(like)
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
    there = steps(folder)
    if not there:
        raise UsageError(f"no checkpoints in {folder}")
    with contextlib.suppress(DamagedError):  # every step has its own record
        _root(folder)
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


def main(argv: list[str] | None = None) -> int:
    """The command line: `show`, `verify` and `diff`; returns the exit status."""
    from jaxseq import checkpoint_table

    return checkpoint_table.main(argv)


if __name__ == "__main__":
    sys.exit(main())
