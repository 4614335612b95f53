"""A run that begins with the parameters of a finished one: bit for bit those, with a fresh optimiser, and as it resumes."""

import dataclasses
import hashlib
import shutil
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest
from quick_compilation import quick_compilation

from jaxseq.checkpoint import run_seal
from jaxseq.common.errors import UsageError
from jaxseq.train import __main__ as train
from jaxseq.train import forecaster, refit, run_folder, warm_start
from jaxseq.train.domains import forecasts
from jaxseq.train.job import initial_state
from jaxseq.train.saved_experiment import saved_experiment

pytestmark = pytest.mark.usefixtures("compiled_quickly")


def digests(folder: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def params(folder: Path) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(forecaster.restore(folder).state.params)]


def words(rows: Path, out: Path, source: Path, *more: str) -> list[str]:
    data = ["--data.path", str(rows), "--data.series", "name", "--data.column", "sales", "--data.window", "8"]
    model = ["--model.hidden", "4", "--batch", "32", "--epochs", "1"]
    return ["table", *data, *model, "--warm-start", str(source), "--out", str(out), *more]


@pytest.fixture(scope="module")
def warm(panel_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the file of `panel_run`, which has grown by 20 days, that begins with its parameters."""
    folder = tmp_path_factory.mktemp("warm")
    known = pd.read_csv(panel_run.parent / "panel.csv", parse_dates=["date"])
    later = known.groupby("name").tail(20)
    later = later.assign(date=later["date"] + pd.Timedelta(days=20), sales=later["sales"] * 1.1)
    pd.concat([known, later]).to_csv(folder / "grown.csv", index=False)
    before = digests(panel_run)
    with quick_compilation():
        assert train.main(words(folder / "grown.csv", folder / "run", panel_run)) == 0
    assert digests(panel_run) == before
    return folder / "run"


def test_it_begins_with_the_parameters_that_were_judged_and_a_fresh_optimiser(warm: Path, panel_run: Path) -> None:
    job = warm_start.begun(forecasts.prepare(saved_experiment(warm)), panel_run)
    state = initial_state(job)
    for begun, source in zip(jax.tree.leaves(state.params), params(panel_run), strict=True):
        np.testing.assert_array_equal(np.asarray(begun), source)
    drawn = initial_state(forecasts.prepare(saved_experiment(warm)))
    assert int(state.step) == 0
    for fresh, other in zip(jax.tree.leaves(state.opt), jax.tree.leaves(drawn.opt), strict=True):
        np.testing.assert_array_equal(np.asarray(fresh), np.asarray(other))
    assert any(
        not np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(drawn.params), strict=True)
    )

    # The scale is that of the new training rows.
    judged = run_seal.read_judged(panel_run)
    config = run_folder.read_config(warm)
    assert judged is not None and config["warm_start"] == {
        "path": str(panel_run.resolve()),
        "run_id": judged.run_id,
        "epoch": judged.epoch,
        "state_sha256": judged.state_sha256,
    }
    rows = pd.read_csv(warm.parent / "grown.csv").groupby("name")["sales"].apply(np.array)
    for name, scale in zip(config["series"], config["scaling"]["scale"], strict=True):
        assert scale == pytest.approx(np.diff(rows[name][:70]).std())
    assert "--warm-start: parameters of" in (warm / "report.md").read_text()


@pytest.mark.slow
def test_one_whose_source_averages_its_weights_begins_with_the_average(
    panel_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = panel_run.parent / "panel.csv"
    source = [
        word for word in words(rows, tmp_path / "source", panel_run) if word not in ("--warm-start", str(panel_run))
    ]
    assert train.main([*source, "--ema", "0.9"]) == 0
    job = warm_start.begun(forecasts.prepare(saved_experiment(panel_run)), tmp_path / "source")
    for begun, judged in zip(jax.tree.leaves(initial_state(job).params), params(tmp_path / "source"), strict=True):
        np.testing.assert_allclose(np.asarray(begun), judged, rtol=1e-6)


@pytest.mark.slow
def test_one_that_is_killed_before_its_first_epoch_begins_as_before(
    warm: Path, panel_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    folder = shutil.copytree(warm, tmp_path / "run")
    shutil.rmtree(folder / "checkpoints")
    for name in ("metrics.jsonl", run_seal.JUDGED, *run_seal.OUTPUTS):
        (folder / name).unlink(missing_ok=True)
    unjudged = shutil.copytree(folder, tmp_path / "unjudged")
    assert train.main(["--resume", str(folder)]) == 0
    for resumed, undisturbed in zip(params(folder), params(warm), strict=True):
        np.testing.assert_array_equal(resumed, undisturbed)
    assert run_folder.read_config(folder) == run_folder.read_config(warm)

    # The source is read by its path, and has to be as it was.
    config = run_folder.read_config(unjudged)
    config["warm_start"]["state_sha256"] = "0" * 64
    run_folder.write_config(unjudged, config)
    assert train.main(["--resume", str(unjudged)]) == 2
    assert str(panel_run) in capsys.readouterr().err

    # A refit begins there, too, and not with the draws of the seed.
    refit.refit(folder)
    assert run_folder.read_config(folder / "refit")["warm_start"] == run_folder.read_config(warm)["warm_start"]


def test_another_architecture_or_a_damaged_source_is_one_line_and_writes_nothing(
    warm: Path, panel_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    rows = warm.parent / "grown.csv"
    out = tmp_path / "out"
    for more, values in {
        ("--model.hidden", "5"): ("--model.hidden", "5", "4"),
        ("--model.cell", "lstm"): ("--model.cell", "lstm", "gru"),
        ("--task", "direct", "--horizon", "2"): ("--task", "direct", "one-step"),
        ("--data.target", "level"): ("--data.target", "level", "change"),
        ("--seeds", "2"): ("--warm-start", "--seeds", "single"),
    }.items():
        assert train.main(words(rows, out, panel_run, *more)) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and all(value in error for value in values) and not out.exists()

    damaged = shutil.copytree(panel_run, tmp_path / "damaged")
    judged = run_seal.read_judged(damaged)
    assert judged is not None
    for path in (damaged / "checkpoints" / str(judged.epoch)).rglob("*"):
        if path.is_file() and path.stat().st_size > 100:
            path.write_bytes(path.read_bytes()[::-1])
    for source in (damaged, tmp_path / "none"):
        assert train.main(words(rows, out, source)) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and source.name in error and not out.exists()
    (damaged / "judged.json").write_text("{}")
    assert train.main(words(rows, out, damaged)) == 2
    assert "judged.json" in capsys.readouterr().err


def test_an_older_source_had_the_defaults_that_it_does_not_name(
    panel_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = run_folder.read_config(panel_run)
    older = {name: value for name, value in config["scaling"].items() if name not in ("power", "window_scale")}
    monkeypatch.setattr(run_folder, "read_config", lambda _: {**config, "scaling": older})
    saved = saved_experiment(panel_run)
    warm_start._check_scaling(forecasts.prepare(saved), panel_run)
    bent = dataclasses.replace(saved, data=dataclasses.replace(saved.data, transform="log"))
    with pytest.raises(UsageError, match=r"--data\.transform"):
        warm_start._check_scaling(forecasts.prepare(bent), panel_run)
