"""Normalisation as slots around a cell's gate function; a slot that is empty leaves the plain cell.

    layer       z = LN(x W) + b,  u = LN(h R) + b_R,  and LN on the LSTM's c before its tanh      (Ba et al. 2016)
    layer-sum   the gates see LN(z + u) in the place of z + u                    (the simple variant of Géron 2019, ch. 15)
    batch       as layer, with batch moments of their own for x W, for h R, for c, and for every time step, gains that
                start at 0.1, and running moments for use after training                           (Cooijmans et al. 2017)

Layer norm takes its moments over all gates of a cell together, but for the GRU's candidate, whose gate acts after the
product: it is normalised by itself. Rows never mix. Batch norm takes them over the rows that are still within their
length; a step beyond the trained length is normalised by the last step's running moments.
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
    """A normalisation as a constant: which moments, where, and how."""

    name: str
    epsilon: float = 1e-5
    momentum: float = 0.9
    """Share of a running moment that stays at each training step."""

    @property
    def on_sum(self) -> bool:
        """Whether z + u is normalised, not z and u each by itself."""
        return self.name == "layer-sum"

    @property
    def by_batch(self) -> bool:
        """Whether moments are taken over rows."""
        return self.name == "batch"


NORMS: MappingProxyType[str, str] = MappingProxyType(
    {"layer": "Ba et al. 2016", "layer-sum": "Géron 2019", "batch": "Cooijmans et al. 2017"}
)


class Gains(NamedTuple):
    """Scales of the two projections; their shifts are the cell's own biases."""

    x: Float[Array, "g"]
    h: Float[Array, "g"]


class MemoryGains(NamedTuple):
    """The same for a cell with a memory c, which is scaled and shifted on its way to the output."""

    x: Float[Array, "g"]
    h: Float[Array, "g"]
    c: Float[Array, "h"]
    c_shift: Float[Array, "h"]


class SumGains(NamedTuple):
    """Scale and shift of the sum of both projections."""

    total: Float[Array, "g"]
    shift: Float[Array, "g"]


class Moments(NamedTuple):
    """Mean and variance for every time step."""

    mean: Float[Array, "t g"]
    var: Float[Array, "t g"]


class Running(NamedTuple):
    """Running moments of what a batch-normalised cell normalises; `c` is empty where there is no memory."""

    x: Moments
    h: Moments
    c: Moments | tuple[()]


class Slots(NamedTuple):
    """What gate functions pass their sums and their memory through.

    recurrent  h R "*b g"; the recurrence puts it through
    total      (sum of projections "*b n", which group of gates it is)
    memory     c "*b h"

    Each gives what is seen of it, in the same shape, and what is to be noted of the step.
    """

    recurrent: Callable[[Array], tuple[Array, Any]]
    total: Callable[[Array, int], tuple[Array, Any]]
    memory: Callable[[Array], tuple[Array, Any]]


class Transposes(NamedTuple):
    """The way back through each slot: (what it noted, cotangent of what is seen) -> (cotangent of what came in, what
    each row adds to the gradient of the slot's weights)."""

    recurrent: Callable[[Any, Array], tuple[Array, Any]]
    total: Callable[[Any, Array, int], tuple[Array, Any]]
    memory: Callable[[Any, Array], tuple[Array, Any]]


class Noted(NamedTuple):
    """What a cell's slots note of a step: for each group of gates, and for the memory."""

    total: tuple[Any, ...]
    memory: Any


class Unit(NamedTuple):
    """What layer norm notes: the values with mean 0 and variance 1, and the inverse of their standard deviation."""

    values: Float[Array, "*b n"]
    inverse: Float[Array, "*b 1"]


Weights: TypeAlias = Gains | MemoryGains | SumGains


def _same(a: Array, group: int = 0) -> tuple[Array, tuple[()]]:
    return a, ()


def _same_back(noted: Any, bar: Array, group: int = 0) -> tuple[Array, tuple[()]]:
    return bar, ()


PLAIN = Slots(_same, _same, _same)
"""No normalisation."""
NOTHING = Transposes(_same_back, _same_back, _same_back)
"""The way back through no normalisation."""


