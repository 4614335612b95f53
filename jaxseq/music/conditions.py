"""Conditions that a composer knows before the first note: where a piece ends, its phrases, its key and its metre.

A condition is one or more columns of numbers, a row for each step, in which 0 means unknown. Training hides conditions at
random, so that a network has likelihoods with and without them, and composes with whatever is given.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, NamedTuple, TypeAlias

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from jaxseq.music.bars import bars
from jaxseq.music.key import correlations
from jaxseq.music.piece import Piece
from jaxseq.music.scales import OCTAVE
from jaxseq.music.tokens import LOWEST, MASKED
from jaxseq.music.transposition import Key

ConditionName: TypeAlias = Literal["ending", "phrase", "key", "metre"]

UNKNOWN = 0
EXACT = 32
"""Steps up to which a distance is told exactly."""
EDGES = (48, 64, 96, 128, 192, 256)
"""Longer distances are told by the first of these that they do not exceed."""
DISTANCES = EXACT + len(EDGES) + 2
"""Codes of a distance in steps, unknown among them."""
LONGEST_BAR = 48
"""Steps of the longest bar that is told from longer ones."""

COLUMNS: dict[ConditionName, tuple[int, ...]] = {"ending": (0,), "phrase": (1, 2), "key": (3, 4), "metre": (5, 6)}
"""Columns of each condition: steps to the end; steps since the last phrase and to the next fermata; tonic and mode; length
of the bar and position in it."""
SIZES = (DISTANCES, DISTANCES, DISTANCES, OCTAVE + 1, 3, LONGEST_BAR + 1, LONGEST_BAR + 1)
"""Number of codes in each column."""
WIDTH = len(SIZES)
TONIC = 3
"""Column of the tonic's pitch class, from 1 (C) to 12, which is transposed with the notes."""
MIDDLE_C = 60 - LOWEST + 1
"""Symbol of C4."""


class Known(NamedTuple):
    """Knowledge of a piece.

    steps      its length
    positions  sixteenths since the bar line
    fermatas   whether a step stands under a fermata; None if unknown
    key        None if unknown
    """

    steps: int
    positions: Int[np.ndarray, "t"] | None = None
    fermatas: Bool[np.ndarray, "t"] | None = None
    key: Key | None = None


def unknown(steps: int) -> Int[np.ndarray, "t 7"]:
    """Return the columns of a piece of which nothing is known."""
    return np.full((steps, WIDTH), UNKNOWN)


def columns(known: Known, told: Collection[ConditionName] = tuple(COLUMNS)) -> Int[np.ndarray, "t 7"]:
    """Return the columns of what is known; conditions that are not among `told` stay unknown."""
    steps = known.steps
    by_step = unknown(steps)
    if "ending" in told:
        by_step[:, 0] = _distance(np.arange(steps, 0, -1))
    if "phrase" in told and known.fermatas is not None and known.fermatas.any():
        by_step[:, 1:3] = _phrases(known.fermatas)
    if "key" in told and known.key is not None:
        by_step[:, TONIC] = tonic(known.key) + 1
        by_step[:, TONIC + 1] = 1 + known.key.minor
    if "metre" in told and known.positions is not None:
        by_step[:, 5] = np.minimum(_bar_lengths(known.positions), LONGEST_BAR)
        by_step[:, 6] = np.minimum(known.positions + 1, LONGEST_BAR)
    return by_step


def of_piece(piece: Piece, told: Collection[ConditionName]) -> Int[np.ndarray, "t 7"]:
    """Return the columns of a piece; without a key signature its key is found from its notes."""
    known = Known(len(piece.notes), piece.positions, piece.fermatas, key_of(piece))
    return columns(known, told)


def key_of(piece: Piece) -> Key | None:
    """Return the declared key of a piece, or the one that fits its notes best; None if there is nothing to find it by.

    A signature without a mode leaves two keys, of which the better one is taken.
    """
    fits = correlations(piece.notes)
    if np.isnan(fits).any():
        if piece.fifths is None or piece.minor is None:
            return None
        return Key(piece.fifths, piece.minor)

    keys = [Key(fifths, minor) for fifths in range(-5, 7) for minor in (False, True)]
    if piece.fifths is not None:
        keys = [Key(piece.fifths, minor) for minor in (False, True)]
    if piece.minor is not None:
        keys = [key for key in keys if key.minor == piece.minor]
    return max(keys, key=lambda key: fits[OCTAVE * key.minor + tonic(key)])


def tonic(key: Key) -> int:
    """Return the pitch class of a key's tonic, from 0 for C."""
    # The tonic of a minor key is three semitones below that of the major key with its signature.
    return (7 * key.fifths - 3 * key.minor) % OCTAVE


def tonic_symbol(columns: Int[Array, "*b _"]) -> Int[Array, "*b"]:
    """Return the symbol of the tonic in the octave from C4; a hidden note where the key is unknown."""
    code = columns[..., TONIC]
    return jnp.where(code == UNKNOWN, MASKED, code - 1 + MIDDLE_C)


def _distance(steps: Int[np.ndarray, "t"]) -> Int[np.ndarray, "t"]:
    """Return the code of each distance, which is at least 1."""
    return np.where(steps <= EXACT, steps, EXACT + 1 + np.searchsorted(EDGES, steps))


def _phrases(fermatas: Bool[np.ndarray, "t"]) -> Int[np.ndarray, "t 2"]:
    """Return the codes of the steps since the last fermata ended, and of those to the beginning of the next."""
    numbers = np.arange(len(fermatas))
    since = numbers - np.maximum.accumulate(np.where(fermatas, numbers, -1))
    # The end of a piece is that of its last phrase, with or without a fermata.
    following = np.where(fermatas, numbers, len(fermatas))
    until = np.minimum.accumulate(following[::-1])[::-1] - numbers
    return np.stack([_distance(since + 1), _distance(until + 1)], axis=1)


def _bar_lengths(positions: Int[np.ndarray, "t"]) -> Int[np.ndarray, "t"]:
    lengths = np.zeros(len(positions), np.int64)
    for bar in bars(positions):
        lengths[bar.start : bar.end] = bar.metre
    return lengths
