"""Reports of a trial's run to the journal of its search, and its end where Optuna prunes it; in the process that trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from optuna.trial import Trial

from jaxseq.sweep.planned import PrunedError
from jaxseq.sweep.search_journal import be_quiet, open_journal, trial_id
from jaxseq.train import loggers
from jaxseq.train.callbacks import Callback, StartedRun
from jaxseq.train.run_folder import Row


def callbacks(journal: Path, number: int, metric: str, log: str | None) -> Sequence[Callback]:
    """Return the callbacks of a trial's run: loggers first, which then have the epoch that is pruned."""
    return [*loggers.named(log), Pruning(journal, number, metric)]


class Pruning(Callback):
    """Reports a trial's metric after each epoch, and ends the run if Optuna prunes the trial.

    The epoch that is pruned is saved, and the run is not judged. A run that resumes is asked about at once: its process
    may have been killed just before.
    """

    def __init__(self, journal: Path, number: int, metric: str) -> None:
        self._journal = journal
        self._number = number
        self._metric = metric
        self._prune: Callable[[], None] = lambda: None

    def on_start(self, run: StartedRun) -> None:
        """Open the journal, and report the epochs that it lacks."""
        be_quiet()
        storage, study = open_journal(self._journal, run.experiment.most_epochs)
        trial = trial_id(storage, self._number)
        self._trial = Trial(study, trial)
        self._last_epoch = max(storage.get_trial(trial).intermediate_values, default=0)
        for row in run.rows:
            self.on_epoch(row)
        # An epoch that was reported before says what it said then.
        self._end_if_pruned(self._last_epoch)

    def on_epoch(self, row: Row) -> None:
        """Report an epoch."""
        epoch = int(row["epoch"])
        if epoch <= self._last_epoch:
            return
        self._last_epoch = epoch
        self._trial.report(row[self._metric], epoch)
        self._end_if_pruned(epoch)

    def _end_if_pruned(self, epoch: int) -> None:
        if epoch and self._trial.should_prune():
            raise PrunedError(f"pruned after epoch {epoch}")
