"""What a composition has to keep: a prime to go on with, a melody to harmonise, voices or bars that stay."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from jaxseq.common.errors import UsageError
from jaxseq.common.text import counted
from jaxseq.music import tokens
from jaxseq.music.bars import Bar, bars
from jaxseq.music.midi import read
from jaxseq.music.piece import BAR, REST, VOICES, Piece, PieceSplits
from jaxseq.music.sampling import FREE

USUAL_BARS = 16
"""Bars of a piece where nothing says how many."""
NO_PRIME = "none"


class Commission(NamedTuple):
    """What is given of a piece, and what is known of it.

    forced     symbols that stay, `compose.FREE` in the place of those that are to be composed
    pattern    a piece of the same length: its notes count where they are forced, its bars and key do everywhere
    says_key   whether its key is that of the composition
    said       what was decided, a sentence each
    """

    forced: Int[np.ndarray, "t 4"]
    pattern: Piece
    says_key: bool
    said: tuple[str, ...] = ()


def afresh(length: int | None = None) -> Commission:
    """Nothing is given, and the bars have four quarters."""
    steps = BAR * (length or USUAL_BARS)
    nothing = np.zeros((steps, len(VOICES)), np.int64)
    pattern = Piece("", nothing, nothing > 0, np.arange(steps) % BAR, np.zeros(steps, bool))
    return Commission(np.full_like(nothing, FREE), pattern, False)


def continued(prime: Piece, prime_bars: int, length: int | None = None) -> Commission:
    """The first bars of a piece (an upbeat does not count) are given; it goes on in its last metre to so many bars.

    Raises `UsageError` for more bars than the piece has, or if none would be left to compose.
    """
    total, measures = length or USUAL_BARS, bars(prime.positions)
    whole = max((bar.number for bar in measures), default=0)
    if prime_bars > whole:
        raise UsageError(f"--prime-bars {prime_bars}: {prime.name} has {counted(whole, 'bar')}")
    if prime_bars >= total:
        raise UsageError(
            f"--prime-bars {prime_bars} leaves nothing of {counted(total, 'bar')} to compose: take more --bars"
        )
    given = [bar for bar in measures if bar.number <= prime_bars]
    end, metre = given[-1].end, _metre(given)
    positions = np.concatenate(
        [prime.positions[:end], _go_on(int(prime.positions[end - 1]), metre, total - prime_bars)]
    )
    pattern = _lengthened(prime, end, positions)
    forced = np.full(pattern.notes.shape, FREE)
    forced[:end] = tokens.encode(pattern.notes[:end], prime.name)
    said = f"the first {counted(prime_bars, 'bar')} are those of {prime.name}"
    return Commission(forced, pattern, True, (said,))


def harmonised(melody: read.Melody | Piece) -> Commission:
    """The soprano is given: a melody out of a file, or that of a piece."""
    if isinstance(melody, Piece):
        forced = np.full(melody.notes.shape, FREE)
        forced[:, 0] = tokens.encode(melody.notes, melody.name)[:, 0]
        return Commission(forced, melody, True, (f"the soprano is that of {melody.name}",))
    steps = len(melody.notes)
    notes, onsets = np.zeros((steps, len(VOICES)), np.int64), np.zeros((steps, len(VOICES)), bool)
    notes[:, 0], onsets[:, 0] = melody.notes, melody.onsets
    pattern = Piece(melody.name, notes, onsets, melody.positions, np.zeros(steps, bool))
    found = harmonised(pattern)
    rests = np.count_nonzero(melody.notes == REST)
    silent = [f"the melody rests for {rests} of {steps} sixteenths"] if rests else []
    said = (f"the soprano is {melody.name}", *melody.said, *silent)
    return found._replace(says_key=False, said=said)


def changed(piece: Piece, keep: str | None, redo: str | None) -> Commission:
    """A piece of which some voices stay, or only some bars do not, or both: those bars of the other voices are composed.

    Raises `UsageError` for voices and bars that are not there, and where nothing is left to compose.
    """
    free = np.ones(piece.notes.shape, bool)
    said = []
    if keep is not None:
        voices = _voices(keep)
        free[:, [VOICES.index(voice) for voice in voices]] = False
        said.append(
            f"{_listed(voices)} {'are' if len(voices) > 1 else 'is'} that of {piece.name}".replace(
                "are that", "are those"
            )
        )
    if redo is not None:
        first, last = _range(redo)
        within = _within(bars(piece.positions), first, last, piece, redo)
        free &= within[:, None]
        said.append(f"all but the bars {first} to {last} are those of {piece.name}")
    forced = np.where(free, FREE, tokens.encode(piece.notes, piece.name))
    return Commission(forced, piece, True, tuple(said))


def named(word: str, option: str, parts: PieceSplits) -> read.Reading:
    """A piece by its name in any of the parts, or out of a MIDI file. Raises `UsageError` if it is neither."""
    known = pieces_by_name(parts)
    if word in known:
        return read.Reading(known[word], ())
    if _is_file(word):
        return read.read(Path(word))
    raise _unknown(word, option, known)


def melody(word: str, parts: PieceSplits) -> read.Melody | Piece:
    """The melody in a MIDI file, or a piece by its name. Raises `UsageError` if it is neither."""
    known = pieces_by_name(parts)
    if word in known:
        return known[word]
    if _is_file(word):
        return read.read_melody(Path(word))
    raise _unknown(word, "--melody", known)


def first_notes(parts: PieceSplits, rows: int, seed: int) -> tuple[Int[np.ndarray, "b"], tuple[str, ...]]:
    """A soprano's first symbol for each row, those of training pieces drawn evenly, and what is to be said of that."""
    pieces = [piece for piece in parts.train if len(piece.notes)]
    drawn = np.random.default_rng(seed).integers(len(pieces), size=rows)
    symbols = np.array([tokens.encode(pieces[i].notes[:1], pieces[i].name)[0, 0] for i in drawn])
    return symbols, (
        "the run was trained on windows and knows no first note: it is that of a training piece, drawn evenly",
    )


