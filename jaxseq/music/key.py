"""The key of a piece, from how long each of the twelve pitch classes sounds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jaxseq.music.piece import REST

MAJOR = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)
MINOR = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)
"""How well each pitch class fits, counted from the tonic: the probe-tone ratings of Krumhansl and Kessler (1982), "Tracing
the dynamic changes in perceived tonal organization in a spatial representation of musical keys", Psychological Review
89."""

PROFILES = np.array([np.roll(profile, tonic) for profile in (MAJOR, MINOR) for tonic in range(12)])
PROFILES -= PROFILES.mean(axis=1, keepdims=True)
"""Profiles of the 24 keys less their means, "24 12": C to B major, then C to B minor."""
PROFILE_NORMS = np.linalg.norm(PROFILES, axis=1)


class Tonality(NamedTuple):
    """A key.

    fifths     sharps (or, below 0, flats) of its signature, -5 to 6
    minor      whether it is a minor key
    clarity    how well it fits: Pearson's r of the durations and the key's profile; NaN if there is nothing to compare
    """

    fifths: int
    minor: bool
    clarity: float


def key(notes: Int[np.ndarray, "t ..."]) -> Tonality:
    """Return the best of the 24 keys for MIDI numbers, one row for each sixteenth; 0 is a rest.

    The algorithm of Krumhansl and Schmuckler (Krumhansl, "Cognitive Foundations of Musical Pitch", 1990, chapter 4) with
    the profiles of 1982. Of keys that fit equally well the first is taken, C major to B major before C minor to B minor.
    Without notes, or with twelve equally long pitch classes, it is C major with a clarity of NaN.
    """
    fits = correlations(notes)
    if np.isnan(fits).any():
        return Tonality(fifths=0, minor=False, clarity=float("nan"))

    best = int(np.argmax(fits))
    mode, tonic = divmod(best, 12)
    minor = mode == 1
    return Tonality(signature(tonic, minor), minor, clarity=float(fits[best]))


def correlations(notes: Int[np.ndarray, "t ..."]) -> Float[np.ndarray, "24"]:
    """Compute Pearson's r of the twelve durations with each key's profile: C to B major, then C to B minor."""
    durations = np.bincount(notes[notes != REST] % 12, minlength=12).astype(np.float64)
    centred = durations - durations.mean()
    # Equal durations have no correlation with anything.
    if not centred.any():
        return np.full(24, np.nan)

    norms = PROFILE_NORMS * np.linalg.norm(centred)
    return PROFILES @ centred / norms


def signature(tonic: int, minor: bool) -> int:
    """Return the sharps (or, below 0, flats) of the key on a pitch class (0 is C), -5 to 6."""
    # The relative major's tonic is 3 semitones higher; 7 semitones are a fifth.
    fifths = (tonic + 3 * minor) * 7 % 12
    if fifths > 6:
        return fifths - 12
    return fifths
