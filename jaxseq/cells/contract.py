"""Checks that a cell keeps the contract of `jaxseq.cells.base.Cell`; each raises `UsageError`, which names what lacks.

Everything is traced and nothing computed. A cell is a constant, so each check runs once for a cell and its sizes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxseq.cells import products
from jaxseq.cells.base import AnyCell, Carry, Carry_, Cell
from jaxseq.cells.norm import PLAIN, Norm, Residual, Slots
from jaxseq.common import checks
from jaxseq.common.arrays import DType, Tree
from jaxseq.common.errors import UsageError

FAMILIES = ("step", "gates", "linear")
ROWS = 2
"""Rows of a step that is traced."""


class Sizes(NamedTuple):
    """Features d and units h of a cell, and the dtype of its parameters."""

    d: int
    h: int
    dtype: DType


class _Shapes(NamedTuple):
    """Shapes of the arguments of one step."""

    params: Tree
    x: jax.ShapeDtypeStruct
    carry: Carry


def check_cell(cell: AnyCell) -> None:
    """Raise `UsageError` for what is no cell, and for a field that lacks or does not go with the others."""
    if not isinstance(cell, Cell):
        raise UsageError("not a cell", where="cell", got=type(cell).__name__, needed="a jaxseq.cells.base.Cell")
    try:
        hash(cell)
    except TypeError as error:
        # JAX takes it as a constant of compiled programs.
        raise UsageError(
            "a cell is a constant", where=f"cell {cell.name}", got=str(error), needed="hashable fields"
        ) from None
    _check_fields(cell)


@lru_cache(maxsize=1024)
def _check_fields(cell: Cell) -> None:
    present = [family for family in FAMILIES if getattr(cell, family) is not None]
    if len(present) != 1:
        raise UsageError(
            "a cell has one of three ways to compute a step",
            where=f"cell {cell.name}",
            got=" and ".join(present) or "none of them",
            needed="one of step, gates, linear",
        )
    checks.count(where=f"cell {cell.name}", gate_count=cell.gate_count)
    if cell.groups and sum(cell.groups) != cell.gate_count:
        raise UsageError(
            "groups do not have all gates",
            where=f"cell {cell.name}: groups",
            got=cell.groups,
            needed=f"{cell.gate_count} in all, or () for one group",
        )
    if (cell.linearise is None) != (cell.adjoint is None):
        raise UsageError(
            "an adjoint is the transpose of a linearised step",
            where=f"cell {cell.name}",
            got="one of linearise and adjoint",
            needed="both, or None for autodiff",
        )
    _check_family(cell)
    _check_signatures(cell)

    carry = jax.eval_shape(lambda: cell.start((1, 1), jnp.float32))
    if getattr(carry, "_fields", ("",))[0] != "h":
        raise UsageError(
            "a carry is a NamedTuple whose first field is the output h",
            where=f"cell {cell.name}: start",
            got=type(carry).__name__,
            needed="a field h",
        )


def _check_family(cell: Cell) -> None:
    """Raise `UsageError` for a field of another family."""
    foreign = {
        "project": cell.project is not None and cell.step is None,
        "recurrent_bias": cell.recurrent_bias and cell.gates is None,
        "groups": bool(cell.groups) and cell.gates is None,
        "adjoint": cell.adjoint is not None and cell.gates is None,
        "pointwise": cell.pointwise is not None and (cell.gates is None or not cell.groups),
    }
    owners = {"project": "a cell with step", "pointwise": "a cell with gates and groups"}
    # Silence would leave the user to think that the field acts.
    for field, is_foreign in foreign.items():
        if is_foreign:
            raise UsageError(
                "has no meaning here",
                where=f"cell {cell.name}: {field}",
                got=getattr(cell, field),
                needed=owners.get(field, "a cell with gates"),
            )


def _check_signatures(cell: Cell) -> None:
    """Raise `UsageError` for a function that does not take the arguments that the layer gives it."""
    functions: dict[str, tuple[Callable[..., object] | None, tuple[str, ...]]] = {
        "start": (cell.start, ("shape", "dtype")),
        "init": (cell.init, ("key", "d", "h", "dtype")),
        "gates": (cell.gates, ("z", "u", "carry", "slots")),
        "step": (cell.step, ("params", "z", "h", "carry")),
        "project": (cell.project, ("params", "x")),
    }
    for field, (function, arguments) in functions.items():
        if function is None:
            continue
        place = f"cell {cell.name}: {field}"
        needed = f"a function of ({', '.join(arguments)})"
        if not callable(function):
            raise UsageError("not a function", where=place, got=function, needed=needed)
        signature = inspect.signature(function)
        # By position, as the layer calls it: names are the user's.
        try:
            signature.bind(*arguments)
        except TypeError:
            raise UsageError("takes other arguments", where=place, got=str(signature), needed=needed) from None


@lru_cache(maxsize=1024)
def check_step(cell: Cell, sizes: Sizes) -> None:
    """Raise `UsageError` if a carry or a step does not have the shapes that it should have; traces one step."""
    check_cell(cell)
    shapes = _shapes(cell, sizes)
    carry = shapes.carry
    place = f"cell {cell.name}"
    if carry.h.shape != (ROWS, sizes.h):
        raise UsageError(
            "h has another shape than the layer",
            where=f"{place}: start",
            got=carry.h.shape,
            needed=f"(rows, {sizes.h})",
        )
    if cell.project is None and cell.linear is None:
        _check_has_kernels(cell, shapes.params)

    after = jax.eval_shape(lambda p: one_step(cell, p.params, p.x, p.carry), shapes)
    if type(after) is not type(carry):
        raise UsageError(
            "a step returns another type than start", where=place, got=type(after).__name__, needed=type(carry).__name__
        )
    # A scan would fail on either, with words about its own carry.
    for field, before_state, after_state in zip(carry._asdict(), carry, after, strict=True):
        got = (after_state.shape, str(after_state.dtype))
        needed = (before_state.shape, str(before_state.dtype))
        if got != needed:
            raise UsageError(
                "a step changes a state's shape or dtype", where=f"{place}: {field}", got=got, needed=needed
            )


def _check_has_kernels(cell: Cell, params: Tree) -> None:
    """Raise `UsageError` if parameters lack an array that the layer multiplies with."""
    needed = ["input_kernel", "bias"]
    if cell.gates is not None:
        needed.append("recurrent_kernel")
    if cell.recurrent_bias:
        needed.append("recurrent_bias")
    missing = [field for field in needed if not hasattr(params, field)]
    if missing:
        raise UsageError(
            f"the parameters lack {missing[0]}, which the layer's products need",
            where=f"cell {cell.name}: init",
            got=", ".join(getattr(params, "_fields", ())) or type(params).__name__,
            needed=", ".join(needed) if cell.gates else "it, or a project of the cell",
        )


def _shapes(cell: Cell, sizes: Sizes) -> _Shapes:
    d, h, dtype = sizes
    # Weights of 16 bits are wider ones, rounded: an initialiser need not know how to draw them.
    drawn_dtype = dtype
    if jnp.finfo(dtype).bits < 32:
        drawn_dtype = jnp.float32
    drawn = jax.eval_shape(lambda: cell.init(jax.random.key(0), d, h, drawn_dtype))
    params = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), drawn)
    carry = jax.eval_shape(lambda: cell.start((ROWS, h), dtype))
    return _Shapes(params, jax.ShapeDtypeStruct((ROWS, d), dtype), carry)


def one_step(
    cell: Cell[Any, Carry_],
    params: Tree,
    x: jax.Array,
    carry: Carry_,
    slots: Slots = PLAIN,
) -> Carry_:
    """Compute one step of a cell of any family from features "b d"; with `slots`, of a gated one."""
    if cell.linear is not None:
        a, b = cell.linear.coefficients(params, x)
        return cell.linear.carry(params, a * cell.linear.state(carry) + b, x)

    z = products.project_input(cell, params, x)
    if cell.step is not None:
        return cell.step(params, z, carry.h, carry)

    assert cell.gates is not None
    u = products.recurrent(params, None, carry)
    if cell.recurrent_bias:
        u = u + params.recurrent_bias
    new_carry, _ = cell.gates(z, u, carry, slots)
    return new_carry


@lru_cache(maxsize=1024)
def check_slots(cell: Cell, norm: Norm, sizes: Sizes) -> None:
    """Raise `UsageError` if a cell does not pass its sums and its memory through the slots that a norm fills.

    Its gains would be weights that nothing reads.
    """
    if cell.gates is None:
        raise UsageError(
            "this cell has no slots for a normalisation",
            where=f"cell {cell.name}: norm",
            got=norm.name,
            needed="no norm, or a cell with gates",
        )

    # The slots note that they were called, while the step is traced.
    called: set[str] = set()

    def total(a: jax.Array, group: int) -> tuple[jax.Array, Residual]:
        called.add(f"slots.total of group {group}")
        return a, ()

    def memory(c: jax.Array) -> tuple[jax.Array, Residual]:
        called.add("slots.memory")
        return c, ()

    slots = PLAIN._replace(total=total, memory=memory)
    shapes = _shapes(cell, sizes)
    jax.eval_shape(lambda p: one_step(cell, p.params, p.x, p.carry, slots), shapes)

    needed = []
    if norm.on_sum:
        needed = [f"slots.total of group {group}" for group in range(max(1, len(cell.groups)))]
    elif len(shapes.carry) > 1:
        needed = ["slots.memory"]
    missing = [slot for slot in needed if slot not in called]
    if missing:
        raise UsageError(
            f"its gates never call {missing[0]}",
            where=f"cell {cell.name}: norm",
            got=norm.name,
            needed="gates that pass their sums and memory through the slots, or no norm",
        )


@lru_cache(maxsize=1024)
def check_dropout(cell: Cell, sizes: Sizes) -> None:
    """Raise `UsageError` if a cell does not read the state that recurrent dropout acts on."""
    if _reads_h(cell, sizes):
        return
    raise UsageError(
        "this cell never reads h, on which recurrent dropout acts",
        where=f"cell {cell.name}: recurrent_dropout",
        got="a mask",
        needed="no recurrent dropout",
    )


def _reads_h(cell: Cell, sizes: Sizes) -> bool:
    """Whether a step depends on its argument h."""
    if cell.gates is not None:
        return True
    if cell.step is None:
        return False
    step = cell.step
    shapes = _shapes(cell, sizes)
    z = jax.eval_shape(lambda p: products.project_input(cell, p.params, p.x), shapes)
    program = jax.make_jaxpr(lambda h, z, p: step(p.params, z, h, p.carry))(shapes.carry.h, z, shapes)

    # An argument that nothing reads is no operand of any equation.
    h = program.jaxpr.invars[0]
    operands = [operand for equation in program.jaxpr.eqns for operand in equation.invars]
    return any(operand is h for operand in (*operands, *program.jaxpr.outvars))


def sizes_of(x: jax.Array, carry: Carry) -> Sizes:
    """Return the sizes of a call."""
    return Sizes(x.shape[-1], carry.h.shape[-1], jnp.dtype(x.dtype))
