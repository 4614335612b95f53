"""Second stage: compose the pieces of a request. No files are read or written."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple, TypeAlias

import jax
import numpy as np
from jaxtyping import Float, Int

from jaxseq.music import conditions, tokens
from jaxseq.music.bars import bars
from jaxseq.music.cadences import ENDING, Place
from jaxseq.music.evaluation import tonality
from jaxseq.music.evaluation.ranges import voice_ranges
from jaxseq.music.key import correlations
from jaxseq.music.key import key as key_of
from jaxseq.music.piece import BEAT, REST, VOICES, Piece, PieceSplits
from jaxseq.music.sampling import FREE, Guide, SamplingOptions
from jaxseq.music.sampling import weights as leaning
from jaxseq.music.sampling.weights import Weights
from jaxseq.music.scales import OCTAVE
from jaxseq.music.transposition import SOPRANO, Key
from jaxseq.sample.given import Given
from jaxseq.sample.options import MOST_SAMPLES, SampleOptions
from jaxseq.sample.request import Request

CHUNK = 64
"""Largest number of pieces that are composed at the same time."""
ENDINGS = 8
"""Number of last bars that are composed for each piece where it shall end with a cadence."""
ENDING_STREAM = 1
"""Stream of the random numbers of last bars; that of pieces is 0."""


class Composed(NamedTuple):
    """Composed pieces.

    pieces           all of them, the given notes in their places
    log_probability  of each note; NaN where it was given
    notes            remarks on how they were composed, a sentence each
    seconds          time that composing took
    """

    pieces: list[Piece]
    log_probability: Float[np.ndarray, "b t 4"]
    notes: tuple[str, ...]
    seconds: float


class Symbols(NamedTuple):
    """Symbols of all pieces, and the log-probability of each."""

    symbols: Int[np.ndarray, "b t 4"]
    log_probability: Float[np.ndarray, "b t 4"]


Lean: TypeAlias = Callable[[Int[np.ndarray, "b"]], Weights | None]
"""Returns the weights of the pieces with these numbers, from 0; None for none."""


def compose(request: Request, progress: Callable[[int, int], None]) -> Composed:
    """Compose the pieces of a request; `progress` is called with the number of pieces that are done, and that of all."""
    began = time.perf_counter()
    options = request.options
    given_symbols = request.given.forced
    forced = np.repeat(given_symbols[None], options.count, axis=0)

    notes: tuple[str, ...] = ()
    # A model that was trained on windows knows no start symbol, and so no first note.
    if not request.composer.experiment.started and given_symbols[0, 0] == FREE:
        forced[:, 0, 0] = first_notes(request.parts, options.count, options.seed)
        origin = "that of a training piece"
        if request.parts is None:
            origin = "one of the soprano's range"
        notes = (f"the run was trained on windows and knows no first note: it is {origin}, drawn evenly",)

    lean = partial(leaning_of, request, _within_ranges(request))
    candidates = np.repeat(forced, options.best_of, axis=0)
    drawn = draw(request, candidates, _numbers(options.count, options.best_of), lean, progress)
    if options.best_of > 1:
        drawn = best_of(request, drawn)
        measure = "key clarity and by how it ends"
        if options.ending == "cadence":
            measure = "key clarity before its last bar"
        notes = (*notes, f"each piece is the best of {options.best_of}, by {measure}")
    if options.ending == "cadence":
        drawn = ended(request, forced, drawn, lean)
        aim = "to end on the tonic"
        if _ends_as_told(request):
            aim = "to end with the cadence that was asked for"
        notes = (
            *notes,
            f"the last bar was composed {ENDINGS} times, {aim}, and is the likeliest one on a triad, if any is",
        )
    # Whatever the model draws, given notes stay: they are what the user asked for.
    assert (np.where(forced == FREE, drawn.symbols, forced) == drawn.symbols).all()
    # A first note from a training piece is no given note, but the model has no probability of it, either.
    log_probability = np.where(given_symbols != FREE, np.nan, drawn.log_probability)

    digits = max(2, len(str(options.count)))
    pieces = []
    for number, symbols in enumerate(drawn.symbols, start=1):
        name = f"sample-{number:0{digits}d}"
        piece = completed(request.given, tokens.decode(symbols), name)
        # A model that does not read keys leans towards one, and the piece may be in another.
        if request.told.columns is not None:
            piece = _in_key(piece, request.told.keys[number - 1])
        pieces.append(piece)
    return Composed(pieces, log_probability, notes, time.perf_counter() - began)


def first_notes(parts: PieceSplits | None, count: int, seed: int) -> Int[np.ndarray, "b"]:
    """Draw the first symbol of each soprano from those of the training pieces, or without them from its range."""
    rng = np.random.default_rng(seed)
    if parts is None:
        low, high = SOPRANO
        notes = np.zeros((count, len(VOICES)), np.int64)
        notes[:, 0] = rng.integers(low, high + 1, size=count)
        return tokens.encode(notes)[:, 0]
    pieces = [piece for piece in parts.train if len(piece.notes)]
    numbers = rng.integers(len(pieces), size=count)
    chords = [tokens.encode(pieces[number].notes[:1], pieces[number].name) for number in numbers]
    return np.array([chord[0, 0] for chord in chords])


def _within_ranges(request: Request) -> Weights | None:
    """Return the weights of the ranges that all pieces keep to; None if they keep to none."""
    # A request for ranges has the data that tell them.
    if request.options.ranges != "keep" or request.parts is None:
        return None
    ranges = voice_ranges([piece.notes for piece in request.parts.train])
    return leaning.within_ranges(leaning.none(len(request.given.forced)), ranges)


def leaning_of(request: Request, of_ranges: Weights | None, pieces: Int[np.ndarray, "b"]) -> Weights | None:
    """Return the weights of some pieces: of the ranges, of each piece's key and of its cadences; None for none."""
    usual = leaning.none(len(request.given.forced))
    strength = request.options.key_strength
    keys = [request.told.keys[number] for number in pieces]
    weights = of_ranges
    if strength and any(key is not None for key in keys):
        weights = leaning.in_keys(weights or usual, keys, strength)
    if request.told.cadences:
        # Cadences are told in the key of every piece.
        keys_of_cadences = [key for key in keys if key is not None]
        weights = leaning.to_cadences(weights or usual, keys_of_cadences, request.told.cadences)
    return weights