def init(norm: Norm, gate_count: int, memory: bool, h: int, dtype: DType = jnp.float32) -> Weights:
    """Gains that start at 1, for batch norm at 0.1 (Cooijmans et al. 2017, section 4); shifts at 0."""
    g = gate_count * h

    def gain(width: int) -> Array:  # an array each: donating one buffer for two parameters is refused
        return jnp.full(width, 0.1 if norm.by_batch else 1.0, dtype)

    if norm.on_sum:
        return SumGains(gain(g), jnp.zeros(g, dtype))
    return MemoryGains(gain(g), gain(g), gain(h), jnp.zeros(h, dtype)) if memory else Gains(gain(g), gain(g))


def init_running(gate_count: int, memory: bool, t: int, h: int, dtype: DType = jnp.float32) -> Running:
    """Running moments for t steps: means 0, variances 1."""

    def fresh(width: int) -> Moments:
        return Moments(jnp.zeros((t, width), dtype), jnp.ones((t, width), dtype))

    return Running(fresh(gate_count * h), fresh(gate_count * h), fresh(h) if memory else ())


def centred(a: Float[Array, "*b n"]) -> Float[Array, "*b n"]:
    """a - mean over the last axis; its own transpose."""
    return a - jnp.mean(a, axis=-1, keepdims=True)


def scaled(a: Float[Array, "*b n"], epsilon: float) -> Unit:
    """a / √(mean a² + ε) over the last axis: layer norm of what is centred already."""
    inverse = jax.lax.rsqrt(jnp.mean(a * a, axis=-1, keepdims=True) + epsilon)
    return Unit(a * inverse, inverse)


def scaled_back(noted: Unit, bar: Float[Array, "*b n"]) -> Float[Array, "*b n"]:
    """The cotangent of a from that of `scaled(a).values`."""
    return noted.inverse * (bar - noted.values * jnp.mean(bar * noted.values, axis=-1, keepdims=True))


def unit(a: Float[Array, "*b n"], epsilon: float) -> Unit:
    """(a - mean) / √(var + ε) over the last axis (Ba et al. 2016, equation 4)."""
    return scaled(centred(a), epsilon)


def unit_back(noted: Unit, bar: Float[Array, "*b n"]) -> Float[Array, "*b n"]:
    """The cotangent of a from that of `unit(a).values`."""
    return centred(scaled_back(noted, bar))


def centred_groups(a: Float[Array, "*b g"], groups: tuple[int, ...]) -> Float[Array, "*b g"]:
    """Every group of gates less its mean. Of a kernel, it centres every product with it: the mean over the gates of
    h R is h times the mean of R, which need not be taken at every step."""
    return jnp.concatenate([centred(part) for part in split_groups(a, groups)], axis=-1)


def split_groups(a: Float[Array, "*b g"], groups: tuple[int, ...]) -> list[Float[Array, "*b _"]]:
    """The groups of gates, each by itself; `groups` counts the gates of each."""
    h = a.shape[-1] // sum(groups)
    return jnp.split(a, [h * sum(groups[:n]) for n in range(1, len(groups))], axis=-1)


def layer_norm_gates(
    a: Float[Array, "*b g"], gain: Float[Array, "g"], groups: tuple[int, ...], epsilon: float
) -> Float[Array, "*b g"]:
    """Layer norm of each group of gates by itself; `groups` counts the gates of each."""
    return jnp.concatenate([unit(part, epsilon).values for part in split_groups(a, groups)], axis=-1) * gain


def layer_slots(norm: Norm, groups: tuple[int, ...], weights: Weights) -> Slots:
    """The slots of layer norm, or of layer norm on the sum. The input projection has none, it is done before the scan;
    the recurrent kernel is a `centred_groups` one."""
    if isinstance(weights, SumGains):
        gains, shifts = (split_groups(w, groups) for w in (weights.total, weights.shift))

        def total(a: Array, group: int) -> tuple[Array, Unit]:
            noted = unit(a, norm.epsilon)
            return noted.values * gains[group] + shifts[group], noted

        return PLAIN._replace(total=total)

    def recurrent(a: Array) -> tuple[Array, list[Unit]]:
        noted = [scaled(part, norm.epsilon) for part in split_groups(a, groups)]
        return jnp.concatenate([part.values for part in noted], axis=-1) * weights.h, noted

    if isinstance(weights, Gains):
        return PLAIN._replace(recurrent=recurrent)

    def memory(c: Array) -> tuple[Array, Unit]:
        noted = unit(c, norm.epsilon)
        return noted.values * weights.c + weights.c_shift, noted

    return PLAIN._replace(recurrent=recurrent, memory=memory)


