"""The recurrence of a cell with normalisation in its slots; `jaxseq.cells.norm` says which norms and where.

Layer norm keeps each row apart, so it takes the hand-written adjoint of `jaxseq.cells.adjoint`, whose slots have
transposes of their own. Batch norm mixes rows and takes autodiff.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from jaxseq.cells import (
    adjoint,
    batch_norm,
    chunks,
    contract,
    kernels,
    layer_norm,
    padding,
    products,
    recurrence,
    spread,
)
from jaxseq.cells import norm as norms
from jaxseq.cells.adjoint import Layer, Outputs, Recurrence, Result, Sequence, Trainable
from jaxseq.cells.base import Carry, Carry_, Cell, Params_
from jaxseq.cells.norm import (
    PLAIN,
    Fixed,
    Gains,
    MemoryGains,
    Moments,
    Norm,
    Residual,
    Running,
    Slots,
    SumGains,
    Weights,
)
from jaxseq.cells.recurrence import FORWARDS, WHOLE_ROWS, Inputs, Rows, Traversal
from jaxseq.common import checks, precision
from jaxseq.common.arrays import Tree


class Normalisation(NamedTuple):
    """A norm, its arrays, and how a scan uses them.

    norm     the constant
    gains    trainable weights, `jaxseq.cells.norm.init`
    running  running moments of batch norm, `jaxseq.cells.norm.init_running`; unused by layer norm
    train    whether batch norm takes the moments of this batch, which the running ones then follow
    first    number of x's first step in its sequence, by which batch norm finds its running moments
    """

    norm: Norm
    gains: Weights
    running: Running | None = None
    train: bool = False
    first: int | Integer[Array, ""] = 0


def scan(
    cell: Cell[Params_, Carry_],
    normalisation: Normalisation,
    params: Params_,
    x: Float[Array, "t b d"],
    carry: Carry_,
    rows: Rows = WHOLE_ROWS,
    traversal: Traversal = FORWARDS,
) -> tuple[Carry_, Outputs, Running | None]:
    """Scan as `recurrence.scan` does, and return the running moments as well.

    Batch norm in training returns running moments that have followed those of this batch; otherwise they come back
    unchanged. It counts steps by their place in x, whatever the resets: rows of all ages share the moments of a step.
    Devices of `jax.shard_map` that have the same gains share a batch.

    Raises `ValueError` as there, and for batch norm without running moments, with `truncate`, or in training with a single
    row, whose variance is zero.
    """
    return _scan(kernels.recurrence(traversal.kernel), cell, normalisation, params, Inputs(x, carry, rows, traversal))


def scan_by_autodiff(
    cell: Cell[Params_, Carry_],
    normalisation: Normalisation,
    params: Params_,
    x: Float[Array, "t b d"],
    carry: Carry_,
    rows: Rows = WHOLE_ROWS,
    traversal: Traversal = FORWARDS,
) -> tuple[Carry_, Outputs, Running | None]:
    """Scan as `scan` does, without the hand-written adjoint: the same values, and autodiff's gradients."""
    return _scan(kernels.by_autodiff, cell, normalisation, params, Inputs(x, carry, rows, traversal))


@precision.in_full()
def _scan(
    layer_recurrence: Recurrence,
    cell: Cell[Params_, Carry_],
    normalisation: Normalisation,
    params: Params_,
    inputs: Inputs,
) -> tuple[Carry_, Outputs, Running | None]:
    recurrence.check(cell, params, inputs.x, inputs.carry, inputs.rows)
    contract.check_slots(cell, normalisation.norm, contract.sizes_of(inputs.x, inputs.carry))
    check_gains(cell, normalisation, params)
    inputs = recurrence.with_restart(cell, inputs)

    if normalisation.norm.by_batch:
        return _scan_by_batch(cell, normalisation, params, inputs)

    x, carry, rows, traversal = inputs
    layer = Layer(cell, normalisation.norm, precision.current(), traversal.carries)

    def on_one_type(
        x: Float[Array, "t b d"],
        carry: Carry,
        rows: Rows,
        trainable: Trainable,
    ) -> tuple[Carry, Outputs, None]:
        def bound(sequence: Sequence) -> Result:
            # Within a chunk, so that the projection of other chunks need not be kept.
            weights, projected = normalise_projection(layer, trainable, sequence.x, sequence.valid)
            return layer_recurrence(layer, weights, sequence._replace(x=projected))

        return *recurrence.traverse(cell, bound, x, carry, rows=rows, traversal=traversal), None

    trainable = Trainable(params, normalisation.gains)
    x, carry, rows, trainable = spread.vary_alike((x, carry, rows, trainable))
    last, outputs, _ = spread.by_rows(on_one_type, x, carry, rows, trainable)
    return last, outputs, normalisation.running


