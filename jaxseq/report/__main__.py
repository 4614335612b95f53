"""`python -m jaxseq.report`: train what the paper's tables and figures need, and say which of its claims hold.

The run folders, the numbers behind every table and figure, `report.md` and `report.html` go into one folder. Typed again,
the command takes what is finished and goes on with what was interrupted.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from jaxseq.common import command_line
from jaxseq.common.errors import UsageError

RUNS = "runs"
"""The folder of the runs, in that of the report."""


@dataclass(frozen=True)
class Options:
    """Reproduce the tables and figures of Saberi 2024 and of Géron's chapter 15, with seeds, baselines and verdicts."""

    budget: Literal["quick", "standard", "paper"] = "standard"
    """quick: a smoke run, under ten minutes on two cores, that says nothing about the paper. standard: under 75 minutes on
    two cores. paper: 600 epochs on Bach, for a GPU."""
    seeds: int | None = None
    """Runs of each row; None for the budget's own, 2 or 5."""
    out: Path = Path("runs/paper")
    """The report's folder; typed again with the same one, the command goes on where it stopped."""
    workers: int | None = None
    """Runs at a time; None for one a core, and on a GPU one."""
    chorales: str | None = None
    """The archive of the benchmark edition of the chorales, jsb_chorales.tgz; None downloads it once."""
    bpm: float = 84.0
    """Quarter notes a minute of the pieces that are composed."""


def report(asked: Options) -> Path:
    """Train, measure and write as asked; returns the report's folder. Raises `UsageError`, and `Stopped` on a signal."""
    from jaxseq.common import console as common_console
    from jaxseq.report import contents, evidence, plan, write
    from jaxseq.sweep import pool

    console, began = common_console.terminal(), time.monotonic()
    rows, size = plan.rows(asked.budget, asked.seeds, asked.chorales), plan.BUDGETS[asked.budget]
    workers = _workers(asked.workers)
    _check(asked.out)
    console.print(f"{asked.budget}: {size.words}", highlight=False)
    keys = [
        evidence.key(row.recipe, found)
        for row, found in zip(rows, pool.each(evidence.digest, [r.recipe for r in rows], workers), strict=True)
    ]
    wanted = [evidence.plan_runs(row, key, asked.out / RUNS) for row, key in zip(rows, keys, strict=True)]
    once = {run.folder: run for runs in wanted for run in runs}
    pool.fill(list(once.values()), workers, console)
    console.print("measuring: training parts, gradients back in time, CPU time in turn", highlight=False)
    measured = dict(zip(once, pool.each(evidence.measure, list(once.values()), workers), strict=True))
    found = [
        evidence.gather(row, key, runs, [measured[run.folder] for run in runs])
        for row, key, runs in zip(rows, keys, wanted, strict=True)
    ]
    gradients = _gradients(found, wanted, workers)
    times = _times(asked.out, found, size.rounds)
    samples = _samples(asked, size, wanted[-1][0].folder, keys[-1], console)
    files = write.write(contents.page(asked.budget, asked.out, found, gradients, times, samples), asked.out)
    minutes = (time.monotonic() - began) / 60
    console.print(
        f"{', '.join(map(str, files))}, figures and tables as PNG and CSV; {minutes:.0f} min", highlight=False
    )
    return asked.out


def _check(out: Path) -> None:
    """Make the folder. Raises `UsageError` if it cannot be written."""
    try:
        (out / RUNS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write a report into {out}: {error.strerror or error}") from error
    if not os.access(out / RUNS, os.W_OK | os.X_OK):
        raise UsageError(f"cannot write a report into {out}: no folder that you may write to")


def _workers(asked: int | None) -> int:
    """Runs at a time. Raises `UsageError` for none."""
    from jaxseq.sweep import pool
    from jaxseq.train import devices

    if asked is not None and asked < 1:
        raise UsageError(f"workers must be at least 1; it is {asked}")
    return asked or (1 if pool.accelerated() else devices.cores())


def _gradients(found: Sequence[Any], wanted: Sequence[Any], workers: int) -> dict[str, Any]:
    """By set-up and moment, the norms of every cell, "s t"."""
    import numpy as np

    from jaxseq.report import evidence
    from jaxseq.report.plan import CHANGE, LEVEL
    from jaxseq.sweep import pool

    titles = {LEVEL: "level", CHANGE: "change"}
    some = [(one.row, runs) for one, runs in zip(found, wanted, strict=True) if one.row.group in titles]
    each = iter(pool.each(evidence.influence, [run for _, runs in some for run in runs], workers))
    norms: dict[str, Any] = {title: {"before": {}, "after": {}} for title in titles.values()}
    for row, runs in some:
        seeds = [next(each) for _ in runs]
        for moment in ("before", "after"):
            norms[titles[row.group]][moment][row.label] = np.array([seed[moment] for seed in seeds])
    return norms


def _times(out: Path, found: Sequence[Any], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of an epoch of every row on Bach, measured in turn by one process while nothing else of ours runs."""
    from jaxseq.common import files as common_files
    from jaxseq.report import evidence
    from jaxseq.report.plan import CELL, NORM
    from jaxseq.sweep import pool

    some = {one.row.label: one for one in found if one.row.group in (CELL, NORM)}
    named = {"keys": {label: one.key for label, one in some.items()}, "rounds": rounds}
    path = out / RUNS / evidence.TIMES
    if path.is_file() and {name: (kept := common_files.read_json(path)).get(name) for name in named} == named:
        return kept["seconds"]
    recipes = {label: one.row.recipe for label, one in some.items()}
    (seconds,) = pool.each(partial(evidence.times, rounds=rounds), [recipes], 1)
    common_files.write_json(path, {**named, "seconds": seconds})
    return seconds


def _samples(asked: Options, size: Any, run: Path, key: str, console: Any) -> Path:
    """The folder of the pieces that the network with convolutions composed."""
    from jaxseq.sample import compose
    from jaxseq.sample.options import AskedSample

    out = asked.out / RUNS / f"samples-{key}"
    if not out.is_dir():
        what = AskedSample(run, count=size.samples, bars=size.bars, bpm=asked.bpm, out=out)
        compose.compose(what, console)
    return out


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status: 0, 2 for a mistake of the user, 130 if interrupted."""

    words = sys.argv[1:] if argv is None else argv
    asked = partial(command_line.parse, Options, words, program="python -m jaxseq.report")
    return command_line.run("jaxseq.report", lambda: report(asked()), "stopped; the same command goes on", "--budget")


if __name__ == "__main__":
    sys.exit(main())
