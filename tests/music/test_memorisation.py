"""Memorisation: excerpts in other keys, windows around one changed note, and the definition spelt out in plain loops."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
from bach import chorales
from hypothesis import given
from hypothesis.extra.numpy import arrays

from jaxseq.music.evaluation.memorisation import memorised, remember, stretches

RNG = np.random.default_rng(0)
TRAIN = [RNG.integers(40, 80, (steps, 4)) for steps in (50, 90, 33)]
CHORDS = np.array([[0, 0, 0, 0], [60, 0, 0, 0], [61, 0, 0, 0], [60, 0, 0, 61], [0, 0, 0, 60]])
few_chords = arrays(np.int64, st.integers(0, 9), elements=st.sampled_from([0, 0, 1, 2, 3, 4])).map(CHORDS.__getitem__)


def stands(stretch, piece):
    """Whether a piece has these steps somewhere, all shifted by one interval, with the same rests."""
    for first in range(len(piece) - len(stretch) + 1):
        there = piece[first : first + len(stretch)]
        if ((there == 0) == (stretch == 0)).all() and len(np.unique((there - stretch)[stretch != 0])) <= 1:
            return True
    return False


@given(train=st.lists(few_chords, max_size=3), asked=few_chords)
def test_each_step_ends_the_longest_stretch_of_the_definition(train, asked):
    found = stretches(remember(train), asked)
    for step in range(len(asked)):
        there = [n for n in range(step + 2) if any(stands(asked[step + 1 - n : step + 1], piece) for piece in train)]
        assert found[step] == max(there, default=0)


@pytest.mark.parametrize("by", [-12, 0, 3])
def test_an_excerpt_of_the_training_set_is_all_there_in_any_key(by):
    found = memorised(remember(TRAIN), [TRAIN[1][20:75] + by, TRAIN[2] + by])
    assert found == (1.0, (55 - 31) + 2, (55, 33))


def test_rests_stand_where_they_stood_whatever_the_key():
    piece = np.where(RNG.random((60, 4)) < 0.4, 0, TRAIN[1][:60])
    piece[10:14] = 0
    transposed = np.where(piece, piece + 3, 0)
    memory = remember([piece])
    assert memorised(memory, [transposed[5:55]]).longest == (50,)
    transposed[30, np.argmax(piece[30] != 0)] = 0
    assert memorised(memory, [transposed[5:55]]).longest == (25,)


@pytest.mark.parametrize("step", [0, 5, 31, 40, 54])
def test_one_changed_note_takes_away_the_windows_that_hold_it_and_no_others(step):
    excerpt = TRAIN[1][20:75] + 3
    excerpt[step, 2] += 1
    holding = sum(first <= step < first + 32 for first in range(55 - 31))
    assert memorised(remember(TRAIN), [excerpt]).share == 1 - holding / (55 - 31)


def test_a_key_that_changes_halfway_makes_two_stretches():
    excerpt = TRAIN[1][20:75].copy()
    excerpt[35:] += 1
    assert memorised(remember(TRAIN), [excerpt]).longest == (35,)


def test_silence_is_in_every_key():
    rests = np.zeros((7, 4), int)
    memory = remember([np.concatenate([TRAIN[0][:20], rests, TRAIN[0][20:30]])])
    excerpt = np.concatenate([TRAIN[0][:20], rests, TRAIN[0][20:30] + 1])
    assert stretches(memory, excerpt).tolist() == [*range(1, 28), *range(8, 18)]


def test_no_stretch_goes_on_from_one_training_piece_into_the_next():
    found = memorised(remember(TRAIN), [np.concatenate([TRAIN[0][-20:], TRAIN[1][:25]])])
    assert found.longest == (25,)
    assert found.share == 0


def test_windows_may_have_any_length_and_those_of_all_pieces_count_alike():
    pieces = [TRAIN[0][:10], RNG.integers(1, 9, (25, 4)) * 5]
    assert memorised(remember(TRAIN), pieces, window=8).share == 3 / (3 + 18)


def test_without_a_window_there_is_no_share():
    found = memorised(remember(TRAIN), [TRAIN[0][:31], TRAIN[0][:0]])
    assert math.isnan(found.share)
    assert (found.windows, found.longest) == (0, (31, 0))


def test_of_an_empty_training_set_nothing_is_remembered():
    assert memorised(remember([]), [TRAIN[0]]) == (0, 19, (0,))
    assert memorised(remember([TRAIN[0][:0]]), [TRAIN[0]]).longest == (0,)
    assert memorised(remember([]), []).longest == ()


def test_bachs_own_test_set_repeats_the_training_set_in_its_near_duplicate_and_hardly_elsewhere():
    parts = chorales()
    memory = remember(list(parts["train"].values()))
    longest = dict(zip(parts["test"], memorised(memory, list(parts["test"].values())).longest, strict=True))
    assert sorted(longest, key=longest.get)[-1] == "chorale_374"
    assert [name for name, steps in longest.items() if steps >= 32] == ["chorale_308", "chorale_313", "chorale_374"]
    longest = dict(zip(parts["valid"], memorised(memory, list(parts["valid"].values())).longest, strict=True))
    assert sorted(longest, key=longest.get)[-2:] == ["chorale_287", "chorale_303"]
