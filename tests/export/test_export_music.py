"""Exported models of music predict what their runs do: chorales from notes, piano rolls from frames."""

import importlib.util
import re
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exported import by_onnxruntime, by_reference, by_stablehlo, drawn
from pairwise import slow_except

from jaxseq.common.errors import UsageError
from jaxseq.export import __main__ as command
from jaxseq.export import formats
from jaxseq.music import tokens
from jaxseq.music.sampling import FREE
from jaxseq.train.domains.chorales import Composer
from jaxseq.train.domains.pianoroll import RollModel
from jaxseq.train.experiments import named
from jaxseq.train.experiments.chorale_networks import Chords, Fills, Notes
from jaxseq.train.experiments.pianoroll import Roll
from jaxseq.train.restore import restore

NETWORKS = {
    "notes": ("jsb", Notes("lstm", hidden=4, convolutions=(3, 4), embedding=4), "windows"),
    "notes of pieces": (
        "jsb",
        Notes("gru", hidden=4, convolutions=(3,), norm_convolutions=False, places=True),
        "pieces",
    ),
    "chords": ("jsb-chords", Chords("gru-before", hidden=4, embedding=4, voice_hidden=5, conditions=True), "pieces"),
    "chords of windows": ("jsb-chords", Chords("rnn", 4, embedding=4, voice_hidden=5, relative=False), "windows"),
    "fills": ("jsb-fill", Fills("lstm-peephole", hidden=4, layers=2, embedding=4, voice_hidden=5), "pieces"),
}
"""Each network, with and without its parts: experiment, options, and whether pieces begin with a start symbol."""
# A symbolic number of rows is no integer, as annotations have it.
pytestmark = pytest.mark.usefixtures("compiled_quickly", "unannotated")


def composer(name):
    """A model of chorales whose parameters are drawn."""
    experiment_name, model, protocol = NETWORKS[name]
    experiment = named(experiment_name, model=model, protocol=protocol)
    x = experiment.model.rows(np.zeros((2, 4), int), np.arange(2)).x[None]
    return Composer(experiment, 1, *drawn(experiment, jnp.asarray(x, jnp.int32)))


def piece(rows, steps):
    """Notes of pieces with held ones and a rest, and their positions, of bars that begin with an upbeat."""
    notes = np.random.default_rng(5).integers(tokens.LOWEST, tokens.HIGHEST + 1, (rows, steps, 4)).astype(np.int32)
    notes[:, 3:8] = notes[:, 3:4]
    notes[:, 9, 2] = 0
    positions = (13 + np.arange(steps, dtype=np.int32)) % 16
    return notes, np.broadcast_to(positions, (rows, steps))


def assert_predicted(outputs, wanted):
    np.testing.assert_allclose(outputs["log_probabilities"], wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["chords", "fills"])
def test_the_program_of_chorales_predicts_any_number_of_pieces_of_any_length(name):
    model = composer(name)
    notes, positions = piece(2, 21)
    if model.fills:
        notes[:, 5:9, 1] = FREE
    outputs = by_stablehlo(model, {"notes": notes, "positions": positions})
    assert_predicted(outputs, model.predict(notes, positions))
    np.testing.assert_allclose(np.exp(outputs["log_probabilities"]).sum(axis=-1), 1, rtol=1e-5)


@pytest.mark.parametrize("name", slow_except({"notes", "chords", "fills"}, list(NETWORKS)))
def test_the_graph_of_chorales_predicts_any_number_of_pieces_of_any_length(name):
    model = composer(name)
    notes, positions = piece(2, 25)
    # Held for longer than the longest duration that has an embedding of its own.
    notes[:, 4:, 3] = notes[:, 4:5, 3]
    if model.fills:
        notes[:, 5:9, 1] = FREE
    wanted = model.predict(notes, positions)
    inputs = {"notes": notes, "positions": positions}
    assert np.isnan(wanted[:, 0, 0]).all() == (not model.experiment.started)
    assert_predicted(by_reference(model, inputs), wanted)
    if importlib.util.find_spec("onnxruntime"):
        assert_predicted(by_onnxruntime(model, inputs), wanted)

    # As the program, a graph raises no error for notes that no symbol stands for.
    notes = notes.copy()
    notes[0, 2, 1] = tokens.LOWEST - 1
    outside = by_reference(model, {"notes": notes, "positions": positions})["log_probabilities"]
    assert np.isnan(outside[0]).all()
    np.testing.assert_allclose(outside[1], wanted[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "where"),
    [(Notes("mingru", hidden=4), "--model.cell"), (Notes("lstm", hidden=4, norm="layer"), "--model.norm")],
)
def test_layers_that_onnx_lacks_are_refused(options, where):
    experiment = named("jsb", model=options)
    with pytest.raises(UsageError) as caught:
        formats.named("onnx").files(Composer(experiment, 1, *drawn(experiment, jnp.zeros((1, 2, 2), jnp.int32))))
    assert caught.value.where == where and "stablehlo" in str(caught.value.needed)


