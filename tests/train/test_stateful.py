"""One long series read in consecutive windows: the state goes on from each to the next, and nothing reads ahead."""

import dataclasses
import itertools
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
from pairwise import slow_except
from scipy.signal import lfilter

from jaxseq import cells
from jaxseq.cells import convert
from jaxseq.common import memory
from jaxseq.common.errors import UsageError
from jaxseq.data.panel import Panel
from jaxseq.data.table import Table
from jaxseq.export.kinds import forecasts as exported
from jaxseq.nn import fields, forecaster, heads, objectives
from jaxseq.train import __main__ as command
from jaxseq.train import epoch, footprint, future, stateful
from jaxseq.train import forecaster as forecasters
from jaxseq.train.domains import forecasts
from jaxseq.train.experiments import named
from jaxseq.train.experiments.forecasts import ForecastExperiment, Model
from jaxseq.train.feed import Course, RowSplits, Segments
from jaxseq.train.job import initial_state, state_shapes

compiled_quickly = pytest.mark.usefixtures("compiled_quickly")

WINDOW = 6
RATE = 0.3


def segments(n: int, horizon: int = 2, window: int = WINDOW, adds_up: bool = True, seed: int = 0) -> Segments:
    random = np.random.default_rng(seed)
    ahead = random.normal(size=n + horizon - 1).astype(np.float32)
    x = random.normal(size=(n, 2)).astype(np.float32)
    return Segments(x, ahead, np.ones(len(ahead), bool), window=window, horizon=horizon, adds_up=adds_up)


def setup_of(cell: str, horizon: int, **model: object) -> epoch.Setup:
    return epoch.Setup(
        forecaster.Forecaster(cells.named(cell), 4, 2, horizon, every_step=True, **model),
        objectives.forecasting(heads.point(), every_step=True, masks_targets=True),
        optax.sgd(RATE),
    )


# The order of an epoch ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "batch"), slow_except({(41, 3), (7, 1)}, [(40, 3), (41, 3), (12, 2), (7, 1)]))
def test_an_epoch_reads_every_time_step_of_every_segment_once_and_in_order(n: int, batch: int) -> None:
    data = dataclasses.replace(segments(n, horizon=1), x=np.arange(n, dtype=np.float32)[:, None])
    order = data.order(jax.random.key(0), batch)
    rows = [data.take(jax.tree.map(lambda leaf, at=at: leaf[at], order.batches)) for at in range(data.steps(batch))]
    assert len(order.batches.first) == data.steps(batch) == -(-max(np.diff(data.edges(batch))) // WINDOW)

    read = []
    for segment in range(batch):
        steps = [row.x[segment, np.isfinite(row.y[segment, :, 0]), 0] for row in rows]
        assert [len(part) for part in steps] == [int(row.lengths[segment]) for row in rows]
        read.append(np.concatenate(steps))
    np.testing.assert_array_equal(np.concatenate(read), np.arange(n))
    assert max(map(len, read)) - min(map(len, read)) <= 1


@pytest.mark.parametrize("adds_up", [True, False])
def test_the_targets_of_several_steps_come_from_those_of_one(adds_up: bool) -> None:
    data = segments(20, horizon=3, adds_up=adds_up)
    known = data.known.copy()
    known[4] = False
    y = dataclasses.replace(data, known=known).row.y[0]
    ahead = np.lib.stride_tricks.sliding_window_view(data.ahead, 3)[:WINDOW]
    wanted = np.cumsum(ahead, axis=1) if adds_up else ahead.copy()
    wanted[[4, 3, 2], [0, 1, 2]] = np.nan
    np.testing.assert_allclose(y, wanted, rtol=1e-6)


# Training --------------------------------------------------------------------------------------------------------------


@compiled_quickly
def test_an_epoch_is_torchs_loop_with_the_state_passed_on_and_detached() -> None:
    torch = pytest.importorskip("torch")
    batch, n, horizon = 3, 47, 2
    data = segments(n, horizon)
    setup = setup_of("lstm", horizon)
    before = epoch.init(setup, jax.random.key(0), data.row.x)

    layer = torch.nn.LSTM(2, 4, 2, batch_first=True)
    head = torch.nn.Linear(4, horizon)
    weights = {}
    for number in range(2):
        nested = before.params[f"recurrent_{number}"]["cell"]
        params = fields.cell_params(setup.model.cell, nested, 2 if number == 0 else 4, 4)
        weights |= convert.to_torch("lstm", params, number)
    layer.load_state_dict({name: torch.tensor(np.asarray(value)) for name, value in weights.items()})
    head.weight.data = torch.tensor(np.asarray(before.params["head"]["kernel"]).T.copy())
    head.bias.data = torch.tensor(np.asarray(before.params["head"]["bias"]))
    rule = torch.optim.SGD([*layer.parameters(), *head.parameters()], RATE)

    targets = np.cumsum(np.lib.stride_tricks.sliding_window_view(data.ahead, horizon), axis=1)
    edges = [0, 15, 31, 47]
    wanted_losses = []
    state = None
    for first in range(0, 16, WINDOW):
        x = np.zeros((batch, WINDOW, 2), np.float32)
        y = np.full((batch, WINDOW, horizon), np.nan, np.float32)
        for segment, (begin, end) in enumerate(itertools.pairwise(edges)):
            rows = slice(begin + first, min(begin + first + WINDOW, end))
            count = rows.stop - rows.start
            x[segment, :count] = data.x[rows]
            y[segment, :count] = targets[rows]
        outputs, state = layer(torch.tensor(x), state)
        state = tuple(part.detach() for part in state)
        is_known = torch.tensor(np.isfinite(y))
        loss = ((head(outputs) - torch.tensor(y))[is_known] ** 2).mean()
        rule.zero_grad()
        loss.backward()
        # torch keeps two biases, whose sum is ours: each step moves both by the gradient of the sum.
        for name, parameter in layer.named_parameters():
            if name.startswith("bias_hh"):
                parameter.grad.zero_()
        rule.step()
        wanted_losses.append(loss.item())

    after, log = epoch.epoch(setup, before, jax.tree.map(jnp.asarray, data), batch)
    np.testing.assert_allclose(log.loss, wanted_losses, rtol=1e-5)
    theirs = {name: value.detach().numpy() for name, value in layer.state_dict().items()}
    for number in range(2):
        wanted = fields.nested(convert.from_torch("lstm", theirs, number))
        mine = after.params[f"recurrent_{number}"]["cell"]
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), dict(mine), dict(wanted))
    np.testing.assert_allclose(after.params["head"]["kernel"], head.weight.detach().numpy().T, atol=1e-5)


