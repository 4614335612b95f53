"""What a training curve says of speed and stability: epochs to a target, whether it has flattened, how rough it is.

Losses are "s e", a row for each seed and a column for each of e epochs; every measure is one number a seed, so that rows
which share their seeds can be compared in pairs (`jaxseq.forecasting.paired`).
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float

Losses: TypeAlias = Float[np.ndarray, "s e"]
PerSeed: TypeAlias = Float[np.ndarray, " s"]


class Reached(NamedTuple):
    """When each seed first reached a target: see `epochs_to_reach`."""

    epochs: Float[np.ndarray, " s"]
    """The first epoch, from 1, at or below the target; NaN for a seed that never was."""
    last: int
    """The last epoch that was trained."""

    @property
    def seeds(self) -> int:
        """Seeds that reached it."""
        return int(np.count_nonzero(~np.isnan(self.epochs)))

    @property
    def censored(self) -> Float[np.ndarray, " s"]:
        """The same, with last + 1 for a seed that never reached it: the least that it can have needed.

        In a paired comparison, a seed that only one of two rows reached keeps the sign of its difference and understates
        its size; one that neither reached counts as a tie. So "a is sooner than b" is judged with caution where b has
        seeds that never reached it, but too kindly where a has: look at `seeds` of a first.
        """
        return np.where(np.isnan(self.epochs), self.last + 1, self.epochs)


def epochs_to_reach(losses: Losses, target: float | Float[np.ndarray, " _"]) -> Reached:
    """The first epoch at or below the target, one for all seeds or one for each.

    A curve that rises above it again has reached it all the same. Raises `ValueError` as `flattened` does, and for a
    target that is not finite or not one for each seed.
    """
    _check(losses)
    targets = np.asarray(target, np.float64)
    if targets.shape not in ((), losses.shape[:1]) or not np.all(np.isfinite(targets)):
        raise ValueError(f"target is {target}; expected a finite number, or one for each of {len(losses)} seeds")
    below = losses <= targets[..., None]
    return Reached(np.where(below.any(axis=1), np.argmax(below, axis=1) + 1.0, np.nan), losses.shape[1])


def flattened(losses: Losses, last: float = 0.2) -> PerSeed:
    """Relative change of the loss in an epoch over the `last` share of them: 0 is flat, -0.01 still falls by 1 % an epoch.

    The slope of the least-squares line over the mean loss there, of at least 2 epochs; NaN where only 1 was trained.
    Raises `ValueError` for no seed or no epoch, a loss that is not finite or is below 0 (which has no relative change),
    and a share that is not above 0 and at most 1.
    """
    _check(losses)
    if not 0 < last <= 1:
        raise ValueError(f"last is {last}; expected a share above 0 and at most 1")
    tail = losses[:, -max(2, round(last * losses.shape[1])) :].astype(np.float64)
    if tail.shape[1] < 2:
        return np.full(len(losses), np.nan)
    time = np.arange(tail.shape[1]) - (tail.shape[1] - 1) / 2
    return _relative(tail @ time / np.sum(time**2), tail)


def roughness(losses: Losses) -> PerSeed:
    """Standard deviation of the changes from epoch to epoch in the second half, over the mean loss there: 0 is smooth.

    A steady fall is smooth: what counts is how the changes differ. The middle epoch of an odd number belongs to the
    second half; NaN where that has fewer than 2 changes, that is, below 5 epochs. Raises `ValueError` as `flattened` does.
    """
    _check(losses)
    half = losses[:, losses.shape[1] // 2 :].astype(np.float64)
    if half.shape[1] < 3:
        return np.full(len(losses), np.nan)
    return _relative(np.std(np.diff(half, axis=1), axis=1, ddof=1), half)


def _relative(change: PerSeed, losses: Losses) -> PerSeed:
    """Over the mean loss; where all losses are 0, so is their change."""
    mean = np.mean(losses, axis=1)
    return np.divide(change, mean, out=np.zeros_like(mean), where=mean > 0)


def _check(losses: Losses) -> None:
    if losses.ndim != 2 or not losses.size:
        raise ValueError(f"losses have the shape {losses.shape}; expected at least 1 seed and 1 epoch")
    if np.any(bad := ~np.isfinite(losses) | (losses < 0)):
        seed, epoch = (int(place) for place in np.argwhere(bad)[0])
        found = losses[seed, epoch]
        raise ValueError(
            f"the loss of seed {seed + 1} of {len(losses)}, epoch {epoch + 1}, is {found}; expected 0 or more"
        )
