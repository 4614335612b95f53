"""Measures of four-voice chorales, to be compared with those of Bach's own pieces.

Notes are MIDI numbers, one row for each sixteenth; 0 is a rest. A measure is taken of each piece and averaged over the
pieces, so that all pieces weigh the same; a piece in which there is nothing to measure is left out, and the average over
none is NaN. The two divergences are of all pieces together, since the distribution of one short piece is far from any
other.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Int

from jaxseq.music.evaluation import tonality, voice_leading
from jaxseq.music.evaluation.divergence import Distributions, divergence, fit_distributions, struck
from jaxseq.music.evaluation.ranges import out_of_range, voice_ranges
from jaxseq.music.evaluation.shares import count, mean, share
from jaxseq.music.evaluation.voice_leading import UNISON
from jaxseq.music.key import key
from jaxseq.music.piece import REST
from jaxseq.music.scales import FIFTH

Notes: TypeAlias = Int[np.ndarray, "_ 4"]
"""MIDI numbers of a piece, a row for each sixteenth; 0 is a rest."""


class Reference(NamedTuple):
    """The training set, as far as pieces are measured by it.

    distributions  counts of pitch classes and durations
    ranges         lowest and highest note of each voice
    """

    distributions: Distributions
    ranges: Int[np.ndarray, "4 2"]


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
    outside: float
    """Share of notes outside the signature of the key that fits best, see `tonality.outside`."""
    raised: float
    """Share of notes that are raised leading tones, of the pieces in minor; they are among those outside."""
    wander: float
    """Mean distance of the key of four bars from that of the piece, in fifths, see `tonality.wander`."""
    triad: float
    """Share of pieces that end on a held triad in root position, see `tonality.ends_on_triad`."""
    tonic: float
    """Share of pieces whose bass ends on the tonic, see `tonality.ends_on_tonic`."""
    repeated_notes: float
    """Share of notes that repeat the pitch of their voice's previous step; NaN where onsets are unknown."""
    out_of_range: float
    """Share of notes outside the range that their voice has in the training set."""
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
    "outside": ("notes outside the signature", 3),
    "raised": ("raised leading tones in minor, among these", 3),
    "wander": ("keys of four bars from the piece's, fifths", 2),
    "triad": ("ends on a held root-position triad", 2),
    "tonic": ("ends on the tonic", 2),
    "repeated_notes": ("repeated notes", 3),
    "out_of_range": ("notes outside their voice's range", 4),
    "pitch_classes": ("divergence of pitch classes, bits", 4),
    "durations": ("divergence of durations, bits", 4),
}
"""Heading of each measure in a table, and the digits it prints."""


def fit_reference(pieces: Sequence[Notes]) -> Reference:
    """Count the distributions and find the ranges of the pieces of a training set."""
    return Reference(fit_distributions(pieces), voice_ranges(pieces))


def coherence(
    pieces: Sequence[Notes],
    reference: Reference,
    ends: Sequence[Notes] | None = None,
    onsets: Sequence[Bool[np.ndarray, "_ 4"]] | None = None,
) -> Coherence:
    """Measure pieces, with the divergences from the distributions of the training set.

    ends    pieces whose ends are judged; None judges those of `pieces`. A stretch of a piece has no end
    onsets  where the notes of each piece are struck; None if that is unknown
    """
    values = {name: mean(measure(piece) for piece in pieces) for name, measure in MEASURES.items()}
    judged_ends = pieces
    if ends is not None:
        judged_ends = ends
    for name, measure in MEASURES_OF_ENDS.items():
        values[name] = mean(measure(piece) for piece in judged_ends)
    values["out_of_range"] = mean(out_of_range(piece, reference.ranges) for piece in pieces)

    values["repeated_notes"] = math.nan
    if onsets is not None:
        values["repeated_notes"] = mean(map(repeated_notes, pieces, onsets))

    counts = fit_distributions(pieces)
    expected = reference.distributions
    values["pitch_classes"] = divergence(counts.pitch_classes, expected.pitch_classes)
    values["durations"] = divergence(counts.durations, expected.durations)
    return Coherence(**values)


def clarity(notes: Int[np.ndarray, "t 4"]) -> float:
    """Measure `Coherence.clarity`."""
    return key(notes).clarity


def repeated_notes(notes: Int[np.ndarray, "t 4"], onsets: Bool[np.ndarray, "t 4"]) -> float:
    """Measure `Coherence.repeated_notes` of notes and where they are struck."""
    begins = struck(notes)
    # Only an onset tells a note that is struck again from one that is held.
    again = onsets & ~begins & (notes != REST)
    return share(count(again), count(again | begins))


MEASURES: Mapping[str, Callable[[Int[np.ndarray, "t 4"]], float]] = {
    "parallel_fifths": functools.partial(voice_leading.parallel_rate, interval=FIFTH),
    "parallel_octaves": functools.partial(voice_leading.parallel_rate, interval=UNISON),
    "held": voice_leading.held_rate,
    "frozen": voice_leading.longest_frozen,
    "repeated_bars": voice_leading.repeated_bars,
    "dissonant": voice_leading.dissonance,
    "crossing": voice_leading.crossing,
    "clarity": clarity,
    "outside": tonality.outside,
    "raised": tonality.raised_leading_tones,
    "wander": tonality.wander,
}
"""Measures of a single piece, or of a stretch of one, by the field of `Coherence`."""
MEASURES_OF_ENDS: Mapping[str, Callable[[Int[np.ndarray, "t 4"]], float]] = {
    "triad": tonality.ends_on_triad,
    "tonic": tonality.ends_on_tonic,
}
"""Measures of the end of a piece, by the field of `Coherence`."""


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
