"""Kinds of networks through every command: trained, resumed bit for bit, restored, refused and exported."""

import dataclasses
import json

import numpy as np
import pytest
import safetensors.numpy
from pairwise import slow_except
from rich.console import Console

from jaxseq.checkpoint import run_seal
from jaxseq.common.errors import UsageError
from jaxseq.data.waves import Waves
from jaxseq.export import __main__ as export
from jaxseq.nn import networks
from jaxseq.train import overrides, run
from jaxseq.train.domains import forecasts
from jaxseq.train.experiments import from_config, named, to_config
from jaxseq.train.experiments.forecasts import Model
from jaxseq.train.job import initial_state
from jaxseq.train.restore import restore

pytestmark = pytest.mark.usefixtures("compiled_quickly")

KINDS = ("residual", "dilated", "convolved", "wavenet", "encoder-decoder", "deepar")
PROGRAMS = ("residual", "dilated", "convolved", "wavenet", "encoder-decoder")


def recipe(kind, **fields):
    defaults = {
        "data": Waves(count=60, window=9),
        "batch": 16,
        "epochs": 2,
        "schedule": "constant",
        "task": "direct",
        "horizon": 3,
    }
    model = Model("gru", 3, 2, kind=kind)
    if kind == "deepar":
        defaults["task"] = "iterated"
        model = dataclasses.replace(model, head="gaussian")
    return named("waves", **{**defaults, "model": model, **fields})


def train(experiment, **place):
    return run.train(experiment, console=Console(quiet=True), **place)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_resumes_bit_for_bit(kind, tmp_path):
    experiment = recipe(kind)
    whole = train(experiment, out=tmp_path / "whole")
    parts = train(dataclasses.replace(experiment, epochs=1), out=tmp_path / "parts")
    train(experiment, resume=parts)
    for name in (run_seal.SCORES, run_seal.PREDICTIONS):
        assert (parts / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize("kind", slow_except({"dilated"}, KINDS))
def test_a_run_is_restored_and_exported_as_parameters(kind, tmp_path, capsys):
    whole = train(recipe(kind, epochs=1), out=tmp_path / "whole")
    restored = restore(whole)
    assert type(restored.setup.model) is networks.KINDS[kind].network
    assert restored(np.zeros((2, 9))).shape == (2, 3)
    assert export.main([str(whole), "--to", "safetensors", "--out", str(tmp_path / "exported")]) == 0
    arrays = safetensors.numpy.load_file(tmp_path / "exported" / "parameters.safetensors")
    params = restored.state.params
    place = "decoder/head/kernel" if kind == "encoder-decoder" else "head/kernel"
    np.testing.assert_array_equal(arrays[place], params.get("decoder", params)["head"]["kernel"])
    assert export.main([str(whole), "--to", "torch", "--out", str(tmp_path / "none")]) == 2
    assert f"got '--model.kind {kind}', needed --to stablehlo or safetensors" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("kind", PROGRAMS)
def test_a_network_is_exported_as_a_program_but_to_no_graph(kind, unannotated, tmp_path, capsys):
    """The program checks its own numbers against the run's."""
    folder = train(recipe(kind, epochs=1), out=tmp_path / "run")
    assert export.main([str(folder), "--to", "stablehlo", "--out", str(tmp_path / "program")]) == 0
    assert export.main([str(folder), "--to", "onnx", "--out", str(tmp_path / "none")]) == 2
    assert f"got '--model.kind {kind}'" in capsys.readouterr().err


def test_a_config_from_before_the_kinds_is_a_stack():
    saved = json.loads(json.dumps(to_config(recipe("stacked"))))
    assert saved["model"].pop("kind") == "stacked"
    assert from_config(saved, "config.json") == recipe("stacked")


def test_a_kind_of_a_single_layer_is_refused():
    with pytest.raises(UsageError, match=r"differs from a single layer.*--model.layers 2"):
        recipe("dilated", model=Model("gru", 3, kind="dilated"))


def test_deepar_is_trained_at_every_step_of_the_window():
    prepared = forecasts.prepare(recipe("deepar"))
    whole = np.concatenate([prepared.data.train.x[:, 1:, 0], prepared.data.train.y[:, -1]], axis=1)
    np.testing.assert_allclose(prepared.data.train.y[..., 0], whole, atol=1e-5)
    assert prepared.setup.model.every_step and prepared.setup.model.outputs == 2


@pytest.mark.slow
def test_deepar_forecasts_as_any_iterated_network():
    prepared = forecasts.prepare(recipe("deepar"))
    state = initial_state(prepared)
    part = prepared.material.windows.valid
    drawn = forecasts.forecaster.forecast(prepared, state, part)
    # Equal parameters in a network of the last step alone.
    setup = prepared.setup._replace(model=prepared.setup.model.clone(every_step=False))
    expected = forecasts.forecaster.forecast(dataclasses.replace(prepared, setup=setup), state, part)
    assert drawn.centre.shape[1] == 3
    np.testing.assert_allclose(drawn.centre, expected.centre, atol=1e-6)
    np.testing.assert_allclose(drawn.quantiles, expected.quantiles, atol=1e-6)


@pytest.mark.slow
def test_an_iterated_forecast_of_a_large_part_is_made_in_pieces(monkeypatch):
    forecaster = forecasts.forecaster
    prepared = forecasts.prepare(recipe("deepar"))
    state = initial_state(prepared)
    part = prepared.material.windows.train
    count = len(part.origins)
    whole = forecaster.forecast(prepared, state, part)
    monkeypatch.setattr(forecaster, "DRAWN", 20 * forecaster.PATHS * part.horizon)
    in_pieces = forecaster.forecast(prepared, state, part)

    assert count > 20 and in_pieces.centre.shape == whole.centre.shape == (count, 3)
    np.testing.assert_allclose(in_pieces.centre, whole.centre, rtol=1e-5, atol=1e-6)
    # The first piece begins as the whole part does; each has draws of its own, of the same distribution.
    assert in_pieces.quantiles.shape == whole.quantiles.shape
    assert np.unique(in_pieces.quantiles[:, 0] - in_pieces.centre[:, :1], axis=0).shape[0] == count
    np.testing.assert_allclose(in_pieces.quantiles.mean(axis=0), whole.quantiles.mean(axis=0), atol=0.15)
    again = forecaster.forecast(prepared, state, part)
    np.testing.assert_array_equal(again.quantiles, in_pieces.quantiles)


def test_a_ridge_regression_is_no_start_of_a_decoder():
    with pytest.raises(UsageError, match=r"an intercept for each step.*--start random"):
        recipe("encoder-decoder", start="ridge")
    assert not recipe("encoder-decoder", start="auto").starts_from_ridge


def test_a_network_is_named_with_its_kind():
    made = named("waves", model=Model(layers=2))
    assert overrides.network_name(made) == "gru"
    dilated = dataclasses.replace(made, model=Model(layers=2, kind="dilated"))
    assert overrides.network_words(dilated) == "dilated gru of 50 units"
    # It has no recurrent layer.
    convolutions = dataclasses.replace(made, model=Model(layers=8, kind="wavenet"))
    assert overrides.network_words(convolutions) == "wavenet of 50 units"
