"""The persistent kernels, interpreted, against the scan and its hand-written adjoint; and the choice among kernels."""

import dataclasses
import functools
import itertools
import random
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import pallas as pl
from pairwise import slow_except
from problems import normal, quickly, shapes, untrained

from jaxseq.cells import CELLS, adjoint, kernel_layout, normalised, persistent, recurrence
from jaxseq.cells.adjoint import Layer, Sequence, Trainable
from jaxseq.cells.kernel_layout import Plan
from jaxseq.cells.norm import Norm
from jaxseq.cells.normalised import Normalisation
from jaxseq.cells.recurrence import Rows, Traversal
from jaxseq.nn.recurrent import Recurrent

GATED = {name: cell for name, cell in CELLS.items() if cell.pointwise is not None}
every_cell = pytest.mark.parametrize("name", GATED)
SLOTS = (None, "layer", "layer-sum")
GROUPS = {"lstm": ((4,), (2, 2)), "gru": ((4,), (2, 1)), "rnn": ((1,),)}


@dataclasses.dataclass(frozen=True)
class Case:
    """A layer, its sizes and its options."""

    name: str
    slot: str | None
    t: int
    b: int
    h: int
    d: int
    lengths: bool
    drop: bool
    reverse: bool
    truncate: int | None
    resets: bool = False


def draw(case, seed=0):
    """Parameters, gains, inputs, carry and rows; nothing is zero but what dropout and padding make so."""
    # By numpy: JAX compiles each draw of its own anew for each shape, which takes longer than most of these tests.
    source = np.random.default_rng(seed)
    cell = CELLS[case.name]
    params, carry = shapes(cell, case.b, case.d, case.h, jnp.dtype("float32"))
    params, carry = normal(source, params, 0.4), normal(source, carry, 0.4)
    gains = None
    if case.slot is not None:
        untrained_gains, _ = untrained(
            Norm(case.slot), cell.gate_count, len(carry) > 1, case.t, case.h, jnp.dtype("float32")
        )
        gains = jax.tree.map(np.add, untrained_gains, normal(source, untrained_gains, 0.1))
    lengths = source.integers(0, case.t + 1, case.b) if case.lengths else None
    drop = source.binomial(1, 0.7, (case.b, case.h)) / np.float32(0.7) if case.drop else None
    x = source.normal(size=(case.t, case.b, case.d))
    resets, restart = None, None
    if case.resets:
        resets = source.random((case.t, case.b)) < 0.4
        restart = normal(source, carry, 0.4)
    return jax.tree.map(_on_device, (params, gains, x, carry, Rows(lengths, drop, resets, restart)))


def _on_device(array):
    dtype = {"i": np.int32, "b": bool, "f": np.float32}[np.asarray(array).dtype.kind]
    return jnp.asarray(np.asarray(array, dtype))


def outcome(case, kernel, seed=0):
    """Values of a scan by a kernel, and gradients by everything."""
    cell = CELLS[case.name]
    params, gains, x, carry, rows = draw(case, seed)
    traversal = Traversal(case.reverse, case.truncate, kernel)

    def scan(params, gains, x, carry, drop, restart):
        rows_of = rows._replace(drop=drop, restart=restart)
        if case.slot is None:
            return recurrence.scan(cell, params, x, carry, rows_of, traversal)
        return normalised.scan(cell, Normalisation(Norm(case.slot), gains), params, x, carry, rows_of, traversal)[:2]

    def both(*arguments):
        values, transpose = jax.vjp(scan, *arguments)
        return values, transpose(jax.tree.map(lambda leaf: jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape), values))

    return quickly(both)(params, gains, x, carry, rows.drop, rows.restart)


def assert_near(tree, expected, tolerance):
    """Assert that each leaf deviates by less than the tolerance times its largest value."""
    chex.assert_trees_all_equal_structs(tree, expected)
    leaves = (map(np.asarray, jax.tree.leaves(each)) for each in (tree, expected))
    for leaf, expected_leaf in zip(*leaves, strict=True):
        assert np.abs(leaf - expected_leaf).max() <= tolerance * max(1, np.abs(expected_leaf).max())


