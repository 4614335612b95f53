"""Scales and triads, in semitones above their tonic."""

OCTAVE = 12
"""Semitones of an octave: notes that many apart are of one pitch class."""
FIFTH = 7
"""Semitones of a perfect fifth."""
MAJOR_SCALE = (0, 2, 4, 5, 7, 9, 11)
MINOR_SCALE = (0, 2, 3, 5, 7, 8, 9, 10, 11)
"""The minor scale has both sixths and both sevenths."""
MAJOR_TRIAD = (0, 4, 7)
MINOR_TRIAD = (0, 3, 7)
