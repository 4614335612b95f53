"""The recurrence of any cell over time.

Forwards, from the initial carry s_0, with h_t the first state of s_t:

    z_t = x_t W + b                            input projection
    u_t = (m ∘ h_{t-1}) R  (+ b_R)             recurrent projection; m is the mask of recurrent dropout, if any
    s_t = gates(z_t, u_t, s_{t-1})             elementwise, of the cell
    y_t = h_t                                  output

Backwards, from the cotangent ds_T of the last carry, where d stands for the derivative of the loss:

    ds_t.h += dy_t                             h_t is read by output t and by step t + 1
    dz_t, du_t, ds_{t-1} = adjoint(ds_t)       elementwise, of the cell
    ds_{t-1}.h += m ∘ (du_t R')                through the recurrent product
    dx_t = dz_t W'

    dW = Σ x_t' dz_t     dR = Σ (m ∘ h_{t-1})' du_t     db = Σ dz_t     db_R = Σ du_t     dm = Σ h_{t-1} ∘ (du_t R')

Beyond a row's length s_t = s_{t-1} and y_t = 0, and cotangents pass unchanged. Where a row starts anew, the restart's state
takes the place of s_{t-1}. `jaxseq.cells.adjoint` holds both scans,
`docs/adjoint.md` the derivation, `jaxseq.cells.normalised` the same with normalisation.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from jaxseq.cells import adjoint, chunks, contract, kernels, padding, products, spread
from jaxseq.cells.adjoint import Layer, Outputs, Recurrence, Restarts, Result, Sequence, Trainable
from jaxseq.cells.base import Carry, Carry_, Cell, Params_
from jaxseq.cells.chunks import BoundRecurrence, Chunk
from jaxseq.cells.kernels import Kernel
from jaxseq.cells.norm import PLAIN
from jaxseq.common import checks, precision
from jaxseq.common.arrays import DType, Tree


class Rows(NamedTuple):
    """Arrays with an entry for each row of the batch.

    lengths  valid time steps of each row; None if all are valid
    drop     recurrent dropout: a factor for h on its way into the recurrent product, one mask for the whole sequence
             (Gal & Ghahramani 2016)
    resets   steps before which a row starts anew, as at the end of an episode: the row's pieces do not see each other,
             in either direction. A reset before the first step replaces the initial carry
    restart  state that a reset starts from; None is that of `Cell.start`
    """

    lengths: Integer[Array, "b"] | None = None
    drop: Float[Array, "b h"] | None = None
    resets: Bool[Array, "t b"] | None = None
    restart: Carry | None = None


class Traversal(NamedTuple):
    """The way through the time axis, a constant.

    reverse   scan each row backwards within its length; output t still belongs to input t
    truncate  time steps after which gradients are stopped (truncated back-propagation through time: Williams & Peng
              1990); None keeps them whole
    kernel    program that computes the recurrence, `jaxseq.cells.kernels`
    chunk     time steps that the derivative computes again at once instead of keeping what it needs of them: less memory,
              the same gradients (`jaxseq.cells.chunks`); None keeps all, "auto" decides by the bytes
    carries   return the carry of every time step, each state "t b h", in the place of its output; by autodiff
    """

    reverse: bool = False
    truncate: int | None = None
    kernel: Kernel = "auto"
    carries: bool = False
    chunk: Chunk = "auto"


WHOLE_ROWS = Rows()
"""All steps of all rows, without dropout."""
FORWARDS = Traversal()
"""From the first step to the last, without truncation."""


@precision.in_full()
def step(
    cell: Cell[Params_, Carry_],
    params: Params_,
    x: Float[Array, "b d"],
    carry: Carry_,
) -> Carry_:
    """Compute one step: the carry after x, whose `h` "b h" is the output.

    Raises `ValueError`, which names the argument, if a shape or dtype does not fit the parameters.
    """
    check(cell, params, x[None], carry)
    if cell.gates is None:
        new_carry = contract.one_step(cell, params, x, carry)
    else:
        z = products.project(params, x)
        new_carry, _ = adjoint.advance(cell, PLAIN, params, drop=None, carry=carry, z=z)
    chex.assert_trees_all_equal_shapes_and_dtypes(new_carry, carry)
    return new_carry


def scan(
    cell: Cell[Params_, Carry_],
    params: Params_,
    x: Float[Array, "t b d"],
    carry: Carry_,
    rows: Rows = WHOLE_ROWS,
    traversal: Traversal = FORWARDS,
) -> tuple[Carry_, Outputs]:
    """Scan a cell over a sequence that starts from `carry`: the last carry, and the output h of every time step.

    Padding beyond a row's length changes nothing: outputs there are zero, the last carry is that of the last valid step,
    and gradients of padding are zero. Truncation leaves the values as they are.

    Products are float32 in full, on a GPU too, unless the caller sets `jax.default_matmul_precision`, whose precision the
    derivative keeps.

    The batch may be divided over devices, by `jax.shard_map` or a mesh (`jaxseq.cells.spread`).

    Reverse-mode differentiable in params, x, carry and `rows.drop`, by the hand-written adjoint; JAX refuses forward mode
    (`jax.jvp`), for which there is `scan_by_autodiff`. Raises `ValueError`, which names the argument, if a shape or dtype
    does not fit, if a length is not between 0 and t, or if the kernel that is asked for cannot compute the layer.
    """
    check(cell, params, x, carry, rows)
    return _scan(kernels.recurrence(traversal.kernel), cell, params, Inputs(x, carry, rows, traversal))


def scan_by_autodiff(
    cell: Cell[Params_, Carry_],
    params: Params_,
    x: Float[Array, "t b d"],
    carry: Carry_,
    rows: Rows = WHOLE_ROWS,
    traversal: Traversal = FORWARDS,
) -> tuple[Carry_, Outputs]:
    """Scan as `scan` does, by the plain scan without the hand-written adjoint: the same values, autodiff's gradients."""
    check(cell, params, x, carry, rows)
    return _scan(kernels.by_autodiff, cell, params, Inputs(x, carry, rows, traversal))


