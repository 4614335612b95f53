"""Tunes of a test part that stand in no training piece, and harmonisations of them beside Bach's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from jaxseq.music.evaluation import voice_leading
from jaxseq.music.evaluation.memorisation import WINDOW
from jaxseq.music.evaluation.voice_leading import UNISON
from jaxseq.music.piece import REST, Piece
from jaxseq.music.scales import FIFTH


class Harmony(NamedTuple):
    """Measures of lower voices beside Bach's, averaged over pieces.

    agreement        share of the sixteenths in which alto, tenor and bass have Bach's note
    fifths, octaves  parallel fifths, and octaves or unisons, in 100 chord changes
    """

    agreement: tuple[float, float, float]
    fifths: float
    octaves: float


def unseen(pieces: Sequence[Piece], train: Sequence[Piece]) -> list[Piece]:
    """Return the pieces whose tune begins as that of no place of a training piece, in any key.

    The beginning of a tune is its first 32 sixteenths, two bars, or all of a shorter one.
    """
    lines = [_motion(piece.notes[:, 0]) for piece in train]
    by_length: dict[int, set[tuple[int, ...]]] = {}
    new = []
    for piece in pieces:
        beginning = _motion(piece.notes[:WINDOW, 0])
        size = len(beginning)
        if size not in by_length:
            passages = (line[first : first + size] for line in lines for first in range(len(line) - size + 1))
            by_length[size] = set(passages)
        if beginning not in by_length[size]:
            new.append(piece)
    return new


def _motion(notes: Int[np.ndarray, "t"]) -> tuple[int, ...]:
    """Return the steps of a tune in semitones; from and to a rest they are unlike all others."""
    motion = np.diff(notes)
    is_rest = notes == REST
    motion[is_rest[1:] != is_rest[:-1]] = 1000
    return tuple(motion.tolist())


def compared(harmonised: Sequence[Int[np.ndarray, "_ 4"]], bach: Sequence[Int[np.ndarray, "_ 4"]]) -> Harmony:
    """Measure harmonisations beside Bach's of the same tunes, piece by piece."""
    agreement = []
    for notes, original in zip(harmonised, bach, strict=True):
        agreement.append((notes[:, 1:] == original[:, 1:]).mean(axis=0))
    alto, tenor, bass = map(float, np.mean(agreement, axis=0))
    return Harmony(
        agreement=(alto, tenor, bass),
        fifths=float(np.nanmean([voice_leading.parallel_rate(notes, FIFTH) for notes in harmonised])),
        octaves=float(np.nanmean([voice_leading.parallel_rate(notes, UNISON) for notes in harmonised])),
    )
