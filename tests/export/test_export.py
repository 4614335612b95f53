"""An exported model gives what its run gives, in the programs that it was written for."""

import dataclasses
import itertools
import json
import re
import shutil
import sys
import warnings
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import onnx.reference
import pandas as pd
import pytest
from exported import by_onnxruntime, by_reference, by_stablehlo, drawn
from pairwise import grid, slow_except
from safetensors.numpy import load

from jaxseq.common import sealed
from jaxseq.common.errors import UsageError
from jaxseq.data.earlier import Earlier
from jaxseq.data.scaling import Scaling
from jaxseq.data.waves import Waves
from jaxseq.data.windows import Series, lay_out
from jaxseq.export import __main__ as command
from jaxseq.export import formats, program
from jaxseq.export.kinds import forecasts
from jaxseq.forecasting.adaptive import KEPT_SCORES
from jaxseq.forecasting.intervals import Intervals, end_names
from jaxseq.train.experiments import named
from jaxseq.train.experiments.forecasts import Model
from jaxseq.train.forecaster import Trained
from jaxseq.train.restore import restore

WINDOW, ROWS = 7, 4


def by_name(*values):
    return {str(value): value for value in values}


CELLS = by_name("rnn", "lstm", "gru")
GRAPH_HEADS = by_name("point", "quantile", "gaussian")
# A quantile of Student's t takes twenty seconds to compile.
QUICK_HEADS = by_name("point", "quantile")
KINDS = by_name("level", "change", "log-return")
TASKS = by_name("direct", "every-step")
NORMS = by_name("none", "layer")
LAYERS = {"1": 1, "2": 2}
# Task, and whether there is a backward layer, which would see the targets of every step.
SIZES = by_name("split", "scaled", "volatility")
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


def margins(size="split", kind=None, floor=45.0, series=()):
    """Intervals of two levels, of which the wider one would be the narrower at the last step."""
    scores = np.sort(np.random.default_rng(3).normal(size=(2, 3, KEPT_SCORES)))
    return Intervals(
        kind or size,
        levels=(0.5, 0.8),
        sizes=((0.1, 0.2, 0.5), (0.3, 0.4, -0.2)),
        size=size,
        least=0.01,
        series=series,
        scores=scores.tolist() if kind == "adaptive" else (),
        floor=floor,
    )


def forecaster(task="direct", kind="level", fitted=None, horizon=3, intervals=None, **model):
    """A forecaster whose parameters are drawn."""
    fitted = fitted or scaling(kind)
    experiment = named(
        "waves", data=Waves(count=20, window=WINDOW), model=Model(hidden=5, **model), task=task, horizon=horizon
    )
    setup, state = drawn(experiment, jnp.zeros((1, WINDOW, fitted.features)))
    return Trained(experiment, 1, setup, state, fitted, intervals)


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


def with_ends(forecast, bounds):
    """Forecast and intervals by the names of a program's results."""
    results = {"forecast": forecast}
    for level, ends in bounds.items():
        results |= dict(zip(end_names(level), ends, strict=True))
    return results


def expected(trained, part, series=()):
    return with_ends(*trained.forecast(part, trained.scaling, series=series))


def assert_equal(found, wanted, rtol=1e-6):
    assert found.keys() >= wanted.keys()
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, rtol=rtol, err_msg=name)


# Every cell, head, scaling and strategy -------------------------------------------------------------------------------


@grid(cell=CELLS, head=QUICK_HEADS, task=TASKS, norm=NORMS)
def test_the_program_of_any_network_forecasts_as_its_run(cell, head, task, norm):
    trained = forecaster(task, "change", cell=cell, head=head, norm=norm)
    inputs, part = windows(trained.scaling)
    outputs = by_stablehlo(trained, inputs)
    assert_equal(outputs, expected(trained, part))
    assert ("quantiles" in outputs) == ("low_95" in outputs) == (head != "point")


@pytest.mark.slow
def test_the_quantiles_of_students_t_are_part_of_the_program():
    trained = forecaster(head="student-t")
    inputs, part = windows(trained.scaling)
    assert_equal(by_stablehlo(trained, inputs), expected(trained, part))


@pytest.mark.parametrize("kind", slow_except({"log-return"}, list(KINDS)))
def test_an_iterated_forecast_is_rolled_out_inside(kind):
    trained = forecaster("iterated", kind)
    inputs, part = windows(trained.scaling)
    assert_equal(by_stablehlo(trained, inputs), expected(trained, part))


