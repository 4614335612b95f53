"""Second stage: compose the pieces of a request. No files are read or written."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from jaxseq.common.arrays import Key
from jaxseq.music import tokens, transposition
from jaxseq.music.piece import REST, VOICES, Piece, PieceSplits
from jaxseq.music.sampling import FREE, SamplingOptions
from jaxseq.music.transposition import SOPRANO
from jaxseq.sample.given import Given
from jaxseq.sample.options import SampleOptions
from jaxseq.sample.request import Request

CHUNK = 64
"""Largest number of pieces that are composed at the same time."""


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

    drawn = draw(request, forced, progress)
    # Whatever the model draws, given notes stay: they are what the user asked for.
    assert (np.where(forced == FREE, drawn.symbols, forced) == drawn.symbols).all()
    # A first note from a training piece is no given note, but the model has no probability of it, either.
    log_probability = np.where(given_symbols != FREE, np.nan, drawn.log_probability)

    digits = max(2, len(str(options.count)))
    pieces = []
    for number, symbols in enumerate(drawn.symbols, start=1):
        name = f"sample-{number:0{digits}d}"
        piece = completed(request.given, tokens.decode(symbols), name)
        if request.told is not None:
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


def draw(
    request: Request,
    forced: Int[np.ndarray, "b t 4"],
    progress: Callable[[int, int], None],
) -> Symbols:
    """Draw the free symbols of all pieces in chunks of nearly equal size, so that memory stays bounded."""
    options = request.options
    sampling_options = _sampling_options(options)
    symbols = []
    log_probability = []
    done = 0
    for key, numbers in _chunks(len(forced), options.seed):
        rows = forced[numbers]
        known = None
        if request.told is not None:
            known = request.told.columns[numbers]
        drawn = request.composer.draw(
            key,
            rows,
            request.given.pattern.positions,
            options=sampling_options,
            sweeps=options.sweeps,
            known=known,
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


def _sampling_options(options: SampleOptions) -> SamplingOptions:
    return SamplingOptions(
        temperature=options.temperature,
        top_k=options.top_k or tokens.VOCABULARY,
        top_p=options.top_p,
        avoid_parallels=options.parallels == "avoid",
    )


def _chunks(
    count: int,
    seed: int,
) -> Iterator[tuple[Key, Int[np.ndarray, "_"]]]:
    """Yield the numbers of the rows in chunks, each with a key of its own; all chunks have the same size."""
    # Rounded up, twice: as few chunks as possible, and as equal ones.
    chunks = -(-count // CHUNK)
    size = -(-count // chunks)
    for number, first in enumerate(range(0, count, size)):
        # The last chunk is filled up by its last row, so that one compiled program serves all of them.
        rows = np.minimum(np.arange(first, first + size), count - 1)
        yield jax.random.fold_in(jax.random.key(seed), number), rows


def _in_key(piece: Piece, key: transposition.Key | None) -> Piece:
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