SIZES = {"one step": (1, 1, 3, 1), "many steps": (4, 3, 5, 2), "wide": (3, 2, 17, 1)}
OPTIONS = {
    "plain": (False, False, False, None),
    "padded": (True, True, False, None),
    "reverse": (True, False, True, 2),
    "drop": (False, True, True, None),
    "resets": (True, True, True, 3, True),
}


# Every value once, and each cell with and without a norm; the rest of the product is slow.
QUICK = {
    ("lstm", "None", "many steps", "padded"),
    ("lstm", "layer", "one step", "drop"),
    ("gru", "layer", "many steps", "reverse"),
    ("rnn", "layer-sum", "many steps", "padded"),
    ("gru", "None", "many steps", "resets"),
}
COMBINATIONS = [
    pytest.param(*row, id="-".join(row), marks=[] if row in QUICK else [pytest.mark.slow])
    for row in itertools.product(GATED, map(str, SLOTS), SIZES, OPTIONS)
]


@pytest.mark.parametrize(("name", "slot", "size", "options"), COMBINATIONS)
def test_the_kernels_compute_what_the_scan_does(name, slot, size, options):
    case = Case(name, None if slot == "None" else slot, *SIZES[size], *OPTIONS[options])
    values, gradients = outcome(case, "pallas")
    expected_values, expected_gradients = outcome(case, "scan")
    assert_near(values, expected_values, 1e-6)
    assert_near(gradients, expected_gradients, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(200))
def test_the_kernels_compute_what_the_scan_does_on_random_layers(seed):
    draws = random.Random(seed)
    case = Case(
        name=draws.choice(list(GATED)),
        slot=draws.choice(SLOTS),
        t=draws.randint(1, 9),
        b=draws.randint(1, 5),
        h=draws.randint(1, 40),
        d=draws.randint(1, 4),
        lengths=draws.random() < 0.5,
        drop=draws.random() < 0.5,
        reverse=draws.random() < 0.5,
        truncate=draws.choice([None, 1, 3]),
        resets=draws.random() < 0.5,
    )
    # The norm of a single unit is 0 at any input: its derivative is a rounding error times 1 / √ε, or exactly 0.
    if case.slot is not None and case.h == 1:
        case = dataclasses.replace(case, h=2)
    values, gradients = outcome(case, "pallas", seed)
    expected_values, expected_gradients = outcome(case, "scan", seed)
    assert_near(values, expected_values, 3e-6)
    assert_near(gradients, expected_gradients, 3e-5)


PLANS = [
    (name, groups, parts, kept)
    for name, choices in GROUPS.items()
    for groups in choices
    for parts, kept in ((2, 1), (4, 2))
]
QUICK_PLANS = (
    ("lstm", (4,), 2, 1),
    ("lstm", (2, 2), 4, 2),
    ("gru", (4,), 4, 2),
    ("gru", (2, 1), 2, 1),
    ("rnn", (1,), 2, 1),
)
"""Each cell and each split of its gates once."""


def small_layer(name):
    """A layer without options, parameters and its input."""
    case = Case(name, None, 3, 2, 5, 2, lengths=False, drop=False, reverse=False, truncate=None)
    params, _, x, carry, _ = draw(case)
    return Layer(CELLS[name]), params, Sequence(x, carry)


def loss_by(scan, layer, sequence, params):
    last, outputs = scan(layer, Trainable(params), sequence)
    return jnp.sum(outputs**2) + jnp.sum(last.h)


@functools.cache
def gradient_by_the_scan(name):
    layer, params, sequence = small_layer(name)
    return quickly(jax.grad(partial(loss_by, adjoint.with_adjoint, layer, sequence)))(params)


