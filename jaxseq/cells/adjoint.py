"""The scan of a cell over time, and the one hand-written adjoint of all cells: back-propagation through time (Werbos 1990).

Autodiff of a scan saves every intermediate array of a step and accumulates a weight gradient at each step. The adjoint
here saves what a cell names, computes the local derivatives apart from the cotangents, and is free to sum the weight
gradients after the backward scan. `docs/adjoint.md` derives it; `jaxseq.cells.strategy` chooses among its orders.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    NamedTuple,
    ParamSpec,
    Protocol,
    TypeAlias,
    TypeVar,
    runtime_checkable,
)

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from jaxseq.cells import inplace_scan, layer_norm, products, spread, strategy
from jaxseq.cells.base import Carry, Carry_, Cell, Saved, with_output
from jaxseq.cells.norm import PLAIN, PLAIN_TRANSPOSES, Norm, Residual, Slots, SlotValues, Transposes, Weights
from jaxseq.cells.products import Deltas
from jaxseq.cells.strategy import Accumulation, Buffers, Linearisation, Projection
from jaxseq.common import precision
from jaxseq.common.arrays import Tree


class Layer(NamedTuple):
    """The constants of a recurrence.

    cell
    norm         layer norm in the cell's slots, if any
    precision    JAX's precision of its products
    every_state  whether the outputs are carries, which autodiff alone differentiates
    """

    cell: Cell
    norm: Norm | None = None
    precision: str = precision.FULL
    every_state: bool = False

    def slots(self, gains: Weights | None) -> Slots:
        """Return the slots that the gains fill."""
        if self.norm is None or gains is None:
            return PLAIN
        return layer_norm.layer_slots(self.norm, self.cell.groups, gains)

    def transposes(self, gains: Weights | None) -> Transposes:
        """Return the transposes of `slots`."""
        if self.norm is None or gains is None:
            return PLAIN_TRANSPOSES
        return layer_norm.layer_transposes(self.cell.groups, gains)


Arguments = ParamSpec("Arguments")
Returned = TypeVar("Returned")


def in_its_precision(
    function: Callable[Concatenate[Layer, Arguments], Returned],
) -> Callable[Concatenate[Layer, Arguments], Returned]:
    """Compute the products of a function in the precision of its layer.

    JAX may trace a derivative long after the caller's `jax.default_matmul_precision` has ended.
    """

    @wraps(function)
    def with_precision(layer: Layer, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Returned:
        with precision.within(layer.precision):
            return function(layer, *args, **kwargs)

    return with_precision


class Trainable(NamedTuple):
    """The trainable arrays of a recurrence.

    params  the cell's parameters; without an input kernel and a bias, x is projected already
    gains   the norm's weights; None without a norm
    """

    params: Tree
    gains: Weights | None = None


class Restarts(NamedTuple):
    """Steps at which the state of a row starts anew, within its length.

    before  whether the state before the step is replaced
    carry   state to replace it by
    """

    before: Bool[Array, "t b"]
    carry: Carry


class Sequence(NamedTuple):
    """A batch of sequences, scanned from the first time step.

    x      features
    carry  state before the first step
    valid  whether a step is within its row's length; at the others the carry stays and the output is zero
    drop   recurrent dropout: a factor for h on its way into the recurrent product
    anew   restarts within the rows, if there are any
    """

    x: Float[Array, "t b d"]
    carry: Carry
    valid: Bool[Array, "t b"] | None = None
    drop: Float[Array, "b h"] | None = None
    anew: Restarts | None = None


class Residuals(NamedTuple):
    """Values of the forward scan that its adjoint needs; `h_start` is h before the first step."""

    trainable: Trainable
    x: Float[Array, "t b d"]
    h_start: Float[Array, "b h"]
    valid: Bool[Array, "t b"] | None
    drop: Float[Array, "b h"] | None
    outputs: Float[Array, "t b h"]
    saved: Saved
    product: Residual
    anew: Restarts | None


if TYPE_CHECKING:
    # Who asks for carries says so; all others may compute with the outputs.
    Outputs: TypeAlias = Array
else:
    Outputs: TypeAlias = PyTree[Float[Array, "_ _ _"]]
"""The output h of every time step, "t b h", or the carry with `Layer.every_state`, which type checkers do not see."""

Result: TypeAlias = tuple[Carry, Outputs]
"""The last carry, and the outputs."""

Recurrence: TypeAlias = Callable[[Layer, Trainable, Sequence], Result]
"""A scan over time: `plain` or `with_adjoint`."""

Body: TypeAlias = Callable[[Any, Any], tuple[Any, Any]]


@runtime_checkable
class Scan(Protocol):
    """`jax.lax.scan`, or `jaxseq.cells.inplace_scan.scan` with the same arguments."""

    def __call__(
        self,
        body: Body,
        carry: Tree,
        overwritten: Tree,
        preserved: Tree = ...,
        reverse: bool = ...,
    ) -> tuple[Tree, Tree]:
        """Scan `body` over the leading axis of the pair of `overwritten` and `preserved`."""
        ...


def _into_new_arrays(
    body: Body,
    carry: Tree,
    overwritten: Tree,
    preserved: Tree = (),
    reverse: bool = False,
) -> tuple[Tree, Tree]:
    return jax.lax.scan(body, carry, (overwritten, preserved), reverse=reverse)


def advance(
    cell: Cell[Any, Carry_],
    slots: Slots,
    params: Tree,
    drop: Float[Array, "b h"] | None,
    carry: Carry_,
    z: Float[Array, "b g"],
) -> tuple[Carry_, tuple[Saved, Residual]]:
    """Compute one step: the next carry, and the values that the adjoint needs of the cell and of the product's slot."""
    # The kernel may have padded columns, which z has not.
    product = products.recurrent(params, drop, carry)[..., : z.shape[-1]]
    u, product_residual = slots.recurrent(product)
    if cell.recurrent_bias:
        u = u + params.recurrent_bias

    assert cell.gates is not None
    new_carry, saved = cell.gates(z, u, carry, slots)
    # `saved` comes first, for the first outputs are written over z (`inplace_scan`): it was computed from z. The slot's
    # residual was not, and XLA would write it before it has read z, which it then copies whole at each step.
    return new_carry, (saved, product_residual)


