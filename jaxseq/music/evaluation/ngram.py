"""Baselines of a network of notes: hold the voice's last note, and a smoothed 5-gram.

The n-gram reads notes in the order soprano, alto, tenor, bass, then those of the next step, and predicts a note from the
n - 1 notes before it and from its voice. With h the context, h' the same without its oldest note, c(h w) the number of
times that note w followed it, c(h) = Σ c(h w), and T(h) the number of different notes that did:

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
COPY = "copy the last note"
GRAM = f"{ORDER}-gram"
"""Names of the two predictions in every table."""
NOTHING = -1
"""Prediction where there is no note to copy; it equals no symbol."""
_DIGIT = VOCABULARY + 1


class NGram(NamedTuple):
    """p(next symbol | context) for every context that was seen, from the shortest to the longest.

    contexts        number of each, ascending: its voice in base 4, then its notes + 1 in base 48, the latest lowest;
                    -1, the first, is no context at all
    probabilities   smoothed distribution after each
    """

    order: int
    contexts: Int[np.ndarray, " m"]
    probabilities: Float[np.ndarray, "m 47"]


def copy_last(tokens: Int[np.ndarray, "*b t 4"]) -> Int[np.ndarray, "*b t 4"]:
    """Predict each note to be the voice's last one; `NOTHING` for the first."""
    last = np.full_like(tokens, NOTHING)
    last[..., 1:, :] = tokens[..., :-1, :]
    return last


def fit(pieces: Sequence[Int[np.ndarray, "_ 4"]], order: int = ORDER) -> NGram:
    """Count the symbols that follow each context of 0 to `order` - 1 notes, and smooth the counts.

    Raises `ValueError` for an order that is not from 1 to 11, and for symbols outside the vocabulary.
    """
    if not 1 <= order <= HIGHEST_ORDER:
        raise ValueError(f"order {order} must be from 1 to {HIGHEST_ORDER}")

    numbers = [_contexts(piece, order) for piece in pieces]
    symbols = [piece.ravel() for piece in pieces]
    contexts = [np.array([-1])]
    tables = [np.full((1, VOCABULARY), 1 / VOCABULARY)]
    # The empty array stands first, since no pieces at all cannot be concatenated.
    empty = contexts[0][:0]
    for length in range(order):
        # The first notes of a piece have shorter contexts alone.
        seen = np.concatenate([empty, *(number[length:, length] for number in numbers)])
        following = np.concatenate([empty, *(symbol[length:] for symbol in symbols)])
        seen_contexts, row = np.unique(seen, return_inverse=True)
        cells = np.bincount(row * VOCABULARY + following, minlength=seen_contexts.size * VOCABULARY)
        counts = cells.reshape(-1, VOCABULARY)

        shorter = np.full(seen_contexts.shape, -1)
        if length > 0:
            # Without its oldest note, the highest digit.
            shorter = seen_contexts % (len(VOICES) * _DIGIT ** (length - 1))
        tables.append(_smoothed(counts, tables[-1][np.searchsorted(contexts[-1], shorter)]))
        contexts.append(seen_contexts)
    return NGram(order, np.concatenate(contexts), np.concatenate(tables))


def log_probabilities(ngram: NGram, tokens: Int[np.ndarray, "*b t 4"]) -> Float[np.ndarray, "*b t 4"]:
    """Compute log p of each symbol after those before it, in nats, for one piece or for rows that start without memory.

    Raises `ValueError` for symbols outside the vocabulary.
    """
    rows = _rows(ngram, _contexts(tokens, ngram.order)).reshape(tokens.shape)
    return np.log(ngram.probabilities[rows, tokens])


def predictions(ngram: NGram, tokens: Int[np.ndarray, "*b t 4"]) -> Int[np.ndarray, "*b t 4"]:
    """Predict the most likely symbol at each place, after the true symbols before it; the lowest of equals.

    Raises `ValueError` for symbols outside the vocabulary.
    """
    rows = _rows(ngram, _contexts(tokens, ngram.order)).reshape(tokens.shape)
    return ngram.probabilities.argmax(axis=1)[rows]