@pytest.mark.parametrize(("name", "groups", "parts", "kept"), slow_except(QUICK_PLANS, PLANS))
def test_every_layout_of_the_kernels_computes_the_same(name, groups, parts, kept):
    layer, params, sequence = small_layer(name)
    by_plan = partial(persistent.scan_by_plan, plan=Plan(5, groups, warps=4, parts=parts, kept=kept))
    gradient = quickly(jax.grad(partial(loss_by, by_plan, layer, sequence)))(params)
    assert_near(gradient, gradient_by_the_scan(name), 1e-5)


@every_cell
@pytest.mark.parametrize("units", [1, 16, 20, 50, 64, 65, 128])
def test_a_plan_fits_the_registers(name, units):
    cell = CELLS[name]
    plan = kernel_layout.plan(Layer(cell), units)
    numbers_of_a_thread = plan.width**2 * sum(plan.groups) * plan.kept // plan.parts // (32 * plan.warps)
    assert plan.width >= units and plan.width == pl.next_power_of_2(plan.width)
    assert sum(plan.groups) >= cell.gate_count
    # A thread has 255 registers, and fewer where more than 8 warps share a multiprocessor's 65,536.
    assert numbers_of_a_thread + 60 <= min(255, 65536 // (32 * plan.warps))


def test_the_kernels_take_a_batch_of_layers():
    cell = CELLS["gru"]
    params, _, x, carry, _ = draw(
        Case("gru", None, 3, 2, 5, 2, lengths=False, drop=False, reverse=False, truncate=None)
    )
    layers = jax.tree.map(lambda leaf: np.stack([leaf, 2 * np.asarray(leaf)]), params)

    def outputs(kernel, params):
        return recurrence.scan(cell, params, x, carry, traversal=Traversal(kernel=kernel))[1]

    by_kernels, by_scan = (quickly(jax.vmap(partial(outputs, kernel)))(layers) for kernel in ("pallas", "scan"))
    assert_near(by_kernels, by_scan, 1e-6)


@pytest.mark.parametrize("slot", slow_except({None}, [None, "layer"]))
def test_a_gradient_has_a_derivative(slot):
    case = Case("gru", slot, 3, 2, 5, 2, lengths=True, drop=True, reverse=False, truncate=None, resets=True)
    cell = CELLS[case.name]
    params, gains, x, carry, rows = draw(case)

    def loss(kernel, params):
        traversal = Traversal(kernel=kernel)
        if slot is None:
            return jnp.sum(recurrence.scan(cell, params, x, carry, rows, traversal)[1] ** 2)
        normalisation = Normalisation(Norm(slot), gains)
        return jnp.sum(normalised.scan(cell, normalisation, params, x, carry, rows, traversal)[1] ** 2)

    def squared_gradient(kernel, params):
        gradient = jax.grad(partial(loss, kernel))(params)
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(gradient))

    by_kernels, by_scan = (
        quickly(jax.grad(partial(squared_gradient, kernel)))(params) for kernel in ("pallas", "scan")
    )
    assert_near(by_kernels, by_scan, 1e-5)


def test_rows_of_other_lengths_take_a_batch_of_gradients():
    case = Case("lstm", None, 4, 3, 5, 2, lengths=False, drop=False, reverse=False, truncate=None)
    params, _, x, carry, _ = draw(case)

    def gradient(kernel, lengths):
        def loss(params):
            scanned = recurrence.scan(CELLS["lstm"], params, x, carry, Rows(lengths), Traversal(kernel=kernel))
            return jnp.sum(scanned[0].c ** 2)

        return jax.grad(loss)(params)

    lengths = jnp.array([[4, 0, 2], [1, 3, 4]])
    by_kernels, by_scan = (quickly(jax.vmap(partial(gradient, kernel)))(lengths) for kernel in ("pallas", "scan"))
    assert_near(by_kernels, by_scan, 1e-5)


