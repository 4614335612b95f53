"""Elman network (Elman 1990) with one tanh gate:

h_t = tanh(z_t + u_t)
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseq.cells.base import About, Cell, Params, StepGradient, init_kernels, tanh_slope
from jaxseq.cells.norm import PLAIN, PLAIN_GATES, PLAIN_TRANSPOSES, GateSlots, Slots, SlotValues, Transposes
from jaxseq.common.arrays import DType, Key


class Carry(NamedTuple):
    """The state of an Elman network."""

    h: Float[Array, "*b h"]


class Saved(NamedTuple):
    """Values of a step that its derivative needs; h itself is an output."""

    slots: SlotValues


class Local(NamedTuple):
    """Local derivatives of a step: `a` stands for ∂h_t / ∂a_t of the pre-activation a_t = z_t + u_t."""

    a: Float[Array, "*b h"]
    slots: SlotValues


def start(shape: tuple[int, ...], dtype: DType = jnp.float32) -> Carry:
    """Return the zero state; `shape` is that of h, say (b, h)."""
    return Carry(jnp.zeros(shape, dtype))


def init(
    key: Key,
    d: int,
    h: int,
    dtype: DType = jnp.float32,
) -> Params:
    """Draw parameters for d features and h units: Glorot input kernel, orthogonal recurrent kernel, zero bias."""
    kernels = init_kernels(key, 1, d, h, dtype)
    return Params(kernels.input, kernels.recurrent, bias=jnp.zeros(h, dtype))


def gates(
    z: Float[Array, "*b g"],
    u: Float[Array, "*b g"],
    carry: Carry,
    slots: Slots = PLAIN,
) -> tuple[Carry, Saved]:
    """Compute one step."""
    a, a_residual = slots.total(z + u, 0)
    h = jnp.tanh(a)
    return Carry(h), Saved(SlotValues(total=(a_residual,), memory=()))


def pointwise(
    z: tuple[Float[Array, "*b h"], ...],
    u: tuple[Float[Array, "*b h"], ...],
    carry: Carry,
    slots: GateSlots = PLAIN_GATES,
) -> Carry:
    """Compute one step, gate by gate."""
    (total,) = slots.total((z[0] + u[0],), 0)
    return Carry(jnp.tanh(total))


def linearise(
    saved: Saved,
    h_before: Float[Array, "*b h"],
    h: Float[Array, "*b h"],
) -> Local:
    """Compute the slope of tanh at every step."""
    # h is tanh's value, so nothing has to be computed again.
    return Local(tanh_slope(h), saved.slots)


def adjoint(
    local: Local,
    cotangent: Carry,
    transposes: Transposes = PLAIN_TRANSPOSES,
) -> StepGradient:
    """Compute the cotangents of a step's inputs: z and u have the same one, and h_{t-1} acts through u alone."""
    a_grad = cotangent.h * local.a
    sum_grad, weights_grad = transposes.total(local.slots.total[0], a_grad, 0)
    return StepGradient(
        z=sum_grad,
        u=sum_grad,
        carry=Carry(jnp.zeros_like(cotangent.h)),
        slots=SlotValues(total=(weights_grad,), memory=()),
    )


CELL = Cell(
    name="rnn",
    gate_count=1,
    recurrent_bias=False,
    groups=(1,),
    start=start,
    init=init,
    gates=gates,
    pointwise=pointwise,
    linearise=linearise,
    adjoint=adjoint,
    about=About(
        title="RNN",
        source="Elman 1990",
        oracle="torch.nn.RNN",
        orthogonal=True,
        bounded="always",
    ),
)
