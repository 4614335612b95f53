"""Which notes are scored, and how: windows of the book, micro averages, notes that change."""

import math

import numpy as np
import pytest
from bach import chorales

from jaxseq.music.evaluation.scores import Scores, Sums, all_but_the_first, average, changed, score, windows


def piece(steps):
    return np.arange(4 * steps).reshape(steps, 4)


def test_windows_are_33_chords_16_apart_and_what_is_left_is_dropped():
    cut = windows([piece(32), piece(33), piece(48), piece(49)])
    assert cut.shape == (4, 33, 4)
    np.testing.assert_array_equal(cut[:, 0, 0], [0, 0, 0, 64])
    np.testing.assert_array_equal(cut - cut[:, :1, :1], np.broadcast_to(piece(33), cut.shape))
    assert windows([]).shape == windows([piece(32)]).shape == (0, 33, 4)


def test_there_are_as_many_batches_of_32_windows_as_in_the_book():
    batches = {part: math.ceil(len(windows(list(pieces.values()))) / 32) for part, pieces in chorales().items()}
    assert batches == {"train": 98, "valid": 33, "test": 34}


def test_131_notes_of_a_window_are_targets():
    scored = all_but_the_first(windows([piece(49)]))
    assert scored.sum(axis=(1, 2)).tolist() == [131, 131]
    assert not scored[:, 0, 0].any()


def test_a_note_has_changed_if_its_own_voice_sang_another_and_if_it_is_the_first():
    tokens = np.array([[5, 5, 0, 1], [5, 4, 0, 0], [4, 4, 0, 1]])
    expected = [[True] * 4, [False, True, False, True], [True, False, False, True]]
    np.testing.assert_array_equal(changed(tokens), expected)
    np.testing.assert_array_equal(changed(np.stack([tokens, tokens[::-1]]))[0], expected)


def test_sums_count_targets_alone():
    tokens = np.array([[5, 5, 0, 1], [5, 4, 0, 0]])
    predicted = np.array([[5, 9, 0, 9], [5, 4, 9, 9]])
    logs = -np.arange(8.0).reshape(2, 4)
    assert score(logs, predicted, tokens) == Sums(nats=28, notes=8, right=4, changed=6, changed_right=3)
    scored = np.array([[False, True, True, True], [True, True, False, False]])
    logs[~scored] = np.nan
    assert score(logs, predicted, tokens, scored) == Sums(nats=15, notes=5, right=3, changed=4, changed_right=2)


def test_the_average_counts_every_note_alike_and_not_every_piece():
    short, long = Sums(2.0, 4, 4, 2, 2), Sums(10.0, 12, 0, 3, 0)
    assert average([short, long]) == Scores(nats=12 / 16, accuracy=4 / 16, changed_accuracy=2 / 5, notes=16)
    assert average({"a": short, "b": long}) == average(iter([short, long]))


def test_pieces_are_left_out_by_name():
    sums = {"a": Sums(2.0, 4, 4, 2, 2), "b": Sums(10.0, 12, 0, 3, 0)}
    assert average(sums, without=("b", "not there")) == average([sums["a"]])
    with pytest.raises(ValueError, match="left out by name only if"):
        average([sums["a"]], without=("b",))


def test_one_piece_without_probabilities_makes_the_nats_not_a_number():
    copied = score(None, piece(2), piece(2))
    assert math.isnan(average([copied, Sums(2.0, 4, 4, 2, 2)]).nats)
    assert average([copied]).accuracy == 1


def test_of_nothing_there_is_no_average():
    assert all(math.isnan(value) for value in average([])[:3])
    assert average([]).notes == 0
    held = score(np.zeros((1, 4)), piece(1), piece(1), np.zeros((1, 4), bool))
    assert all(math.isnan(value) for value in average([held])[:3])
    still = Sums(1.0, 4, 4, 0, 0)
    assert math.isnan(average([still]).changed_accuracy)
    assert average([still]).nats == 0.25