class Inputs(NamedTuple):
    """A batch of sequences and the way through it, as in `scan`."""

    x: Float[Array, "t b d"]
    carry: Carry
    rows: Rows
    traversal: Traversal


def _scan(
    recurrence: Recurrence,
    cell: Cell[Params_, Carry_],
    params: Params_,
    inputs: Inputs,
) -> tuple[Carry_, Outputs]:
    layer = Layer(cell, precision=precision.current(), every_state=inputs.traversal.carries)
    inputs = with_restart(cell, inputs)

    def on_one_type(
        x: Float[Array, "t b d"],
        carry: Carry,
        rows: Rows,
        params: Tree,
    ) -> tuple[Carry, Outputs, None]:
        bound = partial(recurrence, layer, Trainable(params))
        # `traverse` stays outside the custom derivative, for autodiff handles padding, direction and chunks well.
        return *traverse(cell, bound, x, carry, rows=rows, traversal=inputs.traversal), None

    x, carry, rows, params = spread.vary_alike((*inputs[:3], params))
    last, outputs, _ = spread.by_rows(on_one_type, x, carry, rows, params)
    return last, outputs


def with_restart(cell: Cell, inputs: Inputs) -> Inputs:
    """Fill in the state that resets start from."""
    rows = inputs.rows
    if rows.resets is None or rows.restart is not None:
        return inputs
    restart = cell.start(inputs.carry.h.shape, inputs.carry.h.dtype)
    return inputs._replace(rows=rows._replace(restart=restart))


def traverse(
    cell: Cell,
    recurrence: BoundRecurrence,
    x: Float[Array, "t b d"],
    carry: Carry,
    rows: Rows,
    traversal: Traversal,
) -> Result:
    """Apply a recurrence to padded rows, in the direction and the chunks of `traversal`."""
    valid = None
    if rows.lengths is not None:
        valid = padding.valid_steps(rows.lengths, x.shape[0])
    x = without_padding(x, valid)
    if traversal.reverse:
        x = padding.turn(x, rows.lengths)

    sequence = Sequence(x, carry, valid, rows.drop, restarts(rows, valid, traversal))
    chunk = chunks.size(traversal.chunk, cell, x, carry)
    if chunk is not None:
        recurrence = partial(chunks.recompute, recurrence, size=chunk)
    if traversal.truncate is not None:
        checks.count(truncate=traversal.truncate)
        recurrence = partial(chunks.truncate, recurrence, size=int(traversal.truncate))
    last, outputs = recurrence(sequence)

    if traversal.reverse:
        outputs = jax.tree.map(partial(padding.turn, lengths=rows.lengths), outputs)
    check_result(x, carry, last, outputs)
    return last, outputs


def restarts(
    rows: Rows,
    valid: Bool[Array, "t b"] | None,
    traversal: Traversal,
) -> Restarts | None:
    """Return the restarts of rows in the order of the scan."""
    if rows.resets is None:
        return None
    # `with_restart` has filled it in.
    assert rows.restart is not None
    before = padding.resets_before(rows.resets, valid, rows.lengths, traversal.reverse)
    return Restarts(before, rows.restart)


def without_padding(x: Float[Array, "t b d"], valid: Bool[Array, "t b"] | None) -> Float[Array, "t b d"]:
    """Set padding to zero, be it NaN."""
    if valid is None:
        return x
    # A cotangent of zero times NaN would be NaN in the weight gradient.
    return jnp.where(valid[..., None], x, 0)


