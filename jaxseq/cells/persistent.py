"""The recurrence as two kernels for NVIDIA GPUs, one forwards and one backwards, which hold R and the state on the chip.

A scan starts several kernels at each time step, and each reads R again; with few units that is most of its time. Here a
block of threads runs one row of the batch through all time steps, with R in its registers (persistent RNNs: Diamos et
al. 2016; FlashRNN: Pöppel et al. 2024). The kernels are written in Pallas, once for all cells, around `Cell.pointwise`,
whose derivative is autodiff's.

    forwards   p_t = (m ∘ h_{t-1}) R,  s_t = step(z_t, p_t, s_{t-1});  stores s_t and p_t
    backwards  dp_t, ds_{t-1} = step'(ds_t),  ds_{t-1}.h += m ∘ (dp_t R');  stores ds_t alone

Where a row starts anew, the step reads the restart's state in place of s_{t-1}, and ds_{t-1} is zero. All other cotangents
follow from ds_t at once, over all time steps, outside the kernels. `jaxseq.cells.kernel_layout` describes the layout of the
arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array, Bool, Float, Int

from jaxseq.cells import kernel_layout, layer_norm, products
from jaxseq.cells.adjoint import Layer, Result, Sequence, Trainable, hold, in_its_precision
from jaxseq.cells.base import Carry
from jaxseq.cells.kernel_layout import Gates, Grouped, Plan
from jaxseq.cells.norm import PLAIN_GATES
from jaxseq.common.arrays import Tree


class GateWeights(NamedTuple):
    """Weights of the pointwise step, "n w" each, or "1 w" where they belong to the memory."""

    recurrent_bias: Float[Array, "n w"] | None
    gains: Tree


class Inputs(NamedTuple):
    """Inputs of the recurrence, filled up.

    z        projected inputs with their bias, "t b w k" for each group
    kernel   R, for each part a "w/parts w k" for each group
    valid    numbers inside the kernels, which load no truth values
    anew     whether `restart` takes the place of the state before a step; numbers inside the kernels, too
    restart  None without `anew`
    """

    z: Grouped
    kernel: tuple[Grouped, ...]
    weights: GateWeights
    start: Carry
    valid: Bool[Array, "t b"] | Int[Array, "t b"] | None
    drop: Float[Array, "b w"] | None
    anew: Bool[Array, "t b"] | Int[Array, "t b"] | None
    restart: Carry | None


def scan(
    layer: Layer,
    trainable: Trainable,
    sequence: Sequence,
) -> Result:
    """Scan as `adjoint.with_adjoint` does, by two kernels; `kernels.refusal` says which layers they can compute."""
    return scan_by_plan(layer, trainable, sequence, kernel_layout.plan(layer, sequence.carry.h.shape[-1]))


@in_its_precision
def scan_by_plan(
    layer: Layer,
    trainable: Trainable,
    sequence: Sequence,
    plan: Plan,
) -> Result:
    """Scan by a plan of one's choice."""
    params, gains = trainable
    x, carry, valid, drop, restarts = sequence
    columns = plan.width - plan.units

    def fill(state: Float[Array, "*b h"]) -> Float[Array, "*b w"]:
        return jnp.pad(state, [(0, 0)] * (state.ndim - 1) + [(0, columns)])

    if params.input_kernel is None:
        z = kernel_layout.group(plan, x)
    else:
        # The columns of W are put in order, rather than those of x W at every step.
        pairs = zip(kernel_layout.group(plan, params.input_kernel), kernel_layout.group(plan, params.bias), strict=True)
        z = tuple(jnp.tensordot(x, kernel, axes=1) + bias for kernel, bias in pairs)

    inputs = Inputs(
        z=z,
        kernel=kernel_layout.in_parts(
            plan, kernel_layout.group(plan, jnp.pad(params.recurrent_kernel, [(0, columns), (0, 0)]))
        ),
        weights=jax.tree.map(
            lambda a: fill(a.reshape(-1, plan.units)), GateWeights(getattr(params, "recurrent_bias", None), gains)
        ),
        start=jax.tree.map(fill, carry),
        valid=valid,
        drop=None if drop is None else fill(drop),
        anew=None if restarts is None else restarts.before,
        restart=None if restarts is None else jax.tree.map(fill, restarts.carry),
    )
    last, outputs = _recurrence(layer, plan, inputs)
    return jax.tree.map(lambda s: s[..., : plan.units], last), outputs[..., : plan.units]


