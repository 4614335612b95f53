"""The runs of a grid in groups of one shape, each of which is trained in one compiled epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jaxseq.common.errors import UsageError
from jaxseq.common.text import counted
from jaxseq.sweep import pool
from jaxseq.sweep.planned import PlannedRun, is_finished
from jaxseq.train import together

if TYPE_CHECKING:
    from rich.console import Console


def train_all(runs: Sequence[PlannedRun], workers: int, console: Console, command: str) -> None:
    """Train the runs that are not finished, group by group in this process; runs without a group as `pool` does.

    workers  processes for the runs without a group
    command  the command that resumes them, for the message of a stop

    A run that is finished keeps its lane, so that a repeated command computes the bits of the others again. Raises what
    `together.train` raises, and `UsageError` when all groups have ended if a run has failed.
    """
    unfinished = {run.name for run in runs if not is_finished(run)}
    alone = []
    failures: dict[str, UsageError] = {}
    for group in together.groups(runs):
        left = [run for run in group if run.name in unfinished]
        if len(group) == 1:
            alone.extend(left)
        elif left:
            console.rule(f"{counted(len(left), 'run')} together, from {left[0].name} to {left[-1].name}")
            failures |= together.train(
                group,
                left,
                console=console,
                classical=False,
                again=command,
                make_callbacks=group[0].callbacks,
            )

    if alone:
        pool.train_all(alone, workers, console, command)
    if failures:
        name, error = next(iter(failures.items()))
        raise UsageError(f"{len(failures)} of {len(runs)} runs failed, first {name}: {error}")
