"""The player of composed pieces: a section of their page that sounds them, with a score that follows.

A browser synthesises the sound from the notes, so that each voice has a slider, by the instruments of `music.sound`.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import NamedTuple

import numpy as np

from jaxseq.common import html_page
from jaxseq.music import plots, sound
from jaxseq.music.bars import bars, fraction
from jaxseq.music.instruments import Performance
from jaxseq.music.notes import clock, lines
from jaxseq.music.piece import REST, VOICES, Piece

TEMPLATE = Path(__file__).with_name("player.html")
STYLE = Path(__file__).with_name("player.css")
SCRIPTS = tuple(Path(__file__).with_name(name) for name in ("player_sound.js", "player_view.js", "player.js"))
"""In the order in which they are run."""
MOST_SCORES = 64
"""Most pieces whose score is in the page; those after them have the piano roll alone. A score takes about 30 kB."""
DIGITS = 4
"""Decimal places of a time in seconds."""


class Track(NamedTuple):
    """A piece in the player.

    facts  on its key, metre and figures, a few words each
    files  names of its files beside the page
    score  one system as SVG, by `engrave.strip`; None where it was not engraved
    """

    piece: Piece
    facts: Sequence[str]
    files: Sequence[str]
    score: str | None


def section(tracks: Sequence[Track], performance: Performance, command: str) -> str:
    """Return the player as HTML, which is well-formed XML too.

    command  composes the same pieces again
    """
    instrument = performance.instrument
    content = {
        "instrument": instrument._asdict(),
        "voices": _voices(),
        "spread": sound.SPREAD,
        "echo": {"seconds": sound.ECHO, "fade": sound.ECHO_TIME, "wet": sound.WET},
        "pieces": [_track(track, performance) for track in tracks],
    }
    scripts = [path.read_text(encoding="utf-8") for path in SCRIPTS]
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        style=STYLE.read_text(encoding="utf-8"),
        instrument=escape(instrument.title.lower()),
        command=escape(command),
        data=html_page.script_data(content),
        scripts="".join(f"<script>/*<![CDATA[*/\n{script}/*]]>*/</script>\n" for script in scripts),
    )


def facts(piece: Piece, key: str, bpm: float) -> list[str]:
    """Return key, metre, tempo and length of a piece, a few words each; an upbeat is no bar."""
    measures = bars(piece.positions)
    metres = []
    for bar in measures:
        if bar.signature is not None:
            numerator, denominator = fraction(bar.signature, piece.units)
            metres.append(f"{numerator}/{denominator}")
    # A metre that comes back is named once.
    words = [key, *dict.fromkeys(metres), f"{bpm:g} quarter notes a minute"]
    words.append(f"{max((bar.number for bar in measures), default=0)} bars")
    if measures and measures[0].number == 0:
        words.append("with an upbeat")
    return words


def _track(track: Track, performance: Performance) -> dict[str, object]:
    """Return a piece as the script reads it: times in seconds, each note as first step, step after its last, and pitch."""
    piece = track.piece
    times = np.concatenate([[0.0], np.cumsum(clock(piece, performance.bpm, performance.hold))])
    voices = []
    # Rests are silent, and so are not sent.
    for line in lines(piece):
        voices.append([[note.start, note.end, note.pitch] for note in line if note.pitch != REST])
    score = None
    if track.score is not None:
        # A tenth of the size; base64 is text of a page.
        score = base64.b64encode(zlib.compress(track.score.encode(), 9)).decode()
    return {
        "name": piece.name,
        "facts": list(track.facts),
        "times": np.round(times, DIGITS).tolist(),
        "bars": [[bar.start, bar.number] for bar in bars(piece.positions) if not bar.partial],
        "voices": voices,
        "files": list(track.files),
        "score": score,
    }


def _voices() -> list[dict[str, object]]:
    """Return name, colour, loudness and place of each voice."""
    rows = zip(VOICES, plots.COLOURS, plots.THICK, sound.LOUDNESS, sound.PAN, strict=True)
    return [
        {"name": name, "colour": colour, "thick": thick, "loudness": loudness, "pan": pan}
        for name, colour, thick, loudness, pan in rows
    ]