def check_gains(
    cell: Cell,
    normalisation: Normalisation,
    params: Tree,
) -> None:
    """Assert that the gains and running moments are those of the norm, the cell and its parameters."""
    _, g = params.input_kernel.shape
    gains = normalisation.gains
    has_memory = isinstance(gains, MemoryGains)
    expected = jax.eval_shape(
        lambda: norms.init(normalisation.norm, cell.gate_count, has_memory, g // cell.gate_count, params.bias.dtype)
    )
    chex.assert_trees_all_equal_shapes_and_dtypes(gains, expected)

    if normalisation.running is not None:
        chex.assert_tree_shape_suffix((normalisation.running.x, normalisation.running.h), (g,))


def normalise_projection(
    layer: Layer,
    trainable: Trainable,
    x: Float[Array, "t b d"],
    valid: Bool[Array, "t b"] | None,
) -> tuple[Trainable, Float[Array, "t b _"]]:
    """Apply layer norm to x W: the weights that are left for the scan, and its input."""
    cell, norm = layer.cell, layer.norm
    params, gains = trainable
    # The norm of the sum acts in the loop.
    if norm is None or gains is None or isinstance(gains, SumGains):
        return trainable, x

    # Here already, because NaN in the padding would reach the weight gradient of this projection too.
    x = recurrence.without_padding(x, valid)
    params = params._replace(recurrent_kernel=layer_norm.centre_groups(params.recurrent_kernel, cell.groups))
    if x.shape[-1] == 1:
        # Layer norm of one feature is a plain projection, which may stay in the loop.
        kernel, x = _of_one_feature(layer, params.input_kernel, gains.x, x)
        params = params._replace(input_kernel=kernel)
    else:
        normed = layer_norm.layer_norm_gates(x @ params.input_kernel, gains.x, cell.groups, norm.epsilon)
        x = normed + params.bias
        params = params._replace(input_kernel=None, bias=None)

    # The gain of the input is used up; None leaves it out of the scan's derivative.
    remaining: Tree = gains
    return Trainable(params, remaining._replace(x=None)), x


def _of_one_feature(
    layer: Layer,
    kernel: Float[Array, "1 g"],
    gain: Float[Array, "g"],
    x: Float[Array, "t b 1"],
) -> tuple[Float[Array, "n g"], Float[Array, "t b n"]]:
    """Return a kernel of a row for each of n groups of gates, and n features, whose product is LN(x w) · gain.

    The deviation of x w over the gates is |x| times that of w, so each group's norm is a factor for x.
    """
    cell, norm = layer.cell, layer.norm
    assert norm is not None
    parts = [layer_norm.centre(part) for part in norms.split_groups(kernel, cell.groups)]
    scales = [jax.lax.rsqrt(x * x * jnp.mean(part * part) + norm.epsilon) for part in parts]

    kernel_rows = []
    for row, _ in enumerate(parts):
        # Block by block, so that a group of gates reads its feature alone.
        blocks = [part if column == row else jnp.zeros_like(part) for column, part in enumerate(parts)]
        kernel_rows.append(jnp.concatenate(blocks, axis=-1))
    return jnp.concatenate(kernel_rows) * gain, jnp.concatenate([x * scale for scale in scales], axis=-1)


def _scan_by_batch(
    cell: Cell[Params_, Carry_],
    normalisation: Normalisation,
    params: Params_,
    inputs: Inputs,
) -> tuple[Carry_, Outputs, Running]:
    """Scan with batch norm in the slots, on one device or several."""
    _check_batch_norm(normalisation, inputs)

    def on_one_type(
        x: Float[Array, "t b d"],
        carry: Carry,
        rows: Rows,
        shared: tuple[Tree, Weights, Running | None, int | Integer[Array, ""]],
    ) -> tuple[Carry, Outputs, Running]:
        params, gains, running, first = shared
        own = normalisation._replace(gains=gains, running=running, first=first)
        return _scan_rows_together(cell, own, params, Inputs(x, carry, rows, inputs.traversal))

    # The weights keep their type, by which the devices are known that share a batch (`spread.axes_of_rows`).
    shared = (params, normalisation.gains, normalisation.running, normalisation.first)
    x, carry, rows = spread.vary_alike(inputs[:3], others=shared)
    return spread.by_rows(on_one_type, x, carry, rows, shared)


def _check_batch_norm(
    normalisation: Normalisation,
    inputs: Inputs,
) -> None:
    """Raise `ValueError` for what batch norm cannot do."""
    _, gains, running, train, first = normalisation
    x, _, _, traversal = inputs
    if running is None:
        raise ValueError("running is None; batch norm expects running moments, `cells.norm.init_running`")
    # Devices that share a batch have a part of its rows each.
    row_count = x.shape[1] * spread.sum_over(spread.axes_of_rows(x, gains), 1)
    if train and row_count < 2:
        raise ValueError(f"x has a batch of {row_count} row; batch norm in training expects at least 2")
    if traversal.truncate is not None:
        raise ValueError(
            f"truncate is {traversal.truncate}; batch norm, which counts steps from the first, expects None"
        )

    if traversal.kernel not in {"auto", "scan"}:
        raise ValueError(f"kernel is {traversal.kernel!r}; batch norm, which mixes rows, expects 'auto' or 'scan'")

    # Under jit there is no value to look at.
    if not isinstance(first, jax.core.Tracer):
        checks.count(0, first=first)  # pyrefly: ignore[bad-argument-type]


def _scan_rows_together(
    cell: Cell,
    normalisation: Normalisation,
    params: Tree,
    inputs: Inputs,
) -> tuple[Carry, Outputs, Running]:
    """Scan with batch norm in the slots, of arrays that have passed `spread.by_rows`."""
    norm, _, running, train, first = normalisation
    x, carry, rows, traversal = inputs
    assert running is not None
    valid = None
    if rows.lengths is not None:
        valid = padding.valid_steps(rows.lengths, x.shape[0])
    x = recurrence.without_padding(x, valid)
    if traversal.reverse:
        x = padding.turn(x, rows.lengths)

    # In training every step takes the moments of its batch.
    fixed = Fixed()
    if not train:
        fixed = batch_norm.fixed_at_steps(running, x.shape[0], first)
    sequence = Sequence(x, carry, valid, rows.drop, recurrence.restarts(rows, valid, traversal))
    layer = Layer(cell, norm, every_state=traversal.carries)
    chunk = chunks.size(traversal.chunk, cell, x, carry)
    last, outputs, batch = _standardised_scan(layer, normalisation, params, sequence, fixed=fixed, chunk=chunk)

    if train:
        running = batch_norm.follow_all(running, batch, valid, norm.momentum)
    if traversal.reverse:
        outputs = jax.tree.map(partial(padding.turn, lengths=rows.lengths), outputs)
    recurrence.check_result(x, carry, last, outputs)
    return last, outputs, running


def _standardised_scan(
    layer: Layer,
    normalisation: Normalisation,
    params: Tree,
    sequence: Sequence,
    fixed: Fixed,
    chunk: int | None,
) -> tuple[Carry, Outputs, Running]:
    """Scan with fixed moments, or with those of the batch, which are returned."""
    cell = layer.cell
    norm, gains = normalisation.norm, normalisation.gains
    assert not isinstance(gains, SumGains)
    x, start, valid, drop, anew = sequence
    z, x_moments = _standardise(norm, x @ params.input_kernel, gains.x, valid, fixed.x)
    gates = cell.gates
    assert gates is not None

    def body(carry: Carry, step: Any) -> tuple[Carry, Any]:
        z_t, valid_t, restart_t, fixed_t = step
        carry = adjoint.restarted(restart_t, anew, carry)
        product = products.recurrent(params, drop, carry)
        u, h_moments = _standardise(norm, product, gains.h, valid_t, fixed_t.h)
        if cell.recurrent_bias:
            u = u + params.recurrent_bias

        # Filled while the step is traced, so that a cell need not return it.
        c_moments: list[Residual] = []
        slots = _memory_slot(norm, gains, valid_t, fixed_t.c, c_moments)
        new_carry, _ = gates(z_t, u, carry, slots)
        carry, output = adjoint.hold(valid_t, new_carry, carry, layer.every_state)
        return carry, (output, h_moments, c_moments[0] if c_moments else ())

    steps = (z + params.bias, valid, adjoint.steps_of(anew), fixed)
    last, (outputs, h_moments, c_moments) = chunks.scan(body, start, steps, chunk)
    return last, outputs, Running(x_moments, h_moments, c_moments)


def _memory_slot(
    norm: Norm,
    gains: Gains | MemoryGains,
    valid: Bool[Array, "b"] | None,
    fixed: Moments | None,
    moments_of_batch: list[Residual],
) -> Slots:
    """Return the slots inside a cell, of which batch norm fills that of the memory, and notes the moments it took."""
    # A cell without a memory has no such slot.
    if isinstance(gains, Gains):
        return PLAIN

    def memory(c: Float[Array, "b h"]) -> tuple[Float[Array, "b h"], Residual]:
        normed, moments = _standardise(norm, c, gains.c, valid, fixed)
        moments_of_batch.append(moments)
        return normed + gains.c_shift, moments

    return PLAIN._replace(memory=memory)


def _standardise(
    norm: Norm,
    a: Float[Array, "*t b w"],
    gain: Float[Array, "w"],
    valid: Bool[Array, "*t b"] | None,
    fixed: Moments | None,
) -> tuple[Float[Array, "*t b w"], Residual]:
    """Standardise rows by fixed moments, or by those of the batch, which are then the residual."""
    if fixed is not None:
        return batch_norm.standardise(a, fixed, gain, norm.epsilon), ()
    moments = batch_norm.batch_moments(a, valid, spread.axes_of_rows(a, gain))
    return batch_norm.standardise(a, moments, gain, norm.epsilon), moments
