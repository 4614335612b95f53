"""First stage: options become a request with the restored model and the given notes, checked before anything is composed.

Given notes are those of a prime to continue, of a melody to harmonise, or the voices and bars of a piece that are kept.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from jaxseq.common.errors import UsageError
from jaxseq.common.files import user_path
from jaxseq.common.text import counted
from jaxseq.data.download import FetchError
from jaxseq.music import sound, tokens
from jaxseq.music.bars import Bar, bars
from jaxseq.music.midi import read as midi
from jaxseq.music.piece import BAR, BEAT, REST, VOICES, Piece, PieceSplits
from jaxseq.music.sampling import FREE
from jaxseq.sample.options import DEFAULT_BARS, NO_PRIME, SampleOptions
from jaxseq.train.domains import chorales
from jaxseq.train.domains.chorales import Composer

VOICE_NAMES = ", ".join(VOICES)


class Given(NamedTuple):
    """Given notes of a piece, and its frame.

    forced   symbols that stay; `sampling.FREE` where a note is to be composed
    pattern  piece of the same length: its notes and onsets count where they are forced, its bars and key everywhere
    has_key  whether the pattern's key is that of the composed piece
    notes    remarks on what was given, a sentence each
    """

    forced: Int[np.ndarray, "t 4"]
    pattern: Piece
    has_key: bool
    notes: tuple[str, ...] = ()


class Request(NamedTuple):
    """A request for pieces that can be met.

    options   of the command: number of pieces, seed, how notes are drawn, where files go
    composer  the restored model
    parts     pieces of the data set that the model was trained on
    given     notes that are given in every piece
    """

    options: SampleOptions
    composer: Composer
    parts: PieceSplits
    given: Given


def read_request(options: SampleOptions) -> Request:
    """Restore the model, load its data and read the given notes.

    Raises `UsageError` for a run that cannot compose, a folder that cannot be written, options that exclude each other,
    and given notes that are unreadable or too long.
    """
    composer = chorales.restore(options.run, options.epoch)
    # Checked before the data are loaded, which may be a download.
    options.destination.check()
    parts = _pieces(composer)

    _check_combination(options)
    _check_model(options, composer)
    given_notes = _given(options, parts)
    # Sound is made at the end: music that is too long for it is refused before it is composed.
    _check_length(len(given_notes.forced), options.bpm)
    return Request(options, composer, parts, given_notes)


def _pieces(composer: Composer) -> PieceSplits:
    """Load the data of a run. Raises `UsageError` as they do, with what works here, where no data are named."""
    try:
        return composer.experiment.data.load()
    except FetchError as error:
        if error.file is None:
            raise
        raise UsageError(f"{error.reason}: try again, or download it yourself and put it at {error.file}") from error


def _check_combination(options: SampleOptions) -> None:
    """Raise `UsageError` for options that exclude each other."""
    is_primed = options.prime != NO_PRIME
    if options.melody is not None and (is_primed or _changes(options)):
        raise UsageError(
            "cannot be combined with --prime, --keep or --redo",
            where="--melody",
            got=options.melody,
        )
    if _changes(options) and not is_primed:
        raise UsageError("no piece to change", where=_change_option(options), needed="a piece, named by --prime")
    if options.bars is not None and (options.melody is not None or _changes(options)):
        raise UsageError(
            "the length is that of the given piece",
            where="--bars",
            got=options.bars,
            needed="no --bars beside --melody, --keep or --redo",
        )


def _check_model(options: SampleOptions, composer: Composer) -> None:
    """Raise `UsageError` for options that the model cannot follow."""
    experiment = composer.experiment
    # Models that compose forward know nothing of the notes that follow a gap.
    if _changes(options) and not composer.fills:
        filling = "fill"
        if experiment.data.name == "jsb":
            filling = "jsb-fill"
        raise UsageError(
            f"the model of {options.run} cannot fill gaps",
            where=_change_option(options),
            got=f"a run of {experiment.name}",
            needed=f"a run of python -m jaxseq.train {filling}",
        )
    # A model that fills gaps draws all voices at once, so that none is drawn below another.
    if options.parallels == "avoid" and composer.fills:
        raise UsageError(
            f"the model of {options.run} draws all voices at once",
            where="--parallels",
            got=options.parallels,
            needed="allow, or a run of a model that composes forward",
        )


def _changes(options: SampleOptions) -> bool:
    return options.keep is not None or options.redo is not None


def _change_option(options: SampleOptions) -> str:
    if options.keep is not None:
        return "--keep"
    return "--redo"


def _check_length(steps: int, bpm: float) -> None:
    """Raise `UsageError` for more music than sound is made of."""
    seconds = steps / BEAT * 60 / bpm
    if seconds > sound.LONGEST:
        raise UsageError(
            f"too slow for {steps} sixteenths, which last {seconds:.0f} seconds",
            where="--bpm",
            got=f"{bpm:g}",
            needed=f"a tempo by which they last {sound.LONGEST:.0f} seconds at most",
        )


def _given(options: SampleOptions, parts: PieceSplits) -> Given:
    """Read the given notes that the options name."""
    if options.melody is not None:
        return harmonised(find_melody(options.melody, parts))
    if options.prime == NO_PRIME:
        return from_nothing(options.bars)

    reading = find_piece(options.prime, parts)
    if _changes(options):
        from_prime = changed(reading.piece, options.keep, options.redo)
    else:
        from_prime = continued(reading.piece, options.prime_bars, options.bars)
    return from_prime._replace(notes=(*reading.said, *from_prime.notes))


def from_nothing(length: int | None = None) -> Given:
    """Give no note; there are `length` bars of four quarters."""
    steps = BAR * (length or DEFAULT_BARS)
    silence = np.zeros((steps, len(VOICES)), np.int64)
    pattern = Piece(
        name="",
        notes=silence,
        onsets=np.zeros(silence.shape, bool),
        positions=np.arange(steps) % BAR,
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
    further = _further_positions(last_position, _metre(first_bars), total - prime_bars)
    pattern = _lengthened(prime, end, np.concatenate([prime.positions[:end], further]))

    forced = np.full(pattern.notes.shape, FREE)
    forced[:end] = tokens.encode(pattern.notes[:end], prime.name)
    note = f"the first {counted(prime_bars, 'bar')} are those of {prime.name}"
    return Given(forced, pattern, has_key=True, notes=(note,))


def _metre(measures: Sequence[Bar]) -> int:
    """Return the length of a bar in sixteenths, by the last time signature."""
    for bar in reversed(measures):
        if bar.signature is not None:
            return bar.signature
    return BAR


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


def harmonised(melody: midi.Melody | Piece) -> Given:
    """Give the soprano: a melody from a file, or that of a piece."""
    if isinstance(melody, Piece):
        return _soprano_of(melody)

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
    )

    remarks = [f"the soprano is {melody.name}", *melody.said]
    rests = np.count_nonzero(melody.notes == REST)
    if rests:
        remarks.append(f"the melody rests for {rests} of {steps} sixteenths")
    # A melody tells no key; that of the composed piece is found from its notes.
    return _soprano_of(pattern)._replace(has_key=False, notes=tuple(remarks))


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


def find_piece(word: str, parts: PieceSplits) -> midi.Reading:
    """Find a piece by name in any part, or read it from a MIDI file. Raises `UsageError` if it is neither."""
    pieces = _pieces_by_name(parts)
    if word in pieces:
        return midi.Reading(pieces[word], ())
    if _is_file(word):
        return midi.read(user_path(word))
    raise _unknown(word, "--prime", pieces)


def find_melody(word: str, parts: PieceSplits) -> midi.Melody | Piece:
    """Find a piece by name, or read the melody of a MIDI file. Raises `UsageError` if it is neither."""
    pieces = _pieces_by_name(parts)
    if word in pieces:
        return pieces[word]
    if _is_file(word):
        return midi.read_melody(user_path(word))
    raise _unknown(word, "--melody", pieces)


def _pieces_by_name(parts: PieceSplits) -> dict[str, Piece]:
    return {piece.name: piece for part in parts for piece in part}


def _is_file(word: str) -> bool:
    path = user_path(word)
    # A missing file with such a suffix is reported as missing, not as an unknown piece.
    return path.suffix.lower() in (".mid", ".midi") or path.is_file()


def _unknown(word: str, option: str, names: Collection[str]) -> UsageError:
    # Without a similar name, the first ones show how pieces are named.
    similar = difflib.get_close_matches(word, names, 3, 0.5) or list(names)[:3]
    return UsageError(
        "neither a MIDI file nor a piece of the run's data",
        where=option,
        got=word,
        needed=f"a file, or a name such as {', '.join(similar)}",
    )
