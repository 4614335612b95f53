"""The memory of a training is known before it begins, and what does not fit is refused at once."""

import io
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from jaxseq.common import memory
from jaxseq.common.arrays import Batch
from jaxseq.common.errors import UsageError
from jaxseq.data.waves import Waves
from jaxseq.train import __main__ as command
from jaxseq.train import domains, epoch, footprint, job, run
from jaxseq.train.experiments import base, named
from jaxseq.train.experiments.forecasts import Model
from jaxseq.train.feed import RowSplits

SECONDS = 20.0
"""Time for an answer on a busy machine; each takes less than one second on an idle one."""


def estimate(batch: int = 32, steps: int = 50, rows: int = 1000, **model: object) -> footprint.Footprint:
    """The footprint of a forecaster of waves, none of whose arrays is made."""
    recipe = named("waves", model=Model(**model), batch=batch)
    setup = epoch.Setup(recipe.build(), recipe.objective(), recipe.build_optimiser(1).transformation)
    part = Batch(np.broadcast_to(np.float32(0), (rows, steps, 1)), np.broadcast_to(np.float32(0), (rows, 1)))
    shapes = job._shapes(setup, (1, steps, 1), "float32")
    return footprint.estimate(setup, shapes, RowSplits(part, part, part), batch, recipe.model.layers)


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(footprint, "SURE", 0.0)


@pytest.mark.parametrize(("cell", "gates"), [("rnn", 1), ("gru", 3), ("lstm", 4)])
def test_the_state_counts_every_gate_with_its_gradient_and_moments(cell: str, gates: int) -> None:
    hidden = 2000
    state = estimate(cell=cell, hidden=hidden).state
    # float32 parameters, their gradient and Adam's two moments; all else is small.
    assert state == pytest.approx(footprint.STEP_COPIES * 4 * 4 * gates * hidden**2, rel=0.01)


@pytest.mark.usefixtures("traced")
def test_a_step_grows_with_batch_and_steps_and_counts_every_gate() -> None:
    small = estimate(batch=1000, hidden=32).step
    assert estimate(batch=2000, rows=2000, hidden=32).step == pytest.approx(2 * small, rel=0.01)
    assert estimate(batch=1000, steps=100, hidden=32).step == pytest.approx(2 * small, rel=0.05)
    # The saved gates, at the least: "b t g" in float32.
    assert small > 4 * 1000 * 50 * 3 * 32


@pytest.mark.usefixtures("traced")
def test_evaluation_counts_where_its_batches_are_the_largest() -> None:
    few, many = (estimate(batch=64, rows=rows, hidden=64).step for rows in (64, 64 * epoch.EVALUATION_BATCHES))
    assert many > 3 * few


