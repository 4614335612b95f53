"""The records beside the arrays: configuration, metrics and fingerprints, sealed, and read without Orbax."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jaxseq.checkpoint import choice
from jaxseq.common import checks, files, formats, sealed
from jaxseq.common.errors import UsageError
from jaxseq.common.sealed import RUN_ID, DamagedError

BEST_EPOCH = "best_epoch"
"""Key, in an epoch's record, of the best epoch so far."""
LOG_SHA256 = "log_sha256"
"""Key, in an epoch's record, of the hash of the log up to this epoch."""

EPOCH_RECORD = "_CHECKPOINT_METADATA"
"""File, in the folder of an epoch, of its record."""
DAMAGED = "damaged-"
"""Start of the name of the folder that a damaged checkpoint is set aside as."""


class Leaf(NamedTuple):
    """The description of a leaf without its values; the dtype of a typed PRNG key is ``key<threefry2x32>``."""

    path: str
    shape: tuple[int, ...]
    dtype: str
    sha256: str


def root_cause(error: BaseException) -> str:
    """Return the first line of the error at the bottom of a chain of exceptions; of a long line, its two ends."""
    # The message of an OSError names the file; what lies below it is of the file system's library.
    while not isinstance(error, OSError):
        below = error.__cause__ or error.__context__
        if below is None:
            break
        error = below

    lines = str(error).strip().splitlines() or [""]
    message = lines[0]
    if len(message) > 300:
        message = f"{message[:150]} ... {message[-150:]}"
    return f"{type(error).__name__}: {message}"


def place(folder: str | Path, epoch: int) -> str:
    """Return the name of an epoch's checkpoint in messages."""
    return f"epoch {epoch} of {folder}"


def _record_in(file: Path, where: str) -> dict[str, Any]:
    """Read the sealed record in a file of Orbax.

    Orbax itself would open every array for it. Raises `DamagedError` for a broken seal, `UsageError` for a newer format
    and for a file that may not be read; `where` names the record.
    """
    try:
        files.check_size(file, files.MOST_JSON)
        record = dict(json.loads(file.read_bytes())["custom_metadata"])
        return {**sealed.unseal(record, where, file.name), formats.KEY: formats.number_of(record)}
    except UsageError:
        raise
    except PermissionError as error:
        raise UsageError(f"cannot be read ({root_cause(error)})", where=where) from None
    except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise DamagedError(where, [f"{file.name}: {root_cause(error)}"]) from None


def epochs(folder: str | Path) -> list[int]:
    """Return the epochs with a checkpoint in a folder, sound or not, ascending; empty if there is no such folder."""
    path = Path(folder)
    if not path.is_dir():
        return []
    return sorted(int(entry.name) for entry in path.iterdir() if entry.name.isdecimal())


def latest_epoch(folder: str | Path) -> int | None:
    """Return the newest epoch; None if there is none."""
    return max(epochs(folder), default=None)


def best_epoch(folder: str | Path) -> int | None:
    """Return the epoch with the smallest value of the metric that its writer named, by the newest epoch's record.

    None if there are no epochs. Raises `DamagedError` if the record of the newest or of the best epoch is damaged, or if
    the best epoch is gone: another one must not silently stand in for it.
    """
    path = Path(folder)
    newest = latest_epoch(path)
    if newest is None:
        return None
    return best_until(path, newest)


def best_until(folder: Path, epoch: int) -> int:
    """Return the best epoch up to one; raises as `best_epoch` does, and `DamagedError` if another run saved that one."""
    record = record_of(folder, epoch)
    best = record.get(BEST_EPOCH)
    if best is None:
        # Records before format 3 do not name it: it is among the epochs that are left, if all of them can be read.
        until = [number for number in epochs(folder) if number <= epoch]
        for number in until:
            record_of(folder, number)
        values = deciding_values(folder)
        best = choice.best_epoch({number: values[number] for number in until if number in values}) or epoch
    if best not in epochs(folder):
        raise DamagedError(place(folder, best), ["the best epoch is missing"])
    # Another run's would name an epoch by its own metrics.
    if record_of(folder, best).get(RUN_ID) != record.get(RUN_ID):
        raise DamagedError(place(folder, epoch), [f"it belongs to another run than the best epoch, {best}"])
    return best


def later_best(folder: Path, epoch: int, run_id: str | None) -> int | None:
    """Return a later epoch of a run that was better than all up to `epoch`; None if no record that is left names one.

    The record of an epoch whose arrays are damaged counts, also of one that was set aside.
    """
    names = [path.name.removeprefix(DAMAGED) for path in folder.iterdir()]
    later = [int(name) for name in names if name.isdecimal() and int(name) > epoch]
    for number in sorted(set(later), reverse=True):
        for name in (f"{number}", f"{DAMAGED}{number}"):
            with contextlib.suppress(UsageError):
                record = _record_in(folder / name / EPOCH_RECORD, place(folder, number))
                best = record.get(BEST_EPOCH)
                if record.get(RUN_ID) == run_id and best is not None and best > epoch:
                    return best
    return None


