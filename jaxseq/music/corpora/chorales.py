"""Bach's chorales as their scores have them: bars, keys, ties and fermatas beside the notes.

409 pieces out of the corpus of the user's own music21, on a grid of sixteenths. 374 of them are in the set of the
literature too (`jsb.py`), and stay in the part that they have there (`bwv.csv`). It is another edition, of which 26
pieces are equal note for note: numbers measured on the one say nothing about the other. A piece that is not in the
literature's set is trained on, unless it is the twin (`twins.py`) of one that is validated or tested on: then it is in
that part.
"""

from __future__ import annotations

import csv
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeAlias

import numpy as np

from jaxseq.common.arrays import Splits
from jaxseq.common.errors import UsageError
from jaxseq.common.text import counted
from jaxseq.music.corpora import music21_corpus
from jaxseq.music.corpora.measures import Chorale
from jaxseq.music.piece import REST, Piece

TABLE = Path(__file__).parent / "bwv.csv"
NEAR_DUPLICATES = ("bwv253", "bwv280", "bwv36.4-2", "bwv245.37", "bwv245.5", "bwv99.6")
"""Pieces of the validation (the first three) and the test part that are twins of a training piece, as the literature
cuts the set. A result "without near-duplicates" leaves them out."""

if TYPE_CHECKING:
    PieceSplits: TypeAlias = Splits[tuple[Piece, ...]]
else:  # beartype cannot check a generic NamedTuple
    PieceSplits = tuple


@dataclass(frozen=True)
class Chorales:
    """The chorales of music21's corpus, read on your machine; the first time takes some seconds."""

    path: str | None = None
    """music21's wheel, or a folder with its scores; None finds the installed one."""
    repeats: bool = False
    """Play what stands between repeat signs twice, instead of once."""

    name: ClassVar[str] = "chorales"

    def __post_init__(self) -> None:
        """Raises `UsageError` for a field that cannot be."""
        if self.path is not None and not self.path.strip():
            raise UsageError(f"{self.name}: path is empty; give music21's wheel or folder, or nothing")

    def load(self) -> PieceSplits:
        """The pieces, by name. Raises `UsageError` if music21 is not there, or a score cannot be read."""
        found = _load(self.path)
        parts: dict[str, list[Piece]] = {part: [] for part in Splits._fields}
        for chorale, part in zip(found.chorales, found.parts, strict=True):
            parts[part].append(with_repeats(chorale) if self.repeats else chorale.piece)
        return Splits(*(tuple(pieces) for pieces in parts.values()))

    def notes(self) -> tuple[str, ...]:
        """Return remarks on the scores that were read, a line each. Raises as `load` does."""
        found = _load(self.path)
        names = {chorale.piece.name for chorale in found.chorales}
        said = [f"{counted(len(names), 'chorale')}, {len(names & literature().keys())} of them in the literature's set"]
        if missing := sorted(literature().keys() - names):
            said.append(f"{len(missing)} of the literature's set are missing, the first is {missing[0]}")
        return (*said, *found.notes)


def _load(path: str | None) -> music21_corpus.Corpus:
    return music21_corpus.load(path, literature())


@functools.cache
def literature() -> dict[str, str]:
    """The parts of the pieces that are in the literature's set too, by name."""
    with TABLE.open(newline="") as stream:
        return {row["piece"]: row["split"] for row in csv.DictReader(stream)}


def with_repeats(chorale: Chorale) -> Piece:
    """The piece as it sounds with all its repeats; a note is struck again where a repeat begins."""
    piece, played = chorale
    notes, onsets = piece.notes[played], piece.onsets[played]
    leaps = np.flatnonzero(np.diff(played) != 1) + 1
    onsets[leaps] |= (notes[leaps] != REST) & (notes[leaps] != notes[leaps - 1])
    return piece._replace(
        notes=notes, onsets=onsets, positions=piece.positions[played], fermatas=piece.fermatas[played]
    )
