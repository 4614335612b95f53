"""Layer norm of gates and memory, and its transpose, for the slots "layer" and "layer-sum".

Moments are taken over all gates of a cell together, except for the GRU's candidate: its sum is formed after the reset
gate, so it is normalised alone. Rows never mix.

Axis w is the width of whatever is normalised: g, a group of gates, or h.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseq.cells.norm import (
    PLAIN,
    PLAIN_GATES,
    PLAIN_TRANSPOSES,
    Gains,
    GateSlots,
    Norm,
    Residual,
    Slots,
    SlotValues,
    SumGains,
    Transposes,
    Weights,
    WeightsGradient,
    split_groups,
)


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

        # The projections themselves stay plain, and so does the memory.
        return PLAIN._replace(total=total)

    def recurrent(product: Float[Array, "*b g"]) -> tuple[Float[Array, "*b g"], Residual]:
        normed = [rms_norm(part, norm.epsilon) for part in split_groups(product, groups)]
        return jnp.concatenate([part.values for part in normed], axis=-1) * gains.h, normed

    # Without a memory c there is nothing else to normalise.
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


def _centre_gates(gates: tuple[Float[Array, "*b w"], ...], units: int) -> tuple[Float[Array, "*b w"], ...]:
    """Subtract from the gates of a group their mean, and leave columns beyond the units at zero."""
    # One sum over the units for all gates, since each is a meeting of all threads.
    mean = jnp.sum(sum(gates), axis=-1, keepdims=True) / (len(gates) * units)
    width = gates[0].shape[-1]
    if width == units:
        return tuple(gate - mean for gate in gates)
    inside = jax.lax.broadcasted_iota(jnp.int32, gates[0].shape, gates[0].ndim - 1) < units
    return tuple(jnp.where(inside, gate - mean, 0) for gate in gates)


def _scale_gates(
    gates: tuple[Float[Array, "*b w"], ...],
    units: int,
    epsilon: float,
) -> tuple[Float[Array, "*b w"], ...]:
    """Divide centred gates of a group by their standard deviation."""
    squares = sum(gate * gate for gate in gates)
    variance = jnp.sum(squares, axis=-1, keepdims=True) / (len(gates) * units)
    inverse = jax.lax.rsqrt(variance + epsilon)
    return tuple(gate * inverse for gate in gates)


def gate_slots(
    norm: Norm,
    groups: tuple[int, ...],
    gains: Weights,
    units: int,
) -> GateSlots:
    """Return the slots of `layer_slots` for a step by gates.

    As there, R has passed `centre_groups`. Each array of `gains` is a tuple with an array "w" for each gate, filled up
    with zeros from `units` to w.
    """
    scale = partial(_scale_gates, units=units, epsilon=norm.epsilon)
    ends = list(itertools.accumulate(groups))
    bounds = list(zip([0, *ends], ends, strict=False))

    if isinstance(gains, SumGains):

        def total(sums: tuple[Array, ...], group: int) -> tuple[Array, ...]:
            first, end = bounds[group]
            normed = scale(_centre_gates(sums, units))
            weights = zip(normed, gains.total[first:end], gains.shift[first:end], strict=True)
            return tuple(gate * gain + shift for gate, gain, shift in weights)

        return PLAIN_GATES._replace(total=total)

    # A name of a type that does not change, for the function below.
    recurrent_gains = gains.h

    def recurrent(product: tuple[Array, ...]) -> tuple[Array, ...]:
        normed = [gate for first, end in bounds for gate in scale(product[first:end])]
        return tuple(gate * gain for gate, gain in zip(normed, recurrent_gains, strict=True))

    if isinstance(gains, Gains):
        return PLAIN_GATES._replace(recurrent=recurrent)

    def memory(c: Array) -> Array:
        (normed,) = scale(_centre_gates((c,), units))
        return normed * gains.c[0] + gains.c_shift[0]

    return PLAIN_GATES._replace(recurrent=recurrent, memory=memory)