def sample(ngram: NGram, steps: int, rng: np.random.Generator, temperature: float | int = 1) -> Int[np.ndarray, "t 4"]:
    """Draw a new piece of `steps` steps note by note from p^(1 / temperature); at temperature 0 the most likely note.

    Raises `UsageError` for a temperature that is below 0 or not finite.
    """
    if not 0 <= temperature < math.inf:
        raise UsageError(
            "not a temperature",
            where="temperature",
            got=temperature,
            needed="finite, 0 or more",
        )

    voices = len(VOICES)
    before = ngram.order - 1
    # Symbols + 1, as in the numbers of contexts; 0 stands before the start.
    digits = np.zeros(before + voices * steps, np.int64)
    for note in range(voices * steps):
        latest = digits[None, note : note + before][:, ::-1]
        row = _rows(ngram, _number(latest, np.array([note % voices])))[0]
        digits[before + note] = 1 + _draw(ngram.probabilities[row], rng, temperature)
    return digits[before:].reshape(steps, voices) - 1


def _smoothed(counts: Int[np.ndarray, "m 47"], shorter: Float[np.ndarray, "m 47"]) -> Float[np.ndarray, "m 47"]:
    """Interpolate counts with the distributions after the shorter contexts."""
    kinds = np.count_nonzero(counts, axis=1, keepdims=True)
    totals = counts.sum(axis=1, keepdims=True)
    return (counts + kinds * shorter) / (totals + kinds)


def _contexts(tokens: Int[np.ndarray, "*b t 4"], order: int) -> Int[np.ndarray, "*b n order"]:
    """Number the contexts of 0 to order - 1 notes before each note; near the start the last ones are equal."""
    if tokens.size and not (tokens.min() >= 0 and tokens.max() < VOCABULARY):
        raise ValueError(f"symbols from {tokens.min()} to {tokens.max()}; they must be from 0 to {VOCABULARY - 1}")

    *rows, steps, voices = tokens.shape
    notes = steps * voices
    digits = np.zeros((*rows, order - 1 + notes), np.int64)
    digits[..., order - 1 :] = tokens.reshape(*rows, notes) + 1
    windows = np.lib.stride_tricks.sliding_window_view(digits, order - 1, axis=-1)
    latest_first = windows[..., :notes, ::-1]
    return _number(latest_first, np.arange(notes) % voices)


def _number(latest: Int[np.ndarray, "*b before"], voice: Int[np.ndarray, "*#b"]) -> Int[np.ndarray, "*b order"]:
    """Number the contexts of none, one, two … of the notes in `latest`, in which 0 stands for none."""
    place_values = len(VOICES) * _DIGIT ** np.arange(latest.shape[-1])
    longer = np.cumsum(latest * place_values, axis=-1)
    without_notes = np.zeros_like(longer, shape=(*latest.shape[:-1], 1))
    return np.concatenate([without_notes, longer], axis=-1) + voice[..., None]


def _rows(ngram: NGram, numbers: Int[np.ndarray, "*b order"]) -> Int[np.ndarray, "*b"]:
    """Find the row of the longest context that was seen; row 0 if none was."""
    candidates = np.minimum(np.searchsorted(ngram.contexts, numbers), len(ngram.contexts) - 1)
    seen = ngram.contexts[candidates] == numbers
    return np.where(seen, candidates, 0).max(axis=-1)


def _draw(
    probabilities: Float[np.ndarray, "47"],
    rng: np.random.Generator,
    temperature: float | int,
) -> int:
    if not temperature:
        return int(probabilities.argmax())
    logits = np.log(probabilities) / temperature
    # The largest logit is subtracted, so that a low temperature does not overflow.
    edges = np.cumsum(np.exp(logits - logits.max()))
    return int(np.searchsorted(edges, rng.random() * edges[-1], side="right"))
