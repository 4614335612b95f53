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
import tokenize
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxseq.common.arrays import Splits
from jaxseq.common.errors import UsageError
from jaxseq.common.files import user_path, write_whole
from jaxseq.common.text import printable, size_of
from jaxseq.data.archive import MOST, read_bounded, zip_members
from jaxseq.data.cache import cache_folder
from jaxseq.music.bars import Units
from jaxseq.music.corpora.measures import Chorale
from jaxseq.music.corpora.musicxml import read_chorale, unpack
from jaxseq.music.corpora.near_duplicates import assign
from jaxseq.music.piece import Piece

PARSER = 2
"""To be raised with every change of what is read: older files of the cache are then read no more."""
INSTALL = "install music21, which brings Bach's chorales (pip install music21), or give its wheel or folder"
_SCORE = re.compile(r"(?:.*/)?([^/]+)\.(?:mxl|xml|musicxml)")
_WITHIN = ("", "bach", "corpus/bach", "music21/corpus/bach")
_UNITS = re.compile(r"(\d{1,6}:\d{1,3}( \d{1,6}:\d{1,3})*)?")
_NONE = 127  # where a key or a mode is not known
MOST_BYTES, MOST_STEPS = 512 * 2**20, 2_000_000
"""Of all scores together, unpacked, and of all pieces; Bach's are 38 MiB and 93,570."""


class Scores(NamedTuple):
    """Files of scores: what they are called, a key that changes when they do, and how to get at them."""

    source: str
    key: str
    read: Callable[[], Iterable[tuple[str, bytes]]]


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
        file.parent.mkdir(parents=True, exist_ok=True)
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
    try:
        place = user_path(path)
        within = place.is_dir()
    # The name of nobody after a tilde, say.
    except (OSError, ValueError) as error:
        raise UsageError(f"{printable(path)} cannot be read ({error}): {INSTALL}") from error
    if within:
        return _folder(*(place / within for within in _WITHIN))
    content = read_bounded(place, "music21's wheel or the folder of its corpus")
    source = printable(str(place))
    return Scores(source, hashlib.sha256(content).hexdigest(), lambda: _members(content, source))


def _folder(*places: Path) -> Scores:
    for place in places:
        try:
            with os.scandir(place) as entries:
                files = {entry.name: entry.stat() for entry in entries if _SCORE.fullmatch(entry.name)}
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise UsageError(f"{printable(str(place))} cannot be read ({error.strerror}): {INSTALL}") from error
        if len(files) > MOST:
            raise UsageError(f"{printable(str(place))} has {len(files):,} scores; {MOST:,} are the most that are read")
        if files:
            states = [(name, state.st_size, state.st_mtime_ns) for name, state in sorted(files.items())]
            key = repr((str(place), states))
            return Scores(printable(str(place)), key, functools.partial(_read_all, place, sorted(files)))
    raise UsageError(f"{printable(str(places[-1]))} has no scores (.mxl, .xml, .musicxml): {INSTALL}")


def _read_all(place: Path, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    for name in names:
        yield name, read_bounded(place / name, "a score")


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
    try:
        parts = assign({name: chorale.piece.notes for name, chorale in found.items()}, known)
    except UsageError as error:
        raise UsageError(f"{scores.source}: {error}") from error
    return Corpus(tuple(found[name] for name in sorted(found)), tuple(parts[name] for name in sorted(found)))


def _chorales(scores: Scores) -> Iterator[tuple[str, Chorale]]:
    size, steps = 0, 0
    for file, content in scores.read():
        name, source = printable(file).rsplit(".", 1)[0], f"{scores.source}: {printable(file)}"
        plain = unpack(content, source)
        chorale = read_chorale(plain, name, source)
        size += len(plain)
        steps += 0 if chorale is None else max(len(chorale.piece.notes), len(chorale.played))
        if size > MOST_BYTES or steps > MOST_STEPS:
            most = f"{size_of(MOST_BYTES)} and {MOST_STEPS:,} sixteenths"
            raise UsageError(f"{source}: with it there are more than {most}, the most that is read of all scores")
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
        "units": np.array([_written(piece.units) for piece in pieces]),
    }
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def _kept(file: Path) -> Corpus | None:
    """Read a file of the cache; None if there is none, or it is damaged (a zip has check sums)."""
    try:
        members = zip_members(read_bounded(file, "a cache"), file.name)
        stored = {name.removesuffix(".npy"): _array(body) for name, body in members}
        _check(stored)
    except (ValueError, KeyError, TypeError, RuntimeError, MemoryError, SyntaxError, tokenize.TokenError):
        return None  # what numpy's own format may say of bytes that are none, and what we do
    return _unpacked(stored)


