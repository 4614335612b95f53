"""Bars and time signatures, from the positions of a piece's steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Int

from jaxseq.common.errors import UsageError
from jaxseq.music.piece import BAR, BEAT

Units: TypeAlias = tuple[tuple[int, int], ...]
"""Pairs of a bar's length and the unit of its beats, as in a `Piece`."""
UNITS = (1, 2, 4, 8, 16, 32, 64)
"""Units of the beats of a time signature: whole notes to 64ths."""
RUN = 3
"""Number of equally long bars in a row that make a new time signature; fewer short ones are parts of a bar."""


class Bar(NamedTuple):
    """A bar, or the part of a bar between two bar lines.

    start, end  its first step, and the step after its last
    first       position of its first step: above 0 in an upbeat
    number      its number in the score: 0 is the upbeat, and a part of a bar has the number of the bar before it
    partial     whether it is an upbeat or a part of a bar
    signature   length of a bar in sixteenths, if a time signature stands before it
    metre       length of a bar in sixteenths by the last time signature
    """

    start: int
    end: int
    first: int
    number: int
    partial: bool
    signature: int | None
    metre: int


def bars(positions: Int[np.ndarray, "t"]) -> list[Bar]:
    """Return the bars of a piece. A bar line stands before each step that does not follow the step before it.

    The time signature is the length of most bars, the longer one of two equally common. It changes at a longer bar, at
    the first of `RUN` shorter ones, and back again; a single short bar has no signature, nor has the last.
    """
    edges = _bar_lines(positions)
    lengths = [int(positions[end - 1]) + 1 for end in edges[1:]]
    usual = _usual(lengths)

    piece_bars = []
    current = usual
    number = 0
    for index, (start, end) in enumerate(pairwise(edges)):
        length = lengths[index]
        first = int(positions[start])
        back_to_usual = length == usual
        changes = length != current and (back_to_usual or _changes(lengths[index:], current))
        # The last bar may be cut short without being a part of one.
        short = length < current and not changes and end < len(positions)
        partial = first > 0 or short

        if not partial:
            number += 1
        if changes:
            current = length
        signature = None
        if changes or index == 0:
            signature = current
        piece_bars.append(
            Bar(start, end, first=first, number=number, partial=partial, signature=signature, metre=current)
        )
    return piece_bars


def with_upbeat(positions: Int[np.ndarray, "t"], upbeat: int) -> Int[np.ndarray, "t"]:
    """Return the positions of the same steps, the first `upbeat` of which stand before the first bar line.

    Raises `UsageError` where that is a bar or more, and for a piece whose metre changes.
    """
    metres = {bar.metre for bar in bars(positions)}
    if len(metres) > 1:
        lengths = ", ".join(map(str, sorted(metres)))
        raise UsageError(f"the metre changes: bars of {lengths} sixteenths")
    metre = max(metres, default=BAR)
    if not 0 <= upbeat < metre:
        raise UsageError(
            f"{upbeat} sixteenths are no upbeat of bars of {metre}; less than a bar stands before the first one"
        )
    return (np.arange(len(positions)) - upbeat) % metre


def fraction(length: int, units: Units = ()) -> tuple[int, int]:
    """Return the time signature of a bar of `length` sixteenths: 16 is 4/4, 12 is 3/4, 24 is 3/2, 10 is 5/8.

    units  those of a `Piece`, which say otherwise for some lengths
    """
    known = dict(units).get(length)
    if known is not None:
        return length * known // 16, known
    if length > 16 and length % 8 == 0:
        unit = 8
    else:
        unit = next(unit for unit in (4, 2, 1) if length % unit == 0)
    return length // unit, 16 // unit


def beat_of(length: int, units: Units = ()) -> int:
    """Return the sixteenths of a beat: a dotted quarter in 6/8, 9/8 and 12/8, or else a quarter."""
    beats, unit = fraction(length, units)
    if unit == 8 and beats > 3 and beats % 3 == 0:
        return 6
    return BEAT


def units_of(signatures: Iterable[tuple[int, int]]) -> Units:
    """Return the units of time signatures, given as beats and unit, which their length alone does not tell.

    Signatures whose bars are no whole number of sixteenths, or whose unit is no note value, are left
    out. Of two of one length, the last counts.
    """
    units = {16 * beats // unit: unit for beats, unit in signatures if unit in UNITS and 16 * beats % unit == 0}
    return tuple((length, unit) for length, unit in sorted(units.items()) if length and fraction(length)[1] != unit)


def _bar_lines(positions: Int[np.ndarray, "t"]) -> list[int]:
    """Return the first step of every bar, and the end of the piece."""
    starts = np.flatnonzero(np.diff(positions, prepend=-1) != 1).tolist()
    if not len(positions):
        return [0]
    # A piece that begins on a bar line follows the imagined step before it.
    if not starts or starts[0] != 0:
        starts = [0, *starts]
    return [*starts, len(positions)]


def _usual(lengths: list[int]) -> int:
    """Return the length that most bars have; the last, which may be cut short, counts only if it is alone."""
    counts = Counter(lengths[:-1] or lengths)
    return max(counts, key=lambda length: (counts[length], length), default=0)


def _changes(lengths: list[int], current: int) -> bool:
    """Return whether the first of these bars has a new time signature."""
    length = lengths[0]
    run = lengths[:RUN]
    return length > current or (len(run) == RUN and set(run) == {length})
