"""Devices: four of them compute what one does, and each computes its share alone."""

import functools
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxseq import cells
from jaxseq.common.arrays import Batch
from jaxseq.common.errors import ABSENT, UsageError
from jaxseq.nn import forecaster, heads, objectives
from jaxseq.train import devices, epoch, options, processes

ADAM = optax.adam(1e-2)
BATCH, WINDOW, HIDDEN = 32, 6, 5
ADDRESS = "an address and a port, as 10.0.0.1:12345"


def setup(mesh: jax.sharding.Mesh) -> epoch.Setup:
    model = forecaster.Forecaster(cells.named("gru"), HIDDEN, 1, 1)
    return epoch.Setup(model, objectives.forecasting(heads.point()), ADAM, devices.batch_sharding(mesh, BATCH))


def data() -> Batch:
    x = np.random.default_rng(0).normal(size=(77, WINDOW, 1)).astype(np.float32)
    return Batch(x, x.mean(axis=1))


def start(chosen: epoch.Setup, mesh: jax.sharding.Mesh) -> epoch.TrainState:
    window = jnp.asarray(data().x[:1])
    return devices.replicate(mesh, jax.jit(partial(epoch.init, chosen))(jax.random.key(0), window))


def trained(count: int) -> tuple[epoch.TrainState, np.ndarray, dict[str, jax.Array]]:
    mesh = devices.make(jax.devices()[:count])
    chosen, batches = setup(mesh), devices.replicate(mesh, data())
    state = start(chosen, mesh)
    losses = []
    for _ in range(3):
        state, log = epoch.epoch(chosen, state, batches, BATCH)
        losses.append(np.asarray(log.loss))
    return state, np.stack(losses), epoch.evaluate(chosen, state.params, state.stats, batches, BATCH)


@functools.cache
def compiled(count: int) -> str:
    mesh = devices.make(jax.devices()[:count])
    chosen = setup(mesh)
    state = start(chosen, mesh)
    return epoch.epoch.lower(chosen, state, devices.replicate(mesh, data()), BATCH).compile().as_text()


def test_four_devices_train_what_one_trains() -> None:
    one, one_loss, one_valid = trained(1)
    four, four_loss, four_valid = trained(4)
    assert four.step.sharding.device_set == set(jax.devices()[:4])
    np.testing.assert_allclose(four_loss, one_loss, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), four.params, one.params)
    np.testing.assert_allclose(four_valid["mse"], one_valid["mse"], atol=1e-6)
    np.testing.assert_array_equal(jax.random.key_data(four.key), jax.random.key_data(one.key))


def test_each_device_computes_a_quarter_of_the_batch() -> None:
    one, four = compiled(1), compiled(4)
    assert "all-reduce" not in one and four.count("all-reduce") > 0
    whole, share = f"f32[{BATCH},{3 * HIDDEN}]", f"f32[{BATCH // 4},{3 * HIDDEN}]"  # the gates of one step
    assert whole in one and share not in one
    assert share in four and whole not in four
    whole, share = f"f32[{WINDOW},{BATCH},{HIDDEN}]", f"f32[{WINDOW},{BATCH // 4},{HIDDEN}]"  # the states of all steps
    assert whole in one and share not in one and share in four


def test_no_device_gathers_the_states_of_the_others() -> None:
    assert "all-gather" not in compiled(4)


def test_no_device_waits_for_another_inside_the_recurrence() -> None:
    four = compiled(4)
    bodies = re.findall(r"^%?[^\n]*\{\n(?:(?!^\}).*\n)*^\}", four, re.MULTILINE)
    reducing = [body for body in bodies if re.search(r"= [^\n]* all-reduce(?:-start)?\(", body)]
    assert reducing and all(f"f32[{BATCH // 4},{3 * HIDDEN}]" not in body for body in reducing)


def test_a_batch_that_does_not_divide_is_refused_with_both_numbers() -> None:
    mesh = devices.make(jax.devices()[:4])
    with pytest.raises(UsageError, match="split over 4 devices") as error:
        devices.batch_sharding(mesh, 30)
    assert (error.value.got, error.value.needed) == (30, "a multiple of 4")
    assert devices.batch_sharding(devices.make(jax.devices()[:3]), 30).num_devices == 3


