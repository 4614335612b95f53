"""Third stage: judge composed pieces by their coherence and by what is copied from the training part, beside Bach's own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Int

from jaxseq.music import tokens
from jaxseq.music.evaluation import coherence, discriminator, memorisation, ngram
from jaxseq.music.evaluation.coherence import Coherence, Reference
from jaxseq.music.evaluation.discriminator import Discrimination
from jaxseq.music.evaluation.memorisation import Memorised
from jaxseq.music.evaluation.ngram import GRAM
from jaxseq.music.piece import BAR, Piece
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
    told_apart          how well the measures of a piece tell samples from stretches of the test part
    memorised           passages of the samples that occur in the training part
    bach_memorised      the same of the test part
    memorised_by_piece  the same of each sample
    """

    columns: dict[str, Coherence]
    by_piece: list[Coherence]
    told_apart: Discrimination
    memorised: Memorised
    bach_memorised: Memorised
    memorised_by_piece: list[Memorised]


def judge(request: Request, composed: Composed) -> Judgement | None:
    """Judge composed pieces by the parts of the data set that their model was trained on; None where they lack."""
    if request.parts is None:
        return None
    train = [piece.notes for piece in request.parts.train]
    test = [piece.notes for piece in request.parts.test]
    samples = [piece.notes for piece in composed.pieces]
    seed = request.options.seed
    reference = coherence.fit_reference(train)
    memory = memorisation.remember(train)

    low, high = _bach_range(test, samples, reference, seed)
    onsets_known = _tells_onsets(request.parts.train)
    columns = {
        SAMPLES: coherence.coherence(samples, reference, onsets=_onsets(composed.pieces, onsets_known)),
        BACH: coherence.coherence(test, reference, onsets=_onsets(request.parts.test, onsets_known)),
        LOW: low,
        HIGH: high,
    }
    for name, pieces in _yardsticks(train, samples, seed).items():
        columns[name] = coherence.coherence(pieces, reference)

    by_piece = [coherence.coherence([notes], reference) for notes in samples]
    return Judgement(
        columns=columns,
        by_piece=by_piece,
        told_apart=_told_apart(by_piece, test, reference, steps=max(map(len, samples)), seed=seed),
        memorised=memorisation.memorised(memory, samples),
        bach_memorised=memorisation.memorised(memory, test),
        memorised_by_piece=[memorisation.memorised(memory, [notes]) for notes in samples],
    )


def _tells_onsets(pieces: Sequence[Piece]) -> bool:
    """Return whether an edition tells a note that is struck again from one that is held: if it has any."""
    repeated = (coherence.repeated_notes(piece.notes, piece.onsets) for piece in pieces)
    return any(value > 0 for value in repeated)


def _onsets(pieces: Sequence[Piece], known: bool) -> list[Bool[np.ndarray, "_ 4"]] | None:
    if not known:
        return None
    return [piece.onsets for piece in pieces]


def _told_apart(
    samples: Sequence[Coherence],
    test: Sequence[Notes],
    reference: Reference,
    steps: int,
    seed: int,
) -> Discrimination:
    """Tell samples from stretches of the test part that are no longer, one of each piece, with the end of the piece."""
    rng = np.random.default_rng(seed)
    bach = []
    for notes in test:
        stretch = _stretch(notes, steps, rng)
        bach.append(coherence.coherence([stretch], reference, ends=[notes]))
    # A regression needs rows and columns, without pieces too.
    shape = (-1, len(Coherence._fields))
    return discriminator.discriminate(
        np.reshape(samples, shape),
        np.reshape(bach, shape),
        names=[label for label, _ in coherence.LABELS.values()],
        seed=seed,
    )


def _bach_range(
    test: Sequence[Notes],
    samples: Sequence[Notes],
    reference: Reference,
    seed: int,
) -> tuple[Coherence, Coherence]:
    """Return the 5 % and 95 % quantiles of each measure over draws of as many stretches of the test part.

    Few short pieces differ from the whole by chance; so do Bach's. Ends are those of the pieces, not of the stretches.
    """
    rng = np.random.default_rng(seed)
    steps = max(len(notes) for notes in samples)
    draws = []
    for _ in range(DRAWS):
        numbers = rng.choice(len(test), min(len(samples), len(test)), replace=False)
        stretches = [_stretch(test[number], steps, rng) for number in numbers]
        ends = [test[number] for number in numbers]
        draws.append(coherence.coherence(stretches, reference, ends))

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