def _rows(weights: Any) -> Any:
    """Read weights "n w" as a row for each gate, inside a kernel as well."""
    return jax.tree.map(lambda array: tuple(array[gate] for gate in range(array.shape[0])), weights)


def _step(
    layer: Layer,
    units: int,
    weights: Any,
    z: Gates,
    product: Gates,
    carry: Carry,
) -> Carry:
    """Compute one step from h R."""
    # Gains without their input's part: that has acted on z before the recurrence.
    slots = PLAIN_GATES
    if weights.gains is not None:
        assert layer.norm is not None
        slots = layer_norm.gate_slots(layer.norm, layer.cell.groups, weights.gains, units)
    u = slots.recurrent(product)
    if weights.recurrent_bias is not None:
        u = tuple(map(jnp.add, u, weights.recurrent_bias))
    assert layer.cell.pointwise is not None
    return layer.cell.pointwise(z, u, carry, slots)


def _before(restart: Carry | None, is_anew: Bool[Array, "..."] | None, carry: Carry) -> Carry:
    """Return the state before a step, in which a row may start anew."""
    if restart is None or is_anew is None:
        return carry
    return jax.tree.map(partial(jnp.where, is_anew), restart, carry)


class Stored(NamedTuple):
    """Stored by the forward kernel: the carry after each step, of which the first field is the output, and h R."""

    states: tuple[Float[Array, "t b w"], ...]
    product: Grouped | None


def _kernel_reader(plan: Plan, refs: Any) -> Callable[[], list[Grouped]]:
    """Return a function that gives the parts of R: from registers, or read again."""

    def read(part: Any) -> Grouped:
        return tuple(ref[...] for ref in part)

    # Read before the loop over time, these values live in registers; the others come from the cache at every step.
    kept = [read(part) for part in refs[: plan.kept]]
    return lambda: [*kept, *(read(part) for part in refs[plan.kept :])]


def _repeat(steps: int, body: Any, state: Any) -> Any:
    """Apply ``state = body(i, state)`` for each step."""

    def advance(counted: Any) -> Any:
        i, state = counted
        return i + 1, body(i, state)

    # Triton moves work through the carry of a loop with a count, and would compute every gate in many threads at once.
    _, state = jax.lax.while_loop(lambda counted: counted[0] < steps, advance, (0, state))
    return state


def _multiply(left: list[Float[Array, "_"]], kernel: list[Grouped]) -> Grouped:
    """Compute h R, "w k" for each group, from the parts of both."""
    product = []
    for group in range(len(kernel[0])):
        terms = [part[:, None, None] * matrices[group] for part, matrices in zip(left, kernel, strict=True)]
        # One sum over the threads.
        product.append(jnp.sum(sum(terms), axis=0))
    return tuple(product)


def _multiply_transposed(
    plan: Plan,
    gates: Gates,
    kernel: list[Grouped],
) -> Float[Array, "w"]:
    """Compute the product of the gates, side by side, and R' from its parts."""
    gate_parts = [kernel_layout.vector_parts(plan, gate) for gate in gates]
    terms = []
    for part, matrices in enumerate(kernel):
        for (first, end), matrix in zip(plan.bounds, matrices, strict=True):
            group = kernel_layout.join(end - first, tuple(parts[part] for parts in gate_parts[first:end]))
            terms.append(jnp.sum(group[:, None, :] * matrix, axis=2))
    return jnp.sum(sum(terms), axis=0)


