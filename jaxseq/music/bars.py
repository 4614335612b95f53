"""Bars and time signatures, from the positions of a piece's steps."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

RUN = 3
"""So many bars of one length in a row are a new time signature; fewer of a short length are parts of a bar."""


class Bar(NamedTuple):
    """A bar, or the part of one that stands between two bar lines.

    start, end  its first step, and the step after its last
    first       position of its first step: above 0 in an upbeat
    number      as it is counted: 0 is the upbeat, and a part of a bar has the number of the bar before it
    partial     whether it is an upbeat or a part of a bar
    signature   length of a bar in sixteenths, where a time signature stands before it
    """

    start: int
    end: int
    first: int
    number: int
    partial: bool
    signature: int | None


def bars(positions: Int[np.ndarray, "t"]) -> list[Bar]:
    """The bars of a piece. A bar line stands before each step that is not one further than the step before it.

    The time signature is that of most bars, the longer one of two equally common. It changes at a longer bar, at the
    first of `RUN` shorter ones, and back again; a single short bar is left without a sign, and so is the last.
    """
    starts = np.flatnonzero(np.diff(positions, prepend=-1) != 1) if len(positions) else np.zeros(0, int)
    if len(positions) and (not len(starts) or starts[0] != 0):
        starts = np.concatenate([[0], starts])
    edges = [*map(int, starts), len(positions)]
    lengths = [int(positions[end - 1]) + 1 for end in edges[1:]]
    usual = _common(lengths)
    made, current, number = [], usual, 0
    for i, (start, end) in enumerate(pairwise(edges)):
        first = int(positions[start])
        sign = lengths[i] != current and (lengths[i] == usual or _changes(lengths[i:], current))
        partial = first > 0 or (not sign and lengths[i] < current and end < len(positions))
        number += not partial
        current = lengths[i] if sign else current
        made.append(Bar(start, end, first, number, partial, current if sign or not i else None))
    return made


def fraction(length: int) -> tuple[int, int]:
    """A bar of so many sixteenths as a time signature: 16 is 4/4, 12 is 3/4, 24 is 3/2, 10 is 5/8."""
    unit = 8 if length > 16 and length % 8 == 0 else next(unit for unit in (4, 2, 1) if length % unit == 0)
    return length // unit, 16 // unit


def _common(lengths: list[int]) -> int:
    """The length that most bars have; the last, which may be cut short, counts only if it is alone."""
    counts = Counter(lengths[:-1] or lengths)
    return max(counts, key=lambda length: (counts[length], length), default=0)


def _changes(lengths: list[int], current: int) -> bool:
    """Whether the first of these bars has a new time signature."""
    length, run = lengths[0], lengths[:RUN]
    return length > current or (len(run) == RUN and set(run) == {length})
