"""What holds for every cell and every slot, whatever the numbers, lengths and precision.

Compiling is what takes the time: all tests measure with one function, at few sizes. Each property is tested with every
cell and with every slot, and all properties together with every pair of them. The other pairs are `slow`.
"""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import (
    EVALUATED,
    GATED,
    SLOTS,
    Inputs,
    Size,
    close,
    compiled_run,
    differentiate,
    inputs,
    measure,
    norm_of,
    normal,
    quickly,
    run,
    total,
)

from jaxseq.cells import CELLS, padding, strategy
from jaxseq.cells.norm import NORMS, Moments, Running

SMALL, SINGLE, NARROW = Size(6, 5, 3, 4), Size(6, 5, 3, 4, "float32"), Size(6, 5, 1, 4)
WIDE = Size(3, 3, 2, strategy.LINEARISE_IN_LOOP, gated=False)
"""One feature, many, few; and so many units that the adjoint goes another way."""

pytestmark = pytest.mark.usefixtures("double", "compiled_quickly")
every_cell = pytest.mark.parametrize("name", GATED)
TRAINED_SLOTS = ["none", *NORMS]
SLOTS_BY_ROWS = [slot for slot in SLOTS if slot != "batch"]
ADJOINT_SLOTS = ["none", "layer", "layer-sum"]


def diagonal(name, slot):
    """The number of a pair's diagonal; on each of the three lie every slot once and every cell at least once."""
    return (list(GATED).index(name) + SLOTS.index(slot)) % 3


def grid(slots, diagonals, names=GATED):
    """Every cell with every slot; pairs on other diagonals than these are slow."""
    pairs = itertools.product(names, slots)
    return pytest.mark.parametrize(("name", "slot"), [mark(diagonal(*pair) in diagonals, *pair) for pair in pairs])


def grid_of_sizes(slots, sizes, names=GATED):
    """Every cell with every slot and size; slow unless the size is that of the pair's diagonal, None being no size."""
    cases = itertools.product(names, slots, dict.fromkeys(size for size in sizes if size))
    return pytest.mark.parametrize(
        ("name", "slot", "size"), [mark(sizes[diagonal(*pair)] == size, *pair, size) for *pair, size in cases]
    )


def mark(is_quick, *values):
    return pytest.param(*values, marks=[] if is_quick else [pytest.mark.slow])


