"""The networks of chorales: the book's against torch and Keras, and what no network may see before it is asked.

As a program (`python tests/music/test_networks.py GIVEN.npz ANSWERS.npz`) this file is the process in which Keras runs.
"""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

SIZES = {"embedding": 5, "convolutions": (4, 5, 6), "hidden": 6}
MOMENTUM, EPSILON = 0.99, 1e-3


def keras_answers(source, target):
    """The book's network of Keras' layers with the weights given: logits, gradients of Σ logits · mix, moving moments."""
    import keras
    import torch
    from keras.src.backend.common.dtypes import BIT64_TO_BIT32_DTYPE

    BIT64_TO_BIT32_DTYPE.pop("float64")  # or keras.ops would round float64 to float32 between two float64 arrays
    keras.config.set_floatx("float64")
    given = np.load(source)
    layers = [keras.layers.Embedding(47, SIZES["embedding"])]
    for number, channels in enumerate(SIZES["convolutions"]):
        layers.append(keras.layers.Conv1D(channels, 2, padding="causal", activation="relu", dilation_rate=2**number))
        layers.append(keras.layers.BatchNormalization(momentum=MOMENTUM, epsilon=EPSILON))
    layers += [keras.layers.LSTM(SIZES["hidden"], return_sequences=True), keras.layers.Dense(47)]
    net = keras.Sequential([keras.Input((None,), dtype="int32"), *layers])
    weights = [given[f"weight{n}"] for n in range(len(net.trainable_variables))]
    for variable, weight in zip(net.trainable_variables, weights, strict=True):
        variable.assign(weight)
    notes = torch.tensor(given["notes"])
    logits = net(notes, training=True)
    bars = torch.autograd.grad(logits, [v.value for v in net.trainable_variables], torch.tensor(given["mix"]))
    found = {"logits": logits, **{f"bar{n}": bar for n, bar in enumerate(bars)}}
    found |= {f"moment{n}": v.value for n, v in enumerate(net.non_trainable_variables) if "moving" in v.path}
    found["evaluated"] = net(notes, training=False)
    np.savez(target, **{name: keras.ops.convert_to_numpy(array) for name, array in found.items()})


if __name__ == "__main__":
    keras_answers(*sys.argv[1:])
    sys.exit()

import jax
import jax.numpy as jnp
from problems import quickly

from jaxseq.benchmark import notenet
from jaxseq.cells import CELLS, convert
from jaxseq.cells.norm import Norm
from jaxseq.music.networks import chord_net as chord_net_module
from jaxseq.music.networks import inputs, layers, objectives
from jaxseq.music.networks import note_net as note_net_module
from jaxseq.music.networks.chord_net import ChordNet
from jaxseq.music.networks.note_net import NoteNet
from jaxseq.nn import apply, fields
from jaxseq.train import devices, epoch

quick_apply, resume = quickly(apply.apply, "model"), quickly(apply.resume, "model")
apply_train = quickly(apply.apply_train, "model")
pytestmark = pytest.mark.usefixtures("double", "compiled_quickly")
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs torch")
needs_keras = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("keras", "torch"))), reason="needs Keras on torch"
)
B, T = 3, 19


@pytest.fixture(autouse=True)
def promoted():
    """Flax's batch norm asks for the promotion of float64 and float32, which the strict rules do not know."""
    with jax.numpy_dtype_promotion("standard"):
        yield


BOTH = pytest.mark.parametrize("kind", ["notes", "chords"])


def book(cell="lstm", **changes):
    return NoteNet(CELLS[cell], **{**SIZES, **changes})


def chord_net(cell="gru", **changes):
    return ChordNet(CELLS[cell], **{"hidden": 6, "embedding": 4, "voice_hidden": 16, **changes})


def tokens(rows=B, steps=T, symbols=47, seed=0):
    return np.random.default_rng(seed).integers(0, symbols, (rows, steps, 4))


def rows(kind, symbols, cold=True):
    """The rows of a network, batched, with their targets."""
    way = {"notes": inputs.notes, "chords": inputs.chords}[kind]
    return inputs.pad([way(one, np.arange(len(one)) % 16, cold) for one in symbols])


def net_and_rows(kind):
    net = book(places=True) if kind == "notes" else chord_net()
    return net, rows(kind, tokens())