def hold(
    valid: Bool[Array, "b"] | None,
    new: Carry,
    old: Carry,
    every_state: bool = False,
) -> tuple[Carry, PyTree[Float[Array, "b _"]]]:
    """Return the carry and the output of a step: rows past their length keep the old carry and put out zero.

    With `every_state` the output is the carry.
    """
    output = new if every_state else new.h
    if valid is None:
        return new, output
    rows = valid[:, None]
    carry = jax.tree.map(partial(jnp.where, rows), new, old)
    return carry, jax.tree.map(lambda state: jnp.where(rows, state, 0), output)


def restarted(
    before: Bool[Array, "b"] | None,
    anew: Restarts | None,
    carry: Carry,
) -> Carry:
    """Return the carry before a step, in which some rows start anew."""
    if before is None or anew is None:
        return carry
    return jax.tree.map(partial(jnp.where, before[:, None]), anew.carry, carry)


def steps_of(anew: Restarts | None) -> Bool[Array, "t b"] | None:
    """Return the steps of restarts, to scan over."""
    return None if anew is None else anew.before


@in_its_precision
def _forward(
    layer: Layer,
    trainable: Trainable,
    sequence: Sequence,
    scan: Scan,
) -> tuple[Carry, tuple[Outputs, tuple[Saved, Residual]]]:
    """Scan forwards, and keep what the adjoint needs."""
    cell = layer.cell
    params, gains = trainable
    x, start, valid, drop, anew = sequence
    slots = layer.slots(gains)

    # What is projected at once may be written over; x itself may not, the weight gradient reads it.
    in_loop = strategy.projection(params.input_kernel, x.shape[-1]) is Projection.IN_LOOP
    if in_loop:
        projected, unprojected = [], x
    else:
        projected, unprojected = products.project_at_once(cell, params, x), ()
    params = params._replace(recurrent_kernel=products.pad_columns(params.recurrent_kernel))

    def body(carry: Carry, step: Any) -> tuple[Carry, tuple[PyTree[Float[Array, "b _"]], tuple[Saved, Residual]]]:
        z_parts, (x_t, valid_t, restart_t) = step
        carry = restarted(restart_t, anew, carry)
        if in_loop:
            z = products.project(params, x_t)
        else:
            z = products.assemble(params, z_parts)

        new_carry, saved = advance(cell, slots, params, drop=drop, carry=carry, z=z)
        carry, output = hold(valid_t, new_carry, carry, layer.every_state)
        return carry, (output, saved)

    return scan(body, start, projected, (unprojected, valid, steps_of(anew)))


