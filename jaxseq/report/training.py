"""The runs of a report: which there are, what they cost, and their training, in stages that begin with the cheapest."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from jaxseq.common import sealed
from jaxseq.common.errors import UsageError
from jaxseq.report import evidence, rates
from jaxseq.report.plan import BOOK, CELL, CHANGE, LEVEL, NORM, ONE, TEN, Row
from jaxseq.report.rates import Choice
from jaxseq.sweep import pool
from jaxseq.sweep.planned import PlannedRun, is_finished

if TYPE_CHECKING:
    from rich.console import Console

STAGES = MappingProxyType(
    {"waves": (ONE, TEN), "share price": (LEVEL, CHANGE), "Bach": (CELL, NORM), "convolutions": (BOOK,)}
)
"""Tables by the stage in which they are trained: with their shared rate, the grid of rates, and with their own."""
COSTS = "costs.json"
"""File of the CPU seconds of an epoch, by the key of a row."""


class RowPlan(NamedTuple):
    """A row and its runs, of which some may be finished.

    digest    of the rows of its data
    searched  the runs that choose its own rate; none for a row that has the shared rate alone
    """

    row: Row
    digest: str
    runs: Sequence[PlannedRun]
    searched: Sequence[PlannedRun] = ()

    @property
    def key(self) -> str:
        """The row's key, which is in the names of its runs' folders."""
        return evidence.key(self.row.recipe, self.digest)

    @property
    def choice(self) -> Choice | None:
        """The rates that were tried; None before all of their runs have ended, and where there are none.

        A run that diverged has ended, too: its rate is the worst.
        """
        if not self.searched or not all(is_finished(run) or rates.has_diverged(run) for run in self.searched):
            return None
        return rates.choice(self.searched)


class Places(NamedTuple):
    """The folder of the runs, the number of worker processes, and the console."""

    folder: Path
    workers: int
    console: Console


def plan(rows: Sequence[Row], own_rates: bool, places: Places) -> list[RowPlan]:
    """Plan the runs of all rows with the shared rate; `own_rates`: and those that choose the rates of the claims' rows."""
    digests = pool.map_in_workers(evidence.digest, [row.recipe for row in rows], places.workers)
    return [
        _plan_row(row, digest, own_rates and row.group in rates.GROUPS, places.folder)
        for row, digest in zip(rows, digests, strict=True)
    ]


def _plan_row(row: Row, digest: str, searches: bool, folder: Path) -> RowPlan:
    searched: list[PlannedRun] = []
    if searches:
        for recipe in rates.searches(row.recipe):
            search = Row(row.group, f"{row.label} with a rate of {recipe.lr:g}", recipe, seeds=1)
            searched += evidence.plan_runs(search, evidence.key(recipe, digest), folder)
    return RowPlan(row, digest, evidence.plan_runs(row, evidence.key(row.recipe, digest), folder), searched)


def with_own_rates(shared: Sequence[RowPlan], folder: Path) -> list[RowPlan]:
    """Return the rows whose own rate is chosen, with it."""
    plans = []
    for row_plan in shared:
        choice = row_plan.choice
        if choice is not None:
            own = _plan_row(rates.own(row_plan.row, choice.best), row_plan.digest, searches=False, folder=folder)
            plans.append(own._replace(searched=row_plan.searched))
    return plans


def train(shared: Sequence[RowPlan], places: Places) -> list[RowPlan]:
    """Train all rows, stage by stage; return them, and after them those with their own rates.

    Raises as `pool.train_all` does.
    """
    train_all = partial(pool.train_all, workers=places.workers, console=places.console)
    for name, groups in STAGES.items():
        stage = [row_plan for row_plan in shared if row_plan.row.group in groups]
        places.console.print(f"{name}:", highlight=False)
        train_all(_by_seed([row_plan.runs for row_plan in stage]))
        _train_searches(_by_seed([row_plan.searched for row_plan in stage]), train_all)
        train_all(_by_seed([row_plan.runs for row_plan in with_own_rates(stage, places.folder)]))
    return [*shared, *with_own_rates(shared, places.folder)]


