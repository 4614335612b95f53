"""Rows in buckets of similar length: the likelihood and the steps of rows that are all padded to the longest one."""

import dataclasses
import functools
import itertools
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import quickly
from rich.console import Console

from jaxseq import cells
from jaxseq.common.arrays import Batch
from jaxseq.common.errors import UsageError
from jaxseq.data import buckets
from jaxseq.data.buckets import Buckets
from jaxseq.music.networks import objectives
from jaxseq.music.networks.inputs import PADDING
from jaxseq.music.networks.roll_net import RollNet
from jaxseq.train import devices, experiments, feed, optimiser, together
from jaxseq.train.domains import pianoroll
from jaxseq.train.epoch import Setup, TrainState, epoch, evaluate, gradient_norms, init, step
from jaxseq.train.experiments import named
from jaxseq.train.optimiser import Settings
from jaxseq.train.study import Member

KEYS, BATCH = 88, 4
LENGTHS = (3, 9, 4, 3, 5, 10, 4, 3, 3, 17, 4)
NETWORK = RollNet(cells.named("gru"), hidden=3)


def pieces() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [(rng.random((length + 1, KEYS)) < 0.1).astype(np.float32) for length in LENGTHS]


def in_buckets(most: int = 2) -> Buckets:
    divided = buckets.divided(LENGTHS, most, BATCH)
    return Buckets(tuple(pianoroll._padded([pieces()[number] for number in numbers]) for numbers in divided))


def setup_of(network: RollNet, mesh: jax.sharding.Mesh | None = None) -> Setup:
    chosen = optimiser.optimiser(Settings(lr=1e-2), steps=10)
    sharding = None if mesh is None else devices.batch_sharding(mesh, BATCH)
    return Setup(network, objectives.frames(), chosen.transformation, sharding)


@functools.cache
def drawn_state(setup: Setup) -> TrainState:
    numbers = optimiser.optimiser(Settings(lr=1e-2), steps=10).numbers
    return quickly(init, "setup")(setup, jax.random.key(1), jnp.zeros((1, 2, KEYS)), numbers=numbers)


def first_state(setup: Setup) -> TrainState:
    """A copy, which may be donated."""
    return jax.tree.map(jnp.copy, drawn_state(setup))


# Division --------------------------------------------------------------------------------------------------------------


def cost(lengths, groups, batch):
    return sum(-(-len(group) // batch) * batch * max(lengths[row] for row in group) for group in groups)


@pytest.mark.parametrize("most", [1, 2, 3, 4])
@pytest.mark.parametrize("batch", [1, 3])
def test_rows_are_divided_as_the_cheapest_of_all_divisions(most, batch, monkeypatch):
    monkeypatch.setattr(buckets, "LEAST_SAVING", 1e-9)
    divided = buckets.divided(LENGTHS, most, batch)

    rows = sorted(range(len(LENGTHS)), key=LENGTHS.__getitem__)
    # Rows of equal length share a bucket.
    edges_inside = [place for place in range(1, len(rows)) if LENGTHS[rows[place - 1]] < LENGTHS[rows[place]]]
    costs = []
    for count in range(most):
        for cuts in itertools.combinations(edges_inside, count):
            edges = [0, *cuts, len(rows)]
            costs.append(cost(LENGTHS, [rows[a:b] for a, b in itertools.pairwise(edges)], batch))
    assert sorted(np.concatenate(divided)) == list(range(len(LENGTHS)))
    assert cost(LENGTHS, divided, batch) == min(costs)
    assert len(divided) <= most


def test_a_bucket_that_saves_next_to_nothing_is_left_out():
    assert len(buckets.divided([100] * 8 + [99] * 8, most=4, batch=8)) == 1
    assert len(buckets.divided([100] * 8 + [50] * 8, most=4, batch=8)) == 2


def test_many_lengths_are_divided_in_a_few_steps_more_than_there_are():
    lengths = np.random.default_rng(0).lognormal(5, 0.6, 5_000).astype(int) + 1
    divided = buckets.divided(lengths.tolist(), most=5, batch=16)
    assert len(divided) == 5
    assert cost(lengths, divided, 16) < 1.4 * lengths.sum() < 0.3 * len(lengths) * lengths.max()


# Order -----------------------------------------------------------------------------------------------------------------


def test_an_epoch_reads_each_row_once_in_batches_of_one_bucket_in_an_order_of_its_key():
    data = in_buckets()
    rows = feed.feed_of(data)
    order = quickly(lambda key: rows.order(key, BATCH))
    drawn = order(jax.random.key(0))
    bucket, index, weight = map(np.asarray, drawn.batches)

    assert len(bucket) == rows.steps(BATCH)
    for number, part in enumerate(data.parts):
        of_bucket = weight[bucket == number]
        assert np.ptp(of_bucket.sum(axis=1)) <= 1
        assert sorted(index[bucket == number][of_bucket > 0]) == list(range(len(part.y)))

    again = order(jax.random.key(0))
    np.testing.assert_array_equal(again.batches.index, index)
    other = order(jax.random.key(1))
    assert not np.array_equal(other.batches.index, index) or not np.array_equal(other.batches.bucket, bucket)


# Exactness -------------------------------------------------------------------------------------------------------------


def test_likelihoods_are_those_of_rows_that_are_padded_to_the_longest():
    setup = setup_of(NETWORK)
    state = drawn_state(setup)
    data = in_buckets()
    assert len(data.parts) == 2 and data.steps < 0.6 * len(LENGTHS) * max(LENGTHS)

    evaluated = quickly(evaluate.__wrapped__, "setup", "batch")
    scored = evaluated(setup, state.params, state.stats, data, BATCH)
    padded = evaluated(setup, state.params, state.stats, pianoroll._padded(pieces()), BATCH)
    np.testing.assert_allclose(scored["nats"], padded["nats"], rtol=1e-6)


def test_steps_are_those_of_rows_that_are_padded_to_the_longest():
    setup = setup_of(NETWORK)
    data = in_buckets()
    rows = feed.feed_of(data)
    drawn = quickly(lambda key: rows.order(key, BATCH))(drawn_state(setup).key)
    trained, log = quickly(epoch.__wrapped__, "setup", "batch")(setup, first_state(setup), data, BATCH)

    state = first_state(setup)
    step_on = quickly(step.__wrapped__, "setup")
    longest = max(LENGTHS)
    for number in range(len(drawn.batches.bucket)):
        bucket, index, weight = (leaf[number] for leaf in drawn.batches)
        part = data.parts[int(bucket)]
        missing = ((0, 0), (0, longest - part.x.shape[1]), (0, 0))
        batch = Batch(*(np.pad(array[np.asarray(index)], missing, constant_values=PADDING) for array in part))
        state, padded = step_on(setup, state, batch, weight)
        np.testing.assert_allclose(log.loss[number], padded.loss, rtol=1e-6)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-6), trained.params, state.params)