def _forward_kernel(
    layer: Layer,
    plan: Plan,
    inputs: Any,
    last: Any,
    stored: Any,
) -> None:
    """Run a row through all time steps; the arguments hold references."""
    steps = inputs.z[0].shape[0]
    kernel = _kernel_reader(plan, inputs.kernel)
    by_gate = partial(kernel_layout.by_gate, layer.cell.gate_count)
    weights = _rows(inputs.weights)
    drop = None if inputs.drop is None else inputs.drop[...]
    restart = jax.tree.map(lambda ref: ref[...], inputs.restart)

    def read(t: Any) -> Any:
        z = tuple(ref[t] for ref in inputs.z)
        return z, *(None if numbers is None else numbers[t] != 0 for numbers in (inputs.valid, inputs.anew))

    def body(t: Any, state: Any) -> Any:
        carry, (z, valid, is_anew) = state
        # Read a step ahead, so that nothing waits for it.
        ahead = read(jnp.minimum(t + 1, steps - 1))

        before = _before(restart, is_anew, carry)
        recurrent_input = kernel_layout.vector_parts(plan, products.apply_drop(drop, before.h))
        product = _multiply(recurrent_input, kernel())
        new = _step(layer, plan.units, weights, z=by_gate(z), product=by_gate(product), carry=before)
        output = new.h
        # Rows past their length keep the old carry and put out zero, as in the scan.
        if valid is not None:
            new = jax.tree.map(partial(jnp.where, valid), new, carry)
            output = jnp.where(valid, output, 0)

        # Without a derivative there is room for the output alone.
        _, *other_states = new
        for ref, value in zip(stored.states, (output, *other_states), strict=False):
            ref[t] = value
        if stored.product is not None:
            for ref, value in zip(stored.product, product, strict=True):
                ref[t] = value
        return new, ahead

    carry, _ = _repeat(steps, body, (jax.tree.map(lambda ref: ref[...], inputs.start), read(0)))
    for ref, value in zip(last, carry, strict=True):
        ref[...] = value


class BackwardInputs(NamedTuple):
    """Inputs of the backward kernel: those of the forward one, what it has stored, and cotangents.

    before  states that the steps have read, with those of restarts
    """

    forward: Inputs
    product: Grouped
    before: Carry
    output_grads: Float[Array, "t b w"]
    last_grad: Carry


class StateGrads(NamedTuple):
    """Cotangents that the backward kernel stores: of the start, of the restarts' state, and of the state of each step."""

    start: Carry
    restart: Carry | None
    states: Carry


def _backward_kernel(
    layer: Layer,
    plan: Plan,
    inputs: Any,
    *outputs: Any,
) -> None:
    """Run a row back through all time steps; the arguments hold references, R is transposed."""
    forward = inputs.forward
    grads = StateGrads(*outputs)
    steps = forward.z[0].shape[0]
    kernel = _kernel_reader(plan, forward.kernel)
    by_gate = partial(kernel_layout.by_gate, layer.cell.gate_count)
    weights = _rows(forward.weights)
    drop = None if forward.drop is None else forward.drop[...]

    def read(t: Any) -> Any:
        z = tuple(ref[t] for ref in forward.z)
        product = tuple(ref[t] for ref in inputs.product)
        before = jax.tree.map(lambda ref: ref[t], inputs.before)
        truths = (None if numbers is None else numbers[t] != 0 for numbers in (forward.valid, forward.anew))
        return z, product, before, inputs.output_grads[t], *truths

    def body(i: Any, state: Any) -> Any:
        t = steps - 1 - i
        carry_grad, of_restart, (z, product, before, output_grad, valid, is_anew) = state
        ahead = read(jnp.maximum(t - 1, 0))

        # h_t has two readers: the output of this step, and the next step.
        grad = carry_grad._replace(h=carry_grad.h + output_grad)
        if valid is not None:
            grad = jax.tree.map(lambda g: jnp.where(valid, g, 0), grad)
        for ref, value in zip(grads.states, grad, strict=True):
            ref[t] = value

        # The gates are computed again, for that is faster than storing and reading what autodiff needs of them.

        def step(product: Gates, before: Carry) -> Carry:
            return _step(layer, plan.units, weights, z=by_gate(z), product=product, carry=before)

        _, transpose = jax.vjp(step, by_gate(product), before)
        product_grad, before_grad = transpose(grad)

        # z's cotangent is not needed here, and what is not used costs nothing.
        through_product = _multiply_transposed(plan, product_grad, kernel())
        new = before_grad._replace(h=before_grad.h + products.apply_drop(drop, through_product))
        if of_restart is not None:
            # A row that started anew has not read the carry of the step before; it does so within its length alone.
            of_restart = jax.tree.map(lambda total, grad: total + jnp.where(is_anew, grad, 0), of_restart, new)
            new = jax.tree.map(lambda grad: jnp.where(is_anew, 0, grad), new)
        if valid is not None:
            new = jax.tree.map(partial(jnp.where, valid), new, carry_grad)
        return new, of_restart, ahead

    last_grad = jax.tree.map(lambda ref: ref[...], inputs.last_grad)
    no_grad = None if grads.restart is None else jax.tree.map(jnp.zeros_like, last_grad)
    carry_grad, of_restart, _ = _repeat(steps, body, (last_grad, no_grad, read(steps - 1)))
    values = jax.tree.leaves((carry_grad, of_restart))
    for ref, value in zip(jax.tree.leaves((grads.start, grads.restart)), values, strict=True):
        ref[...] = value


