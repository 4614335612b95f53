"""Steps of a run saved in the background: which stay, which go, and what a failure or a kill leaves behind."""

from __future__ import annotations

import contextlib
import logging
import math
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import checkpoint_manager
from orbax.checkpoint import v1 as ocp
from orbax.checkpoint._src.serialization import tensorstore_utils

from jaxseq.checkpoint import choice, records, store
from jaxseq.checkpoint.leaves import by_path, data_of, fingerprints
from jaxseq.checkpoint.records import DamagedError
from jaxseq.common.arrays import Tree
from jaxseq.common.errors import UsageError

PROBE, CLEARING = "probe-", "clearing-"
"""What the names of a trial file's folder and of the mark beside a step that goes begin with."""

# Orbax logs the bytes of every save, and tensorstore never frees what it answers when it is asked for them: some twenty
# kilobytes an epoch, for ever. Nobody reads that log line.
tensorstore_utils.get_tensorstore_raw_bytes = lambda *_, **__: 0


# Where one of several processes saves, Orbax refuses to make its folder; v1 has no option to leave that to its user.
_orbax_makes_folder = checkpoint_manager._create_root_directory


def _make_folder(directory: Any, multiprocessing_options: Any, file_options: Any = None) -> None:
    if multiprocessing_options.active_processes is None:
        _orbax_makes_folder(directory, multiprocessing_options, file_options)
    else:
        Path(directory).mkdir(parents=True, exist_ok=True)


checkpoint_manager._create_root_directory = _make_folder


def _not_orbax(record: logging.LogRecord) -> bool:
    """Passes log lines but those of Orbax, whose background threads print pages about a failure that `wait` raises."""
    return "orbax" not in record.pathname


def _write(folder: Path, call: Callable[[], Any]) -> Any:
    result, failure = store.ask(call)
    if failure:
        raise UsageError(f"cannot write a checkpoint to {folder} ({failure}); earlier steps there are intact")
    return result


def _storable(leaf: jax.Array) -> Any:
    """Of several processes, Orbax refuses what is on the devices of one; so it gets a copy in host memory."""
    return leaf if jax.process_count() == 1 else np.array(leaf)


class _Keep:
    """Preserves the last two steps and the best; steps after the one just saved wait until they are saved again.

    A step that goes has a mark beside it until it is gone: half a step that a killed process leaves is then known for
    what it is.
    """

    def __init__(self, folder: Path, values: dict[int, float]) -> None:
        self.folder, self.values, self.newest = folder, values, -1

    def should_preserve(self, checkpoints: Any, *, context: Any) -> list[bool]:
        past = sorted(info.step for info in checkpoints if info.step <= self.newest)
        best = choice.best_epoch({step: self.values.get(step, math.inf) for step in past})
        kept = {*past[-2:], best} - {None}
        for step in set(past) - kept:
            with contextlib.suppress(OSError):  # without it, half a step would be set aside as damaged
                (self.folder / f"{CLEARING}{step}").touch()
        return [info.step in kept or info.step > self.newest for info in checkpoints]


class Writer:
    """Saves steps of a run in the background; use it in a `with` block.

    `folder` is created if needed; `config` (anything that JSON can hold) is stored with it once, when it is new;
    `best` names the metric whose smallest value marks the best step. Kept are the last two steps and the best; a step
    that is damaged when the writer is made is set aside, as `damaged-7`, and `report` is told of it; so it is, from another
    thread, of a save that fails in the background. Of several processes, one has a writer, and saves what is on its own
    devices.
    Raises `UsageError` if the folder cannot be written or has a newer format.
    """

    def __init__(
        self, folder: str | Path, config: Mapping[str, Any], best: str, report: Callable[[str], object] = print
    ) -> None:
        self.folder, self.best, self._report = Path(folder).expanduser().resolve(), best, report
        self._pending: Any = None
        _set_damaged_aside(self.folder, report)
        self._keep = _Keep(self.folder, records.deciding_values(self.folder))
        if self.folder.is_dir():
            try:
                records.root_of(self.folder)
            except DamagedError:  # Orbax writes the root once, and never again over a damaged one
                shutil.rmtree(self.folder / "metadata", ignore_errors=True)
        for left in self.folder.glob(f"{PROBE}*"):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        logging.getLogger("absl").addFilter(_not_orbax)
        options = {"preservation_policy": self._keep, "custom_metadata": records.seal(config=dict(config))}
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
        record = records.seal(step=step, best=self.best, metrics=values, leaves=list(fingerprints(state).values()))
        arrays = {
            path: _storable(data_of(leaf)) for path, leaf in by_path(state).items() if leaf.size
        }  # Orbax refuses empty arrays
        self._keep.values[step], self._keep.newest = values[self.best], step
        save = partial(self._checkpointer.save_async, overwrite=True, force=True, custom_metadata=record)
        _write(self.folder, self._probe)
        self._pending = pending = _write(self.folder, lambda: save(step, arrays))
        threading.Thread(target=self._watch, args=(step, pending), daemon=True).start()

    def _watch(self, step: int, pending: Any) -> None:
        """Tells of a failure at once; `wait` raises it, which may be an epoch later."""
        try:
            pending.result()
        except Exception as error:
            self._report(f"epoch {step} could not be saved ({records.root_cause(error)}): stopping after this epoch")

    def _probe(self) -> None:
        """Fails at once where Orbax, unable to make its folder, would leave threads that hold up the exit for minutes."""
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=PROBE) as probe:
            (Path(probe) / "probe").write_bytes(bytes(4096))

    def wait(self) -> None:
        """Waits until the last save is on disk; raises `UsageError` if it could not be written."""
        pending, self._pending = self._pending, None
        if pending is not None:
            _write(self.folder, pending.result)
            _unmark(self.folder)

    def close(self) -> None:
        """Waits for the last save and lets go of the folder; raises as `wait` does."""
        try:
            self.wait()
        finally:
            store.ask(self._checkpointer.close)  # a failure of the save was raised by wait
            logging.getLogger("absl").removeFilter(_not_orbax)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if error is None:
            self.close()
        else:
            with contextlib.suppress(UsageError):  # the error on its way out says more
                self.close()


def was_going(folder: Path, step: int) -> bool:
    """Whether a step was being cleared away when its process ended; it may be whole, half there, or gone."""
    return (folder / f"{CLEARING}{step}").exists()


def _unmark(folder: Path) -> None:
    for mark in folder.glob(f"{CLEARING}*"):
        with contextlib.suppress(OSError):  # where nothing may be written, a save will say so
            mark.unlink()


def _set_damaged_aside(folder: Path, report: Callable[[str], object]) -> None:
    """Rename the steps that are damaged: some of them Orbax would refuse to begin with, and none of them may be best. What
    is left of one that was being cleared away is cleared away."""
    for step in records.epochs(folder):
        if not store.damage(folder, step):
            continue
        if was_going(folder, step):
            shutil.rmtree(folder / str(step), ignore_errors=True)
            continue
        aside = folder / f"damaged-{step}"
        try:
            shutil.rmtree(aside, ignore_errors=True)
            (folder / str(step)).rename(aside)
        except OSError as error:
            raise UsageError(f"cannot write {aside}: {error.strerror or error}") from error
        report(f"step {step} of {folder} is damaged: set aside as {aside.name}")
    _unmark(folder)
