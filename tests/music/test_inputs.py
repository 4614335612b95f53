"""Pieces as rows: what stands before each target, stretches, padding, and the book's batches through `kinds.music`."""

import math
from dataclasses import replace

import numpy as np
import pytest
from bach import ARCHIVE, chorales
from problems import quickly

from jaxseq.common.errors import UsageError
from jaxseq.music import tokens
from jaxseq.music.corpora.jsb import Jsb
from jaxseq.music.networks import inputs
from jaxseq.music.networks.inputs import Rows
from jaxseq.music.tokens import MASKED, START, UNSCORED
from jaxseq.train.domains.chorales import Composer, prepare
from jaxseq.train.experiments import named
from jaxseq.train.experiments.chorale_networks import Chords, Fills, Notes

pytestmark = pytest.mark.usefixtures("compiled_quickly")

COLD = pytest.mark.parametrize("cold", [True, False])


def piece(steps=7, seed=0):
    random = np.random.default_rng(seed)
    return random.integers(0, 47, (steps, 4)), (3 + np.arange(steps)) % 16


def test_symbols_are_decoded_to_the_notes_that_were_encoded():
    notes = np.array([[0, 36, 81, 60]])
    assert tokens.encode(notes).tolist() == [[0, 1, 46, 25]]
    np.testing.assert_array_equal(tokens.decode(tokens.encode(notes)), notes)


