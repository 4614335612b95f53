"""The command line of the checkpoints: `python -m jaxseq.checkpoint show | verify | diff`."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.table import Table

from jaxseq.checkpoint import ensemble_seal, folder_seal, records, retention, run_seal, store
from jaxseq.checkpoint.records import Leaf
from jaxseq.common import command_line, sealed, written
from jaxseq.common.console import say, terminal
from jaxseq.common.errors import UsageError
from jaxseq.common.files import user_path
from jaxseq.common.sealed import DamagedError
from jaxseq.common.text import printable

PROGRAM = "python -m jaxseq.checkpoint"
RECIPES = {"study.json": ("study.csv", "study.md"), "sweep.json": ("sweep.csv", "sweep.md", run_seal.SEARCH_LOG)}
"""Recipes in folders of runs, and the files beside them that are written after them."""
REPORT_RUNS = "runs"
"""Name of the folder of the runs in that of a report."""
LEFT_COLUMNS = ("name", "axes", "shape", "dtype", "sha256", "bits")
"""Columns that are aligned left; numbers are aligned right."""


def show(run: Path, epoch: int | None = None, all_leaves: Annotated[bool, tyro.conf.arg(name="all")] = False) -> int:
    """Print the parameters of a checkpoint: axes, shape, count, mean, standard deviation, norm and hash of each.

    Args:
        run: Run folder, such as runs/aapl-0001, or its folder of checkpoints.
        epoch: Epoch to show; the newest by default.
        all_leaves: Also list the other arrays, such as those of the optimiser.
    """
    folder = _checkpoints(run)
    if epoch is None:
        epoch = records.epochs(folder)[-1]
    leaves = records.saved_leaves(folder, epoch)
    arrays = store.load_leaves(folder, epoch)
    config = records.config(folder)

    metrics = [f"{name} {value:.6g}" for name, value in records.metrics(folder, epoch).items()]
    say(", ".join([f"{config.get('experiment', folder)}: epoch {epoch}", *metrics]))
    epochs = ", ".join(map(str, records.epochs(folder)))
    say(f"epochs {epochs}; the best is {_best_words(folder)}\n")

    # A state of one array has no part that is called params.
    params = {path: leaf for path, leaf in leaves.items() if _part(path) == "params"} or leaves
    listed = leaves if all_leaves else params
    axes = config.get("axes") or {}
    columns = ["name", "axes", "shape", "dtype", "count", "mean", "std", "norm", "sha256"]
    _print_table(columns, [_described(leaf, arrays[path], axes.get(path, "")) for path, leaf in listed.items()])

    say(f"\n{sum(map(_size, params.values())):,} parameters in {len(params)} leaves")
    others = [leaf for path, leaf in leaves.items() if path not in listed]
    for part in dict.fromkeys(_part(leaf.path) for leaf in others):
        sizes = [_size(leaf) for leaf in others if _part(leaf.path) == part]
        say(f"besides: {part}, {sum(sizes):,} values in {len(sizes)} leaves (--all lists them)")
    return 0


def verify(run: Path, epoch: int | None = None) -> int:
    """Check every array and every file of a run against the hash that was saved with it; exit status 1 for damage.

    Args:
        run: Run folder, such as runs/aapl-0001, its folder of checkpoints, a folder of runs (a study, a sweep or a report),
            or of composed pieces.
        epoch: Epoch to check; by default all of them, and the other files of the run.
    """
    folder = user_path(run)
    if folder_seal.is_sealed(folder):
        return int(_verify_samples(folder))
    damaged = [_verify_written(folder)]
    # The runs of a report lie one folder deeper.
    if _runs(folder / REPORT_RUNS):
        folder /= REPORT_RUNS
    runs = _runs(folder)
    if not runs:
        damaged.append(_verify_run(folder, epoch))
        if epoch is None:
            damaged.append(_verify_refit(folder))
        return int(any(damaged))

    damaged += [_verify_recipe(folder, name, runs) for name in RECIPES]
    damaged.append(_verify_ensemble(folder))
    for line in run_seal.damage_of_choice(folder):
        damaged.append(True)
        say(line)
    for path in runs:
        say(f"{path}:")
        damaged.append(_verify_run(path, epoch))
        if epoch is None:
            damaged.append(_verify_refit(path))
    damaged += [_verify_samples(path) for path in sorted(folder.glob("samples-*"))]
    return int(any(damaged))


def _verify_written(folder: Path) -> bool:
    """Return whether anything is in the way of what a command would write again, and print it."""
    lines = written.obstacles(folder)
    # Without it, the command that is repeated takes a report for a folder of somebody else.
    if _runs(folder / REPORT_RUNS) and not os.path.lexists(folder / written.RECORD):
        lines.append(f"{folder / written.RECORD}: it is missing")
    for line in lines:
        say(line)
    return bool(lines)


def _verify_samples(folder: Path) -> bool:
    """Return whether any file of composed pieces is damaged, and print a line for each."""
    lines = folder_seal.damage(folder / folder_seal.SAMPLES)
    for line in lines or [f"{folder}: sound"]:
        say(line)
    return bool(lines)


def _is_run(folder: Path) -> bool:
    """Return whether a folder is that of a run, by its files or by what its checkpoints say."""
    if any(os.path.lexists(folder / name) for name in (run_seal.CONFIG, run_seal.JUDGED)):
        return True
    return sealed.RUN_ID in records.sealed_config(folder / run_seal.CHECKPOINTS)


def _runs(folder: Path) -> list[Path]:
    """Return the runs in a folder of runs; none for a folder that is a run itself, or its checkpoints."""
    if not folder.is_dir() or os.path.lexists(folder / run_seal.CHECKPOINTS) or _is_run(folder):
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and _is_run(path))


def _verify_recipe(folder: Path, name: str, runs: Sequence[Path]) -> bool:
    """Return whether the recipe of a folder of runs is damaged, of other runs, or in the way of its tables; print it."""
    lines = []
    if os.path.lexists(folder / name):
        try:
            recipe = sealed.read(folder / name)
            run_seal.check_members(runs, recipe, folder / name)
            run_seal.check_journal(recipe, folder / name)
        except UsageError as error:
            lines.append(str(error))
    for later_file in RECIPES[name]:
        if not os.path.lexists(folder / later_file):
            continue
        if not os.path.lexists(folder / name):
            lines.append(f"{folder / name}: it is missing beside {later_file}")
        # What the tables say is made again from the runs.
        if (folder / later_file).is_dir():
            lines.append(f"{folder / later_file}: a folder in the place of a file")
    for line in lines:
        say(line)
    return bool(lines)


def _verify_ensemble(folder: Path) -> bool:
    """Return whether anything of an ensemble is damaged, or is of other epochs than its members have; print it."""
    if not ensemble_seal.is_ensemble(folder):
        return False
    lines = ensemble_seal.damage(folder)
    for line in lines:
        say(line)
    return bool(lines)


def _verify_refit(run: Path) -> bool:
    """Return whether anything of a run's refit is damaged, and print its name and a line for each epoch."""
    folder = run / run_seal.REFIT
    if not _is_run(folder):
        return False
    say(f"{folder}:")
    return _verify_run(folder, None)


