"""Arrays over four devices, by `jax.shard_map` and on an Explicit mesh: the values and gradients of one device.

A case of each kind is tried on each change; the full product is `slow`.
"""

import itertools
from functools import cache, partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from pairwise import slow_except
from problems import EVALUATED, GATED, SLOTS, close, draw, norm_of, quickly, slots, total

from jaxseq.cells import CELLS, normalised, recurrence, strategy
from jaxseq.cells.norm import Norm
from jaxseq.cells.normalised import Normalisation
from jaxseq.cells.recurrence import Rows, Traversal
from jaxseq.nn.recurrent import STATS, Bidirectional, Recurrent

DEVICES, B = 4, 8
ROWS, STEPS = P("data"), P(None, "data")
LENGTHS = jnp.asarray([7, 0, 3, 5, 2, 7, 1, 4], jnp.int8)
pytestmark = pytest.mark.usefixtures("double")


def a_mesh(kind):
    return jax.make_mesh((DEVICES,), ("data",), axis_types=(kind,), devices=jax.devices()[:DEVICES])


def on_one(function, arrays, specs, results):
    return quickly(function)(*arrays)


def in_shard_map(function, arrays, specs, results, check_vma=True):
    mapped = jax.shard_map(function, mesh=a_mesh(AxisType.Auto), in_specs=specs, out_specs=results, check_vma=check_vma)
    return quickly(mapped)(*arrays)


def on_explicit(function, arrays, specs, results):
    mesh = a_mesh(AxisType.Explicit)
    with jax.set_mesh(mesh):
        placed = [
            jax.tree.map(partial(jax.device_put, device=NamedSharding(mesh, spec)), array)
            for array, spec in zip(arrays, specs, strict=True)
        ]
        found = quickly(function)(*placed)
    for array, spec in zip(found, results, strict=True):
        jax.tree.map(partial(has_spec, spec=spec), array)
    return found


def has_spec(array, spec):
    specs = (*spec, *[None] * (array.ndim - len(spec)))
    assert tuple(array.sharding.spec) + (None,) * (array.ndim - len(array.sharding.spec)) == specs


SPREADS = {"shard_map": in_shard_map, "explicit": on_explicit}


def problem(name, slot, padded, reverse=False, truncate=None, d=2, kernel="auto", dtype="float64"):
    """A function of arrays, the arrays, and how they are spread: it gives gradients and results of a scan."""
    p = draw(name, b=B, d=d, dtype=dtype)
    gains = running = None
    if slot != "none":
        _, gains, running = slots(p, norm_of(slot).name)
    drop = 2 * np.random.default_rng(3).integers(0, 2, p.start.h.shape).astype(dtype) if padded else None
    lengths = LENGTHS if padded else None
    traversal = Traversal(reverse, truncate, kernel)

    def gradients(params, gains, running, x, start, drop, lengths, mix):
        def value(params, gains, x, start, drop):
            rows = Rows(lengths, drop)
            if slot == "none":
                results = (*recurrence.scan(p.cell, params, x, start, rows, traversal), None)
            else:
                normalisation = Normalisation(norm_of(slot), gains, running, train=slot != EVALUATED)
                results = normalised.scan(p.cell, normalisation, params, x, start, rows, traversal)
            return total(*results[:2], mix), results

        arguments = (params, gains, x, start, drop)
        by_argument, results = jax.grad(value, argnums=(0, 1, 2, 3, 4), has_aux=True)(*arguments)
        return *by_argument, *results

    arrays = (p.params, gains, running, p.x, p.start, drop, lengths, p.mix)
    specs = (P(), P(), P(), STEPS, ROWS, ROWS, ROWS, STEPS)
    return gradients, arrays, specs, (P(), P(), STEPS, ROWS, ROWS, ROWS, STEPS, P())


@cache
def expected(*case):
    return on_one(*problem(*case))


QUICK = [
    (("gru", "none", True, True, 3), "shard_map"),
    (("lstm", "batch", True, True, None), "explicit"),
]
CASES = [
    *(case for case, _ in QUICK),
    *itertools.product(GATED, SLOTS, (False, True), (False, True), (None,)),
    *itertools.product(GATED, ("none", "layer", "layer-sum"), (False, True), (False, True), (4,)),
    *itertools.product(GATED, SLOTS, (True,), (False,), (None,), (1,)),
]
slow = pytest.mark.slow