def test_what_is_replicated_is_whole_on_every_device() -> None:
    mesh = devices.make()
    array = devices.replicate(mesh, {"x": np.arange(8.0, dtype=np.float32)})["x"]
    assert len(array.addressable_shards) == 4 and all(shard.data.shape == (8,) for shard in array.addressable_shards)
    assert devices.describe(mesh) == "4 cpu" and mesh.axis_names == (devices.DATA,)


@pytest.mark.parametrize(
    ("fields", "where", "got", "needed"),
    [
        ({"processes": 0}, "--mesh.processes", 0, "at least 1, or auto"),
        ({"processes": 2}, "--mesh.processes 2", ABSENT, "it, or --mesh.processes auto"),
        ({"processes": 2, "process": 2, "coordinator": "a:1"}, "--mesh.process", 2, "0 to 1, for 2 processes"),
        ({"processes": 2, "process": 0, "coordinator": "a"}, "--mesh.coordinator", "a", ADDRESS),
        ({"processes": 2, "process": 0, "coordinator": "a:65536"}, "--mesh.coordinator", "a:65536", ADDRESS),
        ({"process": 1}, "--mesh.process", ABSENT, ABSENT),
        ({"processes": "auto", "coordinator": "a:1"}, "--mesh.coordinator", ABSENT, ABSENT),
        ({"wait": 0}, "--mesh.wait", 0, "at least 1 second"),
    ],
)
def test_processes_that_cannot_be_are_refused(
    fields: dict[str, int | str], where: str, got: object, needed: object
) -> None:
    with pytest.raises(UsageError) as error:
        processes.Processes(**fields)  # pyrefly: ignore[bad-argument-type]
    assert (error.value.where, error.value.got, error.value.needed) == (where, got, needed)


def test_the_field_that_several_processes_lack_is_named() -> None:
    for missing, fields in {"process": {"coordinator": "a:1"}, "coordinator": {"process": 0}}.items():
        with pytest.raises(UsageError) as error:
            processes.Processes(processes=2, **fields)  # pyrefly: ignore[bad-argument-type]
        assert error.value.rule == f"--mesh.{missing} is missing"


def test_a_command_names_its_process_and_a_study_has_but_one() -> None:
    words = ["aapl", "--mesh.processes", "4", "--mesh.process", "3", "--mesh.coordinator", "[::1]:80"]
    assert options.parse(words).mesh == processes.Processes(4, 3, "[::1]:80")
    assert options.parse(["aapl", "--mesh.processes", "auto"]).mesh.processes == "auto"
    with pytest.raises(UsageError, match="leave out --seeds and --backtest"):
        options.parse([*words, "--seeds", "2"])


def test_auto_takes_what_the_environment_says() -> None:
    auto = processes.Processes("auto", wait=7)
    said = {"JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3", "JAX_COORDINATOR_ADDRESS": "a:80", "OTHER": "x"}
    assert processes.from_environment(auto, said) == processes.Processes(4, 3, "a:80", 7)
    assert processes.from_environment(auto, {**said, "JAX_NUM_PROCESSES": "1"}) == processes.Processes(wait=7)
    assert processes.from_environment(auto, {"JAX_COORDINATOR_ADDRESS": "a:80"}) == auto, "which JAX reads itself"
    assert processes.from_environment(processes.Processes(), said) == processes.Processes()
    with pytest.raises(UsageError, match="JAX_PROCESS_ID is missing"):
        processes.from_environment(auto, {name: said[name] for name in said if name != "JAX_PROCESS_ID"})
    with pytest.raises(UsageError, match="JAX_NUM_PROCESSES: not a number; got 'four'"):
        processes.from_environment(auto, {**said, "JAX_NUM_PROCESSES": "four"})
    with pytest.raises(UsageError, match="0 to 3, for 4 processes"):
        processes.from_environment(auto, {**said, "JAX_PROCESS_ID": "4"})


def test_one_process_is_the_first_and_asks_nobody() -> None:
    gone = RuntimeError("Gloo all-reduce failed: connection closed by peer")
    with pytest.raises(RuntimeError, match="Gloo"), processes.joined(processes.Processes(), "test"):
        assert processes.is_first() and not processes.several()
        assert processes.from_first(lambda: (1, 2)) == (1, 2) and processes.largest(3) == 3
        assert processes.leave(2) == 2
        raise gone
