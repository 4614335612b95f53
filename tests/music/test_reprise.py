"""Reprises: the longest earlier passage, found by brute force, and a network that reads it, whole and step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import quickly

from jaxseq.cells import CELLS
from jaxseq.music import sampling
from jaxseq.music.conditions import Known, columns
from jaxseq.music.networks import inputs, reprise
from jaxseq.music.networks.chord_net import ChordNet
from jaxseq.music.sampling import Guide, ancestral
from jaxseq.music.tokens import MASKED
from jaxseq.music.transposition import Key
from jaxseq.nn import apply
from jaxseq.train.experiments.chorale_networks import Chords

pytestmark = pytest.mark.usefixtures("compiled_quickly")


def piece_with_reprises(steps=60, seed=0):
    """A piece of few notes whose second half begins as its first, and later as it with another bass."""
    random = np.random.default_rng(seed)
    symbols = random.integers(20, 22, (steps, 4))
    symbols[20:30] = symbols[:10]
    symbols[40:52, :3] = symbols[4:16, :3]
    return symbols


def longest_passage(notes, now):
    """Length of the longest passage that ends before `now` and at least `LAG` steps earlier, and the latest such place."""
    best = (0, 0)
    for place in range(1, now - reprise.LAG + 1):
        length = 0
        while length < place and (notes[place - 1 - length] == notes[now - 1 - length]).all():
            length += 1
        if length >= reprise.SHORTEST:
            best = max(best, (length, place))
    return best


def test_columns_are_those_found_by_brute_force():
    symbols = piece_with_reprises()
    found = reprise.columns(symbols)
    assert found.shape == (60, reprise.COLUMNS)
    for number, voices in enumerate(reprise.PASSAGES):
        part = found[:, reprise.WIDTH * number : reprise.WIDTH * (number + 1)]
        for now in range(len(symbols)):
            length, place = longest_passage(symbols[:, voices], now)
            followed = symbols[place] if length else [MASKED] * 4
            assert part[now].tolist() == [*followed, min(length, reprise.LONGEST)]
    assert found[29, 4] == 9 and found[29, :4].tolist() == symbols[9].tolist()


def test_a_passage_is_no_longer_than_the_longest_that_is_told_apart():
    held = np.full((80, 4), 20)
    assert reprise.columns(held)[-1].tolist() == [20, 20, 20, 20, reprise.LONGEST] * 2


def test_a_reprise_guides_a_voice_as_long_as_the_voices_above_follow_it():
    both = jnp.asarray([[20, 15, 10, 5, 8, 20, 16, 11, 6, 9]])
    for above, expected in [
        ([], [True, True]),
        ([20, 15], [True, True]),
        ([20, 16], [False, True]),
        ([21], [False] * 2),
    ]:
        notes = jnp.asarray([above], jnp.int32).reshape(1, -1)
        assert reprise.followed(both, notes).tolist() == [expected]


def test_transposition_moves_a_reprise_with_the_piece():
    rows = inputs.pad([inputs.chords(piece_with_reprises(), np.zeros(60, int), reprises=True)] * 8)
    objective = Chords(reprises=True).objective(6)
    moved_x, moved_y = objective.augment(jax.random.key(1), jnp.asarray(rows.x), jnp.asarray(rows.y))
    shifts = np.asarray(moved_y)[:, 0, 0] - rows.y[:, 0, 0]
    assert len(set(shifts)) > 2
    for row, shift in zip(np.asarray(moved_x), shifts, strict=True):
        again = inputs.chords(piece_with_reprises() + shift, np.zeros(60, int), reprises=True)
        np.testing.assert_array_equal(row, again.x)


def test_a_drawn_piece_has_the_probabilities_that_the_network_gives_it_whole():
    sizes = {"hidden": 5, "embedding": 4, "voice_hidden": 5}
    model = ChordNet(CELLS["gru"], relative=True, voice_dropout=0.2, conditions=True, reprises=True, **sizes)
    symbols, positions = piece_with_reprises(), np.arange(60) % 16
    known = columns(Known(60, positions, key=Key(2, True)))

    def laid_out(notes):
        return inputs.pad([inputs.chords(notes, positions, conditions=known, reprises=True)])

    x = jnp.asarray(laid_out(symbols).x)
    shapes, _ = jax.eval_shape(lambda key: apply.init(model, key, x), jax.random.key(0))
    random = np.random.default_rng(5)
    params = jax.tree.map(lambda leaf: jnp.asarray(random.normal(0, 0.5, leaf.shape), leaf.dtype), shapes)

    forced = symbols[None].copy()
    forced[:, 50:] = sampling.FREE
    drawn = ancestral(model, {"params": params}, jax.random.key(0), forced, positions, guide=Guide(known=known[None]))
    notes = np.asarray(drawn.tokens)[0]
    assert (notes[:50] == symbols[:50]).all()

    rows = laid_out(notes)
    logits = quickly(apply.apply, "model")(model, params, {}, jnp.asarray(rows.x))
    log_p = np.take_along_axis(np.asarray(jax.nn.log_softmax(logits)), rows.y[..., None], -1)[..., 0]
    np.testing.assert_allclose(drawn.log_probability, log_p, rtol=1e-4, atol=1e-5)
    # What was heard before matters: the same notes without the columns have other probabilities.
    blind = rows.x.copy()
    blind[..., -reprise.COLUMNS :] = np.array([MASKED] * 4 + [0] + [MASKED] * 4 + [0])
    without = quickly(apply.apply, "model")(model, params, {}, jnp.asarray(blind))
    assert not np.allclose(without, logits)
