"""Long short-term memory (Hochreiter & Schmidhuber 1997) with a forget gate (Gers et al. 2000), gates i, f, g, o:

i, f, o = σ(z + u)    g = tanh(z + u)    c_t = f c_{t-1} + i g    h_t = o tanh(c_t)
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxseq.cells import strategy
from jaxseq.cells.base import About, Cell, Params, StepGradient, init_kernels, sigmoid, sigmoid_slope, tanh_slope
from jaxseq.cells.norm import PLAIN, PLAIN_GATES, PLAIN_TRANSPOSES, GateSlots, Slots, SlotValues, Transposes
from jaxseq.common.arrays import DType, Key


class Carry(NamedTuple):
    """The states of an LSTM: output h and memory c."""

    h: Float[Array, "*b h"]
    c: Float[Array, "*b h"]


class Saved(NamedTuple):
    """Values of a step that its derivative needs: activated gates, c_{t-1}, and tanh(c_t)."""

    gates: Float[Array, "*b g"]
    c_before: Float[Array, "*b h"]
    tanh_c: Float[Array, "*b h"]
    slots: SlotValues


class Local(NamedTuple):
    """Local derivatives of a step.

    a     of c_t by the pre-activations of i, f and g, and of h_t by that of o, side by side
    c     of h_t by c_t as its tanh sees it
    f     of c_t by c_{t-1}
    """

    a: Float[Array, "*b g"]
    c: Float[Array, "*b h"]
    f: Float[Array, "*b h"]
    slots: SlotValues


def start(shape: tuple[int, ...], dtype: DType = jnp.float32) -> Carry:
    """Return the zero states; `shape` is that of h, say (b, h)."""
    # Separate arrays, because one buffer must not be donated twice.
    return Carry(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))


def init(
    key: Key,
    d: int,
    h: int,
    dtype: DType = jnp.float32,
) -> Params:
    """Draw parameters for d features and h units: Glorot input kernel, orthogonal recurrent kernel.

    The forget gate's bias is 1 (Jozefowicz et al. 2015), all other biases are 0.
    """
    kernels = init_kernels(key, 4, d, h, dtype)
    forget = slice(h, 2 * h)
    bias = jnp.zeros(4 * h, dtype).at[forget].set(1)
    return Params(kernels.input, kernels.recurrent, bias)


def gates(
    z: Float[Array, "*b g"],
    u: Float[Array, "*b g"],
    carry: Carry,
    slots: Slots = PLAIN,
) -> tuple[Carry, Saved]:
    """Compute one step."""
    a, a_residual = slots.total(z + u, 0)
    activated = _activate(a)
    i, f, g, o = jnp.split(activated, 4, axis=-1)

    c = f * carry.c + i * g
    # The norm acts on the way to the output; c itself is carried on as it was.
    visible_c, c_residual = slots.memory(c)
    tanh_c = jnp.tanh(visible_c)
    h = o * tanh_c

    # The derivative reads the activated gates: saving them is cheaper than computing them again.
    residuals = SlotValues(total=(a_residual,), memory=c_residual)
    return Carry(h, c), Saved(activated, carry.c, tanh_c, residuals)


def pointwise(
    z: tuple[Float[Array, "*b h"], ...],
    u: tuple[Float[Array, "*b h"], ...],
    carry: Carry,
    slots: GateSlots = PLAIN_GATES,
) -> Carry:
    """Compute one step, gate by gate."""
    i_sum, f_sum, g_sum, o_sum = slots.total(tuple(map(jnp.add, z, u)), 0)
    c = sigmoid(f_sum) * carry.c + sigmoid(i_sum) * jnp.tanh(g_sum)
    return Carry(sigmoid(o_sum) * jnp.tanh(slots.memory(c)), c)


def _activate(a: Float[Array, "*b g"]) -> Float[Array, "*b g"]:
    """Apply σ to i, f and o and tanh to g, in one loop: σ(a) = ½ tanh(½ a) + ½."""
    h = a.shape[-1] // 4
    half = np.repeat(np.asarray([0.5, 0.5, 1.0, 0.5], a.dtype), h)
    # Without the barrier XLA computes the tanh again for each of its consumers.
    return strategy.materialise(half * jnp.tanh(half * a) + (1 - half))  # pyrefly: ignore[bad-argument-type]


def linearise(
    saved: Saved,
    h_before: Float[Array, "*b h"],
    h: Float[Array, "*b h"],
) -> Local:
    """Compute the local derivatives of all steps."""
    i, f, g, o = jnp.split(saved.gates, 4, axis=-1)
    by_gate = [
        g * sigmoid_slope(i),
        saved.c_before * sigmoid_slope(f),
        i * tanh_slope(g),
        saved.tanh_c * sigmoid_slope(o),
    ]
    return Local(a=jnp.concatenate(by_gate, axis=-1), c=o * tanh_slope(saved.tanh_c), f=f, slots=saved.slots)


def adjoint(
    local: Local,
    cotangent: Carry,
    transposes: Transposes = PLAIN_TRANSPOSES,
) -> StepGradient:
    """Compute the cotangents of a step's inputs: z and u have the same one, and h_{t-1} acts through u alone."""
    visible_c_grad = cotangent.h * local.c
    through_h, memory_grad = transposes.memory(local.slots.memory, visible_c_grad)
    # c_t has two readers: the next step, and h_t.
    c_grad = cotangent.c + through_h

    # i, f and g act through c_t, o acts through h_t.
    a_grad = jnp.concatenate([c_grad, c_grad, c_grad, cotangent.h], axis=-1) * local.a
    sum_grad, total_grad = transposes.total(local.slots.total[0], a_grad, 0)
    return StepGradient(
        z=sum_grad,
        u=sum_grad,
        carry=Carry(jnp.zeros_like(cotangent.h), c_grad * local.f),
        slots=SlotValues(total=(total_grad,), memory=memory_grad),
    )


CELL = Cell(
    name="lstm",
    gate_count=4,
    recurrent_bias=False,
    groups=(4,),
    start=start,
    init=init,
    gates=gates,
    pointwise=pointwise,
    linearise=linearise,
    adjoint=adjoint,
    about=About(
        title="LSTM",
        source="Hochreiter & Schmidhuber 1997",
        oracle="torch.nn.LSTM",
        orthogonal=True,
        bounded="always",
    ),
)
