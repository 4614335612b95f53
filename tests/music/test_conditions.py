"""What a composer knows: its codes, its transposition with the notes, and that what is unknown has no influence."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import quickly

from jaxseq.common.errors import UsageError
from jaxseq.music import conditions
from jaxseq.music.conditions import COLUMNS, Known, columns, key_of
from jaxseq.music.networks import inputs, objectives
from jaxseq.music.piece import Piece, from_notes
from jaxseq.music.transposition import Key, key_named
from jaxseq.nn import apply
from jaxseq.train.experiments import from_config, named, to_config
from jaxseq.train.experiments.chorale_networks import Chords

pytestmark = pytest.mark.usefixtures("compiled_quickly")

TINY = Chords(hidden=5, embedding=4, voice_hidden=5, dropout=0.0, recurrent_dropout=0.0, conditions=True)
FIRST = inputs.CHORD_WIDTH


def scale(tonic: int = 60, third: int = 4) -> Piece:
    """A piece of a scale of eight steps in four voices, on a grid of quarters."""
    steps = np.repeat([0, 2, third, 5, 7, 7 + third, 11, 0], 4)
    return from_notes("scale", tonic + steps[:, None] + np.array([0, 0, 0, -12]))


def test_steps_to_the_end_count_down_to_one_and_are_told_in_ever_longer_bins() -> None:
    left = columns(Known(400), ["ending"])[:, 0]
    assert left[-32:].tolist() == list(range(32, 0, -1))
    assert (np.diff(left) <= 0).all() and len(set(left[:-32])) == len(conditions.EDGES) + 1
    assert left.max() == conditions.DISTANCES - 1
    assert not columns(Known(400), ["ending"])[:, 1:].any()


def test_a_phrase_is_told_from_its_beginning_and_to_its_fermata() -> None:
    fermatas = np.zeros(12, bool)
    fermatas[[4, 5]] = True
    since, until = columns(Known(12, fermatas=fermatas), ["phrase"])[:, 1:3].T
    assert since.tolist() == [2, 3, 4, 5, 1, 1, 2, 3, 4, 5, 6, 7]
    assert until.tolist() == [5, 4, 3, 2, 1, 1, 7, 6, 5, 4, 3, 2]
    assert not columns(Known(12, fermatas=np.zeros(12, bool)), ["phrase"]).any()


def test_a_metre_is_told_beyond_sixteen_sixteenths() -> None:
    positions = np.tile(np.arange(24), 3)
    length, place = columns(Known(72, positions), ["metre"])[:, 5:].T
    assert set(length) == {24} and place.tolist() == (positions + 1).tolist()


@pytest.mark.parametrize(
    ("piece", "key"),
    [
        (scale(), Key(0, False)),
        (scale(62), Key(2, False)),
        (scale(57, third=3)._replace(fifths=0), Key(0, True)),
        (scale()._replace(fifths=-3, minor=True), Key(-3, True)),
        (scale()._replace(notes=np.zeros((32, 4), int)), None),
    ],
    ids=["found", "another", "of two", "declared", "silence"],
)
def test_a_key_is_the_declared_one_or_found(piece: Piece, key: Key | None) -> None:
    assert key_of(piece) == key


@pytest.mark.parametrize(
    ("name", "key", "tonic"),
    [
        ("C major", Key(0, False), 0),
        ("g minor", Key(-2, True), 7),
        ("F# minor", Key(3, True), 6),
        ("Bb major", Key(-2, False), 10),
        ("B-flat major", Key(-2, False), 10),
    ],
)
def test_a_key_has_a_name_and_a_tonic(name: str, key: Key, tonic: int) -> None:
    assert key_named(name) == key and conditions.tonic(key) == tonic


@pytest.mark.parametrize("name", ["", "G", "H major", "G dorian", "G# major", "Fb minor"])
def test_other_names_are_no_keys(name: str) -> None:
    with pytest.raises(UsageError) as error:
        key_named(name)
    assert error.value.where == "--key" and error.value.got == name


def rows_of(piece: Piece, shift: int = 0, key: Key | None = None, copies: int = 1) -> inputs.Rows:
    notes = piece.notes + shift
    known = columns(Known(len(notes), piece.positions, key=key and key.transposed(shift)))
    symbols = notes - 35
    return inputs.pad([TINY.rows(symbols, piece.positions, False, known)] * copies)


def test_notes_and_key_transposed_together_are_the_transposed_piece() -> None:
    plain = objectives.next_symbol(TINY.columns, 6, 1, 46, (FIRST + conditions.TONIC,))
    rows = rows_of(scale(), key=Key(0, False), copies=40)
    moved_x, moved_y = plain.augment(jax.random.key(0), jnp.asarray(rows.x), jnp.asarray(rows.y))
    shifts = np.asarray(moved_y)[:, 0, 0] - rows.y[:, 0, 0]
    assert len(set(shifts)) > 8
    for x, shift in zip(np.asarray(moved_x), shifts, strict=True):
        np.testing.assert_array_equal(x, rows_of(scale(), int(shift), Key(0, False)).x[0])
    # What is unknown stays so.
    nothing = inputs.pad([TINY.rows(scale().notes - 35, scale().positions)] * 40)
    moved_x, _ = plain.augment(jax.random.key(0), jnp.asarray(nothing.x), jnp.asarray(nothing.y))
    assert not np.asarray(moved_x)[..., FIRST:].any()


def test_training_hides_all_conditions_in_half_of_the_rows_and_each_in_some_of_the_others() -> None:
    objective = TINY.objective(0)
    rows = rows_of(scale(), key=Key(0, False), copies=2000)
    x, y = objective.augment(jax.random.key(0), jnp.asarray(rows.x), jnp.asarray(rows.y))
    np.testing.assert_array_equal(y, rows.y)
    np.testing.assert_array_equal(x[..., :FIRST], rows.x[..., :FIRST])
    known = np.asarray(x)[..., FIRST:]
    hidden = {}
    for name, group in COLUMNS.items():
        part = known[..., list(group)]
        hidden[name] = ~part.any(axis=(1, 2))
        whole = rows.x[0, :, FIRST:][:, list(group)]
        assert all((row == whole).all() for row in part[~hidden[name]])
    # A scale has no fermatas.
    assert hidden.pop("phrase").all()
    for share in (1 - np.mean(~hidden[name]) for name in hidden):
        assert share == pytest.approx(0.6, abs=0.04)
    assert np.mean(np.logical_and.reduce(list(hidden.values()))) == pytest.approx(0.5 + 0.5 * 0.2**3, abs=0.04)
    again, _ = objective.augment(jax.random.key(0), jnp.asarray(rows.x), jnp.asarray(rows.y))
    np.testing.assert_array_equal(x, again)


def test_a_network_reads_what_is_known_and_nothing_of_what_is_not() -> None:
    model = TINY.build(started=True)
    told = rows_of(scale(), key=Key(0, False)).x
    nothing = inputs.pad([TINY.rows(scale().notes - 35, scale().positions)]).x
    shapes, _ = jax.eval_shape(lambda key: apply.init(model, key, jnp.asarray(told)), jax.random.key(0))
    random = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: jnp.asarray(random.normal(0, 0.5, leaf.shape), leaf.dtype), shapes)

    def logits(x: np.ndarray) -> np.ndarray:
        return np.asarray(quickly(apply.apply, "model")(model, params, {}, jnp.asarray(x)))

    forgotten = told.copy()
    forgotten[..., FIRST:] = 0
    np.testing.assert_array_equal(forgotten, nothing)
    for group in COLUMNS.values():
        changed = nothing.copy()
        for column in group:
            changed[..., FIRST + column] = 2
        assert not np.allclose(logits(changed), logits(nothing))


def test_a_recipe_from_before_conditions_has_none() -> None:
    today = named("jsb-chords")
    recipe = to_config(today)
    recipe.pop("ema")
    for name in ("conditions", "reprises"):
        recipe["model"].pop(name)
    before = dataclasses.replace(
        today, ema=0.0, model=dataclasses.replace(today.model, conditions=False, reprises=False)
    )
    assert from_config(recipe, "config.json") == before != today
