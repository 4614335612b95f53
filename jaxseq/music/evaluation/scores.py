"""Scores of predicted notes: which notes are targets, and averages over pieces.

Models and baselines are scored by the same functions, by one of two protocols:

whole pieces    every note of a piece is a target, the first included; everything before it in the piece is known
windows         33 chords cut every 16, each read without memory; its first note is given, the other 131 are targets
                (Géron, Hands-On Machine Learning, 2nd edition, 2019, chapter 15, exercise 10 and its solution)

Notes are ordered as soprano, alto, tenor, bass of one step, then of the next. Nats are per note.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

WINDOW, SHIFT = 33, 16
"""Chords of a window, and from the start of one window to the start of the next."""


def windows(pieces: Sequence[Int[np.ndarray, "_ 4"]]) -> Int[np.ndarray, "n 33 4"]:
    """Cut all windows of all pieces, piece by piece; the rest at the end of a piece is dropped."""
    cut = []
    for piece in pieces:
        starts = range(0, len(piece) - WINDOW + 1, SHIFT)
        cut.extend(piece[start : start + WINDOW] for start in starts)
    if not cut:
        return np.zeros((0, WINDOW, 4), np.int64)
    return np.stack(cut)


def all_but_the_first(tokens: Int[np.ndarray, "*b t 4"]) -> Bool[np.ndarray, "*b t 4"]:
    """Return the targets of windows: every note but the soprano's of the first step, which is given."""
    scored = np.ones(tokens.shape, bool)
    scored[..., :1, 0] = False
    return scored


def changed(tokens: Int[np.ndarray, "*b t 4"]) -> Bool[np.ndarray, "*b t 4"]:
    """Return which notes differ from the same voice's previous one; the first of each voice counts as changed."""
    different = np.ones(tokens.shape, bool)
    different[..., 1:, :] = tokens[..., 1:, :] != tokens[..., :-1, :]
    return different


class Sums(NamedTuple):
    """Sums over the targets of one piece, or of several."""

    nats: float
    """-Σ log p of the targets; NaN without probabilities."""
    notes: int
    """Number of targets."""
    right: int
    """Targets that were predicted."""
    changed: int
    """Targets that differ from the same voice's previous note."""
    changed_right: int
    """Targets that differ from the same voice's previous note and were predicted."""


class Scores(NamedTuple):
    """Averages over all targets of all pieces, each with the same weight; NaN if there is none."""

    nats: float
    """-log p of a note."""
    accuracy: float
    """Share of the notes that were predicted."""
    changed_accuracy: float
    """Accuracy on notes that differ from the voice's previous one; holding every note scores 0."""
    notes: int
    """Number of notes."""


def score(
    log_probability: Float[np.ndarray, "*b t 4"] | None,
    predicted: Int[np.ndarray, "*b t 4"],
    tokens: Int[np.ndarray, "*b t 4"],
    scored: Bool[np.ndarray, "*b t 4"] | None = None,
) -> Sums:
    """Sum log-likelihood and hits of the predictions of one piece, or of rows with any leading axes.

    log_probability  log p of the symbols in `tokens`, in nats; None if there is none, as for copied notes
    predicted        most likely symbol
    scored           which notes are targets; None scores all

    Notes that are no targets, padding among them, may hold any value, NaN included.
    """
    targets = scored
    if targets is None:
        targets = np.ones(tokens.shape, bool)
    right = (predicted == tokens) & targets
    moved = changed(tokens) & targets

    nats = math.nan
    if log_probability is not None:
        nats = -float(log_probability[targets].sum(dtype=np.float64))
    return Sums(
        nats,
        notes=int(np.count_nonzero(targets)),
        right=int(np.count_nonzero(right)),
        changed=int(np.count_nonzero(moved)),
        changed_right=int(np.count_nonzero(right & moved)),
    )


def average(sums: Iterable[Sums] | Mapping[str, Sums], without: Collection[str] = ()) -> Scores:
    """Average over the notes of all pieces, so that a long piece weighs more.

    `sums` may be by name of the piece; those named in `without` are then left out, and unknown names ignored. Raises
    `ValueError` for names to leave out of sums without names.
    """
    if isinstance(sums, Mapping):
        included = [of_piece for name, of_piece in sums.items() if name not in without]
    elif without:
        raise ValueError("pieces can be left out by name only if the sums are given by name")
    else:
        included = list(sums)

    # A first summand of zeros, so that no pieces at all have sums too.
    totals = Sums(*(sum(column) for column in zip(Sums(0.0, 0, 0, 0, 0), *included, strict=True)))
    return Scores(
        nats=_share(totals.nats, totals.notes),
        accuracy=_share(totals.right, totals.notes),
        changed_accuracy=_share(totals.changed_right, totals.changed),
        notes=totals.notes,
    )


def _share(part: float | int, total: int) -> float:
    if not total:
        return math.nan
    return part / total
