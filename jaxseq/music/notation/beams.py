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
    found: list[Beams] = [()] * len(bar)
    for group in _groups(bar, beat):
        if len(group) > 1:
            first = _joined([True] * len(group))
            second = _joined([bar[i].value == 1 for i in group])
            for i, one, two in zip(group, first, second, strict=True):
                found[i] = (one, two) if two else (one,)
    return found


def _groups(bar: Sequence[Written], beat: int) -> list[list[int]]:
    """Return the numbers of the neighbouring notes below a quarter that lie in one beat."""
    groups: list[list[int]] = [[]]
    for i, head in enumerate(bar):
        if head.note.pitch == REST or head.value >= BEAT:
            groups.append([])
            continue
        if groups[-1] and bar[groups[-1][-1]].position // beat != head.position // beat:
            groups.append([])
        groups[-1].append(i)
    return groups


def _joined(has: list[bool]) -> list[str]:
    """The beam at each note of a group, where only some have it: a hook where a neighbour has none."""
    words = []
    for i, beam in enumerate(has):
        left, right = i > 0 and has[i - 1], i + 1 < len(has) and has[i + 1]
        alone = "forward hook" if i == 0 else "backward hook"
        word = {(True, True): "continue", (True, False): "end", (False, True): "begin"}.get((left, right), alone)
        words.append(word if beam else "")
    return words