@grid(cell=CELLS, head=GRAPH_HEADS, kind=KINDS, way=WAYS, layers=LAYERS, size=SIZES)
def test_the_graph_of_onnx_forecasts_as_its_run(cell, head, kind, way, layers, size):
    task, bidirectional = way
    model = {"cell": cell, "head": head, "layers": layers, "bidirectional": bidirectional}
    trained = forecaster(task, kind, intervals=margins(size), **model)
    inputs, part = windows(trained.scaling)
    assert_equal(by_reference(trained, inputs), expected(trained, part))


@pytest.mark.parametrize(
    ("kind", "size"),
    slow_except(
        {("season", "volatility"), ("level", "split"), ("log-return", "split"), ("seasons", "split")},
        list(itertools.product(("season", "seasons", "level", "log-return"), ("split", "volatility"))),
    ),
)
def test_what_a_window_is_scaled_by_itself_and_its_skip_are_inside(kind, size):
    earlier = {"season": Earlier(3), "seasons": Earlier(2, 3, 0.5)}.get(kind, Earlier())
    fitted = dataclasses.replace(scaling(kind), **earlier._asdict(), by_window=True)
    trained = forecaster(fitted=fitted, intervals=margins(size), skip=True, horizon=3)
    params = dict(trained.state.params)
    # It begins with zeros, which would show nothing.
    kernel = np.random.default_rng(0).normal(size=params["skip"]["kernel"].shape).astype(np.float32)
    trained = trained._replace(state=trained.state._replace(params=params | {"skip": {"kernel": kernel}}))
    inputs, part = windows(fitted)
    wanted = expected(trained, part)
    assert_equal(by_stablehlo(trained, inputs), wanted)
    assert_equal(by_reference(trained, inputs), wanted)
    with_zeros = trained._replace(state=trained.state._replace(params=params | {"skip": {"kernel": 0 * kernel}}))
    assert np.abs(expected(with_zeros, part)["forecast"] / wanted["forecast"] - 1).max() > 1e-3


@pytest.mark.parametrize("cell", slow_except({"lstm"}, list(CELLS)))
def test_the_graph_runs_in_onnxruntime(cell):
    head = {"rnn": "point", "lstm": "quantile", "gru": "gaussian"}[cell]
    intervals = margins("volatility")
    trained = forecaster("direct", "change", cell=cell, layers=2, bidirectional=True, head=head, intervals=intervals)
    inputs, part = windows(trained.scaling)
    assert_equal(by_onnxruntime(trained, inputs), expected(trained, part))


@pytest.mark.parametrize("to", ["stablehlo", "onnx"])
def test_series_covariates_and_masks_are_inputs(to):
    fitted = scaling("change", series=3, covariates=2, masks=(0,))
    trained = forecaster(fitted=fitted, intervals=margins("scaled", series=(0.5, 1.0, 2.0)))
    inputs, part = windows(trained.scaling)
    assert set(inputs) == set(forecasts.program_of(trained).shapes) == {"values", "covariates", "series"}
    write = {"stablehlo": by_stablehlo, "onnx": by_reference}[to]
    assert_equal(write(trained, inputs), expected(trained, part))


@pytest.mark.parametrize(
    ("head", "intervals"),
    [("quantile", margins("scaled")), ("point", margins("split", "adaptive")), ("point", margins("volatility"))],
    ids=["scaled", "adaptive", "volatility"],
)
def test_intervals_are_those_of_the_run(head, intervals):
    trained = forecaster(kind="log-return", head=head, intervals=intervals)
    past = 0
    # A volatility is that of all values that are known before the forecast.
    if intervals.size == "volatility":
        past = 20
    values = np.exp(np.random.default_rng(4).normal(4, 0.1, (1, past + WINDOW)))
    series = [Series(np.arange(past + WINDOW), values[0])]
    part = lay_out(values[:, -WINDOW:], np.full((1, 3), np.nan), origins=np.array([past + WINDOW]))
    wanted = expected(trained, part, series)
    assert {"low_50", "high_50", "low_80", "high_80"} < wanted.keys()
    assert_equal(by_stablehlo(trained, {"values": values}), wanted)
    assert_equal(by_reference(trained, {"values": values}), wanted)


@pytest.mark.parametrize("rows", [1, 9])
def test_a_program_takes_any_number_of_rows(rows):
    trained = forecaster()
    inputs, part = windows(trained.scaling, rows)
    assert by_stablehlo(trained, inputs)["forecast"].shape == (rows, 3)
    assert_equal(by_reference(trained, inputs), expected(trained, part))


