"""An exported forecaster gives the forecasts of its run, in the programs that it was written for."""

import json
import re
import sys
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import onnx.reference
import pytest
from pairwise import grid
from safetensors.numpy import load

from jaxseq.data.scaling import Scaling
from jaxseq.data.waves import Waves
from jaxseq.data.windows import lay_out
from jaxseq.export import __main__ as command
from jaxseq.export import formats, program
from jaxseq.train.epoch import Setup, init
from jaxseq.train.experiments import named
from jaxseq.train.experiments.forecasts import Model
from jaxseq.train.forecaster import Trained

WINDOW, ROWS = 7, 4


def by_name(*values):
    return {str(value): value for value in values}


CELLS = by_name("rnn", "lstm", "gru")
# A quantile of Student's t takes twenty seconds to compile.
QUICK_HEADS = by_name("point", "quantile")
KINDS = by_name("level", "change", "log-return")
TASKS = by_name("direct", "every-step")
NORMS = by_name("none", "layer")
LAYERS = {"1": 1, "2": 2}
# Task, and whether there is a backward layer, which would see the targets of every step.
WAYS = {"direct": ("direct", False), "every-step": ("every-step", False), "both": ("direct", True)}
# A symbolic number of rows is no integer, as annotations have it.
pytestmark = pytest.mark.usefixtures("compiled_quickly", "unannotated")


def scaling(kind, series=1, covariates=0, masks=()):
    return Scaling(
        kind,
        shift=tuple(np.linspace(40, 50, series)),
        scale=tuple(np.linspace(0.05, 0.1, series)),
        covariate_shift=(1.0,) * covariates,
        covariate_scale=(2.0,) * covariates,
        masks=masks,
    )


def forecaster(task="direct", kind="level", fitted=None, horizon=3, **model):
    """A forecaster whose parameters are drawn, biases too: a gate in the place of another shows."""
    fitted = fitted or scaling(kind)
    experiment = named(
        "waves", data=Waves(count=20, window=WINDOW), model=Model(hidden=5, **model), task=task, horizon=horizon
    )
    setup = Setup(experiment.build(), experiment.objective(), experiment.build_optimiser(1).transformation)
    state = init(setup, jax.random.key(0), jnp.zeros((1, WINDOW, fitted.features)))
    leaves, structure = jax.tree.flatten(state.params)
    draw = np.random.default_rng(1)
    params = jax.tree.unflatten(structure, [jnp.asarray(draw.normal(0, 0.4, a.shape), a.dtype) for a in leaves])
    return Trained(experiment, 1, setup, state._replace(params=params), fitted)


def windows(fitted, rows=ROWS):
    """Inputs by name, and the same as the run's own windows."""
    draw = np.random.default_rng(2)
    inputs = {"values": np.exp(draw.normal(4, 0.1, (rows, WINDOW)))}
    covariates = draw.normal(size=(rows, WINDOW, len(fitted.covariate_shift)))
    series = draw.integers(0, len(fitted.scale), rows)
    if covariates.shape[2]:
        inputs["covariates"] = covariates
    if len(fitted.scale) > 1:
        inputs["series"] = series.astype(np.int32)
    part = lay_out(inputs["values"], np.full((rows, 3), np.nan), series=series, covariates=covariates)
    return inputs, part


def by_reference(trained, inputs):
    """The forecast of onnx's own implementation, whose logistic function overflows on the way to the right value."""
    with np.errstate(over="ignore"):
        (forecast,) = onnx.reference.ReferenceEvaluator(onnx.load_from_string(onnx_file(trained))).run(None, inputs)
    return forecast


def expected(trained, part):
    forecast, _ = trained.forecast(part, trained.scaling)
    return forecast


def by_stablehlo(trained, inputs):
    content = formats.stablehlo(trained, program.program_of(trained))["forecast.jax_export"]
    with jax.enable_x64(True):
        outputs = jax.export.deserialize(content).call({name: jnp.asarray(value) for name, value in inputs.items()})
    return {name: np.asarray(value) for name, value in outputs.items()}


def onnx_file(trained):
    return formats.onnx(trained, program.program_of(trained))["forecast.onnx"]


# Every cell, head, scaling and strategy -------------------------------------------------------------------------------


@grid(cell=CELLS, head=QUICK_HEADS, task=TASKS, norm=NORMS)
def test_the_program_of_any_network_forecasts_as_its_run(cell, head, task, norm):
    trained = forecaster(task, "change", cell=cell, head=head, norm=norm)
    inputs, part = windows(trained.scaling)
    outputs = by_stablehlo(trained, inputs)
    np.testing.assert_allclose(outputs["forecast"], expected(trained, part), rtol=1e-6)
    assert ("quantiles" in outputs) == (head != "point")


