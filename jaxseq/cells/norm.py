"""Normalisation in the slots of a cell; empty slots leave the plain cell.

    layer      z = LN(x W) + b,  u = LN(h R) + b_R,  and LN of the LSTM's c before its tanh        (Ba et al. 2016)
    layer-sum  the gates see LN(z + u) instead of z + u            (the simple variant of Géron 2019, chapter 15)
    batch      as layer, with moments over rows: separate ones for x W, h R and c, and for each time step; gains
               start at 0.1, and running moments are kept for use after training          (Cooijmans et al. 2017)

Layer norm takes its moments over all gates of a cell together, except for the GRU's candidate: its sum is formed after
the reset gate, so it is normalised alone. Rows never mix. Batch norm takes its moments over the rows that are within
their length; steps beyond the trained length take the last step's running moments.

Axis w is the width of whatever is normalised: g, a group of gates, or h.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

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


# Layer norm


class Standardised(NamedTuple):
    """Result of a norm over the last axis, which is also its residual.

    values   scaled values
    inverse  inverse of their standard deviation
    """

    values: Float[Array, "*b w"]
    inverse: Float[Array, "*b 1"]


def centre(a: Float[Array, "*b w"]) -> Float[Array, "*b w"]:
    """Subtract the mean over the last axis; this is its own transpose."""
    return a - jnp.mean(a, axis=-1, keepdims=True)


def rms_norm(a: Float[Array, "*b w"], epsilon: float) -> Standardised:
    """Compute a / √(mean a² + ε) over the last axis (Zhang & Sennrich 2019): layer norm of centred values."""
    inverse = jax.lax.rsqrt(jnp.mean(a * a, axis=-1, keepdims=True) + epsilon)
    return Standardised(a * inverse, inverse)


def rms_norm_transpose(residual: Standardised, cotangent: Float[Array, "*b w"]) -> Float[Array, "*b w"]:
    """Compute the cotangent of `a` from that of ``rms_norm(a).values``."""
    values, inverse = residual
    return inverse * (cotangent - values * jnp.mean(cotangent * values, axis=-1, keepdims=True))


def layer_norm(a: Float[Array, "*b w"], epsilon: float) -> Standardised:
    """Compute (a - mean) / √(var + ε) over the last axis (Ba et al. 2016, equation 4)."""
    return rms_norm(centre(a), epsilon)


def layer_norm_transpose(residual: Standardised, cotangent: Float[Array, "*b w"]) -> Float[Array, "*b w"]:
    """Compute the cotangent of `a` from that of ``layer_norm(a).values``."""
    return centre(rms_norm_transpose(residual, cotangent))


def split_groups(a: Float[Array, "*b g"], groups: tuple[int, ...]) -> list[Float[Array, "*b _"]]:
    """Split the last axis into groups of gates; `groups` is the number of gates in each."""
    h = a.shape[-1] // sum(groups)
    ends = [h * sum(groups[:index]) for index in range(1, len(groups))]
    return jnp.split(a, ends, axis=-1)


def centre_groups(kernel: Float[Array, "*b g"], groups: tuple[int, ...]) -> Float[Array, "*b g"]:
    """Subtract from every group of gates its mean.

    A centred kernel gives centred products: the mean of h R over the gates is h times that of R, so it need not be taken
    at every step.
    """
    return jnp.concatenate([centre(part) for part in split_groups(kernel, groups)], axis=-1)


def layer_norm_gates(
    a: Float[Array, "*b g"],
    gain: Float[Array, "g"],
    groups: tuple[int, ...],
    epsilon: float,
) -> Float[Array, "*b g"]:
    """Apply layer norm to each group of gates separately, then the gain."""
    parts = [layer_norm(part, epsilon).values for part in split_groups(a, groups)]
    return jnp.concatenate(parts, axis=-1) * gain


def layer_slots(
    norm: Norm,
    groups: tuple[int, ...],
    gains: Weights,
) -> Slots:
    """Return the slots of "layer" or "layer-sum".

    The input projection has no slot, because it is normalised before the scan. The slot of h R expects that R has passed
    `centre_groups`.
    """
    if isinstance(gains, SumGains):
        group_gains = split_groups(gains.total, groups)
        group_shifts = split_groups(gains.shift, groups)

        def total(a: Float[Array, "*b w"], group: int) -> tuple[Float[Array, "*b w"], Residual]:
            normed = layer_norm(a, norm.epsilon)
            return normed.values * group_gains[group] + group_shifts[group], normed

        return PLAIN._replace(total=total)

    def recurrent(product: Float[Array, "*b g"]) -> tuple[Float[Array, "*b g"], Residual]:
        normed = [rms_norm(part, norm.epsilon) for part in split_groups(product, groups)]
        return jnp.concatenate([part.values for part in normed], axis=-1) * gains.h, normed

    if isinstance(gains, Gains):
        return PLAIN._replace(recurrent=recurrent)

    def memory(c: Float[Array, "*b h"]) -> tuple[Float[Array, "*b h"], Residual]:
        normed = layer_norm(c, norm.epsilon)
        return normed.values * gains.c + gains.c_shift, normed

    return PLAIN._replace(recurrent=recurrent, memory=memory)


def layer_transposes(groups: tuple[int, ...], gains: Weights) -> Transposes:
    """Return the transposes of `layer_slots`; a scale and its shift have a pair of gradients."""
    if isinstance(gains, SumGains):
        group_gains = split_groups(gains.total, groups)

        def total(
            residual: Standardised,
            cotangent: Float[Array, "*b w"],
            group: int,
        ) -> tuple[Float[Array, "*b w"], WeightsGradient]:
            sum_grad = layer_norm_transpose(residual, cotangent * group_gains[group])
            return sum_grad, (cotangent * residual.values, cotangent)

        return PLAIN_TRANSPOSES._replace(total=total)

    def recurrent(
        residuals: list[Standardised], cotangent: Float[Array, "*b g"]
    ) -> tuple[Float[Array, "*b g"], WeightsGradient]:
        parts = split_groups(cotangent * gains.h, groups)
        part_grads = [rms_norm_transpose(residual, part) for residual, part in zip(residuals, parts, strict=True)]
        product_grad = jnp.concatenate(part_grads, axis=-1)
        return product_grad, cotangent * jnp.concatenate([residual.values for residual in residuals], axis=-1)

    if isinstance(gains, Gains):
        return PLAIN_TRANSPOSES._replace(recurrent=recurrent)

    def memory(residual: Standardised, cotangent: Float[Array, "*b h"]) -> tuple[Float[Array, "*b h"], WeightsGradient]:
        c_grad = layer_norm_transpose(residual, cotangent * gains.c)
        return c_grad, (cotangent * residual.values, cotangent)

    return PLAIN_TRANSPOSES._replace(recurrent=recurrent, memory=memory)


def gain_gradients(
    gains: Weights,
    recurrent: WeightsGradient,
    cell: SlotValues,
) -> Weights:
    """Collect the gradient of the gains from one step, "b w" for each, from those of the recurrent and the cell's slots."""
    if isinstance(gains, SumGains):
        scales = [scale for scale, _ in cell.total]
        shifts = [shift for _, shift in cell.total]
        return SumGains(jnp.concatenate(scales, axis=-1), jnp.concatenate(shifts, axis=-1))
    # The gain of x is used before the scan, where autodiff takes its gradient.
    if isinstance(gains, Gains):
        return gains._replace(h=recurrent)
    c_grad, c_shift_grad = cell.memory
    return gains._replace(h=recurrent, c=c_grad, c_shift=c_shift_grad)


