"""Score models of chorales on the test part, note by note, beside copying and a 5-gram."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import jax
import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from jaxseq.common import row_counts
from jaxseq.common.arrays import Batch, Splits
from jaxseq.common.errors import UsageError
from jaxseq.music import conditions, tokens
from jaxseq.music.corpora import chorales, jsb
from jaxseq.music.corpora.chorales import Chorales
from jaxseq.music.corpora.jsb import Jsb
from jaxseq.music.evaluation import ngram, scores
from jaxseq.music.evaluation.ngram import COPY, GRAM
from jaxseq.music.evaluation.scores import Scores, Sums
from jaxseq.music.networks import inputs
from jaxseq.music.piece import Piece
from jaxseq.train import devices
from jaxseq.train.epoch import TrainState, predict
from jaxseq.train.experiments.chorales import ChoraleExperiment
from jaxseq.train.job import Job

DUPLICATES = {
    Jsb.name: frozenset(jsb.NEAR_DUPLICATES),
    Chorales.name: frozenset(chorales.NEAR_DUPLICATES),
}
"""Test pieces of each edition that are almost training pieces."""
BOOTSTRAP_DRAWS = 10_000
UNIT = 128
"""Rows that are computed by length are padded to multiples of this."""

ChoraleJob: TypeAlias = Job[ChoraleExperiment, Splits]
"""An experiment with the pieces of its three parts."""


class Prediction(NamedTuple):
    """Predictions of the symbols of a stretch, each given the symbols that the predictor reads.

    log_p      log-probability of each symbol; None for a predictor without probabilities
    likeliest  most likely symbol in its place
    """

    log_p: Float[np.ndarray, "t 4"] | None
    likeliest: Int[np.ndarray, "t 4"]


Predictor: TypeAlias = Callable[[Int[np.ndarray, "t 4"]], Prediction]


class Score(NamedTuple):
    """A row of the table: predictions and their scores."""

    name: str
    scores: Scores


class Comparison(NamedTuple):
    """The model beside the baselines on the test part.

    protocol  the targets, in words
    pieces    a row for each test piece: nats and accuracy of the model, nats of the 5-gram
    """

    rows: list[Score]
    verdict: str
    protocol: str
    pieces: pd.DataFrame


class Stretch(NamedTuple):
    """Symbols to predict: a whole piece, or a window of one, which begins without a start symbol.

    known  columns of `music.conditions`; None for a network that does not read them
    """

    name: str
    symbols: Int[np.ndarray, "t 4"]
    positions: Int[np.ndarray, "t"]
    known: Int[np.ndarray, "t _"] | None = None


def stretches(pieces: Sequence[Piece], experiment: ChoraleExperiment) -> list[Stretch]:
    """Return whole pieces, or the book's windows of them, as the protocol says.

    Raises `UsageError` if no piece is as long as a window.
    """
    whole_pieces = []
    for piece in pieces:
        symbols = tokens.encode(piece.notes, piece.name)
        known = None
        if experiment.model.conditions:
            known = conditions.of_piece(piece, experiment.data.tells)
        whole_pieces.append(Stretch(piece.name, symbols, piece.positions, known))
    if experiment.protocol == "pieces":
        return whole_pieces

    windows = []
    for name, symbols, positions, known in whole_pieces:
        # What is left at the end of a piece is dropped, as in the book.
        last = len(symbols) - scores.WINDOW
        for first in range(0, last + 1, scores.SHIFT):
            rows = slice(first, first + scores.WINDOW)
            windows.append(Stretch(name, symbols[rows], positions[rows], None if known is None else known[rows]))
    if not windows:
        longest = max(len(piece.symbols) for piece in whole_pieces)
        raise UsageError(
            "no piece is as long as a window of the book; take --protocol pieces",
            where=f"{whole_pieces[0].name} to {whole_pieces[-1].name}",
            got=f"{longest} sixteenths",
            needed=f"at least {scores.WINDOW}",
        )
    return windows


def rows_of(experiment: ChoraleExperiment, part: Sequence[Stretch], with_conditions: bool) -> list[inputs.Rows]:
    """Lay out each stretch as rows of the network; `with_conditions` if it reads what is known of the pieces."""
    cold = not experiment.started
    rows = []
    for stretch in part:
        known = stretch.known if with_conditions else None
        rows.append(experiment.model.rows(stretch.symbols, stretch.positions, cold, known))
    return rows


def _conditions_words(experiment: ChoraleExperiment) -> str:
    """Return the conditions that an edition tells; a key that no signature declares is that of the piece's own notes."""
    words = list(experiment.data.tells)
    if experiment.data.name == "jsb":
        words[words.index("key")] = "key of its own notes"
    return ", ".join(words)