every_precision = [SINGLE, SMALL, None]
seeds = st.integers(0, 2**20)
precisions = st.sampled_from([SMALL, SINGLE])
row_lengths = st.lists(st.integers(0, SMALL.t), min_size=SMALL.b, max_size=SMALL.b)
few = settings(max_examples=max(1, settings().max_examples // 15))
"""For what compiles every operation by itself."""
turn = jax.jit(padding.turn)


def tolerance(size, double=1e-9, single=1e-3):
    """Of what is computed in another order, where a normalisation can be steep."""
    return single if size == SINGLE else double


def inside(lengths):
    """Which steps are valid, "t b 1"."""
    return (np.arange(SMALL.t)[:, None] < np.asarray(lengths))[..., None]


def long_enough(lengths):
    """Three rows to the end: with fewer, batch norm can be as steep as its epsilon lets it be."""
    return [SMALL.t] * 3 + lengths[3:]


def the_padding_changes_nothing(name, slot, size, seed, lengths, junk, reverse=False):
    i, valid = inputs(name, slot, size, seed, lengths), inside(lengths)
    clean, junked = (
        measure(i._replace(x=np.where(valid, i.x, i.x.dtype.type(v))), name, slot, "scan", reverse) for v in (0, junk)
    )
    chex.assert_tree_all_finite(clean)
    chex.assert_trees_all_equal(junked, clean)
    assert not np.where(valid, 0, clean.outputs).any()
    assert not np.where(valid, 0, clean.by_x).any()


@grid_of_sizes(SLOTS, every_precision)
@given(seeds, row_lengths, st.sampled_from([1e30, np.nan, np.inf]))
def test_what_lies_in_the_padding_changes_nothing(name, slot, size, seed, lengths, junk):
    the_padding_changes_nothing(name, slot, size, seed, lengths, junk)


@grid(TRAINED_SLOTS, [2])
@given(seeds, row_lengths, st.sampled_from([1e30, np.nan, np.inf]))
def test_nor_does_it_backwards(name, slot, seed, lengths, junk):
    the_padding_changes_nothing(name, slot, SMALL, seed, lengths, junk, reverse=True)


@grid(TRAINED_SLOTS, [2])
@given(seeds)
def test_a_padded_tail_changes_nothing(name, slot, seed):
    i = inputs(name, slot, SMALL, seed, [4] * SMALL.b)
    i = i._replace(drop=np.ones_like(i.drop))
    padded = measure(i, name, slot)
    short = measure(i._replace(x=i.x[:4], mix=i.mix[:4], lengths=None, drop=None), name, slot)
    close(padded._replace(outputs=padded.outputs[:4], by_x=padded.by_x[:4], by_drop=None), short, tolerance(SMALL))


@grid_of_sizes(SLOTS_BY_ROWS, every_precision)
@given(seeds, row_lengths, st.integers(0, SMALL.t))
def test_a_scan_goes_on_where_another_stopped(name, slot, size, seed, lengths, split):
    i = inputs(name, slot, size, seed, lengths)
    whole, first = measure(i, name, slot), measure(i._replace(lengths=np.minimum(lengths, split)), name, slot)
    x, running = jax.tree.map(lambda a: np.roll(a, -split, axis=0), (i.x, i.running))
    rest = i._replace(x=x, running=running, start=first.last, lengths=np.maximum(i.lengths - split, 0))
    second = measure(rest, name, slot)
    outputs = np.concatenate([first.outputs[:split], second.outputs[: SMALL.t - split]])
    close((second.last, outputs), (whole.last, whole.outputs), tolerance(size))


@grid_of_sizes(SLOTS, every_precision)
@given(seeds, row_lengths, st.permutations(range(SMALL.b)))
def test_the_order_of_the_rows_does_not_matter(name, slot, size, seed, lengths, order):
    i, order = inputs(name, slot, size, seed, lengths), np.asarray(order)
    m, permuted = measure(i, name, slot), measure(i.rows(lambda a: a[order]), name, slot)
    last, by_start, by_drop = jax.tree.map(lambda a: a[order], (m.last, m.by_start, m.by_drop))
    expected = m._replace(last=last, by_start=by_start, by_drop=by_drop)
    expected = expected._replace(outputs=m.outputs[:, order], by_x=m.by_x[:, order])
    close(permuted, expected, tolerance(size))


@grid_of_sizes(SLOTS_BY_ROWS, every_precision)
@given(seeds, row_lengths, row_lengths, st.integers(0, SMALL.b - 1))
def test_rows_do_not_see_each_other(name, slot, size, seed, lengths, others, row):
    i, mine = inputs(name, slot, size, seed, lengths), np.arange(SMALL.b) == row
    changed = i.rows(lambda a: np.where(mine.reshape(-1, *[1] * (a.ndim - 1)), a, -a))
    changed = changed._replace(lengths=np.where(mine, lengths, others))
    one, two = (
        (m.outputs[:, row], m.by_x[:, row], jax.tree.map(lambda a: a[row], (m.last, m.by_start, m.by_drop)))
        for m in (measure(i, name, slot), measure(changed, name, slot))
    )
    close(two, one, tolerance(size))


@grid(TRAINED_SLOTS, [2])
@given(seeds, row_lengths)
def test_backwards_is_forwards_on_the_turned_rows(name, slot, seed, lengths):
    i = inputs(name, slot, SMALL, seed, lengths)
    m = measure(i._replace(x=turn(i.x, i.lengths), mix=turn(i.mix, i.lengths)), name, slot)
    expected = m._replace(outputs=turn(m.outputs, i.lengths), by_x=turn(m.by_x, i.lengths))
    close(measure(i, name, slot, "scan", True), expected, tolerance(SMALL))


@given(precisions, seeds, row_lengths)
def test_turning_a_row_twice_leaves_it_and_its_padding(size, seed, lengths):
    i = inputs("rnn", "none", size, seed, lengths)
    once = turn(i.x, i.lengths)
    np.testing.assert_array_equal(turn(once, i.lengths), i.x)
    for row, length in enumerate(lengths):
        np.testing.assert_array_equal(once[:length, row], i.x[:length, row][::-1])
        np.testing.assert_array_equal(once[length:, row], i.x[length:, row])


def with_gate(i, gate, bias):
    """These inputs with one bias for all units of a gate; after layer norm of the sum that is its shift."""
    on_sum = hasattr(i.weights, "shift")
    biases = i.weights.shift if on_sum else i.params.bias
    biases = np.where(np.arange(len(biases)) // SMALL.h == gate, biases.dtype.type(bias), biases)
    return i._replace(weights=i.weights._replace(shift=biases)) if on_sum else i.with_params(bias=biases)


@grid_of_sizes(SLOTS, [SINGLE, SMALL, SMALL], ["gru"])
@given(seeds, row_lengths)
def test_an_open_update_gate_freezes_the_gru(name, slot, size, seed, lengths):
    i = inputs(name, slot, size, seed, lengths)
    m = measure(with_gate(i, 1, 1e3), name, slot)  # r, z, n
    rounding = tolerance(size, 1e-14, 1e-6)  # of the candidate
    close((m.last, m.outputs), (i.start, np.where(inside(lengths), i.start.h, 0)), rounding)


@grid_of_sizes(SLOTS, [SINGLE, SMALL, SMALL], ["lstm"])
@given(seeds, row_lengths)
def test_a_full_forget_gate_and_a_shut_input_gate_keep_the_memory(name, slot, size, seed, lengths):
    i = inputs(name, slot, size, seed, lengths)
    m = measure(with_gate(with_gate(i, 0, -1e3), 1, 1e3), name, slot)  # i, f, g, o
    np.testing.assert_array_equal(m.last.c, i.start.c)


@grid_of_sizes(SLOTS, every_precision)
@given(seeds, row_lengths, st.integers(-6, 6))
def test_states_stay_bounded_and_gradients_finite(name, slot, size, seed, lengths, power):
    i = inputs(name, slot, size, seed, lengths)
    m = measure(i._replace(x=i.x * 10.0**power), name, slot)
    chex.assert_tree_all_finite(m)
    assert CELLS[name].about.bounded != "no"
    reach = i.start.h if CELLS[name].about.bounded == "from the start" else 0
    low, high = np.minimum(reach, -1), np.maximum(reach, 1)
    rounding = 4 * np.finfo(size.dtype).eps * (high - low)
    assert (low - rounding <= m.outputs).all() and (m.outputs <= high + rounding).all()


def by_unseen_epsilon(i, name, slot):
    """Last carry and outputs with an epsilon so small that invariances hold to rounding."""
    return compiled_run(i, name, slot, "scan", False, 1e-30)[:2]


@every_cell
@given(seeds, row_lengths, st.floats(0.1, 10))
def test_layer_norm_does_not_feel_the_scale_or_the_shift_of_a_projection(name, seed, lengths, scale):
    i = inputs(name, "layer", SMALL, seed, lengths)
    groups, source = CELLS[name].groups, np.random.default_rng(seed)
    factors = np.repeat(scale ** np.arange(1, 1 + len(groups)), np.multiply(groups, SMALL.h))  # one for each group
    kernels = i.params.input_kernel * factors**2, i.params.recurrent_kernel * factors
    x, h = (kernel + source.normal(size=(len(kernel), 1)) for kernel in kernels)
    moved = i.with_params(input_kernel=x, recurrent_kernel=h)
    close(by_unseen_epsilon(moved, name, "layer"), by_unseen_epsilon(i, name, "layer"), 1e-7)


@every_cell
@given(seeds, row_lengths, st.floats(0.1, 10), st.floats(-10, 10))
def test_layer_norm_of_the_sum_does_not_feel_the_scale_of_both_or_a_shift(name, seed, lengths, scale, shift):
    i = inputs(name, "layer-sum", SMALL, seed, lengths)
    scaled = i._replace(params=jax.tree.map(lambda leaf: leaf * scale, i.params))
    moved = scaled.with_params(input_kernel=scaled.params.input_kernel + shift, bias=scaled.params.bias - shift)
    close(by_unseen_epsilon(moved, name, "layer-sum"), by_unseen_epsilon(i, name, "layer-sum"), 1e-7)


@every_cell
@given(seeds, row_lengths, st.floats(0.1, 10))
def test_batch_norm_does_not_feel_the_scale_of_a_unit_or_a_shift_of_all_rows(name, seed, lengths, scale):
    i = inputs(name, "batch", SMALL, seed, long_enough(lengths))
    source = np.random.default_rng(seed)
    kernels = {f: k * scale ** source.normal(size=k.shape[1]) for f, k in i.params._asdict().items() if "kernel" in f}
    moved = i.with_params(**kernels)._replace(x=i.x + source.normal(size=(SMALL.t, 1, SMALL.d)))
    close(by_unseen_epsilon(moved, name, "batch"), by_unseen_epsilon(i, name, "batch"), 1e-7)


@every_cell
@given(seeds, row_lengths)
def test_a_slot_that_changes_nothing_leaves_the_plain_cell(name, seed, lengths):
    i = inputs(name, EVALUATED, SMALL, seed, lengths)
    weights = {f: np.full_like(w, "shift" not in f) for f, w in i.weights._asdict().items()}
    one = 1 - norm_of(EVALUATED).epsilon  # together with it
    same = [Moments(np.zeros_like(m.mean), np.full_like(m.var, one)) if m else () for m in i.running]
    ours = measure(i._replace(weights=i.weights._replace(**weights), running=Running(*same)), name, EVALUATED)
    plain = measure(i._replace(weights=None, running=None), name, "none")
    close(ours._replace(by_weights=None, running=None), plain, tolerance(SMALL))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "slot"),
    [
        mark((name, slot) in {("rnn", "none"), ("lstm", "layer"), ("gru", "batch")}, name, slot)
        for name, slot in itertools.product(GATED, ["none", "layer", "batch"])
    ],
)
@few
@given(seeds, st.permutations(range(2, 2 + SMALL.b)))
def test_jit_is_eager(name, slot, seed, lengths):
    i = inputs(name, slot, SMALL, seed, lengths)
    with jax.disable_jit():
        eager = run(jax.tree.map(jnp.asarray, i), name, slot)
    close(measure(i, name, slot)[:3], eager, tolerance(SMALL))


side_by_side = quickly(
    lambda stack, name, slot: jax.vmap(lambda i: differentiate(i, name, slot))(stack), "name", "slot"
)


@grid(TRAINED_SLOTS, [2])
@given(seeds, seeds, row_lengths, row_lengths)
def test_vmap_over_models_is_one_by_one(name, slot, seed, another, lengths, others):
    models = [inputs(name, slot, SMALL, seed, lengths), inputs(name, slot, SMALL, another, others)]
    both = side_by_side(jax.tree.map(lambda *leaves: np.stack(leaves), *models), name, slot)
    one_by_one = jax.tree.map(lambda *leaves: np.stack(leaves), *(measure(i, name, slot) for i in models))
    close(both, one_by_one, tolerance(SMALL))


# Batch norm has no hand-written adjoint: both ways are one program.
@pytest.mark.parametrize(
    ("name", "slot"),
    [mark(slot in ADJOINT_SLOTS, name, slot) for name, slot in itertools.product(GATED, TRAINED_SLOTS)],
)
@given(seeds, row_lengths)
def test_the_adjoint_is_autodiff(name, slot, seed, lengths):
    i = inputs(name, slot, SMALL, seed, lengths)
    close(measure(i, name, slot), measure(i, name, slot, "scan_by_autodiff"), tolerance(SMALL))


def the_adjoint_is_finite_differences(name, slot, size, seed, lengths):
    """Along a random direction in all that it differentiates by."""
    i = inputs(name, slot, size, seed, lengths)
    direction = normal(np.random.default_rng(seed), i[:5])
    parts = jax.tree.map(np.vdot, tuple(measure(i, name, slot)[3:]), direction)
    step = 1e-5 / np.sqrt(sum(np.vdot(w, w) for w in jax.tree.leaves(direction)))

    def rise(steps):
        moved = (jax.tree.map(lambda a, w, way=way: a + way * step * w, i[:5], direction) for way in (steps, -steps))
        up, down = (measure(Inputs(*leaves, *i[5:]), name, slot) for leaves in moved)
        return total(up.last, up.outputs, i.mix) - total(down.last, down.outputs, i.mix)

    close((8 * rise(1) - rise(2)) / (12 * step), sum(jax.tree.leaves(parts)), 1e-6)  # of fourth order


@grid_of_sizes(ADJOINT_SLOTS, [SMALL, NARROW, WIDE])
@given(seeds, row_lengths)
def test_the_hand_written_adjoint_is_finite_differences(name, slot, size, seed, lengths):
    the_adjoint_is_finite_differences(name, slot, size, seed, lengths)


@grid(["batch", EVALUATED], [1, 2])
@given(seeds, row_lengths)
def test_gradients_of_batch_norm_are_finite_differences(name, slot, seed, lengths):
    the_adjoint_is_finite_differences(name, slot, SMALL, seed, long_enough(lengths))


@grid(TRAINED_SLOTS, [1])
@given(seeds, row_lengths)
def test_one_feature_is_many_features_of_which_the_others_weigh_nothing(name, slot, seed, lengths):
    many, d = inputs(name, slot, SMALL, seed, lengths), NARROW.d
    kernel = np.where(np.arange(SMALL.d)[:, None] < d, many.params.input_kernel, 0)
    one = many.with_params(input_kernel=kernel[:d])._replace(x=many.x[..., :d])
    ours, m = measure(one, name, slot), measure(many.with_params(input_kernel=kernel), name, slot)
    by_params = m.by_params._replace(input_kernel=m.by_params.input_kernel[:d])
    close(ours, m._replace(by_params=by_params, by_x=m.by_x[..., :d]), tolerance(SMALL))


@grid(SLOTS, [0])
@given(seeds, row_lengths)
def test_single_precision_is_double_precision_rounded(name, slot, seed, lengths):
    single = inputs(name, slot, SINGLE, seed, long_enough(lengths))
    double = jax.tree.map(lambda a: a.astype("float64") if a.dtype == "float32" else a, single)
    ours, exact = measure(single, name, slot), measure(double, name, slot)
    close(ours[:3], exact[:3], 1e-3)
    close(ours[3:], exact[3:], 3e-2)  # a layer norm of four units can be steep