def _array(body: bytes) -> np.ndarray:
    return np.lib.format.read_array(io.BytesIO(body), allow_pickle=False)


_KINDS = {"names": "U", "parts": "U", "steps": "i", "turns": "i", "played": "i", "notes": "u", "onsets": "b"}
_KINDS |= {"positions": "i", "fermatas": "b", "fifths": "i", "minor": "i", "units": "U"}
"""Of the arrays that are kept."""


def _check(stored: Mapping[str, np.ndarray]) -> None:
    """Raises `ValueError` or `KeyError` unless the arrays are such as `_packed` makes."""
    steps, turns, notes = stored["steps"], stored["turns"], stored["notes"]
    pieces, total = (len(steps),), (int(steps.sum()),)
    shapes = dict.fromkeys(_KINDS, pieces) | dict.fromkeys(("notes", "onsets"), (*total, 4))
    shapes |= dict.fromkeys(("positions", "fermatas"), total) | {"played": (int(turns.sum()),)}
    for name, kind in _KINDS.items():
        if stored[name].dtype.kind != kind or stored[name].shape != shapes[name]:
            raise ValueError(f"{name} is {stored[name].dtype} in {stored[name].shape}")
    sound = (
        len(steps) > 0 and steps.min() > 0 and turns.min() > 0,
        notes.max() <= 127 and stored["positions"].min() >= 0,
        np.all((stored["played"] >= 0) & (stored["played"] < np.repeat(steps, turns))),
        np.all(np.abs(stored["fifths"]) <= _NONE) and np.isin(stored["minor"], (0, 1, _NONE)).all(),
        set(stored["parts"].tolist()) <= set(Splits._fields),
        all(_UNITS.fullmatch(text) for text in stored["units"].tolist()),
    )
    if not all(sound):
        raise ValueError("numbers that no score has")


def _unpacked(stored: Mapping[str, np.ndarray]) -> Corpus:
    steps, turns = (np.cumsum(stored[name]) for name in ("steps", "turns"))
    wide = {name: stored[name].astype(np.int64) for name in ("notes", "positions", "played")}
    columns: Sequence[Sequence[Any]] = [
        stored["names"].tolist(),
        *(_cut(array, steps) for array in (wide["notes"], stored["onsets"], wide["positions"], stored["fermatas"])),
        [None if fifths == _NONE else fifths for fifths in stored["fifths"].tolist()],
        [None if minor == _NONE else bool(minor) for minor in stored["minor"].tolist()],
        [_read_units(text) for text in stored["units"].tolist()],
    ]
    pieces = (Piece(*fields) for fields in zip(*columns, strict=True))
    played = _cut(wide["played"], turns)
    return Corpus(
        tuple(Chorale(piece, order) for piece, order in zip(pieces, played, strict=True)),
        tuple(stored["parts"].tolist()),
    )


def _written(units: Units) -> str:
    """Return the units of a piece as a text: 12:8 24:4."""
    return " ".join(f"{length}:{unit}" for length, unit in units)


def _read_units(text: str) -> Units:
    pairs = [pair.split(":") for pair in text.split()]
    return tuple((int(length), int(unit)) for length, unit in pairs)


def _cut(array: np.ndarray, ends: np.ndarray) -> list[np.ndarray]:
    array.flags.writeable = False
    return [array[first:last] for first, last in zip([0, *ends.tolist()], ends.tolist(), strict=False)]