def test_on_a_cpu_the_scan_is_chosen():
    params, _, x, carry, _ = draw(
        Case("lstm", None, 3, 2, 5, 2, lengths=False, drop=False, reverse=False, truncate=None)
    )

    def program(kernel):
        scan = partial(recurrence.scan, CELLS["lstm"], traversal=Traversal(kernel=kernel))
        return jax.jit(scan).lower(params, x, carry).as_text()

    assert program("auto") == program("scan") != program("pallas")


REFUSALS = {
    "units": ("pallas", Case("gru", None, 2, 1, 129, 1, False, False, False, None), "129"),
    "cell": ("cudnn", Case("gru", None, 2, 1, 4, 1, False, False, False, None), "gru"),
    "norm": ("cudnn", Case("lstm", "layer", 2, 1, 4, 1, False, False, False, None), "layer"),
    "lengths": ("cudnn", Case("lstm", None, 2, 1, 4, 1, True, False, False, None), "lengths"),
    "dropout": ("cudnn", Case("lstm", None, 2, 1, 4, 1, False, True, False, None), "dropout"),
    "resets": ("cudnn", Case("lstm", None, 2, 1, 4, 1, False, False, False, None, True), "resets"),
    "platform": ("cudnn", Case("lstm", None, 2, 1, 4, 1, False, False, False, None), "cpu"),
}


@pytest.mark.parametrize(("kernel", "case", "word"), REFUSALS.values(), ids=list(REFUSALS))
def test_a_kernel_refuses_what_it_cannot_compute(kernel, case, word):
    with pytest.raises(ValueError, match=f"kernel is '{kernel}'.*{word}"):
        outcome(case, kernel)


def test_another_name_is_refused():
    with pytest.raises(ValueError, match=r"kernel is 'pallsa'.*auto, scan, pallas, cudnn"):
        outcome(Case("lstm", None, 2, 1, 4, 1, False, False, False, None), "pallsa")


def test_a_kernel_refuses_other_dtypes_and_no_rows():
    cell = CELLS["lstm"]
    traversal = Traversal(kernel="pallas")
    params = cell.init(jax.random.key(0), 1, 4)
    with pytest.raises(ValueError, match="a row"):
        recurrence.scan(cell, params, jnp.ones((2, 0, 1)), cell.start((0, 4)), traversal=traversal)
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.float16), params)
    x = jnp.ones((2, 1, 1), jnp.float16)
    with pytest.raises(ValueError, match="float16"):
        recurrence.scan(cell, half, x, cell.start((1, 4), jnp.float16), traversal=traversal)


def test_a_kernel_refuses_a_cell_without_a_pointwise_step():
    cell = CELLS["rnn"]._replace(name="mine", pointwise=None)
    params, _, x, carry, _ = draw(Case("rnn", None, 2, 1, 4, 1, False, False, False, None))
    with pytest.raises(ValueError, match="mine has no pointwise step"):
        recurrence.scan(cell, params, x, carry, traversal=Traversal(kernel="pallas"))
    recurrence.scan(cell, params, x, carry, traversal=Traversal(kernel="auto"))


def test_batch_norm_refuses_a_kernel():
    layer = Recurrent(CELLS["rnn"], 4, Norm("batch"), kernel="pallas")
    with pytest.raises(ValueError, match="batch norm"):
        layer.init(jax.random.key(0), jnp.ones((2, 3, 1)))


@every_cell
def test_a_layer_takes_a_kernel(name):
    layer = Recurrent(CELLS[name], 4, Norm("layer"))
    source = np.random.default_rng(0)
    x = source.normal(size=(2, 3, 1)).astype(np.float32)
    variables = normal(source, jax.eval_shape(layer.init, jax.random.key(1), x), 0.4)
    by_kernels, by_scan = (quickly(each.apply)(variables, x) for each in (layer.clone(kernel="pallas"), layer))
    assert_near(by_kernels, by_scan, 1e-6)