def _verify_run(run: Path, epoch: int | None) -> bool:
    """Return whether anything of a run is damaged, and print a line for each epoch and for each damaged file."""
    # Of a finished run, the epochs themselves may be gone.
    if epoch is None and not records.epochs(run / run_seal.CHECKPOINTS) and _is_run(run):
        lines = list(run_seal.damage(run))
        for line in lines or ["no epoch is saved yet"]:
            say(line)
        return bool(lines)

    folder = _checkpoints(run)
    damaged = False
    if epoch is None:
        try:
            records.config(folder)
        except DamagedError as error:
            damaged = True
            say(str(error))
        if folder != run and _is_run(run):
            for line in run_seal.damage(run):
                damaged = True
                say(line)

    for number in records.epochs(folder) if epoch is None else [epoch]:
        reasons = store.damage(folder, number)
        if not reasons:
            say(f"epoch {number}: sound")
        elif retention.was_clearing(folder, number):
            say(f"epoch {number}: was being deleted when its process was killed")
        else:
            damaged = True
            say(f"epoch {number}: damaged: {'; '.join(reasons)}")
    return damaged


def diff(run_a: Path, run_b: Path, epoch_a: int | None = None, epoch_b: int | None = None) -> int:
    """Compare two checkpoints array by array: largest absolute and relative difference.

    Exit status 1 if they differ.

    Args:
        run_a: First run folder.
        run_b: Second run folder; may be the first one, to compare two of its epochs.
        epoch_a: Epoch of the first run; its newest by default.
        epoch_b: Epoch of the second run; its newest by default.
    """
    folder_a = _checkpoints(run_a)
    folder_b = _checkpoints(run_b)
    if epoch_a is None:
        epoch_a = records.epochs(folder_a)[-1]
    if epoch_b is None:
        epoch_b = records.epochs(folder_b)[-1]
    a = store.load_leaves(folder_a, epoch_a)
    b = store.load_leaves(folder_b, epoch_b)

    rows = [_compared(path, a.get(path), b.get(path)) for path in {**a, **b}]
    say(f"{records.place(folder_a, epoch_a)} against {records.place(folder_b, epoch_b)}\n")
    _print_table(["name", "shape", "largest difference", "relative", "bits"], rows)

    differing = sum(row[-1] != "equal" for row in rows)
    if differing:
        say(f"\n{differing} of {len(rows)} leaves differ")
        return 1
    say(f"\nall {len(rows)} leaves equal bit for bit")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Show the checkpoints of a run, verify them, or compare two of them.

    Exit status: 0; 1 if something is damaged or different; 2 for a mistake in the options.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    return command_line.run("jaxseq.checkpoint", lambda: _run(words), "stopped")


