"""Predicting symbols: the loss and its averages against numpy, and transposition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import quickly

from jaxseq.benchmark.peers import ADAM
from jaxseq.cells import CELLS
from jaxseq.common.arrays import Batch
from jaxseq.music.evaluation import scores
from jaxseq.music.networks import inputs, objectives
from jaxseq.music.networks.chord_net import ChordNet
from jaxseq.music.networks.note_net import NoteNet
from jaxseq.music.tokens import MASKED, START, UNSCORED
from jaxseq.nn import apply, heads
from jaxseq.nn.objectives import forecasting
from jaxseq.train import epoch

pytestmark = pytest.mark.usefixtures("compiled_quickly")

LOWEST, HIGHEST = 1, 46
WAYS = {"notes": (inputs.notes, inputs.NOTE_COLUMNS), "chords": (inputs.chords, inputs.CHORD_COLUMNS)}
NETS = {
    "notes": NoteNet(CELLS["gru"], hidden=3, convolutions=(3,), symbols=48),
    "chords": ChordNet(CELLS["gru"], hidden=3, embedding=2, voice_hidden=4),
}
init, quick_apply = quickly(epoch.init, "setup"), quickly(apply.apply, "model")
BOTH = pytest.mark.parametrize("kind", WAYS)


def drawn(*shape, low=0, high=47, seed=0):
    return np.random.default_rng(seed).integers(low, high, shape)


def rows(kind, symbols, cold=True):
    return inputs.pad([WAYS[kind][0](one, np.arange(len(one)) % 16, cold) for one in symbols])


def transposed(kind, x, y, seed, most=6):
    task = objectives.next_symbol(WAYS[kind][1], most, LOWEST, HIGHEST)
    return [np.asarray(part) for part in task.augment(jax.random.key(seed), jnp.asarray(x), jnp.asarray(y))]


def test_the_loss_is_the_mean_of_minus_log_p_over_a_rows_targets():
    y = np.array([[[1, 2], [UNSCORED, 0]], [[UNSCORED, UNSCORED], [2, UNSCORED]], [[UNSCORED] * 2] * 2])
    logits = np.random.default_rng(0).normal(size=(3, 2, 2, 4)).astype(np.float32)
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    wanted = [-(np.log(p[0, 0, 0, 1]) + np.log(p[0, 0, 1, 2]) + np.log(p[0, 1, 1, 0])) / 3, -np.log(p[1, 1, 0, 2]), 0]
    task = objectives.next_symbol()
    np.testing.assert_allclose(task.loss(jnp.asarray(logits), jnp.asarray(y)), wanted, rtol=1e-6)
    assert task.weight(jnp.asarray(y)).tolist() == [3, 1, 0]
    best = p.argmax(-1)
    accuracy = dict(task.metrics)["accuracy"](jnp.asarray(logits), jnp.asarray(y))
    np.testing.assert_allclose(accuracy, [((best[0] == y[0]) & (y[0] >= 0)).sum() / 3, best[1, 1, 0] == 2, 0])


def test_the_same_arguments_give_the_same_task():
    assert objectives.next_symbol((0,), 6, 1, 46) is objectives.next_symbol((0,), 6, 1, 46)
    assert objectives.next_symbol().augment is None and objectives.next_symbol((0,), 1, 1, 46).augment is not None


@BOTH
def test_evaluation_is_the_micro_average_of_the_protocol(kind):
    """Pieces of unequal length, as rows in unequal batches, against the sums that the table is made of."""
    symbols = [drawn(steps, 4, seed=steps) for steps in (3, 19, 8, 30, 5)]
    net = NETS[kind]
    x, y = rows(kind, symbols, cold=False)
    setup = epoch.Setup(net, objectives.next_symbol(), ADAM)
    state = init(setup, jax.random.key(0), jnp.asarray(x[:1]))
    logits = np.asarray(quick_apply(net, state.params, state.stats, jnp.asarray(x)), np.float64)
    found = epoch.evaluate(setup, state.params, state.stats, Batch(jnp.asarray(x), jnp.asarray(y)), 2)
    sums = []
    for piece, its in zip(symbols, logits.reshape(5, -1, 4, 47), strict=True):
        log_p = its[: len(piece)] - np.log(np.exp(its[: len(piece)]).sum(-1, keepdims=True))
        of_target = np.take_along_axis(log_p, piece[..., None], -1)[..., 0]
        sums.append(scores.score(of_target, log_p.argmax(-1), piece))
    wanted = scores.average(sums)
    assert wanted.notes == 65 * 4
    np.testing.assert_allclose(found["nats"], wanted.nats, rtol=1e-6)
    np.testing.assert_allclose(found["accuracy"], wanted.accuracy, rtol=1e-6)


# Transposition ---------------------------------------------------------------------------------------------------------


@BOTH
def test_transposition_moves_inputs_and_targets_alike_and_keeps_intervals(kind):
    symbols = drawn(40, 9, 4, low=15, high=30)
    x, y = rows(kind, symbols, cold=False)
    moved_x, moved_y = transposed(kind, x, y, 0)
    shift = moved_y.reshape(40, -1)[:, 0] - y.reshape(40, -1)[:, 0]
    again = rows(kind, symbols + shift[:, None, None], cold=False)
    np.testing.assert_array_equal(moved_x, again.x)
    np.testing.assert_array_equal(moved_y, again.y)
    assert set(shift) == set(range(-6, 7))


@BOTH
@pytest.mark.parametrize("cold", [True, False])
def test_transposition_stays_in_range_and_reaches_both_ends(kind, cold):
    """Rows whose lowest symbol is 3 and whose highest is 44, each of them anywhere, at the very end too."""
    symbols = drawn(600, 2, 4, low=10, high=40)
    places = np.array([np.random.default_rng(n).choice(8, 2, replace=False) for n in range(600)])
    flat = symbols.reshape(600, 8)
    flat[np.arange(600), places[:, 0]], flat[np.arange(600), places[:, 1]] = 3, 44
    x, y = rows(kind, symbols, cold)
    moved_x, moved_y = transposed(kind, x, y, 3, most=12)
    read = moved_x[..., list(WAYS[kind][1])]
    for part in (read[(read != START) & (read != MASKED)], moved_y[moved_y != UNSCORED]):
        assert part.min() == LOWEST and part.max() == HIGHEST
    if kind == "chords":
        shift = moved_x[:, 0, 4] - x[:, 0, 4]
        assert set(shift) == {-2, -1, 0, 1, 2}
        counts = np.bincount(shift + 2)
        assert (np.abs(counts - 120) < 50).all()  # drawn evenly: five sigmas


@BOTH
def test_transposition_leaves_alone_what_is_no_note(kind):
    symbols = drawn(50, 9, 4, low=20, high=30)
    symbols[:, 2:4, 1] = 0
    pieces = [piece[: 5 + number % 5] for number, piece in enumerate(symbols)]
    for cold in (True, False):
        x, y = rows(kind, pieces, cold)
        moved_x, moved_y = transposed(kind, x, y, 1)
        columns = list(WAYS[kind][1])
        others = [n for n in range(x.shape[-1]) if n not in columns]
        np.testing.assert_array_equal(moved_x[..., others], x[..., others])
        for before, after in ((x[..., columns], moved_x[..., columns]), (y, moved_y)):
            still = (before < LOWEST) | (before > HIGHEST)
            np.testing.assert_array_equal(after[still], before[still])
            assert ((after != before) & ~still).any()


@pytest.mark.usefixtures("unannotated")
def test_transposition_does_not_depend_on_the_dtype_of_symbols():
    x, y = rows("notes", drawn(20, 9, 4, low=1))
    moved = transposed("notes", x, y, seed=3)
    bytes_moved = transposed("notes", x.astype(np.uint8), y.astype(np.uint8), seed=3)
    for part, expected in zip(bytes_moved, moved, strict=True):
        np.testing.assert_array_equal(part, expected)


def test_a_row_without_notes_stays_as_it_is():
    x, y = rows("chords", np.zeros((3, 4, 4), int))
    moved = transposed("chords", x, y, 0)
    np.testing.assert_array_equal(moved[0], x)
    np.testing.assert_array_equal(moved[1], y)


def test_transposition_is_drawn_from_the_key():
    x, y = rows("notes", drawn(30, 6, 4, low=15, high=30))
    first, again, other = (transposed("notes", x, y, seed)[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.slow
def test_a_training_step_draws_a_transposition_and_an_evaluation_does_not():
    x, y = map(jnp.asarray, rows("chords", drawn(8, 6, 4, low=15, high=30), cold=False))
    net, found = NETS["chords"], {}
    for most in (0, 6):
        setup = epoch.Setup(net, objectives.next_symbol(inputs.CHORD_COLUMNS, most, LOWEST, HIGHEST), ADAM)
        state = init(setup, jax.random.key(0), x[:1])
        nats = float(epoch.evaluate(setup, state.params, state.stats, Batch(x, y), 8)["nats"])
        _, log = epoch.epoch(setup, state, Batch(x, y), 8)
        found[most] = nats, float(log.loss[0])
    assert found[0][0] == found[6][0]
    np.testing.assert_allclose(found[0][1], found[0][0], rtol=1e-6)
    assert abs(found[6][1] - found[0][1]) > 1e-5


def test_a_task_without_weights_is_a_plain_mean():
    assert forecasting(heads.point()).weight is None and objectives.next_symbol().weight is objectives.scored