def _train_searches(runs: Sequence[PlannedRun], train_all: Callable[[Sequence[PlannedRun]], None]) -> None:
    """Train the runs that choose rates; one that diverges is not trained again, and fails nothing."""
    pending = [run for run in runs if not rates.has_diverged(run)]
    try:
        train_all(pending)
    except UsageError:
        # Any other failure ends the report.
        if not all(is_finished(run) or rates.has_diverged(run) for run in pending):
            raise


def _by_seed(runs: Sequence[Sequence[PlannedRun]]) -> list[PlannedRun]:
    """Return the first run of each row, then the second ones: what is interrupted has seeds of all rows.

    The same recipe may stand in two tables; it is trained once.
    """
    by_seed = itertools.chain.from_iterable(itertools.zip_longest(*runs))
    return list({run.folder: run for run in by_seed if run is not None}.values())


def finished(plans: Sequence[RowPlan]) -> list[RowPlan]:
    """Return the rows with the seeds that are finished for every row of their table and rates; none of a table without.

    A table with the rows' own rates is complete when all of its searches are finished.
    """
    # A row whose search is not finished has no plan with its own rate, so its table would look complete without it.
    searching = {row_plan.row.group for row_plan in plans if row_plan.searched and row_plan.choice is None}
    plans = [row_plan for row_plan in plans if row_plan.row.rates == "shared" or row_plan.row.group not in searching]

    seeds: dict[tuple[str, str], int] = {}
    for row_plan in plans:
        table = (row_plan.row.group, row_plan.row.rates)
        count = sum(1 for _ in itertools.takewhile(is_finished, row_plan.runs))
        seeds[table] = min(count, seeds.get(table, count))

    complete = []
    for row_plan in plans:
        count = seeds[row_plan.row.group, row_plan.row.rates]
        if count:
            row = row_plan.row._replace(seeds=count)
            complete.append(row_plan._replace(row=row, runs=row_plan.runs[:count]))
    return complete


# Costs -----------------------------------------------------------------------------------------------------------------


def print_costs(shared: Sequence[RowPlan], places: Places) -> None:
    """Print what each row costs at the most, in CPU time of what is not finished; its epochs are measured once."""
    seconds = _epoch_seconds(shared, places)
    total = 0.0
    priced: set[str] = set()
    for row_plan in shared:
        # The same recipe may stand in two tables.
        if row_plan.key in priced:
            continue
        priced.add(row_plan.key)
        pending = [run for run in _all_runs(row_plan, places.folder) if not is_finished(run)]
        epochs = sum(run.experiment.most_epochs for run in pending)
        hours = epochs * seconds[row_plan.key] / 3600
        total += hours
        if pending:
            name = f"{row_plan.row.group}: {row_plan.row.label}"
            cost = f"{len(pending)} runs, at most {epochs:,} epochs of {seconds[row_plan.key]:.2g} s: {hours:.1f} CPU hours"
            places.console.print(f"{name}: {cost}", highlight=False)
    places.console.print(f"at most {total:.1f} CPU hours in all; a plateau ends most runs earlier", highlight=False)


def _all_runs(row_plan: RowPlan, folder: Path) -> list[PlannedRun]:
    """Return the runs of a row with the shared rate, those that choose its own, and those with its own."""
    runs = [*row_plan.runs, *row_plan.searched]
    if not row_plan.searched:
        return runs
    own = with_own_rates([row_plan], folder)
    if own:
        return list({run.folder: run for run in [*runs, *own[0].runs]}.values())
    # Before the rate is chosen, their number is all that is known of them.
    return [*runs, *row_plan.runs]


def _epoch_seconds(shared: Sequence[RowPlan], places: Places) -> Mapping[str, float]:
    """Return the CPU seconds of an epoch by the key of a row, measured by one process, or before."""
    file = places.folder / COSTS
    seconds: dict[str, float] = {}
    if file.is_file():
        seconds = evidence.read_times(file).get("seconds", {})
    recipes = {row_plan.key: row_plan.row.recipe for row_plan in shared if row_plan.key not in seconds}
    if recipes:
        (measured,) = pool.map_in_workers(partial(evidence.times, rounds=1), [recipes], 1)
        seconds |= {key: rounds[0] for key, rounds in measured.items()}
        sealed.write(file, {"seconds": seconds})
    return seconds
