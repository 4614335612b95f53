"""The journal of a search as a study of Optuna."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import NamedTuple

import optuna
from optuna.storages import JournalStorage

from jaxseq.common.errors import UsageError
from jaxseq.sweep import sealed_journal

STUDY = "jaxseq"
"""Name of the only study in a journal."""
STARTUP = 5
"""Trials that have to end before a run is pruned."""
WARMUP = 10
"""A run trains at least one part in so many of its epochs."""


class OpenJournal(NamedTuple):
    """An open journal, and the study in it."""

    storage: JournalStorage
    study: optuna.Study


def trial_id(storage: JournalStorage, number: int) -> int:
    """Return what Optuna's storage calls the trial of a number."""
    return storage.get_trial_id_from_study_id_trial_number(storage.get_study_id_from_name(STUDY), number)


def open_journal(journal: Path, epochs: int, start: str = "") -> OpenJournal:
    """Open a journal, with a new study if it has none. Raises `UsageError` for a journal that is damaged.

    start  the seal before its first line, of which a trial writes none
    """
    try:
        storage = JournalStorage(sealed_journal.SealedJournal(journal, start))
        pruner = optuna.pruners.MedianPruner(STARTUP, n_warmup_steps=max(1, epochs // WARMUP))
        # To create one that is there would add a line to the journal.
        if STUDY in optuna.get_all_study_names(storage):
            study = optuna.load_study(study_name=STUDY, storage=storage, pruner=pruner)
        else:
            study = optuna.create_study(study_name=STUDY, storage=storage, pruner=pruner)
        return OpenJournal(storage, study)
    except UsageError:
        raise
    # It has no exception of its own for a line that is no record.
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UsageError(f"cannot be read: {error}", where=journal) from error


def be_quiet() -> None:
    """Keep Optuna's log and its notes on experimental features off the screen."""
    # It prints each trial on stderr, twice with several processes.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