@pytest.mark.parametrize(
    "model",
    [{}, {"cell": "rnn"}, {"cell": "lstm", "norm": "layer"}, {"cell": "lstm", "norm": "batch"}, {"layers": 3}],
    ids=str,
)
def test_the_bound_without_tracing_is_none_that_is_too_low(model: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    bound = estimate(hidden=20, **model).step
    monkeypatch.setattr(footprint, "SURE", 0.0)
    assert estimate(hidden=20, **model).step < bound


def test_devices_share_the_batch_and_hold_state_and_data_each() -> None:
    whole = footprint.Footprint(runtime=1.0, state=2.0, step=8.0, data=22.0, held=2.0)
    assert whole.on(4) == footprint.Footprint(0.0, 2.0, 2.0, 2.0, 2.0)
    assert whole.within(4) == footprint.Footprint(1.0, 8.0, 8.0, 28.0, 2.0)


def test_the_option_that_matters_most_is_named_with_both_numbers() -> None:
    for option, whole in {
        "--model.hidden": footprint.Footprint(1, 9, 2, 3, 1),
        "--batch": footprint.Footprint(1, 2, 9, 3, 1),
        "--data.window": footprint.Footprint(1, 2, 3, 9, 1),
    }.items():
        with pytest.raises(UsageError) as raised:
            whole.check(most=14)
        assert raised.value.where == option
        whole.check(most=15)


ABSURD = [
    "--model.hidden 30000",
    "--model.hidden 2147483647",
    "--model.layers 65",
    "--data.window 100000000",
    "--data.count 100000000",
    "--batch 6000 --model.hidden 2000 --data.window 1000 --model.chunk None",
    "--epochs 100000000",
    "--seeds 100000000000000000000",
    "--backtest 100000000000000000000",
    "--seeds 9000 --backtest 9000",
    "--horizon 1000000000 --task direct",
]


@pytest.mark.parametrize("words", ABSURD)
def test_what_cannot_be_trained_is_refused_at_once(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(memory, "limit", lambda: 30 * memory.GIB)
    began = time.monotonic()
    assert command.main(["waves", *words.split()]) == 2
    assert time.monotonic() - began < SECONDS
    said = capsys.readouterr().err
    assert "got " in said and "needed " in said and said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_worker_may_take_its_share_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_machine", lambda: 2 * memory.GIB)
    monkeypatch.setattr(memory, "_PROCESSES", 4)
    with pytest.raises(UsageError, match="4 workers"):
        run.train(named("waves", data=Waves(count=100, window=6), model=Model(hidden=3), epochs=1), out=tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_run_of_a_larger_machine_is_not_restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "limit", lambda: 600 * 2**20)
    row = jax.ShapeDtypeStruct((1, 9, 1), "float32")
    with pytest.raises(UsageError, match="does not fit into memory") as raised:
        job.restore_epoch(tmp_path, named("waves", model=Model(hidden=2000)), row, None)
    assert raised.value.where == str(tmp_path)


# Deep stacks -----------------------------------------------------------------------------------------------------------


def deep(layers: int) -> job.Job:
    recipe = named("waves", data=Waves(count=60, window=5), model=Model(hidden=4, layers=layers), epochs=1, batch=8)
    return domains.of(recipe).prepare(recipe)


def test_drawing_by_layer_gives_the_numbers_of_one_compiled_function() -> None:
    some = deep(2)
    x = jnp.asarray(some.batches.train.x[:1])
    draw = partial(epoch.init, some.setup, jax.random.key(7), x)
    at_once, by_layer = jax.jit(draw)(), draw(by_layer=True)
    assert jax.tree.structure(at_once) == jax.tree.structure(by_layer)
    for one, other in zip(jax.tree.leaves(at_once.params), jax.tree.leaves(by_layer.params), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_deep_stack_compiles_nothing_for_its_further_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    monkeypatch.setattr(base, "MOST_LAYERS_AT_ONCE", 2)
    name = "/jax/core/compile/backend_compile_duration"

    def count(event: str, *_: object, **__: object) -> None:
        if event == name:
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(count)
    job.initial_state(deep(4))
    compiled.clear()
    job.initial_state(deep(6))
    # Of the stack itself there is the function that lays its arrays on the devices.
    assert len(compiled) <= 2


def test_a_deep_or_large_model_is_announced_before_it_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()

    def draw(_: job.Job) -> None:
        raise KeyError

    monkeypatch.setattr(run, "initial_state", draw)
    for model, sentence in ((Model(hidden=4, layers=9), "9 layers of 4 units"), (Model(hidden=2000), "12,0")):
        recipe = named("waves", data=Waves(count=60, window=5), model=model, epochs=1, batch=8)
        with pytest.raises(KeyError):
            run.train(recipe, out=tmp_path / "run", console=Console(file=said, width=200))
        assert sentence in said.getvalue() and "may take minutes" in said.getvalue()
    assert job.size_note(deep(2)) is None


# Real runs -------------------------------------------------------------------------------------------------------------

RUNS = (
    "--data.count 100 --data.window 10 --model.hidden 3",
    "--data.count 100 --data.window 10 --model.cell lstm --model.hidden 2000 --batch 8",
    "--data.count 3000 --data.window 200 --model.cell gru --model.hidden 64 --batch 2048",
    "--data.count 1000 --data.window 100 --model.cell rnn --model.layers 2 --model.hidden 256 --batch 512",
    "--data.count 1000 --data.window 100 --model.cell lstm --model.norm layer --model.hidden 128 --batch 512",
    "--data.count 8000 --data.window 100 --model.cell lstm --model.layers 2 --model.hidden 96 --batch 64",
)
MEASURE = """
import os, resource, sys
from jaxseq.train import __main__ as command, footprint, job

estimates, checked = [], footprint.Footprint.check
def check(self, most=None):
    estimates.append(sum(self))
    checked(self, most)
footprint.Footprint.check, footprint.SURE = check, 0.0
assert command.main(sys.argv[1:]) == 0
print("estimate", estimates[0], "peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("words", RUNS)
def test_the_estimate_is_that_of_a_real_run(words: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(footprint.__file__).parents[2])}
    line = [sys.executable, "-c", MEASURE, "waves", *words.split(), "--epochs", "1", "--out", str(tmp_path / "run")]
    process = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=900, check=True)
    _, guess, _, peak = process.stdout.splitlines()[-1].split()
    print(f"\n{words}: {float(peak) / 2**20:,.0f} MiB, estimated {float(guess) / 2**20:,.0f}")
    assert float(guess) == pytest.approx(float(peak), rel=0.25)
