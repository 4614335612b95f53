"""TensorBoard, by tensorboardX, which needs no TensorFlow: `tensorboard --logdir runs` shows every run.

Only door to tensorboardX.
"""

from __future__ import annotations

import secrets

from tensorboardX import SummaryWriter

from jaxseq.common import files
from jaxseq.train.callbacks import StartedRun
from jaxseq.train.loggers.base import Logger

FOLDER = "tensorboard"
"""Folder, in that of the run, of the event files."""


class Log(Logger):
    """Scalars by epoch in event files in the run's folder."""

    name = "tensorboard"

    def open(self, run: StartedRun) -> None:
        """Begin a new event file; TensorBoard shows all files of a folder as one run."""
        folder = run.folder / FOLDER
        files.refuse_link(folder)
        # By default, two files of one second have one name, and the later one replaces the other.
        self._writer = SummaryWriter(logdir=str(folder), filename_suffix=f".{secrets.token_hex(4)}")

    def write(self, epoch: int, values: dict[str, float]) -> None:
        """Write a scalar for each value."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def close(self, error: BaseException | None) -> None:
        """Close the event file."""
        self._writer.close()
