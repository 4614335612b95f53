"""Linear recurrent unit (Orvieto et al. 2023), a diagonal linear system with complex eigenvalues λ:

    s_t = λ ∘ s_{t-1} + γ ∘ (x_t B)    y_t = Re(s_t C) + x_t D    λ = exp(-exp(ν) + i exp(θ))

It is linear in x: put a nonlinearity between two layers, as the paper does. The output y is the carry's h.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.nn.initializers import normal
from jaxtyping import Array, Complex, Float

from jaxseq.cells.base import About, Cell, Coefficients, Linear
from jaxseq.common import checks
from jaxseq.common.arrays import DType, Key

LEAST = 1e-6
"""Least square of an eigenvalue's modulus at the start, which keeps its logarithms finite."""


class Params(NamedTuple):
    """The weights of an LRU; g is 2 h, real parts first.

    input_kernel   B
    output_kernel  C, of which the imaginary parts have the sign that Re(s C) gives them
    skip_kernel    D
    nu, theta      logarithms of the rate of decay and of the frequency
    gamma          logarithm of γ
    """

    input_kernel: Float[Array, "d g"]
    output_kernel: Float[Array, "g h"]
    skip_kernel: Float[Array, "d h"]
    nu: Float[Array, "h"]
    theta: Float[Array, "h"]
    gamma: Float[Array, "h"]


class Carry(NamedTuple):
    """The output h, which the recurrence does not read, and the real and imaginary parts of s."""

    h: Float[Array, "*b h"]
    real: Float[Array, "*b h"]
    imaginary: Float[Array, "*b h"]


def start(shape: tuple[int, ...], dtype: DType = jnp.float32) -> Carry:
    """Return the zero states; `shape` is that of h, say (b, h)."""
    # Separate arrays, because one buffer must not be donated twice.
    return Carry(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))


def init(
    key: Key,
    d: int,
    h: int,
    dtype: DType = jnp.float32,
) -> Params:
    """Draw parameters for d features and h units: eigenvalues uniform in the unit disc, γ = √(1 - |λ|²)."""
    checks.count(d=d, h=h)
    input_key, output_key, skip_key, modulus_key, phase_key = jax.random.split(key, 5)
    # The area of a ring grows with the square of its radius, so that is drawn uniformly.
    square = jax.random.uniform(modulus_key, (h,), dtype, minval=LEAST)
    phase = jax.random.uniform(phase_key, (h,), dtype, minval=LEAST, maxval=2 * math.pi)
    return Params(
        input_kernel=normal(1 / math.sqrt(2 * d))(input_key, (d, 2 * h), dtype),
        output_kernel=normal(1 / math.sqrt(h))(output_key, (2 * h, h), dtype),
        skip_kernel=normal(1 / math.sqrt(d))(skip_key, (d, h), dtype),
        nu=jnp.log(-0.5 * jnp.log(square)),
        theta=jnp.log(phase),
        gamma=0.5 * jnp.log1p(-square),
    )


def _complex(real: Float[Array, "*b h"], imaginary: Float[Array, "*b h"]) -> Complex[Array, "*b h"]:
    dtype = real.dtype
    # There are no complex numbers of 16 bits.
    if jnp.finfo(dtype).bits < 32:
        dtype = jnp.float32
    return jax.lax.complex(real.astype(dtype), imaginary.astype(dtype))


def coefficients(params: Params, x: Float[Array, "*b d"]) -> Coefficients:
    """Compute a = λ, the same in every step, and b = γ ∘ (x B)."""
    # An exponential of an exponential stays below 1 at every ν: the system is stable.
    decay = jnp.exp(-jnp.exp(params.nu))
    frequency = jnp.exp(params.theta)
    eigenvalues = _complex(decay * jnp.cos(frequency), decay * jnp.sin(frequency))

    # γ keeps the size of a state of white noise apart from its eigenvalue.
    gain = jnp.exp(params.gamma)
    real, imaginary = jnp.split(x @ params.input_kernel, 2, axis=-1)
    driven = _complex(gain * real, gain * imaginary)
    return Coefficients(a=jnp.broadcast_to(eigenvalues, driven.shape), b=driven)


def state(carry: Carry) -> Complex[Array, "*b h"]:
    """Return s."""
    return _complex(carry.real, carry.imaginary)


def carry(
    params: Params,
    s: Complex[Array, "*b h"],
    x: Float[Array, "*b d"],
) -> Carry:
    """Compute the outputs of all states."""
    real, imaginary = s.real.astype(x.dtype), s.imag.astype(x.dtype)
    outputs = jnp.concatenate([real, imaginary], axis=-1) @ params.output_kernel + x @ params.skip_kernel
    return Carry(outputs, real, imaginary)


CELL = Cell(
    name="lru",
    gate_count=2,
    start=start,
    init=init,
    linear=Linear(coefficients, state, carry),
    about=About(title="LRU", source="Orvieto et al. 2023", oracle="scipy.signal.dlsim"),
)
