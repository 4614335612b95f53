"""Divergence of pieces from the training set, in the distributions of pitch classes and of durations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxseq.music.key import key
from jaxseq.music.piece import REST


class Distributions(NamedTuple):
    """Counts over pieces.

    pitch_classes  sixteenths in which each of the twelve sounds, counted up from the tonic of its piece
    durations      notes of each length; the index is the length in sixteenths
    """

    pitch_classes: Float[np.ndarray, "12"]
    durations: Float[np.ndarray, " m"]


def fit_distributions(pieces: Sequence[Int[np.ndarray, "_ 4"]]) -> Distributions:
    """Count pitch classes and durations over all pieces, MIDI numbers with 0 for a rest.

    Every sixteenth of every voice counts as one pitch class, every note as one duration. A note lasts as long as its
    voice stays on one pitch, because arrays of notes do not tell a repeated note from a held one; durations are not
    limited. Without a note all counts are 0.
    """
    # The empty array stands first, since no pieces at all cannot be concatenated.
    lengths = np.concatenate([np.zeros(0, np.int64), *(note_lengths(piece) for piece in pieces)])
    durations = np.bincount(lengths).astype(np.float64)

    pitch_classes = np.zeros(12)
    for piece in pieces:
        above_tonic = (piece[piece != REST] - tonic(piece)) % 12
        pitch_classes += np.bincount(above_tonic, minlength=12)
    return Distributions(pitch_classes, durations)


def struck(notes: Int[np.ndarray, "t 4"]) -> Bool[np.ndarray, "t 4"]:
    """Return where a note begins: where the pitch of a voice changes, and is no rest."""
    begins = np.ones(notes.shape, bool)
    begins[1:] = notes[1:] != notes[:-1]
    return begins & (notes != REST)


def tonic(notes: Int[np.ndarray, "t 4"]) -> int:
    """Return the pitch class (0 is C) of the tonic in the key that fits best."""
    tonality = key(notes)
    # A fifth is 7 semitones; a minor key's tonic is 3 semitones below its relative major's.
    return (7 * tonality.fifths - 3 * tonality.minor) % 12


def note_lengths(notes: Int[np.ndarray, "t 4"]) -> Int[np.ndarray, " n"]:
    """Return the length of every note of every voice, in sixteenths; rests are left out."""
    voices = notes.T.ravel()
    struck = np.ones(notes.T.shape, bool)
    struck[:, 1:] = np.diff(notes.T) != 0
    starts = np.flatnonzero(struck)
    lengths = np.diff(starts, append=voices.size)
    return lengths[voices[starts] != REST]


def divergence(first: Float[np.ndarray, " m"], second: Float[np.ndarray, " k"]) -> float:
    """Compute the Jensen-Shannon divergence of two tables of counts, in bits.

    0 if they are proportional, 1 if they do not overlap (Lin 1991, "Divergence measures based on the Shannon entropy",
    IEEE Transactions on Information Theory 37(1), equation 3.4 with equal weights). The shorter table is continued with
    zeros. NaN if either is empty or all 0.
    """
    shares = np.zeros((2, max(len(first), len(second))))
    shares[0, : len(first)] = first
    shares[1, : len(second)] = second
    totals = shares.sum(axis=1, keepdims=True)
    if not totals.all():
        return math.nan

    shares /= totals
    mean = np.broadcast_to(shares.mean(axis=0), shares.shape)
    # 0 log 0 is 0.
    positive = shares > 0
    terms = shares[positive] * np.log2(shares[positive] / mean[positive])
    return float(np.sum(terms) / 2)