@grid(cell=CELLS, way=WAYS, layers=LAYERS)
def test_the_module_of_the_card_loads_in_torch(cell, way, layers, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    task, bidirectional = way
    skip = task == "direct"
    trained = forecaster(task, cell=cell, layers=layers, bidirectional=bidirectional, skip=skip)
    if skip:
        kernel = trained.state.params["skip"]["kernel"] + 0.1
        trained = trained._replace(
            state=trained.state._replace(params=trained.state.params | {"skip": {"kernel": kernel}})
        )
    torch_format = formats.named("torch")
    files = torch_format.files(trained)
    (tmp_path / "torch.safetensors").write_bytes(files["torch.safetensors"])
    monkeypatch.chdir(tmp_path)
    (snippet,) = re.findall(r"```python\n(.*?)```", torch_format.call(trained), re.DOTALL)
    names = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(snippet, names)

    _, part = windows(trained.scaling)
    x = torch.tensor(trained.scaling.inputs(part).astype(np.float32))
    with torch.no_grad():
        raw = names["model"](x).numpy()
    np.testing.assert_allclose(trained.scaling.invert(raw, part), expected(trained, part)["forecast"], rtol=1e-5)


@pytest.mark.parametrize("series", [1, 2])
def test_the_card_of_torch_states_one_scale_for_a_single_series_alone(series):
    trained = forecaster(fitted=scaling("change", series=series))
    assert ("as in the recipe" in formats.named("torch").call(trained)) == (series > 1)


def test_parameters_have_their_paths(tmp_path):
    trained = forecaster(norm="layer")
    arrays = load(formats.named("safetensors").files(trained)["parameters.safetensors"])
    assert arrays["recurrent_0/cell/input_kernel"].shape == (1, 15)
    for name, array in arrays.items():
        node = trained.state.params
        for key in name.split("/"):
            node = node[key]
        np.testing.assert_array_equal(array, node)


def test_a_wrong_export_is_not_written(monkeypatch):
    trained = forecaster()
    wrong = forecasts.program_of(trained)._replace(own=lambda _: {"forecast": np.zeros((3, 3))})
    monkeypatch.setattr(forecasts, "KIND", forecasts.KIND._replace(program=lambda _: wrong))
    for to in ("stablehlo", "onnx"):
        with pytest.raises(RuntimeError, match="the exported forecast differs"):
            formats.named(to).files(trained)


def test_each_series_is_checked_by_its_own_scale():
    trained = forecaster(fitted=Scaling("change", shift=(0.0, 0.0), scale=(1e-6, 10.0)))
    exported = forecasts.program_of(trained)
    assert exported.example["series"].tolist() == [0, 1, 0]
    forecast = exported.own(exported.example)["forecast"]
    program.check(exported, {"forecast": forecast})
    for row in range(2):
        of_last_value = forecast.copy()
        of_last_value[row] = exported.example["values"][row, -1]
        with pytest.raises(RuntimeError, match="the exported forecast differs"):
            program.check(exported, {"forecast": of_last_value})


def test_a_run_of_less_precision_is_compared_in_full():
    trained = forecaster()
    on_a_gpu = trained._replace(setup=trained.setup._replace(precision="tf32"))
    assert forecasts.program_of(on_a_gpu).own.args[0].setup == trained.setup


# What cannot be exported ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("to", "options", "where"),
    [
        ("onnx", {"norm": "layer"}, "--model.norm"),
        ("onnx", {"task": "iterated"}, "--task"),
        ("onnx", {"kind": "count", "head": "negative-binomial"}, "--data.target"),
        ("torch", {"norm": "layer"}, "--model.norm"),
        ("stablehlo", {"task": "iterated", "head": "gaussian"}, "--task"),
    ],
)
def test_what_has_no_counterpart_is_refused(to, options, where):
    trained = forecaster(**options)
    with pytest.raises(UsageError) as caught:
        formats.named(to).files(trained)
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
    scores = pd.read_csv(aapl_run / "scores.csv").iloc[-1]
    assert f"| 80% | {scores['coverage_80%']:.1%} |" in text
    assert re.search(r"arrays of this epoch: `[0-9a-f]{64}`", text)
    # Twice is once.
    before = {path: path.read_bytes() for path in out.iterdir() if path.name != "export.json"}
    assert not any(b".py" in content for path, content in before.items() if path.suffix != ".md")
    assert export(aapl_run, "--to", "stablehlo,onnx,safetensors,torch", "--out", out, "--licence", "apache-2.0") == 0
    assert {path: path.read_bytes() for path in before} == before

    # With all values that the run knows, the file forecasts beyond their end as the run does.
    trained = restore(aapl_run)
    values = trained.experiment.data.panel().series[0].values[None]
    with np.errstate(over="ignore"):
        results = onnx.reference.ReferenceEvaluator(onnx.load(out / "forecast.onnx")).run(None, {"values": values})
    table = trained.predict().table
    columns = ["forecast", *(f"{end}_{level}%" for level in (50, 80, 95) for end in ("low", "high"))]
    np.testing.assert_allclose(np.ravel(results), table[columns].to_numpy()[0], rtol=1e-5)


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