def compare(job: ChoraleJob, state: TrainState, name: str) -> Comparison:
    """Score the model, copying, and a 5-gram of the training part by one function."""
    experiment = job.experiment
    test = stretches(job.material.test, experiment)
    test_rows = job.batches.test
    assert isinstance(test_rows, Batch), "pieces are rows, and no course through a series"
    targets = targets_of(experiment, test_rows, test)
    # The 5-gram reads whole pieces, whatever the protocol: it is as good as it can be.
    train_symbols = [tokens.encode(piece.notes, piece.name) for piece in job.material.train]
    gram = ngram.fit(train_symbols)
    model_predictions = iter(_predict(job, state, inputs.Rows(test_rows.x, test_rows.y), test))

    predictors: dict[str, Predictor] = {
        COPY: lambda symbols: Prediction(None, ngram.copy_last(symbols)),
        GRAM: lambda symbols: Prediction(
            log_p=ngram.log_probabilities(gram, symbols),
            likeliest=ngram.predictions(gram, symbols),
        ),
        # The model has predicted all stretches at once, in their order.
        name: lambda symbols: next(model_predictions),
    }
    by_piece = {}
    for label, predictor in predictors.items():
        by_piece[label] = score_pieces(predictor, test, targets)

    rows = [Score(label, scores.average(pieces)) for label, pieces in by_piece.items()]
    # Of another task: beside it, and after all rows that are compared with other models.
    if experiment.model.conditions:
        known_rows = inputs.pad(rows_of(experiment, test, with_conditions=True))
        predictions = iter(_predict(job, state, known_rows, test))
        by_piece_known = score_pieces(lambda _: next(predictions), test, targets)
        rows.append(Score(f"{name}, told {_conditions_words(experiment)}", scores.average(by_piece_known)))
    # The model may know near-duplicates by heart; a row says what it is without them.
    edition_duplicates = DUPLICATES.get(experiment.data.name, frozenset())
    duplicates = edition_duplicates & by_piece[name].keys()
    if duplicates:
        label = f"{name}, without {len(duplicates)} near-duplicates"
        rows.append(Score(label, scores.average(by_piece[name], duplicates)))

    return Comparison(
        rows=rows,
        verdict=_verdict(name, model=by_piece[name], gram=by_piece[GRAM]),
        protocol=_protocol_words(experiment),
        pieces=_piece_table(model=by_piece[name], gram=by_piece[GRAM]),
    )


def _protocol_words(experiment: ChoraleExperiment) -> str:
    if experiment.model.whole_pieces_only:
        return "hidden notes"
    if experiment.started:
        return "whole pieces"
    return "windows of 33 chords"


def _predict(
    job: ChoraleJob,
    state: TrainState,
    rows: inputs.Rows,
    part: Sequence[Stretch],
) -> list[Prediction]:
    """Return the model's prediction of each stretch; NaN and -1 for a note that is given."""
    return [
        prediction_of(log_p, stretch.symbols)
        for log_p, stretch in zip(log_probabilities(job, state, rows, part), part, strict=True)
    ]


def prediction_of(log_p: Float[np.ndarray, "t 4 v"], symbols: Int[np.ndarray, "t 4"]) -> Prediction:
    """Return the prediction of symbols by the log-probability of every symbol in the place of each."""
    of_symbols = np.take_along_axis(log_p, symbols[..., None], -1)[..., 0]
    # NaN where the first note of a window is given.
    likeliest = np.where(np.isnan(of_symbols), -1, log_p.argmax(-1))
    return Prediction(of_symbols, likeliest)


def log_probabilities(
    job: ChoraleJob,
    state: TrainState,
    rows: inputs.Rows,
    part: Sequence[Stretch],
) -> list[Float[np.ndarray, "_ 4 v"]]:
    """Return the model's log-probability of every symbol in the place of each note; NaN for a note that is given."""
    x = devices.replicate(job.mesh, rows.x)
    logits = predict(job.setup, state.params, state.stats, x, job.experiment.batch)
    log_p = np.asarray(jax.nn.log_softmax(logits))

    # Networks of notes and of chords differ in their axes of time; flat, both are note after note.
    by_note = log_p.reshape(len(part), -1, tokens.VOCABULARY)
    by_stretch = []
    for number, stretch in enumerate(part):
        size = stretch.symbols.size
        # A network of notes has no output for the first note of a window, which is given.
        missing = int(by_note.shape[1] < size)
        outputs = np.pad(by_note[number, : size - missing], ((missing, 0), (0, 0)), constant_values=np.nan)
        by_stretch.append(outputs.reshape(*stretch.symbols.shape, -1))
    return by_stretch