SHARED = -1
"""In the place of the axis b: every row reads the whole array."""


def _axes(tree: Tree, axis: int) -> Tree:
    return jax.tree.map(lambda _: axis, tree)


def _input_axes(inputs: Inputs) -> Inputs:
    """Return the number of the axis b of each input, or `SHARED`."""
    return Inputs(
        z=_axes(inputs.z, 1),
        kernel=_axes(inputs.kernel, SHARED),
        weights=_axes(inputs.weights, SHARED),
        start=_axes(inputs.start, 0),
        valid=_axes(inputs.valid, 1),
        drop=_axes(inputs.drop, 0),
        anew=_axes(inputs.anew, 1),
        restart=_axes(inputs.restart, 0),
    )


def _row(array: Any, axis: int) -> pl.BlockSpec:
    """Give a kernel its row of an array."""
    dimensions = range(len(array.shape))
    shape = tuple(pl.squeezed if number == axis else array.shape[number] for number in dimensions)
    return pl.BlockSpec(shape, lambda row: tuple(row if number == axis else 0 for number in dimensions))


def _call(
    kernel: Any,
    plan: Plan,
    inputs: tuple[Tree, Tree],
    outputs: tuple[Tree, Tree],
    name: str,
) -> Any:
    """Call a kernel for each row; `inputs` and `outputs` are arrays or shapes, and their axes b."""
    arrays, axes = inputs
    shapes, shape_axes = outputs
    # Every output has the axis b.
    rows = jax.tree.leaves(shapes)[0].shape[jax.tree.leaves(shape_axes)[0]]
    call = partial(
        pl.pallas_call,
        kernel,
        out_shape=shapes,
        grid=(rows,),
        in_specs=[jax.tree.map(_row, arrays, axes)],
        out_specs=jax.tree.map(_row, shapes, shape_axes),
        name=name,
    )
    compiled = call(compiler_params=triton.CompilerParams(num_warps=plan.warps, num_stages=1))
    # Wherever the arrays are: other platforms have no such kernels, but interpreted they compute the same.
    return jax.lax.platform_dependent(arrays, cuda=compiled, default=call(interpret=True))


def _shapes(tree: Tree) -> Tree:
    return jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), tree)


def _with_numbers(inputs: Inputs) -> Inputs:
    """Convert what a kernel loads as numbers."""
    valid, anew = jax.tree.map(lambda truth: truth.astype(jnp.int32), (inputs.valid, inputs.anew))
    return inputs._replace(valid=valid, anew=anew)


def _forward(
    layer: Layer,
    plan: Plan,
    inputs: Inputs,
    save: bool,
) -> tuple[Carry, Stored]:
    inputs = _with_numbers(inputs)
    steps = inputs.z[0].shape[0]
    states = jax.tree.map(lambda s: jax.ShapeDtypeStruct((steps, *s.shape), s.dtype), tuple(inputs.start))
    # Without a derivative only the outputs are stored.
    stored = Stored(states[:1], None)
    if save:
        stored = Stored(states, _shapes(inputs.z))
    last = _shapes(inputs.start)
    return _call(
        partial(_forward_kernel, layer, plan),
        plan,
        (inputs, _input_axes(inputs)),
        ((last, stored), (_axes(last, 0), _axes(stored, 1))),
        name=f"{layer.cell.name}_forward",
    )


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _recurrence(layer: Layer, plan: Plan, inputs: Inputs) -> Result:
    last, stored = _forward(layer, plan, inputs, save=False)
    return last, stored.states[0]


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _recurrence_and_stored(layer: Layer, plan: Plan, inputs: Inputs) -> tuple[Result, Stored]:
    last, stored = _forward(layer, plan, inputs, save=True)
    return (last, stored.states[0]), stored


