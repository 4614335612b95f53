"""Notes as symbols of a softmax: 0 is a rest, 1 to 46 are the notes from C2 (MIDI 36) to A5 (81), 47 starts a piece."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from jaxseq.common.errors import UsageError
from jaxseq.music.piece import REST, VOICES

LOWEST, HIGHEST = 36, 81
"""Range of the chorales' notes, as MIDI numbers."""
VOCABULARY = HIGHEST - LOWEST + 2
"""Symbols that can be predicted: 46 notes and the rest."""
START = VOCABULARY
"""Symbol before the first note; it is read, and never predicted."""
MASKED = START + 1
"""Symbol of a hidden note; read by networks that fill gaps."""
UNSCORED = -1
"""Target that no loss counts."""


def encode(notes: Int[np.ndarray, "t 4"], source: str = "notes") -> Int[np.ndarray, "t 4"]:
    """Return the symbols of MIDI numbers. Raises `UsageError`, with step and voice, for a note out of range."""
    outside = np.argwhere((notes != REST) & ((notes < LOWEST) | (notes > HIGHEST)))
    if len(outside):
        step, voice = map(int, outside[0])
        raise UsageError(
            f"{source}: the {VOICES[voice]} has note {notes[step, voice]} at step {step + 1}; notes go from {LOWEST} "
            f"to {HIGHEST}, and {REST} is a rest"
        )
    return np.where(notes == REST, 0, notes - LOWEST + 1)


def decode(tokens: Int[np.ndarray, "t 4"]) -> Int[np.ndarray, "t 4"]:
    """Return the MIDI numbers of symbols."""
    return np.where(tokens == 0, REST, tokens + LOWEST - 1)
