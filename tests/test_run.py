"""A run restored: the same numbers as it wrote, from raw windows, without its data."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest

from jaxseq import run, train
from jaxseq.checkpoint.records import DamagedError
from jaxseq.data import prices
from jaxseq.data.prices import Prices
from jaxseq.errors import UsageError
from jaxseq.experiments import Aapl, Model

WINDOW = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was trained for three epochs at a high rate, so that its forecasts are not the naive one."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    words = f"--model.hidden 4 --data.window {WINDOW} --batch 256 --lr 0.02 --epochs 3 --out {folder}"
    assert train.main(words.split()) == 0
    return folder


@pytest.fixture(scope="module")
def windows() -> np.ndarray:
    return Prices(window=WINDOW).windows().test.inputs


def test_a_restored_run_forecasts_what_it_wrote(folder: Path, windows: np.ndarray) -> None:
    written = pd.read_csv(folder / "predictions.csv")
    forecast = run.restore(folder)(windows)
    assert forecast.shape == (491, 1)
    np.testing.assert_allclose(forecast[:, 0], written["forecast"], atol=1e-4)
    assert np.abs(written["forecast"] - written["naive"]).mean() > 0.01


def test_one_window_gives_what_it_gives_among_many(folder: Path, windows: np.ndarray) -> None:
    forecaster = run.restore(folder)
    one = forecaster(windows[7])
    assert one.shape == (1,)
    np.testing.assert_allclose(one, forecaster(windows)[7], atol=1e-4)


def test_more_windows_than_one_batch_are_forecast_alike(folder: Path, windows: np.ndarray) -> None:
    forecaster = run.restore(folder)
    many = forecaster(np.concatenate([windows, windows]))
    np.testing.assert_allclose(many[:491], many[491:], atol=1e-4)


def test_a_restored_run_needs_no_data_file(
    folder: Path, windows: np.ndarray, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    prices._read.cache_clear()
    monkeypatch.setattr(prices, "FILE", tmp_path / "gone.csv.gz")
    with pytest.raises(UsageError):
        Prices(window=WINDOW).series()
    assert np.isfinite(run.restore(folder)(windows[:2])).all()


def test_the_best_epoch_is_restored_or_the_one_that_is_named(folder: Path, windows: np.ndarray) -> None:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    best = min(rows, key=lambda row: row["valid_mse"])["epoch"]
    other = 2 if best == 3 else 3  # the last two epochs and the best are kept
    assert run.restore(folder).epoch == best and run.restore(folder, other).epoch == other
    assert np.abs(run.restore(folder)(windows) - run.restore(folder, other)(windows)).max() > 1e-4
    with pytest.raises(UsageError, match="no step 9"):
        run.restore(folder, 9)


@pytest.mark.parametrize("shape", [(WINDOW + 1,), (3, WINDOW - 1), (2, 2, WINDOW), (0,)])
def test_windows_of_another_shape_are_refused_with_both_numbers(folder: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError) as raised:
        run.restore(folder).__call__.__wrapped__(run.restore(folder), np.ones(shape))
    assert f"windows of {WINDOW} values" in str(raised.value) and str(shape) in str(raised.value)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused_with_their_number(
    folder: Path, windows: np.ndarray, value: float
) -> None:
    broken = windows[:2].copy()
    broken[1, 3] = value
    with pytest.raises(UsageError, match=rf"1 of {2 * WINDOW} values are not finite.*row {WINDOW + 4} .*{value}"):
        run.restore(folder)(broken)


def test_what_is_no_sound_run_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run at"):
        run.restore(tmp_path / "nowhere")
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    config = json.loads((copy / "config.json").read_text())
    for scaling in (None, [], {}, {"kind": "change", "shift": 0.0, "scale": "x"}, {"kind": "odd"}, {"width": 1.0}):
        (copy / "config.json").write_text(json.dumps({**config, "scaling": scaling}))
        with pytest.raises(UsageError, match=r"config\.json: scaling"):
            run.restore(copy)
    (copy / "config.json").write_text(json.dumps({**config, "model": {"cell": "gru", "hidden": 5, "layers": 1}}))
    with pytest.raises(UsageError, match="another model"):
        run.restore(copy)


def test_damaged_weights_do_not_forecast(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    for file in (copy / "checkpoints").glob("*/state/**/d/*"):
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 0xFF
        file.write_bytes(content)
    with pytest.raises(DamagedError):
        run.restore(copy)


def test_the_abstract_state_is_the_shape_of_the_first_one() -> None:
    job = run.prepare(Aapl(data=Prices(window=WINDOW), model=Model(hidden=4), batch=512))
    state, abstract = run.initial_state(job), run.abstract_state(job)
    assert jax.tree.structure(state) == jax.tree.structure(abstract)
    for leaf, like in zip(jax.tree.leaves(state), jax.tree.leaves(abstract), strict=True):
        assert (leaf.shape, leaf.dtype, leaf.sharding) == (like.shape, like.dtype, like.sharding)


def test_another_seed_draws_other_weights_and_the_same_the_same() -> None:
    def kernel(seed: int) -> np.ndarray:
        job = run.prepare(Aapl(data=Prices(window=WINDOW), model=Model(hidden=4), batch=512, seed=seed))
        return np.asarray(run.initial_state(job).params["head"]["kernel"])

    np.testing.assert_array_equal(kernel(1), kernel(1))
    assert not np.array_equal(kernel(1), kernel(2))


def test_the_config_names_the_axes_of_every_parameter(folder: Path) -> None:
    config, params = json.loads((folder / "config.json").read_text()), run.restore(folder).state.params
    wanted = {
        f"params/{jax.tree_util.keystr(path, simple=True, separator='/')}": leaf.ndim
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    assert {path: len(axes.split()) for path, axes in config["axes"].items()} == wanted
    assert config["axes"]["params/recurrent_0/cell/recurrent_kernel"] == "h g"
