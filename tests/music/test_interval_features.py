"""Notes scored by their intervals: golden values, and that they move with what they are reckoned from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.music.networks import interval_features
from jaxseq.music.networks.interval_features import INTERVALS, NOTES, FromAnchors, Heard
from jaxseq.music.tokens import MASKED, START, VOCABULARY

pytestmark = pytest.mark.usefixtures("compiled_quickly")

FIFTH = 7


def test_what_is_said_of_a_fifth_up_is_said_of_the_note_a_fifth_above_the_anchor():
    said = jnp.zeros(INTERVALS).at[NOTES - 1 + FIFTH].set(3.0)
    logits = interval_features.around(said, jnp.array(20))
    assert logits.shape == (VOCABULARY,)
    assert np.flatnonzero(logits).tolist() == [20 + FIFTH]


def test_every_interval_has_its_place_from_the_lowest_anchor_and_from_the_highest():
    said = jnp.arange(1, INTERVALS + 1, dtype=jnp.float32)
    lowest, highest = (interval_features.around(said, jnp.array(anchor)) for anchor in (1, NOTES))
    np.testing.assert_array_equal(lowest[1:], np.arange(NOTES, INTERVALS + 1))
    np.testing.assert_array_equal(highest[1:], np.arange(1, NOTES + 1))


@pytest.mark.parametrize("anchor", [0, START, MASKED])
def test_an_anchor_that_is_no_note_says_nothing(anchor):
    assert not interval_features.around(jnp.ones(INTERVALS), jnp.array(anchor)).any()
    assert (
        interval_features.between(jnp.array(anchor), jnp.array(5))
        == 0
        == interval_features.between(jnp.array(5), jnp.array(anchor))
    )


def test_a_rest_is_never_scored_by_its_interval():
    anchors = jnp.arange(VOCABULARY + 2)
    assert (interval_features.around(jnp.ones((len(anchors), INTERVALS)), anchors)[:, 0] == 0).all()


def test_the_distance_is_counted_from_the_lower_note():
    assert interval_features.between(jnp.array(NOTES), jnp.array(1)) == INTERVALS
    assert interval_features.between(jnp.array(1), jnp.array(NOTES)) == 1
    assert interval_features.between(jnp.array(9), jnp.array(9)) == NOTES


@pytest.mark.parametrize("semitones", [-3, 5])
def test_logits_move_with_their_anchors(semitones):
    head, z, anchors = (
        FromAnchors(4, 3),
        jax.random.normal(jax.random.key(0), (2, 6)),
        jnp.array([[20, 25, 30], [12, 19, 0]]),
    )
    variables = head.init(jax.random.key(1), z, anchors)
    moved = jnp.where(anchors > 0, anchors + semitones, 0)
    here, there = (np.asarray(head.apply(variables, z, a)) for a in (anchors, moved))
    inner = slice(8, NOTES - 8)
    np.testing.assert_allclose(np.roll(here[:, 1:], semitones, axis=1)[:, inner], there[:, 1:][:, inner], atol=1e-6)
    assert np.abs(here - there).max() > 0.01


def test_an_interval_and_the_same_an_octave_wider_share_what_is_learnt_of_their_pitch_class():
    head, z, anchors = FromAnchors(2, 1), jnp.ones((1, 3)), jnp.array([[10]])
    params = head.init(jax.random.key(0), z, anchors)["params"]
    tables = jnp.zeros_like(params["tables"]).at[0, INTERVALS + FIFTH].set(1.0)
    logits = head.apply({"params": {**params, "tables": tables}}, z, anchors)[0]
    assert np.flatnonzero(np.abs(logits) > 1e-6).tolist() == [n for n in range(1, NOTES + 1) if (n - 10) % 12 == FIFTH]


def test_what_is_heard_of_the_voices_above_is_the_same_in_every_key():
    heard, before, now, mine = Heard(3), jnp.array([[30, 26]]), jnp.array([[32, 26]]), jnp.array([18])
    variables = heard.init(jax.random.key(0), before, now, mine)
    here = heard.apply(variables, before, now, mine)
    np.testing.assert_array_equal(here, heard.apply(variables, before + 4, now + 4, mine + 4))
    assert np.abs(here - heard.apply(variables, before, now + 1, mine)).max() > 0.01
    assert here.shape == (1, 2, 6)