def test_a_graph_has_no_reprises_and_says_which_run_has_none():
    experiment = named("jsb-chords", model=Chords("rnn", 4, embedding=4, voice_hidden=5, reprises=True))
    x = experiment.model.rows(np.zeros((2, 4), int), np.arange(2)).x[None]
    with pytest.raises(UsageError) as caught:
        formats.named("onnx").files(Composer(experiment, 1, *drawn(experiment, jnp.asarray(x, jnp.int32))))
    assert caught.value.where == "--model.reprises" and "--model.no-reprises" in str(caught.value.needed)


@pytest.mark.parametrize("cell", ["gru", pytest.param("lru", marks=pytest.mark.slow)])
def test_the_program_of_piano_rolls_predicts_any_number_of_frames(cell):
    experiment = named("pianoroll", model=Roll(cell=cell, hidden=4, convolutions=(5, 6), recurrent_dropout=0.0))
    rolls = RollModel(experiment, 1, *drawn(experiment, jnp.zeros((1, 2, 88))))
    frames = np.random.default_rng(6).integers(0, 2, (2, 11, 88)).astype(np.float32)
    wanted = rolls.predict(frames)
    if cell == "gru":
        log_odds = by_reference(rolls, {"frames": frames})["log_odds"]
        np.testing.assert_allclose(log_odds, wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(by_stablehlo(rolls, {"frames": frames})["log_odds"], wanted, rtol=1e-5, atol=1e-5)


def test_a_run_of_chorales_is_exported_as_it_predicts(chorales_run, tmp_path, monkeypatch):
    words = [str(chorales_run), "--to", "stablehlo,onnx,safetensors", "--out", str(tmp_path / "notes")]
    assert command.main(words) == 0
    monkeypatch.chdir(tmp_path / "notes")
    card = Path("README.md").read_text()
    of_onnx, of_stablehlo = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    names = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        exec(of_stablehlo, names)

    notes, positions = piece(2, 12)
    model = restore(chorales_run)
    log_p = np.asarray(names["program"].call({"notes": notes, "positions": positions})["log_probabilities"])
    np.testing.assert_allclose(log_p, model.predict(notes, positions), rtol=1e-5, atol=1e-5)
    # The sampler, which reads note by note, says the same of notes that are forced.
    symbols = np.stack([tokens.encode(row) for row in notes])
    forced = model.draw(jax.random.key(0), symbols, positions[0]).log_probability
    by_note = np.take_along_axis(log_p, symbols[..., None], axis=-1)[..., 0]
    assert np.isnan(by_note[:, 0, 0]).all()
    np.testing.assert_allclose(by_note, forced, rtol=1e-5, atol=1e-5)

    if importlib.util.find_spec("onnxruntime"):
        exec(of_onnx, names)
        (by_onnx,) = names["session"].run(None, {"notes": notes, "positions": positions})
        np.testing.assert_allclose(by_onnx, log_p, rtol=1e-5, atol=1e-5)

    # A program raises no error for notes that no symbol stands for.
    notes[0, 2, 1] = tokens.HIGHEST + 1
    outside = names["program"].call({"notes": notes, "positions": positions})["log_probabilities"]
    assert np.isnan(outside[0]).all()
    np.testing.assert_array_equal(outside[1], log_p[1])
    with pytest.raises(UsageError):
        model.predict(notes, positions)