def layer_transposes(groups: tuple[int, ...], weights: Weights) -> Transposes:
    """The way back through `layer_slots`."""
    if isinstance(weights, SumGains):
        gains = split_groups(weights.total, groups)
        return NOTHING._replace(
            total=lambda noted, bar, group: (unit_back(noted, bar * gains[group]), (bar * noted.values, bar))
        )

    def recurrent(noted: list[Unit], bar: Array) -> tuple[Array, Array]:
        parts = split_groups(bar * weights.h, groups)
        back = [scaled_back(n, p) for n, p in zip(noted, parts, strict=True)]
        return jnp.concatenate(back, axis=-1), bar * jnp.concatenate([part.values for part in noted], axis=-1)

    if isinstance(weights, Gains):
        return NOTHING._replace(recurrent=recurrent)
    return NOTHING._replace(
        recurrent=recurrent,
        memory=lambda noted, bar: (unit_back(noted, bar * weights.c), (bar * noted.values, bar)),
    )


def gain_gradients(weights: Weights, recurrent: Any, cell: Noted) -> Weights:
    """What each row adds to the gradient of the gains in one step, "b n", from what the way back through its slots gave."""
    if isinstance(weights, SumGains):
        return SumGains(*(jnp.concatenate(parts, axis=-1) for parts in zip(*cell.total, strict=True)))
    if isinstance(weights, Gains):
        return weights._replace(h=recurrent)
    return weights._replace(h=recurrent, c=cell.memory[0], c_shift=cell.memory[1])


def batch_moments(a: Float[Array, "*t b n"], keep: Bool[Array, "*t b"] | None) -> tuple[Array, Array]:
    """Mean and (biased) variance over the rows that are kept, "*t n"; 0 and 0 where none is."""
    if keep is None:
        mean = jnp.mean(a, axis=-2)
        return mean, jnp.mean((a - mean[..., None, :]) ** 2, axis=-2)
    weight = keep[..., None].astype(a.dtype)
    count = jnp.maximum(jnp.sum(weight, axis=-2), 1)
    mean = jnp.sum(a * weight, axis=-2) / count
    return mean, jnp.sum(weight * (a - mean[..., None, :]) ** 2, axis=-2) / count


def standardise(
    a: Float[Array, "*t b n"], mean: Float[Array, "*t n"], var: Float[Array, "*t n"], gain: Array, epsilon: float
) -> Float[Array, "*t b n"]:
    """(a - mean) / √(var + ε) · gain, with moments of the rows."""
    return (a - mean[..., None, :]) * (jax.lax.rsqrt(var + epsilon) * gain)[..., None, :]


def follow(running: Moments, batch: Moments, keep: Bool[Array, "t b"] | None, momentum: float) -> Moments:
    """Running moments after a training step that saw the moments `batch` of its first steps.

    Steps that no row reached stay as they are; steps beyond those that are kept track of are not.
    """
    t = min(running.mean.shape[0], batch.mean.shape[0])
    seen = jnp.ones((t, 1), bool) if keep is None else keep[:t].any(axis=1, keepdims=True)

    def one(old: Array, new: Array) -> Array:
        moved = jnp.where(seen, momentum * old[:t] + (1 - momentum) * new[:t], old[:t])
        return jnp.concatenate([moved, old[t:]])

    return Moments(one(running.mean, batch.mean), one(running.var, batch.var))


def at_steps(running: Moments, t: int, first: int | Int[Array, ""] = 0) -> Moments:
    """The running moments of t steps from `first` on; beyond the trained length those of the last step."""
    index = jnp.minimum(first + jnp.arange(t), running.mean.shape[0] - 1)
    return Moments(running.mean[index], running.var[index])


def all_at_steps(running: Running, t: int, first: int | Int[Array, ""] = 0) -> Running:
    """`at_steps` of all that is normalised."""
    c = at_steps(running.c, t, first) if running.c else ()
    return Running(at_steps(running.x, t, first), at_steps(running.h, t, first), c)
