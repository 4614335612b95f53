"""The baselines of the notes: smoothing against its definition and against the figures of the literature's set."""

from collections import Counter, defaultdict
from fractions import Fraction

import hypothesis.strategies as st
import numpy as np
import pytest
from bach import chorales
from hypothesis import given
from hypothesis.extra.numpy import arrays

from jaxseq.common.errors import UsageError
from jaxseq.music.evaluation import ngram, scores
from jaxseq.music.tokens import VOCABULARY, encode

few_notes = st.lists(arrays(np.int64, st.tuples(st.integers(0, 6), st.just(4)), elements=st.integers(0, 3)), max_size=3)


def definition(pieces, order, history, voice):
    """p(w | h) for every symbol as the equation has it: exact fractions, and contexts as plain tuples."""
    followers = defaultdict(Counter)
    for piece in pieces:
        notes = piece.ravel().tolist()
        for place, note in enumerate(notes):
            for length in range(min(order - 1, place) + 1):
                followers[place % 4, tuple(notes[place - length : place])][note] += 1
    p = [Fraction(1, VOCABULARY)] * VOCABULARY
    for length in range(min(order - 1, len(history)) + 1):
        counts = followers[voice, tuple(history[len(history) - length :])]
        if counts:
            total = counts.total() + len(counts)
            p = [(counts[symbol] + len(counts) * lower) / total for symbol, lower in enumerate(p)]
    return p


@pytest.fixture(scope="module")
def bach():
    parts = {part: [encode(notes) for notes in pieces.values()] for part, pieces in chorales().items()}
    return parts["test"], ngram.fit(parts["train"])


def score_notes(model, tokens, scored=None):
    return scores.score(ngram.log_probabilities(model, tokens), ngram.predictions(model, tokens), tokens, scored)


def test_a_distribution_worked_by_hand():
    # The soprano sang 5 twice and 7 once, the alto always 3; the bass before the soprano sang 1 twice.
    model = ngram.fit([np.array([[5, 3, 2, 1], [5, 3, 2, 1], [7, 3, 2, 0]])], order=2)
    soprano = (2 + 2 / 47) / 5  # p(5): three notes, two of them different
    after_bass = (1 + 2 * soprano) / 4  # p(5 | 1): once 5, once 7
    always = (3 + 1 / 47) / 4
    rest = [(2 + always) / 3, (3 + always) / 4, (2 + 2 * (2 + 2 / 47) / 5) / 5]  # 3 after 5, 2 after 3, 1 after 2
    found = np.exp(ngram.log_probabilities(model, np.array([[5, 3, 2, 1], [5, 3, 2, 1]])))
    np.testing.assert_allclose(found, [[soprano, *rest], [after_bass, *rest]])


@given(pieces=few_notes, asked=arrays(np.int64, (4, 4), elements=st.integers(0, 4)), order=st.integers(1, 6))
def test_every_probability_is_the_one_of_the_definition(pieces, asked, order):
    found = ngram.log_probabilities(ngram.fit(pieces, order), asked).ravel()
    notes = asked.ravel().tolist()
    for place, note in enumerate(notes):
        expected = definition(pieces, order, notes[:place], place % 4)[note]
        assert np.exp(found[place]) == pytest.approx(float(expected), rel=1e-12)


@given(pieces=few_notes, asked=arrays(np.int64, (3, 4), elements=st.integers(0, 4)))
def test_the_prediction_is_the_likeliest_symbol_and_sees_nothing_of_the_note_itself(pieces, asked):
    predicted = ngram.predictions(ngram.fit(pieces), asked).ravel()
    notes = asked.ravel().tolist()
    for place in range(len(notes)):
        p = definition(pieces, 5, notes[:place], place % 4)
        assert p[predicted[place]] == max(p)


@given(pieces=few_notes, order=st.integers(1, 11))
def test_every_context_has_a_whole_distribution(pieces, order):
    table = ngram.fit(pieces, order).probabilities
    np.testing.assert_allclose(table.sum(axis=1), 1)
    assert (table > 0).all()


def test_rows_of_a_batch_know_nothing_of_each_other():
    rng = np.random.default_rng(0)
    model = ngram.fit([rng.integers(0, 4, (40, 4))])
    rows = rng.integers(0, 4, (2, 3, 7, 4))
    for ours in (ngram.log_probabilities, ngram.predictions):
        for index in np.ndindex(2, 3):
            np.testing.assert_array_equal(ours(model, rows)[index], ours(model, rows[index]))


def test_whole_chorales_cost_1128_thousandths_of_a_nat_a_note(bach):
    test, model = bach
    average = scores.average([score_notes(model, tokens) for tokens in test])
    assert round(average.nats, 3) == 1.128
    assert average.notes == 75_600


def test_windows_of_the_book_cost_1172_thousandths_of_a_nat_a_note(bach):
    test, model = bach
    windows = scores.windows(test)
    average = scores.average([score_notes(model, windows, scores.all_but_the_first(windows))])
    assert round(average.nats, 3) == 1.172
    assert average.notes == 1067 * 131


