"""The logger of a tool: which epochs it has logged, and what happens when the tool fails."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

from jaxseq.common import sealed
from jaxseq.common.errors import UsageError
from jaxseq.common.text import first_line
from jaxseq.train.callbacks import Callback, StartedRun
from jaxseq.train.run_folder import Row

RECORD = "logged.json"
"""File in a run's folder with the last epoch that each tool has."""


class Logger(Callback, ABC):
    """A callback that gives each epoch's row to a tool, once, whenever the run resumes.

    Rows of epochs that were trained before, without the tool, are given to it at the start. A failure of the tool is one
    line on the screen: it gets no further row, and training goes on. A later `--resume` with the logger adds what is
    missing.
    """

    name: str
    """Name of the tool on the command line."""

    def __init__(self) -> None:
        self._run: StartedRun | None = None
        self._last_epoch = 0

    @abstractmethod
    def open(self, run: StartedRun) -> None:
        """Open the run in the tool, a new one or the one that was opened before."""

    @abstractmethod
    def write(self, epoch: int, values: dict[str, float]) -> None:
        """Write the values of an epoch, by name, so that they outlive this process."""

    @abstractmethod
    def close(self, error: BaseException | None) -> None:
        """Close the run in the tool; `error` is what ended the training before its end, if anything did."""

    def on_start(self, run: StartedRun) -> None:
        """Open the tool, and give it the rows that it does not have."""
        self._run = run
        self._last_epoch = 0
        self._try(partial(self._begin, run))

    def _begin(self, run: StartedRun) -> None:
        record = _read(run)
        self._last_epoch = int(record.get(self.name, 0))
        self.open(run)
        for row in run.rows:
            self._log(row)

    def on_epoch(self, row: Row) -> None:
        """Give the tool an epoch's row."""
        self._try(partial(self._log, row))

    def _log(self, row: Row) -> None:
        epoch = int(row["epoch"])
        # A resumed run trains epochs again that were not saved, with the same values, bit for bit.
        if epoch <= self._last_epoch or self._run is None:
            return
        # Before the row: where a process is killed between them, the tool lacks a point and has none twice.
        _write(self._run, self.name, epoch)
        try:
            self.write(epoch, _values(row))
        except Exception:
            _write(self._run, self.name, self._last_epoch)
            raise
        self._last_epoch = epoch

    def on_end(self, error: BaseException | None) -> None:
        """Close the tool."""
        self._try(partial(self.close, error))
        self._run = None

    def _try(self, call: Callable[[], None]) -> None:
        """Call the tool unless it has failed; say so when it fails."""
        run = self._run
        if run is None:
            return
        # A tool of others may raise anything, and none of it is worth a training.
        try:
            call()
        except Exception as error:
            self._run = None
            reason = f"{type(error).__name__}: {first_line(error)}"
            run.note(f"{self.name} logs no further epoch ({reason}); --resume {run.folder} adds them")


def _values(row: Row) -> dict[str, float]:
    """Return what is logged of a row, by name."""
    # The step of a tool is the epoch.
    names = {"step": "optimiser_step"}
    return {names.get(name, name): float(value) for name, value in row.items() if name != "epoch"}


def _read(run: StartedRun) -> dict[str, Any]:
    path = run.folder / RECORD
    return sealed.read(path) if path.is_file() else {}


def _write(run: StartedRun, name: str, epoch: int) -> None:
    try:
        record = _read(run)
    except UsageError:
        record = {}
    sealed.write(run.folder / RECORD, {**record, name: epoch})
