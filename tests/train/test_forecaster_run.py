"""A run restored: the same numbers as it wrote, from raw windows, without its data."""

import dataclasses
import json
import shutil
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest
import scipy.stats
from problems import quickly
from quick_compilation import quick_compilation
from sealing import reseal

from jaxseq.checkpoint import run_seal
from jaxseq.common.errors import UsageError
from jaxseq.common.sealed import DamagedError
from jaxseq.data import aapl
from jaxseq.data.aapl import Prices
from jaxseq.data.scaling import Scaling
from jaxseq.data.table import Table
from jaxseq.data.waves import Waves
from jaxseq.data.windows import Windows, lay_out
from jaxseq.forecasting.evaluate import calibrate
from jaxseq.forecasting.intervals import Forecast, Intervals
from jaxseq.nn import apply
from jaxseq.train import __main__ as train
from jaxseq.train import epoch, forecaster, run_folder
from jaxseq.train.domains import forecasts
from jaxseq.train.experiments import named
from jaxseq.train.experiments.forecasts import Model
from jaxseq.train.job import abstract_state, initial_state

pytestmark = pytest.mark.usefixtures("compiled_quickly")

WINDOW = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was trained for three epochs at a high rate, so that its forecasts are not the naive one."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    words = f"--model.hidden 4 --data.window {WINDOW} --batch 256 --lr 0.02 --epochs 3 --out {folder}"
    with quick_compilation():
        assert train.main(words.split()) == 0
    return folder


@pytest.fixture(scope="module")
def trained(folder: Path) -> forecaster.Trained:
    return forecaster.restore(folder)


@pytest.fixture(scope="module")
def windows() -> np.ndarray:
    return Prices(window=WINDOW).load(1).windows.test.inputs


def test_a_restored_run_forecasts_what_it_wrote(folder: Path, trained: forecaster.Trained, windows: np.ndarray) -> None:
    written = pd.read_csv(folder / "predictions.csv")
    forecast = trained(windows)
    assert forecast.shape == (491, 1)
    np.testing.assert_allclose(forecast[:, 0], written["forecast"], atol=1e-4)
    assert np.abs(written["forecast"] - written["naive"]).mean() > 0.01


def test_one_window_gives_what_it_gives_among_many(trained: forecaster.Trained, windows: np.ndarray) -> None:
    one = trained(windows[7])
    assert one.shape == (1,)
    np.testing.assert_allclose(one, trained(windows)[7], atol=1e-4)


def test_more_windows_than_one_batch_are_forecast_alike(trained: forecaster.Trained, windows: np.ndarray) -> None:
    many = trained(np.concatenate([windows] * 10))
    assert len(many) == 4910 > trained.experiment.batch * epoch.EVALUATION_BATCHES
    np.testing.assert_allclose(many[:491], many[-491:], atol=1e-4)


def test_numbers_of_windows_share_compiled_programs(trained: forecaster.Trained, windows: np.ndarray) -> None:
    before = epoch.predict._cache_size()
    whole = trained(windows[:40])
    for count in (1, 9, 10, *range(33, 41)):
        np.testing.assert_allclose(trained(windows[:count]), whole[:count], atol=1e-4)
    # 1, 10 and 40.
    assert epoch.predict._cache_size() - before <= 3


def test_a_restored_run_is_shown_in_one_line(folder: Path, trained: forecaster.Trained) -> None:
    assert repr(trained) == f"Trained(aapl, epoch {trained.epoch}, {trained.experiment.model.cell} of 4 units)"


