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
from jaxtyping import Array, Bool, Float

from jaxseq.arrays import DType


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

    total  (sum of projections "*b n", which group of gates it is) -> the same shape
    memory  c "*b h" -> (what the output sees of it, what is to be noted of the step)
    """

    total: Callable[[Array, int], Array]
    memory: Callable[[Array], tuple[Array, Any]]


Weights: TypeAlias = Gains | MemoryGains | SumGains


def _same_total(total: Array, group: int) -> Array:
    return total


def _same_memory(c: Array) -> tuple[Array, tuple[()]]:
    return c, ()


PLAIN = Slots(_same_total, _same_memory)
"""No normalisation."""


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


def layer_norm(a: Float[Array, "*b n"], gain: Float[Array, "n"], epsilon: float) -> Float[Array, "*b n"]:
    """(a - mean) / √(var + ε) · gain over the last axis (Ba et al. 2016, equation 4)."""
    centred = a - jnp.mean(a, axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.mean(centred * centred, axis=-1, keepdims=True) + epsilon) * gain


def layer_norm_gates(
    a: Float[Array, "*b g"], gain: Float[Array, "g"], groups: tuple[int, ...], epsilon: float
) -> Float[Array, "*b g"]:
    """Layer norm of each group of gates by itself; `groups` counts the gates of each."""
    if len(groups) == 1:
        return layer_norm(a, gain, epsilon)
    h, edge, parts = a.shape[-1] // sum(groups), 0, []
    for count in groups:
        part = slice(edge, edge + count * h)
        parts.append(layer_norm(a[..., part], gain[part], epsilon))
        edge += count * h
    return jnp.concatenate(parts, axis=-1)


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


def at_steps(running: Moments, t: int) -> Moments:
    """The running moments of steps 0 to t - 1; beyond the trained length those of the last step."""
    index = jnp.minimum(jnp.arange(t), running.mean.shape[0] - 1)
    return Moments(running.mean[index], running.var[index])


def all_at_steps(running: Running, t: int) -> Running:
    """`at_steps` of all that is normalised."""
    c = at_steps(running.c, t) if running.c else ()
    return Running(at_steps(running.x, t), at_steps(running.h, t), c)
