"""Rows that start anew within their length: as if their pieces were rows, in values and gradients."""

import itertools
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import Size, close, inputs, norm_of, normal, quickly

from jaxseq.cells import CELLS, normalised, recurrence
from jaxseq.cells.norm import Norm
from jaxseq.cells.normalised import Normalisation
from jaxseq.cells.recurrence import Rows, Traversal
from jaxseq.nn.forecaster import Forecaster
from jaxseq.nn.recurrent import Recurrent

pytestmark = pytest.mark.usefixtures("double", "compiled_quickly")
SIZE = Size(6, 3, 2, 4)
T, B = SIZE.t, SIZE.b
TOLERANCE = 1e-9
seeds = st.integers(0, 2**20)
row_lengths = st.lists(st.integers(0, T), min_size=B, max_size=B)
marks = st.lists(st.booleans(), min_size=T * B, max_size=T * B)
few = settings(max_examples=max(4, settings().max_examples // 4))


class Leaves(NamedTuple):
    """Arrays that the loss is differentiated by."""

    params: Any
    weights: Any
    x: Any
    start: Any
    restart: Any
    drop: Any


class Pieces(NamedTuple):
    """Rows between resets as rows: up to T for each row of the batch, of length 0 where there are fewer.

    row, first, length, begins  the row and the step that a piece begins at, its steps, and whether it reads the row's start
    of, last                    the piece of each step, "t b", and the one whose last carry is the row's
    """

    row: np.ndarray
    first: np.ndarray
    length: np.ndarray
    begins: np.ndarray
    of: np.ndarray
    last: np.ndarray


def parted(resets, lengths, reverse):
    row, first, length, begins = np.zeros((4, B * T), int)
    of, last = np.zeros((T, B), int), np.zeros(B, int)
    for b in range(B):
        cuts = [t for t in range(lengths[b]) if resets[t, b]]
        starts = cuts if cuts[:1] == [0] else [0, *cuts]
        for number, (begin, end) in enumerate(itertools.pairwise([*starts, lengths[b]])):
            piece = b * T + number
            row[piece], first[piece], length[piece] = b, begin, end - begin
            of[begin:, b] = piece
            if reverse:
                begins[piece] = number == len(starts) - 1
                last[b] = b * T
            else:
                begins[piece] = number == 0 and cuts[:1] != [0]
                last[b] = piece
    return Pieces(row, first, length, begins.astype(bool), of, last)


def scan(leaves, rows, name, slot, reverse, way="scan"):
    traversal = Traversal(reverse)
    if slot == "none":
        return getattr(recurrence, way)(CELLS[name], leaves.params, leaves.x, leaves.start, rows, traversal)
    normalisation = Normalisation(norm_of(slot), leaves.weights)
    return getattr(normalised, way)(CELLS[name], normalisation, leaves.params, leaves.x, leaves.start, rows, traversal)[
        :2
    ]


def with_resets(leaves, given, name, slot, reverse):
    rows = Rows(given["lengths"], leaves.drop, given["resets"], leaves.restart)
    return scan(leaves, rows, name, slot, reverse)


def piece_by_piece(leaves, given, name, slot, reverse):
    pieces, lengths = given["pieces"], given["lengths"]
    steps = jnp.minimum(jnp.arange(T)[:, None] + pieces.first, T - 1)
    carry = jax.tree.map(
        lambda own, other: jnp.where(pieces.begins[:, None], own[pieces.row], other[pieces.row]),
        leaves.start,
        leaves.restart,
    )
    apart = leaves._replace(x=leaves.x[steps, pieces.row], start=carry)
    rows = Rows(pieces.length, None if leaves.drop is None else leaves.drop[pieces.row])
    last, outputs = scan(apart, rows, name, slot, reverse)

    step = jnp.maximum(jnp.arange(T)[:, None] - pieces.first[pieces.of], 0)
    outputs = jnp.where((jnp.arange(T)[:, None] < lengths)[..., None], outputs[step, pieces.of], 0)
    empty = (lengths == 0)[:, None]
    last = jax.tree.map(lambda state, own: jnp.where(empty, own, state[pieces.last]), last, leaves.start)
    return last, outputs


def differentiated(way, leaves, given, name, slot, reverse):
    def loss(leaves):
        last, outputs = way(leaves, given, name, slot, reverse)
        return jnp.sum(outputs * given["mix"]) + sum(jnp.sum(jnp.sin(state)) for state in last), (last, outputs)

    return jax.grad(loss, has_aux=True)(leaves)


def problem(name, slot, seed, lengths, drawn, reverse):
    i = inputs(name, slot, SIZE, seed, lengths)
    restart = normal(np.random.default_rng(seed + 9), i.start)
    # A linear cell multiplies no state that could drop out.
    drop = None if CELLS[name].linear is not None else i.drop
    leaves = Leaves(i.params, i.weights, i.x, i.start, restart, drop)
    resets = np.reshape(drawn, (T, B))
    given = {"mix": i.mix, "lengths": i.lengths, "resets": resets, "pieces": parted(resets, lengths, reverse)}
    return leaves, given


ours, theirs = (
    quickly(lambda leaves, given, name, slot, reverse, way=way: differentiated(way, leaves, given, name, slot, reverse),
            "name", "slot", "reverse")
    for way in (with_resets, piece_by_piece)
)  # fmt: skip
QUICK = {
    ("rnn", "layer-sum", False),
    ("lstm", "layer", True),
    ("gru", "none", False),
    ("mingru", "none", True),
    ("lru", "none", False),
}
CASES = [
    pytest.param(*case, marks=[] if case in QUICK else [pytest.mark.slow])
    for case in itertools.product(CELLS, ("none", "layer", "layer-sum"), (False, True))
    if case[1] == "none" or CELLS[case[0]].gates is not None
]


@pytest.mark.parametrize(("name", "slot", "reverse"), CASES)
@few
@given(seeds, row_lengths, marks)
def test_pieces_between_resets_are_rows(name, slot, reverse, seed, lengths, drawn):
    leaves, given = problem(name, slot, seed, lengths, drawn, reverse)
    close(ours(leaves, given, name, slot, reverse), theirs(leaves, given, name, slot, reverse), TOLERANCE)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n == "lstm" else [pytest.mark.slow]) for n in CELLS])
