"""The folder of a run: its name, its files, and how they are written and read."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

from jaxseq import __version__
from jaxseq.checkpoint import choice, records, run_seal
from jaxseq.common import lock, sealed
from jaxseq.common.errors import UsageError
from jaxseq.common.files import (
    TEMPORARY,
    cannot_write,
    numbered_folder,
    open_to_append,
    write_text,
)
from jaxseq.common.text import counted, printable
from jaxseq.train.schedules import RATES

RUNS = Path("runs")
NOT_FINITE = "training is no longer finite"
"""Beginning of the message of a run that ended because its loss or a gradient was not finite."""
MAY_CHANGE = ("epochs", "patience", "min_gain", "gain_epochs", "min_epochs", "on_nonfinite")
"""Fields that may differ when a run resumes: how long it trains, and what it does where it stopped. With any other
change it would be another run."""
LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "pandas")

Row: TypeAlias = dict[str, int | float]
"""The metrics of one epoch: numbers by name, among them `epoch` and `step` as integers."""


# The folder ------------------------------------------------------------------------------------------------------------


def create(name: str, out: Path | None) -> Path:
    """Make an empty folder: `out`, or the next number of the experiment in `runs/`, say ``runs/aapl-0001``.

    Raises `UsageError` if `out` exists and is not empty, or if the folder cannot be written.
    """
    try:
        if out is None:
            return numbered_folder(RUNS, name)
        check_writable(out)
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_writable(out or RUNS, error.strerror or f"{error}") from error
    return out


def check_writable(out: Path | None) -> None:
    """Raise the error that `create` would raise, before any work is done. Writes nothing."""
    target = (out or RUNS).absolute()
    try:
        if out is not None and out.is_dir():
            lock.check(out)
            check_empty(out)
        nearest = next(path for path in [target, *target.parents] if path.exists())
    except OSError as error:
        raise _not_writable(out or RUNS, error.strerror or f"{error}") from error
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise _not_writable(out or RUNS, f"{nearest} is not a writable folder")


def _not_writable(folder: Path, reason: str) -> UsageError:
    return UsageError(f"cannot write a run into this folder: {reason}", where=folder)


def check_empty(out: Path) -> None:
    """Raise `UsageError` if a folder holds more than a lock and temporary files of an interrupted start."""
    if os.path.lexists(out / run_seal.CHECKPOINTS) and not (out / run_seal.CONFIG).is_file():
        raise UsageError(
            f"holds a run whose {run_seal.CONFIG} is missing or no file", where=out, needed="another folder"
        )
    if not is_empty(out):
        raise UsageError(
            "the output folder is not empty",
            where=out,
            needed=f"another folder, or --resume {out} (fit.train: resume=True)",
        )


def is_empty(folder: Path) -> bool:
    """Return whether a folder holds no more than a lock and temporary files of an interrupted start.

    A run begins beside the record of how its preparation was chosen.
    """
    record = ()
    if (folder / run_seal.AUTO).is_file():
        record = (run_seal.AUTO, run_seal.AUTO_TABLE)
    names = [path.name for path in folder.iterdir() if path.name not in record]
    return all(lock.is_part(name) or TEMPORARY.fullmatch(name) for name in names)


def judged_with(folder: Path, names: Sequence[str]) -> bool:
    """Return whether the judgement of a run, or an earlier one of fewer epochs, has one of these files."""
    places = (folder, *folder.glob("judged-*"))
    return any((place / name).exists() for place in places for name in names)


def has_recipe(folder: Path, recipe: str, summary: str) -> bool:
    """Return whether a folder of runs has the file of its recipe, sound or not.

    Raises `UsageError` if the file is missing beside what is written after it: the summary, a journal, the runs.
    """
    if os.path.lexists(folder / recipe):
        return True
    later_files = [folder / summary, folder / run_seal.SEARCH_LOG, *sorted(folder.glob(f"*/{run_seal.CONFIG}"))]
    for path in later_files:
        if os.path.lexists(path):
            rule = f"it is missing beside {printable(str(path.relative_to(folder)))}"
            raise UsageError(rule, where=folder / recipe, needed="the file, or another --out")
    return False


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files that an interrupted process left in a folder."""
    # They do no harm, so failing to remove them is not an error.
    with suppress(OSError):
        leftovers = [path for path in folder.iterdir() if TEMPORARY.fullmatch(path.name)]
        for path in leftovers:
            # A folder of such a name is none of ours.
            with suppress(OSError):
                path.unlink()


# Config and environment ------------------------------------------------------------------------------------------------


def write_config(folder: Path, config: Mapping[str, object]) -> None:
    """Write `config.json`, sealed. A folder with this file is a run."""
    sealed.write(folder / run_seal.CONFIG, config)


def identity(config: Mapping[str, object]) -> str:
    """Return the identity of a run that begins with a config: its sha256 without what may change when it resumes.

    It is no random number: a run is what its recipe and its rows say.
    """
    may_change = set(MAY_CHANGE)
    # Of these schedules, the number of epochs decides about every step.
    if config.get("schedule") in RATES:
        may_change.remove("epochs")
    return sealed.digest({name: run_seal.unmoved(value) for name, value in config.items() if name not in may_change})


