"""On a GPU, training repeats bit for bit, computes what a CPU computes, and leaves the GPU alone within an epoch."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

from jaxseq.cells import CELLS
from jaxseq.cells.norm import Norm
from jaxseq.common.arrays import Batch
from jaxseq.nn import heads, objectives
from jaxseq.nn.forecaster import Forecaster
from jaxseq.train import devices, epoch

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]

ROWS, WINDOW, BATCH = 200, 12, 32
MODELS = {
    "gru": Forecaster(CELLS["gru"], 50, 1, 1),
    "lstm, wide": Forecaster(CELLS["lstm"], 160, 1, 1),
    "lstm, two layers, dropout": Forecaster(CELLS["lstm"], 24, 2, 1, dropout=0.2, recurrent_dropout=0.2),
    "lstm, layer norm": Forecaster(CELLS["lstm"], 24, 1, 1, norm=Norm("layer")),
    "rnn, batch norm": Forecaster(CELLS["rnn"], 24, 1, 1, norm=Norm("batch")),
}
every_model = pytest.mark.parametrize("kind", MODELS)


def rows():
    """Windows and the mean of each."""
    x = np.random.default_rng(0).normal(size=(ROWS, WINDOW, 1)).astype(np.float32)
    return Batch(x, x.mean(axis=1))


def prepare(device, kind, optimiser):
    """Setup, first state and rows as a run has them: on a mesh of one device. The state is drawn on the CPU."""
    mesh = devices.make([device])
    objective = objectives.forecasting(heads.point())
    setup = epoch.Setup(MODELS[kind], objective, optimiser, devices.batch_sharding(mesh, BATCH))
    with jax.default_device(jax.devices("cpu")[0]):
        state = jax.jit(partial(epoch.init, setup))(jax.random.key(0), rows().x[:1])
    return setup, devices.replicate(mesh, state), devices.replicate(mesh, rows())


def copied(state):
    return jax.tree.map(lambda leaf: leaf.copy(), state)


def arrays(tree):
    """The leaves in numpy's arrays, keys as their numbers."""

    def array(leaf):
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        return np.asarray(leaf)

    return jax.tree.map(array, tree)


@every_model
def test_the_same_epochs_are_the_same_bits(device, kind):
    setup, start, data = prepare(device, kind, optax.adam(1e-2))
    results = []
    for _ in range(3):
        state = copied(start)
        for _ in range(2):
            state, log = epoch.epoch(setup, state, data, BATCH)
        metrics = epoch.evaluate(setup, state.params, state.stats, data, BATCH)
        results.append(arrays((state, log, metrics)))
    for other in results[1:]:
        jax.tree.map(np.testing.assert_array_equal, other, results[0])


@pytest.mark.parametrize("kind", [kind for kind in MODELS if "dropout" not in kind])
def test_an_epoch_is_that_of_a_cpu(device, cpu, kind):
    results = []
    for place in (device, cpu):
        # Not Adam, which divides by the gradient's size: where it is near zero, rounding alone decides the direction.
        setup, state, data = prepare(place, kind, optax.sgd(0.05))
        state, log = epoch.epoch(setup, state, data, BATCH)
        metrics = epoch.evaluate(setup, state.params, state.stats, data, BATCH)
        results.append(arrays((log.loss, state.params, state.stats, metrics)))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), *results)


@every_model
def test_an_epoch_calls_and_reads_nothing_on_the_host(device, kind):
    setup, state, data = prepare(device, kind, optax.adam(1e-2))
    program = epoch.epoch.lower(setup, state, data, BATCH).compile().as_text()
    on_the_host = r"callback|infeed|outfeed|MoveToHost|MoveToDevice|\b(send|recv)(-done)?\("
    assert not re.search(on_the_host, program, re.IGNORECASE)

    # The first call compiles, and puts constants on the device.
    state, _ = epoch.epoch(setup, state, data, BATCH)
    with jax.transfer_guard("disallow"):
        state, log = epoch.epoch(setup, state, data, BATCH)
        jax.block_until_ready((state, log))
    assert np.isfinite(log.loss).all()


# Runs of the command -------------------------------------------------------------------------------------------------

EPOCHS = 4
COMMAND = [sys.executable, "-m", "jaxseq.train"]
NEW_RUN = ["waves", "--epochs", str(EPOCHS), "--model.hidden", "20", "--data.window", "12"]


def begin(folder, device, flags, *words):
    """Start the command in a folder. Each process compiles for itself, as those of a user do."""
    environment = {**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "0"}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    environment["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()
    environment["JAX_PLATFORMS"] = "cuda,cpu" if device.platform == "gpu" else "cpu"
    return subprocess.Popen(
        [*COMMAND, *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process, *statuses):
    output, _ = process.communicate(timeout=200)
    assert process.returncode in statuses, output


def losses(run):
    """Rows of the log without its times."""
    logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if "second" not in name} for row in logged]


@pytest.mark.parametrize("flags", ["", "--xla_gpu_deterministic_ops=true"])
def test_a_run_that_was_stopped_resumes_bit_for_bit(device, flags, tmp_path):
    """Processes that measure which kernels are fastest may choose different ones; the flag takes the choice away."""
    pytest.importorskip("tyro")
    pytest.importorskip("rich")
    whole = begin(tmp_path, device, flags, *NEW_RUN, "--out", "whole")
    stopped = begin(tmp_path, device, flags, *NEW_RUN, "--out", "parts")
    log = tmp_path / "parts/metrics.jsonl"
    while stopped.poll() is None and not (log.exists() and log.read_text()):
        time.sleep(0.02)
    stopped.send_signal(signal.SIGTERM)
    # A process may be through before the signal reaches it: then resuming only judges it again.
    finish(stopped, 0, 143)
    stopped_after = len(losses(tmp_path / "parts"))
    finish(begin(tmp_path, device, flags, "--resume", "parts"), 0)
    finish(whole, 0)

    environment = json.loads((tmp_path / "whole/environment.json").read_text())
    assert device.device_kind in json.dumps(environment)
    assert stopped_after <= EPOCHS and len(losses(tmp_path / "whole")) == EPOCHS
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    for name in ("predictions.csv", "scores.csv"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