@COLD
def test_the_rows_of_notes_hold_the_whole_piece_one_note_apart(cold):
    symbols, positions = piece()
    x, y = inputs.notes(symbols, positions, cold)
    first = 1 if cold else 0
    np.testing.assert_array_equal(y, symbols.ravel()[first:])
    np.testing.assert_array_equal(x[1:, 0], y[:-1])
    assert x[0, 0] == (symbols[0, 0] if cold else START)
    np.testing.assert_array_equal(x[:, 1] // 16, np.tile([0, 1, 2, 3], 7)[first:])
    np.testing.assert_array_equal(x[:, 1] % 16, np.repeat(positions, 4)[first:])


@pytest.mark.usefixtures("unannotated")
@pytest.mark.parametrize("dtype", ["int8", "uint8", "uint64", "int64"])
def test_rows_do_not_depend_on_the_dtype_of_symbols_and_positions(dtype):
    # More steps than a byte counts; the bass is held through all of them.
    symbols, positions = piece(300)
    symbols[:, 3] = 5
    for lay_out in (inputs.notes, inputs.chords, inputs.fills):
        wide = lay_out(symbols, positions)
        narrow = lay_out(symbols.astype(dtype), positions.astype(dtype))
        np.testing.assert_array_equal(narrow.x, wide.x)
        np.testing.assert_array_equal(narrow.y, wide.y)
    assert inputs.chords(symbols, positions).x[-1, 11] == inputs.LONGEST


@pytest.mark.usefixtures("unannotated")
@pytest.mark.parametrize(
    ("notes", "positions", "where"),
    [
        ([[60.5] * 4], [0], "notes"),
        ([[True] * 4], [0], "notes"),
        ([[60] * 4], [0.5], "positions"),
        ([[60] * 4], [-1], "positions"),
    ],
)
def test_what_is_no_note_or_position_is_refused(notes, positions, where):
    composer = Composer(None, epoch=1, setup=None, state=None)
    with pytest.raises(UsageError) as error:
        composer.predict(np.array(notes), np.array(positions))
    assert error.value.where == where


@COLD
def test_the_rows_of_chords_hold_the_whole_piece_one_chord_apart(cold):
    symbols, positions = piece()
    x, y = inputs.chords(symbols, positions, cold)
    np.testing.assert_array_equal(x[:, 4:8], symbols)
    np.testing.assert_array_equal(x[1:, :4], symbols[:-1])
    assert x[0, :4].tolist() == [MASKED if cold else START] * 4 and x[0, 8:12].tolist() == [0] * 4
    np.testing.assert_array_equal(x[:, 12], positions)
    assert y[0, 0] == (UNSCORED if cold else symbols[0, 0])
    np.testing.assert_array_equal(y.ravel()[1:], symbols.ravel()[1:])


@COLD
def test_rows_are_laid_out_in_jax_as_in_numpy(cold):
    symbols, positions = piece(23)
    symbols[3:22] = symbols[3]
    symbols[19:] = symbols[:4]
    for network in (Notes(), Chords(), Chords(reprises=True), Fills()):
        rows = quickly(lambda *piece, network=network: network.rows(*piece, cold))(symbols, positions)
        for found, expected in zip(rows, network.rows(symbols, positions, cold), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_positions_in_a_longer_bar_are_counted_to_the_sixteenth_step_of_it():
    symbols, _ = piece(3)
    assert (inputs.notes(symbols, np.array([15, 16, 23])).x[:, 1] % 16 == 15).all()
    assert inputs.chords(symbols, np.array([15, 16, 23])).x[:, 12].tolist() == [15, 15, 15]


def test_durations_count_from_the_last_change_up_to_sixteen():
    line = [5] * 20 + [6, 6, 5]
    found = inputs.durations(np.array([line, range(23)]).T)
    assert found[:, 0].tolist() == [*range(1, 17), 16, 16, 16, 16, 1, 2, 1]
    assert (found[:, 1] == 1).all()
    rows = inputs.chords(np.array([line] * 4).T, np.zeros(23, int))
    assert rows.x[:, 8].tolist() == [0, *found[:-1, 0]]


@pytest.mark.parametrize("steps", [1, 9, 10, 11, 13, 14, 26])
def test_stretches_cover_the_piece_and_overlap(steps):
    whole = Rows(np.arange(2 * steps).reshape(steps, 2), np.arange(steps))
    found = inputs.cut(whole, 10, 4)
    assert [one.y[0] for one in found] == list(range(0, 4 * len(found), 4))
    assert all(len(one.y) == 10 for one in found[:-1])
    assert set().union(*(one.y.tolist() for one in found)) == set(range(steps))
    assert found[-1].y[-1] == steps - 1 and (len(found) == 1 or found[-2].y[-1] < steps - 1)
    for one in found:
        np.testing.assert_array_equal(one.x, whole.x[one.y])


def test_rows_side_by_side_are_filled_up_with_what_no_loss_counts():
    short, long = (inputs.chords(*piece(steps)) for steps in (3, 5))
    x, y = inputs.pad([short, long])
    assert x.shape == (2, 5, 13) and y.shape == (2, 5, 4) and x.dtype == y.dtype == np.int32
    assert (x[0, 3:] == inputs.PADDING).all() and (y[0, 3:] == UNSCORED).all()
    np.testing.assert_array_equal(x[0, :3], short.x)
    np.testing.assert_array_equal(y[1], long.y)
    assert inputs.pad([short], 8).x.shape == (1, 8, 13)


@pytest.fixture
def archive():
    chorales()
    return Jsb(str(ARCHIVE))


NOTES, CHORDS = named("jsb", model=Notes(hidden=2)), named("jsb-chords", model=Chords(hidden=2, voice_hidden=2))
RECIPES = pytest.mark.parametrize("recipe", [NOTES, CHORDS], ids=["notes", "chords"])


@pytest.mark.parametrize("recipe", [pytest.param(NOTES, marks=pytest.mark.slow), CHORDS], ids=["notes", "chords"])
def test_the_books_windows_are_98_33_and_34_batches_of_which_131_notes_are_targets(archive, recipe):
    job = prepare(replace(recipe, data=archive, protocol="windows"))
    assert [math.ceil(len(part.x) / 32) for part in job.batches] == [98, 33, 34]
    for part in job.batches:
        targets = part.y.reshape(len(part.y), -1) >= 0
        assert (targets.sum(axis=1) == 131).all()
    assert job.batches.train.x.shape[1] == (131 if recipe is NOTES else 33)


@RECIPES
def test_of_whole_pieces_every_note_is_a_target(archive, recipe):
    job = prepare(replace(recipe, data=archive, protocol="pieces"))
    for name in ("valid", "test"):
        notes = {piece: found.size for piece, found in chorales()[name].items()}
        y = getattr(job.batches, name).y
        assert (y.reshape(len(y), -1) >= 0).sum(axis=1).tolist() == list(notes.values())
        first = getattr(job.batches, name).x[:, 0, 0]
        assert (first == START).all()
    stretch = job.batches.train.y.reshape(len(job.batches.train.y), -1)
    assert stretch.shape[1] == 128 * 4
