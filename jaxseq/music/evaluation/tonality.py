"""Measures of a piece's key: notes outside it, how far it wanders, and how it ends."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Int

from jaxseq.music.evaluation.divergence import struck, tonic
from jaxseq.music.evaluation.shares import count, mean, share
from jaxseq.music.key import key
from jaxseq.music.piece import BAR, BEAT, REST
from jaxseq.music.scales import MAJOR_SCALE, MAJOR_TRIAD, MINOR_TRIAD, OCTAVE

LEADING_TONE = 11
"""Semitones above the tonic of a minor key; the signature has the tone below it."""
WINDOW = 4 * BAR
"""Sixteenths of a window whose key is found; there is one from every bar on."""


def outside(notes: Int[np.ndarray, "t 4"]) -> float:
    """Measure the share of notes outside the signature of the key that fits best.

    Each note counts once, however long it is; one is struck where its voice's pitch changes. A minor key has the seven
    notes of its relative major, so that its raised sixth and seventh lie outside: see `raised_leading_tones`.
    """
    tonality = key(notes)
    # The relative major's tonic is three semitones above that of the minor key.
    major_tonic = tonic(notes) + 3 * tonality.minor
    above = (notes - major_tonic) % OCTAVE
    played = struck(notes)
    return share(count(played & ~np.isin(above, MAJOR_SCALE)), count(played))


def raised_leading_tones(notes: Int[np.ndarray, "t 4"]) -> float:
    """Measure the share of notes that are leading tones of a minor key, all of which `outside` counts; NaN in major."""
    if not key(notes).minor:
        return math.nan
    played = struck(notes)
    is_leading = (notes - tonic(notes)) % OCTAVE == LEADING_TONE
    return share(count(played & is_leading), count(played))


def wander(notes: Int[np.ndarray, "t 4"]) -> float:
    """Measure how far the key of four bars is from that of the piece, in fifths between their signatures, 0 to 6.

    Averaged over the windows of `WINDOW` sixteenths from every bar on. A relative key has the same signature, so it is
    not apart. NaN for a piece that is shorter than a window.
    """
    piece_fifths = key(notes).fifths
    distances = []
    for start in range(0, len(notes) - WINDOW + 1, BAR):
        local = key(notes[start : start + WINDOW])
        # Without notes there is no key to compare.
        if not math.isnan(local.clarity):
            apart = (local.fifths - piece_fifths) % 12
            distances.append(float(min(apart, 12 - apart)))
    return mean(distances)


def ends_on_triad(notes: Int[np.ndarray, "t 4"]) -> float:
    """Measure whether a piece ends on a triad in root position that all four voices hold for a quarter: 1 or 0.

    The bass has the root, and the others nothing but root, third and fifth; as in some of Bach's endings, the third or
    the fifth may lack, but not both. Rests at the end are left out. NaN for less than a quarter.
    """
    end = _without_silence(notes)[-BEAT:]
    if len(end) < BEAT:
        return math.nan

    is_held = (end == end[-1]).all() and (end[-1] != REST).all()
    above_bass = {int(note) % OCTAVE for note in end[-1] - end[-1, -1]}
    is_triad = len(above_bass) > 1 and any(above_bass.issubset(triad) for triad in (MAJOR_TRIAD, MINOR_TRIAD))
    return float(is_held and is_triad)


def ends_on_tonic(notes: Int[np.ndarray, "t 4"], wanted: int | None = None) -> float:
    """Measure whether the last note of the bass is the tonic: 1 or 0.

    `wanted` is its pitch class; None takes that of the key that fits the whole piece best.
    """
    sounding = _without_silence(notes)
    if not len(sounding):
        return math.nan
    last = sounding[-1, -1]
    pitch_class = tonic(notes) if wanted is None else wanted
    return float(last != REST and last % OCTAVE == pitch_class)


def _without_silence(notes: Int[np.ndarray, "t 4"]) -> Int[np.ndarray, "s 4"]:
    """Return a piece without the steps at its end in which all voices rest."""
    sounding: Bool[np.ndarray, "t"] = (notes != REST).any(axis=1)
    steps = np.flatnonzero(sounding)
    if not len(steps):
        return notes[:0]
    return notes[: steps[-1] + 1]
