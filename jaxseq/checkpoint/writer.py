"""Checkpoints of a run, written in the background; `retention` says which of them stay."""

from __future__ import annotations

import contextlib
import logging
import math
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from jaxseq.checkpoint import records, retention
from jaxseq.checkpoint.leaves import by_path, data_of, fingerprints
from jaxseq.checkpoint.orbax_calls import attempt, bytes_uncounted, folder_made_by_us, wait_for_threads
from jaxseq.common import sealed
from jaxseq.common.arrays import Tree
from jaxseq.common.errors import UsageError
from jaxseq.common.files import check_links
from jaxseq.common.sealed import RUN_ID, DamagedError

PROBE = "probe-"
"""Start of the name of a folder in which a trial file is written."""

MOST_HELD = 64 * 2**20
"""Bytes of the largest state that is held in memory: up to three of them are, and larger ones take longer to train."""

Result = TypeVar("Result")


@runtime_checkable
class Saving(Protocol):
    """A save in the background."""

    def result(self) -> object:
        """Wait for the end of the save; raises what went wrong."""


class _Held(NamedTuple):
    """A state that is not on disk yet.

    metrics     by name
    best_epoch  the best epoch up to this one
    log_sha256  of the log up to this epoch
    """

    epoch: int
    state: Tree
    metrics: Mapping[str, float]
    best_epoch: int | None
    log_sha256: str | None