def _save(layer: Layer, plan: Plan, inputs: Inputs) -> tuple[Result, tuple[Inputs, Stored]]:
    result, stored = _recurrence_and_stored(layer, plan, inputs)
    return result, (inputs, stored)


def _save_both(
    layer: Layer,
    plan: Plan,
    inputs: Inputs,
) -> tuple[tuple[Result, Stored], tuple[Inputs, Stored]]:
    result, stored = _recurrence_and_stored(layer, plan, inputs)
    return (result, stored), (inputs, stored)


def _transpose(
    layer: Layer,
    plan: Plan,
    residuals: tuple[Inputs, Stored],
    cotangents: Result,
) -> tuple[Inputs]:
    return (_gradient(layer, plan, *residuals, cotangents),)


def _transpose_both(
    layer: Layer,
    plan: Plan,
    residuals: tuple[Inputs, Stored],
    cotangents: tuple[Result, Stored],
) -> tuple[Inputs]:
    # `_gradient` alone reads what is stored, and its derivative takes that for a function of the inputs.
    result_grad, _ = cotangents
    return _transpose(layer, plan, residuals, result_grad)


def _by_scan(layer: Layer, plan: Plan, inputs: Inputs) -> Result:
    """Compute the recurrence by an ordinary scan, whose derivative can be differentiated again."""
    kernel = kernel_layout.whole(plan, inputs.kernel)
    by_gate = partial(kernel_layout.by_gate, layer.cell.gate_count)
    weights = _rows(inputs.weights)

    def body(carry: Carry, step: Any) -> tuple[Carry, Float[Array, "b w"]]:
        z, valid, is_anew = step
        is_anew = None if is_anew is None else is_anew[:, None]
        before = _before(inputs.restart, is_anew, carry)
        recurrent_input = products.apply_drop(inputs.drop, before.h)
        product = tuple(jnp.einsum("bi,ijk->bjk", recurrent_input, matrix) for matrix in kernel)
        new = _step(layer, plan.units, weights, z=by_gate(z), product=by_gate(product), carry=before)
        return hold(valid, new, carry)

    return jax.lax.scan(body, inputs.start, (inputs.z, inputs.valid, inputs.anew))


def _states_before(inputs: Inputs, stored: Stored) -> Carry:
    """Return the states that the steps have read, "t b w" each, with those of restarts."""
    before = jax.tree.map(
        lambda first, states: jnp.concatenate([first[None], states[:-1]]),
        inputs.start,
        type(inputs.start)(*stored.states),
    )
    if inputs.anew is None:
        return before
    return _before(inputs.restart, inputs.anew[..., None], before)


def _backward(
    layer: Layer,
    plan: Plan,
    inputs: Inputs,
    product: Grouped,
    before: Carry,
    cotangents: Result,
) -> StateGrads:
    """Call the backward kernel, the sequential part of the gradient, with h R and the states that the steps have read."""
    last_grad, output_grads = cotangents
    kernel = kernel_layout.whole(plan, inputs.kernel)
    transposed = _with_numbers(inputs)._replace(
        kernel=kernel_layout.in_parts(plan, tuple(jnp.swapaxes(matrix, 0, 1) for matrix in kernel)),
        # `before` has the states that restarts begin with.
        restart=None,
    )
    arrays = BackwardInputs(transposed, product, before, output_grads, last_grad)
    axes = BackwardInputs(
        _input_axes(transposed),
        _axes(product, 1),
        _axes(before, 1),
        _axes(output_grads, 1),
        _axes(last_grad, 0),
    )
    shapes = _shapes(StateGrads(inputs.start, inputs.restart, before))
    shape_axes = StateGrads(_axes(inputs.start, 0), _axes(inputs.restart, 0), _axes(before, 1))
    return _call(
        partial(_backward_kernel, layer, plan),
        plan,
        (arrays, axes),
        (shapes, shape_axes),
        name=f"{layer.cell.name}_backward",
    )


class StepGrads(NamedTuple):
    """Cotangents of what all steps read: z, "t b w k" for each group, h R, the same, and the weights."""

    z: Grouped
    product: Grouped
    weights: GateWeights


