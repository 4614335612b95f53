"""The range of each voice, and how much of a piece lies outside."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from jaxseq.music.evaluation.divergence import struck
from jaxseq.music.evaluation.shares import count, share
from jaxseq.music.piece import REST, VOICES


def voice_ranges(pieces: Sequence[Int[np.ndarray, "_ 4"]]) -> Int[np.ndarray, "4 2"]:
    """Return the lowest and the highest note of each voice; 127 and 0 of a voice without notes."""
    ranges = np.tile(np.array([127, 0]), (len(VOICES), 1))
    for piece in pieces:
        lowest = np.where(piece == REST, 127, piece).min(axis=0, initial=127)
        highest = piece.max(axis=0, initial=0)
        ranges[:, 0] = np.minimum(ranges[:, 0], lowest)
        ranges[:, 1] = np.maximum(ranges[:, 1], highest)
    return ranges


def out_of_range(notes: Int[np.ndarray, "t 4"], ranges: Int[np.ndarray, "4 2"]) -> float:
    """Measure the share of notes below or above the range of their voice; NaN where no voice has a range."""
    if (ranges[:, 0] > ranges[:, 1]).all():
        return math.nan
    played = struck(notes)
    is_outside = (notes < ranges[:, 0]) | (notes > ranges[:, 1])
    return share(count(played & is_outside), count(played))
