"""Pieces as piano rolls: time to the right, pitch upward, a colour for each voice."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxseq.common.figures import PLAIN, annotate_empty, wrapped
from jaxseq.music.bars import bars
from jaxseq.music.notes import lines
from jaxseq.music.piece import REST, VOICES, Piece

COLOURS = ("#d55e00", "#e69f00", "#009e73", "#0072b2")
"""Of soprano, alto, tenor and bass, from Okabe and Ito's palette, which the colour-blind can tell apart."""
THICK = (0.9, 0.5, 0.5, 0.9)
"""Height of each voice's notes in semitones: the thinner inner voices do not hide the outer ones on the same pitch."""
GAP = 0.25
"""Sixteenths that are left free after each note, so that repeated ones can be told apart."""
NATURALS = {0: "C", 2: "D", 4: "E", 5: "F", 7: "G", 9: "A", 11: "B"}
LABELS = 24
"""Approximate number of bars that have their number below them."""


def piano_roll(piece: Piece, title: str) -> Figure:
    """One piece, with its bar lines, the bars' numbers and the names of the notes."""
    with matplotlib.rc_context(PLAIN):
        figure = Figure(figsize=(min(max(10.0, 0.04 * len(piece.notes)), 40.0), 5), layout="constrained")
        axes = figure.subplots()
        _roll(axes, piece)
        axes.set_title(wrapped(title))
        axes.set_xlabel("bar")
        if axes.collections:
            figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=len(VOICES))
    return figure


def _roll(axes: Axes, piece: Piece) -> None:
    if not (piece.notes != REST).any():
        annotate_empty(axes, "silence")
        return
    for name, line, colour, thick in zip(VOICES, lines(piece), COLOURS, THICK, strict=True):
        sung = [note for note in line if note.pitch != REST]
        for pitch in sorted({note.pitch for note in sung}):
            spans = [(note.start, note.steps - GAP) for note in sung if note.pitch == pitch]
            axes.broken_barh(spans, (pitch - thick / 2, thick), color=colour, lw=0, zorder=2)
        axes.fill_between([], [], color=colour, label=name)
    _bar_lines(axes, piece)
    sounding = piece.notes[piece.notes != REST]
    low, high = int(sounding.min()), int(sounding.max())
    ticks = [pitch for pitch in range(low, high + 1) if pitch % 12 in NATURALS]
    axes.set_yticks(ticks, [f"{NATURALS[pitch % 12]}{pitch // 12 - 1}" for pitch in ticks], fontsize=7)
    axes.set(ylim=(low - 1, high + 1), xlim=(-GAP, len(piece.notes)))


def _bar_lines(axes: Axes, piece: Piece) -> None:
    """A line before each bar; every so many bars, counted as in a score, their number."""
    starts = [(bar.start, bar.number) for bar in bars(piece.positions) if not bar.partial]
    every = max(1, int(np.ceil(len(starts) / LABELS)))
    axes.grid(False, axis="x")
    for start, _ in starts:
        axes.axvline(start - GAP / 2, color="0.75", lw=0.7, zorder=1)
    labelled = [(start, str(number)) for start, number in starts if (number - 1) % every == 0]
    axes.set_xticks([start for start, _ in labelled], [number for _, number in labelled], ha="left")
