"""Beams: the eighths and sixteenths of one beat, joined."""

from __future__ import annotations

from collections.abc import Sequence

from jaxseq.music.notation.note_values import Written
from jaxseq.music.piece import BEAT, REST

Beams = tuple[str, ...]
"""MusicXML's words for the first beam at a note, and the second if it has one: begin, continue, end or a hook."""


def beams(bar: Sequence[Written], beat: int = BEAT) -> list[Beams]:
    """Return the beams at each note head and rest of a bar; none where a note stands alone in its beat.

    beat  sixteenths of a beat
    """
    words: list[Beams] = [()] * len(bar)
    for group in _groups(bar, beat):
        # A note that is alone has a flag.
        if len(group) < 2:
            continue
        first_beam = _joined([True] * len(group))
        # Sixteenths alone have a second one.
        second_beam = _joined([bar[place].value == 1 for place in group])
        for place, first, second in zip(group, first_beam, second_beam, strict=True):
            words[place] = (first,)
            if second:
                words[place] = (first, second)
    return words


def _groups(bar: Sequence[Written], beat: int) -> list[list[int]]:
    """Return the numbers of the neighbouring notes below a quarter that lie in one beat."""
    groups: list[list[int]] = [[]]
    for place, head in enumerate(bar):
        # A rest, or a note without a flag, ends a group.
        if head.note.pitch == REST or head.value >= BEAT:
            groups.append([])
            continue
        group = groups[-1]
        if group and bar[group[-1]].position // beat != head.position // beat:
            groups.append([])
        groups[-1].append(place)
    return groups


def _joined(has_beam: list[bool]) -> list[str]:
    """Return the beam at each note of a group, where only some have it: a hook where a neighbour has none."""
    words = []
    for place, is_here in enumerate(has_beam):
        word = ""
        if is_here:
            is_before = place > 0 and has_beam[place - 1]
            is_after = place + 1 < len(has_beam) and has_beam[place + 1]
            word = _word(is_before, is_after, is_first=place == 0)
        words.append(word)
    return words


def _word(is_before: bool, is_after: bool, is_first: bool) -> str:
    """Return the word for a beam by whether the notes before and after it have it, too."""
    if is_before and is_after:
        return "continue"
    if is_before:
        return "end"
    if is_after:
        return "begin"
    # A hook points into its group.
    if is_first:
        return "forward hook"
    return "backward hook"
