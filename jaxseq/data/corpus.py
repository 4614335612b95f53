"""The scores of Bach's chorales that come with music21: where they are, and what was read out of them, kept.

music21 itself is never imported; only its folder is looked for. Its scores have licences of their own, some of them
non-commercial: they are read where they are, and what is kept stays in the user's own cache.
"""

from __future__ import annotations

import functools
import gc
import hashlib
import importlib.util
import io
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxseq.data.archive import read_bounded, zip_members
from jaxseq.data.bars import Chorale
from jaxseq.data.cache import cache_folder, write_whole
from jaxseq.data.files import printable
from jaxseq.data.musicxml import read_chorale
from jaxseq.data.twins import assign
from jaxseq.errors import UsageError
from jaxseq.music.piece import Piece

PARSER = 1
"""To be raised with every change of what is read: older files of the cache are then read no more."""
INSTALL = "install music21, which brings Bach's chorales (pip install music21), or give its wheel or folder"
_SCORE = re.compile(r"(?:.*/)?([^/]+)\.(?:mxl|xml|musicxml)")
_WITHIN = ("", "bach", "corpus/bach", "music21/corpus/bach")
_NONE = 127  # where a key or a mode is not known


class Scores(NamedTuple):
    """Files of scores: what they are called, a key that changes when they do, and how to get at them."""

    source: str
    key: str
    read: Callable[[], list[tuple[str, bytes]]]


class Corpus(NamedTuple):
    """Chorales in the order of their names, the part that each is in, and lines for the user to read."""

    chorales: tuple[Chorale, ...]
    parts: tuple[str, ...]
    notes: tuple[str, ...] = ()


def load(path: str | None, known: Mapping[str, str], cache: Path | None = None) -> Corpus:
    """The chorales of the installed music21, or of the wheel or folder `path`, and the part of each.

    `known` has the parts of the literature, by name. The first time, they are read from their scores and kept in
    `cache`, in place of `cache_folder("chorales")`; a file there that is damaged is written anew. Raises `UsageError`,
    which names the score, for one that cannot be read, and where there are none.
    """
    scores = find(path)
    file = (cache or cache_folder("chorales")) / f"chorales-{PARSER}-{_key(scores.key, known)}.npz"
    if kept := _kept(file):
        return kept
    corpus = read(scores, known)
    try:
        write_whole(file, _packed(corpus))
    except OSError as error:
        said = f"the cache file {file} cannot be written ({error.strerror}): the scores will be read again"
        return corpus._replace(notes=(said,))
    return corpus


def _key(key: str, known: Mapping[str, str]) -> str:
    return hashlib.sha256(repr((key, sorted(known.items()))).encode()).hexdigest()[:16]


def find(path: str | None = None) -> Scores:
    """The scores of the installed music21, or those of a folder or a wheel. Raises `UsageError` if there are none."""
    if path is None:
        spec = importlib.util.find_spec("music21")
        places = spec.submodule_search_locations if spec else None
        if not places:
            raise UsageError(f"music21 is not installed: {INSTALL} by --data.path")
        return _folder(Path(next(iter(places)), "corpus", "bach"))
    place = Path(path).expanduser()
    if place.is_dir():
        return _folder(*(place / within for within in _WITHIN))
    content = read_bounded(place, "music21's wheel or the folder of its corpus")
    return Scores(str(place), hashlib.sha256(content).hexdigest(), lambda: _members(content, str(place)))


def _folder(*places: Path) -> Scores:
    for place in places:
        try:
            with os.scandir(place) as entries:
                files = {entry.name: entry.stat() for entry in entries if _SCORE.fullmatch(entry.name)}
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise UsageError(f"{place} cannot be read ({error.strerror}): {INSTALL}") from error
        if files:
            states = [(name, state.st_size, state.st_mtime_ns) for name, state in sorted(files.items())]
            return Scores(str(place), repr((str(place), states)), functools.partial(_read_all, place, sorted(files)))
    raise UsageError(f"{places[-1]} has no scores (.mxl, .xml, .musicxml): {INSTALL}")


def _read_all(place: Path, names: Sequence[str]) -> list[tuple[str, bytes]]:
    return [(name, read_bounded(place / name, "a score")) for name in names]