def metrics(folder: str | Path, epoch: int) -> dict[str, float]:
    """Return the metrics that were saved with an epoch, without loading its arrays.

    Raises `UsageError` if there is no such epoch, `DamagedError` if its record is damaged.
    """
    return record_of(Path(folder), epoch)["metrics"]


def saved_leaves(folder: str | Path, epoch: int) -> dict[str, Leaf]:
    """Return the shape, dtype and sha256 of every leaf as saved, by path; raises as `metrics` does."""
    return {
        path: Leaf(path, tuple(shape), dtype, sha256)
        for path, shape, dtype, sha256 in record_of(Path(folder), epoch)["leaves"]
    }


def config(folder: str | Path) -> dict[str, Any]:
    """Return the configuration that was stored with the folder when it was new.

    Raises `UsageError` if there is no such folder or its format is newer, `DamagedError` if it cannot be read.
    """
    return root_of(Path(folder))["config"]


def sealed_config(folder: Path) -> dict[str, Any]:
    """Return the configuration as `config` does; empty if there is none yet or if it is damaged."""
    if not folder.is_dir():
        return {}
    try:
        return config(folder)
    # Every epoch has a record of its own, so that a run can go on; `verify` reports the damage.
    except DamagedError:
        return {}


def root_of(folder: Path) -> dict[str, Any]:
    """Return the record of a folder of checkpoints; raises as `config` does."""
    if not folder.is_dir():
        raise UsageError("no such folder", where=folder)
    return _record_in(folder / "metadata" / "_ROOT_METADATA", f"the configuration in {folder}")


def record_of(folder: Path, epoch: int) -> dict[str, Any]:
    """Return the record of an epoch.

    Raises `UsageError` if there is no such epoch, `DamagedError` if the record is damaged.
    """
    available = epochs(folder)
    # True and 1.0 are equal to 1, and name no folder.
    if not checks.is_integer(epoch) or epoch not in available:
        listing = ", ".join(map(str, available))
        needed = f"one of {listing}" if available else "an epoch, and there are none"
        raise UsageError("no checkpoint of this epoch", where=folder, got=epoch, needed=needed)
    where = place(folder, epoch)
    record = _record_in(folder / str(epoch) / EPOCH_RECORD, where)
    # A folder that was renamed would resume from another epoch than its name says.
    if record.get("step", epoch) != epoch:
        raise DamagedError(where, [f"the folder holds epoch {record['step']}"])
    return record


def check_run(folder: Path, epoch: int, config: Mapping[str, object]) -> None:
    """Raise `DamagedError` unless an epoch was saved by the run of a configuration; runs before format 3 have no identity.

    Raises as `metrics` does, too.
    """
    if record_of(folder, epoch).get(RUN_ID) != config.get(RUN_ID):
        raise DamagedError(place(folder, epoch), ["it belongs to another run than config.json"])


def state_sha256(folder: Path, epoch: int) -> str:
    """Return a sha256 over the fingerprints of all leaves of an epoch; raises as `metrics` does."""
    return sealed.digest({"leaves": record_of(folder, epoch)["leaves"]})


def format_of(folder: str | Path, epoch: int) -> int:
    """Return the number of the format that an epoch was saved in; raises as `metrics` does."""
    return record_of(Path(folder), epoch)[formats.KEY]


def log_sha256(folder: Path, epoch: int) -> str | None:
    """Return the sha256 of the log up to an epoch; None if its writer was given none. Raises as `metrics` does."""
    return record_of(folder, epoch).get(LOG_SHA256)


def remove_after(folder: Path, epoch: int) -> None:
    """Remove the checkpoints of later epochs, sound or not. Raises `UsageError` if that cannot be done."""
    for number in reversed(epochs(folder)):
        if number > epoch:
            try:
                shutil.rmtree(folder / str(number))
            except OSError as error:
                raise UsageError(f"cannot be removed: {error.strerror or error}", where=folder / str(number)) from error


def deciding_values(folder: Path) -> dict[int, float]:
    """Return the metric that decides which epoch is best, of every epoch with a readable record."""
    values = {}
    for epoch in epochs(folder):
        # A sealed record without metrics was not written for an epoch.
        with contextlib.suppress(DamagedError, KeyError):
            record = record_of(folder, epoch)
            values[epoch] = record["metrics"][record["best"]]
    return values
