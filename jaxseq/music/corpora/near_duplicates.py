"""Which pieces are the same music: in another key, in another file, with another length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from jaxseq.common.errors import UsageError
from jaxseq.music.piece import REST

TWIN = 0.5
"""Likeness from which two pieces are twins. In the corpus, twins begin at 0.57; settings of one tune reach 0.4."""
MOST_STEPS, MOST_COUNTS, MOST_PAIR, MOST_PAIRS = 2_000_000, 50_000_000, 10_000_000, 1_000_000_000
"""Steps of all pieces; pieces times chords that there are; pairs of steps of two pieces that may be twins, and of all
such pairs. Bach's corpus has 93,570, 775,464, 1,192,464 and 94,588,708; without the literature's names 484,333,748."""
STRICTEST = ("test", "valid", "train")
"""A piece with twins in several parts belongs to the first of these: it may not be trained on."""


def _chords(pieces: Sequence[Int[np.ndarray, "_ 4"]]) -> list[Int[np.ndarray, "_"]]:
    """The sounding steps of every piece as numbers that are equal for equal chords in any key; -1 is silence."""
    notes = np.concatenate([np.zeros((0, 4), int), *pieces])
    sounding = notes != REST
    top = notes.max(axis=1, keepdims=True)
    _, numbers = np.unique(np.where(sounding, top - notes, -1), axis=0, return_inverse=True)
    numbers = np.where(sounding.any(axis=1), numbers.reshape(-1), -1)
    return np.split(numbers, np.cumsum([len(piece) for piece in pieces])[:-1])


def likeness(pieces: Sequence[Int[np.ndarray, "_ 4"]], of: Sequence[int]) -> Float[np.ndarray, "m n"]:
    """How far each of the pieces `of` is the same as each of all: the share of steps in which they sound the same, in
    the key and at the shift in time that suit best, of the sounding steps of the shorter one. Pairs of which it can be
    told without looking closer that they are no twins are 0. Raises `UsageError` for pieces that are too many, too long
    or too much alike to be compared in a minute.
    """
    _at_most(MOST_STEPS, sum(map(len, pieces)), "steps")
    chords = _chords(pieces)
    size = max((int(piece.max(initial=-1)) for piece in chords), default=-1) + 1
    _at_most(MOST_COUNTS, size * len(pieces), "chords times pieces")
    counts = np.array([np.bincount(piece[piece >= 0], minlength=size) for piece in chords])
    lengths = np.maximum(counts.sum(axis=1), 1)
    found, looked_at = np.zeros((len(of), len(pieces))), 0
    for row, one in enumerate(of):
        shorter = np.minimum(lengths[one], lengths)
        close = np.minimum(counts[one], counts).sum(axis=1) >= TWIN * shorter
        for other in np.flatnonzero(close):
            compared = len(pieces[one]) * len(pieces[int(other)])
            _at_most(MOST_PAIR, compared, "pairs of steps of two pieces that are alike")
            _at_most(MOST_PAIRS, looked_at := looked_at + compared, "pairs of steps of pieces that are alike")
            pair = ((pieces[number], chords[number]) for number in (one, int(other)))
            found[row, other] = _same_steps(*next(pair), *next(pair)) / shorter[other]
    return found


def _at_most(most: int, count: int, what: str) -> None:
    if count > most:
        raise UsageError(f"{count:,} {what} are too many to look for twins; {most:,} are the most")


def _same_steps(
    notes: Int[np.ndarray, "t 4"],
    chords: Int[np.ndarray, "t"],
    others: Int[np.ndarray, "u 4"],
    theirs: Int[np.ndarray, "u"],
) -> int:
    first, second = np.nonzero((chords[:, None] == theirs) & (chords[:, None] >= 0))
    higher = notes[first].max(axis=1) - others[second].max(axis=1)
    times = np.bincount((first - second + len(others)) * 256 + higher + 128)
    return int(times.max(initial=0))


def assign(pieces: Mapping[str, Int[np.ndarray, "_ 4"]], known: Mapping[str, str]) -> dict[str, str]:
    """The part of every piece: that which is known; with a twin, the strictest of its twins'; train for the others.

    So a piece that is not in the literature's set never puts into training what is validated or tested on.
    """
    names = list(pieces)
    new = [name for name in names if name not in known]
    close = likeness(list(pieces.values()), [names.index(name) for name in new]) >= TWIN
    twins = {name: [names[other] for other in np.flatnonzero(row)] for name, row in zip(new, close, strict=True)}
    parts = {name: known.get(name, "train") for name in names}
    while True:  # a twin of a twin follows it
        moved = {name: min((parts[twin] for twin in (name, *twins[name])), key=STRICTEST.index) for name in new}
        if not moved.items() - parts.items():
            return parts
        parts |= moved
