"""Measures of single voices and of pairs of voices."""

from __future__ import annotations

import itertools
import math

import numpy as np
from jaxtyping import Bool, Int

from jaxseq.music.evaluation.shares import count, share
from jaxseq.music.piece import BAR, BEAT, REST, VOICES
from jaxseq.music.scales import OCTAVE

UNISON = 0
"""Interval of unisons and octaves, in semitones without octaves."""
DISSONANT = (1, 2, 6)
"""Interval classes: seconds and sevenths, and the tritone."""
VOICE_PAIRS = tuple(itertools.combinations(range(len(VOICES)), 2))
"""Columns of the higher and the lower voice of each pair."""


def parallels(notes: Int[np.ndarray, "t 4"], interval: int) -> int:
    """Count parallel motions of two voices that are `interval` semitones apart, from 0 to 11, octaves left out.

    Counted for each of the six pairs of voices: the higher voice (soprano, alto, tenor, bass) is `interval` above the
    lower one in two consecutive steps, octaves aside, and both have moved, by the same distance in the same direction.
    A fifth that becomes a twelfth is no parallel, nor is a step from or to a rest.
    """
    moved = np.diff(notes, axis=0)
    sounding = (notes[1:] != REST) & (notes[:-1] != REST)

    total = 0
    for high, low in VOICE_PAIRS:
        apart = (notes[1:, high] - notes[1:, low]) % OCTAVE == interval
        together = (moved[:, high] == moved[:, low]) & (moved[:, high] != 0)
        total += count(apart & together & sounding[:, high] & sounding[:, low])
    return total


def parallel_rate(notes: Int[np.ndarray, "t 4"], interval: int) -> float:
    """Count `parallels` per 100 chord changes."""
    return 100 * share(parallels(notes, interval), count(_changes(notes)[1:]))


def held_rate(notes: Int[np.ndarray, "t 4"]) -> float:
    """Measure `Coherence.held`."""
    sounding = notes[1:] != REST
    held = (notes[1:] == notes[:-1]) & sounding
    return share(count(held), count(sounding))


def longest_frozen(notes: Int[np.ndarray, "t 4"]) -> float:
    """Measure `Coherence.frozen`."""
    if not len(notes):
        return math.nan
    change_steps = np.flatnonzero(_changes(notes))
    return float(np.diff(change_steps, append=len(notes)).max())


def repeated_bars(notes: Int[np.ndarray, "t 4"]) -> float:
    """Measure `Coherence.repeated_bars`; a part of a bar at the end is left out."""
    starts = range(0, len(notes) - BAR + 1, BAR)
    bars = [notes[start : start + BAR].tobytes() for start in starts]
    return share(len(bars) - len(set(bars)), len(bars))


def dissonance(notes: Int[np.ndarray, "t 4"]) -> float:
    """Measure `Coherence.dissonant`."""
    beats = notes[::BEAT]
    high, low = np.array(VOICE_PAIRS).T
    sounding = (beats[:, high] != REST) & (beats[:, low] != REST)
    interval = (beats[:, high] - beats[:, low]) % OCTAVE
    # A seventh is a second that is inverted.
    interval_class = np.minimum(interval, OCTAVE - interval)
    harsh = np.isin(interval_class, DISSONANT)
    return share(count(harsh & sounding), count(sounding))


def crossing(notes: Int[np.ndarray, "t 4"]) -> float:
    """Measure `Coherence.crossing`."""
    high = notes[:, :-1]
    low = notes[:, 1:]
    sounding = (high != REST) & (low != REST)
    return share(count((high < low) & sounding), count(sounding))


def _changes(notes: Int[np.ndarray, "t 4"]) -> Bool[np.ndarray, "t"]:
    """Return the steps whose chord differs from the previous one; the first step counts."""
    changed = np.ones(len(notes), bool)
    changed[1:] = (notes[1:] != notes[:-1]).any(axis=1)
    return changed
