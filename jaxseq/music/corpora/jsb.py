"""The JSB chorales of the literature: 382 pieces for four voices on a grid of sixteenths, 229 / 76 / 77.

The edition that Boulanger-Lewandowski, Bengio and Vincent (2012) cut into these parts, in sixteenths as in Huang et al.
(Coconet, 2017), and as Géron (Hands-On Machine Learning, 2nd edition, chapter 15) publishes it. It tells neither bars
from upbeats nor repeated notes from held ones; `chorales.py` reads another edition, which does. Scores on the two
editions cannot be compared.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Int

from jaxseq.common.arrays import Splits
from jaxseq.common.errors import UsageError
from jaxseq.common.text import printable
from jaxseq.data.archive import read_bounded, tar_members
from jaxseq.data.download import FetchError, Remote, fetch
from jaxseq.music.conditions import ConditionName
from jaxseq.music.corpora.measures import LONGEST
from jaxseq.music.piece import VOICES, Piece, PieceSplits, from_notes

REMOTE = Remote(
    "https://raw.githubusercontent.com/ageron/handson-ml2/master/datasets/jsb_chorales/jsb_chorales.tgz",
    "594e5e25a3ff8af64687c378628970c6435fddd3093d96df2fa8ca9505ce30fe",
    "jsb_chorales.tgz",
)
NEAR_DUPLICATES = ("chorale_287", "chorale_303", "chorale_374")
"""Pieces of the validation (the first two) and the test part that are almost a training piece: 287 is 142, 303 is 224
and 374 is 124. A result "without near-duplicates" leaves them out."""
HEADER = "note0,note1,note2,note3"
_WELL_FORMED = re.compile(rb"note0,note1,note2,note3\r?\n(?:\d{1,3},\d{1,3},\d{1,3},\d{1,3}\r?\n)+")
_ROW = re.compile(r"\d{1,3}(?:,\d{1,3}){3}")
HIGHEST = 127
"""Highest MIDI number."""
_MIDI_NUMBER = f"0, a rest, to {HIGHEST}"
_EXPECTED = "the archive jsb_chorales.tgz, with train/, valid/ and test/"


@dataclass(frozen=True)
class Jsb:
    """The benchmark's chorales, as notes alone: 229 to train on, 76 to validate, 77 to test."""

    path: str | None = None
    """The archive jsb_chorales.tgz; None downloads it once (120 kB) and checks its sha256."""

    name: ClassVar[str] = "jsb"
    tells: ClassVar[tuple[ConditionName, ...]] = ("ending", "key")
    """Conditions that are known of its pieces: their ends, and keys that their notes suggest."""

    def __post_init__(self) -> None:
        if self.path is not None and not self.path.strip():
            raise UsageError("path is empty", where=self.name, needed=f"{_EXPECTED}, or no path, to download it")

    def load(self) -> PieceSplits:
        """Return the pieces in the literature's order.

        Raises `UsageError`, with archive, member, row and column, for anything but four columns of MIDI numbers, and its
        subclass `FetchError` if the archive cannot be downloaded.
        """
        path = self.path or str(_fetched())
        return parse(read_bounded(path, _EXPECTED), printable(path))


def _fetched() -> Path:
    """Return the archive in the cache. Raises `FetchError`, which names the other edition, too."""
    try:
        return fetch(*REMOTE)
    except FetchError as error:
        advice = f"{error.advice}; chorales, chords and fill train on the edition of an installed music21"
        raise FetchError(error.reason, error.cause, advice, error.file) from error


@functools.lru_cache(maxsize=2)
def parse(content: bytes, source: str) -> PieceSplits:
    """Read the pieces of an archive's bytes; `source` is its name for messages. The arrays are read-only."""
    parts: dict[str, list[tuple[str, bytes]]] = {"train": [], "valid": [], "test": []}
    for member, body in tar_members(content, source):
        match = re.fullmatch(r"(?:.*/)?(train|valid|test)/([^/.][^/]*)\.csv", member)
        if match:
            parts[match[1]].append((member, body))

    for part, members in parts.items():
        if not members:
            raise UsageError(f"no {part}/*.csv", where=source, needed=_EXPECTED)
    return Splits(*(_pieces(sorted(members), source) for members in parts.values()))


def _pieces(members: list[tuple[str, bytes]], source: str) -> tuple[Piece, ...]:
    return tuple(_piece(member, body, source) for member, body in members)


def _piece(member: str, body: bytes, source: str) -> Piece:
    name = member.rsplit("/", 1)[-1].removesuffix(".csv")
    piece = from_notes(name, read_notes(body, f"{source}: {printable(member)}"))
    # The cache gives the same arrays to every caller.
    for array in (piece.notes, piece.onsets, piece.positions, piece.fermatas):
        array.flags.writeable = False
    return piece


def read_notes(body: bytes, source: str) -> Int[np.ndarray, "t 4"]:
    """Read the MIDI numbers of one CSV. Raises `UsageError`, with row and column, for anything else, or for too many."""
    rows = body.count(b"\n")
    if rows > LONGEST + 1:
        raise UsageError("too many rows", where=source, got=rows, needed=f"at most {LONGEST:,} sixteenths")

    # One expression over the whole file is quick; only a file that fails it is read again, for the place.
    if not _WELL_FORMED.fullmatch(body if body.endswith(b"\n") else body + b"\n"):
        raise _misfit(body, source)
    numbers = body[body.index(b"\n") :].replace(b"\n", b",").strip(b",\r").split(b",")
    notes = np.array([int(number) for number in numbers]).reshape(-1, len(VOICES))

    too_high = np.argwhere(notes > HIGHEST)
    if len(too_high):
        row, column = map(int, too_high[0])
        # Rows are counted from 1, and the header is the first.
        raise _no_midi_number(int(notes[row, column]), f"{source}, row {row + 2}, column note{column}")
    return notes


def _misfit(body: bytes, source: str) -> UsageError:
    """Return the first fault of a CSV, with its place."""
    try:
        text = body.decode("ascii").removesuffix("\n")
    except UnicodeDecodeError as error:
        return UsageError(
            f"byte {error.start + 1} is no text",
            where=source,
            needed="rows of four numbers with commas",
        )

    header, *lines = [line.removesuffix("\r") for line in text.split("\n")]
    if header != HEADER:
        return UsageError("not the header of a chorale", where=f"{source}, row 1", got=header, needed=HEADER)
    for row, line in enumerate(lines, 2):
        if not _ROW.fullmatch(line):
            return _misfit_row(line, f"{source}, row {row}")
    return UsageError("no rows below its header", where=source, needed="at least 1 sixteenth")


def _misfit_row(line: str, place: str) -> UsageError:
    cells = line.split(",")
    if len(cells) != len(VOICES):
        return UsageError(
            "wrong number of columns",
            where=place,
            got=len(cells),
            needed=f"{len(VOICES)}, one a voice",
        )

    is_number = [re.fullmatch(r"\d{1,3}", cell, re.ASCII) is not None for cell in cells]
    column = is_number.index(False)
    return _no_midi_number(cells[column], f"{place}, column note{column}")


def _no_midi_number(value: int | str, place: str) -> UsageError:
    return UsageError("not a MIDI number", where=place, got=value, needed=_MIDI_NUMBER)