def test_truncation_and_resets_are_both_kept(name):
    leaves, given = problem(name, "none", 3, [T] * B, np.arange(T * B) % 4 == 1, False)
    rows = Rows(None, None, given["resets"], leaves.restart)

    def outputs(leaves, rows, truncate):
        traversal = Traversal(truncate=truncate)
        return recurrence.scan(CELLS[name], leaves.params, leaves.x, leaves.start, rows, traversal)[1]

    compiled = quickly(outputs, "truncate")
    close(compiled(leaves, rows, 2), compiled(leaves, rows, None), TOLERANCE)


def in_chunks(leaves, given, name, slot, reverse, chunk):
    rows = Rows(given["lengths"], leaves.drop, given["resets"], leaves.restart)
    traversal = Traversal(reverse, chunk=chunk)
    return recurrence.scan(CELLS[name], leaves.params, leaves.x, leaves.start, rows, traversal)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n == "rnn" else [pytest.mark.slow]) for n in CELLS])
def test_chunks_change_neither_values_nor_gradients_of_rows_with_resets(name):
    leaves, given = problem(name, "none", 3, [T, 4, T], np.arange(T * B) % 4 == 1, True)
    # Of six steps: one chunk of four and a shorter one, or all.
    four, whole = (
        quickly(
            lambda leaves, given, chunk=chunk: differentiated(
                partial(in_chunks, chunk=chunk), leaves, given, name, "none", True
            )
        )(leaves, given)
        for chunk in (4, None)
    )
    close(four, whole, TOLERANCE)


