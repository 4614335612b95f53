"""Normalisation in the slots of a cell: its kinds, its arrays, and the slots; empty slots leave the plain cell.

    layer      z = LN(x W) + b,  u = LN(h R) + b_R,  and LN of the LSTM's c before its tanh        (Ba et al. 2016)
    layer-sum  the gates see LN(z + u) instead of z + u            (the simple variant of Géron 2019, chapter 15)
    batch      as layer, with moments over rows: separate ones for x W, h R and c, and for each time step; gains
               start at 0.1, and running moments are kept for use after training          (Cooijmans et al. 2017)

`jaxseq.cells.layer_norm` and `jaxseq.cells.batch_norm` hold the arithmetic.

Axis w is the width of whatever is normalised: g, a group of gates, or h.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseq.common.arrays import DType


class Norm(NamedTuple):
    """A normalisation as a constant.

    name      a key of `NORMS`
    epsilon   added to the variance for numerical stability
    momentum  share of a running moment that a training step keeps
    """

    name: str
    epsilon: float = 1e-5
    momentum: float = 0.9

    @property
    def on_sum(self) -> bool:
        """Whether z + u is normalised, rather than z and u separately."""
        return self.name == "layer-sum"

    @property
    def by_batch(self) -> bool:
        """Whether moments are taken over rows."""
        return self.name == "batch"


NORMS: MappingProxyType[str, str] = MappingProxyType(
    {"layer": "Ba et al. 2016", "layer-sum": "Géron 2019", "batch": "Cooijmans et al. 2017"}
)
"""Source of each normalisation by its name."""


class Gains(NamedTuple):
    """Scales of the two projections; their shifts are the cell's biases."""

    x: Float[Array, "g"]
    h: Float[Array, "g"]


class MemoryGains(NamedTuple):
    """Scales of a cell with a memory c, which has a scale and a shift too."""

    x: Float[Array, "g"]
    h: Float[Array, "g"]
    c: Float[Array, "h"]
    c_shift: Float[Array, "h"]


class SumGains(NamedTuple):
    """Scale and shift of the sum of both projections."""

    total: Float[Array, "g"]
    shift: Float[Array, "g"]


Weights: TypeAlias = Gains | MemoryGains | SumGains
"""Trainable arrays of a normalisation."""


class Moments(NamedTuple):
    """Mean and biased variance over rows, for every time step where there is more than one."""

    mean: Float[Array, "*t w"]
    var: Float[Array, "*t w"]


class Running(NamedTuple):
    """Running moments of a batch-normalised cell, "t w" each; `c` is empty if the cell has no memory."""

    x: Moments
    h: Moments
    c: Moments | tuple[()]


class Fixed(NamedTuple):
    """Moments to normalise by, of all time steps or of one; None takes those of the batch."""

    x: Moments | None = None
    h: Moments | None = None
    c: Moments | None = None


Residual: TypeAlias = Any
"""A pytree that the transpose of a slot needs of a step; empty for an empty slot."""

WeightsGradient: TypeAlias = Any
"""A pytree of gradients of a slot's weights, one for each row, "b w"; empty for an empty slot."""


class SlotValues(NamedTuple):
    """A value for each slot inside a cell: residuals on the way forward, gradients of weights on the way back.

    total   one for each group of gates
    memory  one for the memory c
    """

    total: tuple[Any, ...]
    memory: Any


class Slots(NamedTuple):
    """Functions that sums and memory of a cell pass through; each returns an array of the same shape and a residual.

    recurrent  h R "*b g", applied by the recurrence
    total      (sum of the projections "*b w", index of the group of gates), applied by the cell
    memory     c "*b h", applied by the cell
    """

    recurrent: Callable[[Array], tuple[Array, Residual]]
    total: Callable[[Array, int], tuple[Array, Residual]]
    memory: Callable[[Array], tuple[Array, Residual]]


class Transposes(NamedTuple):
    """Transposes of the slots: (residual, cotangent of the result) -> (cotangent of the argument, gradient of weights)."""

    recurrent: Callable[[Residual, Array], tuple[Array, WeightsGradient]]
    total: Callable[[Residual, Array, int], tuple[Array, WeightsGradient]]
    memory: Callable[[Residual, Array], tuple[Array, WeightsGradient]]


class GateSlots(NamedTuple):
    """`Slots` of a step with an array "*b h" for each gate, and without residuals.

    recurrent  the gates of h R
    total      (the sums of a group of gates, index of the group), applied by the cell
    memory     c, applied by the cell
    """

    recurrent: Callable[[tuple[Array, ...]], tuple[Array, ...]]
    total: Callable[[tuple[Array, ...], int], tuple[Array, ...]]
    memory: Callable[[Array], Array]


def _identity(a: Float[Array, "*b w"], group: int = 0) -> tuple[Float[Array, "*b w"], Residual]:
    return a, ()


def _identity_transpose(
    residual: Residual,
    cotangent: Float[Array, "*b w"],
    group: int = 0,
) -> tuple[Float[Array, "*b w"], WeightsGradient]:
    return cotangent, ()


PLAIN = Slots(_identity, _identity, _identity)
"""Empty slots: no normalisation."""
PLAIN_TRANSPOSES = Transposes(_identity_transpose, _identity_transpose, _identity_transpose)
"""Transposes of empty slots."""


def _unchanged(a: Any, group: int = 0) -> Any:
    return a


PLAIN_GATES = GateSlots(_unchanged, _unchanged, _unchanged)
"""Empty slots of a step by gates: no normalisation."""


def init(
    norm: Norm,
    gate_count: int,
    memory: bool,
    h: int,
    dtype: DType = jnp.float32,
) -> Weights:
    """Create gains of 1, or 0.1 for batch norm (Cooijmans et al. 2017, section 4), and shifts of 0.

    `memory` says whether the cell has a memory c.
    """
    g = gate_count * h
    start = 1.0
    if norm.by_batch:
        start = 0.1

    def gain(width: int) -> Float[Array, "w"]:
        # A new array for each parameter, because one buffer must not be donated twice.
        return jnp.full(width, start, dtype)

    # Only a normalised sum needs a shift: the biases come before its norm, and after that of a projection.
    if norm.on_sum:
        return SumGains(gain(g), jnp.zeros(g, dtype))
    if memory:
        return MemoryGains(gain(g), gain(g), gain(h), jnp.zeros(h, dtype))
    return Gains(gain(g), gain(g))


def init_running(
    gate_count: int,
    memory: bool,
    t: int,
    h: int,
    dtype: DType = jnp.float32,
) -> Running:
    """Create running moments for t time steps: means 0, variances 1."""

    def moments(width: int) -> Moments:
        return Moments(jnp.zeros((t, width), dtype), jnp.ones((t, width), dtype))

    g = gate_count * h
    return Running(moments(g), moments(g), moments(h) if memory else ())


def split_groups(a: Float[Array, "*b g"], groups: tuple[int, ...]) -> list[Float[Array, "*b _"]]:
    """Split the last axis into groups of gates; `groups` is the number of gates in each, () one group of all."""
    if not groups:
        return [a]
    h = a.shape[-1] // sum(groups)
    ends = [h * sum(groups[:index]) for index in range(1, len(groups))]
    return jnp.split(a, ends, axis=-1)
