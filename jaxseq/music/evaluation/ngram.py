"""The predictions that a network of notes has to beat: hold the voice's last note, and a smoothed 5-gram.

The n-gram reads notes in the order soprano, alto, tenor, bass, then those of the next step, and predicts one note from
the n - 1 before it and from the voice that it belongs to. With h the context, h' the same without its oldest note,
c(h w) how often note w followed it, c(h) = Σ c(h w), and T(h) the number of different notes that did:

    p(w | h) = (c(h w) + T(h) p(w | h')) / (c(h) + T(h))        p(w | h') alone where h was never seen

The shortest context is the voice alone; below it every symbol has 1/47. This is Witten-Bell smoothing, interpolated:
Witten & Bell (1991), "The zero-frequency problem", IEEE Transactions on Information Theory 37(4), method C; Chen &
Goodman (1998), TR-10-98, section 2.5. No context reaches over the start of a piece or of a window: the first notes have
shorter ones, and the very first its voice alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jaxseq.common.errors import UsageError
from jaxseq.music.piece import VOICES
from jaxseq.music.tokens import VOCABULARY

ORDER, HIGHEST_ORDER = 5, 11
"""The n of the n-gram, and the highest whose contexts can be numbered in 64 bits."""
NOTHING = -1
"""Predicted where there is nothing to copy: right of no note."""
_DIGIT = VOCABULARY + 1


class NGram(NamedTuple):
    """p(next symbol | context) for every context that was seen, from the shortest to the longest.

    contexts        each one's number, ascending: its voice in base 4, then its notes + 1 in base 48, the latest lowest;
                    -1, the first, is no context at all
    probabilities   the smoothed distribution after each
    """

    order: int
    contexts: Int[np.ndarray, " m"]
    probabilities: Float[np.ndarray, "m 47"]


def copy_last(tokens: Int[np.ndarray, "*b t 4"]) -> Int[np.ndarray, "*b t 4"]:
    """For each note the one before it in the same voice; `NOTHING` for the first."""
    last = np.full_like(tokens, NOTHING)
    last[..., 1:, :] = tokens[..., :-1, :]
    return last


def fit(pieces: Sequence[Int[np.ndarray, "_ 4"]], order: int = ORDER) -> NGram:
    """Counts which symbols of the pieces (one row a step) follow each context of 0 to `order` - 1 notes.

    Raises `ValueError` for an order that is not from 1 to 11, and for symbols that cannot be predicted.
    """
    if not 1 <= order <= HIGHEST_ORDER:
        raise ValueError(f"order {order} must be from 1 to {HIGHEST_ORDER}")
    numbers, symbols = [_contexts(piece, order) for piece in pieces], [piece.ravel() for piece in pieces]
    known, tables = [np.array([-1])], [np.full((1, VOCABULARY), 1 / VOCABULARY)]
    for length in range(order):
        seen = np.concatenate([known[0][:0], *(number[length:, length] for number in numbers)])
        after = np.concatenate([known[0][:0], *(symbol[length:] for symbol in symbols)])
        contexts, row = np.unique(seen, return_inverse=True)
        counts = np.bincount(row * VOCABULARY + after, minlength=contexts.size * VOCABULARY).reshape(-1, VOCABULARY)
        shorter = contexts % (len(VOICES) * _DIGIT ** (length - 1)) if length else np.full(contexts.shape, -1)
        tables.append(_smoothed(counts, tables[-1][np.searchsorted(known[-1], shorter)]))
        known.append(contexts)
    return NGram(order, np.concatenate(known), np.concatenate(tables))


def log_probabilities(ngram: NGram, tokens: Int[np.ndarray, "*b t 4"]) -> Float[np.ndarray, "*b t 4"]:
    """log p of each symbol after those before it, in nats: of one piece, or of pieces in rows that know only their own.

    Raises `ValueError` for symbols that cannot be predicted.
    """
    rows = _rows(ngram, _contexts(tokens, ngram.order)).reshape(tokens.shape)
    return np.log(ngram.probabilities[rows, tokens])


def predictions(ngram: NGram, tokens: Int[np.ndarray, "*b t 4"]) -> Int[np.ndarray, "*b t 4"]:
    """The likeliest symbol in the place of each, after the true ones before it; the lowest of equals. Raises likewise."""
    rows = _rows(ngram, _contexts(tokens, ngram.order)).reshape(tokens.shape)
    return ngram.probabilities.argmax(axis=1)[rows]


def sample(ngram: NGram, steps: int, rng: np.random.Generator, temperature: float | int = 1) -> Int[np.ndarray, "t 4"]:
    """A new piece of so many steps, note by note, each drawn from p^(1 / temperature); at temperature 0 the likeliest.

    Raises `UsageError` for a temperature that is below 0 or not finite.
    """
    if not 0 <= temperature < math.inf:
        raise UsageError(f"temperature {temperature} must be 0 or more, and finite")
    voices, before = len(VOICES), ngram.order - 1
    digits = np.zeros(before + voices * steps, np.int64)
    for note in range(voices * steps):
        number = _number(digits[None, note : note + before][:, ::-1], np.array([note % voices]))
        digits[before + note] = 1 + _draw(ngram.probabilities[_rows(ngram, number)[0]], rng, temperature)
    return digits[before:].reshape(steps, voices) - 1


def _smoothed(counts: Int[np.ndarray, "m 47"], shorter: Float[np.ndarray, "m 47"]) -> Float[np.ndarray, "m 47"]:
    kinds = np.count_nonzero(counts, axis=1, keepdims=True)
    return (counts + kinds * shorter) / (counts.sum(axis=1, keepdims=True) + kinds)


def _contexts(tokens: Int[np.ndarray, "*b t 4"], order: int) -> Int[np.ndarray, "*b n order"]:
    """The numbers of the contexts of 0 to order - 1 notes before each note; near the start the last ones are equal."""
    if tokens.size and not (tokens.min() >= 0 and tokens.max() < VOCABULARY):
        raise ValueError(f"symbols from {tokens.min()} to {tokens.max()}; they must be from 0 to {VOCABULARY - 1}")
    *rows, steps, voices = tokens.shape
    digits = np.zeros((*rows, order - 1 + steps * voices), np.int64)
    digits[..., order - 1 :] = tokens.reshape(*rows, steps * voices) + 1
    before = np.lib.stride_tricks.sliding_window_view(digits, order - 1, axis=-1)[..., : steps * voices, ::-1]
    return _number(before, np.arange(steps * voices) % voices)


def _number(latest: Int[np.ndarray, "*b before"], voice: Int[np.ndarray, "*#b"]) -> Int[np.ndarray, "*b order"]:
    """The numbers of the contexts of none, one, two … of the notes in `latest`, in which 0 stands for none."""
    places = len(VOICES) * _DIGIT ** np.arange(latest.shape[-1])
    longer = np.cumsum(latest * places, axis=-1)
    return np.concatenate([np.zeros_like(longer, shape=(*latest.shape[:-1], 1)), longer], axis=-1) + voice[..., None]


def _rows(ngram: NGram, numbers: Int[np.ndarray, "*b order"]) -> Int[np.ndarray, "*b"]:
    """The row of the longest context that was seen; row 0 if none was."""
    found = np.minimum(np.searchsorted(ngram.contexts, numbers), len(ngram.contexts) - 1)
    return np.where(ngram.contexts[found] == numbers, found, 0).max(axis=-1)


def _draw(probabilities: Float[np.ndarray, "47"], rng: np.random.Generator, temperature: float | int) -> int:
    if not temperature:
        return int(probabilities.argmax())
    logits = np.log(probabilities) / temperature
    edges = np.cumsum(np.exp(logits - logits.max()))
    return int(np.searchsorted(edges, rng.random() * edges[-1], side="right"))
