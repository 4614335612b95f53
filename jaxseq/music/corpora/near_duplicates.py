"""Pieces that are the same music: in another key, in another file, or with another length.

A piece is a twin of another if their `likeness` reaches `TWIN`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from jaxseq.common.errors import UsageError
from jaxseq.music.piece import REST

TWIN = 0.5
"""Likeness from which two pieces are twins. In the corpus twins begin at 0.57; settings of one tune reach 0.4."""
MOST_STEPS = 2_000_000
"""Limit on the steps of all pieces; Bach's corpus has 93,570."""
MOST_COUNTS = 50_000_000
"""Limit on the pieces times the different chords; Bach's corpus has 775,464."""
MOST_PAIR = 10_000_000
"""Limit on the pairs of steps of two pieces that may be twins; Bach's corpus has 1,192,464."""
MOST_PAIRS = 1_000_000_000
"""Limit on the pairs of steps of all such pieces; Bach's corpus has 94,588,708, or 484,333,748 without known parts."""
STRICTEST = ("test", "valid", "train")
"""A piece with twins in several parts joins the first of these: it may not be trained on."""


def likeness(pieces: Sequence[Int[np.ndarray, "_ 4"]], of: Sequence[int]) -> Float[np.ndarray, "m n"]:
    """Measure how far each of the pieces `of` is the same as each of all.

    The share of steps in which two pieces sound the same, in the best key and at the best shift in time, of the sounding
    steps of the shorter one. Pairs whose chords alone rule out that they are twins are 0. Raises `UsageError` for pieces
    that are too many, too long or too similar to be compared within a minute.
    """
    _check_at_most(MOST_STEPS, sum(map(len, pieces)), "steps")
    chords = _chords(pieces)
    highest = max((int(piece.max(initial=-1)) for piece in chords), default=-1)
    chord_count = highest + 1
    _check_at_most(MOST_COUNTS, chord_count * len(pieces), "chords times pieces")

    counts = np.array([np.bincount(piece[piece >= 0], minlength=chord_count) for piece in chords])
    lengths = np.maximum(counts.sum(axis=1), 1)
    shares = np.zeros((len(of), len(pieces)))
    pairs = 0
    for row, number in enumerate(of):
        shorter = np.minimum(lengths[number], lengths)
        # No shift gives more equal steps than the two pieces have chords in common.
        in_common = np.minimum(counts[number], counts).sum(axis=1)
        for other in map(int, np.flatnonzero(in_common >= TWIN * shorter)):
            pair = len(pieces[number]) * len(pieces[other])
            pairs += pair
            _check_at_most(MOST_PAIR, pair, "pairs of steps of two pieces that are alike")
            _check_at_most(MOST_PAIRS, pairs, "pairs of steps of pieces that are alike")
            same = _same_steps(pieces[number], chords[number], pieces[other], chords[other])
            shares[row, other] = same / shorter[other]
    return shares


def assign(pieces: Mapping[str, Int[np.ndarray, "_ 4"]], known: Mapping[str, str]) -> dict[str, str]:
    """Assign each piece to a part of the data set.

    A piece in `known` keeps its part. Any other joins the strictest part of its twins, or train without a twin, so that
    nothing that is validated or tested on is trained on in another guise.
    """
    names = list(pieces)
    new_names = [name for name in names if name not in known]
    are_twins = likeness(list(pieces.values()), [names.index(name) for name in new_names]) >= TWIN
    twins = {
        name: [names[other] for other in np.flatnonzero(row)] for name, row in zip(new_names, are_twins, strict=True)
    }

    parts = {name: known.get(name, "train") for name in names}
    # A twin of a twin follows it, so parts move until nothing changes.
    while True:
        moved = {}
        for name in new_names:
            candidates = [parts[twin] for twin in (name, *twins[name])]
            moved[name] = min(candidates, key=STRICTEST.index)
        if not moved.items() - parts.items():
            return parts
        parts |= moved


def _chords(pieces: Sequence[Int[np.ndarray, "_ 4"]]) -> list[Int[np.ndarray, "_"]]:
    """Number the chords of every piece, the same in every key; -1 is silence."""
    notes = np.concatenate([np.zeros((0, 4), int), *pieces])
    sounding = notes != REST
    top = notes.max(axis=1, keepdims=True)
    below_top = np.where(sounding, top - notes, -1)
    _, numbers = np.unique(below_top, axis=0, return_inverse=True)
    numbers = np.where(sounding.any(axis=1), numbers.reshape(-1), -1)
    return np.split(numbers, np.cumsum([len(piece) for piece in pieces])[:-1])


def _same_steps(
    notes: Int[np.ndarray, "t 4"],
    chords: Int[np.ndarray, "t"],
    other_notes: Int[np.ndarray, "u 4"],
    other_chords: Int[np.ndarray, "u"],
) -> int:
    """Count the equal steps at the best transposition and shift."""
    equal = (chords[:, None] == other_chords) & (chords[:, None] >= 0)
    first, second = np.nonzero(equal)
    higher = notes[first].max(axis=1) - other_notes[second].max(axis=1)
    # One number for each pair of shift and transposition.
    alignments = (first - second + len(other_notes)) * 256 + higher + 128
    return int(np.bincount(alignments).max(initial=0))


def _check_at_most(most: int, count: int, unit: str) -> None:
    if count > most:
        raise UsageError("too many to look for twins", where=unit, got=count, needed=f"at most {most:,}")