class Writer:
    """Saves checkpoints of a run in the background; a context manager.

    folder  created if needed
    config  anything that JSON can hold; stored once, when the folder is new
    best    the metric whose smallest value marks the best epoch
    report  called with a line about each damaged checkpoint, and, from another thread, about a save that fails
    pause   least seconds between two saves: epochs in between are held in memory until `wait`, if their states are small

    The last two epochs and the best one are kept. A checkpoint that is damaged when the writer is made is set aside, as
    ``damaged-7``. Of several processes, one has a writer, and saves what is on its own devices.

    Raises `UsageError` if the folder cannot be written, has a newer format, or holds the checkpoints of another run.
    """

    def __init__(
        self,
        folder: str | Path,
        config: Mapping[str, object],
        best: str,
        report: Callable[[str], object] = print,
        pause: float = 0.0,
    ) -> None:
        # Before the links are resolved.
        check_links(Path(folder))
        self.folder = Path(folder).resolve()
        self.best = best
        self._config = dict(config)
        self._report = report
        self._pending: Saving | None = None
        self._failed = False
        self._pause = pause
        self._saved_at = -math.inf
        self._held: dict[int, _Held] = {}

        retention.check_owner(self.folder, config)
        retention.set_damaged_aside(self.folder, config, report)
        self._policy = retention.KeepLastTwoAndBest(self.folder, records.deciding_values(self.folder))
        if self.folder.is_dir():
            try:
                root = records.root_of(self.folder)
                # Somebody may have copied the file of another run here.
                if root["config"].get(RUN_ID) != config.get(RUN_ID):
                    raise DamagedError(f"{self.folder}", ["the configuration is of another run"])
            except DamagedError:
                # Orbax writes the root once, and never over a damaged one.
                shutil.rmtree(self.folder / "metadata", ignore_errors=True)
        # Left behind by a process that was killed.
        for probe in self.folder.glob(f"{PROBE}*"):
            shutil.rmtree(probe, ignore_errors=True)

        logging.getLogger("absl").addFilter(_not_from_orbax)
        open_folder = partial(
            ocp.training.Checkpointer,
            str(self.folder),
            cleanup_tmp_directories=True,
            preservation_policy=self._policy,
            custom_metadata=sealed.seal(config=self._config),
        )
        with folder_made_by_us():
            self._checkpointer = _write(self.folder, open_folder)

    def save(self, epoch: int, state: Tree, metrics: Mapping[str, float], log_sha256: str | None = None) -> None:
        """Start to save the state of an epoch, or hold it in memory, and return; replaces a checkpoint of the same epoch.

        The state may be donated right afterwards. `log_sha256` is that of the log up to this epoch, sealed with it. First
        waits for the save before it, and raises `UsageError` if that one could not be written. Raises `ValueError` if
        `metrics` lack the one that decides which epoch is best.
        """
        if self.best not in metrics:
            raise ValueError(f"the metrics of epoch {epoch} lack {self.best}, they are {', '.join(metrics) or 'none'}")
        if self._failed:
            self._finish_pending()

        values = {name: float(value) for name, value in metrics.items()}
        self._policy.add(epoch, values[self.best])
        best_epoch = self._policy.best_epoch()
        now = time.monotonic()
        if now - self._saved_at < self._pause and _bytes(state) <= MOST_HELD:
            # Copied, because the next epoch is computed in place.
            copied = jax.tree.map(lambda leaf: leaf.copy(), state)
            self._held[epoch] = _Held(epoch, copied, values, best_epoch, log_sha256)
            self._forget(epoch, best_epoch)
            return

        best = None if best_epoch is None else self._held.pop(best_epoch, None)
        if best is not None:
            self._start(best)
        self._start(_Held(epoch, state, values, best_epoch, log_sha256))
        self._forget(epoch, best_epoch)
        self._saved_at = now

    def _forget(self, epoch: int, best_epoch: int | None) -> None:
        """Drop the held states that are neither the best nor one of the last two."""
        for number in list(self._held):
            if number not in (best_epoch, epoch - 1, epoch):
                del self._held[number]

    def _start(self, held: _Held) -> None:
        """Start to save a state, after the save before it has ended."""
        self._finish_pending()
        leaves = list(fingerprints(held.state).values())
        facts = {
            RUN_ID: self._config.get(RUN_ID),
            records.BEST_EPOCH: held.best_epoch,
            records.LOG_SHA256: held.log_sha256,
        }
        # The name "step" is part of the format.
        record = sealed.seal(step=held.epoch, best=self.best, metrics=held.metrics, leaves=leaves, **facts)
        # Orbax refuses empty arrays.
        arrays: Any = {path: _storable(data_of(leaf)) for path, leaf in by_path(held.state).items() if leaf.size}

        _write(self.folder, self._probe)
        replaced = contextlib.ExitStack()
        replaced.enter_context(bytes_uncounted())
        try:
            start = partial(
                self._checkpointer.save_async,
                held.epoch,
                arrays,
                overwrite=True,
                force=True,
                custom_metadata=record,
            )
            pending = _write(self.folder, start)
        except BaseException:
            replaced.close()
            raise
        self._pending = pending
        threading.Thread(target=self._watch, args=(held.epoch, pending, replaced), daemon=True).start()

    def wait(self) -> None:
        """Wait until the best epoch and the last two are on disk; raises `UsageError` if one could not be written."""
        for number in sorted(self._held):
            self._start(self._held.pop(number))
        self._finish_pending()

    def _finish_pending(self) -> None:
        """Wait for the save in the background; raises `UsageError` if it failed."""
        pending = self._pending
        self._pending = None
        self._failed = False
        if pending is not None:
            _write(self.folder, pending.result)
            retention.remove_marks(self.folder)

    def close(self) -> None:
        """Wait for the last save and release the folder; raises as `wait` does."""
        try:
            self.wait()
        finally:
            # A failure of the save was raised by `wait`; closing would only repeat it.
            attempt(self._checkpointer.close)
            wait_for_threads()
            logging.getLogger("absl").removeFilter(_not_from_orbax)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if error is None:
            self.close()
            return
        # The error that ended the block says more than one of its last save.
        with contextlib.suppress(UsageError):
            self.close()

    def _watch(self, epoch: int, pending: Saving, replaced: contextlib.ExitStack) -> None:
        """Report a failure of a save at once; `wait` raises it, which may be an epoch later."""
        with replaced:
            try:
                pending.result()
            except Exception as error:
                self._failed = True
                cause = records.root_cause(error)
                self._report(f"epoch {epoch} could not be saved ({cause}): stopping after this epoch")

    def _probe(self) -> None:
        """Raise at once where Orbax, unable to make its folder, would leave threads that delay the exit by minutes."""
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=PROBE) as probe:
            (Path(probe) / "probe").write_bytes(bytes(4096))


def _not_from_orbax(record: logging.LogRecord) -> bool:
    """Drop the log lines of Orbax, whose background threads print pages about a failure that `wait` raises."""
    return "orbax" not in record.pathname


def _write(folder: Path, call: Callable[[], Result]) -> Result:
    outcome = attempt(call)
    if outcome.failure:
        raise UsageError(f"cannot write a checkpoint to {folder} ({outcome.failure}); earlier epochs there are intact")
    return outcome.result  # pyrefly: ignore[bad-return]


def _storable(leaf: jax.Array) -> jax.Array | np.ndarray:
    """Return a leaf as Orbax takes it: of several processes, it refuses what is on the devices of one."""
    if jax.process_count() > 1:
        return np.array(leaf)
    return leaf


def _bytes(state: Tree) -> int:
    return sum(data_of(leaf).nbytes for leaf in jax.tree.leaves(state))
