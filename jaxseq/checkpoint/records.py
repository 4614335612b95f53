"""The records beside the arrays: configuration, metrics and fingerprints, sealed, and read without Orbax."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxseq.checkpoint import choice
from jaxseq.checkpoint.leaves import Leaf
from jaxseq.common import formats
from jaxseq.common.errors import UsageError


class DamagedError(UsageError):
    """Stored data that differ from what was saved; `reasons` has one line for each damaged leaf or file."""

    def __init__(self, where: str, reasons: list[str]) -> None:
        more = f"; and {len(reasons) - 1} more" if len(reasons) > 1 else ""
        super().__init__(f"damaged ({reasons[0]}{more})", where=where)
        self.reasons = reasons


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


def digest(record: Mapping[str, Any]) -> str:
    """Return the sha256 of a record as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def seal(**record: Any) -> dict[str, Any]:
    """Return a record, as JSON holds it, with the format number and its own sha256."""
    # JSON turns tuples into lists, and the digest has to be that of what is read again.
    sealed = json.loads(json.dumps(formats.stamped(record)))
    return {**sealed, "sha256": digest(sealed)}


def unseal(file: Path, where: str) -> dict[str, Any]:
    """Read the record in a file of Orbax, without its format number and sha256.

    Orbax itself would open every array for it. Raises `DamagedError` for a broken seal, `UsageError` for a newer format
    and for a file that may not be read; `where` names the record.
    """
    try:
        record = dict(json.loads(file.read_bytes())["custom_metadata"])
        sound = record.pop("sha256") == digest(record)
    except PermissionError as error:
        raise UsageError(f"cannot be read ({root_cause(error)})", where=where) from None
    except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise DamagedError(where, [f"{file.name}: {root_cause(error)}"]) from None

    # The seal is checked before the format: the number may be what is damaged.
    if not sound:
        raise DamagedError(where, [f"{file.name}: sha256 differs"])
    return formats.unstamped(record, where)


def epochs(folder: str | Path) -> list[int]:
    """Return the epochs with a checkpoint in a folder, sound or not, ascending; empty if there is no such folder."""
    path = Path(folder).expanduser()
    if not path.is_dir():
        return []
    return sorted(int(entry.name) for entry in path.iterdir() if entry.name.isdecimal())


def latest_epoch(folder: str | Path) -> int | None:
    """Return the newest epoch; None if there is none."""
    return max(epochs(folder), default=None)


def best_epoch(folder: str | Path) -> int | None:
    """Return the epoch with the smallest value of the metric that its writer named.

    None if no epoch has a readable record.
    """
    return choice.best_epoch(deciding_values(Path(folder)))


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
    return unseal(folder / "metadata" / "_ROOT_METADATA", f"the configuration in {folder}")


def record_of(folder: Path, epoch: int) -> dict[str, Any]:
    """Return the record of an epoch.

    Raises `UsageError` if there is no such epoch, `DamagedError` if the record is damaged.
    """
    available = epochs(folder)
    if epoch not in available:
        listing = ", ".join(map(str, available))
        needed = f"one of {listing}" if available else "an epoch, and there are none"
        raise UsageError("no checkpoint of this epoch", where=folder, got=epoch, needed=needed)
    return unseal(folder / str(epoch) / "_CHECKPOINT_METADATA", place(folder, epoch))


def deciding_values(folder: Path) -> dict[int, float]:
    """Return the metric that decides which epoch is best, of every epoch with a readable record."""
    values = {}
    for epoch in epochs(folder):
        # A sealed record without metrics was not written for an epoch.
        with contextlib.suppress(DamagedError, KeyError):
            record = record_of(folder, epoch)
            values[epoch] = record["metrics"][record["best"]]
    return values
