"""Tunes that stand in no training piece, and harmonisations beside Bach's."""

import numpy as np
import pytest
from made_up import chorale

from jaxseq.music.evaluation import tunes
from jaxseq.music.evaluation.tunes import compared
from jaxseq.music.piece import from_notes


def piece(seed: int, bars: int = 3, shift: int = 0):
    return from_notes(f"{seed}", chorale(seed, bars) + shift)


def test_a_tune_that_begins_as_a_passage_of_a_training_piece_in_any_key_is_not_new() -> None:
    train = [piece(seed) for seed in range(3)]
    # A third higher, and from the second quarter on; then another tune, and one that is the same for less than two bars.
    passage = piece(1, shift=4)
    passage = passage._replace(notes=passage.notes[4:40])
    other = piece(7)
    alike = piece(2)
    alike.notes[16:, 0] += 1
    found = tunes.unseen([passage, other, alike], train)
    assert [one.name for one in found] == ["7", "2"]


def test_a_rest_is_no_step_of_a_tune() -> None:
    with_rest = piece(0)
    with_rest.notes[8:12, 0] = 0
    assert tunes.unseen([with_rest], [piece(0)]) == [with_rest]
    assert not tunes.unseen([with_rest], [with_rest])


def test_agreement_is_the_share_of_bach_s_notes_in_each_lower_voice() -> None:
    bach = [chorale(0), chorale(1)]
    other = [notes.copy() for notes in bach]
    other[0][:, 1] += 1
    other[1][:12, 3] += 1
    found = compared(other, bach)
    assert found.agreement == pytest.approx((0.5, 1, 1 - 12 / 48 / 2))
    # Two voices in fifths that move by the same step: one parallel in one change.
    fifths = np.array([[67, 50, 60, 40], [69, 50, 62, 40]])
    assert compared([fifths], [fifths]).fifths == 100 and compared([fifths], [fifths]).octaves == 0