def log_probabilities_by_length(
    job: ChoraleJob,
    state: TrainState,
    rows: Sequence[inputs.Rows],
    part: Sequence[Stretch],
) -> list[Float[np.ndarray, "_ 4 v"]]:
    """Return what `log_probabilities` does for one row a stretch, with less padding: rows of one length at a time."""
    lengths = np.array([-(-len(row.x) // UNIT) * UNIT for row in rows])
    by_number: dict[int, Float[np.ndarray, "_ 4 v"]] = {}
    for length in np.unique(lengths):
        numbers = np.flatnonzero(lengths == length)
        # Filled up to a number of rows that shares a compiled program.
        filled = row_counts.filled_up(numbers, row_counts.shared(len(numbers), job.experiment.batch))
        padded = inputs.pad([rows[number] for number in filled], int(length))
        log_p = log_probabilities(job, state, padded, [part[number] for number in filled])
        by_number.update(zip(numbers.tolist(), log_p[: len(numbers)], strict=True))
    return [by_number[number] for number in range(len(part))]


def targets_of(
    experiment: ChoraleExperiment,
    batch: Batch,
    part: Sequence[Stretch],
) -> list[Bool[np.ndarray, "t 4"] | None]:
    """Return which notes of each stretch are scored; None stands for all of them."""
    if experiment.model.whole_pieces_only:
        targets: list[Bool[np.ndarray, "t 4"] | None] = []
        for stretch, y in zip(part, batch.y, strict=True):
            # Only hidden notes have a target.
            targets.append(np.asarray(y[: len(stretch.symbols)]) >= 0)
        return targets
    if experiment.started:
        return [None] * len(part)
    return [scores.all_but_the_first(stretch.symbols) for stretch in part]


def score_pieces(
    predictor: Predictor,
    part: Sequence[Stretch],
    targets: Iterable[Bool[np.ndarray, "t 4"] | None],
) -> dict[str, Sums]:
    """Score each stretch, and add the windows of a piece up."""
    by_piece: dict[str, Sums] = {}
    for stretch, mask in zip(part, targets, strict=True):
        prediction = predictor(stretch.symbols)
        sums = scores.score(prediction.log_p, prediction.likeliest, stretch.symbols, mask)
        before = by_piece.get(stretch.name, Sums(0.0, 0, 0, 0, 0))
        by_piece[stretch.name] = Sums(
            nats=before.nats + sums.nats,
            notes=before.notes + sums.notes,
            right=before.right + sums.right,
            changed=before.changed + sums.changed,
            changed_right=before.changed_right + sums.changed_right,
        )
    return by_piece


def _verdict(name: str, model: Mapping[str, Sums], gram: Mapping[str, Sums]) -> str:
    """Compare nats a note with the 5-gram in a sentence, with a bootstrap interval over the pieces."""
    model_nats = np.array([sums.nats for sums in model.values()])
    gram_nats = np.array([sums.nats for sums in gram.values()])
    notes = np.array([float(sums.notes) for sums in model.values()])
    gain = gram_nats - model_nats

    # Pieces are drawn, not notes: the notes of a piece are not independent.
    pieces = len(model)
    rng = np.random.default_rng(0)
    weights = rng.multinomial(pieces, np.full(pieces, 1 / pieces), size=BOOTSTRAP_DRAWS)
    draws = (weights @ gain) / (weights @ notes)
    low, high = np.quantile(draws, [0.025, 0.975])
    mean_gain = (gram_nats.sum() - model_nats.sum()) / notes.sum()

    words = "no evidence of improvement over the 5-gram:"
    if low > 0:
        words = "improves on the 5-gram by"
    return f"{name}: {words} {mean_gain:.3f} nats a note (95 % interval over pieces {low:.3f} to {high:.3f})"


def _piece_table(model: Mapping[str, Sums], gram: Mapping[str, Sums]) -> pd.DataFrame:
    rows = []
    for piece, sums in model.items():
        model_scores = scores.average([sums])
        gram_scores = scores.average([gram[piece]])
        rows.append(
            {
                "piece": piece,
                "notes": model_scores.notes,
                "nats": model_scores.nats,
                "accuracy": model_scores.accuracy,
                "changed_accuracy": model_scores.changed_accuracy,
                "nats_5_gram": gram_scores.nats,
            }
        )
    return pd.DataFrame(rows)
