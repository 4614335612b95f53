"""Judge composed pieces: coherence and memorisation beside Bach's own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from jaxseq.music import tokens
from jaxseq.music.evaluation import coherence, memorisation, ngram
from jaxseq.music.evaluation.coherence import Coherence
from jaxseq.music.evaluation.divergence import Reference, fit_reference
from jaxseq.music.evaluation.memorisation import Memorised
from jaxseq.music.piece import BAR, Piece, PieceSplits

OURS = "samples"
BACH = "Bach, test part"
GRAM = "5-gram"
FROZEN = "frozen chord"


LOW = "Bach, as few: 5 %"
HIGH = "95 %"


DRAWS = 60
"""Times that as many stretches as there are samples are drawn from Bach's test part."""


YARDSTICKS = 16
YARDSTICK_STEPS = 512
"""Pieces by the 5-gram and of one chord each, at the most, and their sixteenths."""


class Judgement(NamedTuple):
    """How pieces compare with Bach's.

    columns    coherence by name: ours; the test part; between which two nine in ten lie of as many stretches of it, as long
               as ours; a 5-gram of the training part; chords that never move
    each       coherence of each piece by itself
    memorised  what of ours stands in the training part; `bach` is the same of the test part, `by_piece` of each of ours
    """

    columns: dict[str, Coherence]
    each: list[Coherence]
    memorised: Memorised
    bach: Memorised
    by_piece: list[Memorised]


def judge(pieces: Sequence[Piece], parts: PieceSplits, seed: int) -> Judgement:
    """Coherence and memorisation of pieces, by the parts of the data set that their composer was trained on."""
    train, test = ([piece.notes for piece in part] for part in (parts.train, parts.test))
    reference, known = fit_reference(train), memorisation.remember(train)
    ours = [piece.notes for piece in pieces]
    columns = {OURS: ours, BACH: test, **_yardsticks(train, min(len(ours), YARDSTICKS), len(ours[0]), seed)}
    found = {name: coherence.coherence(notes, reference) for name, notes in columns.items()}
    low, high = _range(test, len(ours), max(map(len, ours)), reference, seed)
    return Judgement(
        {OURS: found.pop(OURS), BACH: found.pop(BACH), LOW: low, HIGH: high, **found},
        [_one(notes, reference) for notes in ours],
        memorisation.memorised(known, ours),
        memorisation.memorised(known, test),
        [memorisation.memorised(known, [notes]) for notes in ours],
    )


def _range(
    test: list[np.ndarray], count: int, steps: int, reference: Reference, seed: int
) -> tuple[Coherence, Coherence]:
    """The 5 % and 95 % quantiles of each measure over draws of so many stretches of the test part, each begun on a beat of
    its bar: few short pieces differ from the whole by chance, Bach's own too."""
    rng, drawn = np.random.default_rng(seed), []
    for _ in range(DRAWS):
        some = rng.choice(len(test), min(count, len(test)), replace=False)
        firsts = [BAR * int(rng.integers(max(1, (len(test[i]) - steps) // BAR + 1))) for i in some]
        stretches = [test[i][first : first + steps] for i, first in zip(some, firsts, strict=True)]
        drawn.append(coherence.coherence(stretches, reference))
    measured = [values[~np.isnan(values)] for values in np.array(drawn).T]
    low, high = (
        Coherence(*(float(np.quantile(values, share)) if len(values) else math.nan for values in measured))
        for share in (0.05, 0.95)
    )
    return low, high


def _yardsticks(train: list[np.ndarray], count: int, steps: int, seed: int) -> dict[str, list[np.ndarray]]:
    """As many pieces by a 5-gram, and first chords of training pieces that are held."""
    rng, steps = np.random.default_rng(seed), min(steps, YARDSTICK_STEPS)
    gram = ngram.fit([tokens.encode(notes) for notes in train])
    composed = [tokens.decode(ngram.sample(gram, steps, rng)) for _ in range(count)]
    held = [np.repeat(train[i][:1], steps, axis=0) for i in rng.integers(len(train), size=count)]
    return {GRAM: composed, FROZEN: held}


def _one(notes: Int[np.ndarray, "t 4"], reference: Reference) -> Coherence:
    return coherence.coherence([notes], reference)
