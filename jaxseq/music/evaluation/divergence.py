"""How far the notes of pieces are from those of the training set: pitch classes and durations, as distributions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jaxseq.music.key import key
from jaxseq.music.piece import REST


class Reference(NamedTuple):
    """How often what occurs in the training set.

    pitch_classes  sixteenths that each of the twelve sounds, counted up from the tonic of its piece
    durations      notes of each length; the index is the length in sixteenths
    """

    pitch_classes: Float[np.ndarray, "12"]
    durations: Float[np.ndarray, " m"]


def fit_reference(pieces: Sequence[Int[np.ndarray, "_ 4"]]) -> Reference:
    """The two distributions of all the pieces together (MIDI numbers, 0 is a rest), as counts; all 0 without a note.

    Every sixteenth of every voice counts as one pitch class, every note as one duration: a note lasts as long as its
    voice stays on one pitch, since arrays of notes do not tell a repeated note from a held one. Durations are not capped.
    """
    lengths = np.concatenate([np.zeros(0, np.int64), *(note_lengths(piece) for piece in pieces)])
    classes = [np.bincount((piece[piece != REST] - tonic(piece)) % 12, minlength=12) for piece in pieces]
    return Reference(np.sum(classes, axis=0) + np.zeros(12), np.bincount(lengths).astype(np.float64))


def tonic(notes: Int[np.ndarray, "t 4"]) -> int:
    """The pitch class (0 is C) of the tonic in the key that fits best."""
    found = key(notes)
    return (7 * found.fifths - 3 * found.minor) % 12


def note_lengths(notes: Int[np.ndarray, "t 4"]) -> Int[np.ndarray, " n"]:
    """The length of every note of every voice, in sixteenths; rests are none."""
    voices = notes.T.ravel()
    struck = np.ones(notes.T.shape, bool)
    struck[:, 1:] = np.diff(notes.T) != 0
    starts = np.flatnonzero(struck)
    return np.diff(starts, append=voices.size)[voices[starts] != REST]


def divergence(first: Float[np.ndarray, " m"], second: Float[np.ndarray, " k"]) -> float:
    """The Jensen-Shannon divergence of two tables of counts, in bits: 0 if they are proportional, 1 if nothing overlaps.

    Lin (1991), "Divergence measures based on the Shannon entropy", IEEE Transactions on Information Theory 37(1),
    equation 3.4 with equal weights. The shorter one is 0 where it ends; NaN if either is empty or all 0.
    """
    both = np.zeros((2, max(len(first), len(second))))
    both[0, : len(first)], both[1, : len(second)] = first, second
    totals = both.sum(axis=1, keepdims=True)
    if not totals.all():
        return math.nan
    both /= totals
    mean = np.broadcast_to(both.mean(axis=0), both.shape)
    seen = both > 0
    return float(np.sum(both[seen] * np.log2(both[seen] / mean[seen])) / 2)