@pytest.mark.slow
@compiled_quickly
def test_an_evaluation_carries_the_state_through_all_time_steps_whatever_the_pieces(monkeypatch) -> None:
    setup = setup_of("gru", 1)
    x = jnp.asarray(np.random.default_rng(1).normal(size=(50, 2)), jnp.float32)
    state = epoch.init(setup, jax.random.key(1), x[None, :WINDOW])
    variables = {"params": state.params}
    _, whole = setup.model.apply(variables, x[None])
    monkeypatch.setattr(epoch, "ALONG", 16)
    np.testing.assert_allclose(epoch.predict_along(setup, state.params, {}, x), whole[0], atol=1e-6)

    y = np.random.default_rng(2).normal(size=(20, 1)).astype(np.float32)
    y[3] = np.nan
    measured = epoch.evaluate(setup, state.params, {}, Course(x, y), 8)
    np.testing.assert_allclose(measured["mse"], np.nanmean((whole[0, -20:] - y) ** 2), rtol=1e-5)


# The command ------------------------------------------------------------------------------------------------------------


def table(path: Path, n: int = 400, seed: int = 0) -> Path:
    values = 50 + lfilter([1], [1, -0.9], np.random.default_rng(seed).normal(size=n))
    days = pd.date_range("2021-01-01", periods=n)
    pd.DataFrame({"date": days, "y": values}).to_csv(path, index=False)
    return path