def read_config(folder: Path) -> dict[str, Any]:
    """Return the `config.json` of a run in the current format, without its number and seal.

    Raises `UsageError` if there is no such run, it cannot be read, or its format is newer, and `sealed.DamagedError` if
    it was changed since it was written.
    """
    path = folder / run_seal.CONFIG
    try:
        is_run = path.is_file()
        is_folder = folder.is_dir()
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=path) from error

    if not is_folder:
        raise UsageError(f"no run at {folder}: there is no such folder")
    if not is_run:
        runs = sorted(child.name for child in folder.iterdir() if (child / run_seal.CONFIG).is_file())
        # A study is a folder of runs.
        if runs:
            raise UsageError(
                f"{folder} holds {counted(len(runs), 'run')}: name one of them, such as {folder / runs[0]}"
            )
        raise UsageError(f"no run at {folder}: it has no {run_seal.CONFIG}")
    config = sealed.read(path)
    if not run_seal.has_seals(folder):
        _check_unsealed(folder, config)
    return config


def _check_unsealed(folder: Path, config: Mapping[str, object]) -> None:
    """Raise `DamagedError` for a config without a seal that differs from the sealed copy in the checkpoints.

    Raises nothing if there is no such copy, as in a run that has saved no epoch.
    """
    begun = records.sealed_config(folder / run_seal.CHECKPOINTS)
    if sealed.RUN_ID in begun:
        raise sealed.DamagedError(f"{folder / run_seal.CONFIG}", ["its seal is missing"])
    for name, value in begun.items():
        if name in MAY_CHANGE or name not in config:
            continue
        if run_seal.unmoved(config[name]) != run_seal.unmoved(value):
            raise sealed.DamagedError(f"{folder / run_seal.CONFIG}", [f"{name} was changed since the run began"])


def write_environment(folder: Path, devices: str) -> None:
    """Write `environment.json`, sealed: versions, machine and source of this process; `devices` describes the mesh."""
    sealed.write(folder / run_seal.ENVIRONMENT, environment(devices))


def keep_environment(folder: Path, devices: str) -> None:
    """Write `environment.json` if it is missing or damaged: the process that began the run was killed before, say."""
    try:
        sealed.read(folder / run_seal.ENVIRONMENT)
    except UsageError:
        write_environment(folder, devices)


def environment(devices: str) -> dict[str, Any]:
    """Return versions, machine and source of this process; `devices` describes the mesh."""
    return {
        "jaxseq": __version__,
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "devices": devices,
        "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
    }


def _git_commit() -> str | None:
    """Return the commit of this package's checkout, with a + if it has changes; None outside a checkout."""
    package = Path(__file__).parents[1]

    def git(*words: str) -> str:
        command = ["git", "-C", str(package), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        # An installed package may lie in a checkout of something else, which does not track it.
        git("ls-files", "--error-unmatch", "__init__.py")
        commit = git("rev-parse", "HEAD")
        changes = git("status", "--porcelain", "--", ".")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}+" if changes else commit


# Metrics ---------------------------------------------------------------------------------------------------------------


def append_metrics(folder: Path, row: Row) -> None:
    """Append an epoch's row to `metrics.jsonl` and sync it to disk. Raises `UsageError` if it cannot be written."""
    path = folder / run_seal.METRICS
    try:
        with open_to_append(path) as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise cannot_write(path, error) from error


def read_metrics(folder: Path) -> list[Row]:
    """Return the rows of `metrics.jsonl`, one for each epoch; an incomplete last line is ignored.

    Raises `UsageError` if the file cannot be read, and with file and line for any other line that is no row of numbers.
    """
    path = folder / run_seal.METRICS
    if not path.is_file():
        return []
    lines = run_seal.log_content(path).decode(errors="replace").splitlines(keepends=True)

    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(_parsed_row(line))
        except (ValueError, RecursionError) as error:
            # A kill may cut off the last line. Its epoch has no checkpoint yet and is trained again.
            if number == len(lines) and not line.endswith("\n"):
                break
            raise UsageError(f"{error}", where=f"{path}, line {number}") from error
    return rows


def _parsed_row(line: str) -> Row:
    """Parse a line of `metrics.jsonl`. Raises `ValueError` unless it is an object of numbers with an epoch."""
    row = json.loads(line)
    if not isinstance(row, dict) or type(row.get("epoch")) is not int:
        raise ValueError("no object with an epoch")
    for name, value in row.items():
        # Not isinstance: JSON's true and false would count as integers.
        if type(value) not in (int, float):
            raise ValueError(f"{name} is no number")
    return row


def keep_metrics(folder: Path, last_epoch: int) -> list[Row]:
    """Drop the rows after an epoch, and return the others. The checkpoint of a resumed run may be older than its rows.

    Raises `UsageError` unless there is exactly one row for each epoch up to `last_epoch`, and `sealed.DamagedError` unless
    they are the rows that were there when that epoch was saved.
    """
    path = folder / run_seal.METRICS
    rows = [row for row in read_metrics(folder) if row["epoch"] <= last_epoch]
    epochs = [row["epoch"] for row in rows]
    if epochs != list(range(1, last_epoch + 1)):
        needed = f"the epochs 1 to {last_epoch}, once each"
        raise UsageError("epochs are missing or repeated", where=path, got=epochs, needed=needed)
    if last_epoch:
        run_seal.check_log(folder, last_epoch)

    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
    return rows


def best_row(rows: Iterable[Row], metric: str) -> Row:
    """Return the row of the best epoch by a metric. Raises `UsageError` if a row lacks the metric."""
    rows = list(rows)
    for row in rows:
        if metric not in row:
            raise UsageError(f"the metrics of epoch {row['epoch']} lack {metric}")

    best_epoch = choice.best_epoch({int(row["epoch"]): row[metric] for row in rows})
    return next(row for row in rows if row["epoch"] == best_epoch)
