"""The command line of the checkpoints: `python -m jaxseq.checkpoint show | verify | diff`."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from jaxseq.checkpoint import records, store, writer
from jaxseq.checkpoint.leaves import Leaf
from jaxseq.checkpoint.records import DamagedError
from jaxseq.common import command_line
from jaxseq.common.errors import UsageError


def _run_folder(run: Path) -> Path:
    """The checkpoints of a run; raises UsageError if there are none."""
    folder = run / "checkpoints" if (run / "checkpoints").is_dir() else run
    if not folder.is_dir():
        raise UsageError(f"{run} does not exist; name a run folder, such as runs/aapl-0001")
    if not records.epochs(folder):
        raise UsageError(f"no checkpoints in {folder}")
    return folder


def _print_table(columns: list[str], rows: list[tuple[str, ...]]) -> None:
    """Prints a table; names left, numbers right; never cut where nobody looks at a terminal."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        left = column in ("name", "axes", "shape", "dtype", "sha256", "bits")
        table.add_column(column, justify="left" if left else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    longest = max((len(row[0]) for row in rows), default=0)
    width = None if sys.stdout.isatty() else max(160, 120 + longest)
    Console(width=width, markup=False, highlight=False, emoji=False).print(table)


def _describe(leaf: Leaf, array: np.ndarray, axes: str) -> tuple[str, ...]:
    shape = "x".join(map(str, leaf.shape)) or "scalar"
    values = array.astype(np.float64)
    numbers = (values.mean(), values.std(), np.sqrt((values**2).sum())) if values.size else ()
    told = tuple(f"{number:.4g}" for number in numbers) or ("", "", "")
    return (leaf.path, axes, shape, leaf.dtype, f"{math.prod(leaf.shape):,}", *told, leaf.sha256[:8])


def show(run: Path, step: int | None = None, all: bool = False) -> int:
    """Print what a checkpoint holds: parameters with axes, shape, count, mean, deviation, norm and hash.

    Args:
        run: A run folder, such as runs/aapl-0001, or its folder of checkpoints.
        step: The step to show; the newest by default.
        all: List every leaf, the optimiser's too, not the parameters alone.
    """
    folder = _run_folder(run)
    step = records.epochs(folder)[-1] if step is None else step
    leaves, arrays = records.saved_leaves(folder, step), store.load_leaves(folder, step)
    settings = records.config(folder)
    axes = settings.get("axes") or {}
    told = [f"{name} {value:.6g}" for name, value in records.metrics(folder, step).items()]
    print(", ".join([f"{settings.get('experiment', folder)}: step {step}", *told]))
    print(f"steps {', '.join(map(str, records.epochs(folder)))}; the best is {records.best_epoch(folder)}\n")
    params = {path: leaf for path, leaf in leaves.items() if path.split("/")[0] == "params"} or leaves
    shown = leaves if all else params
    columns = ["name", "axes", "shape", "dtype", "count", "mean", "std", "norm", "sha256"]
    _print_table(columns, [_describe(leaf, arrays[path], axes.get(path, "")) for path, leaf in shown.items()])
    print(f"\n{sum(math.prod(leaf.shape) for leaf in params.values()):,} parameters in {len(params)} leaves")
    others = [path for path in leaves if path not in shown]
    for part in dict.fromkeys(path.split("/")[0] for path in others):
        sizes = [math.prod(leaves[path].shape) for path in others if path.split("/")[0] == part]
        print(f"besides: {part}, {sum(sizes):,} values in {len(sizes)} leaves (--all lists them)")
    return 0


def verify(run: Path, step: int | None = None) -> int:
    """Check every leaf of every step against the hash it was saved with; exit status 1 if anything is damaged.

    Args:
        run: A run folder, such as runs/aapl-0001, or its folder of checkpoints.
        step: The one step to check; all of them, and the configuration, by default.
    """
    folder = _run_folder(run)
    bad = 0
    if step is None:
        try:
            records.config(folder)
        except DamagedError as error:
            bad += 1
            print(error)
    for one in records.epochs(folder) if step is None else [step]:
        reasons = store.damage(folder, one)
        if reasons and writer.was_going(folder, one):
            print(f"step {one}: was being cleared away when its process was killed")
            continue
        bad += bool(reasons)
        print(f"step {one}: " + ("damaged: " + "; ".join(reasons) if reasons else "sound"))
    return 1 if bad else 0


def _compare(path: str, a: np.ndarray | None, b: np.ndarray | None) -> tuple[str, ...]:
    if a is None or b is None:
        return (path, "only in the second" if a is None else "only in the first", "", "", "differ")
    if a.shape != b.shape or a.dtype != b.dtype:
        return (path, f"{a.dtype}{list(a.shape)} against {b.dtype}{list(b.shape)}", "", "", "differ")
    shape = "x".join(map(str, a.shape)) or "scalar"
    if a.tobytes() == b.tobytes():
        return (path, shape, "0", "0", "equal")
    x, y = a.astype(np.float64), b.astype(np.float64)
    gap, size = np.abs(x - y), np.maximum(np.abs(x), np.abs(y))
    relative = np.divide(gap, size, out=np.zeros_like(gap), where=size != 0)
    return (path, shape, f"{gap.max():.4g}", f"{relative.max():.4g}", "differ")


def diff(run_a: Path, run_b: Path, step_a: int | None = None, step_b: int | None = None) -> int:
    """Compare two checkpoints leaf by leaf: largest absolute and relative difference; exit status 1 if they differ.

    Args:
        run_a: The first run folder.
        run_b: The second run folder; the same one may be given twice, with two steps.
        step_a: The step of the first run; its newest by default.
        step_b: The step of the second run; its newest by default.
    """
    folder_a, folder_b = _run_folder(run_a), _run_folder(run_b)
    step_a = records.epochs(folder_a)[-1] if step_a is None else step_a
    step_b = records.epochs(folder_b)[-1] if step_b is None else step_b
    a, b = store.load_leaves(folder_a, step_a), store.load_leaves(folder_b, step_b)
    rows = [_compare(path, a.get(path), b.get(path)) for path in {**a, **b}]
    print(f"step {step_a} of {folder_a} against step {step_b} of {folder_b}\n")
    _print_table(["name", "shape", "largest difference", "relative", "bits"], rows)
    differing = sum(row[-1] != "equal" for row in rows)
    print(f"\n{differing} of {len(rows)} leaves differ" if differing else f"\nall {len(rows)} leaves equal bit for bit")
    return 1 if differing else 0


def main(argv: list[str] | None = None) -> int:
    """Look into the checkpoints of a run, verify them, or compare two of them.

    Exit status: 0, 1 if something is damaged or different, 2 for a mistake in what was asked.
    """
    return command_line.run("jaxseq.checkpoint", lambda: _answer(argv), "stopped")


def _answer(argv: list[str] | None) -> int:
    commands = {"show": show, "verify": verify, "diff": diff}
    markers = (tyro.conf.PositionalRequiredArgs, tyro.conf.FlagCreatePairsOff)
    prog, told = "python -m jaxseq.checkpoint", main.__doc__
    try:
        return tyro.extras.subcommand_cli_from_dict(commands, args=argv, prog=prog, description=told, config=markers)
    except DamagedError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
