"""What a training curve says of speed and stability: epochs to a target, whether it has flattened, how rough it is.

Losses are "s e", a row for each seed and a column for each of e epochs, with NaN behind the last epoch of a seed that
stopped before the others. Every measure is one number a seed, over the epochs that it has, so that rows which share their
seeds can be compared in pairs (`jaxseq.report.paired`).
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float, Int

Losses: TypeAlias = Float[np.ndarray, "s e"]
PerSeed: TypeAlias = Float[np.ndarray, " s"]
Curve: TypeAlias = Float[np.ndarray, " _"]


class Reached(NamedTuple):
    """When each seed first reached a target: see `epochs_to_reach`."""

    epochs: Float[np.ndarray, " s"]
    """The first epoch, from 1, at or below the target; NaN for a seed that never was."""
    last: Int[np.ndarray, " s"]
    """The last epoch that each seed was trained."""

    @property
    def seeds(self) -> int:
        """Seeds that reached it."""
        return int(np.count_nonzero(~np.isnan(self.epochs)))

    def censored(self, other_last: Int[np.ndarray, " s"] | None = None) -> Float[np.ndarray, " s"]:
        """The same, with last + 1 for a seed that never reached it: the least that it can have needed.

        other_last  the last epochs of the row beside it; the later of the two counts, so that a row whose training
                    ended sooner does not look faster for it

        In a paired comparison, a seed that only one of two rows reached keeps the sign of its difference and understates
        its size; one that neither reached counts as a tie. So "a is sooner than b" is judged with caution where b has
        seeds that never reached it, but too kindly where a has: look at `seeds` of a first.
        """
        last = self.last
        if other_last is not None:
            last = np.maximum(last, other_last)
        return np.where(np.isnan(self.epochs), last + 1, self.epochs)


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
    return Reached(np.where(below.any(axis=1), np.argmax(below, axis=1) + 1.0, np.nan), ends(losses))


def ends(losses: Losses) -> Int[np.ndarray, " s"]:
    """Return how many epochs each seed was trained."""
    _check(losses)
    return _ends(losses)


def last_losses(losses: Losses) -> PerSeed:
    """Return the loss of each seed's last epoch."""
    return losses[np.arange(len(losses)), ends(losses) - 1].astype(np.float64)


def until_first_end(losses: Losses) -> Float[np.ndarray, "s f"]:
    """Return the epochs that all seeds have."""
    return losses[:, : int(np.min(ends(losses)))]


def flattened(losses: Losses, last: float = 0.2) -> PerSeed:
    """Relative change of the loss in an epoch over the `last` share of them: 0 is flat, -0.01 still falls by 1 % an epoch.

    The slope of the least-squares line over the mean loss there, of at least 2 epochs; NaN where only 1 was trained.
    Raises `ValueError` for no seed or no epoch, a loss that is not finite or is below 0 (which has no relative change),
    and a share that is not above 0 and at most 1.
    """
    _check(losses)
    if not 0 < last <= 1:
        raise ValueError(f"last is {last}; expected a share above 0 and at most 1")
    return np.array([_flattened(curve, last) for curve in _curves(losses)])


def _flattened(curve: Curve, last: float) -> float:
    tail = curve[-max(2, round(last * len(curve))) :]
    if len(tail) < 2:
        return math.nan
    time = np.arange(len(tail)) - (len(tail) - 1) / 2
    return _relative(float(tail @ time / np.sum(time**2)), tail)


def roughness(losses: Losses) -> PerSeed:
    """Standard deviation of the changes from epoch to epoch in the second half, over the mean loss there: 0 is smooth.

    A steady fall is smooth: what counts is how the changes differ. The middle epoch of an odd number belongs to the
    second half; NaN where that has fewer than 2 changes, that is, below 5 epochs. Raises `ValueError` as `flattened` does.
    """
    _check(losses)
    return np.array([_roughness(curve) for curve in _curves(losses)])


def _roughness(curve: Curve) -> float:
    half = curve[len(curve) // 2 :]
    if len(half) < 3:
        return math.nan
    return _relative(float(np.std(np.diff(half), ddof=1)), half)


def _relative(change: float, losses: Curve) -> float:
    """Over the mean loss; where all losses are 0, so is their change."""
    mean = float(np.mean(losses))
    return change / mean if mean > 0 else 0.0


def _curves(losses: Losses) -> list[Curve]:
    """Return the curve of each seed up to its last epoch."""
    return [losses[seed, :end].astype(np.float64) for seed, end in enumerate(_ends(losses))]


def _ends(losses: Losses) -> Int[np.ndarray, " s"]:
    epochs = np.arange(1, losses.shape[1] + 1)
    return np.max(np.where(np.isnan(losses), 1, epochs), axis=1)


def _check(losses: Losses) -> None:
    if losses.ndim != 2 or not losses.size:
        raise ValueError(f"losses have the shape {losses.shape}; expected at least 1 seed and 1 epoch")
    is_trained = np.arange(losses.shape[1]) < _ends(losses)[:, None]
    bad = is_trained & (~np.isfinite(losses) | (losses < 0))
    if np.any(bad):
        seed, epoch = (int(place) for place in np.argwhere(bad)[0])
        found = losses[seed, epoch]
        raise ValueError(
            f"the loss of seed {seed + 1} of {len(losses)}, epoch {epoch + 1}, is {found}; expected 0 or more"
        )
