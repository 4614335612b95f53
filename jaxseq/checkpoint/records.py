"""What lies beside the arrays: sealed records of configuration, metrics and fingerprints, read without Orbax."""

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
    """What is stored is not what was saved: `what` is damaged, for `reasons`, one for each leaf or file."""

    def __init__(self, what: str, reasons: list[str]) -> None:
        more = f"; and {len(reasons) - 1} more" if len(reasons) > 1 else ""
        super().__init__(f"{what} is damaged ({reasons[0]}{more})")
        self.reasons = reasons


def root_cause(error: BaseException) -> str:
    """The first line of what went wrong at the bottom of a chain of exceptions; of a long one, its two ends."""
    while (below := error.__cause__ or error.__context__) is not None and not isinstance(error, OSError):
        error = below
    lines = str(error).strip().splitlines()
    said = lines[0] if lines else ""
    return f"{type(error).__name__}: {said if len(said) <= 300 else f'{said[:150]} ... {said[-150:]}'}"


def _digest(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def seal(**record: Any) -> dict[str, Any]:
    """A record with the format number and its own sha256, as JSON keeps it."""
    record = json.loads(json.dumps(formats.stamped(record)))
    return {**record, "sha256": _digest(record)}


def unseal(file: Path, what: str) -> dict[str, Any]:
    """The record that Orbax keeps in one of its files, which it would not read without opening every array as well.

    It comes as today's format has it. Raises DamagedError if the seal is broken, UsageError if the format is newer.
    """
    try:
        record = dict(json.loads(file.read_bytes())["custom_metadata"])
        sound = record.pop("sha256") == _digest(record)
    except PermissionError as error:
        raise UsageError(f"{what} cannot be read ({root_cause(error)})") from None
    except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise DamagedError(what, [f"{file.name}: {root_cause(error)}"]) from None
    if not sound:  # even if it says that it is newer: the number may be what is damaged
        raise DamagedError(what, [f"{file.name}: sha256 differs"])
    return formats.migrated("checkpoint", record, what)


def epochs(folder: str | Path) -> list[int]:
    """The steps that are in a folder, ascending, sound or not; none if there is no such folder."""
    folder = Path(folder).expanduser()
    return sorted(int(entry.name) for entry in folder.iterdir() if entry.name.isdecimal()) if folder.is_dir() else []


def latest_epoch(folder: str | Path) -> int | None:
    """The newest step, None if there is none."""
    return max(epochs(folder), default=None)


def best_epoch(folder: str | Path) -> int | None:
    """The step with the smallest value of the metric that its writer named; None if no step has a readable record."""
    return choice.best_epoch(deciding_values(Path(folder)))


def metrics(folder: str | Path, step: int) -> dict[str, float]:
    """The metrics that were saved with a step, without loading it; raises `DamagedError` if its record is damaged."""
    return record_of(Path(folder), step)["metrics"]


def saved_leaves(folder: str | Path, step: int) -> dict[str, Leaf]:
    """The shape, dtype and sha256 of every leaf as it was saved, without loading it; raises as `metrics` does."""
    return {
        path: Leaf(path, tuple(shape), dtype, sha256)
        for path, shape, dtype, sha256 in record_of(Path(folder), step)["leaves"]
    }


def config(folder: str | Path) -> dict[str, Any]:
    """The configuration that was stored with the folder when it was new.

    Raises `UsageError` if there is no such folder or its format is newer, `DamagedError` if it cannot be read.
    """
    return root_of(Path(folder))["config"]


def sealed_config(folder: Path) -> dict[str, Any]:
    """As `config`; empty if nothing is stored there yet, or if it is damaged, which `verify` tells."""
    try:
        return config(folder) if folder.is_dir() else {}
    except DamagedError:
        return {}


def root_of(folder: Path) -> dict[str, Any]:
    """The record of a folder of checkpoints; raises as `config` does."""
    if not folder.is_dir():
        raise UsageError(f"{folder} does not exist")
    return unseal(folder / "metadata" / "_ROOT_METADATA", f"the configuration in {folder}")


def record_of(folder: Path, step: int) -> dict[str, Any]:
    """The record of a step; raises `UsageError` if there is no such step, `DamagedError` if it cannot be believed."""
    if step not in (there := epochs(folder)):
        raise UsageError(f"no step {step} in {folder}, there {_listing(there)}")
    return unseal(folder / str(step) / "_CHECKPOINT_METADATA", f"step {step} of {folder}")


def _listing(there: list[int]) -> str:
    return f"are the steps {', '.join(map(str, there))}" if there else "are none"


def deciding_values(folder: Path) -> dict[int, float]:
    """What decides which step is best, for every step with a readable record."""
    values = {}
    for step in epochs(folder):
        with contextlib.suppress(DamagedError, KeyError):  # a sealed record without them is no record of a step
            record = record_of(folder, step)
            values[step] = record["metrics"][record["best"]]
    return values