def pieces_by_name(parts: PieceSplits) -> dict[str, Piece]:
    """All pieces of a data set."""
    return {piece.name: piece for part in parts for piece in part}


def completed(commission: Commission, notes: Int[np.ndarray, "t 4"], name: str) -> Piece:
    """A composition as a piece: what was given has the onsets that it had, other notes begin where the pitch changes."""
    pattern, given = commission.pattern, commission.forced != FREE
    changes = np.ones(notes.shape, bool)
    changes[1:] = notes[1:] != notes[:-1]
    onsets = np.where(given, pattern.onsets | changes, changes) & (notes != REST)
    fifths, minor = (pattern.fifths, pattern.minor) if commission.says_key else (None, None)
    return Piece(name, notes, onsets, pattern.positions, pattern.fermatas, fifths, minor)


def _unknown(word: str, option: str, known: Collection[str]) -> UsageError:
    near = difflib.get_close_matches(word, known, 3, 0.5) or list(known)[:3]
    return UsageError(f"{option} {word!r} is no MIDI file and no piece of the run's data; near are {', '.join(near)}")


def _is_file(word: str) -> bool:
    return Path(word).suffix.lower() in (".mid", ".midi") or Path(word).is_file()


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _metre(measures: Sequence[Bar]) -> int:
    """The length of a bar that the last time signature gives."""
    return next((bar.signature for bar in reversed(measures) if bar.signature is not None), BAR)


def _go_on(last: int, metre: int, more: int) -> Int[np.ndarray, "t"]:
    """The positions of so many bars after one that ended with position `last`; what it lacks is filled up first."""
    missing = np.arange(last + 1, metre) if last + 1 < metre else np.arange(0)
    return np.concatenate([missing, np.tile(np.arange(metre), more)])


def _lengthened(piece: Piece, end: int, positions: Int[np.ndarray, "t"]) -> Piece:
    """The first steps of a piece, and silence."""
    more = len(positions) - end
    notes = np.pad(piece.notes[:end], ((0, more), (0, 0)))
    onsets = np.pad(piece.onsets[:end], ((0, more), (0, 0)))
    return piece._replace(
        notes=notes, onsets=onsets, positions=positions, fermatas=np.pad(piece.fermatas[:end], (0, more))
    )


def _voices(keep: str) -> list[str]:
    voices = list(dict.fromkeys(word.strip().lower() for word in keep.split(",") if word.strip()))
    if unknown := [word for word in voices if word not in VOICES]:
        raise UsageError(f"--keep {keep}: there is no voice {unknown[0]!r}; they are {', '.join(VOICES)}")
    if not voices:
        raise UsageError(f"--keep names no voice; they are {', '.join(VOICES)}")
    if len(voices) == len(VOICES):
        raise UsageError(f"--keep {keep}: all {len(VOICES)} voices stay, nothing is left to compose")
    return sorted(voices, key=VOICES.index)


def _range(redo: str) -> tuple[int, int]:
    found = re.fullmatch(r"(?:bars? *)?(\d{1,6})(?: *- *(\d{1,6}))?", redo.strip())
    if found is None:
        raise UsageError(f"--redo {redo!r} must be bars such as 5-8, or one bar")
    first, last = int(found[1]), int(found[2] or found[1])
    if first > last:
        raise UsageError(f"--redo {redo}: bar {first} comes after bar {last}")
    return first, last


def _within(measures: Sequence[Bar], first: int, last: int, piece: Piece, redo: str) -> Bool[np.ndarray, "t"]:
    numbers = [bar.number for bar in measures]
    if first < min(numbers) or last > max(numbers):
        raise UsageError(f"--redo {redo}: {piece.name} has the bars {min(numbers)} to {max(numbers)}")
    within = np.zeros(len(piece.positions), bool)
    for bar in measures:
        within[bar.start : bar.end] = first <= bar.number <= last
    return within
