"""How predictions of notes are scored: which notes are targets, what is measured of each, and how pieces are averaged.

Models and baselines go through the same functions. There are two protocols:

whole pieces    every note of a piece is a target, the first one too; whatever came before it in the piece is known
windows         33 chords cut every 16, each begun without memory; its first note is given, the other 131 are targets.
                Géron, Hands-On Machine Learning, 2nd edition (2019), chapter 15, exercise 10 and its solution

Notes follow each other as soprano, alto, tenor, bass of one step, then of the next. Nats are per note.
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
    """All windows of all pieces, piece by piece; what is left at the end of a piece is dropped."""
    cut = [piece[first : first + WINDOW] for piece in pieces for first in range(0, len(piece) - WINDOW + 1, SHIFT)]
    return np.stack(cut) if cut else np.zeros((0, WINDOW, 4), np.int64)


def all_but_the_first(tokens: Int[np.ndarray, "*b t 4"]) -> Bool[np.ndarray, "*b t 4"]:
    """The targets of windows: every note but the soprano's of the first step, which is given."""
    scored = np.ones(tokens.shape, bool)
    scored[..., :1, 0] = False
    return scored


def changed(tokens: Int[np.ndarray, "*b t 4"]) -> Bool[np.ndarray, "*b t 4"]:
    """Where a note differs from the same voice's previous one; the first of each voice counts as changed."""
    different = np.ones(tokens.shape, bool)
    different[..., 1:, :] = tokens[..., 1:, :] != tokens[..., :-1, :]
    return different


class Sums(NamedTuple):
    """Sums over the targets of one piece, or of many."""

    nats: float
    """-Σ log p of the targets; NaN where no probabilities were given."""
    notes: int
    """Targets."""
    right: int
    """Targets that were predicted."""
    changed: int
    """Targets that differ from the same voice's previous note."""
    changed_right: int
    """Those of them that were predicted."""


class Scores(NamedTuple):
    """Averages over all targets alike, whatever piece they are in; NaN where there is nothing to average."""

    nats: float
    """-log p of a note."""
    accuracy: float
    """Share of the notes that were predicted."""
    changed_accuracy: float
    """The same, of notes that differ from the voice's previous one: holding every note on scores 0 here."""
    notes: int
    """How many notes were scored."""


def score(
    log_probability: Float[np.ndarray, "*b t 4"] | None,
    predicted: Int[np.ndarray, "*b t 4"],
    tokens: Int[np.ndarray, "*b t 4"],
    scored: Bool[np.ndarray, "*b t 4"] | None = None,
) -> Sums:
    """Sum log-likelihood and hits of predictions of one piece "t 4", or of rows with any leading axes.

    `log_probability` is that of the symbol in `tokens`, in nats (None: there is none, as of copied notes), `predicted`
    the likeliest symbol, `scored` says which notes are targets (None: all; padding must not be). What is not a target
    may hold anything, NaN too.
    """
    mask = np.ones(tokens.shape, bool) if scored is None else scored
    right, moved = (predicted == tokens) & mask, changed(tokens) & mask
    nats = math.nan if log_probability is None else -float(log_probability[mask].sum(dtype=np.float64))
    return Sums(nats, *(int(np.count_nonzero(found)) for found in (mask, right, moved, right & moved)))


def average(sums: Iterable[Sums] | Mapping[str, Sums], without: Collection[str] = ()) -> Scores:
    """The micro average over pieces: every note counts alike, so a long piece counts more.

    With `sums` by the name of the piece, those named in `without` are left out; a name that is not there changes
    nothing. Raises `ValueError` if names are to be left out and `sums` has none.
    """
    if not isinstance(sums, Mapping):
        if without:
            raise ValueError("pieces can be left out by name only if the sums are given by name")
        sums = {str(number): one for number, one in enumerate(sums)}
    kept = [one for name, one in sums.items() if name not in without]
    nats, notes, right, moved, moved_right = (sum(column) for column in zip(Sums(0.0, 0, 0, 0, 0), *kept, strict=True))
    return Scores(_share(nats, notes), _share(right, notes), _share(moved_right, moved), notes)


def _share(part: float | int, whole: int) -> float:
    return part / whole if whole else math.nan
