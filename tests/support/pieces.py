"""Pieces for the tests of music: by hand, and at random."""

import hypothesis.strategies as st
import numpy as np

from jaxseq.music.notes import Note, grid
from jaxseq.music.piece import REST, Piece
from jaxseq.music.tokens import HIGHEST, LOWEST


def of_lines(*lines, first=0, bar=16, fermatas=(), fifths=None, minor=None, name="piece"):
    """A piece from (pitch, steps) pairs for each voice; voices that are not given are silent."""
    steps = max(sum(length for _, length in line) for line in lines)
    voices = [[] for _ in range(4)]
    for voice, line in enumerate(lines):
        start = 0
        for pitch, length in line:
            voices[voice].append(Note(start, length, pitch))
            start += length
    notes, onsets = grid(voices, steps)
    held = np.isin(np.arange(steps), list(fermatas))
    return Piece(name, notes, onsets, (first + np.arange(steps)) % bar, held, fifths, minor)


@st.composite
def pieces(draw, most=70):
    """Any piece: rests, repeated notes, notes over several bars, upbeats, bars of any length, fermatas, any key."""
    steps = draw(st.integers(1, most))
    pitches = st.one_of(st.just(REST), st.integers(LOWEST, HIGHEST), st.integers(60, 64))
    notes, onsets = np.zeros((steps, 4), np.int64), np.zeros((steps, 4), bool)
    for voice in range(4):
        start = 0
        while start < steps:
            length, pitch = draw(st.integers(1, 20)), draw(pitches)
            notes[start : start + length, voice] = pitch
            onsets[start, voice] = pitch != REST
            start += length
    bar = draw(st.sampled_from([2, 6, 8, 10, 11, 12, 16, 24]))
    positions = (draw(st.integers(0, bar - 1)) + np.arange(steps)) % bar
    fermatas = np.array(draw(st.lists(st.booleans(), min_size=steps, max_size=steps)))
    fifths, minor = draw(st.one_of(st.just(None), st.integers(-7, 7))), draw(st.sampled_from([None, False, True]))
    return Piece("any", notes, onsets, positions, fermatas, fifths, minor)
