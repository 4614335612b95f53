"""Where given notes come from: a piece of the run's data, by its name, a MIDI file or a score in MusicXML."""

from __future__ import annotations

import difflib

from jaxseq.common.errors import UsageError
from jaxseq.common.files import user_path
from jaxseq.music import scores
from jaxseq.music.midi import read as midi
from jaxseq.music.piece import Piece, PieceSplits, Reading
from jaxseq.music.transposition import Transposition


def find_piece(word: str, parts: PieceSplits | UsageError, transposition: Transposition = 0) -> Reading:
    """Find a piece by name in any part, or read it from a MIDI file or a score. Raises `UsageError` if it is neither."""
    pieces = _pieces_by_name(parts)
    if word in pieces:
        _check_transposition(transposition, word)
        return Reading(piece=pieces[word])
    if _is_file(word):
        path = user_path(word)
        if path.suffix.lower() in scores.SUFFIXES:
            return scores.read(path, transposition)
        return midi.read(path, transposition)
    raise _unknown(word, "--prime", parts)


def find_melody(word: str, parts: PieceSplits | UsageError, transposition: Transposition = 0) -> midi.Melody | Reading:
    """Find a piece by name, or read the melody of a MIDI file or a score. Raises `UsageError` if it is neither."""
    pieces = _pieces_by_name(parts)
    if word in pieces:
        _check_transposition(transposition, word)
        return Reading(piece=pieces[word])
    file, track = midi.file_and_track(word)
    if _is_file(file):
        path = user_path(file)
        if path.suffix.lower() in scores.SUFFIXES:
            return scores.read_melody(path, transposition, track)
        return midi.read_melody(path, transposition, track)
    raise _unknown(word, "--melody", parts)


def _check_transposition(transposition: Transposition, word: str) -> None:
    """Raise `UsageError` for a transposition of a piece of the data, which lies in the range as it is."""
    if transposition != 0:
        raise UsageError("moves the notes of a file", where="--transpose", got=transposition, needed=f"0 for {word}")


def _pieces_by_name(parts: PieceSplits | UsageError) -> dict[str, Piece]:
    """Return the pieces of the data; none where they could not be read."""
    if isinstance(parts, UsageError):
        return {}
    return {piece.name: piece for part in parts for piece in part}


def _is_file(word: str) -> bool:
    path = user_path(word)
    # A missing file with such a suffix is reported as missing, not as an unknown piece.
    return path.suffix.lower() in (".mid", ".midi", *scores.SUFFIXES) or path.is_file()


def _unknown(word: str, option: str, parts: PieceSplits | UsageError) -> UsageError:
    if isinstance(parts, UsageError):
        return UsageError(
            f"no file, and the run's data, which may have such a piece, cannot be read ({parts})",
            where=option,
            got=word,
            needed="a MIDI file or a score, or the data by --data.path",
        )
    # Without a similar name, the first ones show how pieces are named.
    names = list(_pieces_by_name(parts))
    similar = difflib.get_close_matches(word, names, 3, 0.5) or names[:3]
    return UsageError(
        "neither a MIDI file or score nor a piece of the run's data",
        where=option,
        got=word,
        needed=f"a file, or a name such as {', '.join(similar)}",
    )
