"""Fourth stage: write composed pieces and their judgement into a folder, whole or not at all."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxseq.checkpoint import folder_seal
from jaxseq.common import figures, files, html_page
from jaxseq.common.errors import UsageError
from jaxseq.music import plots, sound
from jaxseq.music.instruments import INSTRUMENTS, Performance
from jaxseq.music.midi import write as midi
from jaxseq.music.notation import engrave, musicxml
from jaxseq.music.piece import Piece
from jaxseq.sample import player, record, report
from jaxseq.sample.compose import Composed
from jaxseq.sample.judge import Judgement
from jaxseq.sample.options import PROGRAM
from jaxseq.sample.player import Track
from jaxseq.sample.request import Request

PAGE_FILE = "index.html"


class Written(NamedTuple):
    """A complete folder.

    files  names of the files about all pieces
    notes  remarks on scores that could not be engraved
    """

    folder: Path
    files: tuple[str, ...]
    notes: tuple[str, ...]


def write(
    request: Request,
    composed: Composed,
    judgement: Judgement | None,
    progress: Callable[[int, int], None],
) -> Written:
    """Write pieces and judgement into --out, or into the next number in the run's folder.

    Without a judgement there is no table. `progress` is called with the number of pieces that are written, and that of
    all. Raises `UsageError` if the folder cannot be written.
    """
    options = request.options
    with options.destination.unpublished() as draft:
        performance = Performance(request.bpm, instrument=INSTRUMENTS[options.instrument])
        names_by_piece = []
        strips: list[str | None] = []
        engraving = options.score
        notes: tuple[str, ...] = ()
        for number, piece in enumerate(composed.pieces, start=1):
            contents = _contents(piece, performance)
            strip = None
            if engraving:
                try:
                    contents |= _engraved(piece)
                    if number <= player.MOST_SCORES:
                        strip = engrave.strip(musicxml.musicxml(piece))
                except UsageError as error:
                    # A program that is missing for one piece is missing for all: it is reported once.
                    engraving = False
                    notes = (str(error),)
            for name, content in contents.items():
                files.write(draft / name, content)
            names_by_piece.append(list(contents))
            strips.append(strip)
            progress(number, len(composed.pieces))

        facts = record.record(request, composed, judgement, names_by_piece)
        text = report.markdown(request, composed, judgement, names_by_piece)
        tracks = _tracks(request, composed, names_by_piece, strips)
        command = f"{PROGRAM} {shlex.join(report.again(request))}"
        section = player.section(tracks, performance, command)
        names = [PAGE_FILE, report.REPORT_FILE, report.SUMMARY_FILE]
        files.write_text(draft / PAGE_FILE, html_page.html(text, draft, after_lead=section, embed=False))
        files.write_text(draft / report.REPORT_FILE, text)
        if judgement is not None:
            names.append(report.TABLE_FILE)
            files.write_text(draft / report.TABLE_FILE, report.table_csv(judgement.columns))
        # Last, since it seals the other files.
        folder_seal.write(draft / report.SUMMARY_FILE, facts)
        published = options.destination.publish(draft)
    return Written(published, tuple(names), notes)


def _tracks(
    request: Request,
    composed: Composed,
    names_by_piece: Sequence[Sequence[str]],
    strips: Sequence[str | None],
) -> list[Track]:
    """Return the pieces as the player takes them."""
    tracks = []
    for number, piece in enumerate(composed.pieces):
        piece_nats = report.nats(composed.log_probability[number])
        facts = player.facts(piece, report.key_name(piece), request.bpm)
        # Without a composed note there is no mean.
        if piece_nats.notes:
            facts.append(f"{piece_nats.mean:.3f} nats a note")
        tracks.append(Track(piece, facts, names_by_piece[number], strips[number]))
    return tracks


def _contents(piece: Piece, performance: Performance) -> dict[str, bytes]:
    """Return MIDI, MusicXML, sound and the piano roll of a piece by the name of the file; the first three last as long."""
    return {
        f"{piece.name}.mid": midi.midi(piece, *performance),
        f"{piece.name}.musicxml": musicxml.musicxml(piece, performance=performance).encode(),
        f"{piece.name}.wav": sound.wav(sound.sound(piece, *performance)),
        f"{piece.name}.png": figures.drawn(plots.piano_roll(piece, piece.name), "png"),
    }


def _engraved(piece: Piece) -> dict[str, bytes]:
    """Return the pages of a piece's score by the name of the file.

    Raises `UsageError` if a program that engraves is not installed or cannot engrave the piece.
    """
    pages = {}
    for number, page in enumerate(engrave.svg(musicxml.musicxml(piece)), start=1):
        name = f"{piece.name}-score"
        # Most pieces have one page, which has no number.
        if number > 1:
            name = f"{piece.name}-score-{number}"
        pages[f"{name}.svg"] = page.encode()
        pages[f"{name}.png"] = engrave.png(page)
    return pages