def test_figures_are_those_of_the_epoch_that_was_judged(aapl_run, tmp_path, capsys):
    judged = json.loads((aapl_run / "judged.json").read_text())["epoch"]
    other = {1: 2, 2: 1}[judged]
    assert export(aapl_run, "--to", "safetensors", "--epoch", other, "--out", tmp_path / "other") == 0
    text = (tmp_path / "other" / "README.md").read_text()
    assert "This epoch was not judged" in text
    assert "relative_mse" not in text
    # One card says how the files of one model are called.
    capsys.readouterr()
    assert export(aapl_run, "--to", "torch", "--out", tmp_path / "other") == 2
    assert "an export of another model is there" in capsys.readouterr().err


def test_the_card_lists_every_format_that_is_there(aapl_run, tmp_path, capsys):
    out = tmp_path / "out"

    def card(*words):
        assert export(aapl_run, *words, "--out", out) == 0
        return re.findall(r"^(?:license: |## )(.*)", (out / "README.md").read_text(), re.MULTILINE)

    assert card("--to", "torch", "--licence", "mit") == ["mit", "torch", "The recipe"]
    assert card("--to", "safetensors") == ["mit", "safetensors", "torch", "The recipe"]
    assert card("--to", "torch", "--licence", "bsd") == ["bsd", "safetensors", "torch", "The recipe"]
    # A file that was changed, or is gone, is no format of this model any more.
    (out / "torch.safetensors").write_bytes(b"")
    assert card("--to", "safetensors") == ["bsd", "safetensors", "The recipe"]

    # The run of the same name in another folder.
    record = out / "export.json"
    sealed.write(record, {**sealed.read(record), "arrays": 64 * "0"})
    capsys.readouterr()
    assert export(aapl_run, "--to", "safetensors", "--out", out) == 2
    assert "an export of another model is there" in capsys.readouterr().err
    assert card("--to", "safetensors", "--overwrite") == ["other", "safetensors", "The recipe"]


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


def test_only_a_new_folder_or_that_of_an_export_is_written_into(aapl_run, tmp_path, capsys, monkeypatch):
    run = shutil.copytree(aapl_run, tmp_path / "run")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(run / "checkpoints")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    outs = {
        "thesis": "holds other files than an export: chapter.txt",
        "file": "is no folder",
        "run": "lies in the run",
        "run/export": "lies in the run",
        "link": "lies in the run",
        ".": "holds other files",
    }
    with monkeypatch.context() as patch:
        # A refusal comes before any work.
        patch.setattr("jaxseq.train.restore.restore", lambda *_: pytest.fail("restored"))
        for out, text in outs.items():
            assert export(run, "--to", "safetensors", "--out", tmp_path / out) == 2
            error = capsys.readouterr().err
            assert text in error and error.count("\n") == 1
        assert export(run, "--to", "safetensors", "--out", run / "export", "--overwrite") == 2
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before

    # A dot is a run as well, and an export may grow by another format.
    monkeypatch.chdir(run)
    for to in ("safetensors", "torch", "safetensors"):
        assert export(".", "--to", to) == 0
    assert {path.name for path in (tmp_path / "run-export").iterdir()} >= {
        "parameters.safetensors",
        "torch.safetensors",
    }
    assert export(run, "--to", "safetensors", "--out", tmp_path / "thesis", "--overwrite") == 0
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "mine"


def test_mistakes_are_one_line(aapl_run, chorales_run, tmp_path, capsys):
    for words, text in {
        (aapl_run, "--licence", "mit: x"): "--licence: no name of a licence",
        (aapl_run, "--to", "keras"): "--to: no such format; got 'keras'",
        (
            chorales_run,
            "--to",
            "safetensors,torch",
        ): "--to: takes no run of jsb (chorales); got 'torch', needed onnx or safetensors or",
        (tmp_path / "none",): "no run at",
        (aapl_run, "--epoch", "9"): "no checkpoint of this epoch; got 9",
    }.items():
        assert export(*words, "--out", tmp_path / "out") == 2
        error = capsys.readouterr().err
        assert text in error
        assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("to", "module"), {"onnx": "onnx.reference", "stablehlo": "flatbuffers", "safetensors": "safetensors.numpy"}.items()
)
def test_without_the_extra_the_command_says_what_to_install(to, module, monkeypatch, aapl_run, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, module, None)
    assert export(aapl_run, "--to", to, "--out", tmp_path / "out") == 2
    assert 'pip install "jaxseq[export]"' in capsys.readouterr().err