def drawn(net, x, seed=0):
    """Parameters and moments drawn from a normal distribution, gains and variances around 1, all in float64."""
    shapes = jax.eval_shape(lambda: apply.init(net, jax.random.key(0), jnp.asarray(x)))
    random = np.random.default_rng(seed)

    def draw(path, leaf):
        around = 1.0 if "scale" in str(path) or "var" in str(path) else 0.0
        values = around + (0.1 if around else 0.4) * random.normal(size=leaf.shape)
        return jnp.asarray(values, jnp.float64)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def as_read(x, y, weight=None):
    """The rows on the device, and all of them counted."""
    return jnp.asarray(x), jnp.asarray(y), jnp.ones(len(x)) if weight is None else jnp.asarray(weight)


def close(one, other, tolerance=1e-10):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), one, other)


def training_step(net, params, stats, x, y, weight):
    """Loss, its gradients, logits, and the moments after a step, as `fit` has them."""
    task = objectives.next_symbol()

    def loss(params):
        logits, after = apply.apply_train(net, params, stats, x, weight, jax.random.key(0))
        heavy = weight * task.weight(y)
        return jnp.sum(task.loss(logits, y) * heavy) / jnp.sum(heavy), (logits, after)

    (value, (logits, after)), bars = quickly(jax.value_and_grad(loss, has_aux=True))(params)
    return value, bars, logits, after


# The book's network ----------------------------------------------------------------------------------------------------


def test_the_books_network_has_396810_parameters():
    shapes = jax.eval_shape(
        lambda: apply.init(NoteNet(CELLS["lstm"]), jax.random.key(0), jnp.zeros((1, 2, 2), jnp.int32))
    )
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 396_810


def with_gradients(net, params, stats, x, mix, train):
    """Logits, gradients of Σ logits · mix, moments afterwards."""

    def whole(params):
        if train:
            logits, after = apply.apply_train(net, params, stats, x, jnp.ones(len(x)), jax.random.key(0))
        else:
            logits, after = apply.apply(net, params, stats, x), stats
        return jnp.sum(logits * mix), (logits, after)

    bars, (logits, after) = quickly(jax.grad(whole, has_aux=True))(params)
    return logits, bars, after["batch_stats"]


@needs_torch
@pytest.mark.parametrize(("cell", "train"), [("lstm", True), ("gru", True), ("lstm", False)])
def test_it_is_that_network_of_torchs_layers(cell, train):
    import torch

    net, x = book(cell), jnp.asarray(rows("notes", tokens()).x)
    params, stats = drawn(net, x)
    mix = np.random.default_rng(1).normal(size=(*x.shape[:2], 47))
    logits, bars, after = with_gradients(net, params, stats, x, mix, train)

    theirs = notenet.network(net, params).train(train)
    for number, norm in enumerate(theirs.norms):
        moments = stats["batch_stats"][f"norm_{number}"]
        norm.running_mean.copy_(torch.tensor(np.array(moments["mean"])))
        norm.running_var.copy_(torch.tensor(np.array(moments["var"])))
    found = theirs(torch.tensor(np.array(x[..., 0], np.int64)))
    found.backward(torch.tensor(mix))

    close(np.asarray(logits), found.detach().numpy())
    wanted = notenet.torch_weights(net, bars)
    for name, weight in theirs.named_parameters():
        if not (cell == "lstm" and "bias_hh" in name):  # torch's LSTM has each bias twice
            np.testing.assert_allclose(wanted[name], weight.grad.numpy(), rtol=1e-10, atol=1e-10, err_msg=name)
    count = x.shape[0] * x.shape[1]
    for number, norm in enumerate(theirs.norms):
        before, now = stats["batch_stats"][f"norm_{number}"], after[f"norm_{number}"]
        np.testing.assert_allclose(now["mean"], norm.running_mean.numpy(), rtol=1e-10, atol=1e-10)
        kept = MOMENTUM * np.asarray(before["var"]) if train else np.asarray(before["var"])
        new = norm.running_var.numpy() - kept  # torch lets the unbiased variance run, Keras and Flax the biased one
        np.testing.assert_allclose(now["var"], kept + new * (count - 1) / count, rtol=1e-10, atol=1e-10)


