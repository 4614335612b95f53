"""Strategies of the recurrence: the same mathematics in the order that is fastest for a shape and a device.

Every choice stands here with its condition; `python -m jaxseq.benchmark` measures the whole step, before and after a
change of a threshold. Thresholds, padding and barriers are those of a CPU; a GPU takes the choice with the fewest kernels
in a step, which `tests/gpu/test_compiles.py` counts. "In the loop" is inside the scan over time, "at once" is one
operation over all time steps.
"""

from __future__ import annotations

import math
from enum import Enum
from typing import Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseq.cells.base import Cell
from jaxseq.cells.norm import Norm
from jaxseq.common.arrays import DType

FEW_FEATURES = 2
"""Widest input of a product that is computed as a sum of multiply-adds."""

LINEARISE_IN_LOOP = 128
"""Fewest units whose local derivatives are computed in the loop."""

ACCUMULATE_IN_LOOP = {False: 0.5, True: 4}
"""Most units for each row of the batch whose weight gradients are accumulated in the loop, by `Cell.recurrent_bias`.

A cell with that bias has separate cotangents of its two projections, so that accumulation saves writing two arrays.
"""

WIDE = 512
"""Fewest units of which every cell accumulates as one with that bias: the cotangents of all steps fill hundreds of MiB."""

CHUNK = 512
"""Most steps of a linear cell whose states are kept for the derivative at a time."""

REGISTER, ALIGNMENT = 8, 32
"""Numbers in a vector register of a CPU, and the multiple that columns of other counts are padded to."""

HOPPER = ("H100", "H200", "H800", "H20")
"""In the names of GPUs of compute capability 9.0."""

Platform: TypeAlias = Literal["cpu", "gpu"]
"""A CPU, where bytes and cache lines cost time, or a GPU, where every kernel of a step does."""


class Projection(Enum):
    """When the input projection x W is computed."""

    GIVEN = "before: x is projected already"
    IN_LOOP = "in the loop: multiply-adds of few features fuse with the gates, a product does not"
    AT_ONCE = "at once: one product of all time steps is faster than many small ones"


class Linearisation(Enum):
    """When the local derivatives are computed."""

    IN_LOOP = "in the loop: what a wide step has read is then still in a cache"
    AT_ONCE = "at once: one loop over all time steps beats many small ones"


class States(Enum):
    """How the states of a linear cell are computed."""

    STEP_BY_STEP = "step by step: the fewest operations, which a CPU computes one after the other anyway"
    IN_PARALLEL = "in parallel: twice the operations in few rounds, where each step of a loop starts a kernel"


class Accumulation(Enum):
    """When the weight gradients are summed over time."""

    IN_LOOP = "in the loop: with many rows the cotangents of the projections are then written nowhere"
    AT_ONCE = "at once: one product over time and rows"


class Buffers(Enum):
    """Where the backward scan writes its outputs."""

    OVERWRITE = "over the inputs: the cotangents of the gates have the shape of their local derivatives"
    NEW = "into new arrays"


class Product(Enum):
    """How x ⊗ delta is summed over rows, and over time where there is a time axis."""

    SUMS = "a sum for each of a few features: a product with so short a side is slow"
    ROWS = "one product over the rows of a step"
    MERGED = "one product over time and rows, merged into one axis"
    TWO_AXES = "one product over two axes: merged, a batch that is split over devices would be gathered on each of them"


class Backward(NamedTuple):
    """The strategies of the backward scan."""

    accumulation: Accumulation
    linearisation: Linearisation
    buffers: Buffers


def projection(kernel: object, features: int) -> Projection:
    """Choose when x W is computed; `kernel` is None where x is projected already."""
    if kernel is None:
        return Projection.GIVEN
    if features <= FEW_FEATURES:
        return Projection.IN_LOOP
    return Projection.AT_ONCE


