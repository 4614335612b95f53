"""The JSB chorales of the literature: 382 pieces for four voices on a grid of sixteenths, 229 / 76 / 77.

The edition that Boulanger-Lewandowski, Bengio and Vincent (2012) cut into these parts, in sixteenths as in Huang et al.
(Coconet, 2017), and as Géron (Hands-On Machine Learning, 2nd edition, chapter 15) publishes it. It tells neither bars
from upbeats nor repeated notes from held ones; `chorales.py` reads another edition, which does. Numbers measured on the
one say nothing about the other.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, TypeAlias

import numpy as np
from jaxtyping import Int

from jaxseq.common.arrays import Splits
from jaxseq.common.errors import UsageError
from jaxseq.common.text import printable, shown
from jaxseq.data.archive import read_bounded, tar_members
from jaxseq.data.download import Remote, fetch
from jaxseq.music.corpora.measures import LONGEST
from jaxseq.music.piece import VOICES, Piece, from_notes

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
"""Of MIDI's notes."""
_EXPECTED = "the archive jsb_chorales.tgz, with train/, valid/ and test/"

if TYPE_CHECKING:
    PieceSplits: TypeAlias = Splits[tuple[Piece, ...]]
else:  # beartype cannot check a generic NamedTuple
    PieceSplits = tuple


@dataclass(frozen=True)
class Jsb:
    """The benchmark's chorales, as notes alone: 229 to train on, 76 to validate, 77 to test."""

    path: str | None = None
    """The archive jsb_chorales.tgz; None downloads it once (120 kB) and checks its sha256."""

    name: ClassVar[str] = "jsb"

    def __post_init__(self) -> None:
        """Raises `UsageError` for a field that cannot be."""
        if self.path is not None and not self.path.strip():
            raise UsageError(f"{self.name}: path is empty; give {_EXPECTED}, or nothing for a download")

    def load(self) -> PieceSplits:
        """The pieces in the literature's order.

        Raises `UsageError`, naming archive, member, row and column, for anything else than four columns of MIDI numbers,
        and `FetchError`, which is one, if there is nothing to read.
        """
        path = self.path or str(fetch(*REMOTE))
        return parse(read_bounded(path, _EXPECTED), printable(path))


@functools.lru_cache(maxsize=2)
def parse(content: bytes, source: str) -> PieceSplits:
    """The pieces of an archive's bytes; `source` is its name for messages. The arrays are read-only."""
    parts: dict[str, list[tuple[str, bytes]]] = {"train": [], "valid": [], "test": []}
    for member, body in tar_members(content, source):
        if found := re.fullmatch(r"(?:.*/)?(train|valid|test)/([^/.][^/]*)\.csv", member):
            parts[found[1]].append((member, body))
    for part, members in parts.items():
        if not members:
            raise UsageError(f"{source} has no {part}/*.csv: give {_EXPECTED}")
    return Splits(*(_pieces(sorted(members), source) for members in parts.values()))


def _pieces(members: list[tuple[str, bytes]], source: str) -> tuple[Piece, ...]:
    return tuple(_piece(member, body, source) for member, body in members)


def _piece(member: str, body: bytes, source: str) -> Piece:
    name = member.rsplit("/", 1)[-1].removesuffix(".csv")
    piece = from_notes(name, read_notes(body, f"{source}: {printable(member)}"))
    for array in (piece.notes, piece.onsets, piece.positions, piece.fermatas):
        array.flags.writeable = False  # the same pieces are given to everybody
    return piece


def read_notes(body: bytes, source: str) -> Int[np.ndarray, "t 4"]:
    """The MIDI numbers of one CSV. Raises `UsageError`, which opens with `source`, if there are none or too many."""
    if (rows := body.count(b"\n")) > LONGEST + 1:
        raise UsageError(f"{source} has {rows:,} rows; {LONGEST:,} sixteenths are the most that is read")
    if not _WELL_FORMED.fullmatch(body if body.endswith(b"\n") else body + b"\n"):
        raise _misfit(body, source)
    numbers = body[body.index(b"\n") :].replace(b"\n", b",").strip(b",\r").split(b",")
    notes = np.array([int(number) for number in numbers]).reshape(-1, len(VOICES))
    if (high := notes > HIGHEST).any():
        row, column = map(int, np.argwhere(high)[0])
        raise UsageError(
            f"{source}: row {row + 2}, column note{column}: {notes[row, column]} is no MIDI number; they go from 0, "
            f"a rest, to {HIGHEST}"
        )
    return notes


def _misfit(body: bytes, source: str) -> UsageError:
    """Return the first fault of a CSV, with its place."""
    try:
        lines = [line.removesuffix("\r") for line in body.decode("ascii").removesuffix("\n").split("\n")]
    except UnicodeDecodeError as error:
        return UsageError(f"{source}: byte {error.start + 1} is no text: the rows must be four numbers with commas")
    if lines[0] != HEADER:
        return UsageError(f"{source}: row 1 is {shown(lines[0])}; it must be {HEADER!r}")
    for row, line in enumerate(lines[1:], 2):
        if not _ROW.fullmatch(line):
            return _misfit_row(line, row, source)
    return UsageError(f"{source} has no rows below its header: 1 sixteenth at least is needed")


def _misfit_row(line: str, row: int, source: str) -> UsageError:
    cells = line.split(",")
    if len(cells) != len(VOICES):
        return UsageError(f"{source}: row {row} has {len(cells)} columns; it must have {len(VOICES)}, one a voice")
    column = next(number for number, cell in enumerate(cells) if not re.fullmatch(r"\d{1,3}", cell, re.ASCII))
    return UsageError(
        f"{source}: row {row}, column note{column}: {shown(cells[column], 42)} is no MIDI number; they go from "
        f"0, a rest, to {HIGHEST}"
    )