def test_copying_is_right_of_747_notes_in_a_thousand_of_the_books_windows_and_of_none_that_change(bach):
    windows = scores.windows(bach[0])
    sums = scores.score(None, ngram.copy_last(windows), windows, scores.all_but_the_first(windows))
    average = scores.average([sums])
    assert round(average.accuracy, 3) == 0.747
    assert average.changed_accuracy == 0
    assert np.isnan(average.nats)


def test_a_copy_is_the_same_voices_previous_note():
    tokens = np.arange(24).reshape(2, 3, 4)
    np.testing.assert_array_equal(ngram.copy_last(tokens)[:, 1:], tokens[:, :-1])
    assert (ngram.copy_last(tokens)[:, 0] == ngram.NOTHING).all()


def test_samples_have_the_distribution_of_the_model():
    rng = np.random.default_rng(1)
    model = ngram.fit([rng.integers(0, 3, (30, 4))], order=3)
    pieces = np.stack([ngram.sample(model, 2, rng) for _ in range(900)])
    first = ngram.log_probabilities(model, np.arange(3)[:, None, None] * np.ones((1, 4), int))[:, 0, 0]
    np.testing.assert_allclose(np.bincount(pieces[:, 0, 0])[:3] / 900, np.exp(first), atol=4 * np.sqrt(0.25 / 900))
    nats = -ngram.log_probabilities(model, pieces).mean(axis=(1, 2))
    assert nats.mean() == pytest.approx(exact_entropy(model, 2), abs=4 * nats.std() / np.sqrt(900))


def exact_entropy(model, steps):
    """Nats a note of a trigram's own samples: Σ over all contexts, by their probability."""
    beliefs, nats = {(): 1.0}, 0.0
    for note in range(4 * steps):
        following = defaultdict(float)
        for history, belief in beliefs.items():
            tokens = np.zeros((VOCABULARY, note // 4 + 1, 4), np.int64)
            flat = tokens.reshape(VOCABULARY, -1)
            flat[:, note - len(history) : note] = history
            flat[:, note] = np.arange(VOCABULARY)
            logs = ngram.log_probabilities(model, tokens).reshape(VOCABULARY, -1)[:, note]
            nats -= belief * (np.exp(logs) * logs).sum()
            for symbol, log in enumerate(logs):
                following[(*history, symbol)[-2:]] += belief * np.exp(log)
        beliefs = {history: belief for history, belief in following.items() if belief > 1e-4}
    return nats / (4 * steps)


def test_a_seed_gives_one_piece_and_another_seed_another():
    model = ngram.fit([np.random.default_rng(0).integers(0, 9, (60, 4))])
    first, again, other = (ngram.sample(model, 20, np.random.default_rng(seed)) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert first.shape == (20, 4)
    assert ngram.sample(model, 0, np.random.default_rng(0)).shape == (0, 4)


@pytest.mark.parametrize("temperature", [0, 1e-4])
def test_at_temperature_0_and_near_it_the_likeliest_note_follows(temperature):
    phrase = [[5, 3, 2, 1], [5, 3, 2, 1], [5, 3, 2, 1], [7, 3, 0, 1], [8, 4, 0, 1]]
    model = ngram.fit([np.array(phrase * 5)])
    cold = ngram.sample(model, 20, np.random.default_rng(1), temperature)
    np.testing.assert_array_equal(cold, ngram.predictions(model, cold))


def test_at_a_great_temperature_every_symbol_is_as_likely_as_any():
    model = ngram.fit([np.zeros((60, 4), np.int64)])
    seen = np.bincount(ngram.sample(model, 2000, np.random.default_rng(0), 1e9).ravel(), minlength=VOCABULARY)
    assert seen.min() > 8000 / VOCABULARY - 5 * np.sqrt(8000 / VOCABULARY)


@pytest.mark.parametrize("temperature", [-1.0, float("nan"), float("inf")])
def test_a_temperature_that_is_none_is_refused(temperature):
    with pytest.raises(UsageError) as error:
        ngram.sample(ngram.fit([]), 2, np.random.default_rng(0), temperature)
    assert error.value.where == "temperature"
    assert error.value.got is temperature


def test_without_pieces_every_symbol_is_as_likely_as_any():
    tokens = np.array([[0, 46, 1, 2], [3, 4, 5, 6]])
    np.testing.assert_allclose(ngram.log_probabilities(ngram.fit([]), tokens), -np.log(VOCABULARY))


@pytest.mark.parametrize("symbol", [-1, VOCABULARY])
def test_symbols_that_cannot_be_predicted_are_refused(symbol):
    tokens = np.full((2, 4), symbol)
    with pytest.raises(ValueError, match=f"symbols from {symbol} to {symbol}; they must be from 0 to 46"):
        ngram.fit([tokens])
    with pytest.raises(ValueError, match="symbols from"):
        ngram.log_probabilities(ngram.fit([]), tokens)


@pytest.mark.parametrize("order", [0, 12])
def test_an_order_that_cannot_be_is_refused(order):
    with pytest.raises(ValueError, match=f"order {order} must be from 1 to 11"):
        ngram.fit([], order)