def test_a_restored_run_needs_no_data_file(
    folder: Path, windows: np.ndarray, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    aapl._read.cache_clear()
    monkeypatch.setattr(aapl, "FILE", tmp_path / "gone.csv.gz")
    with pytest.raises(UsageError):
        Prices(window=WINDOW).series()
    assert np.isfinite(forecaster.restore(folder)(windows[:2])).all()


def test_the_best_epoch_is_restored_or_the_one_that_is_named(folder: Path, windows: np.ndarray) -> None:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    best = min(rows, key=lambda row: row["valid_mse"])["epoch"]
    other = 2 if best == 3 else 3  # the last two epochs and the best are kept
    assert forecaster.restore(folder).epoch == best and forecaster.restore(folder, other).epoch == other
    assert np.abs(forecaster.restore(folder)(windows) - forecaster.restore(folder, other)(windows)).max() > 1e-4
    # True is equal to 1, and no number of an epoch.
    for number in (9, -1, True):
        with pytest.raises(UsageError, match="no checkpoint of this epoch") as error:
            forecaster.restore(folder, number)
        assert error.value.got is number


@pytest.mark.parametrize("shape", [(WINDOW + 1,), (3, WINDOW - 1), (2, 2, WINDOW), (0,)])
def test_windows_of_another_shape_are_refused_with_both_numbers(
    trained: forecaster.Trained, shape: tuple[int, ...]
) -> None:
    with pytest.raises(UsageError) as raised:
        trained.__call__.__wrapped__(trained, np.ones(shape))
    assert f"windows of {WINDOW} values" in str(raised.value) and str(shape) in str(raised.value)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused_with_their_number(
    trained: forecaster.Trained, windows: np.ndarray, value: float
) -> None:
    broken = windows[:2].copy()
    broken[1, 3] = value
    with pytest.raises(UsageError, match=rf"1 of {2 * WINDOW} values are not finite.*row {WINDOW + 4} .*{value}"):
        trained(broken)


def test_what_is_no_sound_run_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run at"):
        forecaster.restore(tmp_path / "nowhere")
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    config = run_folder.read_config(copy)
    sound = config["scaling"]
    wrong = [{"shift": 0.0}, {"scale": "x"}, {"scale": ["x"]}, {"scale": []}, {"scale": [np.nan]}, {"kind": "odd"}]
    for scaling in (None, [], {}, {"width": 1.0}, *({**sound, **change} for change in wrong)):
        run_folder.write_config(copy, {**config, "scaling": scaling})
        with pytest.raises(UsageError, match=r"config\.json: scaling") as raised:
            forecaster.restore(copy)
        assert "\n" not in str(raised.value)
    run_folder.write_config(copy, {**config, "model": {"cell": "gru", "hidden": 5, "layers": 1}})
    with pytest.raises(UsageError, match="another model"):
        forecaster.restore(copy)


@pytest.mark.slow
def test_damaged_weights_do_not_forecast(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    for file in (copy / "checkpoints").glob("*/state/**/d/*"):
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 0xFF
        file.write_bytes(content)
    with pytest.raises(DamagedError):
        forecaster.restore(copy)


def test_the_abstract_state_is_the_shape_of_the_first_one() -> None:
    job = forecasts.prepare(named("aapl", data=Prices(window=WINDOW), model=Model(hidden=4), batch=512))
    state, abstract = initial_state(job), abstract_state(job)
    assert jax.tree.structure(state) == jax.tree.structure(abstract)
    for leaf, like in zip(jax.tree.leaves(state), jax.tree.leaves(abstract), strict=True):
        assert (leaf.shape, leaf.dtype, leaf.sharding) == (like.shape, like.dtype, like.sharding)


def test_another_seed_draws_other_weights_and_the_same_the_same() -> None:
    def kernel(seed: int) -> np.ndarray:
        job = forecasts.prepare(named("aapl", data=Prices(window=WINDOW), model=Model(hidden=4), batch=512, seed=seed))
        return np.asarray(initial_state(job).params["head"]["kernel"])

    np.testing.assert_array_equal(kernel(1), kernel(1))
    assert not np.array_equal(kernel(1), kernel(2))


def test_the_config_names_the_axes_of_every_parameter(folder: Path) -> None:
    config, params = json.loads((folder / "config.json").read_text()), forecaster.restore(folder).state.params
    wanted = {
        f"params/{jax.tree_util.keystr(path, simple=True, separator='/')}": leaf.ndim
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    assert {path: len(axes.split()) for path, axes in config["axes"].items()} == wanted
    assert config["axes"]["params/recurrent_0/cell/recurrent_kernel"] == "h g"


def test_a_restored_run_has_the_intervals_that_its_validation_part_asked_for(
    folder: Path, trained: forecaster.Trained
) -> None:
    dataset = Prices(window=WINDOW).load(1)
    valid = dataset.windows.valid
    centre = trained.scaling.targets(valid._replace(targets=trained(valid.inputs)))
    found = calibrate(dataset, Forecast(centre)).intervals
    assert trained.intervals is not None and trained.intervals.kind == found.kind == "volatility"
    assert trained.intervals.levels == found.levels == (0.5, 0.8, 0.95)
    np.testing.assert_allclose(trained.intervals.sizes, found.sizes, rtol=1e-4)
    assert trained.intervals.until == found.until == (str(dataset.background.series[0].times[-492]),)
    saved = json.loads((folder / "intervals.json").read_text())
    assert saved["sizes"] == [list(sizes) for sizes in trained.intervals.sizes]


def test_a_restored_run_gives_the_intervals_that_it_wrote(folder: Path, trained: forecaster.Trained) -> None:
    dataset = Prices(window=WINDOW).load(1)
    table = pd.read_csv(folder / "predictions.csv")
    centre, ends = trained.forecast(dataset.windows.test, trained.scaling, series=dataset.background.known_series)
    np.testing.assert_allclose(centre[:, 0], table["forecast"], atol=1e-3)
    assert list(ends) == [0.5, 0.8, 0.95]
    for level, (low, high) in ends.items():
        np.testing.assert_allclose(low[:, 0], table[f"low_{level:.0%}"], atol=1e-3)
        np.testing.assert_allclose(high[:, 0], table[f"high_{level:.0%}"], atol=1e-3)


def test_a_run_that_was_not_judged_has_no_intervals_and_damaged_ones_are_refused(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    for saved in ([], {}, {"levels": [0.5]}, {"levels": [0.5], "sizes": []}, {"levels": [0.5], "sizes": [[1.0, 2.0]]}):
        (copy / "intervals.json").write_text(json.dumps(saved))
        with pytest.raises(DamagedError, match="it was changed since it was written") as raised:
            forecaster.restore(copy)
        assert str(raised.value.where) == str(copy / "intervals.json")
        # Sealed as they are, they are refused for what they say.
        reseal(copy)
        with pytest.raises(UsageError) as raised:
            forecaster.restore(copy)
        assert str(raised.value.where).startswith(str(copy / "intervals.json"))
    (copy / "intervals.json").unlink()
    with pytest.raises(DamagedError, match=r"intervals\.json: damaged \(it is missing"):
        forecaster.restore(copy)

    run_seal.set_judgement_aside(copy)
    part, trained = Prices(window=WINDOW).load(1).windows.test, forecaster.restore(copy)
    centre, ends = trained.forecast(part, trained.scaling)
    assert centre.shape == (491, 1) and ends == {}


def test_a_longer_horizon_than_was_trained_is_refused_with_both_numbers(trained: forecaster.Trained) -> None:
    part = Prices(window=WINDOW).load(1).windows.test
    with pytest.raises(UsageError, match=r"forecasts 1 steps; train it with --horizon 3 or with .*iterated") as raised:
        trained.forecast(part, trained.scaling, 3)
    assert (raised.value.got, raised.value.needed) == (3, "at most 1")


def walker(task: str, horizon: int, rise: float = 0.5, spread: float = 0.2) -> forecaster.Trained:
    """A model that sees a normal change with this mean and deviation, whatever came before; no margins added."""
    recipe = named(
        "aapl", data=Prices(window=WINDOW), model=Model("rnn", 3, head="gaussian"), task=task, horizon=horizon
    )
    setup = epoch.Setup(recipe.build(), recipe.objective(), recipe.build_optimiser(1).transformation)
    like = jax.eval_shape(
        partial(epoch.init, setup), jax.random.key(0), jax.ShapeDtypeStruct((1, WINDOW, 1), np.float32)
    )
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like.params)
    raw = np.float32([rise, np.log(np.expm1(spread))])
    params["head"]["bias"] = np.tile(raw, recipe.steps_out)
    added = Intervals("split", (0.5, 0.95), ((0.0,) * horizon,) * 2)
    return forecaster.Trained(
        recipe, 1, setup, like._replace(params=params, stats={}), Scaling("change", (0.0,), (4.0,)), added
    )


LAST = np.array([10.0, 200.0, -3.0])
HEIGHTS = lay_out(np.repeat(LAST[:, None], WINDOW, axis=1), np.zeros((3, 1)))


def test_an_iterated_forecast_adds_its_steps_up_and_its_intervals_grow_with_their_root() -> None:
    """Beyond the trained 2 steps too: changes of 4 · 0.5 a step add up, independent deviations of 4 · 0.2 by squares."""
    trained, k = walker("iterated", 2), np.arange(1, 10)
    many = Windows(*(np.concatenate([part] * 20) for part in HEIGHTS))
    centre, ends = trained.forecast(many, trained.scaling, 9)
    np.testing.assert_allclose(centre, np.tile(LAST, 20)[:, None] + 2 * k, rtol=1e-5)
    for level, (low, high) in ends.items():
        truth = scipy.stats.norm.interval(level)[1] * 0.8 * np.sqrt(k)
        np.testing.assert_allclose((high - centre).mean(axis=0), truth, rtol=0.1)
        np.testing.assert_allclose((centre - low).mean(axis=0), truth, rtol=0.1)


def test_fewer_steps_than_were_trained_are_the_first_of_them() -> None:
    trained = walker("direct", 3)
    centre, ends = trained.forecast(HEIGHTS, trained.scaling)
    np.testing.assert_allclose(centre, LAST[:, None] + [2, 2, 2], rtol=1e-6)
    fewer, first = trained.forecast(HEIGHTS, trained.scaling, 2)
    np.testing.assert_array_equal(fewer, centre[:, :2])
    for level in (0.5, 0.95):
        np.testing.assert_array_equal(first[level], [end[:, :2] for end in ends[level]])
        half = scipy.stats.norm.interval(level)[1] * 0.8
        np.testing.assert_allclose(ends[level][1] - centre, np.full((3, 3), half), rtol=1e-3)


def test_margins_of_the_last_trained_step_hold_for_those_beyond_it() -> None:
    trained = walker("iterated", 2)
    plain, wider = (
        trained._replace(intervals=Intervals("split", (0.5,), (sizes,))).forecast(HEIGHTS, trained.scaling, 4)[1][0.5][
            1
        ]
        for sizes in ((0.0, 0.0), (0.25, 1.0))
    )
    np.testing.assert_allclose(wider - plain, np.tile(4 * np.array([0.25, 1, 1, 1]), (3, 1)), rtol=1e-4)


SEVERAL = {"shift": (0.0, 0.0), "scale": (1.0, 2.0)}
BESIDE = {"covariate_shift": (0.0,), "covariate_scale": (1.0,)}


@pytest.mark.parametrize(
    ("fields", "what"), [(SEVERAL, "2 series"), (BESIDE, "1 covariate")], ids=["series", "covariates"]
)
def test_values_alone_are_refused_by_a_run_of_several_series_or_with_covariates(fields: dict, what: str) -> None:
    trained = walker("direct", 1)
    with pytest.raises(UsageError, match=what):
        trained._replace(scaling=dataclasses.replace(trained.scaling, **fields))(HEIGHTS.inputs)


def test_every_step_is_trained_and_the_last_is_the_forecast_with_all_its_quantiles() -> None:
    recipe = named(
        "waves", data=Waves(count=100, window=6), model=Model("rnn", 3, head="quantile"), task="every-step", horizon=3
    )
    job = forecasts.prepare(recipe)
    assert job.batches.train.y.shape == (70, 6, 3)
    state = initial_state(job)
    found = forecaster.forecast(job, state, job.material.windows.valid)
    assert found.centre.shape == (20, 3) and found.quantiles is not None and found.quantiles.shape == (20, 3, 7)
    np.testing.assert_array_equal(found.quantiles[..., found.levels.index(0.5)], found.centre)
    raw = quickly(apply.apply, "model")(job.setup.model, state.params, state.stats, job.batches.valid.x)
    expected = np.asarray(raw)[:, -1].reshape(20, 3, 7)[..., 3]
    np.testing.assert_allclose(found.centre, expected, atol=1e-5)


def test_an_iterated_forecast_with_covariates_is_refused(tmp_path: Path) -> None:
    rows = "".join(f"{np.datetime64('2020-01-01') + np.timedelta64(n, 'D')},{n % 5},{n % 3}\n" for n in range(60))
    (tmp_path / "mine.csv").write_text("date,y,known\n" + rows)
    data = Table(path=str(tmp_path / "mine.csv"), column="y", covariates="known", window=5)
    with pytest.raises(UsageError, match=r"covariates are not known beyond the data; .*needed direct or every-step"):
        forecasts.prepare(named("table", data=data, task="iterated", horizon=2))
