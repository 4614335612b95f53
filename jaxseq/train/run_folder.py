"""A run's folder: its name and the files in it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jaxseq import __version__
from jaxseq.checkpoint import choice
from jaxseq.common import formats, lock
from jaxseq.common.errors import UsageError
from jaxseq.common.files import (
    TEMPORARY,
    cannot_write,
    check_size,
    numbered_folder,
    read_json,
    write_json,
    write_text,
)

RUNS = Path("runs")
CONFIG, ENVIRONMENT, METRICS, CHECKPOINTS = "config.json", "environment.json", "metrics.jsonl", "checkpoints"
REPORT, PREDICTIONS, SCORES, INTERVALS = "report.md", "predictions.csv", "scores.csv", "intervals.json"
LOSS_PLOT, FORECAST_PLOT, ERRORS_PLOT = "loss.png", "forecast.png", "errors.png"
LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "pandas")

MOST_METRICS = 256 * 2**20
"""Bytes of the largest `metrics.jsonl` that is read: a million epochs."""

Row = dict[str, Any]


def create(name: str, out: Path | None) -> Path:
    """A new empty folder: `out`, or the next number of the experiment below `runs/`, say ``runs/aapl-0001``.

    Raises `UsageError` if `out` is there and not empty, or if the folder cannot be written.
    """
    try:
        return numbered_folder(RUNS, name) if out is None else _named(out)
    except OSError as error:
        raise UsageError(f"cannot write a run into {out or RUNS}: {error.strerror or error}") from error


def check_writable(out: Path | None) -> None:
    """Raise now what `create` would raise, before any work is done; writes nothing."""
    try:
        if out is not None and out.is_dir():
            lock.check(out)
            check_empty(out)
        there = next(path for path in [(out or RUNS).absolute(), *(out or RUNS).absolute().parents] if path.exists())
    except OSError as error:
        raise UsageError(f"cannot write a run into {out or RUNS}: {error.strerror or error}") from error
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(f"cannot write a run into {out or RUNS}: {there} is no folder that you may write to")


def check_empty(out: Path) -> None:
    """Raise `UsageError` if a folder holds more than what a start that was killed may have left there."""
    if any(path.name != lock.NAME and not TEMPORARY.fullmatch(path.name) for path in out.iterdir()):
        raise UsageError(f"the output folder {out} is not empty: name another, or go on with it by --resume {out}")


def sweep(folder: Path) -> None:
    """Remove what a process that was killed left of the files that it was writing."""
    with suppress(OSError):  # it is in nobody's way
        for path in folder.iterdir():
            if TEMPORARY.fullmatch(path.name):
                path.unlink()


def _named(out: Path) -> Path:
    check_writable(out)
    out.mkdir(parents=True, exist_ok=True)
    return out


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Write `config.json`, which makes a folder a run, with the number of its format."""
    write_json(folder / CONFIG, formats.stamped(config))


def read_config(folder: Path) -> dict[str, Any]:
    """What `config.json` of a run says, as today's format has it, without its number.

    Raises `UsageError` if there is no such run, it cannot be read, or its format is newer.
    """
    path = folder / CONFIG
    try:
        there, room = path.is_file(), folder.is_dir()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    if not there:
        raise UsageError(f"no run at {folder}: {'it has no ' + CONFIG if room else 'there is no such folder'}")
    return formats.unstamped(read_json(path), str(path))


def environment(devices: str) -> dict[str, Any]:
    """Versions, machine and source that a run was made with; `devices` is the mesh in words."""
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
    """The commit of the checkout that this package lies in, with a + if it was changed; None outside a checkout."""
    package = Path(__file__).parents[1]

    def git(*words: str) -> str:
        command = ["git", "-C", str(package), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def append_metrics(folder: Path, row: Row) -> None:
    """Add one epoch's row to `metrics.jsonl`, through to the disk. Raises `UsageError` if it cannot be written."""
    try:
        with (folder / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise cannot_write(folder / METRICS, error) from error


def read_metrics(folder: Path) -> list[Row]:
    """The rows of `metrics.jsonl`, one an epoch; a last line that was cut off by a kill is left out.

    Raises `UsageError` naming file and line for any other line that is no row of numbers, or if it cannot be read.
    """
    path = folder / METRICS
    if not path.is_file():
        return []
    try:
        check_size(path, MOST_METRICS)
        lines = path.read_bytes().decode(errors="replace").splitlines(keepends=True)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            if not isinstance(row, dict) or type(row.get("epoch")) is not int:
                raise ValueError("no object with an epoch")
            if other := [name for name, value in row.items() if type(value) not in (int, float)]:
                raise ValueError(f"{other[0]} is no number")
            rows.append(row)
        except (ValueError, RecursionError) as error:
            # A kill may cut off the last line. Its epoch has no checkpoint yet and is trained again.
            if number == len(lines) and not line.endswith("\n"):
                break
            raise UsageError(f"{path}, line {number}: {error}") from error
    return rows


def keep_metrics(folder: Path, last_epoch: int) -> list[Row]:
    """Drop the rows after an epoch (a run goes on from a checkpoint older than its last row); returns what stays.

    Raises `UsageError` unless that is a row for each of the epochs up to it.
    """
    rows = [row for row in read_metrics(folder) if row["epoch"] <= last_epoch]
    if (there := [row["epoch"] for row in rows]) != list(range(1, last_epoch + 1)):
        raise UsageError(f"{folder / METRICS} should hold the epochs 1 to {last_epoch}, once each; it holds {there}")
    write_text(folder / METRICS, "".join(json.dumps(row) + "\n" for row in rows))
    return rows


def best_row(rows: Iterable[Row], metric: str) -> Row:
    """The epoch with the smallest value of a metric; the newest of equal ones. Raises `UsageError` if a row lacks it."""
    rows = list(rows)
    if lacking := [row["epoch"] for row in rows if metric not in row]:
        raise UsageError(f"the metrics of epoch {lacking[0]} lack {metric}")
    best_epoch = choice.best_epoch({row["epoch"]: row[metric] for row in rows})
    return next(row for row in rows if row["epoch"] == best_epoch)