def draw(
    request: Request,
    forced: Int[np.ndarray, "b t 4"],
    numbers: Int[np.ndarray, "b"],
    lean: Lean,
    progress: Callable[[int, int], None],
    stream: int = 0,
) -> Symbols:
    """Draw the free symbols of all pieces in chunks of one size, so that memory stays bounded.

    The notes of a piece depend on the seed, the `stream` of random numbers, and its number, not on the other pieces.
    """
    options = request.options
    key = jax.random.fold_in(jax.random.key(options.seed), stream)
    sampling_options = _sampling_options(options)
    symbols = []
    log_probability = []
    done = 0
    candidates = len(forced) // options.count
    # Last bars are composed in chunks of the size of the pieces, which one compiled program serves.
    for rows in _chunks(len(forced), _chunk_size(options)):
        # All candidates of a piece are told and lean alike.
        pieces = rows // candidates
        known = None
        if request.told.columns is not None:
            known = request.told.columns[pieces]
        drawn = request.composer.draw(
            key,
            forced[rows],
            request.given.pattern.positions,
            options=sampling_options,
            guide=Guide(
                known=known,
                weights=leaning.for_each(lean(pieces), len(pieces)),
                numbers=numbers[rows],
            ),
        )
        symbols.append(np.asarray(drawn.tokens))
        log_probability.append(np.asarray(drawn.log_probability))
        done = min(done + len(rows), len(forced))
        progress(done, len(forced))

    # The rows that fill up the last chunk are dropped.
    return Symbols(
        symbols=np.concatenate(symbols)[: len(forced)],
        log_probability=np.concatenate(log_probability)[: len(forced)],
    )


def _numbers(pieces: int, candidates: int) -> Int[np.ndarray, "b"]:
    """Return the numbers of all candidates, those of a piece one after the other; the first is the piece's own."""
    return (np.arange(pieces)[:, None] + MOST_SAMPLES * np.arange(candidates)).ravel()


