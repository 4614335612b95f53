"""Measures of four-voice chorales, to be compared with those of Bach's own pieces.

Notes are MIDI numbers, one row for each sixteenth; 0 is a rest. A measure is taken of each piece and averaged over the
pieces, so that all pieces weigh the same; a piece in which there is nothing to measure is left out, and the average over
none is NaN. The two divergences are of all pieces together, since the distribution of one short piece is far from any
other.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from jaxseq.music.evaluation.divergence import Reference, divergence, fit_reference
from jaxseq.music.key import key
from jaxseq.music.piece import BAR, BEAT, REST, VOICES

FIFTH, OCTAVE = 7, 0
"""Intervals in semitones, without their octaves."""
DISSONANT = (1, 2, 6)
"""Interval classes: seconds and sevenths, and the tritone."""
VOICE_PAIRS = tuple(itertools.combinations(range(len(VOICES)), 2))
"""Columns of the higher and the lower voice of each pair."""


class Coherence(NamedTuple):
    """Measures of pieces; each is NaN if there was nothing to measure."""

    parallel_fifths: float
    """Parallel fifths per 100 chord changes (steps in which any voice moves), see `parallels`."""
    parallel_octaves: float
    """Parallel octaves and unisons per 100 chord changes."""
    held: float
    """Share of sounding notes, from the second step on, that equal their voice's previous note."""
    frozen: float
    """Longest run of steps in which no voice moves, the step that strikes the chord included."""
    repeated_bars: float
    """Share of whole bars, counted in 16 steps from the first, that equal an earlier bar in every note."""
    dissonant: float
    """Share of the pairs of sounding voices, on every fourth step, whose interval class is in `DISSONANT`."""
    crossing: float
    """Share of the pairs of neighbouring, sounding voices in which the upper voice is below the lower one."""
    clarity: float
    """Pearson's r of the durations of the pitch classes with the best of 24 key profiles, see `jaxseq.music.key`."""
    pitch_classes: float
    """Jensen-Shannon divergence from the training set, in bits, of the durations of the pitch classes above the tonic."""
    durations: float
    """Jensen-Shannon divergence from the training set, in bits, of the lengths of notes."""


LABELS = {
    "parallel_fifths": ("parallel fifths per 100 chord changes", 2),
    "parallel_octaves": ("parallel octaves per 100 chord changes", 2),
    "held": ("held-note rate", 3),
    "frozen": ("longest frozen run, steps", 1),
    "repeated_bars": ("exactly repeated bars", 3),
    "dissonant": ("dissonant pairs on the beat", 3),
    "crossing": ("voice crossing", 4),
    "clarity": ("key clarity (r)", 3),
    "pitch_classes": ("divergence of pitch classes, bits", 4),
    "durations": ("divergence of durations, bits", 4),
}
"""Heading of each measure in a table, and the digits it prints."""


def coherence(pieces: Sequence[Int[np.ndarray, "_ 4"]], reference: Reference) -> Coherence:
    """Measure pieces, with the divergences from the distributions of the training set."""
    means = [_mean([measure(piece) for piece in pieces]) for measure in MEASURES]
    distributions = fit_reference(pieces)
    divergences = [divergence(counts, expected) for counts, expected in zip(distributions, reference, strict=True)]
    return Coherence(*means, *divergences)


def parallels(notes: Int[np.ndarray, "t 4"], interval: int) -> int:
    """Count parallel motions of two voices that are `interval` semitones apart, from 0 to 11, octaves left out.

    Counted for each of the six pairs of voices: the higher voice (soprano, alto, tenor, bass) is `interval` above the
    lower one in two consecutive steps, octaves aside, and both have moved, by the same distance in the same direction.
    A fifth that becomes a twelfth is no parallel, nor is a step from or to a rest.
    """
    moved = np.diff(notes, axis=0)
    sounding = (notes[1:] != REST) & (notes[:-1] != REST)

    count = 0
    for high, low in VOICE_PAIRS:
        apart = (notes[1:, high] - notes[1:, low]) % 12 == interval
        together = (moved[:, high] == moved[:, low]) & (moved[:, high] != 0)
        count += _count(apart & together & sounding[:, high] & sounding[:, low])
    return count


def parallel_rate(notes: Int[np.ndarray, "t 4"], interval: int) -> float:
    """Count `parallels` per 100 chord changes."""
    return 100 * _share(parallels(notes, interval), _count(_changes(notes)[1:]))


def held_rate(notes: Int[np.ndarray, "t 4"]) -> float:
    """Measure `Coherence.held`."""
    sounding = notes[1:] != REST
    held = (notes[1:] == notes[:-1]) & sounding
    return _share(_count(held), _count(sounding))


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
    return _share(len(bars) - len(set(bars)), len(bars))


def dissonance(notes: Int[np.ndarray, "t 4"]) -> float:
    """Measure `Coherence.dissonant`."""
    beats = notes[::BEAT]
    high, low = np.array(VOICE_PAIRS).T
    sounding = (beats[:, high] != REST) & (beats[:, low] != REST)
    interval = (beats[:, high] - beats[:, low]) % 12
    # A seventh is a second that is inverted.
    interval_class = np.minimum(interval, 12 - interval)
    harsh = np.isin(interval_class, DISSONANT)
    return _share(_count(harsh & sounding), _count(sounding))


def crossing(notes: Int[np.ndarray, "t 4"]) -> float:
    """Measure `Coherence.crossing`."""
    high = notes[:, :-1]
    low = notes[:, 1:]
    sounding = (high != REST) & (low != REST)
    return _share(_count((high < low) & sounding), _count(sounding))


def clarity(notes: Int[np.ndarray, "t 4"]) -> float:
    """Measure `Coherence.clarity`."""
    return key(notes).clarity


MEASURES: tuple[Callable[[Int[np.ndarray, "t 4"]], float], ...] = (
    functools.partial(parallel_rate, interval=FIFTH),
    functools.partial(parallel_rate, interval=OCTAVE),
    held_rate,
    longest_frozen,
    repeated_bars,
    dissonance,
    crossing,
    clarity,
)
"""Measures of a single piece, in the order of `Coherence`."""


def rows(columns: Mapping[str, Coherence]) -> list[list[str]]:
    """Return a table of texts: the names of the columns, then a row for each measure, with its label. NaN is "-"."""
    table_rows = [["", *columns]]
    for name, (label, digits) in LABELS.items():
        values = [getattr(column, name) for column in columns.values()]
        table_rows.append([label, *(_shown(value, digits) for value in values)])
    return table_rows


def table(columns: Mapping[str, Coherence]) -> str:
    """Return `rows` as a Markdown table."""
    header, *lines = (f"| {' | '.join(row)} |" for row in rows(columns))
    rule = "|---|" + "---:|" * len(columns)
    return "\n".join([header, rule, *lines])


def _shown(value: float, digits: int) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.{digits}f}"


def _changes(notes: Int[np.ndarray, "t 4"]) -> Bool[np.ndarray, "t"]:
    """Return the steps whose chord differs from the previous one; the first step counts."""
    changed = np.ones(len(notes), bool)
    changed[1:] = (notes[1:] != notes[:-1]).any(axis=1)
    return changed


def _count(mask: Bool[np.ndarray, "..."]) -> int:
    return int(np.count_nonzero(mask))


def _share(part: int, total: int) -> float:
    if not total:
        return math.nan
    return part / total


def _mean(values: list[float]) -> float:
    # A piece without anything to measure says nothing about the others.
    measured = [value for value in values if not math.isnan(value)]
    if not measured:
        return math.nan
    return float(np.mean(measured))
