"""Notes as the symbols of a softmax: 0 a rest, 1 to 46 the notes from C2 (MIDI 36) to A5 (81), 47 the start of a piece."""

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
"""The symbol before the first; it is read, and never predicted."""
MASKED = START + 1
"""The symbol of a note that is to be found; read by models that fill gaps."""
UNSCORED = -1
"""A target that no loss counts."""


def encode(notes: Int[np.ndarray, "t 4"], source: str = "notes") -> Int[np.ndarray, "t 4"]:
    """Symbols for MIDI numbers. Raises `UsageError`, naming step and voice, for a note outside the range."""
    outside = (notes != REST) & ((notes < LOWEST) | (notes > HIGHEST))
    if outside.any():
        step, voice = map(int, np.argwhere(outside)[0])
        raise UsageError(
            f"{source}: the {VOICES[voice]} has note {notes[step, voice]} at step {step + 1}; notes go from {LOWEST} "
            f"to {HIGHEST}, and {REST} is a rest"
        )
    return np.where(notes == REST, 0, notes - LOWEST + 1)


def decode(tokens: Int[np.ndarray, "t 4"]) -> Int[np.ndarray, "t 4"]:
    """The MIDI numbers of symbols."""
    return np.where(tokens == 0, REST, tokens + LOWEST - 1)
