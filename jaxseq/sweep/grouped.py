"""The runs of a grid in groups of one shape, each of which is trained in one compiled epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jaxseq.checkpoint import run_seal
from jaxseq.common import files
from jaxseq.common.errors import Interrupted, Stopped, UsageError
from jaxseq.common.text import counted
from jaxseq.sweep.planned import PlannedRun, is_finished
from jaxseq.train import run as training
from jaxseq.train import together
from jaxseq.train.domains.base import NO_EXTRAS

if TYPE_CHECKING:
    from rich.console import Console


def train_all(runs: Sequence[PlannedRun], console: Console, command: str) -> None:
    """Train the runs that are not finished, group by group, in this process; a run without a group by itself.

    `command` resumes them, for the message of a stop. A run that is finished keeps its lane, so that a repeated command
    computes the bits of the others again. Raises `Stopped` on a signal, and `UsageError` when all groups have ended if a
    run has failed.
    """
    unfinished = {run.name for run in runs if not is_finished(run)}
    if not unfinished:
        return

    failures: dict[str, UsageError] = {}
    for group in together.groups(runs):
        left = [run for run in group if run.name in unfinished]
        if not left:
            continue
        try:
            if len(group) == 1:
                _train_alone(group[0], console, command)
            else:
                failures |= _train_group(group, left, console, command)
        # Of the data, the memory or a lock: none of the group has begun, or its first error while it is judged.
        except UsageError as error:
            console.print(f"{error}; the other groups continue", highlight=False, markup=False)
            failures |= {run.name: error for run in left if not is_finished(run)}

    if failures:
        name, error = next(iter(failures.items()))
        raise UsageError(f"{len(failures)} of {len(runs)} runs failed, first {name}: {error}")


def _train_group(
    group: Sequence[PlannedRun],
    unfinished: Sequence[PlannedRun],
    console: Console,
    command: str,
) -> dict[str, UsageError]:
    """Train the unfinished runs of a group; return the errors of those that failed, by name."""
    console.rule(f"{counted(len(unfinished), 'run')} together, from {unfinished[0].name} to {unfinished[-1].name}")
    return together.train(
        group,
        unfinished,
        console=console,
        extras=NO_EXTRAS,
        again=command,
        make_callbacks=group[0].callbacks,
    )


def _train_alone(run: PlannedRun, console: Console, command: str) -> None:
    """Train or resume a run in this process, which holds the device: a worker process could not have it, too."""
    console.rule(run.name)
    files.refuse_link(run.folder)
    try:
        if (run.folder / run_seal.CONFIG).is_file():
            training.train(run.experiment, console=console, resume=run.folder, callbacks=run.callbacks())
        else:
            training.train(run.experiment, console=console, out=run.folder, callbacks=run.callbacks())
    except Interrupted as stop:
        raise Stopped(stop.status, command) from stop
