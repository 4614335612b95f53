"""The loops of torch's that our sampler is timed against compose by the same network."""

import jax
import numpy as np
import pytest

from jaxseq.cells import CELLS
from jaxseq.music.networks.note_net import NoteNet
from jaxseq.music.sampling import FREE, ancestral
from jaxseq.nn import apply

pytest.importorskip("torch")
from jaxseq.benchmark import sampling, turns
from jaxseq.benchmark.__main__ import Options, check
from jaxseq.benchmark.compare import Settings
from jaxseq.common.errors import UsageError

pytestmark = pytest.mark.usefixtures("compiled_quickly")

STEPS = 5


def network():
    """A small network of notes with random numbers, moments too."""
    model = NoteNet(CELLS["lstm"], hidden=8, convolutions=(6, 5, 7))
    notes = jax.numpy.zeros((1, 4, 2), jax.numpy.int32)
    params, stats = jax.eval_shape(lambda key: apply.init(model, key, notes), jax.random.key(0))
    source = np.random.default_rng(1)
    params = jax.tree.map(lambda p: jax.numpy.asarray(source.normal(0, 0.6, p.shape), p.dtype), params)
    return model, params, jax.tree.map(lambda m: jax.numpy.asarray(source.uniform(0.5, 2, m.shape), m.dtype), stats)


@pytest.mark.parametrize("name", sampling.PEERS)
def test_torch_says_of_its_own_notes_what_we_say_of_them(name):
    model, params, stats = network()
    notes, logits = sampling.PEERS[name](sampling.Composer(model, params, stats, 3, STEPS))()
    forced = notes.reshape(3, STEPS, 4)
    variables = {"params": params, **stats}
    found = ancestral(model, variables, jax.random.key(0), forced, np.arange(STEPS), started=False)
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    expected = np.take_along_axis(log_p, notes[:, 1:, None], axis=-1)[..., 0]
    np.testing.assert_allclose(np.asarray(found.log_probability).reshape(3, -1)[:, 1:], expected, atol=2e-5)
    assert len(np.unique(notes)) > 5


def test_our_turn_composes_other_notes_each_time():
    work = sampling.ours(sampling.Composer(*network(), rows=2, steps=STEPS))
    first, second = work(), work()
    assert first.shape == (2, STEPS, 4) and (first != second).any()
    assert (first != FREE).all() and (first[:, 0, 0] == sampling.FIRST).all()


def test_everybody_is_timed_in_turn(monkeypatch):
    monkeypatch.setattr(sampling, "ours", lambda *_: lambda: None)
    monkeypatch.setattr(sampling, "PEERS", {"torch": lambda *_: lambda: None, "torch by hand": lambda *_: lambda: None})
    times = {"ours": [1.0, 2.0, 4.0], "torch": [40.0, 60.0, 80.0], "torch by hand": [10.0, 12.0, 8.0]}
    planted = {name: turns.Times(milliseconds, 1) for name, milliseconds in times.items()}
    monkeypatch.setattr(turns, "measure", lambda *_, **__: planted)
    found = sampling.measure(1, Settings())
    assert found["ms"] == {"ours": 2.0, "torch": 60.0, "torch by hand": 10.0}
    assert found["ratio"] == {"torch": 30.0, "torch by hand": 6.0}
    assert found["ratio_range"]["torch"] == [20.0, 40.0]
    assert "| 30.0 (20.0-40.0) |" in sampling.table([found])


@pytest.mark.parametrize("other", [{"cell": "rnn"}, {"only": "GRU"}])
def test_sampling_stands_alone(other):
    with pytest.raises(UsageError, match="does not go with this option"):
        check(Options(sampling=True, **other))