def _step_grads(
    layer: Layer,
    plan: Plan,
    inputs: Inputs,
    product: Grouped,
    before: Carry,
    state_grads: Carry,
) -> StepGrads:
    """Differentiate all time steps at once, given the cotangents of the state of each."""
    by_gate = partial(kernel_layout.by_gate, layer.cell.gate_count)

    def all_steps(z: Grouped, product: Grouped, weights: GateWeights) -> Carry:
        rows = _rows(weights)

        def step(z: Grouped, product: Grouped, before: Carry) -> Carry:
            return _step(layer, plan.units, rows, z=by_gate(z), product=by_gate(product), carry=before)

        return jax.vmap(jax.vmap(step))(z, product, before)

    _, transpose = jax.vjp(all_steps, inputs.z, product, inputs.weights)
    return StepGrads(*transpose(state_grads))


def _kernel_grad(
    plan: Plan,
    inputs: Inputs,
    h: Float[Array, "t b w"],
    product_grad: Grouped,
) -> tuple[Grouped, ...]:
    """Return the cotangent of R, in parts; h is the state that the steps have read."""
    recurrent_input = products.apply_drop(inputs.drop, h)
    by_group = tuple(jnp.einsum("tbi,tbjk->ijk", recurrent_input, group) for group in product_grad)
    return kernel_layout.in_parts(plan, by_group)


def _drop_grad(
    plan: Plan,
    inputs: Inputs,
    h: Float[Array, "t b w"],
    product_grad: Grouped,
) -> Float[Array, "b w"] | None:
    """Return the cotangent of the dropout mask, None without one; XLA leaves it out if nobody reads it."""
    if inputs.drop is None:
        return None
    kernel = kernel_layout.whole(plan, inputs.kernel)
    through_product = sum(
        jnp.einsum("tbjk,ijk->tbi", group, matrix) for group, matrix in zip(product_grad, kernel, strict=True)
    )
    return jnp.sum(through_product * h, axis=0)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
@in_its_precision
def _gradient(
    layer: Layer,
    plan: Plan,
    inputs: Inputs,
    stored: Stored,
    cotangents: Result,
) -> Inputs:
    """Compute the cotangents of the inputs by the backward kernel."""
    assert stored.product is not None
    before = _states_before(inputs, stored)

    grads = _backward(layer, plan, inputs, product=stored.product, before=before, cotangents=cotangents)
    # All the rest at once, over all time steps.
    of_steps = _step_grads(layer, plan, inputs, product=stored.product, before=before, state_grads=grads.states)
    return Inputs(
        z=of_steps.z,
        kernel=_kernel_grad(plan, inputs, before.h, of_steps.product),
        weights=of_steps.weights,
        start=grads.start,
        valid=None,
        drop=_drop_grad(plan, inputs, before.h, of_steps.product),
        anew=None,
        restart=grads.restart,
    )


def _save_gradient(
    layer: Layer,
    plan: Plan,
    inputs: Inputs,
    stored: Stored,
    cotangents: Result,
) -> tuple[Inputs, tuple[Inputs, Stored, Result]]:
    return _gradient(layer, plan, inputs, stored, cotangents), (inputs, stored, cotangents)


@in_its_precision
def _second_transpose(
    layer: Layer,
    plan: Plan,
    residuals: tuple[Inputs, Stored, Result],
    cotangent: Inputs,
) -> tuple[Inputs, Stored, Result]:
    """Differentiate the gradient, which is that of `_by_scan`."""
    inputs, stored, cotangents = residuals

    def recurrence(numbers: Inputs) -> Result:
        return _by_scan(layer, plan, numbers._replace(valid=inputs.valid, anew=inputs.anew))

    def gradient(numbers: Inputs, cotangents: Result) -> Inputs:
        _, transpose = jax.vjp(recurrence, numbers)
        return transpose(cotangents)[0]

    # Truth values have no derivative.
    _, transpose = jax.vjp(gradient, inputs._replace(valid=None, anew=None), cotangents)
    inputs_grad, cotangents_grad = transpose(cotangent)
    return inputs_grad, jax.tree.map(jnp.zeros_like, stored), cotangents_grad


_recurrence.defvjp(_save, _transpose)
_recurrence_and_stored.defvjp(_save_both, _transpose_both)
_gradient.defvjp(_save_gradient, _second_transpose)
