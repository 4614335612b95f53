"""Bach's chorales as their scores have them: bars, keys, ties and fermatas besides the notes.

409 pieces from the corpus of an installed music21, on a grid of sixteenths. 374 of them are in the literature's set too
(`jsb.py`), and stay in its parts (`bwv.csv`). It is another edition, of which 26 pieces are equal note for note: scores
on the two editions cannot be compared. A piece outside of the literature's set is trained on, unless it is a near
duplicate (`near_duplicates.py`) of one that is validated or tested on: then it joins that part.
"""

from __future__ import annotations

import csv
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from jaxseq.common.arrays import Splits
from jaxseq.common.errors import UsageError
from jaxseq.common.text import counted
from jaxseq.music.conditions import ConditionName
from jaxseq.music.corpora import music21_corpus
from jaxseq.music.corpora.measures import Chorale
from jaxseq.music.piece import REST, Piece, PieceSplits

TABLE = Path(__file__).parent / "bwv.csv"
NEAR_DUPLICATES = ("bwv253", "bwv280", "bwv36.4-2", "bwv245.37", "bwv245.5", "bwv99.6")
"""Pieces of the validation (the first three) and the test part that are near duplicates of a training piece in the
literature's split. A result "without near-duplicates" leaves them out."""


@dataclass(frozen=True)
class Chorales:
    """The chorales of music21's corpus, read on your machine; the first time takes some seconds."""

    path: str | None = None
    """music21's wheel, or a folder with its scores; None finds the installed one."""
    repeats: bool = False
    """Play what stands between repeat signs twice, instead of once."""

    name: ClassVar[str] = "chorales"
    tells: ClassVar[tuple[ConditionName, ...]] = ("ending", "phrase", "key", "metre")
    """Conditions that are known of its pieces."""

    def __post_init__(self) -> None:
        if self.path is not None and not self.path.strip():
            raise UsageError("path is empty", where=self.name, needed="music21's wheel or folder, or no path")

    def load(self) -> PieceSplits:
        """Return the pieces, by name. Raises `UsageError` if there is no music21, or a score cannot be read."""
        corpus = _load(self.path)
        parts: dict[str, list[Piece]] = {part: [] for part in Splits._fields}
        for chorale, part in zip(corpus.chorales, corpus.parts, strict=True):
            piece = chorale.piece
            if self.repeats:
                piece = with_repeats(chorale)
            parts[part].append(piece)
        return Splits(*(tuple(pieces) for pieces in parts.values()))

    def notes(self) -> tuple[str, ...]:
        """Return remarks on the scores that were read, a line each. Raises as `load` does."""
        corpus = _load(self.path)
        names = {chorale.piece.name for chorale in corpus.chorales}
        shared = names & literature().keys()
        remarks = [f"{counted(len(names), 'chorale')}, {len(shared)} of them in the literature's set"]

        missing = sorted(literature().keys() - names)
        if missing:
            remarks.append(f"{len(missing)} of the literature's set are missing, the first is {missing[0]}")
        return (*remarks, *corpus.notes)


def _load(path: str | None) -> music21_corpus.Corpus:
    return music21_corpus.load(path, literature())


@functools.cache
def literature() -> dict[str, str]:
    """Return the part of each piece that is in the literature's set too, by its name."""
    with TABLE.open(newline="") as stream:
        return {row["piece"]: row["split"] for row in csv.DictReader(stream)}


def with_repeats(chorale: Chorale) -> Piece:
    """Return the piece with all its repeats played; a note is struck again where a repeat begins."""
    piece, played = chorale
    notes = piece.notes[played]
    onsets = piece.onsets[played]

    # A new pitch after a leap is a new note, even if it is tied to the step before it in the score.
    leaps = np.flatnonzero(np.diff(played) != 1) + 1
    onsets[leaps] |= (notes[leaps] != REST) & (notes[leaps] != notes[leaps - 1])
    return piece._replace(
        notes=notes,
        onsets=onsets,
        positions=piece.positions[played],
        fermatas=piece.fermatas[played],
    )