def best_of(request: Request, drawn: Symbols) -> Symbols:
    """Return the best candidate of each piece: by how clearly it is in its key, and by 1 for each part of a cadence.

    The key is the one that the piece leans towards, or the one that fits a candidate best. A last bar that
    is composed again does not count.
    """
    candidates = request.options.best_of
    scores = np.empty(len(drawn.symbols))
    for number, symbols in enumerate(drawn.symbols):
        key = request.told.keys[number // candidates]
        scores[number] = _score(request, tokens.decode(symbols), key)
    best = np.argmax(scores.reshape(-1, candidates), axis=1)
    rows = np.arange(len(best)) * candidates + best
    return Symbols(drawn.symbols[rows], drawn.log_probability[rows])


def _score(request: Request, notes: Int[np.ndarray, "t 4"], key: Key | None) -> float:
    """Return the score of a candidate; one without notes has no measure, and is the worst."""
    if request.options.ending == "cadence":
        start = last_bar(request.given)
        return float(np.nan_to_num(_clarity(notes[: start or len(notes)], key)))

    tonic = None
    if key is not None:
        tonic = conditions.tonic(key)
    parts = (_clarity(notes, key), tonality.ends_on_triad(notes), tonality.ends_on_tonic(notes, tonic))
    return float(np.nan_to_num(parts).sum())


def _clarity(notes: Int[np.ndarray, "t 4"], key: Key | None) -> float:
    """Return how well a key fits the notes, by default the one that fits best."""
    fits = correlations(notes)
    if key is None:
        return float(fits.max())
    return float(fits[OCTAVE * key.minor + conditions.tonic(key)])


def last_bar(given: Given) -> int:
    """Return the step at which the last bar begins, a quarter before the end at the latest."""
    positions = given.pattern.positions
    return max(0, min(bars(positions)[-1].start, len(positions) - BEAT))


def ended(
    request: Request,
    forced: Int[np.ndarray, "b t 4"],
    drawn: Symbols,
    lean: Lean,
) -> Symbols:
    """Compose the last bar of each piece `ENDINGS` times with a cadence in its key, and take the likeliest.

    An ending on no triad, such as one with both thirds in minor, is taken only if all are such. The key is the one that the
    piece leans towards, or that of the piece before its last bar. A cadence that is asked for at the end is the one that it
    ends with. Given notes stay.
    """
    steps = forced.shape[1]
    start = last_bar(request.given)
    beginnings = forced.copy()
    beginnings[:, :start] = drawn.symbols[:, :start]
    piece_keys = []
    for number, symbols in enumerate(drawn.symbols):
        piece_keys.append(request.told.keys[number] or _key_that_fits(tokens.decode(symbols), start))

    # The last bar may be shorter than a quarter, after a cadence that is asked for.
    after_cadences = max((place.end for place in request.told.cadences), default=0)

    def to_end(pieces: Int[np.ndarray, "b"]) -> Weights:
        usual = lean(pieces) or leaning.none(steps)
        if _ends_as_told(request):
            return usual
        keys = [piece_keys[number] for number in pieces]
        return leaning.to_cadences(usual, keys, [Place(ENDING, max(after_cadences, steps - BEAT), steps)])

    numbers = _numbers(len(forced), ENDINGS)
    candidates = np.repeat(beginnings, ENDINGS, axis=0)
    endings = draw(request, candidates, numbers, to_end, lambda done, total: None, stream=ENDING_STREAM)

    # All candidates of a piece have the same beginning, and a first note without a probability.
    likelihood = np.nansum(endings.log_probability[:, start:], axis=(1, 2)).reshape(-1, ENDINGS)
    on_triad = [tonality.ends_on_triad(tokens.decode(symbols)) == 1 for symbols in endings.symbols]
    eligible = np.reshape(on_triad, likelihood.shape)
    eligible |= ~eligible.any(axis=1, keepdims=True)
    likelihood = np.where(eligible, likelihood, -np.inf)
    rows = np.arange(len(forced)) * ENDINGS + np.argmax(likelihood, axis=1)
    return Symbols(endings.symbols[rows], endings.log_probability[rows])


def _ends_as_told(request: Request) -> bool:
    """Return whether one of the cadences that are asked for is the end of the piece."""
    return any(place.end == len(request.given.forced) for place in request.told.cadences)


def _key_that_fits(notes: Int[np.ndarray, "t 4"], end: int) -> Key:
    """Return the key that fits the first `end` steps, or all of a shorter piece, best."""
    tonality_of_piece = key_of(notes[: end or len(notes)])
    return Key(tonality_of_piece.fifths, tonality_of_piece.minor)


def _sampling_options(options: SampleOptions) -> SamplingOptions:
    return SamplingOptions(
        temperature=options.temperature,
        top_k=options.top_k or tokens.VOCABULARY,
        top_p=options.top_p,
        avoid_parallels=options.parallels == "avoid",
        note_temperature=options.note_temperature or 1.0,
        sweeps=options.sweeps,
    )


def _chunk_size(options: SampleOptions) -> int:
    """Return the number of pieces that are composed at the same time."""
    count = options.count * options.best_of
    # Rounded up, twice: as few chunks as possible, and as equal ones.
    chunks = -(-count // CHUNK)
    return -(-count // chunks)


def _chunks(count: int, size: int) -> Iterator[Int[np.ndarray, "_"]]:
    """Yield the row numbers of chunks that all have the same size."""
    for first in range(0, count, size):
        # The last chunk is filled up with its last row, so that one compiled program serves all of them.
        yield np.minimum(np.arange(first, first + size), count - 1)


def _in_key(piece: Piece, key: Key | None) -> Piece:
    """Return a piece with the key that the model was told."""
    if key is None:
        return piece
    return piece._replace(fifths=key.fifths, minor=key.minor)


def completed(given: Given, notes: Int[np.ndarray, "t 4"], name: str) -> Piece:
    """Make a piece of composed notes: given notes keep their onsets, others begin where the pitch changes."""
    pattern = given.pattern
    changes = np.ones(notes.shape, bool)
    changes[1:] = notes[1:] != notes[:-1]
    # A given note that is repeated is struck again; a composed one is held.
    begins = np.where(given.forced != FREE, pattern.onsets | changes, changes)

    piece = pattern._replace(name=name, notes=notes, onsets=begins & (notes != REST))
    if not given.has_key:
        piece = piece._replace(fifths=None, minor=None)
    return piece