def test_many_rows_accumulate_the_gradients_of_a_restart_too():
    """The adjoint takes another order of its sums when there are many rows."""
    cell, source = CELLS["gru"], np.random.default_rng(0)
    params = cell.init(jax.random.key(0), 3, 4, jnp.float64)
    x, start, restart = (jnp.asarray(source.normal(size=size)) for size in ((5, 9, 3), (9, 4), (9, 4)))
    resets = jnp.asarray(source.random((5, 9)) < 0.4)

    def loss(way, params, x, start, restart):
        rows = Rows(resets=resets, restart=type(cell.start((1, 1)))(restart))
        last, outputs = getattr(recurrence, way)(cell, params, x, type(cell.start((1, 1)))(start), rows)
        return jnp.sum(jnp.sin(outputs)) + jnp.sum(last.h**2)

    by_adjoint, by_autodiff = (
        quickly(jax.grad(loss, argnums=(1, 2, 3, 4)), "way")(way, params, x, start, restart)
        for way in ("scan", "scan_by_autodiff")
    )
    close(by_adjoint, by_autodiff, TOLERANCE)


def test_batch_norm_counts_steps_by_their_place():
    """A reset of all rows at once is a call that starts there, with the moments of these steps."""
    layer = Recurrent(CELLS["rnn"], 4, norm=Norm("batch"))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(5, 6, 2)))
    variables = jax.jit(layer.init)(jax.random.key(0), x)
    moments = jax.tree.map(lambda m: m + np.random.default_rng(1).random(m.shape), variables["batch_stats"])
    variables = {**variables, "batch_stats": moments}

    resets = jnp.zeros((5, 6), bool).at[:, 2].set(True)
    apply = jax.jit(layer.apply)
    _, outputs = apply(variables, x, resets=resets)
    _, first = apply(variables, x[:, :2])
    _, second = apply(variables, x[:, 2:], first=2)
    close(outputs, jnp.concatenate([first, second], axis=1), TOLERANCE)


def test_a_layer_starts_anew_from_its_learnt_start():
    layer = Recurrent(CELLS["gru"], 4, learn_start=True)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 3)))
    variables = layer.init(jax.random.key(0), x)
    learnt = jax.tree.map(lambda start: start + 0.3, variables["params"]["start"])
    variables = {"params": {**variables["params"], "start": learnt}}

    resets = jnp.zeros((2, 4), bool).at[:, 2].set(True)
    far = CELLS["gru"].start((2, 4), x.dtype)
    _, outputs = layer.apply(variables, x, carry=jax.tree.map(lambda s: s - 1, far), resets=resets)
    _, alone = layer.apply(variables, x[:, 2:])
    close(outputs[:, 2:], alone, TOLERANCE)


def test_every_layer_of_a_stack_and_both_directions_start_anew():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 3)), jnp.float32)
    resets = jnp.zeros((2, 6), bool).at[:, 3].set(True)
    stack = Forecaster(CELLS["rnn"], 4, layers=2, outputs=1, every_step=True, bidirectional=True)
    variables = jax.jit(stack.init)(jax.random.key(0), x)
    apply = jax.jit(stack.apply)
    _, outputs = apply(variables, x, resets=resets)
    parts = [apply(variables, part)[1] for part in (x[:, :3], x[:, 3:])]
    close(outputs, jnp.concatenate(parts, axis=1), 1e-5)


@pytest.mark.usefixtures("unannotated")
def test_resets_that_do_not_fit_are_refused():
    cell = CELLS["rnn"]
    params, x = cell.init(jax.random.key(0), 2, 4), jnp.ones((5, 3, 2), jnp.float32)
    start = cell.start((3, 4))
    with pytest.raises(ValueError, match=r"resets has the shape \(3, 5\); expected \(steps, rows\), \(5, 3\)"):
        recurrence.scan(cell, params, x, start, Rows(resets=jnp.zeros((3, 5), bool)))
    with pytest.raises(ValueError, match="resets has the dtype int32; expected bool"):
        recurrence.scan(cell, params, x, start, Rows(resets=jnp.zeros((5, 3), jnp.int32)))
    with pytest.raises(ValueError, match=r"restart\.h has the shape"):
        recurrence.scan(cell, params, x, start, Rows(resets=jnp.zeros((5, 3), bool), restart=cell.start((3, 5))))