def check(
    cell: Cell,
    params: Tree,
    x: Array,
    carry: Carry,
    rows: Rows = WHOLE_ROWS,
) -> None:
    """Raise `ValueError`, which names the argument and both values, if a shape or dtype does not fit.

    Raises `UsageError` for a cell that does not keep its contract, `jaxseq.cells.contract`.
    """
    contract.check_cell(cell)
    padding.check_is_floating("x", x)
    # A cell that projects its input itself has the features that it has.
    d = _features(cell, params) or x.shape[-1]
    if x.ndim != 3 or x.shape[-1] != d or not x.shape[0]:
        raise ValueError(f"x has the shape {x.shape}; expected (steps, rows, {d}), with at least 1 step")

    expected_type = type(jax.eval_shape(lambda: cell.start((1, 1), x.dtype)))
    if type(carry) is not expected_type:
        carry_type = type(carry)
        raise ValueError(
            f"carry is a {carry_type.__module__}.{carry_type.__name__}; expected {expected_type.__module__}.Carry"
        )

    t, b, _ = x.shape
    arrays, shapes = _expected_params(cell, params, x)
    h = _units(cell, params, carry)
    expected = jax.eval_shape(lambda: cell.start((b, h), x.dtype))
    for field, state in carry._asdict().items():
        arrays[f"carry.{field}"] = state
        shapes[f"carry.{field}"] = getattr(expected, field).shape
    if rows.drop is not None:
        arrays["drop"] = rows.drop
        shapes["drop"] = (b, h)
    if rows.restart is not None:
        for field, state in rows.restart._asdict().items():
            arrays[f"restart.{field}"] = state
            shapes[f"restart.{field}"] = getattr(expected, field).shape

    # Mixed dtypes would promote silently, and change the type of the carry within the scan.
    dtype = _dtype(params)
    for name, array in arrays.items():
        padding.check_is_array(name, array)
        if array.shape != shapes[name]:
            raise ValueError(f"{name} has the shape {array.shape}; expected {shapes[name]}")
        if array.dtype != dtype:
            raise ValueError(f"{name} has the dtype {array.dtype}; expected {dtype}, as the parameters")
    if rows.lengths is not None:
        padding.check_lengths(rows.lengths, b, t)
    if rows.resets is not None:
        padding.check_resets(rows.resets, b, t)

    sizes = contract.sizes_of(x, carry)
    contract.check_step(cell, sizes)
    if rows.drop is not None:
        contract.check_dropout(cell, sizes)


def _expected_params(
    cell: Cell,
    params: Tree,
    x: Array,
) -> tuple[dict[str, Array], dict[str, tuple[int, ...]]]:
    """Return the arrays that a call multiplies, by their names, and the shapes that they should have."""
    arrays = {"x": x}
    shapes = {"x": x.shape}
    if cell.gates is None:
        return arrays, shapes

    h, g = _gate_sizes(cell, params)
    arrays |= {"params.recurrent_kernel": params.recurrent_kernel, "params.bias": params.bias}
    shapes |= {"params.recurrent_kernel": (h, g), "params.bias": (g,)}
    if cell.recurrent_bias:
        arrays["params.recurrent_bias"] = params.recurrent_bias
        shapes["params.recurrent_bias"] = (g,)
    return arrays, shapes


def _features(cell: Cell, params: Tree) -> int | None:
    """Return d of the parameters; None where the cell projects its input itself."""
    kernel = getattr(params, "input_kernel", None)
    if kernel is None or cell.project is not None:
        return None
    if len(kernel.shape) != 2 or 0 in kernel.shape or (cell.gates is not None and kernel.shape[1] % cell.gate_count):
        raise ValueError(
            f"params.input_kernel has the shape {kernel.shape}; expected at least 1 feature, and a multiple of the "
            f"{cell.gate_count} gates of {cell.name}"
        )
    return kernel.shape[0]


def _gate_sizes(cell: Cell, params: Tree) -> tuple[int, int]:
    """Return h and g of the parameters of a gated cell."""
    g = params.input_kernel.shape[1]
    return g // cell.gate_count, g


def _units(
    cell: Cell,
    params: Tree,
    carry: Carry,
) -> int:
    """Return h."""
    if cell.gates is None:
        return carry.h.shape[-1]
    return _gate_sizes(cell, params)[0]


def _dtype(params: Tree) -> DType:
    """Return the dtype of the parameters, that of the first."""
    return jax.tree.leaves(params)[0].dtype


def check_result(
    x: Array,
    carry: Carry,
    last: Carry,
    outputs: Outputs,
) -> None:
    """Assert that a scan has kept the shapes that it promises; a cell that does not is at fault, not its caller."""
    t, b, _ = x.shape
    chex.assert_trees_all_equal_shapes_and_dtypes(last, carry)
    states = carry if isinstance(outputs, tuple) else carry.h
    chex.assert_tree_shape_prefix(outputs, (t, b))
    chex.assert_trees_all_equal_shapes_and_dtypes(jax.tree.map(lambda state: state[0], outputs), states)