def plain(
    layer: Layer,
    trainable: Trainable,
    sequence: Sequence,
) -> Result:
    """Scan a layer over a sequence; its derivative is autodiff's."""
    last, (outputs, _) = _forward(layer, trainable, sequence, _into_new_arrays)
    return last, outputs


with_adjoint = jax.custom_vjp(plain, nondiff_argnums=(0,))
"""`plain` with the hand-written derivative."""


def _save(
    layer: Layer,
    trainable: Trainable,
    sequence: Sequence,
) -> tuple[Result, Residuals]:
    """Scan forwards for the adjoint."""
    last, (outputs, (saved, product_residual)) = _forward(layer, trainable, sequence, inplace_scan.scan)
    residuals = Residuals(
        trainable=trainable,
        x=sequence.x,
        h_start=sequence.carry.h,
        valid=sequence.valid,
        drop=sequence.drop,
        outputs=outputs,
        saved=saved,
        product=product_residual,
        anew=sequence.anew,
    )
    return (last, outputs), residuals


class _State(NamedTuple):
    """The carry of the backward scan.

    carry   cotangent of carry_t from all later steps
    gains   gradient of the gains so far, a row for each row of the batch
    params  gradient of the parameters so far, empty if they are accumulated at once
    anew    cotangent of the state that restarts begin with, so far; empty without restarts
    """

    carry: Carry
    gains: Tree
    params: Tree
    anew: Tree


class _Preserved(NamedTuple):
    """Inputs of a backward step that are not written over; `x` and `h_before` where gradients accumulate in the loop."""

    product: Residual
    slots: SlotValues
    valid: Bool[Array, "b"] | None
    restart: Bool[Array, "b"] | None
    x: Float[Array, "b d"] | None
    h_before: Float[Array, "b h"] | None