@pytest.mark.parametrize(
    ("case", "spread"), slow_except(QUICK, list(itertools.product(dict.fromkeys(CASES), SPREADS))), ids=str
)
def test_four_devices_compute_what_one_computes(case, spread):
    close(SPREADS[spread](*problem(*case)), expected(*case), 1e-9)


def test_a_start_of_zeros_does_not_vary_and_need_not():
    gradients, (params, *others, x, start, drop, lengths, mix), specs, results = problem("lstm", "layer", True)
    zeros = type(start)(*jnp.zeros((2, B // DEVICES, 4)))
    start = jax.tree.map(jnp.zeros_like, start)
    alone = on_one(gradients, (params, *others, x, start, drop, lengths, mix), specs, results)

    def from_zeros(params, gains, running, x, drop, lengths, mix):
        return gradients(params, gains, running, x, zeros, drop, lengths, mix)

    # The gradient of zeros that all devices share is summed over them.
    divided = in_shard_map(
        from_zeros,
        (params, *others, x, drop, lengths, mix),
        (*specs[:4], *specs[5:]),
        (*results[:3], P(), *results[4:]),
    )
    close((*divided[:3], *divided[4:]), (*alone[:3], *alone[4:]), 1e-9)
    summed = jax.tree.map(lambda s: s.reshape(DEVICES, B // DEVICES, -1).sum(0), alone[3])
    close(divided[3], summed, 1e-9)


@pytest.mark.parametrize("name", GATED)
@pytest.mark.parametrize("slot", ["none", "layer"])
def test_devices_meet_once_for_each_parameter(name, slot):
    gradients, arrays, specs, results = problem(name, slot, True)
    mapped = jax.shard_map(gradients, mesh=a_mesh(AxisType.Auto), in_specs=specs, out_specs=results)
    program = jax.jit(mapped).lower(*arrays).as_text()
    assert program.count("stablehlo.all_reduce") == len(jax.tree.leaves(arrays[:2]))


def test_in_shard_map_a_device_takes_the_strategies_of_one():
    mesh = AbstractMesh((4,), ("data",), axis_types=(AxisType.Auto,))
    with jax.sharding.use_abstract_mesh(mesh):
        assert strategy.on_mesh()
    with jax.sharding.use_abstract_mesh(mesh.update_axis_types({"data": AxisType.Manual})):
        assert not strategy.on_mesh()
    partly = AbstractMesh((4, 2), ("data", "model"), axis_types=(AxisType.Manual, AxisType.Auto))
    with jax.sharding.use_abstract_mesh(partly):
        assert strategy.on_mesh()


@slow
def test_models_that_are_spread_keep_their_own_moments():
    """Weights that vary over devices belong to other models, whose rows are not one batch."""
    gradients, (params, gains, running, *rows), _, _ = problem("gru", "batch", False)
    several = jax.tree.map(lambda a: jnp.stack([a, 2 * a, 3 * a, 4 * a]), (params, gains, running))

    def one_model(params, gains, running, *rows):
        first = jax.tree.map(lambda a: a[0], (params, gains, running))
        return jax.tree.map(lambda a: a[None], gradients(*first, *rows))

    models = P("data")
    specs = (models, models, models, *[P()] * 5)
    divided = in_shard_map(one_model, (*several, *rows), specs, models)

    # x and the start are shared by the models, so their gradients are sums over them.
    own = [0, 1, 5, 6, 7]
    for number in range(DEVICES):
        of_model = partial(jax.tree.map, lambda a, number=number: a[number])
        alone = on_one(gradients, (*of_model(several), *rows), None, None)
        close([of_model(divided[i]) for i in own], [alone[i] for i in own], 1e-9)


@pytest.mark.parametrize("kernel", ["pallas", "cudnn"])
def test_kernels_are_refused_in_shard_map(kernel):
    with pytest.raises(ValueError, match="needs check_vma=False, and the arrays vary over data"):
        in_shard_map(*problem("lstm", "none", False, kernel=kernel, dtype="float32"))


@slow
def test_without_its_check_kernels_run_in_shard_map():
    """Gradients of what all devices share are then summed by hand."""
    gradients, *rest = problem("gru", "layer", True, kernel="pallas", dtype="float32")

    def summed(*arrays):
        by_params, by_gains, *others = gradients(*arrays)
        return *jax.lax.psum((by_params, by_gains), "data"), *others

    divided = in_shard_map(summed, *rest, check_vma=False)
    close(divided, on_one(gradients, *rest), 1e-5)


@slow
def test_kernels_run_on_an_explicit_mesh():
    case = problem("lstm", "none", True, kernel="pallas", dtype="float32")
    close(on_explicit(*case), on_one(*case), 1e-5)


def test_auto_takes_the_scan_in_shard_map():
    gpu = AbstractDevice(device_kind="NVIDIA H100", num_cores=None, platform="gpu")
    mesh = AbstractMesh((1,), ("data",), axis_types=(AxisType.Auto,), abstract_device=gpu)
    gradients, arrays, specs, results = problem("gru", "none", True, dtype="float32")
    with jax.sharding.use_abstract_mesh(mesh):
        assert "pallas_call" in str(jax.make_jaxpr(gradients)(*arrays))
        mapped = jax.shard_map(gradients, in_specs=specs, out_specs=results)
        assert "pallas_call" not in str(jax.make_jaxpr(mapped)(*arrays))


LAYERS = {
    "plain": {},
    "learnt start, padded, backwards": {"learn_start": True, "reverse": True},
    "truncated": {"norm": Norm("layer"), "truncate": 3},
    "batch": {"norm": Norm("batch")},
}
QUICK_LAYERS = [("batch", "explicit")]


def layer_problem(layer, padded, rng=None):
    """As `problem`, of a Flax layer: gradients of its parameters and of x, outputs, and statistics."""
    x = jnp.asarray(np.random.default_rng(2).normal(size=(B, 7, 2)))
    variables = quickly(layer.init)(jax.random.key(0), x)
    lengths = LENGTHS if padded else None

    def gradients(variables, x, lengths):
        def value(params, x):
            (last, outputs), changed = layer.apply(
                {**variables, "params": params}, x, lengths=lengths, train=True, mutable=[STATS], rngs=rng
            )
            return total(last, outputs, jnp.cos(outputs)), (outputs, changed)

        by_argument, (outputs, changed) = jax.grad(value, argnums=(0, 1), has_aux=True)(variables["params"], x)
        return *by_argument, outputs, changed

    return gradients, (variables, x, lengths), (P(), ROWS, ROWS), (P(), ROWS, ROWS, P())


@pytest.mark.parametrize(
    ("kind", "spread"),
    [
        pytest.param(kind, spread, marks=[] if (kind, spread) in QUICK_LAYERS else slow)
        for kind, spread in itertools.product(LAYERS, SPREADS)
    ],
)
def test_layers_compute_on_four_devices_what_they_do_on_one(kind, spread):
    layer = Recurrent(CELLS["lstm"], 3, **LAYERS[kind])
    if kind == "plain":
        layer = Bidirectional(layer)
    case = layer_problem(layer, padded="padded" in kind or kind == "plain")
    close(SPREADS[spread](*case), on_one(*case), 1e-9)


@slow
def test_a_layer_draws_dropout_on_an_explicit_mesh_as_on_one_device():
    layer = Recurrent(CELLS["gru"], 3, recurrent_dropout=0.5)
    case = layer_problem(layer, padded=True, rng={"dropout": jax.random.key(7)})
    close(on_explicit(*case), on_one(*case), 1e-9)


@slow
def test_in_shard_map_each_device_draws_dropout_for_its_rows():
    layer = Recurrent(CELLS["gru"], 3, recurrent_dropout=0.5)
    gradients, arrays, specs, results = layer_problem(layer, padded=True, rng={"dropout": jax.random.key(7)})
    by_params, by_x, outputs, _ = in_shard_map(gradients, arrays, specs, results)

    variables, x, lengths = arrays
    parts = [
        on_one(gradients, (variables, *part), None, None)
        for part in zip(jnp.split(x, DEVICES), jnp.split(lengths, DEVICES), strict=True)
    ]
    close(by_params, jax.tree.map(lambda *leaves: sum(leaves), *(part[0] for part in parts)), 1e-9)
    close((by_x, outputs), tuple(jnp.concatenate([part[i] for part in parts]) for i in (1, 2)), 1e-9)
    chex.assert_tree_all_finite(by_params)
