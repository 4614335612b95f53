"""`python -m jaxseq.sweep EXPERIMENT --field a,b,c --seed 0:5`: train every combination of values and summarise them."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path

from rich.console import Console

from jaxseq.checkpoint import run_seal
from jaxseq.common import command_line, csv_tables, figures, files, lock, sealed, written
from jaxseq.common.console import terminal
from jaxseq.common.errors import UsageError
from jaxseq.sweep import grouped, pool, slurm, summary
from jaxseq.sweep.grid import points
from jaxseq.sweep.options import HELP, Options, parse
from jaxseq.sweep.places import Place
from jaxseq.sweep.planned import PlannedRun
from jaxseq.sweep.slurm import Cluster
from jaxseq.train import compiled_programs, experiments, loggers, run_folder
from jaxseq.train.experiments.base import Experiment

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
    """Train every combination, or search the space, and summarise the runs; returns the sweep's folder.

    Raises `UsageError`, also if another process works in the folder, `Stopped` on a signal, and `Detached` on a signal
    while a cluster trains.
    """
    console = console or terminal()
    with ExitStack() as locks:
        if options.trials is None:
            return _grid(options, console, locks)
        return _search(options, options.trials, console, locks)


def _grid(options: Options, console: Console, locks: ExitStack) -> Path:
    """Train every combination, and summarise the runs; raises as `sweep` does."""
    grid = points(options.words)
    names = [point.name for point in grid]
    # Names leave out what cannot stand in a path, so that different values may look alike.
    if len(set(names)) < len(names):
        raise UsageError("two combinations would share a folder: write the values of the fields differently")
    folder = _folder(options, {point.name: point.experiment for point in grid}, grid[0].experiment.name, locks)
    logs = partial(loggers.named, options.log)
    runs = [PlannedRun(point.name, point.experiment, folder / point.name, logs) for point in grid]

    command = _announce(console, folder, f"{len(grid)} runs")
    if options.together:
        grouped.train_all(runs, console, command)
    elif options.cluster is None:
        pool.train_all(runs, options.workers, console, command)
    else:
        slurm.train_all(runs, options.cluster, folder, console, command)

    scores = summary.table(grid, runs)
    outputs = _outputs(folder, console)
    _summarise(outputs, summary.markdown(grid, scores), csv_tables.content(scores), console)
    return folder


def _search(options: Options, trials: int, console: Console, locks: ExitStack) -> Path:
    """Search a space, and summarise the trials; raises as `sweep` does."""
    # Optuna takes a second to import, and is an extra.
    from jaxseq.sweep import plots, search, search_summary, space

    searched = space.parse(options.words)
    folder = _folder(options, {}, searched.base.name, locks)
    journal = folder / search.JOURNAL
    # Without it, the trials are drawn again, and their finished runs taken.
    if os.path.lexists(journal):
        run_seal.check_journal(sealed.read(folder / RECORD), folder / RECORD)
    command = _announce(console, folder, f"a search of {trials} trials")
    at_once = min(options.searched_at_once, trials)
    with _place(options.cluster, folder, at_once, command) as place:
        found = search.search(
            searched,
            trials,
            folder,
            place=place,
            at_once=at_once,
            console=console,
            log=options.log,
        )

    # Now, when the points are known, for `checkpoint verify`.
    members = {result.run.folder.name: result.run.experiment for result in found.results if result.state != "failed"}
    _write_record(folder, _recorded_words(options), members, run_seal.journal_record(journal, options.words))
    outputs = _outputs(folder, console)
    outputs.write(search_summary.PICTURE, figures.drawn(plots.trials(searched, found), "png"))
    table = search_summary.table(searched, found)
    text = search_summary.markdown(searched, found, options.words)
    _summarise(outputs, text, csv_tables.content(table), console)
    return folder


def _place(cluster: Cluster | None, folder: Path, at_once: int, command: str) -> AbstractContextManager[Place]:
    """Return the place where the runs are trained."""
    if cluster is None:
        return pool.place(at_once, command)
    return slurm.place(cluster, folder, command)


def _announce(console: Console, folder: Path, work: str) -> str:
    """Print where the work is done, and return the command that resumes it."""
    command = f"the same command with --out {shlex.quote(str(folder))}"
    console.print(f"{folder}: {work}; resume with {command}", highlight=False)
    return command


def _outputs(folder: Path, console: Console) -> written.Outputs:
    return written.Outputs(folder, partial(console.print, highlight=False, markup=False, soft_wrap=True))


def _summarise(outputs: written.Outputs, text: str, table: bytes, console: Console) -> None:
    """Write the table and the summary, and print the summary."""
    outputs.write(summary.TABLE, table)
    outputs.write(summary.SUMMARY, text.encode())
    console.print(text, highlight=False, markup=False, soft_wrap=True)
    console.print(f"{outputs.folder}: {summary.SUMMARY}, {summary.TABLE}, and a folder for each run", highlight=False)


def _folder(options: Options, members: Mapping[str, Experiment], name: str, locks: ExitStack) -> Path:
    """Return the sweep's folder, new or that of the same sweep, and keep it locked.

    Raises `UsageError` if it holds another sweep, or if another process works there: a search of two would train twice.
    """
    out = None if options.out is None else files.user_path(options.out)
    words = _recorded_words(options)
    if out is not None and run_folder.has_recipe(out, RECORD, summary.SUMMARY):
        earlier = sealed.read(out / RECORD).get(WORDS, [])
        if earlier != words:
            raise UsageError(
                f"of another sweep, {' '.join(map(str, earlier))}", where=out / RECORD, needed="another --out"
            )
        locks.enter_context(lock.hold(out))
        return out

    folder = run_folder.create(f"{name}-sweep", out)
    locks.enter_context(lock.hold(folder))
    facts = None
    if options.trials is not None:
        # So that `checkpoint verify` reads the journal of a search from its first line on.
        facts = run_seal.journal_record(folder / run_seal.SEARCH_LOG, options.words)
    _write_record(folder, words, members, facts)
    return folder


def _recorded_words(options: Options) -> list[str]:
    """Return the words by which the same sweep is known; a search may go on with more trials."""
    return options.words if options.trials is None else ["--optuna", *options.words]


def _write_record(
    folder: Path,
    words: Sequence[str],
    members: Mapping[str, Experiment],
    facts: Mapping[str, object] | None = None,
) -> None:
    configs = {name: experiments.to_config(experiment) for name, experiment in members.items()}
    sealed.write(folder / RECORD, {WORDS: list(words), **run_seal.members_record(configs), **(facts or {})})


if __name__ == "__main__":
    sys.exit(main())
