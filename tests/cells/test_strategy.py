"""Strategies: which platform a program is traced for, and the same numbers by the strategies of either."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, AxisType
from pairwise import slow_except
from problems import GATED, Size, close, differentiate, inputs, quickly

from jaxseq.cells import CELLS, recurrence, strategy
from jaxseq.cells.norm import Norm
from jaxseq.cells.strategy import Accumulation, Backward, Buffers, Linearisation

pytestmark = pytest.mark.usefixtures("double")


def mesh(platform, devices=1, kind="a device"):
    device = AbstractDevice(device_kind=kind, num_cores=None, platform=platform)
    return AbstractMesh((devices,), ("data",), axis_types=(AxisType.Auto,), abstract_device=device)


@pytest.mark.parametrize(("name", "expected"), [("cpu", "cpu"), ("gpu", "gpu"), ("cuda", "gpu"), ("rocm", "gpu")])
def test_the_mesh_that_is_set_says_the_platform(name, expected):
    with jax.sharding.use_abstract_mesh(mesh(name)):
        assert strategy.platform() == expected
    assert strategy.platform() == "cpu"


def test_without_a_mesh_the_default_device_says_it(monkeypatch):
    found = jax.local_devices
    gpu = AbstractDevice(device_kind="NVIDIA H100", num_cores=None, platform="gpu")
    monkeypatch.setattr(jax, "local_devices", lambda backend=None: found(backend=backend) if backend else [gpu])
    assert strategy.platform() == "gpu"
    assert strategy.on_nvidia()
    for device in ("cpu", jax.devices("cpu")[1]):
        with jax.default_device(device):
            assert strategy.platform() == "cpu"
            with jax.sharding.use_abstract_mesh(mesh("gpu")):
                assert strategy.platform() == "gpu"


@pytest.mark.parametrize("name", GATED)
@pytest.mark.parametrize("norm", [None, Norm("layer")])
@pytest.mark.parametrize(("rows", "units"), [(1, 1), (32, 50), (2, 300)])
def test_a_gpu_has_one_strategy_for_all_sizes(name, norm, rows, units):
    with jax.sharding.use_abstract_mesh(mesh("gpu")):
        chosen = strategy.backward(CELLS[name], norm, rows=rows, units=units)
        assert strategy.padded_columns(units) == 0
    assert chosen == Backward(Accumulation.AT_ONCE, Linearisation.AT_ONCE, Buffers.NEW)


@pytest.mark.parametrize(
    ("name", "slot", "b", "h"),
    slow_except(
        {("rnn", "layer", 1, 1), ("lstm", "none", 5, 33), ("gru", "layer-sum", 5, 33)},
        [(name, *rest) for name in GATED for rest in (("none", 5, 33), ("layer", 1, 1), ("layer-sum", 5, 33))],
    ),
)
def test_what_is_traced_for_a_gpu_is_right_on_a_cpu_too(name, slot, b, h):
    """Compiled as it is used, with all of XLA's optimisations; what it is compared with without them."""
    i = inputs(name, slot, Size(4, b, 3, h, gated=False), 1, [4] * b)
    arrays = jax.tree.map(jnp.asarray, i)
    results = []
    for way, platform, compiled in (("scan", "gpu", jax.jit), ("scan_by_autodiff", "cpu", quickly)):
        with jax.sharding.use_abstract_mesh(mesh(platform)):
            results.append(compiled(partial(differentiate, name=name, slot=slot, way=way))(arrays))
    close(*results, 1e-9)


LAYERS = {
    "a GPU": ("NVIDIA H100", 1, 128, jnp.float32, True),
    "another GPU": ("NVIDIA A100-SXM4-40GB", 1, 64, jnp.float32, True),
    "another GPU, half of R": ("NVIDIA A100-SXM4-40GB", 1, 65, jnp.float32, False),
    "another maker": ("AMD Instinct", 1, 128, jnp.float32, False),
    "a mesh": ("NVIDIA H100", 2, 128, jnp.float32, False),
    "a wide layer": ("NVIDIA H100", 1, 129, jnp.float32, False),
    "double precision": ("NVIDIA H100", 1, 8, jnp.float64, False),
}


@pytest.mark.parametrize(("kind", "devices", "units", "dtype", "persistent"), LAYERS.values(), ids=list(LAYERS))
def test_a_gpu_by_nvidia_takes_the_persistent_kernels_where_they_fit(kind, devices, units, dtype, persistent):
    cell = CELLS["gru"]
    params = cell.init(jax.random.key(0), 1, units, dtype)
    x = jnp.zeros((2, 4, 1), dtype)
    with jax.sharding.use_abstract_mesh(mesh("gpu", devices, kind)):
        scan = jax.make_jaxpr(partial(recurrence.scan, cell))(params, x, cell.start((4, units), dtype))
    assert ("pallas_call" in str(scan)) == persistent


@pytest.mark.parametrize(("count", "persistent"), [(1, True), (2, False)])
def test_on_several_gpus_without_a_mesh_the_batch_may_be_spread(monkeypatch, count, persistent):
    gpu = AbstractDevice(device_kind="NVIDIA H100", num_cores=None, platform="gpu")
    monkeypatch.setattr(jax, "local_devices", lambda: [gpu] * count)
    cell = CELLS["rnn"]
    params = cell.init(jax.random.key(0), 1, 4, jnp.float32)
    x = jnp.zeros((2, 3, 1), jnp.float32)
    scan = jax.make_jaxpr(partial(recurrence.scan, cell))(params, x, cell.start((3, 4), jnp.float32))
    assert ("pallas_call" in str(scan)) == persistent