@pytest.mark.slow
def test_the_quantiles_of_students_t_are_part_of_the_program():
    trained = forecaster(head="student-t")
    inputs, part = windows(trained.scaling)
    np.testing.assert_allclose(by_stablehlo(trained, inputs)["forecast"], expected(trained, part), rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_an_iterated_forecast_is_rolled_out_inside(kind):
    trained = forecaster("iterated", kind)
    inputs, part = windows(trained.scaling)
    np.testing.assert_allclose(by_stablehlo(trained, inputs)["forecast"], expected(trained, part), rtol=1e-6)


@grid(cell=CELLS, head=QUICK_HEADS, kind=KINDS, way=WAYS, layers=LAYERS)
def test_the_graph_of_onnx_forecasts_as_its_run(cell, head, kind, way, layers):
    task, bidirectional = way
    trained = forecaster(task, kind, cell=cell, head=head, layers=layers, bidirectional=bidirectional)
    inputs, part = windows(trained.scaling)
    forecast = by_reference(trained, inputs)
    np.testing.assert_allclose(forecast, expected(trained, part), rtol=1e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_the_graph_runs_in_onnxruntime(cell):
    onnxruntime = pytest.importorskip("onnxruntime")
    trained = forecaster("direct", "change", cell=cell, layers=2, bidirectional=True)
    inputs, part = windows(trained.scaling)
    session = onnxruntime.InferenceSession(onnx_file(trained), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, inputs)[0], expected(trained, part), rtol=1e-6)


@pytest.mark.parametrize("to", ["stablehlo", "onnx"])
def test_series_covariates_and_masks_are_inputs(to):
    trained = forecaster(fitted=scaling("change", series=3, covariates=2, masks=(0,)))
    inputs, part = windows(trained.scaling)
    assert set(inputs) == set(program.program_of(trained).shapes) == {"values", "covariates", "series"}
    if to == "stablehlo":
        forecast = by_stablehlo(trained, inputs)["forecast"]
    else:
        forecast = by_reference(trained, inputs)
    np.testing.assert_allclose(forecast, expected(trained, part), rtol=1e-6)


@pytest.mark.parametrize("rows", [1, 9])
def test_a_program_takes_any_number_of_rows(rows):
    trained = forecaster()
    inputs, part = windows(trained.scaling, rows)
    assert by_stablehlo(trained, inputs)["forecast"].shape == (rows, 3)
    np.testing.assert_allclose(by_reference(trained, inputs), expected(trained, part), rtol=1e-6)


@grid(cell=CELLS, way=WAYS, layers=LAYERS)
def test_the_module_of_the_card_loads_in_torch(cell, way, layers, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    from jaxseq.export import card

    task, bidirectional = way
    trained = forecaster(task, cell=cell, layers=layers, bidirectional=bidirectional)
    files = formats.torch(trained, program.program_of(trained))
    (tmp_path / "torch.safetensors").write_bytes(files["torch.safetensors"])
    monkeypatch.chdir(tmp_path)
    (snippet,) = re.findall(r"```python\n(.*?)```", card._call(trained, "torch"), re.DOTALL)
    names = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(snippet, names)

    _, part = windows(trained.scaling)
    x = torch.tensor(trained.scaling.inputs(part).astype(np.float32))
    with torch.no_grad():
        raw = names["model"](x).numpy()
    np.testing.assert_allclose(trained.scaling.invert(raw, part), expected(trained, part), rtol=1e-5)


def test_parameters_have_their_paths(tmp_path):
    trained = forecaster(norm="layer")
    arrays = load(formats.safetensors(trained, program.program_of(trained))["parameters.safetensors"])
    assert arrays["recurrent_0/cell/input_kernel"].shape == (1, 15)
    for name, array in arrays.items():
        node = trained.state.params
        for key in name.split("/"):
            node = node[key]
        np.testing.assert_array_equal(array, node)


def test_a_wrong_export_is_not_written(monkeypatch):
    trained = forecaster()
    monkeypatch.setattr(program, "computed", lambda *_: {"forecast": np.zeros((3, 3))})
    with pytest.raises(RuntimeError, match="the exported forecast differs"):
        formats.stablehlo(trained, program.program_of(trained))


# What cannot be exported ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("write", "options", "where"),
    [
        (formats.onnx, {"norm": "layer"}, "--model.norm"),
        (formats.onnx, {"task": "iterated"}, "--task"),
        (formats.onnx, {"kind": "count", "head": "negative-binomial"}, "--data.target"),
        (formats.torch, {"norm": "layer"}, "--model.norm"),
        (lambda trained, _: program.check_exportable(trained), {"task": "iterated", "head": "gaussian"}, "--task"),
    ],
)
def test_what_has_no_counterpart_is_refused(write, options, where):
    trained = forecaster(**options)
    with pytest.raises(command.UsageError) as caught:
        write(trained, program.program_of(trained))
    assert caught.value.where == where


# The command ----------------------------------------------------------------------------------------------------------


def export(*words):
    return command.main([str(word) for word in words])


def test_the_command_writes_files_and_a_card(aapl_run, tmp_path, capsys):
    out = tmp_path / "aapl"
    assert export(aapl_run, "--to", "stablehlo,onnx,safetensors,torch", "--out", out, "--licence", "apache-2.0") == 0
    names = {path.name for path in out.iterdir()}
    assert names == {
        "README.md",
        "export.json",
        "forecast.jax_export",
        "forecast.stablehlo",
        "forecast.onnx",
        "parameters.safetensors",
        "torch.safetensors",
    }
    front, text = (out / "README.md").read_text().split("---\n")[1:]
    assert "license: apache-2.0" in front
    assert "relative_mse" in front
    assert re.search(r"arrays of this epoch: `[0-9a-f]{64}`", text)
    # Twice is once.
    before = {path: path.read_bytes() for path in out.iterdir() if path.name != "export.json"}
    assert not any(b".py" in content for path, content in before.items() if path.suffix != ".md")
    assert export(aapl_run, "--to", "stablehlo,onnx,safetensors,torch", "--out", out, "--licence", "apache-2.0") == 0
    assert {path: path.read_bytes() for path in before} == before


def test_the_python_of_the_card_runs(aapl_run, tmp_path, monkeypatch, capsys):
    assert export(aapl_run, "--out", tmp_path / "card") == 0
    monkeypatch.chdir(tmp_path / "card")
    (snippet,) = re.findall(r"```python\n(.*?)```", Path("README.md").read_text(), re.DOTALL)
    capsys.readouterr()
    with warnings.catch_warnings():
        # The snippet leaves its file to Python.
        warnings.simplefilter("ignore", ResourceWarning)
        exec(snippet, {})
    assert capsys.readouterr().out.strip()


def test_figures_are_those_of_the_epoch_that_was_judged(aapl_run, tmp_path):
    judged = json.loads((aapl_run / "judged.json").read_text())["epoch"]
    other = {1: 2, 2: 1}[judged]
    assert export(aapl_run, "--to", "safetensors", "--epoch", other, "--out", tmp_path / "other") == 0
    text = (tmp_path / "other" / "README.md").read_text()
    assert "This epoch was not judged" in text
    assert "relative_mse" not in text


def test_a_run_on_several_series_names_its_inputs(panel_run, tmp_path):
    assert export(panel_run, "--to", "onnx", "--out", tmp_path / "panel") == 0
    assert "`series`" in (tmp_path / "panel" / "README.md").read_text()


def test_a_file_of_somebody_else_stays(aapl_run, tmp_path, capsys):
    out = tmp_path / "mine"
    out.mkdir()
    (out / "README.md").write_text("my notes")
    assert export(aapl_run, "--to", "safetensors", "--out", out) == 2
    assert "README.md" in capsys.readouterr().err
    assert (out / "README.md").read_text() == "my notes"
    assert len(list(out.iterdir())) == 1
    assert export(aapl_run, "--to", "safetensors", "--out", out, "--overwrite") == 0


def test_mistakes_are_one_line(aapl_run, chorales_run, tmp_path, capsys):
    for words, text in {
        (aapl_run, "--licence", "mit: x"): "--licence: no name of a licence",
        (aapl_run, "--to", "keras"): "--to: no such format; got 'keras'",
        (chorales_run,): "which forecasts nothing",
        (tmp_path / "none",): "no run at",
        (aapl_run, "--epoch", "9"): "no checkpoint of this epoch; got 9",
    }.items():
        assert export(*words, "--out", tmp_path / "out") == 2
        error = capsys.readouterr().err
        assert text in error
        assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_formats_are_those_of_the_command():
    assert tuple(formats.FORMATS) == command.NAMES


def test_without_the_extra_the_command_says_what_to_install(monkeypatch, aapl_run, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "onnx.reference", None)
    assert export(aapl_run, "--to", "onnx", "--out", tmp_path / "out") == 2
    assert 'pip install "jaxseq[export]"' in capsys.readouterr().err
