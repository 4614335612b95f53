"""Memory and time of a run of a large panel, from its file to its report.

    python -m jaxseq.benchmark.panel_memory 30000x200 1x5000000

For each SERIESxROWS it writes a CSV file of noisy series with a weekly season into a temporary folder, and trains and
judges one epoch of the first command of a table on it, in a process of its own. The memory is the most that this process
has held at once, beside the estimate by which a run that does not fit is refused.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import pandas as pd
import tyro

from jaxseq.common import command_line, files
from jaxseq.common.console import say
from jaxseq.common.errors import UsageError

PROGRAM = "python -m jaxseq.benchmark.panel_memory"
RECIPE = (
    "--data.column value --data.time time --data.window 28 --task direct --horizon 7 --epochs 1 --batch 512 --out run"
)
"""Options of the training."""
MEMORY = re.compile(r"memory: ([\d.]+) GiB, by the estimate at most ([\d.]+)")
"""Line that a large run prints (`jaxseq.train.run`)."""
WRITTEN_AT_ONCE = 2**20
"""Rows that are written together."""


@dataclass(frozen=True)
class Options:
    """Memory and time of runs of large panels."""

    sizes: Annotated[tuple[str, ...], tyro.conf.Positional] = ("30000x200", "1x5000000")
    """Number of series and rows of each, as SERIESxROWS."""
    options: str = ""
    """Further options of the training, in quotation marks."""


class Measured(NamedTuple):
    """A run; the numbers are in GiB and minutes, or None for one that is too small to print its memory.

    minutes      from the start to the end of its process
    cpu_minutes  of all of its threads; None where the system does not say
    """

    series: int
    rows: int
    peak: float | None
    estimate: float | None
    minutes: float
    cpu_minutes: float | None


def run(options: Options) -> None:
    """Measure each size, and print a table in Markdown."""
    sizes = [_parsed(size) for size in options.sizes]
    rows = []
    for series, steps in sizes:
        rows.append(measured(series, steps, options.options.split()))
    say(table(rows))


def _parsed(size: str) -> tuple[int, int]:
    numbers = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", size)
    if numbers is None:
        raise UsageError("no size of a panel", where="sizes", got=size, needed="SERIESxROWS, such as 30000x200")
    return int(numbers[1]), int(numbers[2])


def measured(series: int, steps: int, options: list[str]) -> Measured:
    """Train on a panel of this size in a process of its own. Raises `UsageError`, with its last line, if that fails."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "panel.csv"
        write(path, series, steps)
        words = ["--data.path", str(path), *RECIPE.split(), *options]
        if series > 1:
            words += ["--data.series", "series"]
        began = time.monotonic()
        cpu_before = _cpu_minutes_of_children()
        done = subprocess.run(
            [sys.executable, "-m", "jaxseq.train", "table", *words],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        minutes = (time.monotonic() - began) / 60
        cpu_minutes = _cpu_minutes_of_children()
    if cpu_minutes is not None and cpu_before is not None:
        cpu_minutes -= cpu_before
    if done.returncode:
        *_, last = done.stderr.splitlines() or ["no message"]
        raise UsageError(last, where=f"{series}x{steps}")
    memory = MEMORY.search(done.stdout)
    peak = estimate = None
    if memory is not None:
        peak, estimate = float(memory[1]), float(memory[2])
    return Measured(series, steps, peak=peak, estimate=estimate, minutes=minutes, cpu_minutes=cpu_minutes)


def _cpu_minutes_of_children() -> float | None:
    """Return the CPU time of all processes that this one has waited for; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows has no such module.
        return None
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (used.ru_utime + used.ru_stime) / 60


def write(path: Path, series: int, steps: int) -> None:
    """Write noisy series with a season of seven days, or minutes where there are many, each of another size."""
    draw = np.random.default_rng(0)
    levels = draw.uniform(20, 200, series)
    phases = draw.uniform(0, 7, series)
    unit = "D" if steps < 10_000 else "m"
    times = np.datetime64("2020-01-01", unit) + np.arange(steps)
    course = np.arange(steps)
    # Whole series at a time, so that the table is never in memory.
    at_once = max(1, WRITTEN_AT_ONCE // steps)
    with files.whole(path) as file:
        for first in range(0, series, at_once):
            numbers = np.arange(first, min(first + at_once, series))
            season = 1 + 0.3 * np.sin(2 * np.pi * (course + phases[numbers, None]) / 7)
            values = levels[numbers, None] * (season + draw.normal(0, 0.1, season.shape))
            piece = pd.DataFrame(
                {
                    "time": np.tile(times.astype("datetime64[s]"), len(numbers)),
                    "series": np.repeat([f"series {number}" for number in numbers], steps),
                    "value": values.round(2).ravel(),
                }
            )
            piece.to_csv(file, index=False, header=first == 0)


def table(rows: list[Measured]) -> str:
    """Return the runs as a table in Markdown."""
    lines = [
        "| series | rows of each | GiB | estimated at most | minutes | CPU minutes |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        peak = "–" if row.peak is None else f"{row.peak:.1f}"
        estimate = "under 1" if row.estimate is None else f"{row.estimate:.1f}"
        cpu = "–" if row.cpu_minutes is None else f"{row.cpu_minutes:.1f}"
        lines.append(f"| {row.series:,} | {row.rows:,} | {peak} | {estimate} | {row.minutes:.1f} | {cpu} |")
    return "\n".join(lines)


def main(words: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return command_line.run_parsed(PROGRAM, Options, run, words, smaller="panel")


if __name__ == "__main__":
    sys.exit(main())
