"""Retention of checkpoints: which epochs of a run stay on disk, and how what a kill or damage leaves is cleaned up."""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxseq.checkpoint import choice, records, store
from jaxseq.common.errors import UsageError
from jaxseq.common.files import cannot_write
from jaxseq.common.sealed import RUN_ID, DamagedError

CLEARING = "clearing-"
"""Start of the name of the mark beside a checkpoint that is being deleted."""


class KeepLastTwoAndBest:
    """The policy by which Orbax deletes checkpoints: all but the last two and the best.

    Epochs after the one just saved are kept until they are saved again: a run that resumes from an older epoch would
    otherwise lose them first. A checkpoint that is deleted has a mark beside it until it is gone, by which half a
    checkpoint that a killed process leaves is recognised.
    """

    def __init__(self, folder: Path, values: dict[int, float]) -> None:
        self.folder = folder
        self.values = values
        self.newest = -1

    def add(self, epoch: int, value: float) -> None:
        """Take in an epoch that is about to be saved."""
        self.values[epoch] = value
        self.newest = epoch

    def best_epoch(self) -> int | None:
        """Return the best epoch up to the newest; later ones are about to be trained again."""
        return choice.best_epoch({epoch: value for epoch, value in self.values.items() if epoch <= self.newest})

    def should_preserve(self, checkpoints: Sequence[Any], *, context: object) -> list[bool]:
        """Return which checkpoints stay, and mark those that are about to be deleted; called by Orbax."""
        past = sorted(info.step for info in checkpoints if info.step <= self.newest)
        best = choice.best_epoch({epoch: self.values.get(epoch, math.inf) for epoch in past})
        preserved = {*past[-2:], best}

        for epoch in set(past) - preserved:
            # Without its mark, half a checkpoint is set aside as damaged instead.
            with contextlib.suppress(OSError):
                (self.folder / f"{CLEARING}{epoch}").touch()
        return [info.step in preserved or info.step > self.newest for info in checkpoints]


def was_clearing(folder: Path, epoch: int) -> bool:
    """Return whether a checkpoint was being deleted when its process ended; it may be whole, in part, or gone."""
    return (folder / f"{CLEARING}{epoch}").exists()


def remove_marks(folder: Path) -> None:
    """Remove the marks of checkpoints that are gone by now."""
    for mark in folder.glob(f"{CLEARING}*"):
        # Where nothing may be written, the next save reports it.
        with contextlib.suppress(OSError):
            mark.unlink()


def check_owner(folder: Path, config: Mapping[str, object]) -> None:
    """Raise `UsageError` for a folder in which no checkpoint, nor the configuration, is known to be of this run.

    One of another run among those of this run is damage.
    """
    owners = []
    # Damaged records say nothing about an owner.
    with contextlib.suppress(DamagedError):
        if folder.is_dir():
            owners.append(records.config(folder).get(RUN_ID))
    for epoch in records.epochs(folder):
        with contextlib.suppress(DamagedError):
            owners.append(records.record_of(folder, epoch).get(RUN_ID))
    if owners and config.get(RUN_ID) not in owners:
        raise UsageError("holds the checkpoints of another run", where=folder, needed="a folder of this run")


def set_damaged_aside(folder: Path, config: Mapping[str, object], report: Callable[[str], object]) -> None:
    """Rename damaged checkpoints, and delete what is left of those that were being deleted.

    Orbax refuses to open a folder with some of them, and none of them may count as the best.
    """
    for epoch in records.epochs(folder):
        if not store.damage(folder, epoch, config):
            continue
        if was_clearing(folder, epoch):
            shutil.rmtree(folder / str(epoch), ignore_errors=True)
            continue

        aside = folder / f"{records.DAMAGED}{epoch}"
        try:
            shutil.rmtree(aside, ignore_errors=True)
            (folder / str(epoch)).rename(aside)
        except OSError as error:
            raise cannot_write(aside, error) from error
        report(f"{records.place(folder, epoch)} is damaged: set aside as {aside.name}")
    remove_marks(folder)