def in_keras_order(params):
    """The trainable variables of the Keras network, in its order."""
    found = [params["notes"]["embedding"]]
    for number in range(len(SIZES["convolutions"])):
        taps, norm = params[f"convolution_{number}"]["taps"], params[f"norm_{number}"]
        found += [taps["kernel"].reshape(2, -1, taps["kernel"].shape[-1]), taps["bias"], norm["scale"], norm["bias"]]
    layer = fields.cell_params(CELLS["lstm"], params["stack"]["recurrent_0"]["cell"])
    return [*found, *convert.to_keras("lstm", layer), params["head"]["kernel"], params["head"]["bias"]]


@pytest.mark.slow
@needs_keras
def test_it_is_that_network_of_keras_layers(tmp_path):
    net, x = book(), jnp.asarray(rows("notes", tokens()).x)
    params, stats = drawn(net, x)
    fresh = {"mean": jnp.zeros_like, "var": jnp.ones_like}
    stats = {"batch_stats": {n: {k: fresh[k](v) for k, v in one.items()} for n, one in stats["batch_stats"].items()}}
    mix = np.random.default_rng(1).normal(size=(*x.shape[:2], 47))
    weights = {f"weight{n}": np.asarray(array) for n, array in enumerate(in_keras_order(params))}
    np.savez(tmp_path / "given.npz", notes=np.asarray(x[..., 0]), mix=mix, **weights)
    command = [sys.executable, __file__, str(tmp_path / "given.npz"), str(tmp_path / "answers.npz")]
    environment = {**os.environ, "KERAS_BACKEND": "torch", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    answers = np.load(tmp_path / "answers.npz")

    logits, bars, after = with_gradients(net, params, stats, x, mix, True)
    close(np.asarray(logits), answers["logits"])
    for number, bar in enumerate(in_keras_order(bars)):
        np.testing.assert_allclose(bar, answers[f"bar{number}"], rtol=1e-10, atol=1e-10, err_msg=str(number))
    moments = [after[f"norm_{n}"][name] for n in range(len(SIZES["convolutions"])) for name in ("mean", "var")]
    theirs = [answers[name] for name in sorted((n for n in answers if "moment" in n), key=lambda n: int(n[6:]))]
    close([np.asarray(moment) for moment in moments], theirs)
    evaluated = quick_apply(net, params, {"batch_stats": after}, x)
    close(np.asarray(evaluated), answers["evaluated"])


def test_what_a_network_reads_first_is_a_convolution_over_zeros_and_not_over_the_next_notes():
    convolution = layers.CausalConv(1, 2)
    kernel = jnp.asarray([[100.0], [1.0]], jnp.float64)
    params = {"params": {"taps": {"kernel": kernel, "bias": jnp.asarray([0.5], jnp.float64)}}}
    x = jnp.arange(1.0, 6.0, dtype=jnp.float64).reshape(5, 1, 1)
    after, y = convolution.apply(params, x)
    assert y.ravel().tolist() == [1.5, 2.5, 103.5, 204.5, 305.5]
    assert after.ravel().tolist() == [4, 5]
    assert convolution.apply(params, x[:1], after)[1].ravel().tolist() == [401.5]


# What padding and carries change: nothing ------------------------------------------------------------------------------


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("kind", "norm"),
    [pytest.param("notes", None, marks=SLOW), ("notes", "batch"), pytest.param("chords", None, marks=SLOW)],
)
def test_a_padded_tail_changes_nothing(kind, norm):
    net, (x, y) = net_and_rows(kind)
    if norm:
        net = net.clone(norm=Norm(norm))
    longer = inputs.pad([inputs.Rows(*row) for row in zip(x, y, strict=True)], x.shape[1] + 9)
    params, stats = drawn(net, longer.x)
    short = jax.tree.map(lambda leaf: leaf, stats)
    if norm:  # the moments of every step have the length of the longest rows
        moments = stats["batch_stats"]["stack"]["recurrent_0"]["moments"]
        cut = jax.tree.map(lambda m: m[: x.shape[1]] if m.ndim and len(m) == longer.x.shape[1] else m, moments)
        short["batch_stats"]["stack"]["recurrent_0"]["moments"] = cut
    one = training_step(net, params, short, *as_read(x, y))
    other = training_step(net, params, stats, *as_read(*longer))
    close(one[:2], other[:2])
    close(one[2], other[2][:, : x.shape[1]])
    for path, leaf in jax.tree_util.tree_leaves_with_path(one[3]):
        full = dict(jax.tree_util.tree_leaves_with_path(other[3]))[path]
        close(leaf, full[: len(leaf)] if leaf.ndim else full)
    evaluated = quick_apply(net, params, short, jnp.asarray(x))
    close(evaluated, quick_apply(net, params, stats, jnp.asarray(longer.x))[:, : x.shape[1]])


