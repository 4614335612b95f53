"""Third stage: judge composed pieces by their coherence and by what is copied from the training part, beside Bach's own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Int

from jaxseq.music import tokens
from jaxseq.music.evaluation import coherence, memorisation, ngram
from jaxseq.music.evaluation.coherence import Coherence
from jaxseq.music.evaluation.divergence import Reference, fit_reference
from jaxseq.music.evaluation.memorisation import Memorised
from jaxseq.music.evaluation.ngram import GRAM
from jaxseq.music.piece import BAR
from jaxseq.sample.compose import Composed
from jaxseq.sample.request import Request

SAMPLES = "samples"
BACH = "Bach, test part"
LOW = "Bach, as few: 5 %"
HIGH = "95 %"
FROZEN = "frozen chord"
"""Names of the columns, besides the 5-gram's."""
DRAWS = 60
"""Number of random draws from Bach's test part, each of as many stretches as there are samples."""
MOST_YARDSTICKS = 16
MOST_YARDSTICK_STEPS = 512
"""Largest number of pieces by the 5-gram and of frozen chords, and their largest length in sixteenths."""

Notes: TypeAlias = Int[np.ndarray, "_ 4"]
"""MIDI numbers of a piece, a row for each sixteenth; 0 is a rest."""


class Judgement(NamedTuple):
    """Comparison of composed pieces with Bach's.

    columns             coherence by the column of the table: the samples; the test part; the quantiles between which nine
                        in ten draws of as many stretches of the test part lie; a 5-gram of the training part; chords
                        that never move
    by_piece            coherence of each sample
    memorised           passages of the samples that occur in the training part
    bach_memorised      the same of the test part
    memorised_by_piece  the same of each sample
    """

    columns: dict[str, Coherence]
    by_piece: list[Coherence]
    memorised: Memorised
    bach_memorised: Memorised
    memorised_by_piece: list[Memorised]


def judge(request: Request, composed: Composed) -> Judgement:
    """Judge composed pieces by the parts of the data set that their model was trained on."""
    train = [piece.notes for piece in request.parts.train]
    test = [piece.notes for piece in request.parts.test]
    samples = [piece.notes for piece in composed.pieces]
    seed = request.options.seed
    reference = fit_reference(train)
    memory = memorisation.remember(train)

    low, high = _bach_range(test, samples, reference, seed)
    columns = {
        SAMPLES: coherence.coherence(samples, reference),
        BACH: coherence.coherence(test, reference),
        LOW: low,
        HIGH: high,
    }
    for name, pieces in _yardsticks(train, samples, seed).items():
        columns[name] = coherence.coherence(pieces, reference)

    return Judgement(
        columns=columns,
        by_piece=[coherence.coherence([notes], reference) for notes in samples],
        memorised=memorisation.memorised(memory, samples),
        bach_memorised=memorisation.memorised(memory, test),
        memorised_by_piece=[memorisation.memorised(memory, [notes]) for notes in samples],
    )


def _bach_range(
    test: Sequence[Notes],
    samples: Sequence[Notes],
    reference: Reference,
    seed: int,
) -> tuple[Coherence, Coherence]:
    """Return the 5 % and 95 % quantiles of each measure over draws of as many stretches of the test part.

    Few short pieces differ from the whole by chance; so do Bach's.
    """
    rng = np.random.default_rng(seed)
    steps = max(len(notes) for notes in samples)
    draws = []
    for _ in range(DRAWS):
        numbers = rng.choice(len(test), min(len(samples), len(test)), replace=False)
        stretches = [_stretch(test[number], steps, rng) for number in numbers]
        draws.append(coherence.coherence(stretches, reference))

    by_measure = np.array(draws).T
    return _quantiles(by_measure, 0.05), _quantiles(by_measure, 0.95)


def _stretch(notes: Notes, steps: int, rng: np.random.Generator) -> Notes:
    """Cut a stretch of at most `steps` sixteenths, whole bars from the beginning of a piece."""
    # A piece that is no longer than the stretch is taken from its beginning.
    starts = max(1, (len(notes) - steps) // BAR + 1)
    first = BAR * int(rng.integers(starts))
    return notes[first : first + steps]


def _quantiles(by_measure: np.ndarray, share: float) -> Coherence:
    """Return a quantile of each measure, a row of `by_measure` each."""
    quantiles = []
    for row in by_measure:
        # Some measures are NaN where a draw has nothing to measure.
        values = row[~np.isnan(row)]
        quantile = math.nan
        if len(values):
            quantile = float(np.quantile(values, share))
        quantiles.append(quantile)
    return Coherence(*quantiles)


def _yardsticks(train: Sequence[Notes], samples: Sequence[Notes], seed: int) -> dict[str, list[Notes]]:
    """Return pieces by a 5-gram of the training part, and first chords of training pieces that are held."""
    rng = np.random.default_rng(seed)
    # The 5-gram draws note by note, which takes long for many pieces.
    count = min(len(samples), MOST_YARDSTICKS)
    steps = min(len(samples[0]), MOST_YARDSTICK_STEPS)

    gram = ngram.fit([tokens.encode(notes) for notes in train])
    by_gram = [tokens.decode(ngram.sample(gram, steps, rng)) for _ in range(count)]
    numbers = rng.integers(len(train), size=count)
    frozen = [np.repeat(train[number][:1], steps, axis=0) for number in numbers]
    return {GRAM: by_gram, FROZEN: frozen}