def backward(
    cell: Cell,
    norm: Norm | None,
    rows: int,
    units: int,
    dtype: DType = jnp.float32,
) -> Backward:
    """Choose the strategies of the backward scan."""
    # A GPU is kept busy by one product over all steps, and pays for every kernel of a step, a copy of an input too.
    if platform() == "gpu":
        return Backward(Accumulation.AT_ONCE, Linearisation.AT_ONCE, Buffers.NEW)

    accumulation = Accumulation.AT_ONCE
    # Devices that share a batch would have to meet at each step, and a norm's gradients are not accumulated so.
    # Sums in 16 bits would lose what each step adds.
    is_exact = jnp.finfo(dtype).bits > 16
    most_units = rows * ACCUMULATE_IN_LOOP[cell.recurrent_bias or units >= WIDE]
    if norm is None and is_exact and not on_mesh() and units <= most_units:
        accumulation = Accumulation.IN_LOOP

    linearisation = Linearisation.IN_LOOP
    if accumulation is Accumulation.AT_ONCE and units < LINEARISE_IN_LOOP:
        linearisation = Linearisation.AT_ONCE

    # One gate's cotangents are small, and a norm adds outputs that fit no input: there overwriting gains nothing.
    buffers = Buffers.NEW
    if linearisation is Linearisation.AT_ONCE and cell.gate_count > 1 and norm is None:
        buffers = Buffers.OVERWRITE
    return Backward(accumulation, linearisation, buffers)


def states() -> States:
    """Choose how the states of a linear cell are computed."""
    return States.IN_PARALLEL if platform() == "gpu" else States.STEP_BY_STEP


def product(features: int, time_axis: bool) -> Product:
    """Choose how the gradient of a kernel with so many input features is summed."""
    if features <= FEW_FEATURES:
        return Product.SUMS
    if not time_axis:
        return Product.ROWS
    return Product.TWO_AXES if on_mesh() else Product.MERGED


def padded_columns(columns: int) -> int:
    """Count the zero columns that make the right side of a product fast on a CPU; a GPU needs none."""
    if columns % REGISTER == 0 or platform() == "gpu":
        return 0
    return -columns % ALIGNMENT


def platform() -> Platform:
    """Return the platform that a program is traced for.

    That is the device of the mesh that is set, or else the default device. Every strategy computes the same on every
    platform, so an array that the caller has put elsewhere costs time alone.
    """
    return "cpu" if _device().platform == "cpu" else "gpu"


def on_nvidia() -> bool:
    """Whether a program is traced for a GPU by NVIDIA, as `platform` finds it."""
    return platform() == "gpu" and _device().device_kind.startswith("NVIDIA")


def on_hopper() -> bool:
    """Whether a program is traced for a GPU of compute capability 9.0, by the name of its device."""
    return on_nvidia() and any(name in _device().device_kind for name in HOPPER)


@runtime_checkable
class _Device(Protocol):
    """The fields that `jax.Device` and `jax.sharding.AbstractDevice` share."""

    @property
    def platform(self) -> str: ...

    @property
    def device_kind(self) -> str: ...


def _device() -> _Device:
    device = jax.sharding.get_abstract_mesh().abstract_device
    if device is not None:
        return device

    device = jax.config.jax_default_device  # pyrefly: ignore[missing-attribute]
    if device is None:
        return jax.local_devices()[0]
    # JAX takes the name of a platform, too.
    if isinstance(device, str):
        return jax.local_devices(backend=device)[0]
    return device


def materialise(x: Float[Array, "*b w"]) -> Float[Array, "*b w"]:
    """Keep XLA on a CPU from computing an array again for each of its consumers; on a GPU that is what joins kernels."""
    if platform() == "gpu":
        return x
    return jax.lax.optimization_barrier(x)


def separate(x: Float[Array, "*b w"]) -> Float[Array, "*b w"]:
    """Keep XLA on a CPU from fusing a concatenation into the next one, which it miscompiles in a loop."""
    if platform() == "gpu":
        # The program may still be compiled for a CPU, where leaving out this barrier would give wrong numbers.
        return jax.lax.platform_dependent(x, cpu=jax.lax.optimization_barrier, default=lambda x: x)
    return jax.lax.optimization_barrier(x)


def on_mesh() -> bool:
    """Whether a mesh is set over whose devices XLA divides a program (`jax.set_mesh`, `jax.sharding.use_abstract_mesh`).

    Within `jax.shard_map` each device has its program for itself.
    """
    mesh = jax.sharding.get_abstract_mesh()
    divided = math.prod(size for axis, size in mesh.shape.items() if axis not in mesh.manual_axes)
    return divided > 1


def on_many_devices() -> bool:
    """Whether a program may be split over devices: by the mesh that is set, or else by the devices of its platform."""
    mesh = jax.sharding.get_abstract_mesh()
    if not mesh.empty:
        return mesh.size > 1
    return len(jax.local_devices()) > 1
