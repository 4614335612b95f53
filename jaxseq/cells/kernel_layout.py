"""Layout of a recurrence's arrays in the persistent kernels, whose axes are powers of two.

The units are filled up with zeros from h to w. The gates stand in groups of 4, 2 or 1 on the last axis k, so that a thread
holds all gates of a unit and a group takes one sum over the threads. R is parted by its rows where the registers cannot
hold all of it.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import jax.numpy as jnp
from jax.experimental import pallas as pl
from jaxtyping import Array, Float

from jaxseq.cells.adjoint import Layer

Grouped: TypeAlias = tuple[Float[Array, "..."], ...]
"""An array for each group of gates, which are its last axis k."""

Gates: TypeAlias = tuple[Float[Array, "*b w"], ...]
"""An array for each gate."""


def filled_width(units: int) -> int:
    """Return w, the least power of two from 16 on that holds the units."""
    return pl.next_power_of_2(max(units, 16))


class Plan(NamedTuple):
    """How the kernels are laid out, a constant.

    units      h, of which w - h are zeros
    groups     gates in each group, powers of two
    warps      warps of a block, 32 threads each
    parts      parts of R by its rows, a power of two; part p has rows p, p + parts, and so on
    kept       parts that stay in registers; the others are read at every step
    """

    units: int
    groups: tuple[int, ...]
    warps: int
    parts: int = 1
    kept: int = 1

    @property
    def width(self) -> int:
        """The units, filled up to a power of two."""
        return filled_width(self.units)

    @property
    def keeps_all(self) -> bool:
        """Whether all of R stays in registers."""
        return self.kept == self.parts

    @property
    def bounds(self) -> list[tuple[int, int]]:
        """First gate of each group, and the one after its last."""
        ends = [sum(self.groups[: number + 1]) for number in range(len(self.groups))]
        return list(zip([0, *ends[:-1]], ends, strict=True))


NUMBERS_OF_A_WARP = 2048
"""Numbers of R in the registers of a warp, 64 in each of its threads, where all of R is kept."""
MOST_NUMBERS = 32768
"""Most numbers of R that are kept: 128 in each thread of 8 warps, whose other registers hold the step."""


def plan(layer: Layer, units: int) -> Plan:
    """Choose the layout of the kernels for a layer.

    Of the layouts that were timed on an H100 it is the fastest (`docs/gpu.md`).
    """
    count = pl.next_power_of_2(layer.cell.gate_count)
    numbers = filled_width(units) ** 2 * count
    if numbers <= MOST_NUMBERS:
        return Plan(units, (count,), max(1, numbers // NUMBERS_OF_A_WARP))
    # The other half of R comes from the cache.
    return Plan(units, (count,), warps=8, parts=2, kept=1)


def group(plan: Plan, array: Float[Array, "*b g"]) -> Grouped:
    """Put gates side by side into groups, each "*b w k"."""
    gates = array.reshape(*array.shape[:-1], -1, plan.units)
    columns = plan.width - plan.units
    grouped = []
    for first, end in plan.bounds:
        last_axis = jnp.moveaxis(gates[..., first:end, :], -2, -1)
        # The last group may lack gates.
        padding = [(0, 0)] * (array.ndim - 1) + [(0, columns), (0, end - first - last_axis.shape[-1])]
        grouped.append(jnp.pad(last_axis, padding))
    return tuple(grouped)


def in_parts(plan: Plan, kernel: Grouped) -> tuple[Grouped, ...]:
    """Part R by its rows."""
    return tuple(tuple(matrix[part :: plan.parts] for matrix in kernel) for part in range(plan.parts))


def whole(plan: Plan, parts: tuple[Grouped, ...]) -> Grouped:
    """Undo `in_parts`."""
    stacked = [jnp.stack(matrices, axis=1) for matrices in zip(*parts, strict=True)]
    return tuple(matrix.reshape(plan.width, *matrix.shape[2:]) for matrix in stacked)


def _halves(array: Float[Array, "*b k"]) -> list[Float[Array, "*b"]]:
    """Split the last axis, a power of two, in halves as Triton does."""
    parts = [array]
    while parts[0].shape[-1] > 1:
        parts = [half for part in parts for half in jnp.split(part, 2, axis=-1)]
    return [part.reshape(part.shape[:-1]) for part in parts]


def vector_parts(plan: Plan, vector: Float[Array, "w"]) -> list[Float[Array, "_"]]:
    """Part a vector as the rows of R are."""
    return _halves(vector.reshape(-1, plan.parts))


def by_gate(count: int, grouped: Grouped) -> Gates:
    """Split the last axis of each group into so many gates."""
    gates = [gate for array in grouped for gate in _halves(array)]
    return tuple(gates[:count])


def join(size: int, gates: Gates) -> Float[Array, "*b w k"]:
    """Stack the gates of a group on a new last axis of a size, in pairs as Triton does."""
    # The last group may lack gates.
    gates = (*gates, *[jnp.zeros_like(gates[0])] * (size - len(gates)))
    parts = [gate[..., None] for gate in gates]
    if len(parts) == 1:
        return parts[0]
    if len(parts) == 2:
        return jnp.concatenate(parts, axis=-1)
    first, second, third, fourth = gates
    # (first, third) and (second, fourth), interleaved, are in order.
    pairs = [join(2, (first, third)), join(2, (second, fourth))]
    joined = jnp.concatenate([pair[..., None] for pair in pairs], axis=-1)
    return joined.reshape(*joined.shape[:-2], 4)