def _run(words: Sequence[str]) -> int:
    words = _with_epochs(words)
    try:
        return command_line.call(
            {"show": show, "verify": verify, "diff": diff}, words, program=PROGRAM, description=main.__doc__
        )
    except DamagedError as error:
        print(printable(str(error)), file=sys.stderr)
        return 1


def _with_epochs(words: Sequence[str]) -> list[str]:
    """Replace --step, as --epoch was called before, and print a hint on stderr if there is one."""
    renamed = [re.sub(r"^--step(?=$|=|[-_][ab]\b)", "--epoch", word) for word in words]
    if renamed != list(words):
        print("--step is now called --epoch: each checkpoint is of an epoch", file=sys.stderr)
    return renamed


def _checkpoints(run: Path) -> Path:
    """Return the folder of a run's checkpoints. Raises `UsageError` if there are none."""
    run = user_path(run)
    folder = run / run_seal.CHECKPOINTS
    if not folder.is_dir():
        folder = run
    if not folder.is_dir():
        raise UsageError("no such folder", where=run, needed="a run folder, such as runs/aapl-0001")
    if not records.epochs(folder):
        raise UsageError("no checkpoints", where=folder)
    return folder


def _print_table(columns: list[str], rows: list[tuple[str, ...]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="left" if column in LEFT_COLUMNS else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)

    # Where the output is read by a program, no line is cut.
    longest_name = max((len(row[0]) for row in rows), default=0)
    terminal(narrowest=max(160, 120 + longest_name)).print(table)


def _best_words(folder: Path) -> str:
    """Return the best epoch, or why it is not known: the others can be shown all the same."""
    try:
        return str(records.best_epoch(folder))
    except DamagedError as error:
        return f"not known: {error}"


def _part(path: str) -> str:
    return path.split("/")[0]


def _size(leaf: Leaf) -> int:
    return math.prod(leaf.shape)


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _described(leaf: Leaf, array: np.ndarray, axes: str) -> tuple[str, ...]:
    """Return the row of a leaf: name, axes, shape, dtype, count, mean, standard deviation, norm, start of the hash."""
    moments = ("", "", "")
    if array.size:
        values = array.astype(np.float64)
        norm = np.sqrt((values**2).sum())
        moments = (f"{values.mean():.4g}", f"{values.std():.4g}", f"{norm:.4g}")
    return (leaf.path, axes, _shape(leaf.shape), leaf.dtype, f"{_size(leaf):,}", *moments, leaf.sha256[:8])


def _compared(path: str, a: np.ndarray | None, b: np.ndarray | None) -> tuple[str, ...]:
    """Return the row of two leaves: name, shape, largest absolute and relative difference, whether the bits are equal."""
    if a is None:
        return (path, "only in the second", "", "", "differ")
    if b is None:
        return (path, "only in the first", "", "", "differ")
    if a.shape != b.shape or a.dtype != b.dtype:
        return (path, f"{a.dtype}{list(a.shape)} against {b.dtype}{list(b.shape)}", "", "", "differ")
    if a.tobytes() == b.tobytes():
        return (path, _shape(a.shape), "0", "0", "equal")

    x = a.astype(np.float64)
    y = b.astype(np.float64)
    difference = np.abs(x - y)
    size = np.maximum(np.abs(x), np.abs(y))
    # Where both are zero, they are equal: 0 and not 0 / 0.
    relative = np.divide(difference, size, out=np.zeros_like(difference), where=size != 0)
    return (path, _shape(a.shape), f"{difference.max():.4g}", f"{relative.max():.4g}", "differ")


if __name__ == "__main__":
    sys.exit(main())