@BOTH
def test_a_shorter_row_beside_longer_ones_is_read_as_by_itself(kind):
    net, _ = net_and_rows(kind)
    symbols = tokens()
    ragged = rows(kind, [symbols[0][:5], symbols[1], symbols[2][:12]])
    alone = rows(kind, [symbols[0][:5]])
    params, stats = drawn(net, ragged.x)
    together = quick_apply(net, params, stats, jnp.asarray(ragged.x))[:1, : alone.x.shape[1]]
    close(together, quick_apply(net, params, stats, jnp.asarray(alone.x)))


@BOTH
def test_rows_of_no_weight_change_nothing(kind):
    net, (x, y) = net_and_rows(kind)
    params, stats = drawn(net, x)
    more = rows(kind, tokens(B + 2, seed=5))
    more.x[:B], more.y[:B] = x, y
    one = training_step(net, params, stats, *as_read(x, y))
    weight = np.concatenate([np.ones(B), np.zeros(2)])
    other = training_step(net, params, stats, *as_read(*more, weight))
    close((one[:2], one[3]), (other[:2], other[3]))
    close(one[2], other[2][:B])


@BOTH
@pytest.mark.parametrize(
    "cuts",
    [pytest.param((7,), marks=pytest.mark.slow), (1, 2, 3, 5, 8, 13)],
    ids=["in two", "step by step"],
)
def test_a_piece_read_in_parts_is_the_piece_read_at_once(kind, cuts):
    net, (x, _) = net_and_rows(kind)
    params, stats = drawn(net, x)
    carries, logits = resume(net, params, stats, jnp.asarray(x), None, 0)
    last, parts = None, []
    for first, end in zip((0, *cuts), (*cuts, x.shape[1]), strict=True):
        last, found = resume(net, params, stats, jnp.asarray(x[:, first:end]), last, first)
        parts.append(found)
    close(jnp.concatenate(parts, axis=1), logits)
    close(last, carries)


@pytest.mark.slow
@BOTH
def test_a_batch_shared_by_devices_gives_the_same_gradients_and_moments(kind):
    net, (x, y) = book(places=True) if kind == "notes" else chord_net(), rows(kind, tokens(8))
    params, stats = drawn(net, x)
    mesh = devices.make()
    assert mesh.size == 4
    x, y, weight = as_read(x, y)
    wanted = training_step(net, params, stats, x, y, weight)
    sharding = devices.batch_sharding(mesh, 8)
    shared = [jax.device_put(array, sharding) for array in (x, y, weight)]
    params, stats = devices.replicate(mesh, (params, stats))
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        found = training_step(net, params, stats, *shared)
    close(jax.tree.map(np.asarray, wanted), jax.tree.map(np.asarray, found))


# What may be known of what -------------------------------------------------------------------------------------------


def reach(net, kind, start, changed):
    """Whether the logits of every prediction differ when each note is changed in its turn: "notes steps 4"."""
    every = [start, *changed]
    x = jnp.asarray(rows(kind, every, cold=False).x)
    params, stats = drawn(net, x[:1])
    logits = quick_apply(net, params, stats, x).reshape(len(every), -1, 4, 47)
    return np.asarray(jnp.any(jnp.abs(logits[1:] - logits[:1]) > 1e-12, axis=-1))


