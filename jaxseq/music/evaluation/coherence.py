"""Measures of a chorale for four voices; Bach's own pieces are the yardstick, not 0 or 1.

Notes are MIDI numbers, one row for each sixteenth, 0 is a rest. Each measure is taken of a piece and averaged over the
pieces, so that a short piece counts as much as a long one; a piece without anything to measure stays out of it, and with
none left the value is NaN. The divergences alone are those of all the pieces together, for a distribution of one short
piece is far from any other.
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


class Coherence(NamedTuple):
    """Measures of pieces; each is NaN if there was nothing to measure."""

    parallel_fifths: float
    """Per 100 chord changes (steps in which any voice moves): see `parallels`."""
    parallel_octaves: float
    """Likewise; unisons are among them."""
    held: float
    """Share of the sounding notes, from the second step on, that are their voice's note of the step before."""
    frozen: float
    """The longest run of steps in which no voice moves; the step in which the chord is struck counts."""
    repeated_bars: float
    """Share of the whole bars, counted in 16 steps from the first, that equal an earlier bar in every note."""
    dissonant: float
    """Share of the pairs of sounding voices, on every fourth step, that are 1, 2 or 6 semitones apart, or the rest of an
    octave, whatever octaves lie between."""
    crossing: float
    """Share of the pairs of neighbouring voices that sound, in every step, of which the upper voice is the lower."""
    clarity: float
    """Pearson's r of the durations of the pitch classes with the best of 24 key profiles: `key`."""
    pitch_classes: float
    """Jensen-Shannon divergence from the training set, in bits: how long which pitch class sounds, from the tonic up."""
    durations: float
    """Likewise: how many notes have which length."""


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
    """The measures of these pieces, against the distributions of the training set; [piece] gives those of one."""
    means = [_mean([measure(piece) for piece in pieces]) for measure in MEASURES]
    ours = fit_reference(pieces)
    return Coherence(*means, *(divergence(mine, theirs) for mine, theirs in zip(ours, reference, strict=True)))


def parallels(notes: Int[np.ndarray, "t 4"], interval: int) -> int:
    """How often two voices are this far apart (0 to 11 semitones), octaves aside, and move on by one interval.

    Counted for each of the six pairs: the higher voice (soprano, alto, tenor, bass) is `interval` above the lower one in
    two steps that follow each other, whatever octaves lie between, and both have moved, up or down, equally far. From a
    fifth to a twelfth is none, nor is any step from or to a rest.
    """
    return sum(_count(moves) for moves in _parallel(notes, interval))


def _parallel(notes: Int[np.ndarray, "t 4"], interval: int) -> list[Bool[np.ndarray, " s"]]:
    moved, sounding = np.diff(notes, axis=0), (notes[1:] != REST) & (notes[:-1] != REST)
    return [
        ((notes[1:, high] - notes[1:, low]) % 12 == interval)
        & (moved[:, high] == moved[:, low])
        & (moved[:, high] != 0)
        & sounding[:, high]
        & sounding[:, low]
        for high, low in itertools.combinations(range(len(VOICES)), 2)
    ]


def parallel_rate(notes: Int[np.ndarray, "t 4"], interval: int) -> float:
    """`parallels` per 100 chord changes."""
    return 100 * _share(parallels(notes, interval), _count(_changes(notes)[1:]))


def held_rate(notes: Int[np.ndarray, "t 4"]) -> float:
    """See `Coherence.held`."""
    sounding = notes[1:] != REST
    return _share(_count((notes[1:] == notes[:-1]) & sounding), _count(sounding))


def longest_frozen(notes: Int[np.ndarray, "t 4"]) -> float:
    """See `Coherence.frozen`."""
    return float(np.diff(np.flatnonzero(_changes(notes)), append=len(notes)).max()) if len(notes) else math.nan


def repeated_bars(notes: Int[np.ndarray, "t 4"]) -> float:
    """See `Coherence.repeated_bars`; what is left after the last whole bar does not count."""
    bars = [notes[first : first + BAR].tobytes() for first in range(0, len(notes) - BAR + 1, BAR)]
    return _share(len(bars) - len(set(bars)), len(bars))


def dissonance(notes: Int[np.ndarray, "t 4"]) -> float:
    """See `Coherence.dissonant`."""
    beats = notes[::BEAT]
    high, low = np.array(list(itertools.combinations(range(len(VOICES)), 2))).T
    sounding = (beats[:, high] != REST) & (beats[:, low] != REST)
    interval = (beats[:, high] - beats[:, low]) % 12
    harsh = np.isin(np.minimum(interval, 12 - interval), DISSONANT)
    return _share(_count(harsh & sounding), _count(sounding))


def crossing(notes: Int[np.ndarray, "t 4"]) -> float:
    """See `Coherence.crossing`."""
    high, low = notes[:, :-1], notes[:, 1:]
    sounding = (high != REST) & (low != REST)
    return _share(_count((high < low) & sounding), _count(sounding))


def clarity(notes: Int[np.ndarray, "t 4"]) -> float:
    """See `Coherence.clarity`."""
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
    """A row for each measure, its label first, then each column's value; the columns' names are row 0. NaN is "-"."""
    body = [
        [
            label,
            *(
                "-" if math.isnan(value := getattr(column, name)) else f"{value:.{digits}f}"
                for column in columns.values()
            ),
        ]
        for name, (label, digits) in LABELS.items()
    ]
    return [["", *columns], *body]


def table(columns: Mapping[str, Coherence]) -> str:
    """The same as a Markdown table."""
    head, *body = (f"| {' | '.join(row)} |" for row in rows(columns))
    return "\n".join([head, "|---|" + "---:|" * len(columns), *body])


def _changes(notes: Int[np.ndarray, "t 4"]) -> Bool[np.ndarray, "t"]:
    """Steps with another chord than the one before; the first counts."""
    changed = np.ones(len(notes), bool)
    changed[1:] = (notes[1:] != notes[:-1]).any(axis=1)
    return changed


def _count(mask: Bool[np.ndarray, "..."]) -> int:
    return int(np.count_nonzero(mask))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def _mean(values: list[float]) -> float:
    measured = [value for value in values if not math.isnan(value)]
    return float(np.mean(measured)) if measured else math.nan
