"""The scores of Bach's chorales that come with music21: where they are, and what was read out of them, kept.

music21 itself is never imported; only its folder is looked for. Its scores have licences of their own, some of them
non-commercial: they are read where they are, and what is kept stays in the user's own cache.
"""

from __future__ import annotations

import functools
import gc
import hashlib
import importlib.util
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from jaxseq.common.errors import UsageError
from jaxseq.common.files import user_path, write_whole
from jaxseq.common.text import printable, size_of
from jaxseq.data.archive import MOST, read_bounded, zip_members
from jaxseq.data.cache import cache_folder
from jaxseq.music.corpora.chorale_cache import Corpus, read_cache, to_bytes
from jaxseq.music.corpora.measures import Chorale
from jaxseq.music.corpora.musicxml import read_chorale, unpack
from jaxseq.music.corpora.near_duplicates import assign

PARSER = 2
"""To be raised with every change of what is read: older files of the cache are then read no more."""
INSTALL = "install music21, which brings Bach's chorales (pip install music21), or give its wheel or folder"
_SCORE = re.compile(r"(?:.*/)?([^/]+)\.(?:mxl|xml|musicxml)")
_WITHIN = ("", "bach", "corpus/bach", "music21/corpus/bach")
"""Folders of the scores within the folder that a user names."""
MOST_BYTES = 512 * 2**20
"""Most bytes of all scores together, unpacked; Bach's have 38 MiB."""
MOST_STEPS = 2_000_000
"""Most sixteenths of all pieces together; Bach's have 93,570."""


class Scores(NamedTuple):
    """Files of scores.

    source  what they are called
    key     text that changes when they do
    read    yields name and content of each
    """

    source: str
    key: str
    read: Callable[[], Iterable[tuple[str, bytes]]]


def load(path: str | None, known: Mapping[str, str], cache: Path | None = None) -> Corpus:
    """Return the chorales of the installed music21, or of the wheel or folder `path`, and the part of each.

    `known` has the parts of the literature, by name. The first time, they are read from their scores and kept in
    `cache`, in place of `cache_folder("chorales")`; a file there that is damaged is written anew. Raises `UsageError`,
    which names the score, for one that cannot be read, and where there are none.
    """
    scores = find(path)
    folder = cache or cache_folder("chorales")
    file = folder / f"chorales-{PARSER}-{_digest(scores.key, known)}.npz"
    cached = read_cache(file)
    if cached is not None:
        return cached

    corpus = read(scores, known)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, to_bytes(corpus))
    # The chorales are read, all the same.
    except OSError as error:
        note = f"the cache file {file} cannot be written ({error.strerror}): the scores will be read again"
        return corpus._replace(notes=(note,))
    return corpus


def _digest(key: str, known: Mapping[str, str]) -> str:
    """Return a name for what is read of these scores: other ones, or other parts, have another."""
    content = repr((key, sorted(known.items())))
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def find(path: str | None = None) -> Scores:
    """Return the scores of the installed music21, or those of a folder or a wheel.

    Raises `UsageError` if there are none.
    """
    if path is None:
        return _folder(_installed())
    try:
        place = user_path(path)
        is_folder = place.is_dir()
    # The name of nobody after a tilde, say.
    except (OSError, ValueError) as error:
        raise UsageError(f"{printable(path)} cannot be read ({error}): {INSTALL}") from error
    if is_folder:
        return _folder(*(place / within for within in _WITHIN))

    content = read_bounded(place, "music21's wheel or the folder of its corpus")
    source = printable(str(place))
    key = hashlib.sha256(content).hexdigest()
    return Scores(source, key, functools.partial(_members, content, source))


def _installed() -> Path:
    """Return the folder of Bach's scores in the installed music21. Raises `UsageError` if it is not installed."""
    spec = importlib.util.find_spec("music21")
    if spec is None or not spec.submodule_search_locations:
        raise UsageError(f"music21 is not installed: {INSTALL} by --data.path")
    package = next(iter(spec.submodule_search_locations))
    return Path(package, "corpus", "bach")


def _folder(*places: Path) -> Scores:
    """Return the scores of the first of the folders that has some."""
    for place in places:
        source = printable(str(place))
        try:
            with os.scandir(place) as entries:
                files = {entry.name: entry.stat() for entry in entries if _SCORE.fullmatch(entry.name)}
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise UsageError(f"{source} cannot be read ({error.strerror}): {INSTALL}") from error
        if len(files) > MOST:
            raise UsageError(f"{source} has {len(files):,} scores; {MOST:,} are the most that are read")
        if files:
            states = [(name, state.st_size, state.st_mtime_ns) for name, state in sorted(files.items())]
            key = repr((str(place), states))
            return Scores(source, key, functools.partial(_read_all, place, sorted(files)))

    raise UsageError(f"{printable(str(places[-1]))} has no scores (.mxl, .xml, .musicxml): {INSTALL}")


def _read_all(place: Path, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    for name in names:
        yield name, read_bounded(place / name, "a score")


def _members(content: bytes, source: str) -> list[tuple[str, bytes]]:
    """Return the scores in a wheel, or in another zip."""

    def is_score(member: str) -> bool:
        return bool(_SCORE.fullmatch(member)) and ("/" not in member or "bach/" in member)

    members = list(zip_members(content, source, wanted=is_score))
    if not members:
        raise UsageError(f"{source} has no scores of Bach's chorales (bach/*.mxl): {INSTALL}")
    return [(member.rsplit("/", 1)[-1], body) for member, body in members]


def read(scores: Scores, known: Mapping[str, str]) -> Corpus:
    """Read the chorales of all scores that have four voices, and their parts.

    Raises `UsageError`, which names the score.
    """
    with _no_collection():
        chorales = dict(_chorales(scores))
    if not chorales:
        raise UsageError(f"{scores.source} has no score for soprano, alto, tenor and bass: {INSTALL}")
    notes = {name: chorale.piece.notes for name, chorale in chorales.items()}
    try:
        parts = assign(notes, known)
    except UsageError as error:
        raise UsageError(f"{scores.source}: {error}") from error
    names = sorted(chorales)
    return Corpus(tuple(chorales[name] for name in names), tuple(parts[name] for name in names))


def _chorales(scores: Scores) -> Iterator[tuple[str, Chorale]]:
    """Yield name and chorale of each score for four voices."""
    size = 0
    steps = 0
    for file, content in scores.read():
        name = printable(file).rsplit(".", 1)[0]
        source = f"{scores.source}: {printable(file)}"
        plain = unpack(content, source)
        chorale = read_chorale(plain, name, source)

        size += len(plain)
        if chorale is not None:
            # Repeats are played out.
            steps += max(len(chorale.piece.notes), len(chorale.played))
        if size > MOST_BYTES or steps > MOST_STEPS:
            most = f"{size_of(MOST_BYTES)} and {MOST_STEPS:,} sixteenths"
            raise UsageError(f"{source}: with it there are more than {most}, the most that is read of all scores")
        if chorale is not None:
            yield name, chorale


@contextmanager
def _no_collection() -> Iterator[None]:
    """Collect no garbage within.

    The trees of scores have no cycles, yet so many nodes that looking for some takes a third of the time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