@pytest.mark.parametrize("kind", ["notes", "chords"])
def test_a_voice_knows_those_above_it_and_the_past_and_nothing_else(kind):
    net = book(symbols=48) if kind == "notes" else chord_net()
    steps = 6
    start = tokens(1, steps)[0]
    changed = np.repeat(start[None], steps * 4, axis=0)
    order = np.arange(steps * 4)
    flat = changed.reshape(steps * 4, -1)
    flat[order, order] = (flat[order, order] + 1 + order % 40) % 47
    moved = reach(net, kind, start, changed).reshape(steps * 4, steps * 4)
    later = order[None, :] > order[:, None]  # note for note, soprano to bass, step after step
    np.testing.assert_array_equal(moved, later)


def test_the_length_of_a_held_note_and_the_place_in_the_bar_are_heard():
    x = rows("chords", tokens(1), cold=False).x
    params, stats = drawn(chord_net(), x)
    read = quick_apply(chord_net(), params, stats, jnp.asarray(x))
    for column in (8, 11, 12):
        other = x.copy()
        other[0, 3, column] += 1
        found = quick_apply(chord_net(), params, stats, jnp.asarray(other))
        assert (np.abs(found - read).max(axis=(0, 2, 3)) > 1e-9).tolist() == [False] * 3 + [True] * (T - 3)


@pytest.mark.slow
def test_the_chances_of_all_pieces_of_two_chords_add_up_to_one(monkeypatch):
    """Every piece that three symbols can make: 6,561 of them."""
    for network in (chord_net_module, note_net_module):
        monkeypatch.setattr(network, "VOCABULARY", 3)
    pieces = np.stack(np.meshgrid(*[np.arange(3)] * 8, indexing="ij"), axis=-1).reshape(-1, 2, 4)
    for net, kind in ((chord_net(), "chords"), (book(symbols=48, places=True), "notes")):
        x, y = rows(kind, pieces, cold=False)
        params, stats = drawn(net, x[:1])
        log_p = jax.nn.log_softmax(quick_apply(net, params, stats, jnp.asarray(x)))
        found = jnp.take_along_axis(log_p, jnp.asarray(y)[..., None], axis=-1)
        chances = jnp.exp(found.reshape(len(pieces), -1).sum(axis=1))
        np.testing.assert_allclose(chances.sum(), 1, rtol=1e-10)
        assert chances.max() > 2 * chances.min()


def test_a_network_without_places_reads_notes_alone():
    x = rows("notes", tokens()).x
    other = x.copy()
    other[..., 1] = (other[..., 1] + 7) % 64
    for places in (False, True):
        net = book(places=places)
        params, stats = drawn(net, x)
        logits = [quick_apply(net, params, stats, jnp.asarray(one)) for one in (x, other)]
        assert bool(jnp.array_equal(*logits)) is not places


def test_dropout_is_drawn_in_training_and_left_out_of_predictions():
    for net, kind in ((book(dropout=0.5, symbols=48), "notes"), (chord_net(dropout=0.5), "chords")):
        assert net.draws and not net.clone(dropout=0.0).draws
        x = jnp.asarray(rows(kind, tokens(), cold=False).x)
        params, stats = drawn(net, x)
        weight = jnp.ones(len(x))
        drawn_twice = [apply_train(net, params, stats, x, weight, jax.random.key(k))[0] for k in (0, 1, 1)]
        assert not jnp.array_equal(drawn_twice[0], drawn_twice[1])
        assert jnp.array_equal(drawn_twice[1], drawn_twice[2])
        close(quick_apply(net, params, stats, x), quick_apply(net.clone(dropout=0.0), params, stats, x))


@pytest.mark.slow
@needs_torch
def test_the_benchmark_trains_the_same_network_as_torch():
    with jax.enable_x64(False):
        load = notenet.LOAD._replace(hidden=6, window=9, batch=4, steps=1, features=6)
        start = notenet.given(load, SIZES["convolutions"])
        from jaxseq.benchmark import peers

        mine, theirs = peers.ours(load, start), notenet.torch_network(load, start)
        ours = np.concatenate([mine.work() for _ in range(4)])
        found = np.concatenate([theirs.work() for _ in range(4)])
        assert theirs.parameters == mine.parameters + 4 * 6  # torch's LSTM has each bias twice
        np.testing.assert_allclose(found, ours, rtol=1e-3)
        np.testing.assert_allclose(found[0], ours[0], rtol=1e-5)
        assert isinstance(start.setup, epoch.Setup) and ours[-1] < ours[0]
