"""Given notes of a piece: those of a prime to continue, of a melody to harmonise, or the voices and bars that are kept."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from jaxseq.common.errors import UsageError
from jaxseq.common.text import counted
from jaxseq.music import tokens
from jaxseq.music.bars import bars
from jaxseq.music.midi import read as midi
from jaxseq.music.piece import BAR, REST, VOICES, Piece, Reading
from jaxseq.music.sampling import FREE
from jaxseq.sample.options import DEFAULT_BARS

VOICE_NAMES = ", ".join(VOICES)


class Given(NamedTuple):
    """Given notes of a piece, and its frame.

    forced   symbols that stay; `sampling.FREE` where a note is to be composed
    pattern  piece of the same length: its notes and onsets count where they are forced, its bars and key everywhere
    has_key  whether the pattern's key is that of the composed piece
    notes    remarks on what was given, a sentence each
    bpm      tempo of the given file, in quarter notes a minute; None where it has none
    """

    forced: Int[np.ndarray, "t 4"]
    pattern: Piece
    has_key: bool
    notes: tuple[str, ...] = ()
    bpm: float | None = None


def from_nothing(length: int | None = None, upbeat: int = 0) -> Given:
    """Give no note; there are `length` bars of four quarters, the last one shorter by the `upbeat` before the first."""
    steps = BAR * (length or DEFAULT_BARS)
    silence = np.zeros((steps, len(VOICES)), np.int64)
    pattern = Piece(
        name="",
        notes=silence,
        onsets=np.zeros(silence.shape, bool),
        positions=(np.arange(steps) - upbeat) % BAR,
        fermatas=np.zeros(steps, bool),
    )
    return Given(np.full_like(silence, FREE), pattern, has_key=False)


def continued(prime: Piece, prime_bars: int, length: int | None = None) -> Given:
    """Give the first bars of a piece, not counting an upbeat; the rest, up to `length` bars, keeps the last metre.

    Raises `UsageError` for more bars than the piece has, or if none is left to compose.
    """
    total = length or DEFAULT_BARS
    measures = bars(prime.positions)
    # An upbeat is bar 0, so that the last number is the number of whole bars.
    available = max((bar.number for bar in measures), default=0)
    if prime_bars > available:
        raise UsageError(
            "too many bars",
            where="--prime-bars",
            got=prime_bars,
            needed=f"at most {available}, which {prime.name} has",
        )
    if prime_bars >= total:
        raise UsageError(
            "no bar is left to compose",
            where="--prime-bars",
            got=prime_bars,
            needed=f"fewer than the {counted(total, 'bar')} of --bars",
        )

    first_bars = [bar for bar in measures if bar.number <= prime_bars]
    end = first_bars[-1].end
    last_position = int(prime.positions[end - 1])
    further = _further_positions(last_position, first_bars[-1].metre, total - prime_bars)
    pattern = _lengthened(prime, end, np.concatenate([prime.positions[:end], further]))

    forced = np.full(pattern.notes.shape, FREE)
    forced[:end] = tokens.encode(pattern.notes[:end], prime.name)
    note = f"the first {counted(prime_bars, 'bar')} are those of {prime.name}"
    return Given(forced, pattern, has_key=True, notes=(note,))


def _further_positions(last: int, metre: int, count: int) -> Int[np.ndarray, "t"]:
    """Return the positions of `count` bars after a step with position `last`, whose bar is completed first."""
    # The stop is not below the start: a bar that is longer than the metre is complete.
    rest_of_bar = np.arange(last + 1, max(metre, last + 1))
    return np.concatenate([rest_of_bar, np.tile(np.arange(metre), count)])


def _lengthened(piece: Piece, end: int, positions: Int[np.ndarray, "t"]) -> Piece:
    """Return the first `end` steps of a piece, then silence."""
    silent = len(positions) - end
    return piece._replace(
        notes=np.pad(piece.notes[:end], ((0, silent), (0, 0))),
        onsets=np.pad(piece.onsets[:end], ((0, silent), (0, 0))),
        positions=positions,
        fermatas=np.pad(piece.fermatas[:end], (0, silent)),
    )


def harmonised(melody: midi.Melody | Reading) -> Given:
    """Give the soprano: a melody from a file, or that of a piece."""
    if isinstance(melody, Reading):
        of_piece = _soprano_of(melody.piece)
        remarks = (*of_piece.notes, *melody.said, *_rests(melody.piece.notes[:, 0]))
        return of_piece._replace(notes=remarks, bpm=melody.bpm)

    steps = len(melody.notes)
    notes = np.zeros((steps, len(VOICES)), np.int64)
    onsets = np.zeros(notes.shape, bool)
    notes[:, 0] = melody.notes
    onsets[:, 0] = melody.onsets
    pattern = Piece(
        name=melody.name,
        notes=notes,
        onsets=onsets,
        positions=melody.positions,
        fermatas=np.zeros(steps, bool),
        units=melody.units,
    )
    if melody.key is not None:
        pattern = pattern._replace(fifths=melody.key.fifths, minor=melody.key.minor)

    remarks = (f"the soprano is {melody.name}", *melody.said, *_rests(melody.notes))
    # Without a key signature, that of the composed piece is found from its notes.
    return _soprano_of(pattern)._replace(has_key=melody.key is not None, notes=remarks, bpm=melody.bpm)


def _rests(melody: Int[np.ndarray, "t"]) -> tuple[str, ...]:
    """Return a remark on the rests of a melody, if it has any."""
    rests = np.count_nonzero(melody == REST)
    if not rests:
        return ()
    return (f"the melody rests for {rests} of {len(melody)} sixteenths",)


def _soprano_of(piece: Piece) -> Given:
    forced = np.full(piece.notes.shape, FREE)
    forced[:, 0] = tokens.encode(piece.notes, piece.name)[:, 0]
    return Given(forced, piece, has_key=True, notes=(f"the soprano is that of {piece.name}",))


def changed(piece: Piece, keep: str | None, redo: str | None) -> Given:
    """Give the voices to keep, and the bars that are not to be recomposed.

    Raises `UsageError` for unknown voices or bars, or if no note is left to compose.
    """
    free = np.ones(piece.notes.shape, bool)
    remarks = []
    if keep is not None:
        voices = _voices(keep)
        free[:, [VOICES.index(voice) for voice in voices]] = False
        are_those = "is that"
        if len(voices) > 1:
            are_those = "are those"
        remarks.append(f"{_listed(voices)} {are_those} of {piece.name}")
    if redo is not None:
        first, last = _bar_range(redo)
        free &= _within(piece, first, last, redo)[:, None]
        remarks.append(f"all but the bars {first} to {last} are those of {piece.name}")

    symbols = tokens.encode(piece.notes, piece.name)
    return Given(np.where(free, FREE, symbols), piece, has_key=True, notes=tuple(remarks))


def _voices(keep: str) -> list[str]:
    """Parse the voices to keep, in the order of the score."""
    voices = {word.strip().lower() for word in keep.split(",")} - {""}
    unknown = voices.difference(VOICES)
    if unknown:
        raise UsageError("no such voice", where="--keep", got=keep, needed=f"some of {VOICE_NAMES}")
    if not voices:
        raise UsageError("no voice is named", where="--keep", got=keep, needed=f"some of {VOICE_NAMES}")
    if len(voices) == len(VOICES):
        raise UsageError("no voice is left to compose", where="--keep", got=keep, needed=f"some of {VOICE_NAMES}")
    return sorted(voices, key=VOICES.index)


def _listed(words: Sequence[str]) -> str:
    *first, last = words
    if not first:
        return last
    return f"{', '.join(first)} and {last}"


def _bar_range(redo: str) -> tuple[int, int]:
    """Parse the first and the last bar to recompose."""
    match = re.fullmatch(r"(?:bars? *)?(\d{1,6})(?: *- *(\d{1,6}))?", redo.strip())
    if match is None:
        raise UsageError("no bars", where="--redo", got=redo, needed="bars such as 5-8, or one bar")

    first = int(match[1])
    # One number stands for one bar.
    last = int(match[2] or first)
    if first > last:
        raise UsageError("the first bar comes after the last", where="--redo", got=redo, needed=f"{last}-{first}")
    return first, last


def _within(piece: Piece, first: int, last: int, redo: str) -> Bool[np.ndarray, "t"]:
    """Return whether each step is in the bars `first` to `last`. Raises `UsageError` for bars that the piece lacks."""
    measures = bars(piece.positions)
    numbers = [bar.number for bar in measures]
    if first < min(numbers) or last > max(numbers):
        raise UsageError(
            f"not all of them are bars of {piece.name}",
            where="--redo",
            got=redo,
            needed=f"bars within {min(numbers)}-{max(numbers)}",
        )

    # Both parts of a bar that is cut in two have its number.
    within = np.zeros(len(piece.positions), bool)
    for bar in measures:
        within[bar.start : bar.end] = first <= bar.number <= last
    return within
