"""Gated recurrent unit (Cho et al. 2014) in its reset-after form, as cuDNN, torch and Keras compute it, gates r, z, n:

    r, z = σ(z + u)    n = tanh(z_n + r u_n)    h_t = (1 - z) n + z h_{t-1}

The reset gate acts after the recurrent product, so that product has a separate bias. In the code the update gate z is
`update`, because z is the input projection of all gates.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseq.cells import strategy
from jaxseq.cells.base import About, Cell, StepGradient, init_kernels, sigmoid, sigmoid_slope, tanh_slope
from jaxseq.cells.norm import PLAIN, PLAIN_GATES, PLAIN_TRANSPOSES, GateSlots, Slots, SlotValues, Transposes
from jaxseq.common.arrays import DType, Key


class Params(NamedTuple):
    """The weights of a reset-after GRU."""

    input_kernel: Float[Array, "d g"]
    recurrent_kernel: Float[Array, "h g"]
    bias: Float[Array, "g"]
    recurrent_bias: Float[Array, "g"]


class Carry(NamedTuple):
    """The state of a GRU."""

    h: Float[Array, "*b h"]


class Saved(NamedTuple):
    """Values of a step that its derivative needs: activated gates, and the candidate's recurrent projection."""

    rz: Float[Array, "*b 2*h"]
    n: Float[Array, "*b h"]
    u_n: Float[Array, "*b h"]
    slots: SlotValues


class Local(NamedTuple):
    """Local derivatives of a step.

    n_sum       of h_t by the pre-activation of the candidate n
    update_sum  of h_t by the pre-activation of the update gate
    r_sum       of the candidate's pre-activation by that of the reset gate
    r           of the candidate's pre-activation by u_n
    update      of h_t by h_{t-1} directly
    """

    n_sum: Float[Array, "*b h"]
    update_sum: Float[Array, "*b h"]
    r_sum: Float[Array, "*b h"]
    r: Float[Array, "*b h"]
    update: Float[Array, "*b h"]
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
    """Draw parameters for d features and h units: Glorot input kernel, orthogonal recurrent kernel, zero biases."""
    kernels = init_kernels(key, 3, d, h, dtype)
    # Separate arrays, because one buffer must not be donated twice.
    return Params(
        kernels.input, kernels.recurrent, bias=jnp.zeros(3 * h, dtype), recurrent_bias=jnp.zeros(3 * h, dtype)
    )


def gates(
    z: Float[Array, "*b g"],
    u: Float[Array, "*b g"],
    carry: Carry,
    slots: Slots = PLAIN,
) -> tuple[Carry, Saved]:
    """Compute one step."""
    h = carry.h.shape[-1]

    # The barriers keep XLA from computing a gate again for each of its consumers.
    rz_sum, rz_residual = slots.total(z[..., : 2 * h] + u[..., : 2 * h], 0)
    rz = strategy.materialise(sigmoid(rz_sum))
    r, update = jnp.split(rz, 2, axis=-1)

    u_n = u[..., 2 * h :]
    n_sum, n_residual = slots.total(z[..., 2 * h :] + r * u_n, 1)
    n = strategy.materialise(jnp.tanh(n_sum))

    # (1 - z) n + z h_{t-1}, with one product less.
    h_after = n + update * (carry.h - n)

    # The derivative reads the activated gates: saving them is cheaper than computing them again.
    residuals = SlotValues(total=(rz_residual, n_residual), memory=())
    return Carry(h_after), Saved(rz, n, u_n, residuals)


def pointwise(
    z: tuple[Float[Array, "*b h"], ...],
    u: tuple[Float[Array, "*b h"], ...],
    carry: Carry,
    slots: GateSlots = PLAIN_GATES,
) -> Carry:
    """Compute one step, gate by gate."""
    r_sum, update_sum = slots.total((z[0] + u[0], z[1] + u[1]), 0)
    (n_sum,) = slots.total((z[2] + sigmoid(r_sum) * u[2],), 1)
    n = jnp.tanh(n_sum)
    return Carry(n + sigmoid(update_sum) * (carry.h - n))


def linearise(
    saved: Saved,
    h_before: Float[Array, "*b h"],
    h: Float[Array, "*b h"],
) -> Local:
    """Compute the local derivatives of all steps."""
    r, update = jnp.split(saved.rz, 2, axis=-1)
    update_sum = (h_before - saved.n) * sigmoid_slope(update)
    return Local(
        n_sum=(1 - update) * tanh_slope(saved.n),
        update_sum=update_sum,
        r_sum=saved.u_n * sigmoid_slope(r),
        r=r,
        update=update,
        slots=saved.slots,
    )


def adjoint(
    local: Local,
    cotangent: Carry,
    transposes: Transposes = PLAIN_TRANSPOSES,
) -> StepGradient:
    """Compute the cotangents of a step's inputs; those of z and u differ in the candidate by the factor r."""
    rz_residual, n_residual = local.slots.total
    # The candidate first: its cotangent is part of that of the reset gate.
    n_grad, n_weights_grad = transposes.total(n_residual, cotangent.h * local.n_sum, 1)

    # XLA miscompiles a concatenation inside another when it fuses them in a loop on CPUs; the barrier separates them.
    rz_sum_grad = jnp.concatenate([n_grad * local.r_sum, cotangent.h * local.update_sum], axis=-1)
    rz_sum_grad = strategy.separate(rz_sum_grad)
    rz_grad, rz_weights_grad = transposes.total(rz_residual, rz_sum_grad, 0)

    return StepGradient(
        z=jnp.concatenate([rz_grad, n_grad], axis=-1),
        u=jnp.concatenate([rz_grad, n_grad * local.r], axis=-1),
        carry=Carry(cotangent.h * local.update),
        slots=SlotValues(total=(rz_weights_grad, n_weights_grad), memory=()),
    )


CELL = Cell(
    name="gru",
    gate_count=3,
    recurrent_bias=True,
    groups=(2, 1),
    start=start,
    init=init,
    gates=gates,
    pointwise=pointwise,
    linearise=linearise,
    adjoint=adjoint,
    about=About(
        title="GRU",
        source="Cho et al. 2014",
        oracle="torch.nn.GRU",
        orthogonal=True,
        bounded="from the start",
    ),
)
