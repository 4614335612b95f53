"""Train the runs behind the paper's tables and figures, and judge which of its claims hold: `python -m jaxseq.report`.

The run folders, the numbers behind every table and figure, `report.md` and `report.html` go into one folder. The same
command with the same folder reuses what is finished and resumes what was interrupted.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jaxseq.common import command_line
from jaxseq.common.checks import MOST_WORKERS, count
from jaxseq.common.errors import UsageError
from jaxseq.common.files import refuse_link

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console

    from jaxseq.report.contents import Evidence
    from jaxseq.report.plan import Budget
    from jaxseq.report.training import RowPlan

RUNS = "runs"
"""The folder of the runs, in that of the report."""


@dataclass(frozen=True)
class Options:
    """Reproduce the tables and figures of Saberi 2024 and of Géron's chapter 15, with seeds, baselines and verdicts."""

    budget: Literal["quick", "standard", "paper"] = "standard"
    """Amount of training. quick: a smoke test in under 10 minutes on two cores, which decides no claim. standard: under
    75 minutes on two cores. paper: the same networks for 600 epochs, the paper's on Bach (it has 100 for the share price),
    or to a plateau of the training loss, with one learning rate for all and with each row's own best; days on two cores,
    whose cost is printed first."""
    seeds: int | None = None
    """Runs per row of a table; by default 2 (quick) or 5, of the network with convolutions 1 or 3 (paper)."""
    out: Path = Path("runs/paper")
    """Folder of the report; a second call with the same folder resumes."""
    finished: bool = False
    """Train nothing: report the tables of which at least a seed of every row is finished."""
    workers: int | None = None
    """Runs trained at the same time; by default one per core, or one on a GPU."""
    chorales: str | None = None
    """Path of the chorales' benchmark edition, jsb_chorales.tgz; by default it is downloaded once. music21 takes the
    edition of that package, with whose figures the paper's cannot be compared."""
    bpm: float = 84.0
    """Tempo of the composed pieces in quarter notes a minute."""


def report(options: Options) -> Path:
    """Train, measure and write; return the report's folder. Raises `UsageError`, and `Stopped` on a signal."""
    # Imported here, so that --help and a mistyped option answer at once.
    from jaxseq.common import files
    from jaxseq.common.console import terminal
    from jaxseq.common.written import Outputs
    from jaxseq.report import contents, plan, training, write

    options = files.with_user_paths(options)
    console = terminal()
    began = time.monotonic()
    rows = plan.rows(options.budget, options.seeds, options.chorales)
    budget = plan.BUDGETS[options.budget]
    # Before anything is trained, because without a network there may be no chorales.
    edition = plan.check_chorales(rows)
    workers = _workers(options.workers)
    outputs = Outputs(options.out, partial(console.print, highlight=False, markup=False, soft_wrap=True))
    _make_folder(options.out)
    outputs.begin()
    console.print(f"{options.budget}: {budget.words} Bach's chorales are {edition}.", highlight=False)

    places = training.Places(options.out / RUNS, workers, console)
    shared = training.plan(rows, budget.own_rates, places)
    if options.finished:
        planned = training.finished([*shared, *training.with_own_rates(shared, places.folder)])
        if not planned:
            raise UsageError(
                "no table is finished", where=f"--out {options.out}", needed="a finished seed of every row of a table"
            )
    else:
        if budget.to_plateau:
            training.print_costs(shared, places)
        planned = training.train(shared, places)

    console.print("measuring: training parts, gradients back in time, CPU time in turn", highlight=False)
    shown = _evidence(options, planned, console)
    page = contents.page(options.budget, outputs, shown)
    pages = ", ".join(map(str, write.write(page, outputs)))
    minutes = (time.monotonic() - began) / 60
    console.print(f"{pages}, figures and tables as PNG and CSV; {minutes:.0f} min", highlight=False)
    return options.out


def _evidence(options: Options, planned: Sequence[RowPlan], console: Console) -> Evidence:
    """Measure the finished runs of all rows."""
    from jaxseq.report import contents, evidence
    from jaxseq.report.plan import BOOK, BUDGETS
    from jaxseq.sweep import pool

    workers = _workers(options.workers)
    runs = {run.folder: run for row_plan in planned for run in row_plan.runs}
    figures = dict(zip(runs, pool.map_in_workers(evidence.measure, list(runs.values()), workers), strict=True))
    finished = [
        evidence.gather(row_plan.row, row_plan.key, row_plan.runs, [figures[run.folder] for run in row_plan.runs])
        for row_plan in planned
    ]
    shared = [row_plan for row_plan in planned if row_plan.row.rates == "shared"]
    gradients = _gradients(shared, workers)

    choices = {}
    for row_plan in shared:
        choice = row_plan.choice
        if choice is not None:
            choices[row_plan.row.group, row_plan.row.label] = choice
    samples = None
    budget = BUDGETS[options.budget]
    for row_plan in shared:
        if row_plan.row.group == BOOK:
            samples = _samples(options, budget, row_plan, console)
    return contents.Evidence(
        found=finished,
        choices=choices,
        gradients=gradients,
        times=_times(options.out, shared, budget.rounds, keep=not options.finished),
        samples=samples,
    )