def _members(content: bytes, source: str) -> list[tuple[str, bytes]]:
    def wanted(member: str) -> bool:
        return bool(_SCORE.fullmatch(member)) and ("/" not in member or "bach/" in member)

    members = list(zip_members(content, source, wanted=wanted))
    if not members:
        raise UsageError(f"{source} has no scores of Bach's chorales (bach/*.mxl): {INSTALL}")
    return [(member.rsplit("/", 1)[-1], body) for member, body in members]


def read(scores: Scores, known: Mapping[str, str]) -> Corpus:
    """The chorales of all scores that have four voices, and their parts. Raises `UsageError`, which names the score."""
    with _no_collection():
        found = dict(_chorales(scores))
    if not found:
        raise UsageError(f"{scores.source} has no score for soprano, alto, tenor and bass: {INSTALL}")
    parts = assign({name: chorale.piece.notes for name, chorale in found.items()}, known)
    return Corpus(tuple(found[name] for name in sorted(found)), tuple(parts[name] for name in sorted(found)))


def _chorales(scores: Scores) -> Iterator[tuple[str, Chorale]]:
    for file, content in scores.read():
        name = file.rsplit(".", 1)[0]
        chorale = read_chorale(content, name, f"{scores.source}: {printable(file)}")
        if chorale is not None:
            yield name, chorale


@contextmanager
def _no_collection() -> Iterator[None]:
    """The trees of scores have no cycles, yet so many nodes that looking for some takes a third of the time."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def _packed(corpus: Corpus) -> bytes:
    pieces = [chorale.piece for chorale in corpus.chorales]
    arrays: dict[str, Any] = {
        "names": np.array([piece.name for piece in pieces]),
        "parts": np.array(corpus.parts),
        "steps": np.array([len(piece.notes) for piece in pieces], np.int32),
        "turns": np.array([len(chorale.played) for chorale in corpus.chorales], np.int32),
        "played": np.concatenate([chorale.played for chorale in corpus.chorales]).astype(np.int32),
        "notes": np.concatenate([piece.notes for piece in pieces]).astype(np.uint8),
        "onsets": np.concatenate([piece.onsets for piece in pieces]),
        "positions": np.concatenate([piece.positions for piece in pieces]).astype(np.int32),
        "fermatas": np.concatenate([piece.fermatas for piece in pieces]),
        "fifths": np.array([_NONE if piece.fifths is None else piece.fifths for piece in pieces], np.int16),
        "minor": np.array([_NONE if piece.minor is None else piece.minor for piece in pieces], np.int8),
    }
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def _kept(file: Path) -> Corpus | None:
    """What is in a file of the cache; None if there is none, or it is damaged (a zip has check sums)."""
    try:
        with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as stored:
            return _unpacked({name: stored[name] for name in stored.files})
    except (OSError, ValueError, KeyError, EOFError, IndexError, zipfile.BadZipFile, zlib.error, RuntimeError):
        return None


def _unpacked(stored: Mapping[str, np.ndarray]) -> Corpus:
    steps, turns = (np.cumsum(stored[name]) for name in ("steps", "turns"))
    wide = {name: stored[name].astype(np.int64) for name in ("notes", "positions", "played")}
    columns: Sequence[Sequence[Any]] = [
        stored["names"].tolist(),
        *(_cut(array, steps) for array in (wide["notes"], stored["onsets"], wide["positions"], stored["fermatas"])),
        [None if fifths == _NONE else fifths for fifths in stored["fifths"].tolist()],
        [None if minor == _NONE else bool(minor) for minor in stored["minor"].tolist()],
    ]
    pieces = (Piece(*fields) for fields in zip(*columns, strict=True))
    played = _cut(wide["played"], turns)
    return Corpus(
        tuple(Chorale(piece, order) for piece, order in zip(pieces, played, strict=True)),
        tuple(stored["parts"].tolist()),
    )


def _cut(array: np.ndarray, ends: np.ndarray) -> list[np.ndarray]:
    array.flags.writeable = False
    return [array[first:last] for first, last in zip([0, *ends.tolist()], ends.tolist(), strict=False)]
