"""Chorales that were read out of scores, as one file of the user's cache."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from jaxseq.common.arrays import Splits
from jaxseq.data.archive import read_bounded, zip_members
from jaxseq.music.bars import Units
from jaxseq.music.corpora.measures import Chorale
from jaxseq.music.piece import Piece

KINDS = {
    "names": "U",
    "parts": "U",
    "steps": "i",
    "turns": "i",
    "played": "i",
    "notes": "u",
    "onsets": "b",
    "positions": "i",
    "fermatas": "b",
    "fifths": "i",
    "minor": "i",
    "units": "U",
}
"""Numpy's kind of each array that is kept."""
UNKNOWN = 127
"""Stands for a key or a mode that is not known."""
_UNITS = re.compile(r"(\d{1,6}:\d{1,3}( \d{1,6}:\d{1,3})*)?")

Value = TypeVar("Value", int, bool)


class Corpus(NamedTuple):
    """Chorales in the order of their names, the part that each is in, and lines for the user to read."""

    chorales: tuple[Chorale, ...]
    parts: tuple[str, ...]
    notes: tuple[str, ...] = ()


def to_bytes(corpus: Corpus) -> bytes:
    """Return what `read_cache` reads from a file: the arrays of all pieces, one after the other, and their lengths."""
    pieces = [chorale.piece for chorale in corpus.chorales]
    orders = [chorale.played for chorale in corpus.chorales]
    arrays: dict[str, Any] = {
        "names": np.array([piece.name for piece in pieces]),
        "parts": np.array(corpus.parts),
        "steps": np.array([len(piece.notes) for piece in pieces], np.int32),
        "turns": np.array([len(order) for order in orders], np.int32),
        "played": np.concatenate(orders).astype(np.int32),
        "notes": np.concatenate([piece.notes for piece in pieces]).astype(np.uint8),
        "onsets": np.concatenate([piece.onsets for piece in pieces]),
        "positions": np.concatenate([piece.positions for piece in pieces]).astype(np.int32),
        "fermatas": np.concatenate([piece.fermatas for piece in pieces]),
        "fifths": _known([piece.fifths for piece in pieces]).astype(np.int16),
        "minor": _known([piece.minor for piece in pieces]).astype(np.int8),
        "units": np.array([_text_of(piece.units) for piece in pieces]),
    }
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def read_cache(file: Path) -> Corpus | None:
    """Read a file of the cache; None if there is none, or it is damaged (a zip has check sums)."""
    try:
        members = zip_members(read_bounded(file, "a cache"), file.name)
        stored = {name.removesuffix(".npy"): _array(body) for name, body in members}
        _check(stored)
    # What numpy's format may raise for bytes that are none, and what the checks raise.
    except (ValueError, KeyError, TypeError, RuntimeError, MemoryError, SyntaxError, tokenize.TokenError):
        return None
    return _unpacked(stored)


def _array(body: bytes) -> np.ndarray:
    return np.lib.format.read_array(io.BytesIO(body), allow_pickle=False)


def _check(stored: Mapping[str, np.ndarray]) -> None:
    """Raise `ValueError` or `KeyError` unless the arrays are such as `to_bytes` makes."""
    shapes = _shapes(stored["steps"], stored["turns"])
    for name, kind in KINDS.items():
        array = stored[name]
        if array.dtype.kind != kind or array.shape != shapes[name]:
            raise ValueError(f"{name} is {array.dtype} in {array.shape}")
    if not _is_sound(stored):
        raise ValueError("numbers that no score has")


def _shapes(steps: np.ndarray, turns: np.ndarray) -> dict[str, tuple[int, ...]]:
    """Return the shape of each array, by the numbers of sixteenths and of steps in playing order of all pieces."""
    total = int(steps.sum())
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(KINDS, (len(steps),))
    shapes["notes"] = shapes["onsets"] = (total, 4)
    shapes["positions"] = shapes["fermatas"] = (total,)
    shapes["played"] = (int(turns.sum()),)
    return shapes


def _is_sound(stored: Mapping[str, np.ndarray]) -> bool:
    """Return whether the numbers are such as a score has."""
    steps = stored["steps"]
    turns = stored["turns"]
    # The checks below need a number of each.
    if not len(steps) or steps.min() <= 0 or turns.min() <= 0:
        return False

    played = stored["played"]
    checks = (
        stored["notes"].max() <= 127,
        stored["positions"].min() >= 0,
        np.all((played >= 0) & (played < np.repeat(steps, turns))),
        np.all(np.abs(stored["fifths"]) <= UNKNOWN),
        np.isin(stored["minor"], (0, 1, UNKNOWN)).all(),
        set(stored["parts"].tolist()) <= set(Splits._fields),
        all(_UNITS.fullmatch(text) for text in stored["units"].tolist()),
    )
    return all(checks)


def _unpacked(stored: Mapping[str, np.ndarray]) -> Corpus:
    ends = np.cumsum(stored["steps"])
    wide = {name: stored[name].astype(np.int64) for name in ("notes", "positions", "played")}
    columns: Sequence[Sequence[Any]] = [
        stored["names"].tolist(),
        _cut(wide["notes"], ends),
        _cut(stored["onsets"], ends),
        _cut(wide["positions"], ends),
        _cut(stored["fermatas"], ends),
        [None if fifths == UNKNOWN else fifths for fifths in stored["fifths"].tolist()],
        [None if minor == UNKNOWN else bool(minor) for minor in stored["minor"].tolist()],
        [_units_of(text) for text in stored["units"].tolist()],
    ]
    pieces = [Piece(*fields) for fields in zip(*columns, strict=True)]
    orders = _cut(wide["played"], np.cumsum(stored["turns"]))
    chorales = [Chorale(piece, order) for piece, order in zip(pieces, orders, strict=True)]
    return Corpus(tuple(chorales), tuple(stored["parts"].tolist()))


def _known(values: Iterable[Value | None]) -> np.ndarray:
    """Return an array of the values, with `UNKNOWN` in the places of None."""
    return np.array([UNKNOWN if value is None else value for value in values])


def _text_of(units: Units) -> str:
    """Return the units of a piece as a text: 12:8 24:4."""
    return " ".join(f"{length}:{unit}" for length, unit in units)


def _units_of(text: str) -> Units:
    pairs = [pair.split(":") for pair in text.split()]
    return tuple((int(length), int(unit)) for length, unit in pairs)


def _cut(array: np.ndarray, ends: np.ndarray) -> list[np.ndarray]:
    """Return the parts of an array that end at these rows; nobody may change one, as all share their memory."""
    array.flags.writeable = False
    starts = [0, *ends.tolist()[:-1]]
    return [array[first:last] for first, last in zip(starts, ends.tolist(), strict=True)]