# Batch norm


def batch_moments(a: Float[Array, "*t b w"], valid: Bool[Array, "*t b"] | None) -> Moments:
    """Compute mean and biased variance over the valid rows; both are 0 where no row is valid."""
    if valid is None:
        mean = jnp.mean(a, axis=-2)
        return Moments(mean, jnp.mean((a - mean[..., None, :]) ** 2, axis=-2))

    weight = valid[..., None].astype(a.dtype)
    # At least 1, so that a step without a valid row divides 0 by 1.
    count = jnp.maximum(jnp.sum(weight, axis=-2), 1)
    mean = jnp.sum(a * weight, axis=-2) / count
    return Moments(mean, jnp.sum(weight * (a - mean[..., None, :]) ** 2, axis=-2) / count)


def standardise(
    a: Float[Array, "*t b w"],
    moments: Moments,
    gain: Float[Array, "w"],
    epsilon: float,
) -> Float[Array, "*t b w"]:
    """Compute (a - mean) / √(var + ε) · gain, with moments over rows."""
    mean, var = moments
    return (a - mean[..., None, :]) * (jax.lax.rsqrt(var + epsilon) * gain)[..., None, :]


def follow(
    running: Moments,
    batch: Moments,
    valid: Bool[Array, "t b"] | None,
    momentum: float,
) -> Moments:
    """Update running moments with those of a batch, whose first steps they track.

    Steps that no row reached keep their moments; steps of the batch beyond the tracked ones are ignored.
    """
    # A batch may be shorter or longer than the sequences whose moments are tracked.
    t = min(running.mean.shape[0], batch.mean.shape[0])
    if valid is None:
        reached = jnp.ones((t, 1), bool)
    else:
        reached = valid[:t].any(axis=1, keepdims=True)

    def updated(old: Float[Array, "_ w"], new: Float[Array, "_ w"]) -> Float[Array, "_ w"]:
        moved = jnp.where(reached, momentum * old[:t] + (1 - momentum) * new[:t], old[:t])
        return jnp.concatenate([moved, old[t:]])

    return Moments(updated(running.mean, batch.mean), updated(running.var, batch.var))


def follow_all(
    running: Running,
    batch: Running,
    valid: Bool[Array, "t b"] | None,
    momentum: float,
) -> Running:
    """Apply `follow` to the moments of both projections and of the memory."""
    c = ()
    if running.c and batch.c:
        c = follow(running.c, batch.c, valid, momentum)
    return Running(follow(running.x, batch.x, valid, momentum), follow(running.h, batch.h, valid, momentum), c)


def at_steps(
    running: Moments,
    t: int,
    first: int | Int[Array, ""] = 0,
) -> Moments:
    """Take the running moments of t steps, counted from `first`; beyond the trained length those of the last step."""
    index = jnp.minimum(first + jnp.arange(t), running.mean.shape[0] - 1)
    return Moments(running.mean[index], running.var[index])


def fixed_at_steps(
    running: Running,
    t: int,
    first: int | Int[Array, ""] = 0,
) -> Fixed:
    """Apply `at_steps` to the moments of both projections and of the memory."""
    c = None
    if running.c:
        c = at_steps(running.c, t, first)
    return Fixed(at_steps(running.x, t, first), at_steps(running.h, t, first), c)
