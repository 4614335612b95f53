"""Trackio, in its own local store: `trackio show` draws every run.

Only door to trackio.
"""

from __future__ import annotations

import contextvars
import io
import os
from contextlib import redirect_stdout

import trackio

from jaxseq.common.sealed import RUN_ID, digest
from jaxseq.train.callbacks import StartedRun
from jaxseq.train.loggers.base import Logger

PROJECT = "jaxseq"


class Log(Logger):
    """Metrics by epoch in trackio's database, under the name of the run's folder."""

    name = "trackio"

    def open(self, run: StartedRun) -> None:
        """Begin the run, or resume the one of the same name."""
        folder = run.folder.resolve()
        # Folders of two sweeps may have the same name.
        identity = digest({RUN_ID: run.config.get(RUN_ID), "folder": str(folder)})[:8]
        # It ends the last run of its context, but seeds that are trained together are open at the same time.
        self._context = contextvars.copy_context()
        # It prints how its dashboard is opened.
        with redirect_stdout(io.StringIO()):
            self._history = self._context.run(
                trackio.init,
                project=os.environ.get("TRACKIO_PROJECT", PROJECT),
                name=f"{folder.name}-{identity}",
                config=dict(run.config),
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    def write(self, epoch: int, values: dict[str, float]) -> None:
        """Log the values at the step of the epoch."""
        self._history.log(values, step=epoch)

    def close(self, error: BaseException | None) -> None:
        """Wait until everything is stored."""
        # Not of the run alone, which would be finished once more at the exit.
        with redirect_stdout(io.StringIO()):
            self._context.run(trackio.finish)
