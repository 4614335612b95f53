"""Weights that lean a piece towards a key and the ranges of voices, and to its cadences.

A weight is added to the log-probability of a note before temperature and truncation: 0 leaves it as likely as it was, -2
divides its odds by e^2, -inf excludes it. Rests are left as they are, but for the chord of a cadence.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxseq.common.errors import UsageError
from jaxseq.music import conditions
from jaxseq.music.cadences import Chord, Place
from jaxseq.music.piece import BEAT, VOICES
from jaxseq.music.scales import MAJOR_SCALE, MAJOR_TRIAD, MINOR_SCALE, MINOR_TRIAD, OCTAVE
from jaxseq.music.tokens import LOWEST, VOCABULARY
from jaxseq.music.transposition import Key

APPROACH = BEAT // 2
"""Steps before the chord of a cadence that have the chord which leads to it."""


class Weights(NamedTuple):
    """Weights of every note that is drawn.

    notes   of each symbol, for each voice; one set for all pieces, or one for each
    moving  of every symbol but that of the voice's last note; -inf lets no voice move
    """

    notes: Float[np.ndarray | Array, "#b t 4 v"]
    moving: Float[np.ndarray | Array, "t"]


def none(steps: int) -> Weights:
    """Return weights that change nothing."""
    shape = (1, steps, len(VOICES), VOCABULARY)
    return Weights(np.zeros(shape, np.float32), np.zeros(steps, np.float32))


def for_each(weights: Weights | None, pieces: int) -> Weights | None:
    """Return weights with those of notes for each piece; None for none."""
    if weights is None:
        return None
    notes = np.broadcast_to(weights.notes, (pieces, *weights.notes.shape[1:]))
    return weights._replace(notes=notes)


def in_keys(weights: Weights, keys: Sequence[Key | None], strength: float) -> Weights:
    """Subtract `strength` from the log-probability of notes outside the scale of each piece's key.

    Of the first chord, whose key everything after it follows, all notes outside the tonic's triad count as outside. A piece
    without a key leans towards none.
    """
    notes = np.repeat(weights.notes, len(keys) // len(weights.notes), axis=0)
    for of_piece, key in zip(notes, keys, strict=True):
        if key is None:
            continue
        scale = MAJOR_SCALE
        triad = MAJOR_TRIAD
        if key.minor:
            scale = MINOR_SCALE
            triad = MINOR_TRIAD
        tonic = conditions.tonic(key)
        of_piece[0] -= strength * _outside(tonic, triad)
        of_piece[1:] -= strength * _outside(tonic, scale)
    return weights._replace(notes=notes)


def within_ranges(weights: Weights, ranges: Int[np.ndarray, "4 2"]) -> Weights:
    """Exclude notes below or above the range of their voice; a voice without a range keeps all."""
    notes = weights.notes.copy()
    pitches = np.arange(VOCABULARY) + LOWEST - 1
    for voice, (low, high) in enumerate(ranges):
        if low <= high:
            is_outside = (pitches < low) | (pitches > high)
            # Symbol 0 is a rest, which is in every range.
            is_outside[0] = False
            notes[:, :, voice, is_outside] = -np.inf
    return weights._replace(notes=notes)


def to_cadences(weights: Weights, keys: Sequence[Key], places: Sequence[Place]) -> Weights:
    """Let each piece have cadences in its key.

    From `start` to `end` the bass can have the root of the chord alone, the others any of its notes, no voice can rest, and
    none can move after the first step. In the steps before, `APPROACH` of them, voices move among the notes of the chord
    that leads there, its root in the bass; a cadence that ends there shortens them. Raises `UsageError` for places that
    overlap.
    """
    places = sorted(places, key=lambda place: place.start)
    for earlier, later in pairwise(places):
        if later.start < earlier.end:
            raise UsageError(
                "cadences overlap", where="cadence", got=f"step {later.start}", needed=f"{earlier.end} or later"
            )

    # One set for all pieces becomes one for each, as their keys differ.
    notes = np.repeat(weights.notes, len(keys) // len(weights.notes), axis=0)
    moving = weights.moving.copy()
    # The step after the cadence before.
    free_from = 0
    for cadence, start, end in places:
        for of_piece, key in zip(notes, keys, strict=True):
            if cadence.before is not None:
                _allow(of_piece[max(free_from, start - APPROACH) : start], cadence.before, key)
            _allow(of_piece[start:end], cadence.chord, key)
        moving[start + 1 : end] = -np.inf
        free_from = end
    return Weights(notes, moving)


def _allow(notes: Float[np.ndarray, "t 4 v"], chord: Chord, key: Key) -> None:
    """Exclude all notes but those of a chord in root position, in place."""
    degrees = chord.in_major
    if key.minor:
        degrees = chord.in_minor
    tonic = conditions.tonic(key)
    for voice, name in enumerate(VOICES):
        of_voice = degrees
        if name == "bass":
            of_voice = degrees[:1]
        excluded = _outside(tonic, of_voice)
        # No voice rests in a cadence.
        excluded[0] = True
        _exclude(notes[:, voice], excluded)


def _exclude(notes: Float[np.ndarray, "t v"], excluded: Bool[np.ndarray, "v"]) -> None:
    """Exclude symbols from the steps of a voice, in place."""
    # The cadence goes before a range in which it has no note.
    if np.isneginf(notes[:, ~excluded]).all():
        notes[:] = 0
    notes[:, excluded] = -np.inf


def _outside(tonic: int, degrees: Sequence[int]) -> Bool[np.ndarray, "v"]:
    """Return which symbols are notes that are none of the degrees, in semitones above the tonic."""
    pitches = np.arange(VOCABULARY) + LOWEST - 1
    is_outside = ~np.isin((pitches - tonic) % OCTAVE, degrees)
    # Symbol 0 is a rest.
    is_outside[0] = False
    return is_outside