def _make_folder(out: Path) -> None:
    """Make the folder of the runs. Raises `UsageError` if it cannot be written, or holds anything but a report."""
    from jaxseq.common import written
    from jaxseq.train import run_folder

    rule = "the report's folder cannot be written"
    refuse_link(out / RUNS)
    try:
        # The record tells the folder of a report, begun or finished, from one of the user's.
        if out.is_dir() and not os.path.lexists(out / written.RECORD) and not run_folder.is_empty(out):
            no_report = f"is not empty, and holds no report (no {written.RECORD})"
            raise UsageError(no_report, where=f"--out {out}", needed="another folder")
        (out / RUNS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{rule}: {error.strerror or error}", where=f"--out {out}") from error
    if not os.access(out / RUNS, os.W_OK | os.X_OK):
        raise UsageError(f"{rule}: no permission", where=f"--out {out}")


def _workers(workers: int | None) -> int:
    """The number of runs at the same time. Raises `UsageError` for a number below 1."""
    from jaxseq.sweep import pool
    from jaxseq.train import devices

    if workers is not None:
        count(most=MOST_WORKERS, **{"--workers": workers})
        return workers
    return 1 if pool.has_accelerator() else devices.cores()


def _gradients(shared: Sequence[RowPlan], workers: int) -> dict[str, dict[str, dict[str, np.ndarray]]]:
    """The gradient's norms back in time by set-up, moment and cell, "s t" each."""
    import numpy as np

    from jaxseq.report import evidence
    from jaxseq.report.plan import CHANGE, LEVEL
    from jaxseq.sweep import pool

    setups = {LEVEL: "level", CHANGE: "change"}
    measured = [row_plan for row_plan in shared if row_plan.row.group in setups]
    norms = pool.map_in_workers(evidence.influence, [run for row_plan in measured for run in row_plan.runs], workers)

    by_setup: dict[str, dict[str, dict[str, np.ndarray]]] = {}
    remaining = iter(norms)
    for row_plan in measured:
        seeds = [next(remaining) for _ in row_plan.runs]
        moments = by_setup.setdefault(setups[row_plan.row.group], {"before": {}, "after": {}})
        for moment, by_cell in moments.items():
            by_cell[row_plan.row.label] = np.array([seed[moment] for seed in seeds])
    return by_setup


def _times(out: Path, shared: Sequence[RowPlan], rounds: int, keep: bool) -> Mapping[str, Sequence[float]]:
    """CPU seconds of an epoch of every row on Bach, measured in turn by one process while no other of ours runs.

    keep  whether they are saved for the next report; a report of what is finished may run beside the training of the rest
    """
    from jaxseq.common import sealed
    from jaxseq.report import evidence
    from jaxseq.report.plan import CELL, NORM
    from jaxseq.sweep import pool

    timed = {row_plan.row.label: row_plan for row_plan in shared if row_plan.row.group in (CELL, NORM)}
    if not timed:
        return {}
    request = {"keys": {label: row_plan.key for label, row_plan in timed.items()}, "rounds": rounds}
    path = out / RUNS / evidence.TIMES
    if path.is_file():
        saved = evidence.read_times(path)
        if all(saved.get(name) == value for name, value in request.items()):
            return saved["seconds"]

    recipes = {label: row_plan.row.recipe for label, row_plan in timed.items()}
    (seconds,) = pool.map_in_workers(partial(evidence.times, rounds=rounds), [recipes], 1)
    if keep:
        sealed.write(path, {**request, "seconds": seconds})
    return seconds


def _samples(options: Options, budget: Budget, row_plan: RowPlan, console: Console) -> Path:
    """The folder of the pieces that the network with convolutions composed; they are composed unless they are there."""
    from jaxseq.sample.__main__ import sample
    from jaxseq.sample.options import SampleOptions

    out = options.out / RUNS / f"samples-{row_plan.key}"
    if not out.is_dir():
        # The network is judged, not the rules by which pieces are composed elsewhere.
        as_drawn = SampleOptions(
            row_plan.runs[0].folder,
            count=budget.samples,
            bars=budget.bars,
            bpm=options.bpm,
            out=out,
            note_temperature=1.0,
            parallels="allow",
            ranges="free",
            ending="free",
        )
        sample(as_drawn, console)
    return out


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status: 0, 2 for a mistake of the user, 130 if interrupted."""
    words = sys.argv[1:] if argv is None else argv

    def work() -> Path:
        options = command_line.parse(Options, words, program="python -m jaxseq.report")
        from jaxseq.train import compiled_programs

        compiled_programs.keep()
        return report(options)

    return command_line.run("jaxseq.report", work, "stopped; the same command resumes", "--budget")


if __name__ == "__main__":
    sys.exit(main())
