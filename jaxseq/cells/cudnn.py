"""The LSTM of NVIDIA's cuDNN, by `jax.experimental.rnn`: a plain layer in float32, with cuDNN's own derivative."""

from __future__ import annotations

from typing import cast

import jax
import jax.numpy as jnp
from jax.experimental import rnn
from jax.experimental.layout import Layout, with_layout_constraint
from jaxtyping import Array, Float

from jaxseq.cells.adjoint import Layer, Result, Sequence, Trainable, in_its_precision
from jaxseq.cells.base import Params
from jaxseq.cells.lstm import Carry
from jaxseq.common import precision


@in_its_precision
def scan(
    layer: Layer,
    trainable: Trainable,
    sequence: Sequence,
) -> Result:
    """Scan an LSTM as `adjoint.with_adjoint` does; `kernels.refusal` says which layers this one can compute."""
    params = trainable.params
    # `kernels.refusal` lets LSTMs alone through.
    x, carry = sequence.x, cast("Carry", sequence.carry)
    units, features = carry.h.shape[-1], x.shape[-1]
    # "highest" keeps cuDNN from TF32; it knows no other precision.
    tensor_cores = jax.lax.Precision.HIGH
    if layer.precision in {precision.FULL, "highest"}:
        tensor_cores = jax.lax.Precision.HIGHEST
    steps = jnp.full(x.shape[1], x.shape[0], jnp.int32)

    # cuDNN scans batch-major rows, and its states have an axis of layers and directions.
    outputs, h, c = rnn.lstm(
        _row_major(jnp.swapaxes(x, 0, 1)),
        _row_major(carry.h[None]),
        _row_major(carry.c[None]),
        _in_one_vector(params),
        steps,
        input_size=features,
        hidden_size=units,
        num_layers=1,
        dropout=0.0,
        bidirectional=False,
        precision=tensor_cores,
    )
    return carry._replace(h=_row_major(h)[0], c=_row_major(c)[0]), jnp.swapaxes(_row_major(outputs), 0, 1)


def _row_major(array: Float[Array, "..."]) -> Float[Array, "..."]:
    """Keep XLA from giving an array, or its cotangent, to cuDNN transposed in memory, which JAX does not rule out."""
    return with_layout_constraint(array, Layout(tuple(range(array.ndim))))


def _in_one_vector(params: Params) -> Float[Array, "_"]:
    """Lay the parameters out as cuDNN does: W', R', the bias, and a second bias, which is zero here."""
    parts = [params.input_kernel.T, params.recurrent_kernel.T, params.bias, jnp.zeros_like(params.bias)]
    return jnp.concatenate([part.ravel() for part in parts])