@in_its_precision
def _backward(
    layer: Layer,
    residuals: Residuals,
    cotangents: Result,
) -> tuple[Trainable, Sequence]:
    """Scan backwards: the cotangents of all that `plain` differentiates by."""
    cell = layer.cell
    assert cell.linearise is not None
    assert cell.adjoint is not None
    linearise, transpose = cell.linearise, cell.adjoint
    params, gains = residuals.trainable
    x, h_start, valid, drop = residuals.x, residuals.h_start, residuals.valid, residuals.drop
    last_grad, output_grads = cotangents

    plan = strategy.backward(cell, layer.norm, *h_start.shape, dtype=h_start.dtype)
    accumulates = plan.accumulation is Accumulation.IN_LOOP
    transposes = layer.transposes(gains)
    transposed_kernel = products.pad_columns(params.recurrent_kernel.T)
    # Outputs are the states of valid steps; those of padding are never read, for their cotangents are zero.
    h_before = jnp.concatenate([h_start[None], residuals.outputs[:-1]])
    anew = residuals.anew
    if anew is not None:
        h_before = jnp.where(anew.before[..., None], anew.carry.h, h_before)

    def body(state: _State, step: Any) -> tuple[_State, Any]:
        (local, output_grad), preserved = step
        if plan.linearisation is Linearisation.IN_LOOP:
            local = linearise(*local)
        local = local._replace(slots=preserved.slots)

        # h_t has two readers: the output of this step, and the next step.
        carry_grad = with_output(state.carry, state.carry.h + output_grad)
        if preserved.valid is not None:
            carry_grad = _zero_padding(preserved.valid, carry_grad)

        grad = transpose(local, carry_grad, transposes)
        product_grad, product_gains = transposes.recurrent(preserved.product, grad.u)
        deltas = Deltas(grad.z, grad.u, product_grad)

        gains_grad = state.gains
        if gains is not None:
            step_gains = layer_norm.gain_gradients(gains, product_gains, grad.slots)
            gains_grad = jax.tree.map(jnp.add, gains_grad, step_gains)

        # The kernel may have padded columns, which the state has not.
        through_u = (product_grad @ transposed_kernel)[:, : h_start.shape[-1]]
        before = with_output(grad.carry, grad.carry.h + products.apply_drop(drop, through_u))
        if preserved.valid is not None:
            before = jax.tree.map(partial(jnp.where, preserved.valid[:, None]), before, state.carry)
        # A row that started anew has not read the carry of the step before.
        anew_grad = state.anew
        if preserved.restart is not None:
            of_restart = _zero_padding(preserved.restart, before)
            anew_grad = jax.tree.map(jnp.add, anew_grad, of_restart)
            before = _zero_padding(~preserved.restart, before)
        # Only the mask's gradient needs it for all steps.
        if drop is None:
            through_u = ()

        if not accumulates:
            return _State(before, gains_grad, (), anew_grad), (products.share(deltas), through_u)

        recurrent_input = products.apply_drop(drop, preserved.h_before)
        step_params = products.weight_gradients(cell, params, preserved.x, recurrent_input, deltas)
        params_grad = jax.tree.map(jnp.add, state.params, step_params)
        return _State(before, gains_grad, params_grad, anew_grad), (products.input_gradient(params, grad.z), through_u)

    # `linearise` reads the saved arrays before the scan writes over its results.
    scan = inplace_scan.scan if plan.buffers is Buffers.OVERWRITE else _into_new_arrays
    local = (residuals.saved._replace(slots=()), h_before, residuals.outputs)
    if plan.linearisation is Linearisation.AT_ONCE:
        local = linearise(*local)
    # Empty trees cost nothing: a scan carries what its strategy accumulates.
    state = _State(
        carry=last_grad,
        # A gradient for each row: devices that share a batch then meet once, after the scan.
        gains=jax.tree.map(partial(spread.zeros_for_rows, rows=h_start.shape[0]), gains),
        params=jax.tree.map(jnp.zeros_like, params) if accumulates else (),
        anew=() if anew is None else jax.tree.map(jnp.zeros_like, last_grad),
    )
    preserved = _Preserved(residuals.product, residuals.saved.slots, valid, steps_of(anew), x=None, h_before=None)
    if accumulates:
        preserved = preserved._replace(x=x, h_before=h_before)
    state, (stored, through_u) = scan(body, state, (local, output_grads), preserved, reverse=True)

    # The loop has put out x's cotangent, or the deltas that all gradients follow from.
    if accumulates:
        params_grad, x_grad = state.params, stored
    else:
        deltas = products.unshare(stored)
        recurrent_input = products.apply_drop(drop, h_before)
        params_grad = products.weight_gradients(cell, params, x, recurrent_input, deltas)
        x_grad = products.input_gradient(params, deltas.z)
    # Rows meet here, once.
    gains_grad = jax.tree.map(lambda rows: rows.sum(0), state.gains)
    drop_grad = None if drop is None else jnp.sum(through_u * h_before, axis=0)
    anew_grad = None if anew is None else Restarts(None, state.anew)  # pyrefly: ignore[bad-argument-type]
    return Trainable(params_grad, gains_grad), Sequence(x_grad, state.carry, None, drop_grad, anew_grad)


def _zero_padding(valid: Bool[Array, "b"], carry_grad: Carry) -> Carry:
    """Set the other rows to zero, such as those past their length, whose outputs and gates depend on nothing."""
    rows = valid[:, None]
    return jax.tree.map(lambda state_grad: jnp.where(rows, state_grad, 0), carry_grad)


with_adjoint.defvjp(_save, _backward)
