"""Weights & Biases, offline unless WANDB_MODE says otherwise: `wandb sync RUN/wandb/offline-*` uploads the runs.

Only door to wandb.
"""

from __future__ import annotations

import os

import wandb

from jaxseq.common import files
from jaxseq.common.sealed import RUN_ID, digest
from jaxseq.train.callbacks import StartedRun
from jaxseq.train.loggers.base import Logger

PROJECT = "jaxseq"
OFFLINE = "offline"


class Log(Logger):
    """History by epoch in the run's folder; a run that resumes has the same id."""

    name = "wandb"

    def open(self, run: StartedRun) -> None:
        """Begin or resume the run; of offline runs, each process has a folder of its own, which `wandb sync` joins."""
        files.refuse_link(run.folder / "wandb")
        # The same recipe may be trained in two folders, which are two runs.
        identity = {RUN_ID: run.config.get(RUN_ID), "folder": str(run.folder.resolve())}
        self._history = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            dir=str(run.folder),
            id=digest(identity)[:16],
            name=run.folder.name,
            config=dict(run.config),
            resume="allow",
            mode=os.environ.get("WANDB_MODE", OFFLINE),
            # Seeds that are trained together are open at the same time.
            settings=wandb.Settings(silent=True, console="off", reinit="create_new"),
        )

    def write(self, epoch: int, values: dict[str, float]) -> None:
        """Log the values at the step of the epoch."""
        self._history.log(values, step=epoch, commit=True)

    def close(self, error: BaseException | None) -> None:
        """Finish the run; one that was ended before its end counts as failed."""
        self._history.finish(exit_code=int(error is not None))