def words(path: Path, *more: str) -> list[str]:
    fields = f"table --data.path {path} --task every-step --data.stateful --data.window {WINDOW} --model.hidden 3"
    return [*fields.split(), "--batch", "8", "--horizon", "2", *more]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two epochs, the second of a resumed run."""
    base = tmp_path_factory.mktemp("stateful")
    path = table(base / "y.csv")
    assert command.main(words(path, "--epochs", "2", "--out", str(base / "whole"))) == 0
    assert command.main(words(path, "--epochs", "1", "--out", str(base / "run"))) == 0
    assert command.main(["--resume", str(base / "run"), "--epochs", "2"]) == 0
    return base / "run"


def test_a_run_resumes_bit_for_bit_and_judges_the_rows_of_one_without_a_state(folder: Path) -> None:
    whole = folder.with_name("whole")
    for name in ("predictions.csv", "scores.csv", "intervals.json"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name

    experiment = forecasters.restore(folder).experiment
    stateless = dataclasses.replace(experiment, data=dataclasses.replace(experiment.data, stateful=False))
    test = stateless.data.load(2).windows.test
    judged = pd.read_csv(folder / "predictions.csv")
    np.testing.assert_array_equal(judged["actual"].to_numpy().reshape(-1, 2), test.targets)
    report = (folder / "report.md").read_text()
    assert f"Windows: {(280 - 2) // WINDOW} train, 59 valid, 59 test" in report


def test_a_forecast_beyond_a_series_is_the_one_that_the_test_part_has_there(folder: Path, tmp_path: Path) -> None:
    judged = pd.read_csv(folder / "predictions.csv")
    rows = pd.read_csv(folder.with_name("y.csv"))
    trained = forecasters.restore(folder)
    saved = json.loads((folder / "config.json").read_text())[stateful.START]
    assert trained.carried_from == saved == rows["date"][7 * 278 // 8]
    for until in (345, 380):
        future = trained.predict(rows.iloc[:until].set_index("date")["y"].to_frame().reset_index())
        here = judged[judged["date"] == future.table["date"].iloc[0].strftime("%Y-%m-%d")]
        here = here[here["step"] == 1]
        np.testing.assert_allclose(future.table["forecast"].iloc[0], here["forecast"].iloc[0], rtol=1e-6)

    # A window is all that is known of its past: the state starts anew with it.
    window = rows["y"].to_numpy()[300 : 300 + WINDOW]
    raw = np.asarray(epoch.predict(trained.setup, trained.state.params, {}, _inputs(trained, window), 1))
    np.testing.assert_allclose(trained(window), window[-1] + raw[0] * trained.scaling.scale[0], rtol=1e-6)
    with pytest.raises(UsageError, match="from window to window"):
        exported.program_of(trained)


def test_where_a_state_starts_is_decided_by_the_series_and_the_time_of_the_forecast(folder: Path, monkeypatch) -> None:
    rows = pd.read_csv(folder.with_name("y.csv"))
    trained = forecasters.restore(folder)
    start, training = 7 * 278 // 8, 280

    def count_rows(setup: object, params: object, stats: object, x: jax.Array) -> jax.Array:
        return jnp.cumsum(jnp.ones((len(x), 2)), axis=0)

    monkeypatch.setattr(forecasters, "predict_along", count_rows)

    def rows_read(run: forecasters.Trained, panel: Panel, first: int) -> np.ndarray:
        windows = panel.windows_from(0, first, WINDOW, 2)
        centre, _ = run.forecast(windows, run.scaling, histories=future.histories(run, panel))
        return np.round((centre[:, 0] - windows.inputs[:, -1]) / run.scaling.scale[0]).astype(int)

    own = future.panel_of(trained, rows)
    origins = np.arange(WINDOW, 400)
    wanted = np.where(origins < training, origins, origins - start)
    np.testing.assert_array_equal(rows_read(trained, own, WINDOW), wanted)
    # Whichever other forecasts are asked for.
    for first in (start, training, 399):
        np.testing.assert_array_equal(rows_read(trained, own, first), wanted[first - WINDOW :])

    # A run of an older version has the number of the row.
    np.testing.assert_array_equal(rows_read(trained._replace(carried_from=start), own, WINDOW), wanted)
    earlier = rows.iloc[:10].assign(date=[f"2020-12-{day}" for day in range(22, 32)])
    longer = future.panel_of(trained, pd.concat([earlier, rows]))
    for run in (trained, trained._replace(carried_from=start)):
        assert rows_read(run, longer, 409).tolist() == [399 - start]

    # Without all rows of the training, those behind the start may be few.
    for others in (rows.iloc[: start + 2], rows.iloc[: training - 1], rows.iloc[3:], rows.assign(y=rows["y"] + 1)):
        last = len(others) - 1
        assert rows_read(trained, future.panel_of(trained, others), last).tolist() == [last]
    renamed = dataclasses.replace(own, names=("z",))
    assert rows_read(trained, renamed, 399).tolist() == [399]

    with pytest.raises(UsageError) as error:
        future.histories(trained._replace(carried_from=training), own)
    assert error.value.where == stateful.START
    with pytest.raises(UsageError) as error:
        trained.forecast(own.last_windows(WINDOW, 2), trained.scaling)
    assert error.value.where == "histories"


def test_a_start_that_is_no_time_is_refused_by_the_name_of_its_file() -> None:
    carried = named("table", data=Table(stateful=True), task="every-step")
    for start in ("2021-03-01", "349", "-3", 349):
        assert forecasters.saved_start(carried, {stateful.START: start}, "run/config.json") == start
    for wrong in (None, -1, True, "soon", "2021-30-30", 0.5):
        with pytest.raises(UsageError) as error:
            forecasters.saved_start(carried, {stateful.START: wrong}, "run/config.json")
        assert error.value.where == f"run/config.json: {stateful.START}"
    assert forecasters.saved_start(named("table"), {}, "run/config.json") is None


def _inputs(trained: forecasters.Trained, window: np.ndarray) -> np.ndarray:
    changes = np.diff(window, prepend=window[0]) / trained.scaling.scale[0]
    return changes.astype(np.float32)[None, :, None]


@compiled_quickly
def test_no_forecast_reads_a_row_before_its_time(tmp_path: Path) -> None:
    rows = pd.read_csv(table(tmp_path / "y.csv", n=200))
    later = rows.copy()
    later.loc[190:, "y"] += 30.0

    def predicted(frame: pd.DataFrame) -> np.ndarray:
        experiment = named(
            "table",
            data=Table.from_frame(frame, window=WINDOW, stateful=True),
            task="every-step",
            batch=4,
            model=Model("gru", 3),
        )
        job = forecasts.prepare(experiment)
        return forecasters.forecast(job, initial_state(job), job.material.windows.test).centre

    as_it_was, changed = predicted(rows), predicted(later)
    # Forecasts of rows 170 to 199, each made after the row before.
    np.testing.assert_array_equal(as_it_was[:21], changed[:21])
    assert np.all(as_it_was[21:] != changed[21:])


def test_missing_values_have_no_weight_and_a_batch_of_nothing_else_is_refused(tmp_path: Path) -> None:
    rows = pd.read_csv(table(tmp_path / "y.csv", n=200))
    rows.loc[50:52, "y"] = np.nan
    data = Table.from_frame(rows, window=2, stateful=True, missing="fill")
    train = stateful.segment(data.load(1), 4).splits.train
    assert train.x.shape == (139, 2)
    np.testing.assert_array_equal(np.flatnonzero(~train.known), [49, 50, 51])
    with pytest.raises(UsageError, match="no known target"):
        stateful.segment(data.load(1), 1)


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"task": "direct"}, "--task"),
        ({"model": Model(norm="batch")}, "--model.norm"),
        ({"model": Model(bidirectional=True)}, "--task"),
    ],
)
def test_what_has_no_state_to_carry_is_refused_by_its_name(fields: dict, where: str) -> None:
    with pytest.raises(UsageError) as error:
        named("table", data=Table(stateful=True), **{"task": "every-step", **fields})
    assert error.value.where == where


def test_several_series_and_segments_shorter_than_a_window_are_refused(tmp_path: Path) -> None:
    rows = pd.read_csv(table(tmp_path / "y.csv", n=100))
    one = Table.from_frame(rows, window=WINDOW, stateful=True)
    both = pd.concat([rows.assign(s="a"), rows.assign(s="b")])
    two = Table.from_frame(both, column="y", series="s", window=WINDOW, stateful=True)
    # The edges of so many segments would fill the memory.
    for data, batch, where in ((one, 13, "--batch"), (one, 2_000_000_000, "--batch"), (two, 4, "--data.stateful")):
        with pytest.raises(UsageError) as error:
            forecasts.prepare(named("table", data=data, task="every-step", batch=batch, model=Model("rnn", 2)))
        assert error.value.where == where


class WithoutState(nn.Module):
    """A network from outside with no state that could be carried."""

    draws = False

    @nn.compact
    def __call__(self, x, lengths=None, train=False, carries=None, first=0):
        return (), nn.Dense(1)(x)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outside(ForecastExperiment):
    def build(self) -> WithoutState:
        return WithoutState()


def test_a_network_from_outside_without_a_state_is_refused_before_it_is_trained(tmp_path: Path) -> None:
    data = Table.from_frame(pd.read_csv(table(tmp_path / "y.csv", n=100)), window=WINDOW, stateful=True)
    with pytest.raises(UsageError) as error:
        forecasts.prepare(Outside(name="outside", data=data, task="every-step", batch=4))
    assert error.value.where == "--data.stateful" and error.value.got == "WithoutState"


# Long series ------------------------------------------------------------------------------------------------------------


def test_windows_of_a_long_series_take_no_memory_and_five_million_rows_are_planned_below_two_gib(
    tmp_path: Path,
) -> None:
    data = Table(path=str(table(tmp_path / "y.csv")), window=WINDOW, stateful=True)
    dataset = data.load(1)
    values = dataset.background.series[0].values
    assert all(np.shares_memory(values, part.inputs) for part in dataset.windows)

    experiment = named("table", data=Table(stateful=True), task="every-step")
    setup = epoch.Setup(experiment.build(), experiment.objective(), optax.adam(1e-3))
    n = 5_000_000
    column = np.broadcast_to(np.float32(0), (n, 1))
    train = Segments(column, column[:, 0], column[:, 0] == 0, window=50, horizon=1, adds_up=True)
    parts = RowSplits(train, Course(column[: n // 4], column[: n // 7]), Course(column[: n // 3], column[: n // 7]))
    shapes = state_shapes(setup, jax.ShapeDtypeStruct((1, 50, 1), np.float32))
    planned = footprint.estimate(setup, shapes, parts, 32, 1)
    assert memory.RUNTIME < sum(planned) < 2 * memory.GIB
    # However long it is, a course is evaluated in pieces of one row.
    shorter = parts._replace(valid=Course(column[:100], column[:100]))
    assert footprint.estimate(setup, shapes, shorter, 32, 1).step == planned.step


def local_level(n: int, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """A level that moves slowly under noise three times as large: it takes about 70 values to tell where it is."""
    random = np.random.default_rng(seed)
    level = lfilter([np.sqrt(1 - 0.999**2)], [1, -0.999], random.normal(size=n))
    days = pd.date_range("1900-01-01", periods=n, freq="h")
    return pd.DataFrame({"date": days, "y": level + 3 * random.normal(size=n)}), level


def error_of_the_level(frame: pd.DataFrame, level: np.ndarray, is_stateful: bool, seed: int) -> float:
    """Root mean squared distance of the best epoch's test forecasts from the level under the noise."""
    experiment = named(
        "table",
        data=Table.from_frame(frame, window=8, target="level", stateful=is_stateful),
        task="every-step",
        model=Model("gru", 16),
        batch=16,
        lr=1e-2,
        schedule="cosine",
        epochs=40,
        seed=seed,
    )
    job = forecasts.prepare(experiment)
    epochs = range(1, experiment.epochs + 1)
    best = None
    # A finished state is donated to the next epoch.
    for finished in epoch.epochs(job.setup, initial_state(job), job.data.train, job.data.valid, 16, epochs):
        if best is None or finished.valid["mse"] < best.valid["mse"]:
            best = finished._replace(state=jax.tree.map(jnp.copy, finished.state))

    test = job.material.windows.test
    centre = job.material.scaling.invert(forecasters.forecast(job, best.state, test).centre, test)
    return float(np.sqrt(np.mean((centre[:, 0] - level[test.origins]) ** 2)))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_carried_state_learns_what_is_longer_than_the_window(seed: int, capsys) -> None:
    frame, level = local_level(20_000, seed)
    carried = error_of_the_level(frame, level, True, seed)
    anew = error_of_the_level(frame, level, False, seed)
    with capsys.disabled():
        print(f"\nseed {seed}: error of the level {carried:.3f} with a carried state, {anew:.3f} without")
    assert carried < 0.75 * anew


@pytest.mark.slow
def test_five_million_rows_train_and_forecast_within_two_gib(tmp_path: Path, capsys) -> None:
    pytest.importorskip("pyarrow")
    n = 5_000_000
    random = np.random.default_rng(0)
    values = lfilter([1], [1, -0.8], random.normal(size=n)) + 2 * np.sin(np.arange(n) / 200)
    times = pd.date_range("2015-01-01", periods=n, freq="min")
    pd.DataFrame({"time": times, "y": values}).to_parquet(tmp_path / "big.parquet")

    words = f"table --data.path {tmp_path / 'big.parquet'} --data.column y --task every-step --data.stateful"
    out = tmp_path / "run"
    commands = (["jaxseq.train", *words.split(), "--epochs", "1", "--out", str(out)], ["jaxseq.forecast", str(out)])
    for module, *rest in commands:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", module, *rest], check=True, timeout=1800)
        seconds = time.perf_counter() - began
        # Of the largest child so far; kilobytes on Linux.
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        with capsys.disabled():
            print(f"\n{module}: {seconds:.0f} s, {peak:.2f} GiB at the most")
        assert peak < 2
