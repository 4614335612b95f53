"""Layers of JAX libraries with the same weights: ours by each kernel, Flax's and Keras's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxseq.benchmark import peers
from jaxseq.benchmark.gpu.loads import Load
from jaxseq.benchmark.gpu.start import Start, norm_of
from jaxseq.cells import CELLS, convert, normalised, recurrence
from jaxseq.cells.normalised import Normalisation
from jaxseq.common.arrays import Tree
from jaxseq.common.errors import UsageError

KERNELS = ("scan", "pallas", "cudnn")


class Layer(NamedTuple):
    """A layer's weights, and its outputs from zero states."""

    weights: Tree
    apply: Callable[[Tree, Float[Array, "t b d"]], Float[Array, "t b h"]]


def ours(kernel: str, load: Load, start: Start) -> Layer:
    """Our scan by one of its kernels."""
    cell = CELLS[load.cell]
    norm = norm_of(load)

    def apply(weights: Tree, x: Float[Array, "t b d"]) -> Float[Array, "t b h"]:
        params, gains = weights
        carry = cell.start((x.shape[1], load.hidden), x.dtype)
        if norm is None:
            return recurrence.scan(cell, params, x, carry, **by(kernel))[1]
        return normalised.scan(cell, Normalisation(norm, gains), params, x, carry, **by(kernel))[1]

    return Layer((start.params, start.gains), apply)


def by(kernel: str) -> dict[str, Any]:
    """Return the argument that chooses the kernel of a scan."""
    # The scan over time is what a version without other kernels has.
    if kernel == "scan" and "kernel" not in inspect.signature(recurrence.scan).parameters:
        return {}
    return {"kernel": kernel}


def _check_plain(library: str, load: Load) -> None:
    if load.norm:
        raise UsageError(f"{library} has no cell with layer norm")


def linen(load: Load, start: Start) -> Layer:
    """Flax Linen's cell, the optimised one of the LSTM, in `nn.RNN`."""
    import flax.linen as nn

    _check_plain("flax", load)
    cells = {"rnn": nn.SimpleCell, "lstm": nn.OptimizedLSTMCell, "gru": nn.GRUCell}
    layer = nn.RNN(cells[load.cell](load.hidden), time_major=True)

    def apply(weights: Tree, x: Float[Array, "t b d"]) -> Float[Array, "t b h"]:
        outputs: Any = layer.apply({"params": {"cell": weights}}, x)
        return outputs

    return Layer(peers.flax_weights(load.cell, start.params), apply)


def nnx(load: Load, start: Start) -> Layer:
    """Flax NNX's cell, the optimised one of the LSTM, in `nnx.RNN`."""
    from flax import nnx

    _check_plain("flax", load)
    cells = {"rnn": nnx.SimpleCell, "lstm": nnx.OptimizedLSTMCell, "gru": nnx.GRUCell}
    params = start.params
    # Compiling its initialisers for a GPU takes seconds.
    with jax.default_device(jax.devices("cpu")[0]):
        cell = cells[load.cell](load.features, load.hidden, rngs=nnx.Rngs(0))
        cell.dense_i.kernel[...] = jnp.asarray(params.input_kernel)
        cell.dense_h.kernel[...] = jnp.asarray(params.recurrent_kernel)
        # Its GRU has no bias beside h; ours starts at zero.
        biased: Any = cell.dense_h if load.cell == "lstm" else cell.dense_i
        biased.bias[...] = jnp.asarray(params.bias)
        graph, variables = nnx.split(nnx.RNN(cell, time_major=True, rngs=False))

    def apply(weights: Tree, x: Float[Array, "t b d"]) -> Float[Array, "t b h"]:
        zeros = jnp.zeros((x.shape[1], load.hidden), x.dtype)
        carry = (zeros, zeros) if load.cell == "lstm" else zeros
        return nnx.merge(graph, weights)(x, initial_carry=carry)

    # Arrays of numpy, which belong to no device.
    return Layer(jax.tree.map(np.asarray, variables), apply)


def keras(load: Load, start: Start) -> Layer:
    """Keras's layer on its JAX backend."""
    import keras as k

    _check_plain("keras", load)
    if k.backend.backend() != "jax":
        raise UsageError("not on JAX", where="KERAS_BACKEND", got=k.backend.backend(), needed="jax")
    layers = {"rnn": k.layers.SimpleRNN, "lstm": k.layers.LSTM, "gru": k.layers.GRU}
    layer = layers[load.cell](load.hidden, return_sequences=True)
    with jax.default_device(jax.devices("cpu")[0]):
        layer.build((load.batch, load.time_steps, load.features))
    others = [variable.value for variable in layer.non_trainable_variables]

    def apply(weights: Tree, x: Float[Array, "t b d"]) -> Float[Array, "t b h"]:
        outputs, _ = layer.stateless_call(weights, others, jnp.swapaxes(x, 0, 1))
        return jnp.swapaxes(outputs, 0, 1)

    return Layer([np.asarray(array) for array in convert.to_keras(load.cell, start.params)], apply)


MAKERS: MappingProxyType[str, Callable[[Load, Start], Layer]] = MappingProxyType(
    {f"jaxseq {kernel}": partial(ours, kernel) for kernel in KERNELS}
    | {"flax linen": linen, "flax nnx": nnx, "keras": keras}
)
"""JAX layers by the name of the peer."""
