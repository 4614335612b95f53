"""`python -m jaxseq.sweep EXPERIMENT --field a,b,c --seed 0:5`: train every combination of values and summarise them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

from jaxseq.checkpoint import run_seal
from jaxseq.common import command_line, csv_tables, files, sealed, written
from jaxseq.common.console import terminal
from jaxseq.common.errors import UsageError
from jaxseq.sweep import pool, slurm, summary
from jaxseq.sweep.grid import Point, points
from jaxseq.sweep.options import HELP, Options, parse
from jaxseq.sweep.planned import PlannedRun
from jaxseq.train import compiled_programs, experiments, run_folder

RECORD = "sweep.json"
"""File in the sweep's folder with the words of its command line."""
WORDS = "words"
"""Key of these words."""


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status: 0, 2 for a usage error, 130 if interrupted."""
    words = sys.argv[1:] if argv is None else argv
    asks_for_help = not words or {"-h", "--help"} & set(words)

    def work() -> object:
        if asks_for_help:
            return print(HELP)
        compiled_programs.keep()
        return sweep(parse(words))

    return command_line.run("jaxseq.sweep", work, "stopped; resume with the same command and --out")


def sweep(options: Options, console: Console | None = None) -> Path:
    """Train every combination and summarise them; returns the sweep's folder.

    Raises `UsageError`, `Stopped` on a signal, and `Detached` on a signal while a cluster trains.
    """
    console = console or terminal()
    grid = points(options.words)
    folder = _folder(options, grid)
    runs = [PlannedRun(point.name, point.experiment, folder / point.name, options.log) for point in grid]

    command = f"the same command with --out {shlex.quote(str(folder))}"
    console.print(f"{folder}: {len(grid)} runs; resume with {command}", highlight=False)
    if options.cluster is None:
        pool.train_all(runs, options.workers, console, command)
    else:
        slurm.train_all(runs, options.cluster, folder, console, command)

    scores = summary.table(grid, runs)
    text = summary.markdown(grid, scores)
    outputs = written.Outputs(folder, partial(console.print, highlight=False, markup=False, soft_wrap=True))
    outputs.write(summary.TABLE, csv_tables.content(scores))
    outputs.write(summary.SUMMARY, text.encode())
    console.print(text, highlight=False, markup=False, soft_wrap=True)
    console.print(f"{folder}: {summary.SUMMARY}, {summary.TABLE}, and a folder for each run", highlight=False)
    return folder


def _folder(options: Options, grid: Sequence[Point]) -> Path:
    """Return the sweep's folder, new or that of the same sweep. Raises `UsageError` if it holds another sweep."""
    names = [point.name for point in grid]
    # Names leave out what cannot stand in a path, so that different values may look alike.
    if len(set(names)) < len(names):
        raise UsageError("two combinations would share a folder: write the values of the fields differently")

    out = None if options.out is None else files.user_path(options.out)
    if out is not None and run_folder.has_recipe(out, RECORD, summary.SUMMARY):
        earlier = sealed.read(out / RECORD).get(WORDS, [])
        if earlier != options.words:
            words = " ".join(map(str, earlier))
            raise UsageError(f"of another sweep, {words}", where=out / RECORD, needed="another --out")
        return out

    folder = run_folder.create(f"{grid[0].experiment.name}-sweep", out)
    configs = {point.name: experiments.to_config(point.experiment) for point in grid}
    sealed.write(folder / RECORD, {WORDS: options.words, **run_seal.members_record(configs)})
    return folder


if __name__ == "__main__":
    sys.exit(main())
