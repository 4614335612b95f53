"""Layers of JAX libraries with the same weights: ours by each kernel, Flax's and Keras's own."""

from __future__ import annotations

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
from jaxseq.cells.kernels import Kernel
from jaxseq.cells.normalised import Normalisation
from jaxseq.cells.recurrence import Traversal
from jaxseq.common.arrays import Tree
from jaxseq.common.errors import UsageError

KERNELS: tuple[Kernel, ...] = ("scan", "pallas", "cudnn")
"""Our kernels, `jaxseq.cells.kernels`."""


class Layer(NamedTuple):
    """A layer's weights, and its outputs from zero states."""

    weights: Tree
    apply: Callable[[Tree, Float[Array, "t b d"]], Float[Array, "t b h"]]


class Inputs(NamedTuple):
    """Arguments of a scan that have gradients; `gains` are None for the plain cell."""

    params: Tree
    gains: Tree
    x: Any
    carry: Any


def scan(
    kernel: Kernel,
    load: Load,
    inputs: Inputs,
) -> tuple[Any, Float[Array, "t b h"]]:
    """Scan by one of our kernels: the last carry, and the outputs."""
    cell = CELLS[load.cell]
    norm = norm_of(load)
    traversal = Traversal(kernel=kernel)
    if norm is None:
        return recurrence.scan(
            cell,
            inputs.params,
            inputs.x,
            inputs.carry,
            traversal=traversal,
        )

    # The running moments, which come third, are those of batch norm.
    last, outputs, _ = normalised.scan(
        cell,
        Normalisation(norm, inputs.gains),
        inputs.params,
        inputs.x,
        inputs.carry,
        traversal=traversal,
    )
    return last, outputs


def ours(kernel: Kernel, load: Load, start: Start) -> Layer:
    """Build our layer by one of its kernels."""

    def apply(weights: Tree, x: Float[Array, "t b d"]) -> Float[Array, "t b h"]:
        params, gains = weights
        carry = CELLS[load.cell].start((load.batch, load.hidden), x.dtype)
        _, outputs = scan(kernel, load, Inputs(params, gains, x, carry))
        return outputs

    return Layer((start.params, start.gains), apply)


def _check_plain(library: str, load: Load) -> None:
    # A cell written by us for their library would not be a measurement of the library.
    if load.norm:
        raise UsageError(f"{library} has no cell with layer norm")


def linen(load: Load, start: Start) -> Layer:
    """Build Flax Linen's cell, the optimised one of the LSTM, in `nn.RNN`."""
    import flax.linen as nn

    _check_plain("flax", load)
    cells = {
        "rnn": nn.SimpleCell,
        "lstm": nn.OptimizedLSTMCell,
        "gru": nn.GRUCell,
    }
    layer = nn.RNN(cells[load.cell](load.hidden), time_major=True)

    def apply(weights: Tree, x: Float[Array, "t b d"]) -> Float[Array, "t b h"]:
        outputs: Any = layer.apply({"params": {"cell": weights}}, x)
        return outputs

    return Layer(peers.flax_weights(load.cell, start.params), apply)


def nnx(load: Load, start: Start) -> Layer:
    """Build Flax NNX's cell, the optimised one of the LSTM, in `nnx.RNN`."""
    from flax import nnx

    _check_plain("flax", load)
    cells = {
        "rnn": nnx.SimpleCell,
        "lstm": nnx.OptimizedLSTMCell,
        "gru": nnx.GRUCell,
    }
    params = start.params

    # Compiling its initialisers for a GPU takes seconds.
    with jax.default_device(jax.devices("cpu")[0]):
        cell = cells[load.cell](load.features, load.hidden, rngs=nnx.Rngs(0))
        cell.dense_i.kernel[...] = jnp.asarray(params.input_kernel)
        cell.dense_h.kernel[...] = jnp.asarray(params.recurrent_kernel)
        # One of the two projections has a bias. The GRU lacks our second one, which starts at zero.
        biased: Any = cell.dense_i
        if load.cell == "lstm":
            biased = cell.dense_h
        biased.bias[...] = jnp.asarray(params.bias)
        graph, variables = nnx.split(nnx.RNN(cell, time_major=True, rngs=False))

    def apply(weights: Tree, x: Float[Array, "t b d"]) -> Float[Array, "t b h"]:
        zeros = jnp.zeros((x.shape[1], load.hidden), x.dtype)
        carry: Any = zeros
        if load.cell == "lstm":
            carry = (zeros, zeros)
        return nnx.merge(graph, weights)(x, initial_carry=carry)

    # Arrays of numpy belong to no device; those of JAX would keep the program on the CPU.
    return Layer(jax.tree.map(np.asarray, variables), apply)


def keras(load: Load, start: Start) -> Layer:
    """Build Keras's layer on its JAX backend."""
    import keras as k

    _check_plain("keras", load)
    if k.backend.backend() != "jax":
        raise UsageError(
            "Keras does not compute with JAX",
            where="KERAS_BACKEND",
            got=k.backend.backend(),
            needed="jax",
        )
    layers = {
        "rnn": k.layers.SimpleRNN,
        "lstm": k.layers.LSTM,
        "gru": k.layers.GRU,
    }
    layer = layers[load.cell](load.hidden, return_sequences=True)
    # Compiling its initialisers for a GPU takes seconds.
    with jax.default_device(jax.devices("cpu")[0]):
        layer.build((load.batch, load.time_steps, load.features))
    others = [variable.value for variable in layer.non_trainable_variables]

    def apply(weights: Tree, x: Float[Array, "t b d"]) -> Float[Array, "t b h"]:
        # Keras has no layer that takes time first.
        batch_first = jnp.swapaxes(x, 0, 1)
        outputs, _ = layer.stateless_call(weights, others, batch_first)
        return jnp.swapaxes(outputs, 0, 1)

    return Layer(convert.to_keras(load.cell, start.params), apply)


MAKERS: MappingProxyType[str, Callable[[Load, Start], Layer]] = MappingProxyType(
    {
        **{f"jaxseq {kernel}": partial(ours, kernel) for kernel in KERNELS},
        "flax linen": linen,
        "flax nnx": nnx,
        "keras": keras,
    }
)
"""JAX layers by the name of the peer."""
