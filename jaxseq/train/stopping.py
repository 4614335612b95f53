"""When training ends before its last epoch: patience on validation, and a plateau of the training loss.

Both rules read the run's log alone, which is sealed: a run that resumes stops where it would have stopped undisturbed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from jaxseq.train import run_folder
from jaxseq.train.experiments.base import Training
from jaxseq.train.run_folder import Row


def stop_reason(training: Training, rows: Sequence[Row], metric: str) -> str | None:
    """Return why training ends after the last of the epochs in `rows`; None if it goes on.

    metric  the column that chooses the best epoch
    """
    if not rows:
        return None
    last_epoch = rows[-1]["epoch"]
    patience = training.patience
    if patience is not None and last_epoch - run_folder.best_row(rows, metric)["epoch"] >= patience:
        return f"no better validation for {patience} epochs"

    if training.min_gain is None or last_epoch < training.min_epochs:
        return None
    losses = np.array([row["train_loss"] for row in rows], np.float64)
    if has_plateau(losses, training.min_gain, training.gain_epochs):
        return f"the training loss fell by less than {training.min_gain:.3g} of it in {training.gain_epochs} epochs"
    return None


def has_plateau(losses: Float[np.ndarray, " e"], min_gain: float, epochs: int) -> bool:
    """Return whether the best loss fell by at most the share `min_gain` over the last `epochs`; False if there are fewer.

    The best loss so far is compared, not the last one, because a single epoch of a noisy curve may be worse than the rest.
    """
    if len(losses) <= epochs:
        return False
    before = float(np.min(losses[:-epochs]))
    now = float(np.min(losses))
    return before - now <= min_gain * abs(before)