@pytest.mark.slow
def test_the_gradient_of_a_step_that_failed_is_explained():
    setup = setup_of(NETWORK)
    norms = gradient_norms(setup, first_state(setup), in_buckets(), BATCH, 2)
    _, log = epoch(setup, first_state(setup), in_buckets(), BATCH)
    total = np.sqrt(sum(np.square(norm) for norm in jax.tree.leaves(norms)))
    np.testing.assert_allclose(total, log.gradient_norm[2], rtol=1e-5)


@pytest.mark.slow
def test_four_devices_train_what_one_trains():
    network = RollNet(cells.named("gru"), hidden=3, dropout=0.5, recurrent_dropout=0.3)
    states = []
    for count in (1, 4):
        mesh = devices.make(jax.devices()[:count])
        setup = setup_of(network, mesh)
        state = devices.replicate(mesh, drawn_state(setup))
        data = devices.replicate(mesh, in_buckets())
        state, log = epoch(setup, state, data, BATCH)
        valid = evaluate(setup, state.params, state.stats, data, BATCH)
        states.append(jax.tree.map(np.asarray, (state.params, log.loss, valid["nats"])))
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-5), *states)


# Experiments -----------------------------------------------------------------------------------------------------------


def test_a_run_from_before_there_were_buckets_pads_all_rows_to_the_longest():
    experiment = named("pianoroll", buckets=5)
    config = experiments.to_config(experiment)
    del config["buckets"]
    old = experiments.from_config(config, "config.json")
    assert old == dataclasses.replace(experiment, buckets=1)
    assert isinstance(pianoroll._rows(pieces(), old), Batch)
    assert isinstance(pianoroll._rows(pieces(), dataclasses.replace(experiment, batch=BATCH)), Buckets)


@pytest.mark.parametrize("wrong", [0, 9])
def test_too_few_or_too_many_buckets_are_refused(wrong):
    with pytest.raises(UsageError) as error:
        named("pianoroll", buckets=wrong)
    assert "buckets" in error.value.where


def test_runs_in_one_program_are_refused_with_buckets(monkeypatch):
    job = SimpleNamespace(batches=SimpleNamespace(train=in_buckets()))
    monkeypatch.setattr(together.domains, "of", lambda experiment: SimpleNamespace(prepare=lambda _: job))
    member = Member(1, 0, named("pianoroll", buckets=5), Path("none"))
    with pytest.raises(UsageError, match="one run after the other") as error:
        together._prepare([member, member], Console(quiet=True))
    assert error.value.needed == "--buckets 1"


def test_a_piece_of_one_frame_is_a_row_of_padding():
    rolls = [np.zeros((1, 88), np.float32)] * 3 + [np.zeros((9, 88), np.float32)] * 3
    divided = pianoroll._rows(rolls, named("pianoroll", buckets=5, batch=1))
    assert [part.x.shape[1] for part in divided.parts] == [1, 8]
    assert np.all(divided.parts[0].y == divided.parts[0].x)
